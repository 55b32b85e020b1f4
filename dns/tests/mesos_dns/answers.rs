//! Question → answer on the wire, as the shared cases have them, and what follows the RFCs in place of that.

use std::collections::BTreeSet;

use hickory_proto::op::{Edns, Message, OpCode, Query};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use portolan_dns::mesos_dns::{Compat, Profile, Settings};
use serde_json::{Value, json};

use crate::following::cluster;
use crate::site::{Site, cases, settings, shared, state_of};
use crate::state::changes;

pub(crate) fn packet(name: &str, rtype: &str, edns: Option<u16>) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = 1;
    message.metadata.recursion_desired = true;
    message.metadata.op_code = OpCode::Query;
    let mut asked = Name::from_ascii(name).unwrap();
    asked.set_fqdn(true);
    message.add_query(Query::query(asked, rtype.parse::<RecordType>().unwrap()));
    if let Some(size) = edns {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        message.edns = Some(edns);
    }
    message.to_vec().unwrap()
}

fn data(data: &RData) -> String {
    match data {
        RData::SOA(soa) => {
            let numbers = [soa.refresh, soa.retry, soa.expire].map(|n| n.to_string());
            format!("{} {} SERIAL {} {}", soa.mname, soa.rname, numbers.join(" "), soa.minimum)
        }
        other => other.to_string(),
    }
}

fn row(record: &Record) -> (String, String, u32, String) {
    (record.name.to_ascii(), record.record_type().to_string(), record.ttl, data(&record.data))
}

fn rows(records: &[Record]) -> BTreeSet<(String, String, u32, String)> {
    records.iter().map(row).collect()
}

fn expected_rows(records: &Value) -> BTreeSet<(String, String, u32, String)> {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let row = |row: &Value| {
        (text(row, "name"), text(row, "type"), row["ttl"].as_u64().unwrap() as u32, text(row, "data"))
    };
    records.as_array().unwrap().iter().map(row).collect()
}

/// What of `expect` the reply does not keep.
fn differences(reply: Option<&Message>, expect: &Value) -> Vec<String> {
    let Some(reply) = reply else {
        let silent = expect["no_reply"] == true;
        return if silent { Vec::new() } else { vec!["no reply".to_owned()] };
    };
    let mut wrong = Vec::new();
    let mut hold = |key: &str, got: Value| {
        if !expect[key].is_null() && expect[key] != got {
            wrong.push(format!("{key}: expected {}, got {got}", expect[key]));
        }
    };
    hold("no_reply", json!(false));
    hold(
        "rcode",
        json!(
            reply
                .metadata
                .response_code
                .to_str()
                .replace("No Error", "NOERROR")
                .replace("Non-Existent Domain", "NXDOMAIN")
        ),
    );
    hold("aa", json!(reply.metadata.authoritative));
    hold("ra", json!(reply.metadata.recursion_available));
    hold("rd", json!(reply.metadata.recursion_desired));
    hold("tc", json!(reply.metadata.truncation));
    hold("answer_count", json!(reply.answers.len()));
    hold("additional_count", json!(reply.additionals.len()));
    hold("opt", json!(reply.edns.is_some()));
    for (key, records) in
        [("answer", &reply.answers), ("authority", &reply.authorities), ("additional", &reply.additionals)]
    {
        if !expect[key].is_null() && expected_rows(&expect[key]) != rows(records) {
            wrong.push(format!("{key}: expected {:?}, got {:?}", expected_rows(&expect[key]), rows(records)));
        }
    }
    for one in expect["additional_any_of"].as_array().into_iter().flatten() {
        let of = |record: &&Record| {
            let (name, rtype, _, data) = row(record);
            one["name"] == json!(name)
                && one["type"] == json!(rtype)
                && one["data"].as_array().unwrap().contains(&json!(data))
        };
        let count = reply.additionals.iter().filter(of).count();
        if json!(count) != one["count"] {
            wrong.push(format!("additional: {count} of {one}"));
        }
    }
    if expect["additional"].is_array() && reply.edns.is_some() {
        wrong.push("an OPT record".to_owned());
    }
    wrong
}

