//! The whole configuration: file → tree with spans → sections → what is meant.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::HashSet;
use std::path::Path;

use portolan_proxy::ListenerProtocol;
use portolan_table::SourceId;
use toml::de::{DeTable, Error as SyntaxError};

use crate::certificate;
use crate::clash::{self, Bound, Transport};
use crate::dns::{self, ReadDns};
use crate::environment::Environment;
use crate::keys::{ADMIN, DNS, LOG, NODE, PROXY, SOURCE, TOP};
use crate::mesos_dns::MesosDns;
use crate::mistake::{Mistake, Mistakes, Positions};
use crate::node::{Admin, Log, Node, ReadAdmin};
use crate::proxy::ReadProxy;
use crate::section::{At, Found, Needed, Reading, Section};
use crate::source::{self, ReadSource, SOURCES_MAX};
use crate::value;

/// Everything the file says, as meant.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// This node.
    pub node: Node,
    /// What is logged.
    pub log: Log,
    /// The sources.
    pub discovery: portolan_discovery::Config,
    /// DNS; `None` when the file has no `[dns]`.
    pub dns: Option<portolan_dns::Config>,
    /// The proxy; without listeners when the file has none.
    pub proxy: portolan_proxy::Config,
    /// The admin side.
    pub admin: Admin,
    /// The `config.json` of Mesos-DNS that this was read from.
    pub mesos_dns: Option<MesosDns>,
}

/// Longest file, in octets.
pub const FILE_LEN_MAX: usize = 4 << 20;

/// Longest time a change waits for others to be published with it: far below what a person or a probe notices.
const COALESCE_TIME: Duration = Duration::from_millis(3);
/// A storm is published in pieces of this many changes.
const COALESCE_CHANGES: usize = 1000;

/// What holds with no file at all: DNS and one listener on their documented addresses.
const WITHOUT_FILE: &str = "[dns]\n[[proxy.listener]]\n";

impl Config {
    /// What holds with no file: the native zone on `127.0.0.1:8053`, an `http` listener on `127.0.0.1:8080`, the
    /// admin side on `127.0.0.1:9090`, no sources.
    #[must_use]
    pub fn default_without_file(environment: &Environment) -> Self {
        let (config, _) = read(WITHOUT_FILE, "", environment, Outside::Nothing);
        config
    }

    /// Reads and resolves the file at `path`. Nothing but this file is looked at.
    ///
    /// # Errors
    /// All mistakes, in the order of their places; one without a place when the file cannot be read.
    pub fn load(path: &Path, environment: &Environment) -> Result<Self, Mistakes> {
        let file = path.to_string_lossy();
        Self::parse(&read_text(path, &file)?, &file, environment)
    }

    /// As [`Config::load`]; what the file refers to on this machine (certificates, secrets, variables) must be
    /// there too.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn check(path: &Path, environment: &Environment) -> Result<Self, Mistakes> {
        let file = path.to_string_lossy();
        let text = read_text(path, &file)?;
        outcome(read(&text, &file, environment, Outside::Everything))
    }

    /// As [`Config::load`]; certificates must be there and fit to be shown, since a listener without them serves
    /// nobody. What else the file refers to may still come.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_to_run(path: &Path, environment: &Environment) -> Result<Self, Mistakes> {
        let file = path.to_string_lossy();
        let text = read_text(path, &file)?;
        outcome(read(&text, &file, environment, Outside::Certificates))
    }

    /// Resolves `text`; mistakes name `file`, and relative paths start at its directory. Does no I/O.
    ///
    /// # Errors
    /// All mistakes, in the order of their places.
    pub fn parse(text: &str, file: &str, environment: &Environment) -> Result<Self, Mistakes> {
        if text.len() > FILE_LEN_MAX {
            return Err(too_long(file));
        }
        outcome(read(text, file, environment, Outside::Nothing))
    }
}

