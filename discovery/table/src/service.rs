//! A service as readers of a snapshot see it: merged over its sources, with every endpoint judged.

use core::net::SocketAddr;
use std::sync::Arc;

use crate::SharedStr;
use crate::model::{
    AppProtocol, Health, Instance, InstanceState, Labels, Protocol, Provenance, ServiceSpec, SourceId,
};
use crate::name::ServiceName;
use crate::slot::Slot;

/// One service name and everything known about it. Immutable; shared between generations while unchanged.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its name in the native zone.
    pub name: ServiceName,
    /// Its ports, merged over the sources by name and transport, else by index.
    pub ports: Box<[ServicePort]>,
    /// Its instances, sorted by source and native id.
    pub members: Box<[Member]>,
    /// The definitions it was merged from, by priority of their sources.
    pub specs: Box<[(SourceId, Arc<ServiceSpec>)]>,
}

/// One instance of a service, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The source that reports it.
    pub source: SourceId,
    /// The instance. Its `health` is the verdict in force: the last one given, a checker's before the scheduler's.
    pub instance: Arc<Instance>,
    /// Whether it may get traffic.
    pub admission: Admission,
}

/// Whether an instance is in answers and gets new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Admission {
    /// It is.
    In,
    /// It is in although unhealthy, because every running instance of the service is.
    Panic,
    /// It is not.
    Out(Outside),
}

/// Why an instance gets no traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outside {
    /// Staging or starting.
    NotRunning,
    /// Checks are defined and none has given a verdict.
    NoVerdict,
    /// The verdict is unhealthy.
    Unhealthy,
    /// Killing, terminal, lost or unreachable.
    Ending,
    /// Its source is not the one in force (failover), or is held apart (isolate).
    NotSelected,
    /// The same task is already counted through another source.
    Duplicate,
    /// It has no address (for a service with ports: none of them is reached anywhere), or its weight is 0.
    Unreachable,
}

impl Outside {
    /// The reason in words, for `explain` and the admin API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotRunning => "not running yet",
            Self::NoVerdict => "no health verdict yet",
            Self::Unhealthy => "unhealthy",
            Self::Ending => "being killed, ended or unreachable",
            Self::NotSelected => "its source is not selected",
            Self::Duplicate => "counted through another source",
            Self::Unreachable => "no address or weight 0",
        }
    }
}

impl Admission {
    /// True for [`Admission::In`] and [`Admission::Panic`].
    #[must_use]
    pub const fn is_in(self) -> bool {
        matches!(self, Self::In | Self::Panic)
    }

    /// The rule of admission for one instance by itself; panic is decided over the whole service.
    #[must_use]
    pub fn of(instance: &Instance, spec: &ServiceSpec) -> Self {
        let has_place = match spec.ports.is_empty() {
            true => !instance.addresses.is_empty(),
            // An address without any of the ports is somebody else's: its node's, as a rule.
            false => !instance.endpoints.is_empty(),
        };
        match instance.state {
            InstanceState::Staging | InstanceState::Starting => Self::Out(Outside::NotRunning),
            InstanceState::Killing | InstanceState::Unreachable | InstanceState::Terminal => {
                Self::Out(Outside::Ending)
            }
            InstanceState::Running if !has_place || instance.weight == 0 => Self::Out(Outside::Unreachable),
            InstanceState::Running => match instance.health {
                Health::Healthy => Self::In,
                Health::Unhealthy => Self::Out(Outside::Unhealthy),
                Health::Unknown if spec.checks_defined => Self::Out(Outside::NoVerdict),
                Health::Unknown => Self::In,
            },
        }
    }
}

/// One port of a service and where it is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct ServicePort {
    /// The port clients are meant to use; 0 if there is none.
    pub number: u16,
    /// Its name.
    pub name: Option<SharedStr>,
    /// Its transport.
    pub protocol: Protocol,
    /// What is spoken on it.
    pub app_protocol: AppProtocol,
    /// Labels of the port.
    pub labels: Labels,
    /// All endpoints; those that may get traffic come first, each part in the order of the members.
    pub endpoints: Box<[Endpoint]>,
    /// How many of `endpoints` may get traffic.
    pub live: u32,
    /// The weights of the live endpoints are not all the same.
    pub weighted: bool,
}

impl ServicePort {
    /// The endpoints that may get traffic.
    #[inline]
    #[must_use]
    pub fn live(&self) -> &[Endpoint] {
        &self.endpoints[..self.live as usize]
    }
}

/// One reachable address and port of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// Where to connect.
    pub address: SocketAddr,
    /// Index into [`Service::members`].
    pub member: u32,
    /// Where its run-time state is kept.
    pub slot: Slot,
    /// Share of traffic.
    pub weight: u16,
    /// Where the address was read.
    pub provenance: Provenance,
}

impl Service {
    /// A service without ports and instances.
    #[must_use]
    pub fn empty(name: ServiceName) -> Self {
        Self { name, ports: Box::default(), members: Box::default(), specs: Box::default() }
    }

    /// The port a route or a name means: by name, else by index, else (for `None`) the first.
    #[must_use]
    pub fn port(&self, wanted: Option<&str>) -> Option<&ServicePort> {
        let Some(wanted) = wanted else { return self.ports.first() };
        self.ports
            .iter()
            .find(|port| port.name.as_deref() == Some(wanted))
            .or_else(|| self.ports.get(wanted.parse::<usize>().ok()?))
    }

    /// Instances that may get traffic.
    pub fn live_members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.admission.is_in())
    }

    /// The labels of the definition with the best priority.
    #[must_use]
    pub fn labels(&self) -> Option<&Labels> {
        self.specs.first().map(|(_, spec)| &spec.labels)
    }
}
