//! The servers, each with one worker and otherwise its defaults, and the data they serve.

use std::fmt::Write;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use super::measure::{Server, wait_tcp};
use super::{http, tcp_load};

/// Names in the zone; also what the DNS load asks for.
pub(crate) const NAMES: usize = 10_000;
/// Addresses of every name.
pub(crate) const ADDRESSES: u8 = 4;

fn file(directory: &Path, name: &str, text: &str) -> Result<String, String> {
    let path = directory.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| e.to_string())?;
    }
    fs::write(&path, text).map_err(|e| e.to_string())?;
    Ok(path.display().to_string())
}

fn address(n: usize, k: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, k, (n >> 8) as u8, n as u8)
}

/// A name of the native zone's instance, as long as a real one.
fn target(n: usize, k: u8) -> String {
    format!("i{n:06}abcde{k}.inst.svc{n:05}")
}

fn zone() -> String {
    let mut zone = String::from(
        "$ORIGIN svc.cluster.\n$TTL 5\n@ IN SOA ns root 1 60 60 600 5\n@ IN NS ns\nns IN A 127.0.0.1\n",
    );
    for n in 1..=NAMES {
        for k in 1..=ADDRESSES {
            let (address, target) = (address(n, k), target(n, k));
            let _ = writeln!(zone, "svc{n:05} IN A {address}");
            let _ = writeln!(zone, "_http._tcp.svc{n:05} IN SRV 0 1 8080 {target}");
            let _ = writeln!(zone, "{target} IN A {address}");
        }
    }
    zone
}

fn services() -> String {
    let mut text = String::from("{\"services\": [");
    for n in 1..=NAMES {
        let endpoints: Vec<String> =
            (1..=ADDRESSES).map(|k| format!("{{\"address\": \"{}\"}}", address(n, k))).collect();
        let comma = if n == 1 { "" } else { "," };
        let _ = write!(
            text,
            "{comma}\n{{\"name\": \"svc{n:05}\", \"ports\": [{{\"name\": \"http\", \"number\": 8080}}], \"endpoints\": [{}]}}",
            endpoints.join(", ")
        );
    }
    text.push_str("\n]}\n");
    text
}

fn portolan() -> String {
    env!("CARGO_BIN_EXE_portolan").to_owned()
}

/// knot, nsd and Portolan with the same names.
pub(crate) fn dns(directory: &Path) -> Result<Vec<Server>, String> {
    let zone = file(directory, "zone/svc.cluster.zone", &zone())?;
    let d = directory.display();
    for name in ["knot", "nsd", "portolan-dns"] {
        fs::create_dir_all(directory.join(name)).map_err(|e| e.to_string())?;
    }
    let knot = file(
        directory,
        "knot/knot.conf",
        &format!(
            "server:\n    rundir: {d}/knot\n    listen: 127.0.0.1@15301\n    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\n\
         database:\n    storage: {d}/knot\nlog:\n  - target: stderr\n    any: warning\n\
         zone:\n  - domain: svc.cluster\n    file: {zone}\n    zonefile-sync: -1\n    journal-content: none\n"
        ),
    )?;
    let nsd = file(
        directory,
        "nsd/nsd.conf",
        &format!(
            "server:\n  server-count: 1\n  ip-address: 127.0.0.1@15302\n  do-ip6: no\n  username: \"\"\n  database: \"\"\n\
         \x20 pidfile: \"{d}/nsd/nsd.pid\"\n  xfrdfile: \"{d}/nsd/xfrd.state\"\n  zonelistfile: \"{d}/nsd/zone.list\"\n\
         \x20 minimal-responses: yes\n  rrl-ratelimit: 0\nremote-control:\n  control-enable: no\n\
         zone:\n  name: svc.cluster\n  zonefile: {zone}\n"
        ),
    )?;
    let data = file(directory, "portolan-dns/services.json", &services())?;
    let own = file(
        directory,
        "portolan-dns.toml",
        &format!(
            "[node]\nname = \"bench\"\nworkers = 1\nstate_dir = \"{d}/portolan-dns/state\"\n\
         [[source]]\ntype = \"file\"\npaths = [\"{data}\"]\n\
         [dns]\nlisten = [\"127.0.0.1:15303\"]\n[[dns.zone]]\nname = \"svc.cluster\"\nschema = \"native\"\n\
         [admin]\nlisten = \"127.0.0.1:15390\"\n"
        ),
    )?;
    let portolan = portolan();
    let servers = vec![
        Server::start("knot", 15301, directory, &["knotd", "-c", &knot])?,
        Server::start("nsd", 15302, directory, &["nsd", "-d", "-c", &nsd])?,
        Server::start("portolan", 15303, directory, &[&portolan, "run", "--config", &own])?,
    ];
    for server in &servers {
        wait_answer(server)?;
    }
    Ok(servers)
}

fn wait_answer(server: &Server) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if super::dns_load::answers(server.port) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(format!("{} does not answer; see target/peers/run/*.log", server.name))
}

