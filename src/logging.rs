//! Where log lines go: standard error, as text or JSON.

use std::io::IsTerminal;

use anyhow::{Result, anyhow};
use portolan_config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

/// The environment variable that overrides the configured level.
const VARIABLE: &str = "PORTOLAN_LOG";

/// Starts logging. Once per process.
///
/// # Errors
/// When the level cannot be understood, or logging runs already.
pub(crate) fn start(log: &Log) -> Result<()> {
    let level = std::env::var(VARIABLE).unwrap_or_else(|_| log.level.clone());
    let filter = EnvFilter::try_new(&level).map_err(|error| anyhow!("log level {level:?}: {error}"))?;
    let terminal =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => builder.with_ansi(terminal).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow!("logging cannot be started: {error}"))
}

/// For commands whose output is for people: warnings and worse.
pub(crate) fn quiet() -> Log {
    Log { level: "warn".into(), format: LogFormat::Text }
}
