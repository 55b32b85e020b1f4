//! Text in, definitions or the position of a mistake out.

use std::path::Path;

use portolan_table::{AppProtocol, Health, InstanceState, MergePolicy, Protocol};
use proptest::prelude::*;

use crate::sources::file::document::{Content, parse};

fn read(name: &str, text: &str) -> Result<Content, String> {
    parse(Path::new(name), text, None)
}

const TOML: &str = r#"
[[service]]
name = "Web.Shop"
version = "7"
merge = "failover"
labels = { team = "shop" }
port = [{ name = "http", number = 80, app = "http" }, { name = "dns", protocol = "udp" }]

[[service.endpoint]]
address = "10.0.0.1"
ports = { http = 8080, dns = 5353 }
id = "one"
node = "n1"
zone = "rack-7"
region = "eu"
weight = 3
health = "unhealthy"
state = "killing"
metadata = { rev = "b" }

[[service.endpoint]]
address = "[2001:db8::1]:8081"

[[service]]
name = "bare"
endpoint = ["10.0.0.2:90"]
"#;

const YAML: &str = r#"
services:
  - name: Web.Shop
    version: "7"
    merge: failover
    labels: {team: shop}
    ports:
      - {name: http, number: 80, app: http}
      - {name: dns, protocol: udp}
    endpoints:
      - address: 10.0.0.1
        ports: {http: 8080, dns: 5353}
        id: one
        node: n1
        zone: rack-7
        region: eu
        weight: 3
        health: unhealthy
        state: killing
        metadata: {rev: b}
      - address: "[2001:db8::1]:8081"
  - name: bare
    endpoints: ["10.0.0.2:90"]
"#;

const JSON: &str = r#"{"services": [
  {"name": "Web.Shop", "version": "7", "merge": "failover", "labels": {"team": "shop"},
   "ports": [{"name": "http", "number": 80, "app": "http"}, {"name": "dns", "protocol": "udp"}],
   "endpoints": [
     {"address": "10.0.0.1", "ports": {"http": 8080, "dns": 5353}, "id": "one", "node": "n1", "zone": "rack-7",
      "region": "eu", "weight": 3, "health": "unhealthy", "state": "killing", "metadata": {"rev": "b"}},
     {"address": "[2001:db8::1]:8081"}]},
  {"name": "bare", "endpoints": ["10.0.0.2:90"]}]}"#;

#[test]
fn the_three_formats_say_the_same() {
    let toml = read("a.toml", TOML).unwrap();
    assert_eq!(read("a.yaml", YAML).unwrap(), toml);
    assert_eq!(read("a.yml", YAML).unwrap(), toml);
    assert_eq!(read("a.json", JSON).unwrap(), toml);

    let web = &toml.services[0];
    assert_eq!((web.spec.name.as_str(), &*web.spec.key), ("web.shop", "web.shop"));
    assert_eq!((web.spec.version.as_deref(), web.spec.merge), (Some("7"), Some(MergePolicy::Failover)));
    assert_eq!(web.spec.labels.get("team"), Some("shop"));
    let ports: Vec<_> = web.spec.ports.iter().map(|p| (p.number, p.name.as_deref(), p.protocol)).collect();
    assert_eq!(ports, [(80, Some("http"), Protocol::Tcp), (0, Some("dns"), Protocol::Udp)]);
    assert_eq!(web.spec.ports[0].app_protocol, AppProtocol::Http);
    let one = &web.instances[0];
    assert_eq!((&*one.id, one.node.as_deref(), one.zone.as_deref()), ("one", Some("n1"), Some("rack-7")));
    assert_eq!((one.weight, one.health, one.state), (3, Health::Unhealthy, InstanceState::Killing));
    let at: Vec<_> = one.endpoints.iter().map(|e| (e.port_index, e.number)).collect();
    assert_eq!(at, [(0, 8080), (1, 5353)]);
    assert_eq!(one.metadata.as_ref().unwrap().get("rev"), Some("b"));
    let two = &web.instances[1];
    assert_eq!((&*two.id, two.health, two.weight), ("[2001:db8::1]:8081", Health::Healthy, 1));
    let bare = &toml.services[1];
    assert_eq!((bare.spec.ports.len(), &*bare.instances[0].id), (1, "10.0.0.2:90"));
}

