//! RFC 4343: names are compared without regard to case, and kept as they were written.

use crate::cluster::{Cluster, query, web};

#[test]
fn section_4_1_case_makes_no_difference_and_is_kept() {
    let cluster = Cluster::with(vec![web()]);
    for (name, rtype) in [
        ("WEB.Shop.prod.SVC.clusteR", "A"),
        ("_HTTP._tCp.web.SHOP.prod.svc.Cluster", "SRV"),
        ("Edge-1.NODE.svc.cluster", "A"),
        ("1.0.0.10.IN-ADDR.arpa", "PTR"),
    ] {
        let reply = cluster.octets(&query(name, rtype, None), 0).unwrap();
        let lower = cluster.octets(&query(&name.to_lowercase(), rtype, None), 0).unwrap();
        let question = name.len() + 2;
        assert_eq!(reply[12 + question..], lower[12 + question..], "{name}");
        assert!(!reply[12..].starts_with(&lower[12..12 + question]), "{name}: case is kept");
    }
}

#[test]
fn section_3_only_ascii_letters_have_case() {
    let cluster = Cluster::with(vec![web()]);
    let mut packet = query("wab.shop.prod.svc.cluster", "A", None);
    let at = packet.iter().position(|octet| *octet == b'w').unwrap() + 1;
    // 0xC5 is 0xE5 with the bit of case: in Latin-1 the same letter, in DNS another octet.
    packet[at] = b'e' ^ 0x20 ^ 0x80;
    assert_eq!(cluster.octets(&packet, 0).unwrap()[3] & 15, 3);
}
