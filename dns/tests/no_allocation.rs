//! Answers of the fast path allocate nothing: counted by the allocator of this test binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "zones/cluster.rs"]
#[allow(dead_code, reason = "shared with the other test binary, which uses all of it")]
mod cluster;

use portolan_dns::answer::{Outcome, Terms, answer};
use portolan_dns::wire::{Request, error_reply};

use cluster::{Cluster, label, query, web};

#[test]
fn an_answer_allocates_nothing() {
    let cluster = Cluster::with(vec![web()]);
    let instance = label("web.1");
    let questions = [
        ("web.shop.prod.svc.cluster", "A"),
        ("WEB.shop.prod.svc.cluster", "AAAA"),
        ("web.shop.prod.marathon.src.svc.cluster", "A"),
        ("web.shop.prod.vip.svc.cluster", "A"),
        ("_http._tcp.web.shop.prod.svc.cluster", "SRV"),
        ("_any._tcp.web.shop.prod.vip.svc.cluster", "SRV"),
        (&format!("{instance}.inst.web.shop.prod.svc.cluster"), "A"),
        (&format!("_any._tcp.{instance}.inst.web.shop.prod.svc.cluster"), "SRV"),
        ("web.shop.prod.svc.cluster", "TXT"),
        ("web.shop.prod.svc.cluster", "ANY"),
        ("edge-1.node.svc.cluster", "A"),
        ("svc.cluster", "SOA"),
        ("svc.cluster", "NS"),
        ("1.0.0.10.in-addr.arpa", "PTR"),
        ("1.2.0.192.in-addr.arpa", "PTR"),
        ("nope.svc.cluster", "A"),
        ("shop.prod.svc.cluster", "A"),
        ("example.com", "A"),
    ];
    let mut packets: Vec<Vec<u8>> =
        questions.iter().map(|(name, rtype)| query(name, rtype, Some(1232))).collect();
    packets.push(b"\x12\x34\x01\0\0\x02\0\0\0\0\0\0".to_vec());
    let table = cluster.publisher.table();
    let mut out = [0; 1232];
    let mut replies = 0;
    let counted = allocation_counter::measure(|| {
        for rotation in 0..100 {
            let snapshot = table.load();
            let zones = snapshot.view(cluster.key);
            for packet in &packets {
                replies += usize::from(turn(zones, packet, rotation, &mut out) > 0);
            }
        }
    });
    assert_eq!(replies, 100 * (packets.len() - 1), "all are answered but the name that is not ours");
    assert_eq!(counted.count_total, 0);
    assert!(allocation_counter::measure(|| drop(vec![1u8])).count_total > 0, "the count counts");
}

fn turn(zones: &portolan_dns::Zones, packet: &[u8], rotation: u32, out: &mut [u8]) -> usize {
    match Request::read(packet) {
        Request::Ignore => 0,
        Request::Malformed(rcode) => error_reply(packet, rcode, out),
        Request::Question(query) => {
            let terms = Terms::udp(query.udp_limit(1232), 1232);
            match answer(zones, &query, &terms, rotation, out) {
                Outcome::Reply(written) => written.len,
                Outcome::NotOurs | Outcome::Silence => 0,
            }
        }
    }
}
