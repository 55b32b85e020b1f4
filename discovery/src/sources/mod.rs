//! The sources: one folder each.

mod file;
pub(crate) mod marathon;
pub(crate) mod mesos;
#[cfg(test)]
mod told;

use crate::config::{SourceConfig, SourceKind};
use crate::source::{Source, SourceError};

/// Makes the source that `config` describes.
pub(crate) fn build(config: &SourceConfig) -> Result<Box<dyn Source>, SourceError> {
    Ok(match &config.kind {
        SourceKind::Marathon(marathon) => Box::new(marathon::Marathon::new(config, marathon)),
        SourceKind::Mesos(mesos) => Box::new(mesos::Mesos::new(config, mesos)),
        SourceKind::File(file) => Box::new(file::FileSource::new(config, file)),
    })
}
