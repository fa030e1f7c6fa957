#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| studio_worker::sim::config(data));
