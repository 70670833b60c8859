#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| staccato_dataplane::transport::fuzz::frames(bytes));
