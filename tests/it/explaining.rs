//! `explain` gives the reasons that answers have: every kind of name, connections, endpoints left alone.

use std::net::SocketAddr;

use portolan_table::instance_label;
use serde_json::Value;

use crate::support::apps::app;
use crate::support::marathon::Fake;
use crate::support::node::marathon;
use crate::support::program::Running;
use crate::support::refusing::Refusing;
use crate::support::site::{Backend, DNS, Site, get, listener, route, service};

const SERVICES: &str = r#"
[[service]]
name = "web.shop"
port = [{ name = "http", number = 80 }]
endpoint = [
    { id = "a1", address = "10.9.0.1:80", zone = "rack-1" },
    { id = "b1", address = "10.9.0.2:80", zone = "rack-2" },
    { id = "c1", address = "10.9.0.3:80", zone = "rack-1", health = "unhealthy" },
]
[[service]]
name = "db"
merge = "failover"
endpoint = [{ id = "db1", address = "10.9.1.1:5432" }]
"#;
const MORE: &str = r#"
[[service]]
name = "web.shop"
port = [{ name = "http", number = 80 }]
endpoint = [{ id = "d1", address = "10.9.0.4:80" }]
[[service]]
name = "db"
merge = "failover"
endpoint = [{ id = "db2", address = "10.9.1.2:5432" }]
"#;

fn explain(admin: SocketAddr, question: &str) -> Value {
    let kind = if question.contains("://") { "url" } else { "name" };
    let (status, body) =
        get(admin, "localhost", &format!("/api/v1/explain?{kind}={question}")).expect("an answer");
    assert_eq!(status, 200, "{question}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// The instances of a result, sorted.
fn instances<'a>(told: &'a Value, result: &str) -> Vec<&'a str> {
    let steps = told["steps"].as_array().unwrap().iter().filter(|step| step["result"] == result);
    let mut ids: Vec<&str> =
        steps.filter_map(|step| step["what"].as_str()?.strip_prefix("instance ")).collect();
    ids.sort_unstable();
    ids
}

fn told_of(told: &Value, what: &str) -> bool {
    told["steps"].as_array().unwrap().iter().any(|step| step["what"].as_str().unwrap().starts_with(what))
}

#[test]
fn every_kind_of_name_has_its_own_reasons() {
    let fake = Fake::start(vec![app("/shop/host", &[("10.1.0.1", 31_000)])]);
    let site = Site::new(SERVICES);
    site.write("more.toml", MORE);
    let more = "[[source]]\nname = \"more\"\ntype = \"file\"\npaths = [\"more.toml\"]\npriority = 1\n";
    site.configure(&format!("{more}{}{DNS}", marathon(&fake.url())));
    let mut node = site.run();
    let admin = node.bound("admin");
    let a1 = instance_label("files", "a1");
    let all = &["a1", "b1", "d1"][..];
    let addresses = |count| format!("A: NOERROR, {count} records; AAAA: NOERROR, 0 records; TXT: NOERROR");
    let one = "A: NOERROR, 1 record; AAAA: NOERROR, 0 records";
    for (name, inside, outside, first, answer) in [
        ("web.shop", all, &["c1"][..], "service", &*format!("{}, 2 records", addresses(3))),
        (
            "web.shop.files.src",
            &["a1", "b1"],
            &["c1"],
            "source files",
            &format!("{}, 1 record", addresses(2)),
        ),
        ("web.shop.more.src", &["d1"], &[], "source more", "A: NOERROR, 1 record;"),
        ("web.shop.nosuch.src", &[], &[], "name", "A: NXDOMAIN, 0 records"),
        ("web.shop.rack-1.zone", &["a1"], &["c1"], "fault domain rack-1", "A: NOERROR, 1 record;"),
        ("web.shop.rack-9.zone", &[], &[], "name", "A: NXDOMAIN"),
        ("web.shop.vip", all, &["c1"], "proxies", "A: NOERROR"),
        (&*format!("{a1}.inst.web.shop"), &["a1"], &[], "service", one),
        (&format!("{a1}.inst.web.shop.files.src"), &["a1"], &[], "source files", one),
        (&format!("{a1}.inst.web.shop.more.src"), &[], &[], "name", "A: NXDOMAIN"),
        ("_http._tcp.web.shop", all, &["c1"], "port _http._tcp", "SRV: NOERROR, 3 records"),
        ("_http._tcp.web.shop.rack-2.zone", &["b1"], &[], "fault domain rack-2", "SRV: NOERROR, 1 record"),
        (&format!("_http._tcp.{a1}.inst.web.shop"), &["a1"], &[], "port _http", "SRV: NOERROR, 1 record"),
        ("_ftp._tcp.web.shop", &[], &[], "name", "A: NXDOMAIN"),
        ("db.files.src", &["db1"], &[], "source files", "A: NOERROR, 1 record;"),
        ("db.more.src", &["db2"], &[], "source more", "A: NOERROR, 1 record;"),
        ("edge-1.node", &[], &[], "node edge-1", "A: NOERROR"),
        ("10-1-0-1.node", &[], &[], "node 10.1.0.1", one),
        ("shop", &[], &[], "name", "A: NOERROR, 0 records"),
        ("WEB.Shop", all, &["c1"], "service", "A: NOERROR, 3 records"),
    ] {
        let told = explain(admin, &format!("{name}.svc.cluster"));
        assert_eq!(instances(&told, "in"), inside, "{name}: {told:#}");
        assert_eq!(instances(&told, "out"), outside, "{name}: {told:#}");
        assert!(told_of(&told, first), "{name}: no {first}: {told:#}");
        assert!(told["answer"].as_str().unwrap().starts_with(answer), "{name}: {answer}: {told:#}");
    }
    for (name, first, answer) in [
        ("svc.cluster", "apex", "SOA: NOERROR, 1 record; NS: NOERROR, 1 record"),
        ("2.0.9.10.in-addr.arpa", "reverse", "PTR: NOERROR, 1 record"),
        ("9.9.9.9.in-addr.arpa", "zone", "not ours"),
        ("example.com", "zone", "not ours"),
        ("a..b", "name", "not a domain name"),
    ] {
        let told = explain(admin, name);
        assert!(told_of(&told, first), "{name}: no {first}: {told:#}");
        assert!(told["answer"].as_str().unwrap().starts_with(answer), "{name}: {told:#}");
    }
    // Which of the two was listed first, and so was chosen, is left open.
    let told = explain(admin, "db.svc.cluster");
    let chosen = (instances(&told, "in"), instances(&told, "out"));
    assert!(chosen == (vec!["db1"], vec!["db2"]) || chosen == (vec!["db2"], vec!["db1"]), "{told:#}");
    let reverse = explain(admin, "2.0.9.10.in-addr.arpa").to_string();
    let b1 = instance_label("files", "b1");
    assert!(reverse.contains(&format!("{b1}.inst.web.shop.svc.cluster.")), "{reverse}");
    node.stop();
    fake.kill();
}

