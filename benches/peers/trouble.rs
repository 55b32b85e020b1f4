//! Why a part has no figures.

/// A part that was not measured.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It can't be measured with what is there; no failure of the run.
    Skip(String),
    /// Something went wrong.
    Fail(String),
}

impl From<String> for Trouble {
    fn from(message: String) -> Self {
        Self::Fail(message)
    }
}
