//! RFC 8945: signed requests, by our own signer and by dig and kdig.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use portolan_dns::{Algorithm, Config, Key, Network, Transfer};

use crate::node::{Node, query};
use crate::secondaries::with_real_programs;
use crate::zone_client::{APEX, axfr, axfr_of, key, now, open_config, signed, transfer};

struct Bench {
    node: Node,
    _dir: tempfile::TempDir,
}

fn config(dir: &tempfile::TempDir, transfer: Transfer) -> Config {
    let file = |name: &str| -> PathBuf { dir.path().join(name) };
    std::fs::write(file("key"), key("k", Algorithm::HmacSha256).1).unwrap();
    let with = |name: &str, algorithm| Key { name: name.into(), algorithm, secret_file: file("key") };
    let keys = vec![with("one.example", Algorithm::HmacSha256), with("Two.example", Algorithm::HmacSha512)];
    Config { keys, transfer, ..open_config() }
}

impl Bench {
    fn start(transfer: Transfer) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut node = Node::start(&config(&dir, transfer));
        node.publish(&[("web", 3), ("large", 600)]);
        Self { node, _dir: dir }
    }
}

fn by_key() -> Transfer {
    Transfer { keys: vec!["one.example".into(), "Two.example".into()], ..Transfer::default() }
}

#[test]
fn a_zone_is_given_to_who_has_the_key_and_nobody_else() {
    let bench = Bench::start(by_key());
    assert_eq!(axfr_of(bench.node.address).code, ResponseCode::Refused);
    for (name, algorithm) in [("one.example", Algorithm::HmacSha256), ("TWO.example", Algorithm::HmacSha512)]
    {
        let (packet, _) = signed(&key(name, algorithm).0, axfr(APEX));
        let got = transfer(&mut bench.node.connect(), &packet);
        assert_eq!(got.code, ResponseCode::NoError, "{name}");
        // That each is signed, dig and kdig judge below.
        assert!(got.messages.len() > 1, "one message is not enough to show anything");
    }
    // The right name with another algorithm is another key.
    let (packet, _) = signed(&key("one.example", Algorithm::HmacSha512).0, axfr(APEX));
    assert_eq!(transfer(&mut bench.node.connect(), &packet).code, ResponseCode::NotAuth);
    bench.node.wait_for_metric("portolan_dns_signatures_total", Some("bad_key"), 1.0);
}

#[test]
fn a_key_that_may_not_have_the_zone_is_refused_and_the_refusal_signed() {
    let one = Transfer { keys: vec!["Two.example".into()], ..Transfer::default() };
    let elsewhere = vec![Network { address: IpAddr::from([192, 0, 2, 0]), prefix: 24 }];
    let both = Transfer { allow: elsewhere, ..by_key() };
    for transfer_config in [one, both] {
        let bench = Bench::start(transfer_config);
        let (packet, signer) = signed(&key("one.example", Algorithm::HmacSha256).0, axfr(APEX));
        let mut client = bench.node.connect();
        client.send(&packet);
        let reply = client.read_octets();
        assert_eq!(Message::from_vec(&reply).unwrap().metadata.response_code, ResponseCode::Refused);
        assert!(signer.is_reply(&reply, now()));
    }
}

#[test]
fn signed_queries_are_answered_and_signed_on_both_transports() {
    let bench = Bench::start(by_key());
    let (key, _) = key("one.example", Algorithm::HmacSha256);
    for (name, size) in
        [("web.svc.cluster.", None), ("large.svc.cluster.", Some(1232)), ("no.svc.cluster.", Some(512))]
    {
        let (packet, signer) = signed(&key, query(7, name, RecordType::A, size));
        let over_udp = bench.node.exchange_udp(&packet).unwrap();
        assert!(over_udp.len() <= size.unwrap_or(512).into(), "{} octets with the signature", over_udp.len());
        assert!(signer.is_reply(&over_udp, now()), "{name}");
        let mut client = bench.node.connect();
        client.send(&packet);
        assert!(signer.is_reply(&client.read_octets(), now()), "{name}");
    }
    bench.node.wait_for_metric("portolan_dns_signatures_total", Some("good"), 6.0);
}

