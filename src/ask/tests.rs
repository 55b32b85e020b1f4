//! Tables of answers as people see them, and the little DNS client against a server of a few lines.

use std::net::SocketAddr;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use super::*;

fn lines(listing: &Listing, answer: &Value) -> String {
    listing::render(listing, answer, false).unwrap()
}

#[test]
fn services_are_aligned() {
    let answer = json!({"generation": 7, "services": [
        {"name": "web.shop", "sources": ["prod", "test"], "ports": [{"index": 0, "number": 80, "name": "http", "protocol": "tcp"},
            {"index": 1, "number": 9000, "name": null, "protocol": "udp"}], "instances": 12, "live": 3, "labels": {}},
        {"name": "b", "sources": [], "ports": [], "instances": 0, "live": 0, "labels": {}}]});
    assert_eq!(
        lines(&Listing::Services, &answer),
        "SERVICE   SOURCES     PORTS                    LIVE  INSTANCES\n\
         web.shop  prod, test  http:80/tcp, 1:9000/udp  3     12\n\
         b         -           -                        0     0\n"
    );
}

#[test]
fn endpoints_say_why_they_are_out() {
    let endpoint = |admitted: bool, reason: Value, ejected: bool| {
        json!({"service": "b", "port": "http", "address": "127.0.0.1:80", "protocol": "tcp", "source": "m", "instance": "i",
            "node": "n", "zone": null, "state": "running", "health": "unhealthy", "admitted": admitted, "reason": reason,
            "weight": 100, "provenance": "host", "in_flight": 2, "ejected": ejected})
    };
    let answer = json!({"generation": 1, "endpoints": [endpoint(false, json!("unhealthy"), false),
        endpoint(true, Value::Null, true), endpoint(true, Value::Null, false)]});
    let table = lines(&Listing::Endpoints(None), &answer);
    let rows: Vec<&str> = table.lines().skip(1).collect();
    assert!(
        rows[0].contains("no: unhealthy") && rows[1].contains("  ejected") && rows[2].contains("  yes "),
        "{table}"
    );
}

#[test]
fn routes_and_sources() {
    let answer = json!({"generation": 1, "routes": [{"name": "r", "listener": "web", "host": "*.x", "path": "/a", "path_match": "prefix",
        "methods": ["GET"], "headers": [], "targets": [{"service": "a", "port": "http", "weight": 1}, {"service": "b", "port": null, "weight": 3}],
        "origin": "file", "shadowed_by": null}]});
    let table = lines(&Listing::Routes, &answer);
    assert!(table.contains("*.x/a GET  a:http (1), b (3)  file    -"), "{table}");
    let source = |error: Value| {
        json!({"generation": 1, "sources": [{"id": 0, "name": "m", "type": "marathon", "standing": "stale",
        "standing_seconds": 75.2, "age_seconds": 3700.5, "has_data": true, "error": error, "services": 2, "instances": 3, "required": true,
        "problems": [{"place": "/a", "message": "odd"}, {"place": "/b", "message": "odd"}], "problems_total": 9, "removals_held": 0}]})
    };
    let table = lines(
        &Listing::Sources,
        &source(json!({"kind": "connect", "message": "refused", "age_seconds": 4.0})),
    );
    assert!(
        table.contains(
            "stale     1m15s  1h1m ago  2         3          refused (4s ago) (and 2 more; see --json)"
        ),
        "{table}"
    );
    let table = lines(&Listing::Sources, &source(Value::Null));
    assert!(table.ends_with("  /a: odd (and 1 more; see --json)\n"), "{table}");
}

#[test]
fn nothing_from_a_scheduler_reaches_the_terminal_raw() {
    let answer = json!({"services": [{"name": "evil\u{1b}[31m\n", "sources": [], "ports": [], "instances": 0, "live": 0}]});
    let table = lines(&Listing::Services, &answer);
    assert!(!table.contains('\u{1b}') && table.lines().count() == 2, "{table:?}");
    assert!(listing::render(&Listing::Services, &json!({"generation": 1}), false).is_err());
}

#[test]
fn explanations() {
    let answer = json!({"generation": 4, "question": "x", "answer": "A: 127.0.0.1",
        "steps": [{"what": "zone", "result": "found", "detail": "svc.cluster"}]});
    let text = explain::render(&answer, false).unwrap();
    assert!(text.starts_with("CONSIDERED  RESULT  WHY\nzone        found   svc.cluster\n"), "{text}");
    assert!(text.contains("answer: A: 127.0.0.1   (generation 4)"), "{text}");
    assert!(explain::render(&json!({}), false).is_err());
}

