//! What a real Consul 1.10 answered, where the recordings lie beside the repository.

use std::path::PathBuf;

use portolan_table::{Health, InstanceState};
use serde_json::Value;

use super::super::convert::{Converted, convert};
use super::super::wire::{Entries, Entry};
use super::fake::entry;
use crate::hosts::{Addresses, Hosts};
use crate::sources::told::endpoints;

struct Known;

impl Hosts for Known {
    fn addresses(&self, name: &str) -> Addresses {
        let found = (name == "db.example.com").then(|| [203, 0, 113, 5].into());
        found.into_iter().collect()
    }
}

fn recorded(name: &str) -> Option<Vec<u8>> {
    let shared = std::env::var_os("PORTOLAN_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"));
    let folder = shared.join("fixtures/captures/consul");
    folder.exists().then(|| std::fs::read(folder.join(name)).unwrap())
}

fn read(service: &str, body: &[u8]) -> Converted {
    let entries: Entries<'_> = serde_json::from_slice(body).unwrap();
    let entries: Vec<Result<Entry<'_>, String>> =
        entries.iter().map(|entry| serde_json::from_str(entry.get()).map_err(|e| e.to_string())).collect();
    convert(service, &entries, &Known)
}

#[test]
fn instances_have_the_health_weight_and_place_that_consul_says() {
    let Some(body) = recorded("health-service-web.json") else { return };
    let converted = read("web", &body);
    assert!(converted.problems.is_empty() && !converted.in_part, "{:?}", converted.problems);
    let (spec, instances) = converted.service.unwrap();
    assert_eq!((spec.name.as_str(), spec.ports.len()), ("web", 1));
    let shown: Vec<String> = instances
        .iter()
        .map(|i| {
            let metadata: Vec<String> =
                i.metadata.iter().flat_map(|m| m.iter()).map(|(k, v)| format!("{k}={v}")).collect();
            let places: Vec<String> = endpoints(i).collect();
            format!("{} {places:?} {:?} {:?} {} {metadata:?}", i.id, i.state, i.health, i.weight)
        })
        .collect();
    assert_eq!(
        shown,
        [
            "dc1/n1/web-1 [\"127.0.0.1:8081\"] Running Healthy 10 [\"portolan.expose=true\", \"tags=portolan.expose=true,prod,v1\", \"version=1\"]",
            "dc1/n2/web-2 [\"192.0.2.2:8082\"] Running Healthy 3 [\"tags=prod,v2\", \"version=2\"]",
            "dc1/n3/web-3 [\"192.0.2.33:8083\"] Running Unhealthy 1 [\"tags=v2\"]",
        ]
    );
}

#[test]
fn maintenance_warnings_names_and_ipv6_are_understood() {
    let one = |name: &str| {
        let body = recorded(&format!("health-service-{name}.json"))?;
        let (_, instances) = read(name, &body).service.unwrap();
        Some((instances[0].state, instances[0].health, instances[0].weight))
    };
    let Some(warn) = one("warn") else { return };
    assert_eq!(warn, (InstanceState::Running, Health::Healthy, 1));
    assert_eq!(one("maint").unwrap().0, InstanceState::Killing);
    let gone = read("web", &recorded("health-service-none.json").unwrap());
    assert_eq!(gone.service.unwrap().1.len(), 0);
}

/// The fake writes what the real one writes: every member of its entry is there, of the same type.
#[test]
fn the_fake_speaks_as_the_real_one_does() {
    let Some(body) = recorded("health-service-web.json") else { return };
    let real: Value = serde_json::from_slice(&body).unwrap();
    let fake = entry("n1", "web-1", "10.0.0.1", 80, "passing");
    same(&fake, &real[0], "entry");
    let headers = String::from_utf8(recorded("health-service-web.headers").unwrap()).unwrap();
    for name in ["X-Consul-Index: ", "X-Consul-Default-Acl-Policy: allow"] {
        assert!(headers.contains(name), "{name}");
    }
    let refused = String::from_utf8(recorded("acl-anonymous-catalog.http").unwrap()).unwrap();
    assert!(
        refused.starts_with("HTTP/1.1 200 ")
            && refused.contains("Acl-Policy: deny")
            && refused.contains("{}")
    );
    assert!(recorded("acl-403-unknown-token.http").unwrap().starts_with(b"HTTP/1.1 403 "));
}

fn same(fake: &Value, real: &Value, place: &str) {
    match (fake, real) {
        (Value::Object(fake), Value::Object(real)) => {
            for (name, value) in fake {
                let place = format!("{place}.{name}");
                same(value, real.get(name).unwrap_or_else(|| panic!("{place} is not there")), &place);
            }
        }
        (Value::Array(fake), Value::Array(real)) => {
            if let (Some(fake), Some(real)) = (fake.first(), real.last()) {
                same(fake, real, place);
            }
        }
        (Value::Null, _) => {}
        (fake, real) => {
            let kind = |value: &Value| std::mem::discriminant(value);
            assert_eq!(kind(fake), kind(real), "{place}");
        }
    }
}

#[test]
fn proxies_of_the_mesh_are_left_out() {
    let text = |kind: &str| {
        let mut entry = entry("n1", "web-proxy", "10.0.0.1", 21000, "passing");
        entry["Service"]["Kind"] = kind.into();
        Value::Array(vec![entry]).to_string()
    };
    assert!(read("web-sidecar-proxy", text("connect-proxy").as_bytes()).service.is_none());
    assert!(read("gate", text("ingress-gateway").as_bytes()).service.is_some());
}

#[test]
fn nodes_that_have_failed_and_hosts_by_name_are_understood() {
    let mut failed = entry("n1", "a", "db.example.com", 5432, "passing");
    failed["Checks"][0]["CheckID"] = "serfHealth".into();
    failed["Checks"][0]["Status"] = "critical".into();
    let nameless = entry("n2", "b", "nowhere.example.com", 5432, "passing");
    let mut both = entry("n3", "c", "10.0.0.3", 80, "passing");
    both["Service"]["TaggedAddresses"] = serde_json::json!({
        "lan_ipv4": {"Address": "10.0.0.3", "Port": 80}, "lan_ipv6": {"Address": "2001:db8::3", "Port": 8080},
        "wan": {"Address": "198.51.100.3", "Port": 1}
    });
    let converted = read("db", Value::Array(vec![failed, nameless, both]).to_string().as_bytes());
    let (_, instances) = converted.service.unwrap();
    assert_eq!(instances[0].state, InstanceState::Unreachable);
    let places: Vec<Vec<String>> = instances.iter().map(|i| endpoints(i).collect()).collect();
    assert_eq!(places, [vec!["203.0.113.5:5432"], vec![], vec!["10.0.0.3:80", "[2001:db8::3]:8080"]]);
    assert!(instances[1].addresses.is_empty(), "nor at its node, so that its place of before is kept");
    assert_eq!(converted.problems, ["dc1/n2/b: no address is known for \"nowhere.example.com\" at present"]);
}