#[test]
fn ports_are_taken_from_the_endpoints_or_the_other_way_round() {
    let named = "[[service]]\nname = 'x'\nendpoint = [{ address = '10.0.0.1', ports = { b = 2, a = 1 } }]";
    let content = read("a.toml", named).unwrap();
    let names: Vec<_> = content.services[0].spec.ports.iter().map(|p| p.name.as_deref()).collect();
    assert_eq!(names, [Some("a"), Some("b")]);
    let fixed = "[[service]]\nname = 'x'\nport = [{ number = 80 }]\nendpoint = ['10.0.0.1']";
    assert_eq!(read("a.toml", fixed).unwrap().services[0].instances[0].endpoints[0].number, 80);
}

#[test]
fn prometheus_groups_are_services() {
    let text = r#"[
      {"targets": ["10.0.0.1:80", "10.0.0.2:80"],
       "labels": {"service": "web.shop", "team": "shop", "rev": "a", "__scheme__": "https", "job": "scrape"}},
      {"targets": ["10.0.0.2:80", "10.0.0.3:80"],
       "labels": {"service": "web.shop", "team": "shop", "rev": "b", "job": "scrape"}},
      {"targets": ["10.0.0.9:1", "db.example:2", "10.0.0.9"], "labels": {"job": "node exporter"}},
      {"targets": ["10.0.0.9:1"]}
    ]"#;
    let content = read("a.json", text).unwrap();
    let yaml = "- targets: ['10.0.0.1:80']\n  labels: {job: web}\n";
    assert_eq!(read("a.yaml", yaml).unwrap().services[0].spec.name.as_str(), "web");
    let names: Vec<_> = content.services.iter().map(|s| s.spec.name.as_str()).collect();
    assert_eq!(names, ["node-exporter", "web.shop"]);
    let web = &content.services[1];
    let ids: Vec<_> = web.instances.iter().map(|i| &*i.id).collect();
    assert_eq!(ids, ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"], "a target counts once");
    let labels: Vec<_> = web.spec.labels.iter().collect();
    assert_eq!(labels, [("job", "scrape"), ("team", "shop")], "what all groups share");
    assert_eq!(web.instances[2].metadata.as_ref().unwrap().get("rev"), Some("b"), "what they don't");
    assert_eq!(web.spec.ports[0].app_protocol, AppProtocol::Https);
    assert_eq!(
        content.notes,
        [
            "group 4: has no label service or job; add it, or set `service_label`",
            "service node-exporter: target left out: \"db.example:2\" is not an address; write an IP address \
             with or without a port, like 10.0.0.1, 10.0.0.1:80 or [2001:db8::1]:80",
            "service node-exporter: target left out: \"10.0.0.9\" has no port; write 10.0.0.9:PORT",
        ]
    );
    let own = parse(Path::new("a.json"), text, Some("team")).unwrap();
    assert_eq!(own.services.len(), 1);
    assert_eq!(own.services[0].spec.name.as_str(), "shop");
}

