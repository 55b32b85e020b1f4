//! Signatures by ourselves and what nobody who means well would send. Other implementations judge them in the tests
//! of transfers.

use super::*;
use crate::config::Algorithm;

const NOW: u64 = 1_700_000_000;

fn key(name: &str, algorithm: Algorithm) -> Key {
    Key::new(&name.into(), algorithm, b"a secret of some length").unwrap()
}

fn keys() -> Keys {
    [key("one.example", Algorithm::HmacSha256), key("two.example", Algorithm::HmacSha512)]
        .into_iter()
        .collect()
}

fn query() -> Vec<u8> {
    b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x03svc\x07cluster\0\0\xfc\0\x01".to_vec()
}

fn signed(name: &str, time: u64) -> (Vec<u8>, Signer) {
    let mut packet = query();
    let keys = keys();
    let signer = Signer::request(keys.named(name).unwrap(), &mut packet, time);
    (packet, signer)
}

/// Response code, and the error in the TSIG record with the length of its signature.
fn refusal(packet: &[u8]) -> (u8, u16, usize) {
    let record = record::find(packet).unwrap().unwrap();
    (packet[3] & 15, record.error, record.mac.len())
}

#[test]
fn a_request_is_opened_and_every_message_of_the_reply_is_signed() {
    for name in ["one.example", "two.example"] {
        let (packet, asker) = signed(name, NOW - 200);
        let Opened::Good(message, mut signer) = open(&packet, &keys(), NOW) else { panic!("it is good") };
        assert_eq!((message, signer.key()), (query(), name));
        let mut first = query();
        first[2] |= 0x80;
        let unsigned_len = first.len();
        signer.sign(&mut first, NOW);
        assert!(asker.is_reply(&first, NOW) && first.len() <= unsigned_len + signer.reserve());
        let mut next = query();
        signer.sign(&mut next, NOW);
        assert!(!asker.is_reply(&next, NOW), "it follows the first and is no first itself");
        assert!(!asker.is_reply(&first, NOW + 400) && !asker.is_reply(&query(), NOW));
    }
}

#[test]
fn names_have_no_case() {
    let (mut packet, _) = signed("one.example", NOW);
    let start = query().len();
    packet[start..start + 12].make_ascii_uppercase();
    assert!(matches!(open(&packet, &keys(), NOW), Opened::Good(..)));
}

#[test]
fn an_unknown_key_and_a_changed_message_are_told_without_a_signature() {
    let (packet, _) = signed("one.example", NOW);
    let Opened::Bad(reply, "bad_key") = open(&packet, &Keys::default(), NOW) else { panic!("no such key") };
    assert_eq!(refusal(&reply), (9, 17, 0));
    let mut changed = packet.clone();
    changed[13] ^= 1;
    let Opened::Bad(reply, "bad_signature") = open(&changed, &keys(), NOW) else { panic!("it was changed") };
    assert_eq!(refusal(&reply), (9, 16, 0));
    assert_eq!(reply[..2], packet[..2]);
}

#[test]
fn a_clock_that_is_off_is_told_ours_and_signed() {
    for time in [NOW - 301, NOW + 301] {
        let (packet, asker) = signed("one.example", time);
        let Opened::Bad(reply, "bad_time") = open(&packet, &keys(), NOW) else { panic!("off by {time}") };
        assert_eq!(refusal(&reply), (9, 18, 32));
        assert!(asker.is_reply(&reply, time), "signed with the time of the request");
        assert!(reply.ends_with(&NOW.to_be_bytes()[2..]));
    }
}

#[test]
fn a_short_signature_is_refused_and_one_of_no_length_malformed() {
    let (packet, _) = signed("one.example", NOW);
    let mac_at = packet.len() - 6 - 32;
    for (len, good) in [(31, true), (16, true), (15, false), (0, false)] {
        let mut short = [&packet[..mac_at + len], &packet[mac_at + 32..]].concat();
        short[mac_at - 1] = len as u8;
        let data_len_at = query().len() + 13 + 8;
        short[data_len_at + 1] -= 32 - len as u8;
        match open(&short, &keys(), NOW) {
            // Whoever has no whole signature gets none of ours: theirs is a part of what it would cover.
            Opened::Bad(reply, "bad_truncation") if good => assert_eq!(refusal(&reply), (9, 22, 0)),
            Opened::Malformed if !good => {}
            other => panic!("{len} octets: {other:?}"),
        }
    }
}

#[test]
fn a_request_that_tells_an_error_is_malformed() {
    let (packet, _) = signed("one.example", NOW);
    for at in [packet.len() - 3, packet.len() - 4] {
        let mut changed = packet.clone();
        changed[at] = 22;
        assert!(matches!(open(&changed, &keys(), NOW), Opened::Malformed));
    }
}

#[test]
fn what_is_no_signature_by_its_form_is_malformed_and_nothing_panics() {
    let (packet, _) = signed("one.example", NOW);
    let start = query().len();
    let malformed = |what: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = packet.clone();
        change(&mut packet);
        assert!(matches!(open(&packet, &keys(), NOW), Opened::Malformed), "{what}");
    };
    malformed("cut", &|packet| packet.truncate(packet.len() - 1));
    malformed("something behind it", &|packet| packet.push(0));
    malformed("another record behind it", &|packet| {
        packet[11] = 2;
        packet.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    });
    malformed("in another section", &|packet| packet[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]));
    malformed("of class IN", &|packet| packet[start + 13 + 3] = 1);
    malformed("with a TTL", &|packet| packet[start + 13 + 7] = 1);
    malformed("a compressed name", &|packet| {
        packet.splice(start..start + 13, [0xc0, 12]);
    });
    malformed("more data than it says", &|packet| *packet.last_mut().unwrap() = 1);
    malformed("less than a header", &|packet| packet.truncate(11));
    for len in 0..packet.len() {
        let _ = open(&packet[..len], &keys(), NOW);
    }
    for at in 0..packet.len() {
        for value in [0, 1, 63, 64, 0xc0, 0xff] {
            let mut changed = packet.clone();
            changed[at] = value;
            let opened = open(&changed, &keys(), NOW);
            assert!(
                changed == packet
                    || at < 2
                    || !matches!(opened, Opened::Good(ref message, _) if *message != query())
            );
        }
    }
    assert!(matches!(open(&query(), &keys(), NOW), Opened::Unsigned));
}

#[test]
fn secrets_come_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        crate::config::Key { name: "k.example".into(), algorithm: Algorithm::HmacSha256, secret_file: path }
    };
    assert!(Keys::read(&[file("good", "c2VjcmV0\n")]).unwrap().named("k.example").is_some());
    for text in ["", "not base64!", "c2VjcmV0 c2VjcmV0", "key k { secret \"c2VjcmV0\"; };"] {
        let error = Keys::read(&[file("bad", text)]).unwrap_err();
        assert!(matches!(error, KeyError::NotBase64(_)) && !error.to_string().contains("c2V"), "{error}");
    }
    let mut missing = file("none", "");
    missing.secret_file = folder.path().join("missing");
    assert!(matches!(Keys::read(&[missing]), Err(KeyError::Unreadable(..))));
}
