//! The sources: one folder each.

#[cfg(test)]
mod fake;
mod file;
mod http_sd;
pub(crate) mod marathon;
pub(crate) mod mesos;
mod targets;
mod telling;
#[cfg(test)]
mod told;

use crate::config::{SourceConfig, SourceKind};
use crate::source::{Source, SourceError};

/// Makes the source that `config` describes.
pub(crate) fn build(config: &SourceConfig) -> Result<Box<dyn Source>, SourceError> {
    Ok(match &config.kind {
        SourceKind::Marathon(marathon) => Box::new(marathon::Marathon::new(config, marathon)),
        SourceKind::Mesos(mesos) => Box::new(mesos::Mesos::new(config, mesos)),
        SourceKind::Http(http) => Box::new(http_sd::HttpSource::new(config, http)),
        SourceKind::File(file) => Box::new(file::FileSource::new(config, file)),
    })
}