/// Every message names the file, the position and what to do.
const MALFORMED: &[(&str, &str, &str)] = &[
    ("a.toml", "[[service]\nname = 'x'", "a.toml:1:11: unclosed array table, expected `]`"),
    (
        "a.toml",
        "[[service]]\nname = 'x'\nendpoint = ['10.0.0.1:80'",
        "a.toml:3:26: unclosed array, expected `]`",
    ),
    (
        "a.toml",
        "[[service]]\nnam = 'x'",
        "a.toml:2:1: unknown field `nam`, expected one of `name`, `port`, `ports`, `endpoint`, `endpoints`, \
         `labels`, `version`, `merge`",
    ),
    ("a.toml", "[[service]]\nlabels = {}", "a.toml:1:1: missing field `name`"),
    (
        "a.toml",
        "[[service]]\nname = 'a b'",
        "a.toml:2:8: the name \"a b\" holds ' '; letters, digits, '-' and '_' are allowed",
    ),
    (
        "a.toml",
        "[[service]]\nname = 'x'\nendpoint = ['web:80']",
        "a.toml:3:13: \"web:80\" is not an address; write an IP address with or without a port, like \
         10.0.0.1, 10.0.0.1:80 or [2001:db8::1]:80",
    ),
    (
        "a.toml",
        "[[service]]\nname = 'y'\n\n[[service]]\nname = 'x'\nendpoint = ['10.0.0.1']",
        "a.toml:4:1: endpoint 10.0.0.1 of x has no port; write \"10.0.0.1:8080\", `port` or `ports`",
    ),
    (
        "a.toml",
        "[[service]]\nname = 'x'\n\n[[service]]\nname = 'x'",
        "a.toml:4:1: the service x is defined twice; put its endpoints into one definition",
    ),
    (
        "a.toml",
        "[[service]]\nname = 'x'\nendpoint = [{ address = '10.0.0.1', port = 70000 }]",
        "a.toml:3:44: 70000 is not a port; write a number from 1 to 65535",
    ),
    (
        "a.toml",
        "[[service]]\nname = 'x'\nendpoint = [{ address = '10.0.0.1:1', port = 2 }]",
        "a.toml:1:1: endpoint 10.0.0.1 of x has a port in `address` and another in `port`; keep one",
    ),
    (
        "a.toml",
        "[[service]]\nname = 'x'\nendpoint = [{ address = '10.0.0.1:1', ports = { a = 2 } }]",
        "a.toml:1:1: endpoint 10.0.0.1 of x has one port and `ports`; keep one of the two",
    ),
    (
        "a.toml",
        "[[service]]\nname = 'x'\nendpoint = ['10.0.0.1:1', '10.0.0.1:1']",
        "a.toml:1:1: the service x has the endpoint \"10.0.0.1:1\" twice; take one out, or give each an `id`",
    ),
    (
        "a.toml",
        "[[service]]\nname = 'x'\nport = [{name = 'p'}, {name = 'p'}]",
        "a.toml:1:1: the service x defines the port \"p\" twice; take one out",
    ),
    (
        "a.toml",
        "[[service]]\nname = 'x'\nport = [{name = 'http'}]\nendpoint = [{ address = '10.0.0.1', ports = { htp = 1 } }]",
        "a.toml:1:1: endpoint 10.0.0.1 of x has a port \"htp\" which the service does not define; it defines http",
    ),
    (
        "a.toml",
        "[[service]]\nname = 'x'\nmerge = 'unoin'",
        "a.toml:3:9: unknown variant `unoin`, expected one of `union`, `failover`, `isolate`",
    ),
    ("a.yaml", "services:\n  - name: x\n    endpoints: [10.0.0.1:80\n", "a.yaml:3:16: unclosed bracket '['"),
    (
        "a.yaml",
        "services:\n  - nam: x\n",
        "a.yaml:2:5: unknown field `nam`, expected one of name, port, ports, endpoint, endpoints, labels, \
         version, merge",
    ),
    (
        "a.yaml",
        "services:\n  - name: a b\n",
        "a.yaml:2:11: the name \"a b\" holds ' '; letters, digits, '-' and '_' are allowed",
    ),
    (
        "a.yaml",
        "services:\n  - name: x\n    endpoints:\n      - address: 10.0.0.1\n        port: 0\n",
        "a.yaml:5:15: 0 is not a port; write a number from 1 to 65535",
    ),
    (
        "a.yaml",
        "services:\n  - name: x\n    endpoints: [10.0.0.1]\n",
        "a.yaml:2:5: endpoint 10.0.0.1 of x has no port; write \"10.0.0.1:8080\", `port` or `ports`",
    ),
    ("a.yaml", "- targets: 10.0.0.1:80\n", "a.yaml:1:12: expected a list"),
    (
        "a.yaml",
        "hello",
        "a.yaml:1:1: invalid type: string \"hello\", expected a table with `service`, or a list of target groups",
    ),
    ("a.json", "{\"services\": [{\"name\": \"x\"", "a.json:1:26: EOF while parsing an object"),
    ("a.json", "", "a.json:1:1: EOF while parsing a value"),
    (
        "a.json",
        "{\"services\":\n [{\"name\": \"x\", \"endpoints\": [\"10.0.0.1\"]}]}",
        "a.json:2:43: endpoint 10.0.0.1 of x has no port; write \"10.0.0.1:8080\", `port` or `ports`",
    ),
    ("a.json", "[{\"targets\": [1]}]", "a.json:1:15: invalid type: integer `1`, expected a string"),
    (
        "a.json",
        "17",
        "a.json:1:2: invalid type: integer `17`, expected a table with `service`, or a list of target groups",
    ),
    ("a.txt", "x", "a.txt: format not known; name the file .toml, .yaml or .json"),
];

