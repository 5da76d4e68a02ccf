#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| brigade_pipeline::fuzz::safetensors(bytes));
