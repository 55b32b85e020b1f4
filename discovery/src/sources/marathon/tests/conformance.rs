//! The conformance cases of Marathon-LB, where they lie beside the repository: for each service that a case exposes, the
//! same backends at the same addresses.
//!
//! What is left to others: which services are exposed (groups, labels, strict mode), how vhosts route, which server is
//! draining. Where Marathon-LB differs from Portolan's own rule of admission, its rule is applied here: unreachable and
//! lost tasks are routable, and verdicts count only with `health_check`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use portolan_table::{Health, Instance, InstanceState};
use serde_json::Value;

use super::super::convert::{self, Context, Converted, Interned};
use super::endpoints;
use crate::hosts::{Addresses, Hosts};

/// `lb.dns` of a case.
struct Names<'c>(&'c Value);

impl Hosts for Names<'_> {
    fn addresses(&self, name: &str) -> Addresses {
        self.0[name].as_str().and_then(|ip| ip.parse().ok()).into_iter().collect()
    }
}

fn directory() -> PathBuf {
    let shared = std::env::var_os("PORTOLAN_SHARED").map(PathBuf::from);
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    shared.unwrap_or_else(beside).join("fixtures/marathon-lb")
}

/// All routing cases, by file name; none if they are not there.
fn cases() -> BTreeMap<String, Value> {
    let Ok(files) = std::fs::read_dir(directory()) else { return BTreeMap::new() };
    let paths =
        files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
    let case = |path: PathBuf| {
        let case: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        (path.file_name().unwrap().to_string_lossy().into_owned(), case)
    };
    paths.map(case).filter(|(_, case)| case["expect"]["services"].is_object()).collect()
}

fn convert_all(apps: &Value, names: &Names<'_>, interned: &Interned) -> BTreeMap<String, (Value, Converted)> {
    let mut all = BTreeMap::new();
    for app in apps.as_array().unwrap() {
        let text = app.to_string();
        let wire = serde_json::from_str(&text).unwrap();
        let mut context = Context { hosts: names, names: interned, problems: Vec::new() };
        let converted = convert::app(&wire, &mut context).unwrap();
        all.insert(app["id"].as_str().unwrap().to_owned(), (app.clone(), converted));
    }
    all
}

/// Whether Marathon-LB would send traffic to this instance, as far as its state and verdict go.
fn routable(case: &Value, converted: &Converted, instance: &Instance, before: Option<Health>) -> bool {
    let up = matches!(instance.state, InstanceState::Running | InstanceState::Unreachable);
    let judged = case["lb"]["health_check"] == true && converted.spec.checks_defined;
    let verdict = if instance.health == Health::Unknown { before } else { Some(instance.health) };
    up && (!judged || verdict == Some(Health::Healthy))
}

/// The indexes of the ports that make up a service: by number, by the label that moves it, else all (its
/// number was assigned by Marathon-LB).
fn port_indexes(app: &Value, converted: &Converted, service_port: u64) -> (Vec<usize>, bool) {
    let ports = converted.spec.ports.iter().enumerate();
    let moved = |n: usize| {
        let label =
            app["labels"][format!("HAPROXY_{n}_PORT")].as_str().and_then(|port| port.parse::<u64>().ok());
        label == Some(service_port)
    };
    let found: Vec<usize> = ports
        .filter(|(n, port)| u64::from(port.number) == service_port || moved(*n))
        .map(|(n, _)| n)
        .collect();
    if found.is_empty() { ((0..converted.spec.ports.len()).collect(), false) } else { (found, true) }
}

#[test]
fn every_exposed_service_has_its_backends() {
    let cases = cases();
    let mut services = 0;
    for (file, case) in &cases {
        let names = Names(&case["lb"]["dns"]);
        let interned = Interned::default();
        let mut verdicts: BTreeMap<String, Health> = BTreeMap::new();
        for earlier in case["previous"].as_array().into_iter().flatten() {
            let apps = if earlier.is_array() { earlier } else { &earlier["apps"] };
            for (_, converted) in convert_all(apps, &names, &interned).values() {
                let told = converted.instances.iter().filter(|i| i.health != Health::Unknown);
                verdicts.extend(told.map(|i| (i.id.to_string(), i.health)));
            }
        }
        let apps = convert_all(&case["apps"], &names, &interned);
        let mut left_over: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (name, service) in case["expect"]["services"].as_object().unwrap() {
            let wanted: BTreeSet<String> = service["backends"]
                .as_array()
                .unwrap()
                .iter()
                .map(|backend| backend["addr"].as_str().unwrap().to_owned())
                .collect();
            let id = service["app"].as_str().unwrap();
            let of_service = |(other, (app, _)): &(&String, &(Value, Converted))| {
                let group = app["labels"]["HAPROXY_DEPLOYMENT_GROUP"].as_str();
                group.map_or_else(
                    || *other == id,
                    |group| group.trim_start_matches('/') == id.trim_start_matches('/'),
                )
            };
            let mut found = BTreeSet::new();
            let mut exact = true;
            for (_, (app, converted)) in apps.iter().filter(of_service) {
                let (indexes, by_number) =
                    port_indexes(app, converted, service["service_port"].as_u64().unwrap());
                exact &= by_number;
                for instance in &converted.instances {
                    let before = verdicts.get(&*instance.id).copied();
                    if routable(case, converted, instance, before) {
                        let all = instance.endpoints.iter().zip(endpoints(instance));
                        found.extend(
                            all.filter(|(e, _)| indexes.contains(&usize::from(e.port_index)))
                                .map(|(_, at)| at),
                        );
                    }
                }
            }
            if exact {
                assert_eq!(found, wanted, "{file}: {name}");
            } else {
                // Marathon-LB hands out ports of its own here; together they must be all that was found.
                assert!(found.is_superset(&wanted), "{file}: {name}: {wanted:?} not in {found:?}");
                let rest = left_over.entry(id).or_insert(found);
                rest.retain(|at| !wanted.contains(at));
            }
            services += 1;
        }
        for (id, rest) in left_over {
            let none_free = case["expect"]["unrouted"].as_array().into_iter().flatten();
            let none_free =
                none_free.filter(|u| u["app"] == id && u["reason"] == "no matching service port").count();
            assert!(rest.is_empty() || none_free > 0, "{file}: {id}: {rest:?} is not in any service");
        }
        unrouted(file, case, &apps, &verdicts);
    }
    assert!(cases.is_empty() || services > 100, "only {services} services in {} cases", cases.len());
}

/// Tasks that a case calls unroutable for reasons of their own are so here.
fn unrouted(
    file: &str,
    case: &Value,
    apps: &BTreeMap<String, (Value, Converted)>,
    verdicts: &BTreeMap<String, Health>,
) {
    for unrouted in case["expect"]["unrouted"].as_array().into_iter().flatten() {
        let reason = unrouted["reason"].as_str().unwrap();
        let own = reason.starts_with("state ")
            || ["no address or no ports", "not alive", "no passing health result known", "no host"]
                .contains(&reason);
        let (true, Some(task), Some(app)) = (own, unrouted["task"].as_str(), unrouted["app"].as_str()) else {
            continue;
        };
        let Some((_, converted)) = apps.get(app) else { continue };
        let Some(instance) = converted.instances.iter().find(|instance| *instance.id == *task) else {
            continue;
        };
        let in_traffic = routable(case, converted, instance, verdicts.get(task).copied());
        assert!(
            !in_traffic || instance.endpoints.is_empty(),
            "{file}: {task} has traffic in spite of: {reason}"
        );
    }
}
