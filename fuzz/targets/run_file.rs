#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| brigade::fuzz::run_file(bytes));
