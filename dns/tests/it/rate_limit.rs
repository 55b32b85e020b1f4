//! Response rate limits, over real sockets.

use std::net::{IpAddr, UdpSocket};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use portolan_dns::{Algorithm, Config, Cookies, Key, Network, RateLimit};

use crate::node::{MS, Node, config, query};
use crate::resolver::Resolver;
use crate::zone_client::{key, signed};

fn limited(rate_limit: RateLimit) -> Config {
    Config { rate_limit, ..config() }
}

fn rate(responses_per_second: u32) -> RateLimit {
    RateLimit { responses_per_second, ..RateLimit::default() }
}

/// Sends one packet `count` times and counts the replies: whole, cut.
fn flood(node: &Node, packet: &[u8], count: usize) -> (usize, usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(node.address).unwrap();
    socket.set_read_timeout(Some(MS * 300)).unwrap();
    let (mut whole, mut cut) = (0, 0);
    let mut buffer = [0; 1500];
    let mut take = |wait: bool| {
        socket.set_nonblocking(!wait).unwrap();
        while let Ok(len) = socket.recv(&mut buffer) {
            let reply = Message::from_vec(&buffer[..len]).unwrap();
            if reply.metadata.truncation {
                assert!(reply.answers.is_empty());
                cut += 1;
            } else {
                whole += 1;
            }
        }
    };
    for at in 0..count {
        socket.send(packet).unwrap();
        if at % 16 == 15 {
            take(false);
        }
    }
    take(true);
    (whole, cut)
}

#[test]
fn a_flood_is_limited_and_half_of_the_rest_is_told_to_come_by_tcp() {
    let mut node = Node::start(&limited(rate(20)));
    node.publish(&[("web", 3), ("db", 1)]);
    let (whole, cut) = flood(&node, &query(1, "web.svc.cluster.", RecordType::A, None), 500);
    // The bucket fills a little while the flood goes on.
    assert!((20..80).contains(&whole), "{whole} whole");
    assert!((200..245).contains(&cut), "{cut} cut");
    let told = node.metric("portolan_dns_rate_limited_total", Some("slip"));
    assert_eq!(told as usize, cut);
    assert!(node.metric("portolan_dns_rate_limited_total", Some("drop")) >= 200.0);
    let mut client = node.connect();
    for _ in 0..100 {
        assert_eq!(client.ask("web.svc.cluster.", RecordType::A).answers.len(), 3, "TCP is not limited");
    }
    assert_eq!(flood(&node, &query(1, "db.svc.cluster.", RecordType::A, None), 5).0, 5, "another name");
}

#[test]
fn errors_and_packets_that_cannot_be_read_are_limited_and_names_that_are_none() {
    let rate_limit = RateLimit { errors_per_second: Some(5), slip: 0, ..rate(30) };
    let mut node = Node::start(&limited(rate_limit));
    node.publish(&[("web", 3)]);
    let (refused, cut) = flood(&node, &query(1, "other.example.", RecordType::A, None), 200);
    assert!((5..30).contains(&refused) && cut == 0, "{refused} {cut}");
    let (malformed, _) = flood(&node, b"\x12\x34\x01\0\0\x02\0\0\0\0\0\0", 200);
    assert!(malformed < 30, "{malformed}: one budget");
    let (missing, _) = flood(&node, &query(1, "no.svc.cluster.", RecordType::A, None), 200);
    assert!((30..100).contains(&missing), "{missing}");
}

#[test]
fn who_is_known_or_exempt_is_not_limited() {
    let dir = tempfile::tempdir().unwrap();
    let secret_file = dir.path().join("key");
    let (key, secret) = key("one.example", Algorithm::HmacSha256);
    std::fs::write(&secret_file, secret).unwrap();
    let keys = vec![Key { name: "one.example".into(), algorithm: Algorithm::HmacSha256, secret_file }];
    let cookies = Cookies { enabled: true, ..Cookies::default() };
    let guarded = Config { cookies, keys, ..limited(rate(2)) };
    let mut node = Node::start(&guarded);
    node.publish(&[("web", 3)]);
    let mut packet = query(1, "web.svc.cluster.", RecordType::A, Some(1232));
    let len = packet.len();
    packet[len - 1] = 12;
    packet.extend([0, 10, 0, 8]);
    packet.extend(*b"mycookie");
    let reply = node.exchange_udp(&packet).unwrap();
    packet.truncate(len - 1);
    packet.push(28);
    packet.extend_from_slice(&reply[reply.len() - 28..]);
    assert_eq!(flood(&node, &packet, 200).0, 200, "with a cookie");
    let signed = signed(&key, query(1, "web.svc.cluster.", RecordType::A, None)).0;
    assert_eq!(flood(&node, &signed, 100).0, 100, "with a signature");
    let plain = query(1, "web.svc.cluster.", RecordType::A, None);
    assert!(flood(&node, &plain, 100).0 < 20);
    let exempt = vec![Network { address: IpAddr::from([127, 0, 0, 0]), prefix: 8 }];
    node.reconfigure(&limited(RateLimit { exempt, ..rate(2) }));
    assert_eq!(flood(&node, &plain, 100).0, 100, "exempt, after a reload");
}

#[test]
fn what_the_forwarder_answers_is_limited_too() {
    let resolver = Resolver::start();
    let mut node = Node::start(&Config { forward: vec![resolver.address], ..limited(rate(10)) });
    node.publish(&[("web", 1)]);
    let (whole, cut) = flood(&node, &query(1, "far.example.", RecordType::A, None), 200);
    assert!((10..60).contains(&whole), "{whole} whole");
    assert!(cut > 60, "{cut} cut");
    let mut client = node.connect();
    assert_eq!(client.ask("far.example.", RecordType::A).metadata.response_code, ResponseCode::NoError);
}
