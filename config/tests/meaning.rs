//! What a file means: defaults, units, inheritance and what is taken from the surroundings.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use portolan_config::{Config, Environment, LogFormat};
use portolan_discovery::{Auth, Secret, SourceKind};
use portolan_proxy::tls::ServerName;
use portolan_proxy::{AccessLogPath, Balance, CheckKind, HashKey, ListenerProtocol};
use portolan_table::{AppProtocol, HostMatch, MergePolicy, PathMatch, RouteOrigin, SourceId};

fn environment() -> Environment {
    Environment {
        host_name: "Edge-1".into(),
        variables: [("HOME".to_owned(), "/home/p".to_owned())].into(),
        addresses: ["127.0.0.1", "10.0.0.7", "::1", "fe80::1", "2001:db8::7"]
            .iter()
            .map(|address| address.parse().expect("an address"))
            .collect(),
    }
}

fn parse(text: &str) -> Config {
    Config::parse(text, "/etc/portolan/p.toml", &environment()).unwrap_or_else(|told| panic!("{told}"))
}

fn addresses(list: &[&str]) -> Vec<SocketAddr> {
    list.iter().map(|address| address.parse().expect("an address")).collect()
}

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|address| address.parse().expect("an address")).collect()
}

#[test]
fn without_a_file_dns_proxy_and_admin_stand_on_loopback() {
    let config = Config::default_without_file(&environment());
    let dns = config.dns.as_ref().unwrap();
    assert_eq!(dns.listen, addresses(&["127.0.0.1:8053"]));
    assert_eq!(dns.zones.len(), 1);
    assert_eq!((&*dns.zones[0].name, dns.ttl, dns.udp_size_max), ("svc.cluster", 5, 1232));
    assert!(dns.forward.is_empty());
    assert_eq!(config.proxy.listeners.len(), 1);
    assert_eq!(config.proxy.listeners[0].bind, addresses(&["127.0.0.1:8080"])[0]);
    assert_eq!(config.proxy.listeners[0].protocol, ListenerProtocol::Http);
    assert_eq!(config.admin.listen, addresses(&["127.0.0.1:9090"]));
    assert!(config.discovery.sources.is_empty() && config.proxy.routes.is_empty());
    assert_eq!((&*config.node.name, config.node.workers), ("edge-1", 0));
}

#[test]
fn with_a_file_absent_dns_and_listeners_mean_none() {
    let config = parse("");
    assert!(config.dns.is_none() && config.proxy.listeners.is_empty());
    assert_eq!(config.admin.listen, addresses(&["127.0.0.1:9090"]));
    assert_eq!(&*parse("[dns]").dns.unwrap().zones[0].name, "svc.cluster");
    assert!(parse("[admin]\nlisten = []\nsocket = \"none\"").admin.listen.is_empty());
}

#[test]
fn the_state_directory_follows_file_then_environment() {
    let state = |text: &str, variables: &[(&str, &str)]| {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment = Environment { variables: variables.collect(), ..environment() };
        let config = Config::parse(text, "/etc/portolan/p.toml", &environment).unwrap();
        assert_eq!(config.discovery.state_dir, config.node.state_dir);
        assert_eq!(config.admin.socket, config.node.state_dir.as_ref().map(|dir| dir.join("admin.sock")));
        config.node.state_dir.map(|dir| dir.to_string_lossy().into_owned())
    };
    let all = [("PORTOLAN_STATE_DIR", "/own"), ("XDG_STATE_HOME", "/xdg"), ("HOME", "/home/p")];
    assert_eq!(state("", &all).as_deref(), Some("/own"));
    assert_eq!(state("", &all[1..]).as_deref(), Some("/xdg/portolan"));
    assert_eq!(state("", &all[2..]).as_deref(), Some("/home/p/.local/state/portolan"));
    assert_eq!(
        state("", &[("XDG_STATE_HOME", "relative"), all[2]]).as_deref(),
        Some("/home/p/.local/state/portolan")
    );
    assert_eq!(state("", &[("PORTOLAN_STATE_DIR", ""), all[1]]).as_deref(), Some("/xdg/portolan"));
    assert_eq!(state("", &[]), None);
    assert_eq!(
        state("[node]\nstate_dir = \"/var/lib/portolan\"", &all).as_deref(),
        Some("/var/lib/portolan")
    );
    assert_eq!(state("[node]\nstate_dir = \"state\"", &all).as_deref(), Some("/etc/portolan/state"));
}