/// haproxy, nginx and Portolan before the same four upstreams, all adding forwarding fields.
pub(crate) fn http(directory: &Path) -> Result<Vec<Server>, String> {
    let upstreams = http::origins()?;
    let d = directory.display();
    let list = |prefix: &str, suffix: &str| -> String {
        upstreams
            .iter()
            .enumerate()
            .map(|(n, port)| format!("{}127.0.0.1:{port}{suffix}\n", prefix.replace("{n}", &n.to_string())))
            .collect()
    };
    let haproxy = file(
        directory,
        "haproxy-http.cfg",
        &format!(
            "global\n    nbthread 1\n    maxconn 4000\ndefaults\n    mode http\n    option forwardfor\n    option http-keep-alive\n\
         \x20   timeout client 60s\n    timeout server 60s\n    timeout connect 5s\n    http-reuse always\n\
         frontend web\n    bind 127.0.0.1:16301\n    default_backend web\nbackend web\n    balance roundrobin\n{}",
            list("    server s{n} ", "")
        ),
    )?;
    let nginx = file(
        directory,
        "nginx.conf",
        &format!(
            "worker_processes 1;\ndaemon off;\nmaster_process off;\npid {d}/nginx.pid;\nerror_log stderr error;\nevents {{ worker_connections 4096; }}\n\
         http {{\n access_log off;\n keepalive_requests 1000000000;\n upstream web {{\n{} keepalive 128; keepalive_requests 1000000000;\n }}\n\
         server {{ listen 127.0.0.1:16302; location / {{ proxy_pass http://web; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header Host $host; }} }}\n}}\n",
            list("server ", ";")
        ),
    )?;
    let own =
        file(directory, "portolan-http.toml", &portolan_proxy(directory, &upstreams, "http", 16303, 16390)?)?;
    let portolan = portolan();
    let servers = vec![
        Server::start("haproxy", 16301, directory, &["haproxy", "-db", "-f", &haproxy])?,
        Server::start("nginx", 16302, directory, &["nginx", "-c", &nginx])?,
        Server::start("portolan", 16303, directory, &[&portolan, "run", "--config", &own])?,
    ];
    for server in &servers {
        wait_tcp(server.port)?;
    }
    Ok(servers)
}

/// haproxy (as it comes, and splicing) and Portolan before the same sinks.
pub(crate) fn tcp(directory: &Path) -> Result<Vec<Server>, String> {
    let upstreams = tcp_load::sinks()?;
    let haproxy = |name: &str, port: u16, option: &str| {
        let servers: String =
            upstreams.iter().enumerate().map(|(n, up)| format!("    server s{n} 127.0.0.1:{up}\n")).collect();
        file(
            directory,
            name,
            &format!(
                "global\n    nbthread 1\n    maxconn 4000\ndefaults\n    mode tcp\n{option}    timeout client 60s\n    timeout server 60s\n\
             \x20   timeout connect 5s\nlisten relay\n    bind 127.0.0.1:{port}\n    balance roundrobin\n{servers}"
            ),
        )
    };
    let plain = haproxy("haproxy-tcp.cfg", 17301, "")?;
    let splicing = haproxy("haproxy-splice.cfg", 17302, "    option splice-auto\n")?;
    let own =
        file(directory, "portolan-tcp.toml", &portolan_proxy(directory, &upstreams, "tcp", 17303, 17390)?)?;
    let portolan = portolan();
    let servers = vec![
        Server::start("haproxy", 17301, directory, &["haproxy", "-db", "-f", &plain])?,
        Server::start("haproxy-splice", 17302, directory, &["haproxy", "-db", "-f", &splicing])?,
        Server::start("portolan", 17303, directory, &[&portolan, "run", "--config", &own])?,
    ];
    for server in &servers {
        wait_tcp(server.port)?;
    }
    Ok(servers)
}

fn portolan_proxy(
    directory: &Path,
    upstreams: &[u16],
    protocol: &str,
    port: u16,
    admin: u16,
) -> Result<String, String> {
    let d = directory.display();
    let endpoints: Vec<String> =
        upstreams.iter().map(|up| format!("{{\"address\": \"127.0.0.1\", \"port\": {up}}}")).collect();
    let data = file(
        directory,
        &format!("upstreams-{protocol}.json"),
        &format!(
            "{{\"services\": [{{\"name\": \"web\", \"ports\": [{{\"name\": \"http\"}}], \"endpoints\": [{}]}}]}}\n",
            endpoints.join(", ")
        ),
    )?;
    Ok(format!(
        "[node]\nname = \"bench\"\nworkers = 1\nstate_dir = \"{d}/state-{protocol}\"\n\
         [[source]]\ntype = \"file\"\npaths = [\"{data}\"]\n\
         [[proxy.listener]]\nname = \"web\"\nbind = \"127.0.0.1:{port}\"\nprotocol = \"{protocol}\"\n\
         [[proxy.route]]\nlistener = \"web\"\nservice = \"web\"\n\
         [admin]\nlisten = \"127.0.0.1:{admin}\"\n"
    ))
}
