//! Real input: Marathon's answers from the conformance cases of Marathon-LB, and some of our own, given to a whole node
//! by a plain HTTP fake. Each backend that a case expects must be an endpoint at the same address, each task that
//! it leaves out must be out, and DNS must answer with exactly the admitted addresses.
//!
//! Marathon-LB departs from Portolan's rule of admission in the ways of [`Departure`] and in no other; for such a task
//! Portolan's rule is asserted. Groups, labels and vhosts of the cases decide which services Marathon-LB exposes; the table
//! holds all of them, so they play no part here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use hickory_proto::rr::RecordType;
use serde_json::{Value, json};

use crate::support::marathon::Fake;
use crate::support::node::{TestNode, marathon};
use crate::support::{block_on, dns, http, shared, until};

/// What is known to be in the shared cases; fewer compared would mean that cases are lost on the way.
const SHARED: Counts = Counts { cases: 100, services: 150, backends: 193, refused: 22 };

/// What was compared.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    cases: usize,
    services: usize,
    backends: usize,
    refused: usize,
}

impl Counts {
    fn covers(self, other: Self) -> bool {
        self.cases >= other.cases
            && self.services >= other.services
            && self.backends >= other.backends
            && self.refused >= other.refused
    }
}

/// Where Marathon-LB sends traffic and Portolan does not.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Departure {
    /// Tasks that are lost or unreachable stay in.
    Unreachable,
    /// Verdicts of checks play no part, with `lb.health_check` off.
    HealthIgnored,
}

/// One case, its ids made unique by a prefix of the app ids and task ids.
struct Case {
    file: String,
    apps: Vec<Value>,
    pods: Vec<Value>,
    content: Value,
    prefix: String,
}

/// One endpoint as the admin side shows it.
#[derive(Debug)]
struct Row {
    service: String,
    port: usize,
    number: u16,
    address: SocketAddr,
    admitted: bool,
}

type Rows = BTreeMap<String, Vec<Row>>;

#[test]
fn every_shared_case_has_its_endpoints() {
    let Some(shared) = shared() else { return };
    let cases: Vec<Case> = read(&shared.join("fixtures/marathon-lb"))
        .into_iter()
        .enumerate()
        .map(|(n, (file, content))| Case::new(file, content, &format!("c{n:03}")))
        .collect();
    let (counts, departures) = block_on(compare(&cases));
    assert!(counts.covers(SHARED), "only {counts:?} of {SHARED:?}");
    assert!(
        departures.values().sum::<usize>() < counts.backends / 2,
        "exceptions, not the rule: {departures:?}"
    );
}

#[test]
fn every_case_of_our_own_has_its_endpoints() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/marathon");
    let mut seen = BTreeSet::new();
    for (file, content) in read(&directory) {
        let (counts, departures) = block_on(compare(&[Case::new(file.clone(), content, "")]));
        assert!(counts.backends > 0 && counts.refused > 0, "{file}: {counts:?}");
        assert_eq!(departures, BTreeMap::new(), "{file}: our own cases follow our own rule");
        seen.insert(file);
    }
    let wanted = ["bridge.json", "container.json", "host.json", "pod.json", "v6.json"];
    assert_eq!(seen, wanted.map(str::to_owned).into());
}