#[test]
fn the_daemon_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("p.toml");
    std::fs::write(&file, "[admin]\nlisten = \"0.0.0.0:9191\"\n").unwrap();
    let named = |admin: Option<&str>, config: Option<&std::path::Path>| Daemon {
        admin: admin.map(str::to_owned),
        config: config.map(Into::into),
    };
    assert_eq!(named(None, None).url().unwrap(), "http://127.0.0.1:9090");
    assert_eq!(named(Some("http://h:1/"), Some(&file)).url().unwrap(), "http://h:1");
    assert_eq!(named(Some("h:1"), None).url().unwrap(), "http://h:1");
    assert_eq!(named(None, Some(&file)).url().unwrap(), "http://127.0.0.1:9191");
    assert_eq!(named(Some("unix:///run/p.sock"), None).url().unwrap(), "unix:///run/p.sock");
    std::fs::write(&file, "[admin]\nlisten = []\nsocket = \"p.sock\"\n").unwrap();
    let socket = format!("unix://{}", directory.path().join("p.sock").display());
    assert_eq!(named(None, Some(&file)).url().unwrap(), socket);
    std::fs::write(&file, "[admin]\nlisten = []\nsocket = \"none\"\n").unwrap();
    assert!(named(None, Some(&file)).url().unwrap_err().to_string().contains("no [admin] listener"));
    assert!(named(None, Some(&directory.path().join("none.toml"))).url().is_err());
    let told = json!({"listeners": [{"name": "web", "protocol": "http", "address": "127.0.0.1:1"},
        {"name": "dns", "protocol": "dns", "address": "127.0.0.1:53"}]});
    assert_eq!(resolve::dns_of(told.to_string().as_bytes()), "127.0.0.1:53".parse().ok());
    assert_eq!(resolve::dns_of(b"nonsense"), None);
}

#[tokio::test]
async fn an_answer_other_than_success_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        for answer in
            ["404 Not Found\r\nContent-Length: 7\r\n\r\nno such", "200 OK\r\nContent-Length: 2\r\n\r\n{}"]
        {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await.unwrap();
        }
    });
    let error = client::get(&base, "/api/v1/x").await.unwrap_err().to_string();
    assert!(error.contains("404") && error.contains("no such"), "{error}");
    assert_eq!(client::get(&base, "/").await.unwrap(), "{}");
    server.join_next().await.unwrap().unwrap();
    let error = format!("{:#}", client::get(&base, "/").await.unwrap_err());
    assert!(error.contains("no daemon answers"), "{error}");
}

/// Answers every question over UDP with "cut short", and over TCP with one address.
async fn little_server() -> (SocketAddr, JoinSet<()>) {
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(address).await.unwrap();
    let reply = |wire: &[u8], whole: bool| {
        let mut message = Message::from_vec(wire).unwrap();
        message.metadata.message_type = MessageType::Response;
        message.metadata.truncation = !whole;
        message.metadata.authoritative = true;
        if whole {
            let name = message.queries[0].name().clone();
            message.add_answer(Record::from_rdata(name, 5, RData::A(A::new(127, 0, 0, 9))));
        }
        message.to_vec().unwrap()
    };
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut buffer = [0; 1500];
        let (length, peer) = udp.recv_from(&mut buffer).await.unwrap();
        udp.send_to(b"nonsense", peer).await.unwrap();
        udp.send_to(&reply(&buffer[..length], false), peer).await.unwrap();
        let (mut stream, _) = tcp.accept().await.unwrap();
        let length = stream.read_u16().await.unwrap();
        let mut wire = vec![0; usize::from(length)];
        stream.read_exact(&mut wire).await.unwrap();
        let answer = reply(&wire, true);
        stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
        stream.write_all(&answer).await.unwrap();
    });
    (address, server)
}

#[tokio::test]
async fn a_cut_answer_is_asked_again_over_tcp() {
    let (address, mut server) = little_server().await;
    let name = Name::from_ascii("web.shop.svc.cluster.").unwrap();
    let answer = resolve::ask(address, &name, RecordType::A).await.unwrap();
    server.join_next().await.unwrap().unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    let text = resolve::render(&answer, address);
    assert!(text.starts_with(";; NOERROR, authoritative, from 127.0.0.1:"), "{text}");
    assert!(text.contains("web.shop.svc.cluster. 5 IN A 127.0.0.9\n"), "{text}");
}
