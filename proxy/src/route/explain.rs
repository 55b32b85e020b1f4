//! Why a request takes the rule it takes, in the order in which rules are asked.

use std::sync::Arc;

use super::Route;

/// One rule that was considered.
#[derive(Debug, Clone)]
pub struct Step {
    /// The rule.
    pub route: Arc<Route>,
    /// What became of it.
    pub verdict: Verdict,
}

/// What became of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the answer.
    Chosen,
    /// Every condition holds, but a rule before it was chosen.
    Later,
    /// The rule is for another listener.
    Listener,
    /// The host differs.
    Host,
    /// The path differs.
    Path,
    /// The method differs.
    Method,
    /// A header is missing or differs.
    Header,
    /// The rule itself is wrong ([`Route::problem`]) and matches nothing.
    Broken,
}

impl Verdict {
    /// The verdict in words, for `explain` and the admin API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chosen => "chosen",
            Self::Later => "matches too, but comes later in the order",
            Self::Listener => "is for another listener",
            Self::Host => "host differs",
            Self::Path => "path differs",
            Self::Method => "method differs",
            Self::Header => "a header is missing or differs",
            Self::Broken => "the rule itself is wrong",
        }
    }
}
