//! See `ipc::fuzzing::version1`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ipc::fuzzing::version1(bytes));
