//! Single rules of the schema: labels, numbers of masters.

use std::path::PathBuf;

use portolan_table::{Contact, Masters};
use serde_json::Value;

use super::label::Rule;
use super::record::{self, RecordData};

/// A shared case file, if its folder lies beside this project.
fn shared(file: &str) -> Option<Value> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("PORTOLAN_SHARED").map_or_else(beside, PathBuf::from);
    let text = std::fs::read_to_string(shared.join("fixtures/mesos-dns/unit").join(file)).ok()?;
    Some(serde_json::from_str(&text).unwrap())
}

#[test]
fn labels_are_the_programs() {
    let (rfc1123, rfc952) = (Rule::new(false), Rule::new(true));
    assert_eq!(rfc1123.label("app.group.tenant"), "app-group-tenant");
    assert_eq!(rfc1123.label("---a---"), "a");
    assert_eq!((rfc1123.label("4abc123"), rfc952.label("4abc123")), ("4abc123".into(), "abc123".into()));
    assert_eq!(
        rfc1123.fragment("pod_123$abc.marathon-0.6.0-dev.mesos"),
        "pod-123abc.marathon-0.6.0-dev.mesos"
    );
    assert_eq!(rfc952.fragment("pod_123$abc.marathon-0.6.0-dev.mesos"), "pod-123abc.marathon-0.dev.mesos");
    let mut wrong = Vec::new();
    for case in shared("labels.json").iter().flat_map(|cases| cases["cases"].as_array().unwrap()) {
        let rule = if case["spec"] == "RFC952" { rfc952 } else { rfc1123 };
        let given = case["in"].as_str().unwrap();
        let made = if case["function"] == "label" { rule.label(given) } else { rule.fragment(given) };
        if case["out"] != made.as_str() {
            wrong.push(format!("{case}: {made}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn contact(text: &str) -> Option<Contact> {
    let address: std::net::SocketAddr = text.parse().ok()?;
    let addresses = [address.ip()].into_iter().collect();
    Some(Contact { host: address.ip().to_string().into(), addresses, port: address.port() })
}

#[test]
fn masters_are_numbered_as_the_program_does() {
    for case in shared("master-records.json").iter().flat_map(|cases| cases["cases"].as_array().unwrap()) {
        let leader = case["leader"].as_str().unwrap().split_once('@').and_then(|(_, at)| contact(at));
        let listed = case["masters"].as_array().unwrap().iter();
        let listed = listed.filter_map(|master| contact(master.as_str().unwrap())).collect();
        let mut records = Vec::new();
        record::masters(&Masters { leader, listed }, &mut records);
        let mut made: Vec<String> = records
            .iter()
            .map(|record| match &record.data {
                RecordData::Address(ip) => format!("{}.foo.com. {ip}", record.owner),
                RecordData::Srv(port, target) => {
                    format!("{}.foo.com. 0 1 {port} {target}.foo.com.", record.owner)
                }
                RecordData::Pointer(_) => panic!("no master has one"),
            })
            .collect();
        let row = |row: &Value| {
            let name = row["name"].as_str().unwrap().to_owned();
            let data = row["data"].as_array().unwrap().clone();
            data.into_iter().map(move |data| format!("{name} {}", data.as_str().unwrap()))
        };
        let mut expected: Vec<String> = case["expect"].as_array().unwrap().iter().flat_map(row).collect();
        made.sort();
        expected.sort();
        assert_eq!(made, expected, "case {}", case["id"]);
    }
}