#[test]
fn mistakes_are_named_with_their_position_and_remedy() {
    let found: Vec<_> = MALFORMED.iter().map(|(name, text, _)| read(name, text).unwrap_err()).collect();
    let expected: Vec<_> = MALFORMED.iter().map(|(.., expected)| (*expected).to_owned()).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_deeply_nested_or_exploding_file_is_an_error() {
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(read("a.json", &nested).is_err());
    assert!(read("a.yaml", &nested).is_err());
    assert!(read("a.toml", &format!("service = {nested}")).is_err());
    let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x,x]\n");
    for (before, letter) in ('a'..'i').zip('b'..='i') {
        bomb.push_str(&format!("{letter}: &{letter} [{}]\n", vec![format!("*{before}"); 10].join(",")));
    }
    assert!(read("a.yaml", &bomb).is_err());
}

#[test]
fn every_cut_of_a_definition_is_an_error_or_says_less() {
    for (name, text) in [("a.toml", TOML), ("a.yaml", YAML), ("a.json", JSON)] {
        for cut in (0..text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            if let Ok(content) = read(name, &text[..cut]) {
                assert!(content.services.len() <= 2, "{name} cut at {cut}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_is_a_panic(text in "[ -~\n\u{e9}\u{1F980}]{0,80}") {
        for name in ["a.toml", "a.yaml", "a.json"] {
            if let Err(error) = read(name, &text) {
                prop_assert!(error.starts_with(&format!("{name}:")) && !error.contains('\n'), "{error:?}");
            }
        }
    }

    #[test]
    fn no_damage_is_a_panic(at in 0usize..700, with in "[ -~\n]{0,3}") {
        for (name, text) in [("a.toml", TOML), ("a.yaml", YAML), ("a.json", JSON)] {
            let at = at % text.len();
            let mut damaged = text.to_owned();
            damaged.replace_range(at..=at, &with);
            let _ = read(name, &damaged);
        }
    }
}

#[test]
fn the_examples_of_the_documentation_are_right() {
    let page = include_str!("../../../../../docs/sources-file.md");
    let mut examples = 0;
    for block in page.split("\n```").filter(|block| !block.starts_with('\n')) {
        let Some((language @ ("toml" | "yaml" | "json"), text)) = block.split_once('\n') else { continue };
        let content =
            read(&format!("example.{language}"), text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert!(!content.services.is_empty() && content.notes.is_empty(), "{text}");
        examples += 1;
    }
    assert_eq!(examples, 4, "the page has four examples");
}
