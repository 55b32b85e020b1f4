//! Conversion against samples in `fixtures/`: each `<name>.json` and what becomes of it in `<name>.txt`.

use core::fmt::Write;

use portolan_table::Instance;
use serde_json::value::RawValue;

use super::super::convert::{self, Context, Converted, Interned};
use super::super::pod::{self, Older};
use super::endpoints;
use crate::hosts::{Addresses, Hosts};

struct Known;

impl Hosts for Known {
    fn addresses(&self, name: &str) -> Addresses {
        (name == "agent-two").then(|| [10, 0, 0, 2].into()).into_iter().collect()
    }
}

fn convert_with<T>(convert: impl FnOnce(&mut Context<'_>) -> T) -> (T, Vec<String>) {
    let names = Interned::default();
    let mut context = Context { hosts: &Known, names: &names, problems: Vec::new() };
    let converted = convert(&mut context);
    (converted, context.problems)
}

fn render(out: &mut String, (converted, problems): (Result<Converted, String>, Vec<String>)) {
    let converted = match converted {
        Ok(converted) => converted,
        Err(error) => return writeln!(out, "left out: {error}").unwrap(),
    };
    let spec = &converted.spec;
    let checks = if spec.checks_defined { " checked" } else { "" };
    let soon = if converted.unsettled { " unsettled" } else { "" };
    writeln!(out, "{} = {}{checks}{soon}", spec.key, spec.name).unwrap();
    for (index, port) in spec.ports.iter().enumerate() {
        let name = port.name.as_deref().unwrap_or("-");
        write!(out, "  port {index} {name} {}/{}", port.number, port.protocol.as_str()).unwrap();
        for (label, value) in port.labels.iter() {
            write!(out, " {label}={value}").unwrap();
        }
        out.push('\n');
    }
    for instance in &converted.instances {
        render_instance(out, instance);
    }
    for problem in problems {
        writeln!(out, "  problem: {problem}").unwrap();
    }
}

fn render_instance(out: &mut String, instance: &Instance) {
    write!(out, "  {} {} {}", instance.id, instance.state.as_str(), instance.health.as_str()).unwrap();
    for (endpoint, at) in instance.endpoints.iter().zip(endpoints(instance)) {
        write!(out, " {}={at}", endpoint.port_index).unwrap();
    }
    let others = instance.addresses.iter().enumerate();
    for (at, address) in others {
        if !instance.endpoints.iter().any(|endpoint| usize::from(endpoint.address_index) == at) {
            write!(out, " ({})", address.ip).unwrap();
        }
    }
    for (what, value) in
        [("zone", &instance.zone), ("region", &instance.region), ("correlation", &instance.correlation)]
    {
        if let Some(value) = value {
            write!(out, " {what}={value}").unwrap();
        }
    }
    if instance.started_ms != 0 && instance.started_ms < 10_000 {
        write!(out, " started={}ms", instance.started_ms).unwrap();
    }
    out.push('\n');
}

fn apps(text: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Apps<'a> {
        #[serde(borrow)]
        apps: Vec<&'a RawValue>,
    }
    let list: Apps<'_> = serde_json::from_str(text).unwrap();
    let mut out = String::new();
    for raw in list.apps {
        let app = serde_json::from_str(raw.get()).unwrap();
        render(&mut out, convert_with(|context| convert::app(&app, context)));
    }
    out
}

#[test]
fn every_networking_mode_gives_its_addresses() {
    assert_eq!(apps(include_str!("../fixtures/networking.json")), include_str!("../fixtures/networking.txt"));
}

#[test]
fn states_verdicts_and_readiness_are_read() {
    assert_eq!(apps(include_str!("../fixtures/states.json")), include_str!("../fixtures/states.txt"));
}

#[test]
fn pods_are_services_whose_endpoints_are_ports() {
    let list: Vec<&RawValue> = serde_json::from_str(include_str!("../fixtures/pods.json")).unwrap();
    // The version that instance 2 runs listened elsewhere.
    let older =
        br#"{"version": "2026-03-01T00:00:00.000Z", "networks": [{"mode": "container", "name": "dcos"}],
        "containers": [{"name": "app", "endpoints": [{"name": "http", "containerPort": 7070}]}]}"#;
    let mut out = String::new();
    for raw in list {
        let status = serde_json::from_str(raw.get()).unwrap();
        let versions = pod::older_versions(&status);
        let older: Older = versions.into_iter().map(|version| (version, older.to_vec())).collect();
        render(&mut out, convert_with(|context| pod::pod(&status, &older, context)));
    }
    assert_eq!(out, include_str!("../fixtures/pods.txt"));
}
