//! A running node before the clients of others: dig, kdig, curl, nghttp, h2load, and a scraper.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::support::program::{Running, client, with_real_clients};
use crate::support::refusing::Refusing;
use crate::support::site::{Backend, DNS, Site, exchange, get, listener, reloads, route, service};

/// A node with two services, `web.shop` (one real backend) and `big` (too many addresses for a small answer), and
/// one without endpoints.
struct Shop {
    backend: Backend,
    site: Site,
    node: Running,
}

impl Shop {
    fn start(more: &str) -> Self {
        let backend = Backend::start();
        let many: Vec<SocketAddr> = (1..=60).map(|n| SocketAddr::from(([10, 9, 0, n], 80))).collect();
        let services = [
            service("web.shop", &[backend.address, "[2001:db8::1]:80".parse().unwrap()]),
            service("v4.shop", &[backend.address]),
            service("big", &many),
            service("empty", &[]),
        ];
        let site = Site::new(&services.concat());
        site.configure(&format!(
            "{DNS}{}{}{}{more}",
            listener("web", "http"),
            route("web", "shop.example.com", "v4.shop"),
            route("web", "empty.example.com", "empty")
        ));
        let node = site.run();
        Self { backend, site, node }
    }

    /// What dig says to these arguments.
    fn dig(&mut self, question: &str) -> String {
        let dns = self.node.bound("dns");
        let (ip, port) = (format!("@{}", dns.ip()), dns.port().to_string());
        let arguments: Vec<&str> = [&*ip, "-p", &*port].into_iter().chain(question.split(' ')).collect();
        client("dig", &arguments)
    }

    /// What curl says to these arguments for a path of the listener.
    fn curl(&mut self, arguments: &[&str], path: &str) -> String {
        let url = format!("http://{}{path}", self.node.bound("web"));
        client("curl", &[&["-sS", "--max-time", "60"], arguments, &[&*url]].concat())
    }
}

/// `status: X` of a dig answer.
fn status(answer: &str) -> &str {
    answer.split("status: ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or("none")
}

/// The records of a section, one line each.
fn section<'a>(answer: &'a str, name: &str) -> Vec<&'a str> {
    let title = format!(";; {name} SECTION:");
    answer.lines().skip_while(|line| *line != title).skip(1).take_while(|line| !line.is_empty()).collect()
}

#[test]
fn dig_is_answered_as_the_standards_say() {
    if !with_real_clients() {
        return;
    }
    let mut shop = Shop::start("");
    let a = shop.dig("v4.shop.svc.cluster A");
    assert!(status(&a) == "NOERROR" && a.contains("flags: qr aa rd;"), "{a}");
    assert!(section(&a, "ANSWER").iter().any(|line| line.ends_with("IN\tA\t127.0.0.1")), "{a}");
    let aaaa = shop.dig("web.shop.svc.cluster AAAA");
    assert!(section(&aaaa, "ANSWER").iter().any(|line| line.ends_with("2001:db8::1")), "{aaaa}");
    let srv = shop.dig("_http._tcp.web.shop.svc.cluster SRV");
    assert_eq!((section(&srv, "ANSWER").len(), section(&srv, "ADDITIONAL").len()), (2, 2), "{srv}");
    let port = format!(" {} ", shop.backend.address.port());
    assert!(section(&srv, "ANSWER").iter().any(|line| line.contains(&port)), "{srv}");
    assert!(shop.dig("web.shop.svc.cluster TXT +short").contains("\"source=files\""));
    let ptr = shop.dig("-x 10.9.0.7");
    assert!(section(&ptr, "ANSWER")[0].contains(".inst.big.svc.cluster."), "{ptr}");
    for (kind, data) in [("SOA", "edge-1.node.svc.cluster. hostmaster"), ("NS", "edge-1.node.svc.cluster.")] {
        let apex = shop.dig(&format!("svc.cluster {kind}"));
        assert!(section(&apex, "ANSWER")[0].contains(data), "{apex}");
    }
    let quiet = shop.dig("v4.shop.svc.cluster A +norecurse");
    assert!(quiet.contains("flags: qr aa;"), "{quiet}");
    let any = shop.dig("v4.shop.svc.cluster ANY");
    assert!(status(&any) == "NOERROR" && any.contains("RFC8482"), "{any}");
    shop.node.stop();
}

