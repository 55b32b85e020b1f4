//! The access log: what it says, what it always says, and what happens when its file is moved away.

use portolan_proxy::{AccessLogConfig, AccessLogPath};
use serde_json::Value;

use crate::harness::*;

fn lines(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn requests_are_logged_and_a_moved_file_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let mut config = config();
    config.access_log = Some(AccessLogConfig { path: AccessLogPath::File(path.clone()), sample: 1.0 });
    let (backend, _requests) = Backend::answering(HELLO);
    let node = Node::with(config, &[backend.address]);
    node.request(&get("/a?secret"));
    eventually("the line is written", || lines(&path).len() == 1);
    let line = lines(&path).remove(0);
    assert_eq!(line["method"], "GET");
    assert_eq!(line["path"], "/a");
    assert_eq!(line["host"], "app.example");
    assert_eq!(line["status"], 200);
    assert_eq!(line["listener"], "web");
    assert_eq!(line["service"], "app");
    assert_eq!(line["endpoint"], backend.address.to_string());
    assert_eq!(line["attempts"], 1);
    assert!(line["client"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(line["bytes"], HELLO.len());
    let moved = folder.path().join("access.log.1");
    std::fs::rename(&path, &moved).unwrap();
    eventually("there is a new file", || path.exists());
    node.request(&get("/b"));
    eventually("the next line is in it", || lines(&path).len() == 1);
    assert_eq!(lines(&path)[0]["path"], "/b");
    assert_eq!(lines(&moved).len(), 1);
}

#[test]
fn failures_of_ours_are_logged_whatever_the_sample() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let mut config = config();
    config.access_log = Some(AccessLogConfig { path: AccessLogPath::File(path.clone()), sample: 0.0 });
    let (backend, _requests) = Backend::answering(HELLO);
    let mut node = Node::with(config, &[backend.address]);
    node.request(&get("/fine"));
    node.request("GET / HTTP/1.1\r\n\r\n");
    node.publish(&service("app", &[]));
    node.request(&get("/nobody"));
    eventually("both failures are written", || lines(&path).len() == 2);
    let lines = lines(&path);
    assert_eq!((&lines[0]["status"], &lines[0]["path"]), (&Value::from(400), &Value::Null));
    assert_eq!((&lines[1]["status"], &lines[1]["path"]), (&Value::from(503), &Value::from("/nobody")));
    assert!(lines[1]["reason"].as_str().unwrap().contains("no endpoint"));
}