#[test]
fn host_names_that_are_no_domain_names_still_name_the_node() {
    let name = |host_name: &str| {
        let environment = Environment { host_name: host_name.into(), ..Environment::default() };
        Config::parse("", "p.toml", &environment).unwrap().node.name.to_string()
    };
    assert_eq!(name("edge-1.example.com"), "edge-1.example.com");
    assert_eq!(name("my host!"), "my-host");
    assert_eq!(name(""), "localhost");
}

#[test]
fn sources_and_their_secrets() {
    let config = parse(
        r#"
[[source]]
name = "Prod"
type = "marathon"
urls = ["http://10.0.0.2:8080/", "https://[2001:db8::1]:8443/service/marathon"]
groups = ["external"]
refresh = "1h30m"
timeout = "250ms"
merge = "failover"
priority = -1
required = false
stale_max = "1d"
max_removal = "12.5%"
[source.auth]
type = "dcos"
username = "portolan"
private_key_env = "KEY"
login_url = "https://master/acs/api/v1/auth/login"
[source.tls]
ca = "ca.pem"
[[source]]
type = "file"
paths = ["services.d", "/srv/*.toml"]
[[source]]
name = "basic"
type = "marathon"
urls = ["http://h"]
auth = { type = "basic", username = "u", password_file = "/run/secret" }
"#,
    );
    let [prod, file, basic] = &config.discovery.sources[..] else { panic!("three sources") };
    assert_eq!(
        (&*prod.name, prod.id, prod.merge, prod.priority),
        ("prod", SourceId(0), MergePolicy::Failover, -1)
    );
    assert_eq!((prod.refresh, prod.timeout), (Duration::from_secs(5400), Duration::from_millis(250)));
    assert_eq!((prod.required, prod.stale_max), (false, Some(Duration::from_secs(86_400))));
    assert!((prod.max_removal - 0.125).abs() < 1e-12);
    let SourceKind::Marathon(marathon) = &prod.kind else { panic!("marathon") };
    assert_eq!(marathon.urls, ["http://10.0.0.2:8080", "https://[2001:db8::1]:8443/service/marathon"]);
    assert_eq!(marathon.tls.ca, Some(PathBuf::from("/etc/portolan/ca.pem")));
    assert!(marathon.tls.verify);
    let login_url = Some("https://master/acs/api/v1/auth/login".to_owned());
    let private_key = Secret::Env("KEY".into());
    assert_eq!(marathon.auth, Auth::Dcos { uid: "portolan".into(), private_key, login_url });
    assert_eq!((&*file.name, file.id, file.refresh), ("file", SourceId(1), Duration::from_secs(30)));
    let SourceKind::File(paths) = &file.kind else { panic!("file") };
    assert_eq!(paths.paths, [PathBuf::from("/etc/portolan/services.d"), PathBuf::from("/srv/*.toml")]);
    assert_eq!((file.required, file.stale_max, file.refresh), (true, None, Duration::from_secs(30)));
    let SourceKind::Marathon(marathon) = &basic.kind else { panic!("marathon") };
    let password = Secret::File("/run/secret".into());
    assert_eq!(marathon.auth, Auth::Basic { username: "u".into(), password });
    assert_eq!(basic.refresh, Duration::from_secs(300));
}

#[test]
fn dns_knows_the_node_and_the_proxy() {
    let dns = |listeners: &str| {
        let text = format!(
            "[node]\nname = \"Edge-9\"\n[dns]\nlisten = [\"0.0.0.0:53\", \"[::]:53\"]\nttl = \"1m\"\n\
             forward = [\"192.0.2.53:53\"]\nallow_forward = [\"10.0.0.0/8\", \"::/0\"]\n{listeners}"
        );
        parse(&text).dns.unwrap()
    };
    let of = |bind: &str| dns(&format!("[[proxy.listener]]\nbind = \"{bind}\"")).node.proxy_addresses;
    let plain = dns("");
    assert_eq!((&*plain.node.name, plain.ttl, plain.forward.len()), ("edge-9", 60, 1));
    assert_eq!(plain.allow_forward[1].address, ips(&["::"])[0]);
    assert_eq!(plain.node.addresses, ips(&["10.0.0.7", "2001:db8::7"]));
    assert_eq!(plain.node.proxy_addresses, ips(&[]));
    assert_eq!(of("127.0.0.1:80"), ips(&["127.0.0.1"]));
    assert_eq!(of("192.0.2.1:80"), ips(&["192.0.2.1"]));
    assert_eq!(of("0.0.0.0:80"), ips(&["10.0.0.7"]));
    assert_eq!(of("[::]:80"), ips(&["2001:db8::7"]));
}

