//! The sources: one folder each.

mod checked;
pub(crate) mod consul;
#[cfg(test)]
mod corpus;
pub(crate) mod docker;
pub(crate) mod etcd;
#[cfg(test)]
mod fake;
mod file;
mod http_sd;
pub(crate) mod kubernetes;
mod labels;
pub(crate) mod marathon;
pub(crate) mod mesos;
#[cfg(test)]
mod program;
#[cfg(test)]
mod propagation;
mod targets;
mod telling;
#[cfg(test)]
mod told;

use tokio::task::JoinError;

use crate::config::{SourceConfig, SourceKind};
use crate::source::{Source, SourceError};

/// Makes the source that `config` describes.
pub(crate) fn build(config: &SourceConfig) -> Result<Box<dyn Source>, SourceError> {
    Ok(match &config.kind {
        SourceKind::Marathon(marathon) => Box::new(marathon::Marathon::new(config, marathon)),
        SourceKind::Mesos(mesos) => Box::new(mesos::Mesos::new(config, mesos)),
        SourceKind::Consul(consul) => Box::new(consul::Consul::new(config, consul)),
        SourceKind::Etcd(etcd) => Box::new(etcd::Etcd::new(config, etcd)),
        SourceKind::Kubernetes(kubernetes) => Box::new(kubernetes::Kubernetes::new(config, kubernetes)),
        SourceKind::Docker(docker) => Box::new(docker::Docker::new(config, docker)),
        SourceKind::Swarm(swarm) => Box::new(docker::Swarm::new(config, swarm)),
        SourceKind::Http(http) => Box::new(http_sd::HttpSource::new(config, http)),
        SourceKind::File(file) => Box::new(file::FileSource::new(config, file)),
    })
}

/// What a task of a session has given. A panic goes on here, so that the supervisor reports it and starts the source anew.
fn unwound<T>(ended: Result<T, JoinError>) -> Result<T, SourceError> {
    ended.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => SourceError::Stopping,
    })
}