#[test]
fn dig_is_told_what_there_is_not() {
    if !with_real_clients() {
        return;
    }
    let mut shop = Shop::start("");
    for (question, code) in [
        ("v4.shop.svc.cluster AAAA", "NOERROR"),
        ("v4.shop.svc.cluster TYPE65280", "NOERROR"),
        ("empty.svc.cluster A", "NOERROR"),
        ("shop.svc.cluster A", "NOERROR"),
        ("nope.svc.cluster A", "NXDOMAIN"),
    ] {
        let answer = shop.dig(question);
        assert_eq!(status(&answer), code, "{question}: {answer}");
        assert!(section(&answer, "ANSWER").is_empty(), "{question}: {answer}");
        let soa = section(&answer, "AUTHORITY");
        assert!(soa.len() == 1 && soa[0].contains("SOA"), "RFC 2308 §3: {question}: {answer}");
    }
    for question in ["example.com A", ". NS", "-x 192.0.2.9", "-c CH -t TXT version.bind"] {
        let answer = shop.dig(question);
        assert_eq!(status(&answer), "REFUSED", "{question}: {answer}");
        assert!(!answer.contains("flags: qr aa"), "{question}: {answer}");
    }
    assert_eq!(status(&shop.dig("v4.shop.svc.cluster A +edns=1 +noednsneg")), "BADVERS");
    assert_eq!(status(&shop.dig("v4.shop.svc.cluster A +opcode=UPDATE")), "NOTIMP");
    shop.node.stop();
}

#[test]
fn long_answers_go_by_tcp() {
    if !with_real_clients() {
        return;
    }
    let mut shop = Shop::start("");
    let cut = shop.dig("big.svc.cluster A +bufsize=512 +ignore");
    assert!(cut.contains("flags: qr aa tc rd;") && section(&cut, "ANSWER").len() < 60, "{cut}");
    for question in ["big.svc.cluster A +bufsize=512", "big.svc.cluster A +noedns", "big.svc.cluster A +tcp"]
    {
        let whole = shop.dig(question);
        assert_eq!(section(&whole, "ANSWER").len(), 60, "{question}: {whole}");
        assert!(whole.contains("(TCP)"), "{question}: {whole}");
    }
    let dns = shop.node.bound("dns");
    let (ip, port) = (format!("@{}", dns.ip()), dns.port().to_string());
    let names =
        ["v4.shop.svc.cluster", "A", "big.svc.cluster", "A", "svc.cluster", "SOA", "nope.svc.cluster"];
    let told = client("kdig", &[&["+tcp", "+keepopen", &*ip, "-p", &*port], &names[..]].concat());
    assert_eq!(told.matches("status: NOERROR").count(), 3, "{told}");
    assert_eq!(told.matches("status: NXDOMAIN").count(), 1, "{told}");
    let (_, metrics) = get(shop.node.bound("admin"), "localhost", "/metrics").unwrap();
    let accepted = "portolan_dns_tcp_accepted_total{outcome=\"served\"} 4";
    assert!(metrics.contains(accepted), "kdig's four on one connection, dig's three on one each: {metrics}");
    shop.node.stop();
}

#[test]
fn http_clients_are_served() {
    if !with_real_clients() {
        return;
    }
    let mut shop = Shop::start("");
    let body = shop.site.path("body");
    std::fs::write(&body, vec![b'x'; 3_000_000]).unwrap();
    let body = format!("@{}", body.display());
    let host = ["-H", "Host: shop.example.com"];
    let size = "got 3000000";
    for (arguments, answer) in [
        (&[][..], "got 0"),
        (&["--http1.0"], "got 0"),
        (&["--http2-prior-knowledge"], "got 0"),
        (&["--data-binary", &body], size),
        (&["--data-binary", &body, "-H", "Expect: 100-continue"], size),
        (&["--data-binary", &body, "-H", "Transfer-Encoding: chunked"], size),
        (&["--data-binary", &body, "--http2-prior-knowledge"], size),
    ] {
        let told = shop.curl(&[&host[..], &["-i"], arguments].concat(), "/up");
        assert!(told.contains(" 200") && told.contains(answer), "{arguments:?}: {told}");
        let continued = told.contains("100 Continue");
        assert!(continued || !arguments.contains(&"Expect: 100-continue"), "{told}");
    }
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let code = ["-o", "/dev/null", "-w", "%{http_code}", version];
        assert_eq!(shop.curl(&code, "/"), "404", "no such host");
        let empty = [&code[..], &["-H", "Host: empty.example.com"]].concat();
        assert_eq!(shop.curl(&empty, "/"), "503", "no endpoint");
    }
    let url = format!("http://{}/", shop.node.bound("web"));
    let told = client("nghttp", &["-v", "-H:authority: shop.example.com", &url]);
    assert!(told.contains(":status: 200"), "{told}");
    let load = ["-n", "200", "-c", "4", "-m", "8", "-H", ":authority: shop.example.com", &*url];
    let told = client("h2load", &load);
    assert!(told.contains("200 succeeded, 0 failed") && told.contains("200 2xx"), "{told}");
    shop.node.stop();
}

