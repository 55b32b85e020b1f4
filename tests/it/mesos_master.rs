//! A node on a Mesos master: names follow its event stream, and outlive the master.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::A;
use serde_json::{Value, json};

use crate::support::dns::{addresses, ask};
use crate::support::node::TestNode;
use crate::support::site::metric;
use crate::support::{block_on, until};

/// A master that gives one stream and then is dead.
struct Master {
    address: SocketAddr,
    /// Records of the stream. Dropping it cuts the stream off.
    records: Sender<Value>,
}

impl Master {
    fn start(first: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (records, receive) = channel();
        records.send(first).unwrap();
        std::thread::spawn(move || {
            let mut receive = Some(receive);
            for stream in listener.incoming().flatten() {
                answer(stream, &mut receive);
            }
        });
        Self { address, records }
    }
}

/// Answers the first request of a connection; the stream goes to a thread of its own.
fn answer(mut stream: TcpStream, records: &mut Option<Receiver<Value>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut length = 0;
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let is_subscription = body.windows(9).any(|window| window == b"SUBSCRIBE");
    let Some(records) = records.take_if(|_| is_subscription) else {
        let _ = stream.write_all(b"HTTP/1.1 503 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    };
    std::thread::spawn(move || {
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head).unwrap();
        for record in records {
            let record = record.to_string();
            let record = format!("{}\n{record}", record.len());
            if stream.write_all(format!("{:x}\r\n{record}\r\n", record.len()).as_bytes()).is_err() {
                return;
            }
        }
    });
}

fn task(n: u8, state: &str) -> Value {
    json!({
        "name": "web", "task_id": {"value": format!("web.{n}")}, "framework_id": {"value": "F"},
        "agent_id": {"value": format!("S{n}")}, "state": state,
        "resources": [{"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31000, "end": 31000}]}}],
        "statuses": [{"state": state, "timestamp": 1.0}],
    })
}

#[test]
fn names_follow_the_stream_and_outlive_the_master() {
    block_on(async {
        let agents: Vec<Value> = (1..=2)
            .map(|n| {
                let info = json!({"id": {"value": format!("S{n}")}, "hostname": format!("node-{n}")});
                json!({"agent_info": info, "pid": format!("slave(1)@10.9.0.{n}:5051")})
            })
            .collect();
        let master = Master::start(json!({"type": "SUBSCRIBED", "subscribed": {
        "heartbeat_interval_seconds": 15.0, "get_state": {
            "get_tasks": {"tasks": [task(1, "TASK_RUNNING")]},
            "get_agents": {"agents": agents},
            "get_frameworks": {"frameworks": [{"framework_info": {"id": {"value": "F"}, "name": "marathon"}}]},
        }}}));
        let source = format!(
            "[[source]]\nname = \"mesos\"\ntype = \"mesos\"\nurls = [\"http://{}\"]\n",
            master.address
        );
        let node = TestNode::start(&source, "").await;
        let dns = node.dns();
        let name = "web.marathon.svc.cluster.";
        let is = |wanted: &'static [&'static str]| {
            until("the addresses", move || async move {
                let known = ask(dns, name, A).await.response_code == ResponseCode::NoError;
                (known && addresses(dns, name, A).await == wanted).then_some(())
            })
        };
        is(&["10.9.0.1"]).await;

        let tell = |event: Value| master.records.send(event).unwrap();
        tell(json!({"type": "TASK_ADDED", "task_added": {"task": task(2, "TASK_STAGING")}}));
        let status = json!({"task_id": {"value": "web.2"}, "state": "TASK_RUNNING", "timestamp": 2.0});
        tell(json!({"type": "TASK_UPDATED", "task_updated": {
            "framework_id": {"value": "F"}, "status": status, "state": "TASK_RUNNING"}}));
        is(&["10.9.0.1", "10.9.0.2"]).await;
        let status = json!({"task_id": {"value": "web.1"}, "state": "TASK_KILLED", "timestamp": 3.0});
        tell(json!({"type": "TASK_UPDATED", "task_updated": {
            "framework_id": {"value": "F"}, "status": status, "state": "TASK_KILLED"}}));
        is(&["10.9.0.2"]).await;

        // The master dies. What it told stays, in a process that begins without it too.
        drop(master);
        let admin = node.admin();
        until("that the stream broke off", || async {
            metric(admin, "portolan_source_errors_total{kind=\"connect\",source=\"mesos\"}")
                .filter(|n| *n > 0.0)
        })
        .await;
        assert_eq!(addresses(dns, name, A).await, ["10.9.0.2"]);
        let home = node.stop().await;
        let node = TestNode::start_in(home, &source, "").await;
        assert_eq!(addresses(node.dns(), name, A).await, ["10.9.0.2"]);
        node.stop().await;
    });
}
