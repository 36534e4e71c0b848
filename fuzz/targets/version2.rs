//! See `wire::fuzzing::version2`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wire::fuzzing::version2(bytes));
