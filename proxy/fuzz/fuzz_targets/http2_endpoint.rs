#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| portolan_proxy::fuzz::http2_endpoint(octets));