impl Config {
    /// This configuration with the sources, zones and listeners of another one beside its own. What both say of the
    /// whole is as it is here.
    ///
    /// # Errors
    /// When both name a source or a zone.
    pub fn joined(mut self, other: Self) -> Result<Self, Mistakes> {
        let file = other.mesos_dns.as_ref().map_or_else(String::new, |settings| settings.file.clone());
        let clash = |what: &str, name: &str| {
            let hint = "give it another name in the configuration beside".to_owned();
            Mistakes::from(Mistake::of_file(&file, format!("the {what} {name:?} is there twice"), Some(hint)))
        };
        for mut source in other.discovery.sources {
            if self.discovery.sources.iter().any(|own| own.name == source.name) {
                return Err(clash("source", &source.name));
            }
            source.id = SourceId(u16::try_from(self.discovery.sources.len()).unwrap_or(u16::MAX));
            self.discovery.sources.push(source);
        }
        if let Some(dns) = other.dns {
            let own = self.dns.get_or_insert_with(|| portolan_dns::Config {
                listen: Vec::new(),
                zones: Vec::new(),
                forward_zones: Vec::new(),
                ..dns.clone()
            });
            if let Some(zone) =
                dns.zones.iter().find(|zone| own.zones.iter().any(|own| own.name == zone.name))
            {
                return Err(clash("zone", &zone.name));
            }
            own.listen.extend(
                dns.listen
                    .iter()
                    .filter(|address| !own.listen.contains(address))
                    .copied()
                    .collect::<Vec<_>>(),
            );
            own.zones.extend(dns.zones);
            if own.forward.is_empty() {
                own.forward = dns.forward;
                own.allow_forward = dns.allow_forward;
            }
            own.forward_zones.extend(dns.forward_zones);
        }
        self.mesos_dns = other.mesos_dns.or(self.mesos_dns);
        Ok(self)
    }
}

fn outcome((config, mistakes): (Config, Mistakes)) -> Result<Config, Mistakes> {
    if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
}

fn too_long(file: &str) -> Mistakes {
    Mistake::of_file(file, format!("the file is longer than {FILE_LEN_MAX} octets"), None).into()
}

pub(crate) fn read_text(path: &Path, file: &str) -> Result<String, Mistakes> {
    let unreadable = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such file",
            std::io::ErrorKind::PermissionDenied => "this user may not read it",
            _ => "it must be a file of text",
        };
        Mistakes::from(Mistake::of_file(file, format!("cannot be read: {error}"), Some(hint.to_owned())))
    };
    // The length is asked first, so that a huge file or a device is not read into memory.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.len() > FILE_LEN_MAX as u64 {
        return Err(too_long(file));
    }
    String::from_utf8(std::fs::read(path).map_err(unreadable)?).map_err(|error| not_utf8(file, &error))
}

/// Points at the first octet that is not UTF-8.
fn not_utf8(file: &str, error: &std::string::FromUtf8Error) -> Mistakes {
    let good = error.utf8_error().valid_up_to();
    let text = String::from_utf8_lossy(&error.as_bytes()[..good]).into_owned();
    let octet = error.as_bytes().get(good).copied().unwrap_or(0);
    let message = format!("the octet 0x{octet:02x} is not UTF-8");
    Positions::new(file, &text)
        .mistake(&(good..good), message, Some("save the file as UTF-8".to_owned()))
        .into()
}

/// Reads as much as can be understood. The configuration means something only when there are no mistakes.
fn read(text: &str, file: &str, environment: &Environment, outside: Outside) -> (Config, Mistakes) {
    let (tree, errors) = DeTable::parse_recoverable(text);
    let reading = Reading::new(environment, file);
    let config = assemble(&Section::new(&reading, &TOP, tree.get_ref(), 0..0));
    find_needed(&reading, outside);
    let positions = Positions::new(file, text);
    (config, in_order(&positions, &errors, reading))
}