#[test]
fn what_is_not_known_yet_is_said_to_be_so() {
    let dead = Refusing::new();
    let site = Site::new("");
    site.configure(&format!("{}{DNS}", marathon(&dead.url())));
    let mut node = Running::daemon(&site.file());
    let admin = node.bound("admin");
    let told = explain(admin, "web.shop.svc.cluster").to_string();
    assert!(told.contains("marathon has given its first list"), "{told}");
    assert!(told.contains("A: SERVFAIL"), "{told}");
    node.stop();
}

#[test]
fn a_connection_goes_by_its_listener() {
    let backend = Backend::start();
    let site = Site::new(&service("web.shop", &[backend.address]));
    let relay = "[[proxy.route]]\nname = \"relay\"\nlistener = \"db\"\nservice = \"web.shop\"\n";
    site.configure(&format!("{}{}{relay}", listener("db", "tcp"), listener("idle", "tcp")));
    let mut node = site.run();
    let (admin, db, idle) = (node.bound("admin"), node.bound("db"), node.bound("idle"));
    let told = explain(admin, &format!("tcp://{db}"));
    assert_eq!(told["answer"], format!("db: web.shop (weight 1): {}", backend.address), "{told:#}");
    assert!(told_of(&told, "route relay") && instances(&told, "in").len() == 1, "{told:#}");
    let told = explain(admin, &format!("tcp://{idle}"));
    assert_eq!(told["answer"], "no route: closed", "{told:#}");
    let (status, body) =
        get(admin, "localhost", "/api/v1/explain?url=https%3A%2F%2Fshop.example.com%2F").unwrap();
    assert!(status == 400 && body.contains("https"), "{status} {body}");
    node.stop();
}

#[test]
fn an_ejected_endpoint_is_marked() {
    let (backend, other, dead) = (Backend::start(), Backend::start(), Refusing::new());
    let site = Site::new(&service("web.shop", &[backend.address, other.address, dead.address]));
    site.configure(&format!(
        "[proxy.upstream]\nattempts = 3\n[proxy.upstream.ejection]\nfailures = 1\nbase = \"5m\"\n{}{}",
        listener("web", "http"),
        route("web", "shop.example.com", "web.shop")
    ));
    let mut node = site.run();
    let (admin, web) = (node.bound("admin"), node.bound("web"));
    let told = explain(admin, "http://shop.example.com/");
    assert!(!told.to_string().contains("ejected"), "{told:#}");
    let told = node.until("an ejection", |_| {
        get(web, "shop.example.com", "/")?;
        let told = explain(admin, "http://shop.example.com/");
        told.to_string().contains("ejected").then_some(told)
    });
    let answer = told["answer"].as_str().unwrap();
    assert!(answer.contains(&format!("{} (ejected)", dead.address)), "{told:#}");
    assert!(!answer.contains(&format!("{} (ejected)", backend.address)), "{told:#}");
    assert!(told_of(&told, &format!("endpoint {}", dead.address)), "{told:#}");
    node.stop();
}