#[test]
fn routes_in_all_their_shapes() {
    let config = parse(
        r#"
[[proxy.listener]]
name = "web"
bind = "0.0.0.0:80"
[[proxy.listener]]
name = "db"
bind = "127.0.0.1:5432"
protocol = "tcp"
[[proxy.route]]
listener = "web"
host = "*.Example.com."
path = "/shop/"
methods = ["GET", "HEAD"]
headers = { X-Version = "2", "X-Debug" = true }
service = "Web.Shop.Prod"
port = "http"
[[proxy.route]]
name = "canary"
path = '/v[0-9]+/.*'
path_match = "regex"
targets = [{ service = "web.a", port = 1, weight = 9 }, { service = "web.b", weight = 0 }, { service = "web.c" }]
[[proxy.route]]
listener = "db"
service = "db.prod"
"#,
    );
    let [shop, canary, db] = &config.proxy.routes[..] else { panic!("three routes") };
    assert_eq!((&*shop.name, shop.origin.clone()), ("route-1", RouteOrigin::File(0)));
    assert_eq!(shop.matches.listener.as_deref(), Some("web"));
    assert_eq!(shop.matches.host, HostMatch::Below("example.com".into()));
    assert_eq!(shop.matches.path, PathMatch::Prefix("/shop".into()));
    assert!(shop.matches.methods.iter().map(|method| &**method).eq(["GET", "HEAD"]));
    let headers: Vec<_> =
        shop.matches.headers.iter().map(|header| (&*header.name, header.value.as_deref())).collect();
    assert_eq!(headers, [("x-version", Some("2")), ("x-debug", None)]);
    assert_eq!(
        (shop.targets[0].service.as_str(), shop.targets[0].port.as_deref()),
        ("web.shop.prod", Some("http"))
    );
    assert_eq!((&*canary.name, &canary.matches.listener), ("canary", &None));
    assert_eq!(canary.matches.path, PathMatch::Regex("/v[0-9]+/.*".into()));
    let targets: Vec<_> =
        canary.targets.iter().map(|t| (t.service.as_str(), t.port.as_deref(), t.weight)).collect();
    assert_eq!(targets, [("web.a", Some("1"), 9), ("web.b", None, 0), ("web.c", None, 1)]);
    assert_eq!((db.matches.path.clone(), db.matches.host.clone()), (PathMatch::default(), HostMatch::Any));
}

#[test]
fn services_inherit_key_by_key() {
    let config = parse(
        r#"
[proxy.upstream]
balance = "consistent-hash"
hash_key = "header:X-User"
attempts = 2
retry_budget = "10%"
[proxy.upstream.ejection]
failures = 7
[proxy.upstream.check]
type = "http"
path = "/health"
interval = "10s"
[[proxy.service]]
name = "same"
[[proxy.service]]
name = "other"
balance = "least-request"
ejection = { base = "1s" }
check = { host = "h" }
[[proxy.service]]
name = "bare"
hash_key = "path"
ejection = { enabled = false }
check = { type = "none" }
[[proxy.service]]
name = "tcp"
check = { type = "tcp", fall = 9 }
"#,
    );
    let common = &config.proxy.upstream;
    assert_eq!(common.balance, Balance::ConsistentHash(HashKey::Header("x-user".into())));
    assert_eq!((common.attempts_max, common.retry_budget), (2, 0.1));
    let of =
        |name: &str| &config.proxy.services.iter().find(|(service, _)| service.as_str() == name).unwrap().1;
    assert_eq!(of("same"), common);
    let other = of("other");
    assert_eq!((&other.balance, other.attempts_max), (&Balance::LeastRequest, 2));
    let ejection = other.ejection.as_ref().unwrap();
    assert_eq!((ejection.failures, ejection.base), (7, Duration::from_secs(1)));
    let check = other.check.as_ref().unwrap();
    assert_eq!(check.kind, CheckKind::Http { path: "/health".into(), host: Some("h".into()) });
    assert_eq!(check.interval, Duration::from_secs(10));
    let bare = of("bare");
    assert_eq!(bare.balance, Balance::ConsistentHash(HashKey::Path));
    assert!(bare.ejection.is_none() && bare.check.is_none());
    let tcp = of("tcp").check.as_ref().unwrap();
    assert_eq!((&tcp.kind, tcp.fall, tcp.interval), (&CheckKind::Tcp, 9, Duration::from_secs(10)));
}