fn assemble(top: &Section<'_>) -> Config {
    let (reading, environment) = (top.reading, top.reading.environment);
    let node = top.section("node", &NODE).map_or_else(|| Node::of(environment), |s| Node::read(&s));
    let log = top.section("log", &LOG).map_or_else(Log::default, |s| Log::read(&s));
    let state_dir = node.state_dir.as_deref();
    let admin = top
        .section("admin", &ADMIN)
        .map_or_else(|| ReadAdmin::absent(state_dir), |s| ReadAdmin::read(&s, state_dir));
    let sources = sources(top);
    let dns = top.section("dns", &DNS).map(|s| dns::read(&s));
    let mut proxy = top.section("proxy", &PROXY).map_or_else(ReadProxy::absent, |s| ReadProxy::read(&s));
    compare(reading, &sources, dns.as_ref(), &proxy, &admin);
    proxy.config.routes = proxy.routes.into_iter().map(|route| route.spec).collect();
    let machine = environment.reachable_addresses();
    let dns = dns.map(|mut dns| {
        let binds: Vec<SocketAddr> = proxy.config.listeners.iter().map(|listener| listener.bind).collect();
        dns.config.node.name = node.name.clone();
        dns.config.node.proxy_addresses = clash::reachable(&binds, &machine);
        dns.config.node.addresses.clone_from(&machine);
        dns.config.state_dir.clone_from(&node.state_dir);
        dns.config
    });
    let discovery = portolan_discovery::Config {
        state_dir: node.state_dir.clone(),
        sources: sources.into_iter().filter_map(|source| source.config).collect(),
        coalesce_time: COALESCE_TIME,
        coalesce_changes: COALESCE_CHANGES,
    };
    Config { node, log, discovery, dns, proxy: proxy.config, admin: admin.admin, mesos_dns: None }
}

fn sources(top: &Section<'_>) -> Vec<ReadSource> {
    let mut sources: Vec<ReadSource> = Vec::new();
    for section in top.sections("source", &SOURCE, SOURCES_MAX) {
        let id = SourceId(u16::try_from(sources.len()).unwrap_or(u16::MAX));
        sources.push(source::read(&section, id));
    }
    sources
}

/// What only shows when the parts stand side by side.
fn compare(
    reading: &Reading<'_>,
    sources: &[ReadSource],
    dns: Option<&ReadDns>,
    proxy: &ReadProxy,
    admin: &ReadAdmin,
) {
    clash::names(reading, "source", sources.iter().map(|source| &source.name));
    clash::names(reading, "listener", proxy.listeners.iter().map(|listener| &listener.name));
    clash::names(reading, "route", proxy.routes.iter().filter_map(|route| route.name.as_ref()));
    let listeners: Vec<&str> = proxy.listeners.iter().map(|listener| &*listener.name.value).collect();
    let referred = proxy.routes.iter().filter_map(|route| route.listener.as_ref());
    let shown = proxy.certificates.iter().flat_map(|certificate| &certificate.listeners);
    clash::references(reading, "listener", referred.chain(shown), &listeners);
    certificate::compare(reading, &proxy.certificates, &proxy.listeners);
    clash::routes(reading, &proxy.routes, &proxy.listeners);
    let known: Vec<&str> = sources.iter().map(|source| &*source.name.value).collect();
    clash::references(reading, "source", dns.iter().flat_map(|dns| &dns.sources), &known);
    clash::addresses(reading, bound(dns, proxy, admin));
}

fn bound<'r>(dns: Option<&'r ReadDns>, proxy: &'r ReadProxy, admin: &'r ReadAdmin) -> Vec<Bound<'r>> {
    let of =
        |key, owner: &str, transport, address| Bound { key, owner: owner.to_owned(), transport, address };
    let http = dns.into_iter().flat_map(|dns| &dns.http);
    let http = http.map(|at| of("http", "[dns.zone.mesos_dns]", Transport::Tcp, at));
    let dns = dns.into_iter().flat_map(|dns| &dns.addresses);
    let dns = dns.map(|at| of("listen", "[dns]", Transport::Both, at)).chain(http);
    let admin = admin.addresses.iter().map(|(key, at)| of(key, "[admin]", Transport::Tcp, at));
    let listeners = proxy.listeners.iter().map(|listener| Bound {
        key: "bind",
        owner: format!("the listener {:?}", listener.name.value),
        transport: match listener.protocol {
            ListenerProtocol::Http | ListenerProtocol::Https | ListenerProtocol::Tcp => Transport::Tcp,
            ListenerProtocol::Udp => Transport::Udp,
        },
        address: &listener.bind,
    });
    // The default addresses of an absent [admin] come first: a clash is told where something is written.
    admin.chain(dns).chain(listeners).collect()
}

/// What of the things that the configuration names is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outside {
    Nothing,
    Certificates,
    Everything,
}

