//! The configuration files of a daemon: its own, other programs', or both.

use std::path::PathBuf;

use portolan_config::mesos_dns::{MesosDns, MesosDnsOptions};
use portolan_config::{Config, Environment, Mistakes};
use portolan_dns::mesos_dns::{Compat, Profile};

use crate::cli::{MesosDnsArgs, RunArgs};

/// What `run` was told to read.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    own: Option<PathBuf>,
    mesos_dns: Option<PathBuf>,
    options: MesosDnsOptions,
}

impl Files {
    pub(crate) fn of(arguments: RunArgs) -> Self {
        let options = options(&arguments.mesos_dns);
        Self { own: arguments.config, mesos_dns: arguments.mesos_dns_config, options }
    }

    /// The files, the one that the admin API names first.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.own.iter().chain(&self.mesos_dns).cloned().collect()
    }

    /// Reads them. Without any, the documented defaults hold; with others' alone, what these say and nothing else.
    pub(crate) fn load(&self) -> Result<Config, Mistakes> {
        let environment = Environment::of_process();
        let mesos_dns = match &self.mesos_dns {
            Some(file) => Some(MesosDns::load(file, self.options)?.to_config(&environment)?),
            None => None,
        };
        match (&self.own, mesos_dns) {
            (None, None) => Ok(Config::default_without_file(&environment)),
            (None, Some(config)) => Ok(config),
            (Some(own), None) => Config::load_to_run(own, &environment),
            (Some(own), Some(other)) => Config::load_to_run(own, &environment)?.joined(other),
        }
    }
}

/// The command line's part of a `config.json`.
pub(crate) fn options(arguments: &MesosDnsArgs) -> MesosDnsOptions {
    MesosDnsOptions {
        compat: if arguments.compat == "strict" { Compat::Strict } else { Compat::Rfc },
        profile: if arguments.mesos_dns_profile == "0.7" { Profile::V0_7 } else { Profile::V0_8 },
    }
}