#[test]
fn tls_to_endpoints_is_inherited_key_by_key() {
    let config = parse(
        r#"
[proxy.upstream.tls]
ca = "ca.pem"
cert = "own.crt"
key = "own.key"
[[proxy.service]]
name = "named"
tls = { enabled = true, server_name = "shop.internal" }
[[proxy.service]]
name = "addressed"
tls = { server_name = "10.0.0.7", verify = false }
"#,
    );
    let common = &config.proxy.upstream.tls;
    assert_eq!((common.enabled, common.verify, &common.server_name), (None, true, &None));
    assert_eq!(common.ca.as_deref(), Some(Path::new("/etc/portolan/ca.pem")));
    let own = ("/etc/portolan/own.crt".into(), "/etc/portolan/own.key".into());
    assert_eq!(common.identity, Some(own));
    assert!(common.is_for(AppProtocol::Https) && !common.is_for(AppProtocol::Http));
    let [(_, named), (_, addressed)] = &*config.proxy.services else { panic!("two services") };
    assert_eq!((&named.tls.ca, &named.tls.identity), (&common.ca, &common.identity));
    assert_eq!(named.tls.server_name, Some(ServerName::try_from("shop.internal").unwrap()));
    assert!(named.tls.is_for(AppProtocol::Unknown));
    assert!(!addressed.tls.verify);
    assert!(matches!(addressed.tls.server_name, Some(ServerName::IpAddress(_))));

    let config = parse(
        "[proxy.upstream.tls]\nverify = false\n[[proxy.service]]\nname = \"a\"\ntls = { ca = \"ca.pem\" }\n",
    );
    assert!(!config.proxy.upstream.tls.verify && config.proxy.services[0].1.tls.verify);
}

#[test]
fn proxy_sizes_times_and_logs() {
    let config = parse(
        r#"
[log]
level = "warn,portolan_dns=debug"
format = "json"
[proxy]
drain = "0s"
trusted_proxies = ["10.0.0.0/8"]
forwarded = true
[proxy.timeouts]
connect = "500ms"
[proxy.limits]
request_head_max = "64KiB"
request_body_max = "10MB"
[proxy.access_log]
path = "access.log"
sample = "1%"
[admin]
listen = "127.0.0.1:0"
metrics_listen = "127.0.0.1:0"
token_file = "token"
allowed_hosts = ["Edge.Example.com"]
"#,
    );
    assert_eq!((config.log.level.as_str(), config.log.format), ("warn,portolan_dns=debug", LogFormat::Json));
    let proxy = &config.proxy;
    assert_eq!((proxy.drain, proxy.forwarded, proxy.trusted_proxies[0].prefix), (Duration::ZERO, true, 8));
    assert_eq!(proxy.timeouts.connect, Duration::from_millis(500));
    assert_eq!(proxy.timeouts.keep_alive, Duration::from_secs(60));
    assert_eq!((proxy.limits.request_head_max, proxy.limits.request_body_max), (65_536, Some(10_000_000)));
    let log = proxy.access_log.as_ref().unwrap();
    assert_eq!(log.path, AccessLogPath::File("/etc/portolan/access.log".into()));
    assert!((log.sample - 0.01).abs() < 1e-12);
    assert_eq!(parse("[proxy.access_log]").proxy.access_log.unwrap().path, AccessLogPath::Stdout);
    assert_eq!(config.admin.metrics_listen, Some("127.0.0.1:0".parse().unwrap()));
    assert_eq!(config.admin.token, Some(Secret::File("/etc/portolan/token".into())));
    assert!(config.admin.allowed_hosts.iter().map(|host| &**host).eq(["edge.example.com"]));
}

#[test]
fn addresses_that_do_not_clash() {
    parse("[dns]\nlisten = [\"0.0.0.0:53\", \"[::]:53\"]\n[[proxy.listener]]\nbind = \"127.0.0.1:0\"\n");
    parse(
        "[[proxy.listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n[[proxy.listener]]\nname = \"b\"\nbind = \"127.0.0.1:0\"\n",
    );
    parse("[dns]\nlisten = [\"127.0.0.1:53\", \"127.0.0.2:53\"]\n");
}

#[test]
fn the_process_has_surroundings() {
    let environment = Environment::of_process();
    assert!(environment.addresses.iter().any(IpAddr::is_loopback));
    assert!(!environment.host_name.is_empty());
    let shown = format!("{environment:?}");
    assert!(
        environment.variables.values().filter(|value| value.len() > 20).all(|value| !shown.contains(value))
    );
}
