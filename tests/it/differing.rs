//! `portolan diff`: the answers of an incumbent beside those of the daemon.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SRV};
use hickory_proto::rr::{Name, RData, Record};
use serde_json::{Value, json};

use crate::support::mesos::{Master, Program};
use crate::support::program::{portolan, text};
use crate::support::{block_on, shared};

/// A Mesos-DNS that says over HTTP and DNS what `/v1/axfr` holds. Its threads end with the program.
struct Incumbent {
    http: SocketAddr,
}

impl Incumbent {
    fn start(axfr: &Value, enumerated: &Value) -> Self {
        let (http, dns) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let address = http.local_addr().unwrap();
        let config = json!({"Port": dns.local_addr().unwrap().port(), "ReverseDnsOn": false});
        let bodies = [("/v1/axfr", axfr), ("/v1/enumerate", enumerated), ("/v1/config", &config)];
        let bodies: BTreeMap<String, String> =
            bodies.into_iter().map(|(path, body)| (path.to_owned(), body.to_string())).collect();
        std::thread::spawn(move || {
            for stream in http.incoming().flatten() {
                let mut line = String::new();
                let _ = BufReader::new(&stream).read_line(&mut line);
                let path = line.split(' ').nth(1).unwrap_or_default();
                let (status, body) =
                    bodies.get(path).map_or(("404 Not Found", ""), |body| ("200 OK", body.as_str()));
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = (&stream).write_all(format!("{head}{body}").as_bytes());
            }
        });
        let records = Arc::new(records(axfr));
        std::thread::spawn(move || {
            let mut packet = [0; 1232];
            while let Ok((len, from)) = dns.recv_from(&mut packet) {
                let reply = answer(&records, &Message::from_vec(&packet[..len]).unwrap());
                let _ = dns.send_to(&reply.to_vec().unwrap(), from);
            }
        });
        Self { http: address }
    }
}

type Records = BTreeMap<String, Vec<RData>>;

fn records(axfr: &Value) -> Records {
    let mut records = Records::new();
    for list in ["As", "AAAAs", "SRVs"] {
        for (name, data) in axfr["Records"][list].as_object().unwrap() {
            let data = data.as_array().unwrap().iter().map(|data| {
                let data = data.as_str().unwrap();
                match data.parse::<IpAddr>() {
                    Ok(IpAddr::V4(v4)) => RData::A(A(v4)),
                    Ok(IpAddr::V6(v6)) => RData::AAAA(AAAA(v6)),
                    Err(_) => {
                        let (target, port) = data.rsplit_once(':').unwrap();
                        RData::SRV(SRV::new(0, 1, port.parse().unwrap(), Name::from_ascii(target).unwrap()))
                    }
                }
            });
            records.entry(name.clone()).or_default().extend(data);
        }
    }
    records
}

fn answer(records: &Records, question: &Message) -> Message {
    let query = question.queries[0].clone();
    let mut reply = Message::new(question.metadata.id, MessageType::Response, question.metadata.op_code);
    let known = records.get(&query.name().to_string());
    reply.metadata.response_code =
        if known.is_some() { ResponseCode::NoError } else { ResponseCode::NXDomain };
    let of_kind = known.into_iter().flatten().filter(|data| data.record_type() == query.query_type());
    for data in of_kind {
        reply.add_answer(Record::from_rdata(query.name().clone(), 60, data.clone()));
    }
    reply.add_query(query);
    reply
}

/// Runs `diff`; the exit code, the rows, and what is said beside them.
fn diff(incumbent: &Incumbent, program: &Program) -> (Option<i32>, Vec<String>, String) {
    let (against, admin) = (format!("mesos-dns={}", incumbent.http), format!("http://{}", program.http));
    let output = portolan(&["diff", "--against", &against, "--admin", &admin]);
    let table = text(&output.stdout);
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    (output.status.code(), rows.collect(), text(&output.stderr))
}

fn state(port: &str) -> Value {
    json!({
        "leader": "master@10.0.0.9:5050",
        "slaves": [{"id": "20140803-S0", "hostname": "a0", "pid": "slave(1)@10.0.1.10:5051"}],
        "frameworks": [{"id": "f-0", "name": "marathon", "pid": "scheduler-1@10.0.0.5:15101", "hostname": "m", "tasks": [
            {"id": "web.1", "name": "web", "slave_id": "20140803-S0", "state": "TASK_RUNNING",
             "resources": {"ports": format!("[{port}-{port}]")}, "statuses": []}]}],
    })
}

