//! RFC 9018 appendix A, and what nobody who means well would send.

use core::net::IpAddr;

use super::*;

fn octets<const N: usize>(hex: &str) -> [u8; N] {
    let octet = |at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
    core::array::from_fn(octet)
}

fn secrets(list: &[&str]) -> Secrets {
    Secrets::of(list.iter().map(|secret| octets(secret)).collect()).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";

#[test]
fn a_new_cookie_rfc9018_a1() {
    let shown =
        judge(&secrets(&[SECRET]), &octets::<8>("2464c4abcf10c957"), ip("198.51.100.100"), 1_559_731_985);
    assert_eq!(shown, Shown::New(octets("2464c4abcf10c957010000005cf79f111f8130c3eee29480")));
}

#[test]
fn a_cookie_is_known_again_and_kept_while_it_is_young_rfc9018_a2() {
    let secrets = secrets(&[SECRET]);
    let cookie: Cookie = octets("2464c4abcf10c957010000005cf79f111f8130c3eee29480");
    assert_eq!(judge(&secrets, &cookie, ip("198.51.100.100"), 1_559_732_385), Shown::Valid(cookie));
    let Shown::Valid(renewed) = judge(&secrets, &cookie, ip("198.51.100.100"), 1_559_734_385) else {
        panic!("it is good for an hour");
    };
    assert_eq!(renewed, octets("2464c4abcf10c957010000005cf7a871d4a564a1442aca77"));
}

#[test]
fn reserved_octets_are_hashed_as_they_are_rfc9018_a3() {
    let cookie: Cookie = octets("fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5");
    let shown = judge(&secrets(&[SECRET]), &cookie, ip("203.0.113.203"), 1_559_728_000);
    assert_eq!(shown, Shown::Valid(cookie));
}

#[test]
fn the_secret_before_is_accepted_and_the_present_one_is_used_rfc9018_a4() {
    let both = secrets(&["445536bcd2513298075a5d379663c962", "dd3bdf9344b678b185a6f5cb60fca715"]);
    let cookie: Cookie = octets("22681ab97d52c298010000005cf7c57926556bd0934c72f8");
    let shown = judge(&both, &cookie, ip("2001:db8:220:1:59de:d0f4:8769:82b8"), 1_559_741_961);
    assert_eq!(shown, Shown::Valid(octets("22681ab97d52c298010000005cf7c609a6bb79d16625507a")));
    let alone = secrets(&["445536bcd2513298075a5d379663c962"]);
    let shown = judge(&alone, &cookie, ip("2001:db8:220:1:59de:d0f4:8769:82b8"), 1_559_741_961);
    assert!(matches!(shown, Shown::Invalid(_)));
}

#[test]
fn an_old_a_foreign_and_a_changed_cookie_are_not_valid() {
    let (secrets, client) = (secrets(&[SECRET]), ip("192.0.2.1"));
    let made = 1_000_000;
    let Shown::New(cookie) = judge(&secrets, &[7; 8], client, made) else { panic!("a client's own") };
    let is_valid =
        |cookie: &[u8], client, now| matches!(judge(&secrets, cookie, client, now), Shown::Valid(_));
    assert!(is_valid(&cookie, client, made) && is_valid(&cookie, client, made + 3600));
    assert!(is_valid(&cookie, client, made - 300), "another edge's clock may be ahead");
    assert!(!is_valid(&cookie, client, made + 3601) && !is_valid(&cookie, client, made - 301));
    assert!(!is_valid(&cookie, ip("192.0.2.2"), made));
    assert!(is_valid(&cookie, ip("::ffff:192.0.2.1"), made), "one client on a socket of either family");
    for at in 0..COOKIE_LEN {
        let mut changed = cookie;
        changed[at] ^= 1;
        assert!(!is_valid(&changed, client, made), "octet {at}");
    }
    for len in [16, 17, 23, 25, 40] {
        let mut other = vec![1; len];
        other[..len.min(24)].copy_from_slice(&cookie[..len.min(24)]);
        assert!(matches!(judge(&secrets, &other, client, made), Shown::Invalid(_)), "{len} octets");
    }
}

#[test]
fn lengths_that_are_none_are_malformed() {
    for len in (0..=60).filter(|len| *len != 8 && !(16..=40).contains(len)) {
        let shown = judge(&secrets(&[SECRET]), &vec![0; len], ip("::1"), 5);
        assert_eq!(shown, Shown::Malformed, "{len} octets");
    }
}

#[test]
fn the_option_goes_into_a_reply_with_opt_alone() {
    let mut reply = vec![0; 100];
    reply[11] = 1;
    reply[12..23].copy_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    assert_eq!(put(&mut reply, 23, &[9; 24]), 51);
    assert_eq!(reply[21..27], [0, 28, 0, 10, 0, 24]);
    assert_eq!(put(&mut [0; 60], 12, &[9; 24]), 12, "a header alone");
    assert_eq!(put(&mut [0; 60], 40, &[9; 24]), 40, "no OPT at its end");
}
