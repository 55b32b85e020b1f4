//! The file as operators have it: what passes, what is refused, and what it amounts to.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{MesosDns, MesosDnsOptions};
use crate::Environment;

fn parse(text: &str) -> Result<MesosDns, String> {
    MesosDns::parse(text, "config.json", MesosDnsOptions::default()).map_err(|told| told.to_string())
}

fn passes(config: &Value) -> bool {
    parse(&config.to_string()).is_ok()
}

#[test]
fn keys_have_no_case_and_defaults_are_the_programs() {
    let settings =
        parse(r#"{"ZK": "zk://10.0.0.1:2181/mesos", "HTTPPORT": 8124, "refreshseconds": 30, "ns": 1}"#);
    let settings = settings.unwrap();
    assert_eq!(
        (settings.http_port, settings.refresh_seconds, settings.ttl, settings.port),
        (8124, 30, 60, 53)
    );
    assert_eq!(settings.ip_sources, ["netinfo", "mesos", "host"]);
    assert_eq!(settings.forward, ["8.8.8.8:53".parse().unwrap()]);
    assert_eq!((&*settings.soa_mname, &*settings.soa_rname), ("ns1.mesos", "root.ns1.mesos"));
    assert!(
        settings.dns && settings.http && settings.external && settings.truncate_bit && settings.enumeration
    );
}

#[test]
fn of_two_values_the_last_counts_and_null_is_none() {
    let settings = parse(r#"{"masters": ["a:1"], "port": 1, "Port": 2, "ttl": null, "timeout": 0}"#).unwrap();
    assert_eq!((settings.port, settings.ttl, settings.timeout), (2, 60, 5));
}

#[test]
fn mistakes_are_told_all_at_once_with_their_places() {
    let text = "{\n \"masters\": [\"10.0.0.1\"],\n \"TTL\": \"60\",\n \"port\": 70000\n}";
    let told = parse(text).unwrap_err();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 3, "{told}");
    assert!(lines[0].starts_with("config.json:2:2: masters: \"10.0.0.1\" is not HOST:PORT"), "{told}");
    assert!(lines[1].starts_with("config.json:3:2: ttl: a text stands where a whole number"), "{told}");
    assert!(lines[2].starts_with("config.json:4:2: port: 70000 is not"), "{told}");
}

#[test]
fn what_is_no_json_is_refused_with_its_place() {
    for (text, place) in [("", "1:1"), ("{\n\"zk\": \"a\" // no\n}", "2:11"), ("[]", "1:1"), ("{} x", "1:4")]
    {
        let told = parse(text).unwrap_err();
        assert!(told.starts_with(&format!("config.json:{place}: not readable as JSON")), "{text}: {told}");
    }
}

#[test]
fn secrets_are_never_told() {
    let config = json!({
        "masters": ["10.0.0.1:5050"], "MesosAuthentication": "basic",
        "mesoscredentials": {"principal": "dns", "SECRET": "hunter2"},
        "zk": "zk://mesos:hunter2@10.0.0.1,10.0.0.2:2182/mesos",
    });
    let settings = parse(&config.to_string()).unwrap();
    assert!(
        settings.shown(7).contains("zk://********@10.0.0.1,10.0.0.2:2182/mesos"),
        "{}",
        settings.shown(7)
    );
    let shown = settings.shown(7);
    assert!(shown.contains("********") && shown.contains("\"Principal\": \"dns\""), "{shown}");
    for text in [shown, settings.to_toml(), format!("{settings:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    let config = settings.to_config(&Environment::default());
    if let Ok(config) = config {
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}

/// The `urls` of the source that a file amounts to.
fn urls(config: &Value) -> String {
    let settings = parse(&config.to_string()).unwrap();
    let toml = settings.to_toml();
    settings.to_config(&Environment::default()).unwrap();
    let line = |key: &str| toml.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
    format!("{} {}", line("urls"), line("https"))
}

#[test]
fn the_leader_is_found_as_the_file_says() {
    for (config, wanted) in [
        (json!({"zk": "zk://a:1,b/mesos/"}), "urls = [\"zk://a:1,b/mesos\"] "),
        (
            json!({"zk": "zk://u:p@a:1/x/y", "masters": ["10.0.0.1:5050"], "MesosHTTPSOn": true}),
            "urls = [\"zk://a:1/x/y\", \"https://10.0.0.1:5050\"] https = true",
        ),
        (json!({"zk": "10.0.0.1:5050", "masters": ["10.0.0.1:5050"]}), "urls = [\"http://10.0.0.1:5050\"] "),
        (json!({"zk": "master@[::1]:5050", "MesosHTTPSOn": true}), "urls = [\"https://[::1]:5050\"] "),
    ] {
        assert_eq!(urls(&config), wanted, "{config}");
    }
}

#[test]
fn zk_may_name_a_file_that_holds_it() {
    let home = tempfile::tempdir().unwrap();
    let (zk, file) = (home.path().join("zk"), home.path().join("config.json"));
    std::fs::write(&file, json!({"zk": format!("file://{}", zk.display())}).to_string()).unwrap();
    let load = || MesosDns::load(&file, MesosDnsOptions::default()).map_err(|told| told.to_string());
    assert!(load().unwrap_err().contains("cannot be read"));
    std::fs::write(&zk, "zk://u:hunter2@a:2181\n").unwrap();
    let told = load().unwrap_err();
    assert!(told.contains("not where a leader can be found") && !told.contains("hunter2"), "{told}");
    std::fs::write(&zk, "zk://u:hunter2@a:2181/mesos\n").unwrap();
    assert!(load().unwrap().to_toml().contains("urls = [\"zk://a:2181/mesos\"]"));
}

#[test]
fn rules_that_only_hold_with_others_hold() {
    let base = json!({"masters": ["10.0.0.1:5050"]});
    let with = |more: Value| {
        let mut all = base.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    for good in [
        json!({}),
        json!({"resolvers": []}),
        json!({"externalOn": false, "resolvers": ["nonsense"], "zoneResolvers": {"mesos": ["x"]}}),
        json!({"DnsOn": false}),
        json!({"listener": "::1", "HTTPListener": "127.0.0.1"}),
        json!({"SOARname": "root@ns1.mesos."}),
        json!({"domain": "My.Domain"}),
    ] {
        assert!(passes(&with(good.clone())), "{good} {:?}", parse(&with(good.clone()).to_string()));
    }
    for bad in [
        json!({"masters": []}),
        json!({"DnsOn": false, "HttpOn": false}),
        json!({"listener": "localhost"}),
        json!({"CertFile": "a.pem"}),
        json!({"MesosAuthentication": "digest"}),
        json!({"MesosAuthentication": "iam"}),
        json!({"stateTimeoutSeconds": 0}),
        json!({"zk": "10.0.0.1"}),
        json!({"zk": "zk://10.0.0.1:2181"}),
        json!({"zk": "zk://u:p@10.0.0.1:2181"}),
        json!({"zk": "zk://10.0.0.1:2181//x"}),
        json!({"port": 53.0}),
        json!({"SRVRecordDefaultWeight": 65536}),
        json!({"IPSources": ["host", "host"]}),
    ] {
        assert!(!passes(&with(bad.clone())), "{bad}");
    }
}

/// The shared cases of single checks, where their folder lies beside this one.
#[test]
fn shared_cases_of_checks_hold() {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("PORTOLAN_SHARED").map_or_else(beside, PathBuf::from);
    let Ok(text) = std::fs::read_to_string(shared.join("fixtures/mesos-dns/unit/config-validation.json"))
    else {
        return;
    };
    let cases: Value = serde_json::from_str(&text).unwrap();
    let mut wrong = Vec::new();
    for (group, cases) in cases["cases"].as_object().unwrap() {
        for case in cases.as_array().unwrap() {
            let mut config = json!({"zk": "zk://10.0.0.1:2181/mesos", "domain": "mesos"});
            let key = match &**group {
                "resolvers" => "resolvers",
                "ip_sources" => "IPSources",
                "domain" | "masters" => group,
                _ => {
                    config["domain"] = json!("dc.mesos");
                    "zoneResolvers"
                }
            };
            config[key] = case["in"].clone();
            if json!(passes(&config)) != case["valid"] {
                wrong.push(format!("{group}: {case}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn resolvers_of_the_machine_are_read() {
    let text = "# x\nsearch a\nnameserver 192.0.2.1\n nameserver ::1\nnameserver 192.0.2.1\nnameserver bad\n";
    let read = super::read::nameservers(text);
    assert_eq!(read, ["192.0.2.1", "::1"].map(|ip| ip.parse::<core::net::IpAddr>().unwrap()));
}
