//! The TOML that a `config.json` amounts to.

use core::fmt::Write as _;
use core::net::{IpAddr, SocketAddr};

use portolan_dns::mesos_dns::{Compat, Profile};

use super::{MesosDns, address};

/// Everybody may use the forwarder, as there.
const ANYWHERE: &str = "[\"0.0.0.0/0\", \"::/0\"]";

/// Longest period between lists, in seconds.
const REFRESH_MAX: u32 = 7 * 24 * 3600;

/// Everything as a file that [`Config::parse`](crate::Config::parse) takes.
pub(super) fn text(settings: &MesosDns) -> String {
    let mut out = String::new();
    header(&mut out, settings);
    source(&mut out, settings);
    if settings.dns {
        dns(&mut out, settings);
    }
    zone(&mut out, settings);
    out
}

fn line(out: &mut String, key: &str, value: impl core::fmt::Display) {
    let _ = writeln!(out, "{key} = {value}");
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    ::toml::Value::String(text.to_owned()).to_string()
}

fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| quoted(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

fn addresses(items: &[SocketAddr]) -> String {
    list(items.iter().map(ToString::to_string))
}

fn header(out: &mut String, settings: &MesosDns) {
    let _ = writeln!(out, "# What {} amounts to.", quoted(&settings.file));
    // The file says where to listen, and there alone.
    let _ = writeln!(out, "\n[admin]");
    line(out, "listen", "[]");
    line(out, "socket", "\"none\"");
}

fn source(out: &mut String, settings: &MesosDns) {
    let scheme = if settings.https { "https" } else { "http" };
    let masters = settings.masters.iter().filter_map(|master| address::master(master));
    // ZooKeeper goes first, as there; the masters that are written help while it cannot be asked.
    let mut urls: Vec<String> = zk(&settings.zk_read, scheme).into_iter().collect();
    for url in masters.map(|master| format!("{scheme}://{master}")) {
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    let _ = writeln!(out, "\n[[source]]\nname = \"mesos\"\ntype = \"mesos\"");
    line(out, "urls", list(&urls));
    if settings.https && urls.iter().any(|url| url.starts_with("zk://")) {
        line(out, "https", true);
    }
    let refresh = quoted(&seconds(settings.refresh_seconds.min(REFRESH_MAX)));
    line(out, "refresh", &refresh);
    line(out, "poll", &refresh);
    line(out, "timeout", quoted(&seconds(settings.state_timeout_seconds)));
    auth(out, settings);
    tls(out, settings);
}

/// Where the leader is found: in ZooKeeper, or at a master. Credentials of the ensemble are not used by the program, and
/// would stand in the file.
fn zk(given: &str, scheme: &str) -> Option<String> {
    match address::ensemble(given) {
        Some((hosts, path)) => Some(format!("zk://{hosts}/{path}")),
        None => Some(format!("{scheme}://{}", address::named_master(given)?)),
    }
}

fn auth(out: &mut String, settings: &MesosDns) {
    match &*settings.authentication {
        "basic" => {
            let _ = writeln!(out, "\n[source.auth]\ntype = \"basic\"");
            line(out, "username", quoted(&settings.credentials.principal));
            let _ =
                writeln!(out, "# write MesosCredentials.Secret into this file, readable for Portolan alone");
            line(out, "password_file", "\"mesos-secret\"");
        }
        "iam" => {
            let _ = writeln!(out, "\n[source.auth]\ntype = \"dcos\"");
            let iam = settings.iam.as_ref();
            line(out, "username", quoted(iam.map_or("", |iam| &iam.uid)));
            let _ = writeln!(
                out,
                "# write \"private_key\" of IAMConfigFile into this file, readable for Portolan alone"
            );
            line(out, "private_key_file", "\"mesos-account.key\"");
            if let Some(iam) = iam {
                line(out, "login_url", quoted(&iam.login_endpoint));
            }
        }
        _ => {}
    }
}

fn tls(out: &mut String, settings: &MesosDns) {
    if !settings.https {
        return;
    }
    let _ = writeln!(out, "\n[source.tls]");
    if settings.ca_file.is_empty() {
        let _ = writeln!(out, "# without CACertFile Mesos-DNS verifies nothing");
        line(out, "verify", false);
    } else {
        line(out, "ca", quoted(&absolute(&settings.ca_file)));
    }
    if !settings.cert_file.is_empty() {
        line(out, "cert", quoted(&absolute(&settings.cert_file)));
        line(out, "key", quoted(&absolute(&settings.key_file)));
    }
}

/// Paths start at the working directory there, at the file's directory here.
fn absolute(path: &str) -> String {
    std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| path.to_string_lossy().into_owned())
}

fn dns(out: &mut String, settings: &MesosDns) {
    let _ = writeln!(out, "\n[dns]");
    line(out, "listen", addresses(&[SocketAddr::new(settings.listener, settings.port)]));
    if !settings.external {
        return;
    }
    line(out, "forward", addresses(&settings.forward));
    line(out, "forward_timeout", quoted(&seconds(settings.timeout)));
    if settings.options.compat == Compat::Strict {
        line(out, "allow_forward", ANYWHERE);
    }
    for (zone, resolvers) in &settings.zone_resolvers {
        let resolvers: Vec<SocketAddr> =
            resolvers.iter().filter_map(|text| address::resolver(text)).collect();
        let _ = writeln!(out, "\n[[dns.forward_zone]]");
        line(out, "name", quoted(zone));
        line(out, "forward", addresses(&resolvers));
    }
}

fn zone(out: &mut String, settings: &MesosDns) {
    if !settings.dns {
        // Answered over HTTP alone.
        let _ = writeln!(out, "\n[dns]\nlisten = []");
    }
    let _ = writeln!(out, "\n[[dns.zone]]");
    line(out, "name", quoted(&settings.domain));
    line(out, "schema", "\"mesos-dns\"");
    line(out, "sources", "[\"mesos\"]");
    let _ = writeln!(out, "\n[dns.zone.mesos_dns]");
    let profile = if settings.options.profile == Profile::V0_7 { "0.7" } else { "0.8" };
    line(out, "profile", quoted(profile));
    line(out, "compat", quoted(if settings.options.compat == Compat::Strict { "strict" } else { "rfc" }));
    line(out, "ip_sources", list(&settings.ip_sources));
    line(out, "rfc952", settings.rfc952);
    line(out, "ttl", quoted(&seconds(settings.ttl)));
    line(out, "srv_weight", settings.srv_weight);
    line(out, "soa_mname", quoted(&settings.soa_mname));
    line(out, "soa_rname", quoted(&settings.soa_rname));
    line(out, "soa_refresh", settings.soa_refresh);
    line(out, "soa_retry", settings.soa_retry);
    line(out, "soa_expire", settings.soa_expire);
    // The server's own name goes by where it listens, on TCP and UDP, even while DNS is off.
    line(
        out,
        "addresses",
        list([match settings.listener {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => v6.to_string(),
        }]),
    );
    line(out, "reverse", settings.reverse);
    line(out, "recursion_bit", settings.recurse);
    line(out, "truncate_bit", settings.truncate_bit);
    line(out, "subnet_first", settings.subnet_first);
    line(out, "enumeration", settings.enumeration);
    if settings.http {
        line(out, "http", addresses(&[SocketAddr::new(settings.http_listener, settings.http_port)]));
    }
}

fn seconds(count: u32) -> String {
    format!("{count}s")
}