fn incumbent(target_port: &str) -> Incumbent {
    let (own, canonical) = ("web.marathon.mesos.", "web-e844k-s0.marathon.mesos.");
    let srv = format!("web-e844k-s0.marathon.slave.mesos.:{target_port}");
    let axfr = json!({"TTL": 60, "Domain": "mesos", "Records": {
        "As": {own: ["10.0.1.10"], canonical: ["10.0.1.10"]}, "AAAAs": {}, "SRVs": {"_web._tcp.marathon.mesos.": [srv]}}});
    let record = |name: &str, host: &str, rtype: &str| json!({"name": name, "host": host, "rtype": rtype});
    let enumerated = json!({"frameworks": [{"name": "marathon", "tasks": [{"name": "web", "id": "web.1", "records": [
        record(own, "10.0.1.10", "A"), record("_web._tcp.marathon.mesos.", &srv, "SRV"),
        record("web..marathon.mesos.", "10.0.1.10", "A"), record(own, "10.0.1.10", "PTR")]}]}]});
    Incumbent::start(&axfr, &enumerated)
}

#[test]
fn what_differs_is_shown_and_nothing_else() {
    block_on(async {
        let master = Master::start(state("31000"));
        let program = Program::start(&master, &json!({}), &[]);
        program.until_ready().await;
        let (code, rows, said) = diff(&incumbent("31001"), &program);
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("questions are answered differently; 1 names that are listed cannot be asked for"),
            "{said}"
        );
        assert_eq!(rows[0], "NAME TYPE ONLY THERE ONLY HERE");
        let row = rows.iter().find(|row| row.starts_with("_web._tcp.marathon.mesos. SRV ")).unwrap();
        assert!(row.contains(" 31001 ") && row.contains(" 31000 "), "{row}");
        assert!(!rows.iter().any(|row| row.starts_with("web.marathon.mesos. A")), "{rows:?}");
        // What only the daemon has.
        let row = rows.iter().find(|row| row.starts_with("marathon.mesos. A")).unwrap();
        assert_eq!(row, "marathon.mesos. A (NXDOMAIN) 10.0.0.5");
    });
}

/// The incumbent as it was recorded, and the daemon on the state that it had then.
#[test]
fn a_recorded_incumbent_is_answered_alike() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("fixtures/mesos-dns/http");
    let read =
        |path: &std::path::Path| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let case = read(&folder.join("axfr-enumerate-config.json"));
    let body = |path: &str| {
        let cases = case["cases"].as_array().unwrap().iter();
        cases
            .filter(|one| one["request"]["path"] == path)
            .map(|one| one["expect"]["body"].clone())
            .next()
            .unwrap()
    };
    let (mut axfr, enumerated) = (body("/v1/axfr"), body("/v1/enumerate"));
    block_on(async {
        let master = Master::start(read(&folder.join(case["state"].as_str().unwrap())));
        let program = Program::start(&master, &case["config"], &["--mesos-dns-profile", "0.7"]);
        program.until_ready().await;
        // Where the incumbent listened, and which masters it was told of, is not part of the state.
        let ours = crate::support::http::json(program.http, "/v1/axfr").await;
        for name in ["ns1.mesos.", "master.mesos.", "master0.mesos.", "master1.mesos."] {
            axfr["Records"]["As"][name] = ours["Records"]["As"][name].clone();
        }
        axfr["Records"]["As"].as_object_mut().unwrap().retain(|_, data| !data.is_null());
        let (code, rows, said) = diff(&Incumbent::start(&axfr, &enumerated), &program);
        assert_eq!((code, rows.len()), (Some(0), 0), "{rows:?} {said}");
        assert!(said.contains("questions, the same answers"), "{said}");
        let first = axfr["Records"]["SRVs"].as_object().unwrap().keys().next().unwrap().clone();
        axfr["Records"]["SRVs"][&first] = json!(["elsewhere.mesos.:1"]);
        let (code, rows, _) = diff(&Incumbent::start(&axfr, &enumerated), &program);
        assert_eq!((code, rows.len()), (Some(1), 2), "{rows:?}");
        assert!(rows[1].starts_with(&first) && rows[1].contains("0 1 1 elsewhere.mesos."), "{rows:?}");
    });
}

#[test]
fn an_incumbent_that_does_not_answer_is_no_difference() {
    block_on(async {
        let master = Master::start(state("31000"));
        let program = Program::start(&master, &json!({}), &[]);
        program.until_ready().await;
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (code, rows, said) = diff(&Incumbent { http: nobody }, &program);
        assert_eq!((code, rows.len()), (Some(1), 0));
        assert!(said.contains(&nobody.to_string()), "{said}");
    });
}
