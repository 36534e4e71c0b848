//! See `wire::fuzzing::envelope`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wire::fuzzing::envelope(bytes));