#[test]
fn bad_signatures_are_told_on_both_transports() {
    let bench = Bench::start(by_key());
    let (key, _) = key("one.example", Algorithm::HmacSha256);
    let mut changed = signed(&key, query(7, "web.svc.cluster.", RecordType::A, None)).0;
    changed[14] ^= 0x20;
    let mut late = query(7, "web.svc.cluster.", RecordType::A, None);
    let _ = portolan_dns::tsig::Signer::request(&key, &mut late, now() - 1000);
    let mut cut = signed(&key, query(7, "web.svc.cluster.", RecordType::A, None)).0;
    let len = cut.len();
    cut[len - 1] = 1;
    for (packet, code) in
        [(changed, ResponseCode::NotAuth), (late, ResponseCode::NotAuth), (cut, ResponseCode::FormErr)]
    {
        let reply = bench.node.exchange_udp(&packet).unwrap();
        assert_eq!(Message::from_vec(&reply).unwrap().metadata.response_code, code);
        let mut client = bench.node.connect();
        client.send(&packet);
        assert_eq!(client.read().metadata.response_code, code);
    }
    for outcome in ["bad_signature", "bad_time", "malformed"] {
        bench.node.wait_for_metric("portolan_dns_signatures_total", Some(outcome), 2.0);
    }
}

fn run(program: &str, node: &Node, arguments: &[&str]) -> String {
    let port = node.address.port().to_string();
    let output = Command::new(program).args(["@127.0.0.1", "-p", &port]).args(arguments).output();
    let output = output.unwrap_or_else(|error| {
        panic!("{program}: {error}: tests/run installs it; PORTOLAN_TEST_SKIP_REAL leaves it out")
    });
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    told
}

#[test]
fn dig_and_kdig_take_the_zone_and_find_the_signatures_good() {
    if !with_real_programs() {
        return;
    }
    let mut bench = Bench::start(by_key());
    let (_, secret) = key("", Algorithm::HmacSha256);
    let serial = bench.node.zones().serial().to_string();
    let (one, two) =
        (format!("hmac-sha256:one.example:{secret}"), format!("hmac-sha512:two.example:{secret}"));
    let dig = |node: &Node, key: &str, kind: &str| run("dig", node, &["-y", key, "svc.cluster", kind]);
    let kdig = |node: &Node, key: &str, kind: &str| run("kdig", node, &["-y", key, "svc.cluster", kind]);
    for (told, what) in [
        (dig(&bench.node, &one, "AXFR"), "dig"),
        (dig(&bench.node, &two, "AXFR"), "dig"),
        (kdig(&bench.node, &one, "AXFR"), "kdig"),
        (kdig(&bench.node, &two, "AXFR"), "kdig"),
    ] {
        assert_eq!(told.matches("IN\tSOA").count(), 2, "{what}: {told}");
        assert!(told.contains("web.svc.cluster.") && !told.contains("Transfer failed"), "{told}");
        assert!(
            !told.contains("BADSIG") && !told.contains("WARNING") && !told.contains("verify failure"),
            "{told}"
        );
    }
    bench.node.publish(&[("db", 1)]);
    for told in [
        dig(&bench.node, &one, &format!("IXFR={serial}")),
        kdig(&bench.node, &one, &format!("IXFR={serial}")),
    ] {
        assert_eq!(told.matches("IN\tSOA").count(), 4, "differences: {told}");
        assert!(told.contains("db.svc.cluster.") && !told.contains("large.svc.cluster."), "{told}");
    }
    let told = run("kdig", &bench.node, &["-y", &one, "web.svc.cluster", "A"]);
    assert!(told.contains("NOERROR") && told.contains("TSIG") && !told.contains("WARNING"), "{told}");
}

#[test]
fn keys_are_replaced_by_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&open_config());
    node.publish(&[("web", 1)]);
    let request = || signed(&key("one.example", Algorithm::HmacSha256).0, axfr(APEX)).0;
    let ask = |node: &Node| transfer(&mut node.connect(), &request()).code;
    assert_eq!(ask(&node), ResponseCode::NotAuth);
    node.reconfigure(&config(&dir, by_key()));
    assert_eq!(ask(&node), ResponseCode::NoError);
}
