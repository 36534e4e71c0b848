//! See `wire::fuzzing::scanner`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wire::fuzzing::scanner(bytes));
