//! Any packet from outside, as the guards read it: cookies, signatures, requests for differences.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/zones/guard.rs"]
mod guard;

fuzz_target!(|packet: &[u8]| guard::survive(packet));
