//! The admin side before clients that are slow, silent, many or wrong.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::support::PATIENCE;
use crate::support::site::{
    Backend, DNS, Site, exchange, exchange_on, get, listener, route, service, unix_stream,
};

fn request(method: &str, host: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// Fails unless the body is an object with a generation.
fn object(what: &str, body: &str) -> Value {
    let value: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{what}: {error}: {body:?}"));
    assert!(value["generation"].is_u64(), "{what}: {body}");
    value
}

#[test]
fn every_answer_of_the_api_is_an_object_with_a_generation() {
    let backend = Backend::start();
    let site = Site::new(&service("web.shop", &[backend.address]));
    site.configure(&format!(
        "metrics_listen = \"127.0.0.1:0\"\n{DNS}{}{}",
        listener("web", "http"),
        route("web", "shop.example.com", "web.shop")
    ));
    let mut node = site.run();
    let (admin, metrics, web) = (node.bound("admin"), node.bound("metrics"), node.bound("web"));
    let known = ["services", "endpoints", "routes", "listeners", "sources", "table", "explain?name=x"];
    for what in known {
        let (status, body) = get(admin, "localhost", &format!("/api/v1/{what}")).unwrap();
        assert_eq!(status, 200, "{what}");
        object(what, &body);
    }
    for (at, method, host, path, status) in [
        (admin, "GET", "localhost", "/api/v1/nothing", 404),
        (admin, "GET", "localhost", "/api/v1/", 404),
        (admin, "GET", "localhost", "/api/v1/explain", 400),
        (admin, "GET", "localhost", "/api/v1/explain?url=nonsense", 400),
        (admin, "GET", "evil.example", "/api/v1/table", 421),
        (admin, "POST", "localhost", "/api/v1/reload", 403),
        (admin, "DELETE", "localhost", "/api/v1/table", 403),
        (metrics, "GET", "localhost", "/api/v1/table", 404),
    ] {
        let told = format!("{method} {host}{path}");
        let (found, body) = exchange(at, &request(method, host, path)).unwrap();
        assert_eq!(found, status, "{told}: {body}");
        assert!(!object(&told, &body)["error"].as_str().unwrap().is_empty(), "{told}: {body}");
    }

    let socket = site.path("state/admin.sock");
    let by_socket = |method: &str, path: &str| {
        let (status, body) = exchange_on(unix_stream(&socket)?, &request(method, "any", path))?;
        Some((status, object(path, &body)))
    };
    assert_eq!(by_socket("DELETE", "/api/v1/table").unwrap().0, 405);
    assert_eq!(by_socket("POST", "/api/v1/nothing").unwrap().0, 404);
    let (status, body) = by_socket("POST", "/api/v1/reload").unwrap();
    assert_eq!((status, &body["accepted"]), (202, &"reload".into()));

    // While a request drains, the node takes no more commands.
    let asking = std::thread::spawn(move || get(web, "shop.example.com", "/slow"));
    backend.until_slow();
    assert_eq!(by_socket("POST", "/api/v1/stop").unwrap().0, 202);
    node.until("commands are refused", |_| (by_socket("POST", "/api/v1/reload")?.0 == 503).then_some(()));
    backend.release();
    assert_eq!(asking.join().unwrap().unwrap().0, 200);
    assert_eq!(node.ended().code(), Some(0));
}

/// Services whose list has some megabytes, of few and large parts: it is the octets that count here.
fn large() -> Site {
    let value = "x".repeat(60_000);
    let labels =
        |name: String| format!("[[service]]\nname = \"{name}\"\nlabels = {{ note = \"{value}\" }}\n");
    let services: String = (0..100).map(|n| labels(format!("large-{n}.load"))).collect();
    let site = Site::new(&services);
    site.configure("");
    site
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn readers_that_do_not_read_take_little_memory_and_shut_nobody_out() {
    const READERS: usize = 50;
    let site = large();
    let mut node = site.run();
    let admin = node.bound("admin");
    let (_, body) = get(admin, "localhost", "/api/v1/services").unwrap();
    assert!(body.len() > 4 << 20, "{}", body.len());
    let before = resident_kib(node.pid());

    let ask = || {
        let mut stream = TcpStream::connect(admin).unwrap();
        stream.write_all(request("GET", "localhost", "/api/v1/services").as_bytes()).unwrap();
        stream
    };
    let mut readers: Vec<TcpStream> = (0..READERS).map(|_| ask()).collect();
    // Those for whom there is no room get it from those who were there before, so the last one is served.
    let mut last = readers.pop().unwrap();
    last.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut first = [0; 12];
    last.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let grown = resident_kib(node.pid()).saturating_sub(before) / 1024;
    // Room for 64 MiB of answers, what two more take to be composed, and what the allocator keeps of it.
    assert!(grown < 140, "{READERS} answers of {} octets that nobody reads take {grown} MiB", body.len());
    assert_eq!(get(admin, "localhost", "/healthz").unwrap().0, 200);
    assert_eq!(get(admin, "localhost", "/metrics").unwrap().0, 200);
    node.stop();
}

#[test]
fn connections_that_say_nothing_do_not_keep_probes_out() {
    let site = Site::new("");
    site.configure("");
    let mut node = site.run();
    let admin = node.bound("admin");
    let silent: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(admin).unwrap()).collect();
    for path in ["/healthz", "/readyz", "/metrics", "/api/v1/table"] {
        let (status, body) = get(admin, "localhost", path).unwrap_or_else(|| panic!("{path}: no answer"));
        assert_eq!(status, 200, "{path}: {body}");
    }
    let (_, metrics) = get(admin, "localhost", "/metrics").unwrap();
    let cut = metrics.lines().find_map(|line| {
        line.strip_prefix("portolan_admin_connections_cut_total{reason=\"crowded\"} ")?.parse::<u32>().ok()
    });
    assert!(cut.is_some_and(|cut| cut >= 44), "{cut:?}");
    drop(silent);
    let socket = site.path("state/admin.sock");
    let by_socket = exchange_on(unix_stream(&socket).unwrap(), &request("GET", "any", "/healthz"));
    assert_eq!(by_socket.unwrap().0, 200);
    node.stop();
}
