//! Keys and values of each layout, and the services they make.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portolan_table::Instance;

use super::super::store::Store;
use super::super::wire::KeyValue;
use crate::config::EtcdLayout;
use crate::sources::told::endpoints;

/// Every service with its instances, and every problem, in words.
pub(super) async fn shown(layout: EtcdLayout, prefix: &str, keys: Vec<KeyValue>) -> Vec<String> {
    let mut store = Store::new(layout, prefix, Arc::default());
    let (services, problems) = store.fill(keys).await;
    let instance = |i: &Arc<Instance>| {
        let places: Vec<String> = endpoints(i).collect();
        format!("{}={} x{}", i.id, places.join(","), i.weight)
    };
    let service = |(spec, instances): (_, Vec<_>)| -> String {
        let spec: Arc<portolan_table::ServiceSpec> = spec;
        let ports: Vec<String> = spec
            .ports
            .iter()
            .map(|port| {
                format!("{}:{}/{:?}", port.name.as_deref().unwrap_or(""), port.number, port.app_protocol)
            })
            .collect();
        let instances: Vec<String> = instances.iter().map(instance).collect();
        format!("{} [{}] {}", spec.name, ports.join(" "), instances.join(" "))
    };
    let problem = |(place, message): (portolan_table::SharedStr, String)| format!("! {place}: {message}");
    services.into_values().map(service).chain(problems.into_iter().map(problem)).collect()
}

fn keys(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    let json = |(key, value): &(&str, &str)| serde_json::json!({"key": STANDARD.encode(key), "value": STANDARD.encode(value)});
    pairs.iter().map(|pair| serde_json::from_value(json(pair)).unwrap()).collect()
}

#[tokio::test]
async fn skydns() {
    let pairs = [
        ("/skydns/arpa/in-addr/192/0/2/10", r#"{"host":"a.web.svc.cluster"}"#),
        (
            "/skydns/cluster/svc/web/a",
            r#"{"host":"192.0.2.10","port":8080,"priority":10,"weight":20,"ttl":60}"#,
        ),
        ("/skydns/cluster/svc/web/b", r#"{"host":"192.0.2.11","port":8080,"text":"v1"}"#),
        ("/skydns/cluster/svc/six", r#"{"host":"2001:db8::6"}"#),
        ("/skydns/cluster/svc/note", r#"{"text":"only text"}"#),
        ("/skydns/cluster/svc/bad", "{"),
    ];
    assert_eq!(
        shown(EtcdLayout::SkyDns, "/skydns/cluster/svc", keys(&pairs[1..])).await,
        [
            "a.web [:0/Unknown] web/a=192.0.2.10:8080 x20",
            "b.web [:0/Unknown] web/b=192.0.2.11:8080 x1",
            "six [] six= x1",
            "web [:0/Unknown] web/a=192.0.2.10:8080 x20 web/b=192.0.2.11:8080 x100",
            "! /skydns/cluster/svc/bad: not an entry of SkyDNS: EOF while parsing an object at line 1 column 1",
        ]
    );
    let names = shown(EtcdLayout::SkyDns, "/skydns", keys(&pairs)).await;
    let names: Vec<&str> = names.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(
        names,
        ["a.web.svc.cluster", "b.web.svc.cluster", "six.svc.cluster", "svc.cluster", "web.svc.cluster", "!"]
    );
}

#[tokio::test]
async fn portolan() {
    let pairs = [
        (
            "/portolan/web.shop",
            r#"{"ports": [{"name": "http", "number": 80, "app": "http"}], "labels": {"a": "b"}}"#,
        ),
        ("/portolan/web.shop/n1", "10.0.0.1:8080"),
        ("/portolan/web.shop/n2", r#"{"address": "10.0.0.2", "ports": {"http": 8081}, "weight": 2}"#),
        ("/portolan/web.shop/n3", r#"{"address": "10.0.0.3", "ports": {"https": 8443}}"#),
        ("/portolan/web.shop/rack/n4", "[2001:db8::4]:8080"),
        ("/portolan/db/1", "\"10.0.0.9:5432\""),
        ("/portolan/Bad Name/1", "10.0.0.9:5432"),
        ("/portolan/db/2", "nonsense"),
        ("/portolan/db/3", r#"{"addr": "10.0.0.1"}"#),
        ("/portolan/empty", "{}"),
    ];
    let shown = shown(EtcdLayout::Portolan, "/portolan", keys(&pairs)).await;
    assert_eq!(
        shown[..3],
        [
            "db [:0/Unknown] 1=10.0.0.9:5432 x1",
            "empty [:0/Unknown] ",
            "web.shop [http:80/Http] n1=10.0.0.1:8080 x1 n2=10.0.0.2:8081 x2 rack/n4=[2001:db8::4]:8080 x1",
        ]
    );
    for (line, begins) in shown[3..].iter().zip([
        "! /portolan/Bad Name/1: the name \"Bad Name\" holds ' '",
        "! /portolan/db/2: \"nonsense\" is not an address; write an IP address",
        "! /portolan/db/3: not an endpoint: unknown field `addr`",
        "! web.shop: endpoint 10.0.0.3 of web.shop has a port \"https\" which the service does not define",
    ]) {
        assert!(line.starts_with(begins), "{line}");
    }
    assert_eq!(shown.len(), 7);
}

#[tokio::test]
async fn tree() {
    let pairs = [
        ("/services/web/n1", r#"{"address":"192.0.2.10","port":8080}"#),
        ("/services/web/n2", "192.0.2.11:8080"),
        ("/services/web/n3", "http://192.0.2.12:8080/ignored"),
        ("/services/web/n4", "4"),
        ("/services/web/n5", "10.0.0.5"),
        ("/services/web/n6", "[2001:db8::6]:80"),
        ("/services/shop/cart/1", "localhost:80"),
        ("/services/single", "https://10.0.0.7"),
        ("/services/http/services/api/loadBalancer/servers/0/url", "http://10.0.1.1:80"),
        ("/services/http/services/api/loadBalancer/servers/0/weight", "5"),
        ("/services/http/services/api/loadbalancer/servers/1/url", "http://10.0.1.2:80"),
        ("/services/http/services/api/loadBalancer/healthCheck/path", "/up"),
        ("/services/http/routers/api/rule", "Host(`api.example.com`)"),
        ("/services/tcp/services/pg/loadBalancer/servers/0/address", "10.0.1.3:5432"),
    ];
    assert_eq!(
        shown(EtcdLayout::Tree, "/services", keys(&pairs)).await,
        [
            "api [:0/Http] 0=10.0.1.1:80 x5 1=10.0.1.2:80 x1",
            "cart.shop [:0/Unknown] shop/cart/1=127.0.0.1:80 x1",
            "pg [:0/Unknown] 0=10.0.1.3:5432 x1",
            "single [:0/Https] single=10.0.0.7:443 x1",
            "web [:0/Http] web/n1=192.0.2.10:8080 x1 web/n2=192.0.2.11:8080 x1 web/n3=192.0.2.12:8080 x1 \
             web/n6=[2001:db8::6]:80 x1",
            "! /services/web/n4: \"4\" is not a place; write HOST:PORT, a URL, or an object with host and port",
            "! /services/web/n5: \"10.0.0.5\" has no port; write HOST:PORT or a URL",
        ]
    );
}
