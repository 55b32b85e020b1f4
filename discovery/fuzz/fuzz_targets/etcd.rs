#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| portolan_discovery::fuzz::etcd(octets));
