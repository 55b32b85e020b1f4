//! RFC 7873 and RFC 9018: cookies.

use std::net::IpAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use portolan_dns::{Config, Cookies, Network};

use crate::node::{Node, config, query};

const OWN: &[u8] = b"mycookie";

fn with(cookies: Cookies) -> Config {
    Config { cookies, ..config() }
}

fn enabled() -> Cookies {
    Cookies { enabled: true, ..Cookies::default() }
}

/// A query with a cookie option of this content.
fn asking(name: &str, cookie: &[u8]) -> Vec<u8> {
    let mut message = Message::from_vec(&query(0x7873, name, RecordType::A, Some(1232))).unwrap();
    let edns = message.edns.as_mut().unwrap();
    edns.options_mut().insert(EdnsOption::Unknown(10, cookie.to_vec()));
    message.to_vec().unwrap()
}

/// The reply's code and cookie, the same over both transports but for the time a cookie was made at.
fn ask(node: &Node, packet: &[u8]) -> (ResponseCode, Option<Vec<u8>>) {
    let udp = Message::from_vec(&node.exchange_udp(packet).unwrap()).unwrap();
    let mut client = node.connect();
    client.send(packet);
    let tcp = client.read();
    if udp.metadata.response_code != ResponseCode::BADCOOKIE {
        assert_eq!(udp.metadata.response_code, tcp.metadata.response_code);
    }
    assert_eq!(cookie(&udp).map(|cookie| cookie.len()), cookie(&tcp).map(|cookie| cookie.len()));
    (udp.metadata.response_code, cookie(&udp))
}

fn cookie(reply: &Message) -> Option<Vec<u8>> {
    match reply.edns.as_ref()?.option(EdnsCode::Cookie)? {
        EdnsOption::Unknown(_, data) => Some(data.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_gets_a_cookie_and_is_known_by_it() {
    let mut node = Node::start(&with(enabled()));
    node.publish(&[("web", 1)]);
    for name in ["web.svc.cluster.", "no.svc.cluster.", "other.example."] {
        let (code, given) = ask(&node, &asking(name, OWN));
        let given = given.unwrap();
        assert!(given.len() == 24 && given.starts_with(OWN), "{name} {code}: {given:?}");
        let (again, same) = ask(&node, &asking(name, &given));
        assert_eq!((again, same), (code, Some(given)), "a young one is kept (RFC 9018 §4.3)");
    }
    assert_eq!(node.metric("portolan_dns_cookies_total", Some("valid")), 6.0);
    assert_eq!(node.metric("portolan_dns_cookies_total", Some("new")), 6.0);
}

#[test]
fn a_cookie_that_is_not_ours_is_replaced() {
    let mut node = Node::start(&with(enabled()));
    node.publish(&[("web", 1)]);
    let (code, given) = ask(&node, &asking("web.svc.cluster.", &[7; 24]));
    assert_eq!(code, ResponseCode::NoError, "§5.2.3: answered, by policy");
    assert!(given.unwrap().starts_with(&[7; 8]));
    node.wait_for_metric("portolan_dns_cookies_total", Some("invalid"), 2.0);
}

#[test]
fn a_cookie_of_no_good_length_is_malformed() {
    let node = Node::start(&with(enabled()));
    for len in [0, 1, 7, 9, 15, 41, 60] {
        let (code, given) = ask(&node, &asking("web.svc.cluster.", &vec![1; len]));
        assert_eq!((code, given), (ResponseCode::FormErr, None), "{len} octets (§5.2.2)");
    }
}

#[test]
fn bad_cookie_is_said_where_it_is_wanted_over_udp_alone() {
    let mut node = Node::start(&with(Cookies { required: true, ..enabled() }));
    node.publish(&[("web", 1)]);
    let packet = asking("web.svc.cluster.", OWN);
    let udp = Message::from_vec(&node.exchange_udp(&packet).unwrap()).unwrap();
    assert_eq!((udp.metadata.response_code, udp.answers.len()), (ResponseCode::BADCOOKIE, 0));
    let given = cookie(&udp).unwrap();
    let (code, _) = ask(&node, &asking("web.svc.cluster.", &given));
    assert_eq!(code, ResponseCode::NoError);
    let mut client = node.connect();
    client.send(&packet);
    assert_eq!(client.read().metadata.response_code, ResponseCode::NoError);
    let plain = node.ask_udp("web.svc.cluster.", RecordType::A, None);
    assert_eq!(plain.metadata.response_code, ResponseCode::NoError, "who knows no cookies is answered");
}

#[test]
fn without_cookies_the_option_means_nothing() {
    let mut node = Node::start(&config());
    node.publish(&[("web", 1)]);
    for content in [OWN, b"", &[0; 60][..]] {
        assert_eq!(ask(&node, &asking("web.svc.cluster.", content)), (ResponseCode::NoError, None));
    }
}

#[test]
fn edges_with_one_file_know_each_others_cookies_and_a_rotation_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cookies");
    let (old, new) = ("e5e973e5a6b2a43f48e7dc849e37bfcf", "445536bcd2513298075a5d379663c962");
    std::fs::write(&path, old).unwrap();
    let shared = with(Cookies { secret_file: Some(path.clone()), ..enabled() });
    let (mut one, mut other) = (Node::start(&shared), Node::start(&shared));
    one.publish(&[("web", 1)]);
    other.publish(&[("web", 1)]);
    let given = ask(&one, &asking("web.svc.cluster.", OWN)).1.unwrap();
    ask(&other, &asking("web.svc.cluster.", &given));
    assert_eq!(other.metric("portolan_dns_cookies_total", Some("valid")), 2.0);
    std::fs::write(&path, format!("{new}\n{old}\n")).unwrap();
    other.reconfigure(&shared);
    let renewed = ask(&other, &asking("web.svc.cluster.", &given)).1.unwrap();
    assert_ne!(renewed, given, "made anew with the new secret");
    assert_eq!(other.metric("portolan_dns_cookies_total", Some("valid")), 4.0);
    std::fs::write(&path, new).unwrap();
    other.reconfigure(&shared);
    ask(&other, &asking("web.svc.cluster.", &given));
    ask(&other, &asking("web.svc.cluster.", &renewed));
    assert_eq!(other.metric("portolan_dns_cookies_total", Some("invalid")), 2.0);
    assert_eq!(other.metric("portolan_dns_cookies_total", Some("valid")), 6.0);
}

#[test]
fn a_refused_client_gets_no_cookie() {
    let elsewhere = vec![Network { address: IpAddr::from([192, 0, 2, 0]), prefix: 24 }];
    let node = Node::start(&Config { allow_query: Some(elsewhere), ..with(enabled()) });
    assert_eq!(ask(&node, &asking("web.svc.cluster.", OWN)), (ResponseCode::Refused, None));
}