#[test]
fn shared_cases_hold_under_strict() {
    let (mut wrong, mut asked) = (Vec::new(), 0);
    for (path, case) in cases("dns") {
        let profile = if case["profile"] == "0.8" { Profile::V0_8 } else { Profile::V0_7 };
        let (domain, settings) = settings(&case["config"], profile, Compat::Strict);
        let mut site = Site::new(&domain, settings);
        site.publisher.apply(changes(&state_of(&path, &case), &[], None));
        for one in case["cases"].as_array().unwrap() {
            let query = &one["query"];
            let edns = query["edns"].as_u64().map(|size| size as u16);
            let packet = packet(query["name"].as_str().unwrap(), query["type"].as_str().unwrap(), edns);
            let reply = site.reply(&packet, query["tcp"] == true);
            asked += 1;
            for what in differences(reply.as_ref(), &one["expect"]) {
                wrong.push(format!("{} {query}: {what}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(asked > 30 || shared("dns").is_none(), "only {asked} questions");
}

/// The data of the answer to a question over TCP, sorted.
pub(crate) fn text(site: &Site, name: &str, rtype: &str) -> Vec<String> {
    let reply = site.reply(&packet(name, rtype, Some(1232)), true).unwrap();
    let mut all: Vec<String> = reply.answers.iter().map(|record| data(&record.data)).collect();
    all.sort();
    all
}

fn site(compat: Compat) -> Site {
    let settings = Settings {
        compat,
        addresses: vec!["192.0.2.53".parse().unwrap()],
        reverse: true,
        ..Settings::of("mesos")
    };
    let mut site = Site::new("mesos", settings);
    site.publisher.apply(changes(
        &cluster(),
        &["10.0.0.1:5050".to_owned(), "10.0.0.2:5050".to_owned()],
        None,
    ));
    site
}

#[test]
fn names_are_those_of_the_program() {
    for compat in [Compat::Rfc, Compat::Strict] {
        let site = site(compat);
        for (name, rtype, data) in [
            ("web.marathon.mesos", "A", &["10.0.1.10", "10.0.1.11"][..]),
            ("web.marathon.slave.mesos", "A", &["10.0.1.10", "10.0.1.11"]),
            ("store.db.data.mesos", "A", &["10.0.1.11"]),
            ("store-db.data.mesos", "A", &["10.0.1.11"]),
            ("marathon.mesos", "A", &["10.0.0.5"]),
            ("_framework._tcp.marathon.mesos", "SRV", &["0 1 15101 marathon.mesos."]),
            ("_framework._tcp.data.mesos", "SRV", &[]),
            ("data.mesos", "A", &["10.0.0.6"]),
            ("slave.mesos", "A", &["10.0.1.10", "10.0.1.11"]),
            ("_slave._tcp.mesos", "SRV", &["0 1 5051 slave.mesos."]),
            ("leader.mesos", "A", &["10.0.0.1"]),
            ("master.mesos", "A", &["10.0.0.1", "10.0.0.2"]),
            ("master1.mesos", "A", &["10.0.0.2"]),
            ("_leader._udp.mesos", "SRV", &["0 1 5050 leader.mesos."]),
            ("ns1.mesos", "A", &["192.0.2.53"]),
            ("_sql._store-db._tcp.data.mesos", "SRV", &["0 1 5432 store-db-pywqm-s1.data.mesos."]),
        ] {
            let got = text(&site, name, rtype);
            // The hash of a task is not told by looking.
            let like = |data: &str| {
                data.replace("pywqm", got.first().map_or("", |g| g).split('-').nth(2).unwrap_or_default())
            };
            assert_eq!(got, data.iter().map(|data| like(data)).collect::<Vec<_>>(), "{name} {rtype}");
        }
    }
}

#[test]
fn where_the_rfcs_are_followed_the_program_is_not() {
    let (rfc, strict) = (site(Compat::Rfc), site(Compat::Strict));
    let shape = |site: &Site, name: &str, rtype: &str| {
        let reply = site.reply(&packet(name, rtype, Some(1232)), false).unwrap();
        let owner = reply.authorities.first().map_or_else(String::new, |record| record.name.to_string());
        (reply.metadata.response_code.low(), reply.answers.len(), owner, reply.edns.is_some())
    };
    for (name, rtype, by_rfc, by_program) in [
        ("no.mesos", "A", (3, 0, "mesos."), (3, 0, "no.mesos.")),
        ("no.mesos", "SRV", (3, 0, "mesos."), (0, 0, "")),
        ("web.marathon.mesos", "SRV", (0, 0, "mesos."), (0, 0, "")),
        ("web.marathon.mesos", "AAAA", (0, 0, "mesos."), (0, 0, "web.marathon.mesos.")),
        ("marathon.slave.mesos", "A", (0, 0, "mesos."), (3, 0, "marathon.slave.mesos.")),
        ("mesos", "SOA", (0, 1, ""), (0, 0, "mesos.")),
        ("mesos", "NS", (0, 1, ""), (0, 0, "mesos.")),
        ("mesos", "A", (0, 0, "mesos."), (3, 0, "mesos.")),
        ("web.marathon.mesos", "ANY", (0, 1, ""), (0, 2, "web.marathon.mesos.")),
        ("web.*.marathon.mesos", "A", (3, 0, "mesos."), (0, 2, "")),
    ] {
        let (code, count, owner) = by_rfc;
        assert_eq!(shape(&rfc, name, rtype), (code, count, owner.to_owned(), true), "{name} {rtype}");
        let (code, count, owner) = by_program;
        assert_eq!(shape(&strict, name, rtype), (code, count, owner.to_owned(), false), "{name} {rtype}");
    }
}

#[test]
fn reverse_names_are_unambiguous() {
    for compat in [Compat::Rfc, Compat::Strict] {
        let site = site(compat);
        assert_eq!(text(&site, "10.1.0.10.in-addr.arpa", "PTR"), ["web.marathon.mesos."]);
        assert_eq!(text(&site, "11.1.0.10.in-addr.arpa", "PTR"), Vec::<String>::new());
        let foreign = site.reply(&packet("1.2.0.192.in-addr.arpa", "PTR", None), false);
        assert_eq!(foreign.is_some(), compat == Compat::Strict, "{compat:?}");
    }
}
