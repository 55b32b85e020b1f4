//! Who may ask: the same on both transports and both paths.

use std::net::{IpAddr, UdpSocket};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use portolan_dns::{Config, Denied, Network};

use crate::node::{MS, Node, config, query};
use crate::resolver::Resolver;

fn only(address: [u8; 4], prefix: u8) -> Config {
    let networks = vec![Network { address: IpAddr::from(address), prefix }];
    Config { allow_query: Some(networks), ..config() }
}

#[test]
fn who_is_not_on_the_list_is_refused_whatever_is_asked() {
    let resolver = Resolver::start();
    let mut node = Node::start(&Config { forward: vec![resolver.address], ..only([192, 0, 2, 0], 24) });
    node.publish(&[("web", 2)]);
    let mut client = node.connect();
    for name in ["web.svc.cluster.", "no.svc.cluster.", "far.example.", "1.0.0.10.in-addr.arpa."] {
        let udp = node.ask_udp(name, RecordType::A, Some(1232));
        let tcp = client.ask(name, RecordType::A);
        for reply in [udp, tcp] {
            assert_eq!(reply.metadata.response_code, ResponseCode::Refused, "{name}");
            assert!(reply.answers.is_empty() && reply.authorities.is_empty(), "{name}");
        }
    }
    assert_eq!(resolver.queries(), 0, "nothing is forwarded for them");
    assert_eq!(node.metric("portolan_dns_denied_total", Some("udp")), 4.0);
    assert_eq!(node.metric("portolan_dns_denied_total", Some("tcp")), 4.0);
    node.reconfigure(&only([127, 0, 0, 1], 32));
    assert_eq!(node.ask_udp("web.svc.cluster.", RecordType::A, None).answers.len(), 2, "after a reload");
    assert_eq!(client.ask("web.svc.cluster.", RecordType::A).answers.len(), 2);
}

#[test]
fn dropped_is_no_answer_over_udp_and_a_closed_connection_over_tcp() {
    let mut node = Node::start(&Config { query_denied: Denied::Drop, ..only([192, 0, 2, 0], 24) });
    node.publish(&[("web", 2)]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(node.address).unwrap();
    socket.send(&query(1, "web.svc.cluster.", RecordType::A, None)).unwrap();
    let mut client = node.connect();
    client.send(&query(1, "web.svc.cluster.", RecordType::A, None));
    assert!(client.is_closed());
    node.wait_for_metric("portolan_dns_denied_total", Some("udp"), 1.0);
    node.wait_for_metric("portolan_dns_tcp_closed_total", Some("denied"), 1.0);
    socket.set_read_timeout(Some(MS * 50)).unwrap();
    assert!(socket.recv(&mut [0; 512]).is_err(), "no answer");
    assert_eq!(node.metric("portolan_dns_replies_total", None), 0.0);
}