/// All routing cases of a directory, by file name.
fn read(directory: &Path) -> BTreeMap<String, Value> {
    let files = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    let parsed = files.filter(|path| path.extension().is_some_and(|end| end == "json")).map(|path| {
        let content: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        (path.file_name().unwrap().to_string_lossy().into_owned(), content)
    });
    parsed.filter(|(_, content)| content["expect"]["services"].is_object()).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

impl Case {
    fn new(file: String, content: Value, prefix: &str) -> Self {
        let mut case = Self {
            file,
            apps: list(&content["apps"]).cloned().collect(),
            pods: list(&content["pods"]).cloned().collect(),
            content,
            prefix: prefix.to_owned(),
        };
        assert!(case.content["previous"].is_null(), "{}: history is not played", case.file);
        let mut apps = std::mem::take(&mut case.apps);
        for app in &mut apps {
            let id = json!(case.app_id(text(&app["id"])));
            app["id"] = id.clone();
            for task in app["tasks"].as_array_mut().into_iter().flatten() {
                task["id"] = json!(case.task_id(text(&task["id"])));
                if task["appId"].is_string() {
                    task["appId"] = id.clone();
                }
                let host = text(&task["host"]).to_owned();
                task["host"] = json!(case.host(&host));
            }
        }
        case.apps = apps;
        case
    }

    fn app_id(&self, id: &str) -> String {
        if self.prefix.is_empty() { id.to_owned() } else { format!("/{}{id}", self.prefix) }
    }

    fn task_id(&self, id: &str) -> String {
        if self.prefix.is_empty() { id.to_owned() } else { format!("{}-{id}", self.prefix) }
    }

    /// What stands for an agent's name: its address in the case, else a name that nobody can resolve.
    fn host(&self, name: &str) -> String {
        match self.content["lb"]["dns"][name].as_str() {
            Some(address) => address.to_owned(),
            None if name.parse::<IpAddr>().is_ok() => name.to_owned(),
            None => format!("{name}.invalid"),
        }
    }

    /// The app and the task of an id.
    fn task(&self, id: &str) -> Option<(&Value, &Value)> {
        self.apps.iter().find_map(|app| Some((app, list(&app["tasks"]).find(|task| task["id"] == id)?)))
    }

    /// Apps whose tasks a service is made of: its own, or all of the deployment group it is named after.
    fn apps_of<'c>(&'c self, service: &'c Value) -> impl Iterator<Item = &'c Value> {
        let id = text(&service["app"]);
        self.apps.iter().filter(move |app| match app["labels"]["HAPROXY_DEPLOYMENT_GROUP"].as_str() {
            Some(group) => group.trim_matches('/') == id.trim_matches('/'),
            None => app["id"] == self.app_id(id),
        })
    }
}

/// Whether Portolan's rule lets a task in: written anew from the table of admission.
fn is_admitted(app: &Value, task: &Value) -> bool {
    let judged = list(&app["healthChecks"]).next().is_some();
    let unhealthy = |task: &Value| verdict(task) == Some(false);
    let running = || list(&app["tasks"]).filter(|task| is_running(task));
    is_running(task)
        && (!judged || verdict(task) == Some(true) || (unhealthy(task) && running().all(unhealthy)))
}

/// Marathon before 1.0 told no state: a task with a time of its start runs, and so does one that tells nothing.
fn is_running(task: &Value) -> bool {
    match task["state"].as_str() {
        Some(state) => state == "TASK_RUNNING",
        None => !task["startedAt"].is_null() || task["stagedAt"].is_null(),
    }
}

/// One passing result is enough; no result is no verdict.
fn verdict(task: &Value) -> Option<bool> {
    let mut results = list(&task["healthCheckResults"]).filter_map(|result| result["alive"].as_bool());
    let first = results.next()?;
    Some(first || results.any(|alive| alive))
}

/// Serves all cases to one node at once and compares each.
async fn compare(cases: &[Case]) -> (Counts, BTreeMap<Departure, usize>) {
    let fake = Fake::start(cases.iter().flat_map(|case| case.apps.clone()).collect());
    fake.set_pods(cases.iter().flat_map(|case| case.pods.clone()).collect());
    let node = TestNode::start(&marathon(&fake.url()), "").await;
    until("a whole list", || async {
        (http::get(node.admin(), "localhost", "/readyz").await.status == 200).then_some(())
    })
    .await;
    let rows = rows(node.admin()).await;
    let (mut counts, mut departures) = (Counts::default(), BTreeMap::new());
    for case in cases {
        counts.cases += 1;
        for (name, service) in case.content["expect"]["services"].as_object().unwrap() {
            counts.services += 1;
            expect_backends(case, name, service, &rows, &mut counts, &mut departures);
            expect_no_others(case, name, service, &rows);
        }
        expect_refusals(case, &rows, &mut counts);
        expect_rule(case, &rows);
    }
    expect_answers(node.dns(), &rows).await;
    fake.kill();
    node.stop().await;
    (counts, departures)
}

/// All endpoints, by instance.
async fn rows(admin: SocketAddr) -> Rows {
    let services = http::json(admin, "/api/v1/services").await;
    let ports: BTreeMap<&str, &Value> =
        list(&services["services"]).map(|service| (text(&service["name"]), &service["ports"])).collect();
    let endpoints = http::json(admin, "/api/v1/endpoints").await;
    assert_eq!(services["generation"], endpoints["generation"]);
    let mut rows = Rows::new();
    for endpoint in list(&endpoints["endpoints"]) {
        let (service, port) = (text(&endpoint["service"]), text(&endpoint["port"]));
        let index = port.parse::<u64>().ok();
        let port = list(ports[service])
            .find(|row| row["name"] == port || (index.is_some() && row["index"].as_u64() == index));
        let port = port.unwrap_or_else(|| panic!("a port that its service does not have: {endpoint}"));
        let row = Row {
            service: service.to_owned(),
            port: usize::try_from(port["index"].as_u64().unwrap()).unwrap(),
            number: u16::try_from(port["number"].as_u64().unwrap()).unwrap(),
            address: text(&endpoint["address"]).parse().unwrap(),
            admitted: endpoint["admitted"].as_bool().unwrap(),
        };
        rows.entry(text(&endpoint["instance"]).to_owned()).or_default().push(row);
    }
    rows
}

/// Whether an endpoint is on the port that a service is made of: by number, or by the label that gives another.
/// `None`: the number was assigned by Marathon-LB out of a range, as the app has none.
fn is_on_port(app: &Value, row: &Row, service_port: u64) -> Option<bool> {
    let moved = app["labels"][format!("HAPROXY_{}_PORT", row.port)].as_str();
    match (moved.and_then(|port| port.parse::<u64>().ok()), row.number) {
        (Some(moved), _) => Some(service_port == moved),
        (None, 0) if service_port != 0 => None,
        (None, number) => Some(service_port == u64::from(number)),
    }
}

/// Each backend is an endpoint at that address and port, and admitted unless by a known departure.
fn expect_backends(
    case: &Case,
    name: &str,
    service: &Value,
    rows: &Rows,
    counts: &mut Counts,
    departures: &mut BTreeMap<Departure, usize>,
) {
    let service_port = service["service_port"].as_u64().unwrap();
    for backend in list(&service["backends"]) {
        counts.backends += 1;
        let id = case.task_id(text(&backend["task"]));
        let address: SocketAddr = text(&backend["addr"]).parse().unwrap();
        let found = rows.get(&id).into_iter().flatten();
        let nothing = Value::Null;
        let (app, task) = case.task(&id).unwrap_or((&nothing, &nothing));
        let row = found
            .filter(|row| row.address == address)
            .find(|row| is_on_port(app, row, service_port) != Some(false))
            .unwrap_or_else(|| {
                panic!("{}: {name}: {id} is not at {address}: {:?}", case.file, rows.get(&id))
            });
        if !row.admitted {
            let departure = match task["state"].as_str() {
                Some("TASK_LOST" | "TASK_UNREACHABLE") => Departure::Unreachable,
                _ if case.content["lb"]["health_check"] == false && verdict(task) != Some(true) => {
                    Departure::HealthIgnored
                }
                _ => panic!("{}: {name}: {id} at {address} is not admitted", case.file),
            };
            *departures.entry(departure).or_default() += 1;
        }
    }
}

/// No task has traffic on a service's port that is not among its backends.
fn expect_no_others(case: &Case, name: &str, service: &Value, rows: &Rows) {
    let backends: BTreeSet<(String, SocketAddr)> = list(&service["backends"])
        .map(|backend| (case.task_id(text(&backend["task"])), text(&backend["addr"]).parse().unwrap()))
        .collect();
    let service_port = service["service_port"].as_u64().unwrap();
    for app in case.apps_of(service) {
        for task in list(&app["tasks"]) {
            let id = text(&task["id"]);
            for row in rows.get(id).into_iter().flatten() {
                if row.admitted && is_on_port(app, row, service_port) == Some(true) {
                    let listed = backends.contains(&(id.to_owned(), row.address));
                    assert!(listed, "{}: {name}: {id} at {} is not expected", case.file, row.address);
                }
            }
        }
    }
}

/// Tasks that a case leaves out by themselves, rather than with their service, get no traffic.
fn expect_refusals(case: &Case, rows: &Rows, counts: &mut Counts) {
    for unrouted in list(&case.content["expect"]["unrouted"]) {
        let (reason, Some(task)) = (text(&unrouted["reason"]), unrouted["task"].as_str()) else { continue };
        if reason == "no matching service port" {
            // Marathon-LB's range had no number left; the table needs none.
            continue;
        }
        counts.refused += 1;
        let found = rows.get(&case.task_id(task));
        let in_traffic = found.into_iter().flatten().any(|row| row.admitted);
        assert!(!in_traffic, "{}: {task} has traffic in spite of: {reason}", case.file);
        let has_endpoint = found.is_some_and(|rows| !rows.is_empty());
        assert!(reason != "no address or no ports" || !has_endpoint, "{}: {task}: {found:?}", case.file);
    }
}

/// Exposed or not: every task is in or out by the rule.
fn expect_rule(case: &Case, rows: &Rows) {
    for app in &case.apps {
        for task in list(&app["tasks"]) {
            for row in rows.get(text(&task["id"])).into_iter().flatten() {
                assert_eq!(row.admitted, is_admitted(app, task), "{}: {task}", case.file);
            }
        }
    }
}

/// DNS names exactly the admitted addresses of each service.
async fn expect_answers(server: SocketAddr, rows: &Rows) {
    let mut services: BTreeMap<&str, BTreeSet<IpAddr>> = BTreeMap::new();
    for row in rows.values().flatten() {
        let admitted = services.entry(&row.service).or_default();
        if row.admitted {
            admitted.insert(row.address.ip());
        }
    }
    for (service, admitted) in services {
        let name = format!("{service}.svc.cluster");
        for (kind, v4) in [(RecordType::A, true), (RecordType::AAAA, false)] {
            let found: BTreeSet<IpAddr> =
                dns::addresses(server, &name, kind).await.iter().map(|text| text.parse().unwrap()).collect();
            let wanted = admitted.iter().copied().filter(|ip| ip.is_ipv4() == v4).collect();
            assert_eq!(found, wanted, "{name} {kind}");
        }
    }
}
