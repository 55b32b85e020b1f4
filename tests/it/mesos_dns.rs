//! The program in the place of Mesos-DNS: its `config.json`, its names, its HTTP API.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use serde_json::{Value, json};

use crate::support::mesos::Master;
use crate::support::program::{Running, portolan, program, text};
use crate::support::{block_on, dns, http, shared, until};

/// The program on a `config.json` alone.
struct Program {
    running: Running,
    dns: SocketAddr,
    http: SocketAddr,
    _home: tempfile::TempDir,
}

impl Program {
    fn start(master: &Master, config: &Value, arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let file = write(home.path(), &placed(config, master));
        let mut command = Command::new(program());
        command.args(["run", "--mesos-dns-config"]).arg(file).args(arguments);
        let mut running = Running::spawn(command.env("PORTOLAN_STATE_DIR", home.path().join("state")));
        let (dns, http) = (bound(&mut running, "dns"), bound(&mut running, "mesos"));
        Self { running, dns, http, _home: home }
    }

    async fn until_ready(&self) {
        until("the first list", || async {
            let answer = http::try_get(self.http, "localhost", "/readyz").await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }
}

/// `config` where every port is the kernel's choice and the one master is `master`.
fn placed(config: &Value, master: &Master) -> Value {
    let mut placed = json!({
        "masters": [master.address.to_string()], "listener": "127.0.0.1", "HTTPListener": "127.0.0.1",
        "port": 0, "httpport": 0, "externalOn": false, "refreshSeconds": 1,
    });
    let own = ["masters", "listener", "httplistener", "port", "httpport", "externalon", "zk"];
    for (key, value) in config.as_object().unwrap() {
        if !own.contains(&&*key.to_lowercase()) {
            placed.as_object_mut().unwrap().retain(|name, _| !name.eq_ignore_ascii_case(key));
            placed[key] = value.clone();
        }
    }
    placed
}

fn write(home: &Path, config: &Value) -> PathBuf {
    let file = home.join("config.json");
    std::fs::write(&file, config.to_string()).unwrap();
    file
}

/// Where a listener was bound, from a log in text.
fn bound(running: &mut Running, listener: &str) -> SocketAddr {
    let begin = format!("bound listener=\"{listener}\" address=\"");
    running.until(&format!("listener {listener}"), |running| {
        let log = running.stderr();
        let (_, rest) = log.rsplit_once(&begin)?;
        rest.split('"').next()?.parse().ok()
    })
}

fn state() -> Value {
    json!({
        "slaves": [{"id": "20140803-S0", "hostname": "a0", "pid": "slave(1)@10.0.1.10:5051"}],
        "frameworks": [{"id": "f-0", "name": "marathon", "pid": "scheduler-1@10.0.0.5:15101", "hostname": "m",
                        "active": true, "connected": true, "tasks": [task("web.1")]}],
    })
}

fn task(id: &str) -> Value {
    json!({"id": id, "name": "web", "framework_id": "f-0", "slave_id": "20140803-S0", "state": "TASK_RUNNING",
           "resources": {"ports": "[31000-31000]"},
           "statuses": [{"state": "TASK_RUNNING", "timestamp": 1.0}]})
}

#[test]
fn config_json_alone_is_enough() {
    block_on(async {
        let master = Master::start(state());
        let mut program = Program::start(&master, &json!({}), &[]);
        program.until_ready().await;
        assert_eq!(dns::addresses(program.dns, "web.marathon.mesos", RecordType::A).await, ["10.0.1.10"]);
        let missing = dns::ask(program.dns, "no.marathon.mesos", RecordType::A).await;
        assert_eq!(missing.response_code, ResponseCode::NXDomain);
        let hosts = http::json(program.http, "/v1/hosts/web.marathon.mesos").await;
        assert_eq!(hosts, json!([{"host": "web.marathon.mesos.", "ip": "10.0.1.10"}]));
        let services = http::json(program.http, "/v1/services/_web._tcp.marathon.mesos").await;
        assert_eq!((&services[0]["port"], &services[0]["ip"]), (&json!("31000"), &json!("10.0.1.10")));
        let none = http::json(program.http, "/v1/services/_no._tcp.marathon.mesos").await;
        assert_eq!(none, json!([{"service": "", "host": "", "ip": "", "port": ""}]));
        assert_eq!(http::json(program.http, "/v1/version").await["Service"], "Mesos-DNS");
        let enumerated = http::json(program.http, "/v1/enumerate").await;
        assert_eq!(enumerated["frameworks"][0]["tasks"][0]["id"], "web.1");
        let transfer = http::json(program.http, "/v1/axfr").await;
        assert_eq!(transfer["Records"]["As"]["web.marathon.mesos."], json!(["10.0.1.10"]));
        for path in ["/metrics", "/healthz", "/api/v1/sources"] {
            assert_eq!(http::get(program.http, "localhost", path).await.status, 200, "{path}");
        }
        assert_eq!(http::get(program.http, "localhost", "/v1/no").await.status, 404);
        let log = program.running.stderr();
        assert_eq!(log.matches("bound listener=").count(), 2, "listens elsewhere too:\n{log}");
        program.running.stop();
    });
}

#[test]
fn what_changes_is_followed() {
    block_on(async {
        let master = Master::start(state());
        let program = Program::start(&master, &json!({"EnumerationOn": false}), &["--compat", "strict"]);
        program.until_ready().await;
        let mut more = state();
        more["frameworks"][0]["tasks"][0]["resources"]["ports"] = json!("[31005-31005]");
        more["frameworks"][0]["tasks"].as_array_mut().unwrap().push(json!({"odd": []}));
        master.set_state(more);
        until("the other port", || async {
            let services = http::json(program.http, "/v1/services/_web._tcp.marathon.mesos").await;
            (services[0]["port"] == "31005").then_some(())
        })
        .await;
        assert_eq!(http::get(program.http, "localhost", "/v1/axfr").await.status, 404);
    });
}

#[test]
fn a_bad_file_ends_the_program_at_once() {
    let home = tempfile::tempdir().unwrap();
    let file = write(home.path(), &json!({"masters": ["10.0.0.1"], "ttl": "x"}));
    for command in [&["run", "--mesos-dns-config"][..], &["import", "mesos-dns"]] {
        let output = portolan(&[command, &[file.to_str().unwrap()]].concat());
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let told = text(&output.stdout);
        assert!(told.contains("masters: \"10.0.0.1\" is not HOST:PORT") && told.contains("ttl: "), "{told}");
    }
}

#[test]
fn what_is_imported_can_be_checked() {
    let home = tempfile::tempdir().unwrap();
    let config = json!({
        "ZK": "zk://10.0.0.1:2181,10.0.0.2:2181/mesos", "masters": ["10.0.0.1:5050"], "ttl": 30,
        "resolvers": ["169.254.169.254"], "zoneResolvers": {"corp": ["10.9.9.9"]}, "IPSources": ["host"],
    });
    let file = write(home.path(), &config);
    let output = portolan(&["import", "mesos-dns", file.to_str().unwrap(), "--mesos-dns-profile", "0.7"]);
    let toml = text(&output.stdout);
    assert!(output.status.success(), "{toml}{}", text(&output.stderr));
    for line in ["schema = \"mesos-dns\"", "profile = \"0.7\"", "ttl = \"30s\""] {
        assert!(toml.contains(line), "{line}\n{toml}");
    }
    let imported = home.path().join("portolan.toml");
    std::fs::write(&imported, &toml).unwrap();
    let output = portolan(&["check", imported.to_str().unwrap()]);
    assert!(output.status.success(), "{}{}\n{toml}", text(&output.stdout), text(&output.stderr));
}

/// The shared cases of the HTTP API, against the whole program.
#[test]
fn shared_cases_of_the_api_hold() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("fixtures/mesos-dns/http");
    let (mut wrong, mut asked) = (Vec::new(), 0);
    block_on(async {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let case = read(&path);
            let state = read(&folder.join(case["state"].as_str().unwrap()));
            let master = Master::start(state);
            let arguments = ["--compat", "strict", "--mesos-dns-profile", "0.7"];
            let program = Program::start(&master, &case["config"], &arguments);
            program.until_ready().await;
            for one in case["cases"].as_array().unwrap() {
                asked += 1;
                if let Some(what) = difference(&program, one).await {
                    wrong.push(format!("{} {}: {what}", path.display(), one["request"]));
                }
            }
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(asked > 5, "only {asked} requests");
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

async fn difference(program: &Program, case: &Value) -> Option<String> {
    let path = case["request"]["path"].as_str().unwrap();
    let headers: String = case["request"]["headers"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}: {}\r\n", value.as_str().unwrap()))
        .collect();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    let answer = http::request(program.http, &request).await.unwrap();
    let expect = &case["expect"];
    if expect["status"] != json!(answer.status) {
        return Some(format!("status {}", answer.status));
    }
    let kind = answer.header("content-type").unwrap_or_default();
    if expect["content_type"].as_str().is_some_and(|expected| !kind.starts_with(expected)) {
        return Some(format!("content type {kind}"));
    }
    let body = serde_json::from_str(&answer.body).unwrap_or(Value::String(answer.body.clone()));
    let (wanted, got) = (comparable(&expect["body"], path), comparable(&body, path));
    let holds = wanted.is_null() || fits(&wanted, &got);
    (!holds).then(|| format!("expected {wanted}, got {got}"))
}

/// `body` without what depends on where things listen here; lists that are sets are sorted.
fn comparable(body: &Value, path: &str) -> Value {
    let here = ["masters", "file", "port", "httpport"];
    match body {
        Value::Object(members) => {
            let members: BTreeMap<&String, Value> = members
                .iter()
                .filter(|(key, _)| !key.starts_with("master"))
                .filter(|(key, _)| !path.ends_with("/config") || !here.contains(&&*key.to_lowercase()))
                .map(|(key, value)| (key, comparable(value, path)))
                .collect();
            json!(members)
        }
        Value::Array(elements) => {
            let mut elements: Vec<Value> = elements.iter().map(|element| comparable(element, path)).collect();
            // Frameworks and tasks stand in the order in which the master tells of them.
            let is_listed =
                |element: &Value| element.get("tasks").or_else(|| element.get("records")).is_some();
            if !elements.iter().any(is_listed) {
                elements.sort_by_key(Value::to_string);
            }
            Value::Array(elements)
        }
        Value::String(text) => json!(text.trim_end()),
        other => other.clone(),
    }
}

/// Equal, where a placeholder is equal to anything.
fn fits(wanted: &Value, got: &Value) -> bool {
    match (wanted, got) {
        (Value::String(text), _) if text == "SERIAL" || text.starts_with('<') => true,
        (Value::Object(wanted), Value::Object(got)) => {
            wanted.len() == got.len()
                && wanted.iter().all(|(key, value)| got.get(key).is_some_and(|own| fits(value, own)))
        }
        (Value::Array(wanted), Value::Array(got)) => {
            wanted.len() == got.len() && wanted.iter().zip(got).all(|(wanted, got)| fits(wanted, got))
        }
        _ => wanted == got,
    }
}
