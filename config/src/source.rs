//! `[[source]]`.

use core::time::Duration;
use std::sync::Arc;

use portolan_discovery::{
    ApiConfig, Auth, FileConfig, Given, MarathonConfig, MesosConfig, Secret, SourceConfig, SourceKind,
    TlsConfig,
};
use portolan_table::{MergePolicy, SourceId};
use toml::de::DeValue;

use crate::keys::{SOURCE, SOURCE_AUTH, SOURCE_TLS};
use crate::node::secret;
use crate::registry;
use crate::section::{At, Section};
use crate::value::{self, Parsed, quoted, wrong};

/// Sources of one node.
pub(crate) const SOURCES_MAX: usize = 256;
/// URLs of one source.
pub(crate) const URLS_MAX: usize = 32;
/// Groups, and paths, of one source.
pub(crate) const NAMES_MAX: usize = 1024;

/// The source types that are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Marathon,
    Mesos,
    Consul,
    Etcd,
    Kubernetes,
    Docker,
    Swarm,
    Http,
    File,
}

pub(crate) const TYPES: &[(&str, Type)] = &[
    ("marathon", Type::Marathon),
    ("mesos", Type::Mesos),
    ("consul", Type::Consul),
    ("etcd", Type::Etcd),
    ("kubernetes", Type::Kubernetes),
    ("docker", Type::Docker),
    ("swarm", Type::Swarm),
    ("http", Type::Http),
    ("file", Type::File),
];
const TYPES_LATER: &[&str] =
    &["zookeeper", "aurora", "kubernetes", "openshift", "docker", "swarm", "openstack", "cloudstack", "ec2"];

impl Type {
    const fn word(self) -> &'static str {
        match self {
            Self::Marathon => "marathon",
            Self::Mesos => "mesos",
            Self::Consul => "consul",
            Self::Etcd => "etcd",
            Self::Kubernetes => "kubernetes",
            Self::Docker => "docker",
            Self::Swarm => "swarm",
            Self::Http => "http",
            Self::File => "file",
        }
    }

    /// The keys that this type has beside those of every source.
    const fn own_keys(self) -> &'static [&'static str] {
        match self {
            Self::Marathon => &["urls", "groups", "stream_idle", "auth", "tls"],
            Self::Mesos => &[
                "urls",
                "poll",
                "settle_time",
                "recovery_time",
                "https",
                "zk_credentials_file",
                "zk_credentials_env",
                "auth",
                "tls",
            ],
            Self::Consul => &["urls", "datacenter", "auth", "tls"],
            Self::Etcd => &["urls", "layout", "prefix", "auth", "tls"],
            Self::Kubernetes => {
                &["urls", "kubeconfig", "context", "namespaces", "selector", "address", "auth", "tls"]
            }
            Self::Docker => &["urls", "address", "auth", "tls"],
            Self::Swarm => &["urls", "address", "poll", "auth", "tls"],
            Self::Http => &["urls", "service_label", "auth", "tls"],
            Self::File => &["paths", "service_label"],
        }
    }

    /// Period of re-reading: beside a stream, or of polling.
    const fn refresh(self) -> Duration {
        match self {
            Self::Marathon
            | Self::Mesos
            | Self::Consul
            | Self::Etcd
            | Self::Kubernetes
            | Self::Docker
            | Self::Swarm => Duration::from_secs(300),
            Self::Http | Self::File => Duration::from_secs(30),
        }
    }
}

/// A source and where its name stands.
pub(crate) struct ReadSource {
    /// `None` when the type is not known: the name still stands for a source.
    pub(crate) config: Option<SourceConfig>,
    pub(crate) name: At<Arc<str>>,
}

/// Reads one source.
pub(crate) fn read(section: &Section<'_>, id: SourceId) -> ReadSource {
    let hint = "write type = \"marathon\", type = \"file\" or another";
    let kind = section.required("type", hint, value::choice(TYPES, TYPES_LATER)).map(|at| at.value);
    let default = kind.map(Type::word).or_else(|| section.raw_text("type")).unwrap_or("source");
    let name = section.name_or("name", default, value::label);
    let config = kind.map(|kind| {
        refuse_foreign_keys(section, kind);
        config(section, id, kind, &name.value)
    });
    ReadSource { config, name }
}

