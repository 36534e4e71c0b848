//! See `ipc::fuzzing::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ipc::fuzzing::frames(bytes));
