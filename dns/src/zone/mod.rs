//! The zones as they are served: what [`ZoneBuilder`] compiles and [`crate::answer::answer`] reads.
mod builder;
mod report;
pub use builder::ZoneBuilder;
pub use report::ZoneMetrics;

/// All zones of one generation: the view of the routing table that DNS is answered from.
#[derive(Debug, Clone, Default)]
pub struct Zones {}
