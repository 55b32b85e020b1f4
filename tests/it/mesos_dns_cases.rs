//! Cases of Mesos-DNS that several projects share, against the whole program: a state goes in by a master, names come out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use crate::support::mesos::{Master, Program};
use crate::support::{block_on, http, shared};

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

/// Records by name and type.
type Zone = BTreeMap<(String, String), BTreeSet<String>>;

/// The shared cases of records, by way of a master's `/state` and the event loop of the source.
#[test]
fn shared_cases_of_records_hold() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("fixtures/mesos-dns/records");
    let (mut wrong, mut rows) = (Vec::new(), 0);
    block_on(async {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let case = read(&path);
            let mut state = read(&folder.join(case["state"].as_str().unwrap()));
            if let Some(leader) = case["leader_override"].as_str() {
                state["leader"] = json!(leader);
            }
            let master = Master::start(state);
            for profile in ["0.7", "0.8"] {
                let arguments = ["--compat", "strict", "--mesos-dns-profile", profile];
                let program = Program::start(&master, &case["config"], &arguments);
                program.until_ready().await;
                let (wanted, served) = (expected(&case, profile), served(&program).await);
                rows += wanted.len();
                for (key, data) in &wanted {
                    if served.get(key) != Some(data) {
                        wrong.push(format!(
                            "{} {profile}: {key:?}: {data:?}, not {:?}",
                            path.display(),
                            served.get(key)
                        ));
                    }
                }
            }
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows > 1000, "only {rows} record sets");
}

/// The case's records but for those that go by where master and server listen, and what is not part of a transfer.
fn expected(case: &Value, profile: &str) -> Zone {
    let unspecified = case["unspecified_names"].as_array().cloned().unwrap_or_default();
    let is_here =
        |name: &str| name.starts_with("master") || name.starts_with("leader.") || name.starts_with("ns1.");
    let rows = [&case["expect"], &case["expect_profile"][profile]];
    let rows = rows.into_iter().filter_map(Value::as_array).flatten();
    let mut zone = Zone::new();
    for row in rows.filter(|row| row["type"] != "PTR" && !unspecified.contains(&row["name"])) {
        let name = row["name"].as_str().unwrap();
        if !is_here(name) {
            let data = row["data"].as_array().unwrap().iter().map(|data| data.as_str().unwrap().to_owned());
            zone.entry((name.to_owned(), row["type"].as_str().unwrap().to_owned())).or_default().extend(data);
        }
    }
    zone
}

/// The zone as `/v1/axfr` gives it.
async fn served(program: &Program) -> Zone {
    let transfer = http::json(program.http, "/v1/axfr").await;
    let mut zone = Zone::new();
    for (part, kind) in [("As", "A"), ("AAAAs", "AAAA"), ("SRVs", "SRV")] {
        for (name, data) in transfer["Records"][part].as_object().unwrap() {
            let data = data.as_array().unwrap().iter().map(|data| {
                let data = data.as_str().unwrap();
                match data.rsplit_once(':').filter(|_| kind == "SRV") {
                    Some((target, port)) => format!("0 1 {port} {target}"),
                    None => data.to_owned(),
                }
            });
            zone.insert((name.clone(), kind.to_owned()), data.collect());
        }
    }
    zone
}
