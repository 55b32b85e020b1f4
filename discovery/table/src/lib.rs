//! Portolan's routing table: the model of a cluster, immutable snapshots of it, and how they are published.
//!
//! ```text
//!  catalog task (control)                                data threads, no lock
//!  ChangeSet ──► Publisher ──► Snapshot, generation N ──► Table::load() ──► service / node / view lookups
//!                  │ views: what DNS and proxy compile from the services that changed
//!                  └ frees generation N-1 once nobody reads it
//! ```
//!
//! This crate does no I/O and knows no runtime. It does not talk to schedulers (`portolan-discovery`), does
//! not know DNS wire form (`portolan-dns`) and does not move bytes (`portolan-proxy`); the last two hang
//! their compiled forms into a snapshot as *views*, so that one swap changes everything a reader sees.
//!
//! ```
//! use std::sync::Arc;
//! use portolan_table::{ChangeSet, Publisher, Service, ServiceName};
//!
//! let mut publisher = Publisher::new();
//! let table = publisher.table();
//! let name = ServiceName::parse("web.shop.prod").unwrap();
//! let mut change = ChangeSet::default();
//! change.upsert(Arc::new(Service::empty(name.clone())));
//! let published = publisher.apply(change).expect("something changed");
//! assert_eq!(table.load().generation(), published.generation);
//! assert!(table.load().service("web.shop.prod").is_some());
//! ```

mod cluster;
mod hash;
mod map;
mod model;
mod name;
mod publish;
mod route;
mod service;
mod slot;
mod snapshot;

/// A text that many may hold: one word where it stands, one allocation however many hold it. There is at least
/// one for every instance, so that the second word of an `Arc<str>` would be paid for a million times.
pub use arcstr::ArcStr as SharedStr;
pub use cluster::{
    Agent, ClusterFact, Contact, Definition, Discovery, DiscoveryPort, FactKey, Masters, Placement,
    Scheduler, Visibility,
};
pub use hash::{index_hash, stable_hash};
pub use map::{ShardMap, ShardTree, Shards};
pub use model::{
    Address, AppProtocol, Health, Instance, InstanceEndpoint, InstanceState, Labels, MergePolicy, Network,
    NodeFact, PortSpec, Protocol, Provenance, ServiceSpec, SourceId, SourceStatus, Standing, VirtualAddress,
};
pub use name::{
    INSTANCE_LABEL_LEN, LABEL_LEN_MAX, NameError, SERVICE_NAME_LEN_MAX, ServiceName, instance_label,
    sanitise_label,
};
pub use publish::{
    ChangeSet, Changes, FactChange, NodeChange, Published, Publisher, ServiceChange, ViewBuilder, ViewKey,
};
pub use route::{HeaderMatch, HostMatch, PathMatch, RouteMatch, RouteOrigin, RouteSpec, RouteTarget};
pub use service::{Admission, Endpoint, Member, Outside, Service, ServicePort};
pub use slot::{Slot, SlotRegistry};
pub use snapshot::{Core, Generation, Snapshot, SnapshotGuard, Table};