fn config(section: &Section<'_>, id: SourceId, kind: Type, name: &str) -> SourceConfig {
    SourceConfig {
        id,
        name: (*name).into(),
        kind: match kind {
            Type::Marathon => SourceKind::Marathon(marathon(section)),
            Type::Mesos => SourceKind::Mesos(mesos(section)),
            Type::Consul => SourceKind::Consul(registry::consul(section)),
            Type::Etcd => SourceKind::Etcd(registry::etcd(section)),
            Type::Kubernetes => SourceKind::Kubernetes(registry::kubernetes(section)),
            Type::Docker => SourceKind::Docker(registry::docker(section)),
            Type::Swarm => SourceKind::Swarm(registry::swarm(section)),
            Type::Http => SourceKind::Http(registry::http(section)),
            Type::File => SourceKind::File(file(section)),
        },
        refresh: section.read("refresh", refresh).unwrap_or_else(|| kind.refresh()),
        timeout: section.read("timeout", value::time).unwrap_or(Duration::from_secs(10)),
        merge: section.read("merge", value::choice(MERGES, &[])).unwrap_or_default(),
        priority: section.read("priority", priority).unwrap_or(0),
        required: section.read("required", value::boolean).unwrap_or(true),
        stale_max: section.read("stale_max", value::time_or("never")).flatten(),
        max_removal: section.read("max_removal", value::share).unwrap_or(1.0),
    }
}

const MERGES: &[(&str, MergePolicy)] =
    &[("union", MergePolicy::Union), ("failover", MergePolicy::Failover), ("isolate", MergePolicy::Isolate)];

pub(crate) fn refresh(value: &DeValue<'_>) -> Parsed<Duration> {
    value::time_within(Duration::from_secs(1), Duration::from_secs(7 * 24 * 3600))(value)
}

fn priority(value: &DeValue<'_>) -> Parsed<i32> {
    value::number(-1_000_000, 1_000_000)(value).map(|n| i32::try_from(n).unwrap_or(0))
}

/// The keys of every source.
const COMMON_KEYS: &[&str] =
    &["name", "type", "refresh", "timeout", "merge", "priority", "required", "stale_max", "max_removal"];

fn refuse_foreign_keys(section: &Section<'_>, kind: Type) {
    let foreign =
        |key: &str| SOURCE.holds(key) && !COMMON_KEYS.contains(&key) && !kind.own_keys().contains(&key);
    for (key, span) in section.present().filter(|(key, _)| foreign(key)) {
        section.reading.mistake(
            &span,
            format!("{key:?} means nothing to a source of type {:?}", kind.word()),
            "take it out",
        );
    }
}

fn file(section: &Section<'_>) -> FileConfig {
    let paths = section.required_list(
        "paths",
        "write paths = [\"services.d\"]: files, directories or globs",
        NAMES_MAX,
        value::text,
    );
    FileConfig {
        paths: paths.into_iter().map(|path| section.reading.placed(&path)).collect(),
        service_label: section.read("service_label", value::text),
    }
}

