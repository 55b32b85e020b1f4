//! Figures that Portolan is to reach.

/// Stands for whichever peer is best.
pub(crate) const BEST: &str = "the best peer";
/// Rows that are no peers.
pub(crate) const BARE: &str = "bare";

/// `subject` ÷ `against` is to be `at_most`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal {
    pub(crate) subject: &'static str,
    pub(crate) against: &'static str,
    pub(crate) at_most: f64,
}

/// Portolan against a peer.
pub(crate) const fn goal(against: &'static str, at_most: f64) -> Goal {
    Goal { subject: "portolan", against, at_most }
}

/// One row of Portolan against its plain one.
pub(crate) const fn own(subject: &'static str, at_most: f64) -> Goal {
    Goal { subject, against: "portolan", at_most }
}
