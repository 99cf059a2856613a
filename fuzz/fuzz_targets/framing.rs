#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| moden_gateway_fuzz::framing(data));
