//! The sources: one folder each.

pub(crate) mod marathon;

use crate::config::{SourceConfig, SourceKind};
use crate::source::{Source, SourceError};

/// Makes the source that `config` describes.
pub(crate) fn build(config: &SourceConfig) -> Result<Box<dyn Source>, SourceError> {
    match &config.kind {
        SourceKind::Marathon(marathon) => Ok(Box::new(marathon::Marathon::new(config, marathon))),
        SourceKind::File(_) => {
            Err(SourceError::Setup { message: "this build has no file source".to_owned() })
        }
    }
}
