//! A Marathon source at work.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::super::Marathon;
use crate::config::{Auth, MarathonConfig, SourceKind, TlsConfig};
use crate::source::Source as _;
pub(super) use crate::sources::told::Model;
use crate::sources::told::{self, config};

/// A source whose sessions follow each other, and the model of what they told.
pub(super) struct Running(told::Running);

/// What is not the default in a test.
#[derive(Clone)]
pub(super) struct Options {
    pub(super) auth: Auth,
    pub(super) tls: TlsConfig,
    pub(super) timeout: Duration,
    pub(super) stream_idle: Duration,
    pub(super) refresh: Duration,
    /// The catalog holds something already.
    pub(super) resumed: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            auth: Auth::None,
            tls: TlsConfig::default(),
            timeout: Duration::from_secs(5),
            stream_idle: Duration::from_secs(30),
            refresh: Duration::from_secs(300),
            resumed: false,
        }
    }
}

impl Running {
    pub(super) fn start(urls: Vec<String>, options: Options) -> Self {
        let marathon = MarathonConfig {
            urls,
            groups: Vec::new(),
            auth: options.auth,
            tls: options.tls,
            stream_idle: options.stream_idle,
        };
        let kind = SourceKind::Marathon(marathon.clone());
        let mut source = Marathon::new(&config(kind, options.refresh, options.timeout), &marathon);
        if options.resumed {
            source.resume();
        }
        Self(told::Running::start(Box::new(source)))
    }
}

impl Deref for Running {
    type Target = told::Running;

    fn deref(&self) -> &told::Running {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut told::Running {
        &mut self.0
    }
}
