//! `[node]`, `[log]` and `[admin]`.

use core::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portolan_discovery::Secret;
use portolan_table::{ServiceName, sanitise_label};
use toml::de::DeValue;

use crate::environment::Environment;
use crate::section::{At, Needed, Section};
use crate::value::{self, Parsed, quoted, wrong};

/// This node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name: labels joined by dots, lower case.
    pub name: Arc<str>,
    /// Its zone or rack, one label.
    pub zone: Option<Arc<str>>,
    /// Data threads; 0 for one per CPU of the affinity mask.
    pub workers: usize,
    /// Where state is kept across restarts; `None` when neither the file nor the environment names a place.
    pub state_dir: Option<PathBuf>,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A level, or `target=level` pairs joined by commas.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The admin side.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// Where the API and, without [`Admin::metrics_listen`], the metrics are served. Empty for nowhere.
    pub listen: Vec<SocketAddr>,
    /// A listener for `/metrics` alone.
    pub metrics_listen: Option<SocketAddr>,
    /// The Unix socket by which state may be changed; `None` for none.
    pub socket: Option<PathBuf>,
    /// The token that allows changes over TCP; `None` allows none.
    pub token: Option<Secret>,
    /// Host headers accepted besides the listeners' own addresses and `localhost`; lower case, no port.
    pub allowed_hosts: Vec<Arc<str>>,
}

/// [`Admin`] with the places of what must not clash.
pub(crate) struct ReadAdmin {
    pub(crate) admin: Admin,
    /// Each with the key that says it.
    pub(crate) addresses: Vec<(&'static str, At<SocketAddr>)>,
}

/// Longest path of a Unix socket on Linux, without the NUL at its end (unix(7)).
const SOCKET_PATH_LEN_MAX: usize = 107;
/// Addresses of the admin side.
const LISTEN_MAX: usize = 16;
/// Names of the admin side.
const ALLOWED_HOSTS_MAX: usize = 64;
/// Data threads.
const WORKERS_MAX: u32 = 1024;

impl Node {
    /// The node of an absent `[node]`.
    pub(crate) fn of(environment: &Environment) -> Self {
        Self {
            name: default_name(&environment.host_name),
            zone: None,
            workers: 0,
            state_dir: default_state_dir(environment),
        }
    }

    pub(crate) fn read(section: &Section<'_>) -> Self {
        let default = Self::of(section.reading.environment);
        Self {
            name: section.read("name", node_name).unwrap_or(default.name),
            zone: section.read("zone", value::label),
            workers: section.read("workers", value::count(0, WORKERS_MAX)).map_or(0, |n| n as usize),
            state_dir: section.path("state_dir").map(|at| at.value).or(default.state_dir),
        }
    }
}

fn default_name(host_name: &str) -> Arc<str> {
    match ServiceName::parse(host_name) {
        Ok(name) => name.as_str().into(),
        // A host name need not be a domain name; what is left of it still tells nodes apart.
        Err(_) => sanitise_label(host_name).map_or_else(|| "localhost".into(), Arc::from),
    }
}

fn default_state_dir(environment: &Environment) -> Option<PathBuf> {
    let below = |variable: &str, rest: &str| {
        // Relative paths in XDG variables are to be ignored (XDG base directory specification).
        environment.variable(variable).map(Path::new).filter(|p| p.is_absolute()).map(|p| p.join(rest))
    };
    let own = environment.variable("PORTOLAN_STATE_DIR").map(PathBuf::from);
    own.or_else(|| below("XDG_STATE_HOME", "portolan")).or_else(|| below("HOME", ".local/state/portolan"))
}

fn node_name(value: &DeValue<'_>) -> Parsed<Arc<str>> {
    let text = value::text(value)?;
    match ServiceName::parse(&text) {
        Ok(name) => Ok(name.as_str().into()),
        Err(error) => wrong(value::name_message(&text, &error), "it becomes part of <name>.node.<zone>"),
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

impl Log {
    pub(crate) fn read(section: &Section<'_>) -> Self {
        const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
        let default = Self::default();
        Self {
            level: section.read("level", log_level).unwrap_or(default.level),
            format: section.read("format", value::choice(FORMATS, &[])).unwrap_or(default.format),
        }
    }
}

/// A level, or pairs `target=level` among which one level without a target may stand.
fn log_level(value: &DeValue<'_>) -> Parsed<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let text = value::text(value)?;
    for part in text.split(',') {
        let (target, level) = part.split_once('=').unwrap_or(("portolan", part));
        let target_fits = !target.is_empty()
            && target.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'));
        if !(target_fits && LEVELS.contains(&level)) {
            return wrong(
                format!("{} is not a log level", quoted(part)),
                "write error, warn, info, debug or trace, also as in \"info,portolan_dns=debug\"",
            );
        }
    }
    Ok(text)
}

impl Admin {
    fn absent(state_dir: Option<&Path>) -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 9090))],
            metrics_listen: None,
            socket: state_dir.map(|dir| dir.join("admin.sock")),
            token: None,
            allowed_hosts: Vec::new(),
        }
    }
}