/// Looks for the files and variables that the configuration names.
fn find_needed(reading: &Reading<'_>, outside: Outside) {
    for needed in reading.needed.borrow().iter() {
        match needed {
            _ if outside == Outside::Nothing => {}
            Needed::Certificate(certificate) => certificate.look(reading),
            Needed::UpstreamTls(files) => files.look(reading),
            _ if outside == Outside::Certificates => {}
            Needed::File { key, path: At { value: path, span } } => {
                if let Err((what, hint)) = readable(path) {
                    let shown = value::quoted(&path.to_string_lossy());
                    reading.mistake(span, format!("{key}: {shown} {what}"), hint);
                }
            }
            Needed::Variable { key, name: At { value: name, span } } => {
                if reading.environment.variable(name).is_none() {
                    let message = format!("{key}: the environment variable {name:?} is not set");
                    reading.mistake(span, message, "it must be set for the process that runs");
                }
            }
        }
    }
}

fn readable(path: &Path) -> Result<(), (String, &'static str)> {
    let metadata = std::fs::metadata(path).map_err(|error| {
        (format!("is not there: {error}"), "relative paths start at the directory of the configuration file")
    })?;
    if !metadata.is_file() {
        return Err(("is not a file".to_owned(), "name a file of text"));
    }
    // Opening anything but a plain file could wait for ever.
    let opened = std::fs::File::open(path);
    opened.map(drop).map_err(|error| (format!("cannot be opened: {error}"), "see its permissions"))
}

/// Syntax errors and other mistakes together, by place.
///
/// After an error that hides what follows (an unclosed bracket or quote), what is found behind it may be an echo
/// of it: then only what stands before is told, and nothing about absences.
fn in_order(positions: &Positions<'_>, errors: &[SyntaxError], reading: Reading<'_>) -> Mistakes {
    let mut all: Vec<Found> = Vec::new();
    let mut lines = HashSet::new();
    let mut hidden_from = None;
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let line_start = positions.line_start(span.start);
        let place = positions.slice(&span);
        // A key may be repeated; a value on such a line may be the secret.
        let shown = match positions.may_hold_secret(span.start) && !error.message().starts_with("duplicate") {
            true => "this".to_owned(),
            false => value::quoted(place),
        };
        let (message, hint, hides) =
            syntax_message(error.message(), place, &shown, positions.line_is_header(span.start));
        if hides {
            hidden_from = Some(hidden_from.map_or(line_start, |from: usize| from.min(line_start)));
        }
        lines.insert(line_start);
        all.push(Found { span, message, hint, whole: false });
    }
    for found in reading.found.into_inner() {
        let echo = hidden_from.is_some_and(|from| found.whole || found.span.start >= from);
        // One mistake per line of broken syntax is enough.
        if !echo && !lines.contains(&positions.line_start(found.span.start)) {
            all.push(found);
        }
    }
    all.sort_by_key(|found| found.span.start);
    all.dedup_by(|a, b| a.span == b.span && a.message == b.message);
    positions.mistakes(all)
}

/// The parser's words in ours (`X, expected Y` becomes message and hint), and whether what follows is hidden: it is
/// not where the parser knows for sure how to go on.
fn syntax_message(message: &str, place: &str, shown: &str, header: bool) -> (String, Option<String>, bool) {
    match message.split_once(", expected ") {
        Some(("string values must be quoted", _)) if place.is_empty() => {
            ("a value is missing".to_owned(), Some("write it behind \"=\"".to_owned()), false)
        }
        Some(("string values must be quoted", _)) => {
            (format!("{shown} is not a value of TOML"), Some("texts stand in quotes".to_owned()), false)
        }
        Some((what, "nothing")) => (what.to_owned(), None, true),
        Some((what, wanted)) => (what.to_owned(), Some(format!("expected {wanted}")), true),
        None if message == "duplicate key" && header => {
            let hint = "put its keys into one table; where several are allowed, write [[…]] for each";
            (format!("the table {shown} is there twice"), Some(hint.to_owned()), true)
        }
        None if message == "duplicate key" => {
            (format!("the key {shown} is there twice"), Some("keep one of them".to_owned()), false)
        }
        None => (message.to_owned(), None, true),
    }
}
