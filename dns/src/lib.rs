//! Portolan's DNS server: zones compiled from the routing table, and the two paths that answer from them.
//!
//! ```text
//!  catalog task                         data thread, one per core
//!  Changes ──► ZoneBuilder ──► Zones    UDP batch ──► wire ──► answer(&Zones) ──► UDP batch       (fast)
//!               only what changed       TCP, names that are not ours ──► server, forward          (slow)
//! ```
//!
//! [`gate`] judges who may ask, on both paths; [`answer::answer`] is one pure function, used by both paths and by
//! [`transfer`], which gives zones to secondaries. The crate does not know schedulers or the proxy, keeps no copy of
//! the catalog beside [`zone::Zones`], and never answers from anything but the snapshot it was handed.

pub mod answer;
mod config;
pub mod cookie;
pub mod fast;
pub mod forward;
pub mod gate;
pub mod metrics;
mod networks;
mod rate;
pub mod server;
pub mod transfer;
pub mod tsig;
pub mod wire;
pub mod zone;

pub use config::*;
pub use server::{Server, Sockets, Trust, TrustError, bind, serve, tend};
pub use zone::{ZoneBuilder, ZoneMetrics, Zones, mesos_dns};