impl ReadAdmin {
    /// The admin side of an absent `[admin]`.
    pub(crate) fn absent(state_dir: Option<&Path>) -> Self {
        let admin = Admin::absent(state_dir);
        // No key is to blame for the default address; a clash is told at the other side's key.
        let addresses =
            admin.listen.iter().map(|address| ("listen", At { value: *address, span: 0..0 })).collect();
        Self { admin, addresses }
    }

    pub(crate) fn read(section: &Section<'_>, state_dir: Option<&Path>) -> Self {
        let mut read = Self::absent(state_dir);
        if let Some(listen) = section.list_or_one("listen", LISTEN_MAX, value::address) {
            read.admin.listen = listen.value.iter().map(|at| at.value).collect();
            read.addresses = listen.value.into_iter().map(|at| ("listen", at)).collect();
        }
        if let Some(metrics) = section.at("metrics_listen", value::address) {
            read.admin.metrics_listen = Some(metrics.value);
            read.addresses.push(("metrics_listen", metrics));
        }
        if section.is_text("socket", "none") {
            read.admin.socket = None;
        } else if let Some(path) = section.path("socket") {
            if path.value.as_os_str().len() > SOCKET_PATH_LEN_MAX {
                let message = format!("socket: {} is too long", quoted(&path.value.to_string_lossy()));
                let hint = format!("a Unix socket's path has at most {SOCKET_PATH_LEN_MAX} octets");
                section.reading.mistake(&path.span, message, hint);
            }
            read.admin.socket = Some(path.value);
        }
        read.admin.token = secret(section, "token_file", "token_env");
        read.admin.allowed_hosts = section.values("allowed_hosts", ALLOWED_HOSTS_MAX, host_name);
        read
    }
}

/// A host name or address as the Host header has it, without the port; lower case.
fn host_name(value: &DeValue<'_>) -> Parsed<Arc<str>> {
    let text = value::text(value)?.to_ascii_lowercase();
    let fits = text.len() <= 253
        && (text.parse::<core::net::IpAddr>().is_ok()
            || text.split('.').all(|label| {
                !label.is_empty()
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            }));
    if fits {
        Ok(text.into())
    } else {
        wrong(format!("{} is not a host name", quoted(&text)), "leave scheme and port out")
    }
}

/// A secret from the file named by one key or the variable named by the other; both is a mistake.
pub(crate) fn secret(section: &Section<'_>, file_key: &str, variable_key: &str) -> Option<Secret> {
    let file = section.existing_file(file_key).map(Secret::File);
    let variable = section.at(variable_key, variable_name);
    if let (true, Some(span)) = (section.has(file_key), section.key_span(variable_key)) {
        section.reading.conflict(
            &span,
            format!("{variable_key:?} and {file_key:?} name the same secret"),
            "keep one of them",
        );
    }
    let variable = variable.map(|name| {
        section
            .reading
            .needed
            .borrow_mut()
            .push(Needed::Variable { key: variable_key.to_owned(), name: name.clone() });
        Secret::Env(name.value)
    });
    file.or(variable)
}

fn variable_name(value: &DeValue<'_>) -> Parsed<String> {
    let text = value::text(value)?;
    let fits = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !text.starts_with(|c: char| c.is_ascii_digit());
    if fits {
        Ok(text)
    } else {
        // What stands here may be the secret itself, by mistake: it is not repeated.
        wrong(
            "this is not the name of an environment variable".to_owned(),
            "write the variable's name, without $ and without its value",
        )
    }
}
