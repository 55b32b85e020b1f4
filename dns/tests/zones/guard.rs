//! What the guards make of any packet: cookies, signatures, requests for differences. Shared with the fuzzer.

use std::net::IpAddr;

use portolan_dns::Algorithm;
use portolan_dns::cookie::{Secrets, Shown, judge};
use portolan_dns::tsig::{Key, Keys, Opened, Signer, open};
use portolan_dns::wire::Request;

const NOW: u64 = 1_700_000_000;

/// Reads a packet in every way, and panics where what is read contradicts itself.
pub(crate) fn survive(packet: &[u8]) {
    let key = Key::new(&"k.example".into(), Algorithm::HmacSha256, b"secret").expect("a name");
    let keys = Keys::from_iter([key]);
    let opened = open(packet, &keys, NOW);
    if let Opened::Good(message, _) = &opened {
        assert!(message.len() < packet.len());
    }
    let Request::Question(query) = Request::read(packet) else { return };
    assert!(!(query.is_signed() && matches!(opened, Opened::Unsigned)), "both see the record");
    let _ = query.authority_serial();
    if let Some(option) = query.cookie() {
        cookie(option);
    }
    if matches!(opened, Opened::Unsigned) {
        sign(packet, &keys);
    }
}

/// Whatever is answered to a cookie is a cookie that is good.
fn cookie(option: &[u8]) {
    let (secrets, client) = (Secrets::random(), IpAddr::from([192, 0, 2, 1]));
    let given = match judge(&secrets, option, client, NOW as u32) {
        Shown::Valid(_) => panic!("made with a secret of ours"),
        Shown::New(given) | Shown::Invalid(given) => given,
        Shown::Malformed => return,
    };
    assert_eq!(given[..8], option[..8]);
    assert_eq!(judge(&secrets, &given, client, NOW as u32), Shown::Valid(given));
}

/// Whatever can be read can be signed and opened again.
fn sign(packet: &[u8], keys: &Keys) {
    if packet[10..12] == [0xff, 0xff] {
        return;
    }
    let mut signed = packet.to_vec();
    let signer = Signer::request(keys.named("k.example").expect("the key"), &mut signed, NOW);
    let Opened::Good(message, mut answers) = open(&signed, keys, NOW + 10) else { panic!("it is good") };
    assert_eq!(message, packet);
    let mut reply = packet.to_vec();
    answers.sign(&mut reply, NOW);
    assert!(signer.is_reply(&reply, NOW) && reply.len() <= packet.len() + answers.reserve());
}
