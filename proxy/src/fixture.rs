//! What the tests of this crate build their tables from.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use portolan_table::{
    Admission, AppProtocol, ChangeSet, Endpoint, HostMatch, Instance, Labels, Member, PathMatch, Protocol,
    Provenance, Publisher, RouteMatch, RouteOrigin, RouteSpec, RouteTarget, Service, ServiceName,
    ServicePort, ServiceSpec, Slot, SourceId, Table, ViewKey,
};

use crate::{
    Config, Limits, ListenerConfig, ListenerProtocol, RouteBuilder, Routes, Timeouts, UpstreamConfig,
};

/// A publisher with the proxy's view, and readers' handles on both.
pub(crate) struct World {
    pub(crate) publisher: Publisher,
    pub(crate) table: Table,
    pub(crate) routes: ViewKey<Routes>,
}

impl World {
    pub(crate) fn new(config: &Config) -> Self {
        let mut publisher = Publisher::new();
        let routes = publisher.add_view(RouteBuilder::new(config));
        Self { table: publisher.table(), publisher, routes }
    }

    pub(crate) fn put(&mut self, service: Service) {
        let mut change = ChangeSet::default();
        change.upsert(Arc::new(service));
        self.publisher.apply(change);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        let mut change = ChangeSet::default();
        change.remove(ServiceName::parse(name).unwrap());
        self.publisher.apply(change);
    }
}

/// A configuration with one `http` listener `web`, one `tcp` listener `db`, and these rules.
pub(crate) fn config(routes: Vec<RouteSpec>) -> Config {
    let listener = |name: &str, protocol| ListenerConfig {
        name: name.into(),
        bind: ([127, 0, 0, 1], 0).into(),
        protocol,
        tcp_fast_open: false,
    };
    Config {
        listeners: vec![listener("web", ListenerProtocol::Http), listener("db", ListenerProtocol::Tcp)],
        routes,
        certificates: Vec::new(),
        tls: crate::tls::TlsConfig::default(),
        upstream: UpstreamConfig::default(),
        services: Vec::new(),
        drain: Duration::from_secs(30),
        trusted_proxies: Vec::new(),
        forwarded: false,
        timeouts: Timeouts::default(),
        limits: Limits::default(),
        access_log: None,
    }
}

/// A rule of the file that takes everything to one service.
pub(crate) fn rule(name: &str, service: &str) -> RouteSpec {
    RouteSpec {
        name: name.into(),
        origin: RouteOrigin::File(0),
        created_ms: 0,
        matches: RouteMatch { host: HostMatch::Any, path: PathMatch::default(), ..RouteMatch::default() },
        targets: vec![RouteTarget { service: ServiceName::parse(service).unwrap(), port: None, weight: 1 }],
    }
}

/// A service with one TCP port and a live endpoint for each (address, slot, weight).
pub(crate) fn service(name: &str, endpoints: &[(SocketAddr, Slot, u16)]) -> Service {
    let members = endpoints.iter().map(|(address, ..)| Member {
        source: SourceId(0),
        instance: Arc::new(Instance::running(address.to_string())),
        admission: Admission::In,
    });
    let made = (0u32..).zip(endpoints).map(|(member, (address, slot, weight))| Endpoint {
        address: *address,
        member,
        slot: *slot,
        weight: *weight,
        provenance: Provenance::Registered,
    });
    let port = ServicePort {
        number: 0,
        name: None,
        protocol: Protocol::Tcp,
        app_protocol: AppProtocol::Unknown,
        labels: Labels::default(),
        endpoints: made.collect(),
        live: endpoints.len() as u32,
        weighted: endpoints.windows(2).any(|pair| pair[0].2 != pair[1].2),
    };
    Service {
        name: ServiceName::parse(name).unwrap(),
        ports: Box::new([port]),
        members: members.collect(),
        specs: Box::default(),
    }
}

/// `n` endpoints with weight 1 at slots 0, 1, ….
pub(crate) fn endpoints(n: u32) -> Vec<(SocketAddr, Slot, u16)> {
    (0..n)
        .map(|index| {
            let address = SocketAddr::from(([10, (index >> 16) as u8, (index >> 8) as u8, index as u8], 80));
            (address, Slot { index, epoch: 0 }, 1)
        })
        .collect()
}

/// A definition of a service that brings rules along.
pub(crate) fn spec(key: &str, name: &str, routes: Vec<RouteSpec>) -> Arc<ServiceSpec> {
    Arc::new(ServiceSpec {
        key: key.into(),
        name: ServiceName::parse(name).unwrap(),
        ports: Box::default(),
        labels: Labels::default(),
        checks_defined: false,
        version: None,
        merge: None,
        routes,
        virtual_addresses: Vec::new(),
    })
}
