//! A Mesos source at work.

use std::time::Duration;

use super::super::Mesos;
use crate::config::{Auth, MesosConfig, SourceKind, TlsConfig};
use crate::source::Source as _;
use crate::sources::told::{Running, config};

/// What is not the default in a test.
#[derive(Clone)]
pub(super) struct Options {
    pub(super) auth: Auth,
    pub(super) timeout: Duration,
    pub(super) refresh: Duration,
    pub(super) poll: Duration,
    pub(super) settle: Duration,
    pub(super) recovery: Duration,
    /// The catalog holds something already.
    pub(super) resumed: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            auth: Auth::None,
            timeout: Duration::from_secs(5),
            refresh: Duration::from_secs(300),
            poll: Duration::from_millis(50),
            settle: Duration::from_secs(60),
            recovery: Duration::from_secs(600),
            resumed: false,
        }
    }
}

pub(super) fn start(urls: Vec<String>, options: Options) -> Running {
    let mesos = MesosConfig {
        urls,
        zookeeper_credentials: None,
        https: false,
        auth: options.auth,
        tls: TlsConfig::default(),
        poll: options.poll,
        settle_time: options.settle,
        recovery_time: options.recovery,
    };
    let mut source =
        Mesos::new(&config(SourceKind::Mesos(mesos.clone()), options.refresh, options.timeout), &mesos);
    if options.resumed {
        source.resume();
    }
    Running::start(Box::new(source))
}
