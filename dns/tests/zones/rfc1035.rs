//! RFC 1035: the header and the question of a reply.

use crate::cluster::{Cluster, query, web};

#[test]
fn section_4_1_1_the_header_answers_the_header() {
    let cluster = Cluster::with(vec![web()]);
    let mut packet = query("web.shop.prod.svc.cluster", "A", None);
    for (rd, cd) in [(0, 0), (1, 0), (0, 0x10), (1, 0x10)] {
        packet[2] = rd;
        packet[3] = cd;
        let reply = cluster.octets(&packet, 0).unwrap();
        assert_eq!(reply[..2], packet[..2], "id");
        assert_eq!(reply[2], 0x84 | rd, "QR, AA and RD");
        assert_eq!(reply[3], cd, "CD; no recursion is offered");
    }
}

#[test]
fn section_4_1_2_the_question_is_repeated_as_sent() {
    let cluster = Cluster::with(vec![web()]);
    let packet = query("wEb.Shop.PROD.svc.cluster", "A", None);
    let reply = cluster.octets(&packet, 0).unwrap();
    assert_eq!(reply[12..packet.len()], packet[12..]);
}

#[test]
fn section_3_2_5_other_classes_are_refused() {
    let cluster = Cluster::with(vec![web()]);
    let mut packet = query("web.shop.prod.svc.cluster", "A", None);
    let class_at = packet.len() - 1;
    for class in [3, 4, 255] {
        packet[class_at] = class;
        let reply = cluster.octets(&packet, 0).unwrap();
        assert_eq!(reply[3] & 15, 5);
        assert_eq!(reply.len(), packet.len(), "the question and nothing else");
    }
}

#[test]
fn section_3_2_3_transfers_are_refused() {
    let cluster = Cluster::with(vec![web()]);
    cluster.expect("svc.cluster AXFR", &["REFUSED"]);
    cluster.expect("svc.cluster 251", &["REFUSED"]);
}