#[test]
fn the_admin_side_tells_friend_from_foe() {
    let mut shop = Shop::start("");
    let admin = shop.node.bound("admin");
    for (host, status) in [("localhost", 200), ("edge-1", 200), ("127.0.0.1", 200), ("evil.example", 421)] {
        for path in ["/metrics", "/healthz", "/readyz", "/api/v1/table", "/api/v1/services"] {
            assert_eq!(get(admin, host, path).unwrap().0, status, "{host}{path}");
        }
    }
    let post = |path: &str| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n");
        exchange(admin, &format!("{head}Connection: close\r\n\r\n")).unwrap().0
    };
    assert_eq!((post("/api/v1/reload"), post("/api/v1/stop")), (403, 403));
    if with_real_clients() {
        let socket = shop.site.path("state/admin.sock");
        let socket = socket.to_str().unwrap();
        let reload = ["-sS", "-X", "POST", "-w", "%{http_code}", "--unix-socket", socket];
        let told = client("curl", &[&reload[..], &["http://localhost/api/v1/reload"]].concat());
        assert!(told.ends_with("202"), "{told}");
        shop.node.until("the reload", |_| (reloads(admin)? >= 1.0).then_some(()));
        let told = client("curl", &[&reload[..], &["http://localhost/api/v1/stop"]].concat());
        assert!(told.ends_with("202"), "{told}");
        assert_eq!(shop.node.ended().code(), Some(0));
    }
}

/// Families of a text of metrics: name to type. Panics where the text is not well formed.
fn families(text: &str) -> BTreeMap<String, String> {
    let mut families = BTreeMap::new();
    let mut series = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!((kind == "counter") == name.ends_with("_total"), "{line}");
            assert_eq!(families.insert(name.to_owned(), kind.to_owned()), None, "{line}: twice");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
        assert!(value.parse::<f64>().is_ok_and(|value| value.is_finite()), "{line}");
        assert!(series.insert(name.to_owned()), "{line}: twice");
        let bare = name.split('{').next().unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .into_iter()
            .filter_map(|part| bare.strip_suffix(part))
            .find(|stem| families.get(*stem).is_some_and(|kind| kind == "histogram"))
            .unwrap_or(bare);
        assert!(families.contains_key(family), "{line}: no TYPE before it");
    }
    families
}

/// The rows of the tables in docs/metrics.md: name to type.
fn documented() -> BTreeMap<String, String> {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let row = |line: &str| {
        let mut cells =
            line.strip_prefix("| `")?.split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
        Some((cells.next()?, cells.next()?))
    };
    page.lines().filter_map(row).collect()
}

#[test]
fn every_metric_is_documented_and_every_documented_one_is_there() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let resolver = silent.local_addr().unwrap();
    let dead = Refusing::new();
    let mut shop = Shop::start(&format!(
        "[[source]]\ntype = \"marathon\"\nurls = [\"{}\"]\nrequired = false\n",
        dead.url()
    ));
    let web = shop.node.bound("web");
    assert_eq!(get(web, "shop.example.com", "/").unwrap().0, 200);
    // What is counted by a label is there once it happened: a forwarder whose resolver is silent, a connection.
    let file = std::fs::read_to_string(shop.site.file()).unwrap();
    let forward = format!("[dns]\nforward = [\"{resolver}\"]\nforward_timeout = \"1s\"\n");
    let secure = shop.site.certificate("secure", "shop.example.com") + &listener("secure", "https");
    shop.site.write("portolan.toml", &(file.replacen("[dns]\n", &forward, 1) + &secure));
    shop.node.signal("HUP");
    let (admin, dns) = (shop.node.bound("admin"), shop.node.bound("dns"));
    shop.node.until("the forwarder", |_| (reloads(admin)? >= 1.0).then_some(()));
    crate::support::block_on(async {
        use hickory_proto::rr::RecordType;
        crate::support::dns::ask(dns, "example.com", RecordType::A).await;
    });
    drop(std::net::TcpStream::connect(dns).unwrap());

    let pages = documented();
    assert!(pages.len() > 50, "{}", pages.len());
    // Saved tables are written after a few seconds.
    let shown = shop.node.until("all that the page names", |_| {
        let (_, text) = get(admin, "localhost", "/metrics")?;
        let shown = families(&text);
        pages
            .keys()
            .all(|name| shown.contains_key(name) || name == "portolan_state_loads_total")
            .then_some(shown)
    });
    let undocumented: Vec<_> = shown.keys().filter(|name| !pages.contains_key(*name)).collect();
    assert!(undocumented.is_empty(), "not in docs/metrics.md: {undocumented:?}");
    for (name, kind) in &shown {
        assert_eq!(pages[name], *kind, "{name}");
    }
    shop.node.stop();
    // The next start reads the saved tables.
    shop.node = shop.site.run();
    let (_, text) = get(shop.node.bound("admin"), "localhost", "/metrics").unwrap();
    assert!(families(&text).contains_key("portolan_state_loads_total"), "{text}");
    shop.node.stop();
}
