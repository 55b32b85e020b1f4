//! Where log lines go: standard error, as text or JSON.

use std::io::IsTerminal;

use anyhow::{Result, anyhow};
use portolan_config::{Log, LogFormat};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt};

/// The environment variable that overrides the configured level.
const VARIABLE: &str = "PORTOLAN_LOG";

/// The running log.
#[derive(Debug)]
pub(crate) struct Logging {
    filter: Handle<EnvFilter, Registry>,
    format: LogFormat,
}

/// Starts logging. Once per process.
///
/// # Errors
/// When the level cannot be understood, or logging runs already.
pub(crate) fn start(log: &Log) -> Result<Logging> {
    let (filter, handle) = reload::Layer::new(filter(log)?);
    let terminal =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match log.format {
        LogFormat::Text => lines.with_ansi(terminal).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let started = tracing_subscriber::registry().with(filter).with(lines).try_init();
    started.map_err(|error| anyhow!("logging cannot be started: {error}"))?;
    Ok(Logging { filter: handle, format: log.format })
}

/// What is logged. The environment goes before the file, on a reload too.
fn filter(log: &Log) -> Result<EnvFilter> {
    let level = std::env::var(VARIABLE).unwrap_or_else(|_| log.level.clone());
    EnvFilter::try_new(&level).map_err(|error| anyhow!("log level {level:?}: {error}"))
}

impl Logging {
    /// Takes another configuration, as far as that can be done in a running process.
    pub(crate) fn reload(&self, log: &Log) {
        if log.format != self.format {
            tracing::warn!("a change of [log] format takes a restart");
        }
        let changed =
            filter(log).and_then(|filter| self.filter.reload(filter).map_err(|error| anyhow!("{error}")));
        if let Err(error) = changed {
            tracing::error!(%error, "the log level stays as it was");
        }
    }
}

/// For commands whose output is for people: warnings and worse.
pub(crate) fn quiet() -> Log {
    Log { level: "warn".into(), format: LogFormat::Text }
}
