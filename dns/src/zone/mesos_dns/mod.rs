//! The schema `mesos-dns`: the names that Mesos-DNS gives to tasks, frameworks, agents and masters.
//!
//! ```text
//!  task on an agent ─► <task>.<framework>              the task's addresses        (and <task>-<hash>-<agent>.…)
//!                      <task>.<framework>.slave        the agent's addresses       (and <task>-<hash>-<agent>.…)
//!                      _<task>._tcp.<framework>        its ports
//!  scheduler        ─► <framework>, _framework._tcp.<framework>
//!  agent            ─► slave, _slave._tcp
//!  masters          ─► leader, master, master<n>, _leader._tcp, _leader._udp
//!  this server      ─► what the SOA names (ns1)
//! ```
//!
//! `record` is the pure function from one of these to its records; `listing` keeps the zone in step with the table,
//! at the cost of what changed; `report` is the same records for the HTTP API.

mod hash;
mod label;
mod listing;
mod lookup;
mod record;
mod report;
#[cfg(test)]
mod tests;

use core::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use portolan_table::{Core, SourceId, SourceStatus};

use super::Zone;
pub(crate) use listing::Listing;
pub use lookup::Reached;
pub use report::{Enumerated, EnumeratedFramework, EnumeratedRecord, EnumeratedTask, Transfer};

impl Zone {
    /// `Records` of `/v1/axfr`: everything in the zone, names that no query finds included. Walks the whole table.
    #[must_use]
    pub fn transfer(&self, core: &Core) -> Option<Transfer> {
        let (settings, sources) = self.told(core)?;
        Some(Transfer::of(core, self.name(), settings, &sources))
    }

    /// `/v1/enumerate`: the same by framework and task. Walks the whole table.
    #[must_use]
    pub fn enumerate(&self, core: &Core) -> Option<Enumerated> {
        let (settings, sources) = self.told(core)?;
        Some(Enumerated::of(core, self.name(), settings, &sources))
    }

    fn told(&self, core: &Core) -> Option<(&Settings, Vec<SourceId>)> {
        let listing = self.fixed().listing.as_ref()?;
        let shown = |source: &&SourceStatus| {
            listing.sources.is_empty() || listing.sources.iter().any(|name| **name == *source.name)
        };
        Some((&listing.settings, core.sources().iter().filter(shown).map(|source| source.id).collect()))
    }
}

/// Whom to follow where the program departs from the RFCs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compat {
    /// The RFCs.
    #[default]
    Rfc,
    /// The program.
    Strict,
}

/// The lines of the program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Profile {
    /// 0.7, the last one of its first home.
    V0_7,
    /// 0.8 and later.
    #[default]
    V0_8,
}

/// Where a task's addresses are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpSource {
    /// Its network status.
    Netinfo,
    /// A label of Mesos's containerizer.
    Mesos,
    /// A label of Mesos's Docker containerizer.
    Docker,
    /// Its agent.
    Host,
}

/// How tasks' addresses are chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IpSources {
    /// Those that its ports are reached at, as the table has chosen: a mapped port is the agent's, a network of its
    /// own is the container's.
    Auto,
    /// The first of these that has one.
    Listed(Vec<IpSource>),
}

/// What one zone of this schema is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Which line of the program.
    pub profile: Profile,
    /// Whom to follow.
    pub compat: Compat,
    /// How tasks' addresses are chosen.
    pub ip_sources: IpSources,
    /// The stricter labels.
    pub rfc952: bool,
    /// Tasks are listed whatever their checks say.
    pub ignore_health: bool,
    /// TTL of all records and of negative answers, in seconds.
    pub ttl: u32,
    /// Weight of SRV records.
    pub srv_weight: u16,
    /// The SOA's primary and the name server; a full domain name without a dot at the end.
    pub soa_mname: Arc<str>,
    /// The SOA's mailbox, in the same form.
    pub soa_rname: Arc<str>,
    /// The SOA's refresh, retry and expire times, in seconds.
    pub soa_times: [u32; 3],
    /// The addresses of this server, for its own name; an unspecified one stands for all of this machine.
    pub addresses: Vec<IpAddr>,
    /// Reverse names are answered.
    pub reverse: bool,
    /// Under [`Compat::Strict`] the RA bit of all answers.
    pub recursion_bit: bool,
    /// TC is set in what was cut.
    pub truncate_bit: bool,
    /// Addresses of the client's own network come first.
    pub subnet_first: bool,
    /// Where the HTTP API is served.
    pub http: Vec<SocketAddr>,
    /// The HTTP API gives the whole zone away.
    pub enumeration: bool,
}

impl Settings {
    /// The settings of the zone `name` that nothing is said about.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self {
            profile: Profile::V0_8,
            compat: Compat::Rfc,
            ip_sources: IpSources::Listed(vec![IpSource::Netinfo, IpSource::Mesos, IpSource::Host]),
            rfc952: false,
            ignore_health: false,
            ttl: 60,
            srv_weight: 1,
            soa_mname: format!("ns1.{name}").into(),
            soa_rname: format!("root.ns1.{name}").into(),
            soa_times: [60, 600, 86_400],
            addresses: Vec::new(),
            reverse: false,
            recursion_bit: true,
            truncate_bit: true,
            subnet_first: false,
            http: Vec::new(),
            enumeration: true,
        }
    }

    /// The same on a machine with these addresses: where the server listens on all, it goes by each of them.
    pub(crate) fn placed(&self, machine: &[IpAddr]) -> Self {
        // `::` is published as it stands by the program; nobody can use it.
        let stands = |ip: &IpAddr| !ip.is_unspecified() || (self.is_strict() && ip.is_ipv6());
        let all = self.addresses.iter().any(|ip| !stands(ip));
        let mut addresses: Vec<IpAddr> = self.addresses.iter().copied().filter(stands).collect();
        if all {
            addresses.extend(machine);
        }
        Self { addresses, ..self.clone() }
    }

    /// True if the program is followed to the letter.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.compat == Compat::Strict
    }
}