/// Where an API is and how to be let in.
pub(crate) fn api(
    section: &Section<'_>,
    hint: &str,
    url: impl Fn(&DeValue<'_>) -> Parsed<String>,
) -> ApiConfig {
    api_at(section, section.required_list("urls", hint, URLS_MAX, url))
}

/// Likewise, at these URLs.
pub(crate) fn api_at(section: &Section<'_>, urls: Vec<String>) -> ApiConfig {
    ApiConfig {
        urls,
        auth: section.section("auth", &SOURCE_AUTH).map_or(Auth::None, |auth| read_auth(&auth)),
        tls: section.section("tls", &SOURCE_TLS).map_or_else(TlsConfig::default, |tls| read_tls(&tls)),
    }
}

fn marathon(section: &Section<'_>) -> MarathonConfig {
    MarathonConfig {
        urls: section.required_list("urls", "write urls = [\"http://HOST:8080\"]", URLS_MAX, marathon_url),
        groups: section.values("groups", NAMES_MAX, value::shared_text),
        auth: section.section("auth", &SOURCE_AUTH).map_or(Auth::None, |auth| read_auth(&auth)),
        tls: section.section("tls", &SOURCE_TLS).map_or_else(TlsConfig::default, |tls| read_tls(&tls)),
        stream_idle: section.read("stream_idle", value::time).unwrap_or(Duration::from_secs(30)),
    }
}

fn mesos(section: &Section<'_>) -> MesosConfig {
    const HINT: &str = "write urls = [\"http://MASTER:5050\"] or urls = [\"zk://HOST:2181/mesos\"]";
    let given = section.required_list("urls", HINT, URLS_MAX, mesos_url);
    let ensembles = given.iter().filter(|(url, _)| url.starts_with("zk://")).count();
    if let (true, Some(span)) = (ensembles > 1, section.key_span("urls")) {
        section.reading.mistake(
            &span,
            "urls: more than one zk:// URL".to_owned(),
            "one names all servers: urls = [\"zk://H1:2181,H2:2181/mesos\"]",
        );
    }
    let in_file = secret(section, "zk_credentials_file", "zk_credentials_env");
    let in_url = given.iter().find_map(|(_, credentials)| credentials.clone());
    MesosConfig {
        zookeeper_credentials: in_file.or(in_url),
        urls: given.into_iter().map(|(url, _)| url).collect(),
        https: section.read("https", value::boolean).unwrap_or(false),
        auth: section.section("auth", &SOURCE_AUTH).map_or(Auth::None, |auth| read_auth(&auth)),
        tls: section.section("tls", &SOURCE_TLS).map_or_else(TlsConfig::default, |tls| read_tls(&tls)),
        poll: section.read("poll", refresh).unwrap_or(Duration::from_secs(30)),
        settle_time: section.read("settle_time", value::time).unwrap_or(Duration::from_secs(60)),
        recovery_time: section.read("recovery_time", value::time).unwrap_or(Duration::from_secs(600)),
    }
}

/// A master's URL, or `zk://…`; the latter without its credentials, which come beside it.
fn mesos_url(value: &DeValue<'_>) -> Parsed<(String, Option<Secret>)> {
    let text = value::text(value)?;
    match text.strip_prefix("zk://") {
        Some(rest) => zk_url(rest),
        None => http_url(value).map(|url| (url, None)),
    }
}

/// `[user:password@]host[:port][,host[:port]]…/path`.
fn zk_url(rest: &str) -> Parsed<(String, Option<Secret>)> {
    const HINT: &str = "write zk://HOST:2181,HOST:2181/PATH";
    let (credentials, rest) = match rest.rsplit_once('@') {
        Some((credentials, rest)) => (Some(credentials), rest),
        None => (None, rest),
    };
    if credentials.is_some_and(|pair| !pair.contains(':')) {
        // Not repeated: it may be half of a secret.
        return wrong("the credentials of the zk:// URL are not user:password".to_owned(), HINT);
    }
    let (hosts, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if let Some(host) = hosts.split(',').find(|host| !authority_fits(host)) {
        return wrong(format!("{} names no valid host and port", quoted(host)), HINT);
    }
    let path = path.trim_end_matches('/');
    if path.is_empty() || path.split('/').skip(1).any(|node| matches!(node, "" | "." | "..")) {
        return wrong(
            format!("the path {} names no node", quoted(path)),
            "it is the one of the masters' --zk",
        );
    }
    let credentials = credentials.map(|pair| Secret::Given(Given(pair.to_owned())));
    Ok((format!("zk://{hosts}{path}"), credentials))
}

fn marathon_url(value: &DeValue<'_>) -> Parsed<String> {
    let url = http_url(value)?;
    match url.rsplit_once("/v2") {
        Some((base, "")) => wrong(
            format!("{} names the API's version", quoted(&url)),
            format!("leave it out: {}", quoted(base)),
        ),
        _ => Ok(url),
    }
}

/// An `http://` or `https://` URL without credentials, query and fragment; a `/` at its end is dropped.
pub(crate) fn http_url(value: &DeValue<'_>) -> Parsed<String> {
    const HINT: &str = "write http://HOST:PORT or https://HOST:PORT";
    let text = value::text(value)?;
    let Some((scheme, rest)) = text.split_once("://") else {
        return wrong(format!("{} is not a URL", quoted(&text)), HINT);
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') {
        // The text is not repeated: it holds a password.
        return wrong(
            "the URL holds credentials".to_owned(),
            "give them in [source.auth], with username and password_file",
        );
    }
    if !matches!(scheme, "http" | "https") {
        let hint = if scheme == "zk" { "ask Marathon itself: write http://HOST:8080" } else { HINT };
        return wrong(format!("the scheme {} is not known here", quoted(scheme)), hint);
    }
    if !authority_fits(authority) {
        return wrong(format!("{} names no valid host and port", quoted(&text)), HINT);
    }
    let path_fits = path
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.' | b'~' | b'%'))
        && !path.split('/').any(|segment| matches!(segment, "." | ".."));
    if !path_fits || path.contains("//") {
        return wrong(
            format!("the path {} cannot be the base of an API", quoted(path)),
            "leave query, fragment, dots and spaces out",
        );
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT`.
fn authority_fits(authority: &str) -> bool {
    let (host_fits, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((v6, port)) => (v6.parse::<core::net::Ipv6Addr>().is_ok(), port),
            None => return false,
        },
        None => {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            let fits = !host.is_empty()
                && host.len() <= 253
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
            (fits, port)
        }
    };
    let port_fits = match port.strip_prefix(':') {
        Some(number) => number.parse::<u16>().is_ok_and(|n| n > 0),
        None => port.is_empty(),
    };
    host_fits && port_fits
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AuthType {
    None,
    Basic,
    Bearer,
    Dcos,
}

const AUTH_TYPES: &[(&str, AuthType)] = &[
    ("none", AuthType::None),
    ("basic", AuthType::Basic),
    ("bearer", AuthType::Bearer),
    ("dcos", AuthType::Dcos),
];

impl AuthType {
    const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Basic => "basic",
            Self::Bearer => "bearer",
            Self::Dcos => "dcos",
        }
    }

    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Basic => &["username", "password_file", "password_env"],
            Self::Bearer => &["token_file", "token_env"],
            Self::Dcos => &["username", "private_key_file", "private_key_env", "login_url"],
        }
    }
}

fn read_auth(section: &Section<'_>) -> Auth {
    let hint = "write type = \"basic\", \"bearer\" or \"dcos\"";
    let Some(kind) = section.required("type", hint, value::choice(AUTH_TYPES, &[])) else {
        return Auth::None;
    };
    let kind = kind.value;
    for (key, span) in section.present() {
        if SOURCE_AUTH.holds(key) && key != "type" && !kind.keys().contains(&key) {
            let message = format!("{key:?} means nothing to auth of type {:?}", kind.word());
            section.reading.mistake(&span, message, "take it out");
        }
    }
    let auth = match kind {
        AuthType::None => Some(Auth::None),
        AuthType::Basic => {
            let username = username(section);
            let password = required_secret(section, "password_file", "password_env");
            username.zip(password).map(|(username, password)| Auth::Basic { username, password })
        }
        AuthType::Bearer => {
            required_secret(section, "token_file", "token_env").map(|token| Auth::Bearer { token })
        }
        AuthType::Dcos => {
            let uid = username(section);
            let key = required_secret(section, "private_key_file", "private_key_env");
            let login_url = section.read("login_url", http_url);
            uid.zip(key).map(|(uid, private_key)| Auth::Dcos { uid, private_key, login_url })
        }
    };
    auth.unwrap_or_default()
}

fn username(section: &Section<'_>) -> Option<String> {
    // A colon would end the user name inside the header (RFC 7617 §2).
    let parse = |value: &DeValue<'_>| match value::text(value)? {
        name if name.contains(':') || name.chars().any(char::is_control) => wrong(
            format!("{} is not a user name", quoted(&name)),
            "colons and control characters cannot stand in it",
        ),
        name => Ok(name),
    };
    section.required("username", "write username = \"…\"", parse).map(|at| at.value)
}

fn required_secret(section: &Section<'_>, file_key: &str, variable_key: &str) -> Option<Secret> {
    if !section.has(file_key) && !section.has(variable_key) {
        section.missing(file_key, &format!("name a file with {file_key}, or a variable with {variable_key}"));
    }
    secret(section, file_key, variable_key)
}

fn read_tls(section: &Section<'_>) -> TlsConfig {
    let tls = TlsConfig {
        ca: section.existing_file("ca"),
        cert: section.existing_file("cert"),
        key: section.existing_file("key"),
        verify: section.read("verify", value::boolean).unwrap_or(true),
        given: portolan_discovery::GivenPems::default(),
    };
    match (section.has("cert"), section.has("key")) {
        (true, false) => section.missing("key", "the key of the certificate in cert"),
        (false, true) => section.missing("cert", "the certificate of the key in key"),
        _ => {}
    }
    if let (true, false, Some(span)) = (section.has("ca"), tls.verify, section.key_span("verify")) {
        section.reading.conflict(
            &span,
            "\"verify\" is false although \"ca\" is given".to_owned(),
            "take one of them out",
        );
    }
    tls
}
