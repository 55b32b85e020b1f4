//! Portolan's own format of service definitions, the same in TOML, YAML and JSON.
//!
//! ```toml
//! [[service]]
//! name = "web.shop.prod"
//! labels = { team = "shop" }
//! port = [{ name = "http", number = 80, app = "http" }, { name = "admin" }]
//! endpoint = [
//!     "10.0.0.1:8080",
//!     { address = "10.0.0.2", ports = { http = 8080, admin = 9090 }, weight = 2, zone = "rack-7" },
//! ]
//! ```
//!
//! The plurals `services`, `ports` and `endpoints` mean the same. `docs/sources-file.md` has every key.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::num::NonZeroU16;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use portolan_table::{
    Address, AppProtocol, Health, Instance, InstanceEndpoint, InstanceState, Labels, MergePolicy, Network,
    PortSpec, Protocol, Provenance, ServiceName, ServiceSpec,
};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::document::Definition;
use crate::sources::telling::Service;

/// A file in this format.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Typed<TypedService>")]
pub(super) struct Definitions(pub(super) Vec<Definition>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Typed<S> {
    #[serde(default = "Vec::new", alias = "services")]
    service: Vec<S>,
}

impl TryFrom<Typed<TypedService>> for Definitions {
    type Error = String;

    fn try_from(typed: Typed<TypedService>) -> Result<Self, String> {
        let mut names = HashSet::new();
        for TypedService(definition) in &typed.service {
            check_twice(&mut names, definition)?;
        }
        Ok(Self(typed.service.into_iter().map(|service| service.0).collect()))
    }
}

impl Definitions {
    /// Reads TOML, whose deserialiser knows where each service begins only if it is asked.
    ///
    /// # Errors
    /// The offset of the mistake, if known, and the message.
    pub(super) fn from_toml(text: &str) -> Result<Self, (Option<usize>, String)> {
        let typed: Typed<toml::Spanned<RawService>> = toml::from_str(text)
            .map_err(|error| (error.span().map(|span| span.start), error.message().to_owned()))?;
        let mut names = HashSet::new();
        let mut definitions = Vec::with_capacity(typed.service.len());
        for service in typed.service {
            let start = service.span().start;
            let TypedService(definition) =
                service.into_inner().try_into().map_err(|message| (Some(start), message))?;
            check_twice(&mut names, &definition).map_err(|message| (Some(start), message))?;
            definitions.push(definition);
        }
        Ok(Self(definitions))
    }
}

fn check_twice(names: &mut HashSet<ServiceName>, definition: &Definition) -> Result<(), String> {
    let name = &definition.spec.name;
    if names.insert(name.clone()) {
        return Ok(());
    }
    Err(format!("the service {name} is defined twice; put its endpoints into one definition"))
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "RawService")]
struct TypedService(Definition);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawService {
    name: ServiceName,
    #[serde(default, alias = "ports")]
    port: Vec<RawPort>,
    #[serde(default, alias = "endpoints")]
    endpoint: Vec<RawEndpoint>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    version: Option<String>,
    merge: Option<MergePolicy>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPort {
    name: Option<String>,
    number: Option<Port>,
    #[serde(default)]
    protocol: Protocol,
    #[serde(default)]
    app: AppProtocol,
}

/// A service without its name and endpoints, which stand elsewhere.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sources) struct Defined {
    #[serde(default, alias = "ports")]
    port: Vec<RawPort>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    version: Option<String>,
    merge: Option<MergePolicy>,
}

/// `"10.0.0.1:80"`, or a table.
#[derive(Debug, Clone)]
pub(in crate::sources) struct RawEndpoint(EndpointTable);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointTable {
    address: Place,
    port: Option<Port>,
    #[serde(default)]
    ports: BTreeMap<String, Port>,
    id: Option<String>,
    node: Option<String>,
    zone: Option<String>,
    region: Option<String>,
    weight: Option<u16>,
    health: Option<Health>,
    state: Option<InstanceState>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// A port number, which is never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sources) struct Port(NonZeroU16);

impl Port {
    pub(in crate::sources) fn get(self) -> u16 {
        self.0.get()
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        let port = u16::try_from(number).ok().and_then(NonZeroU16::new).map(Self);
        port.ok_or_else(|| {
            D::Error::custom(format!("{number} is not a port; write a number from 1 to 65535"))
        })
    }
}

/// An IP address, with or without a port.
#[derive(Debug, Clone, Copy)]
pub(in crate::sources) struct Place {
    pub(in crate::sources) ip: IpAddr,
    pub(in crate::sources) port: Option<Port>,
}

impl Place {
    /// Reads `10.0.0.1`, `10.0.0.1:80`, `2001:db8::1` or `[2001:db8::1]:80`.
    pub(in crate::sources) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(ip) = text.parse() {
            return Ok(Self { ip, port: None });
        }
        let socket = text.parse::<SocketAddr>().ok();
        let port = socket.and_then(|socket| NonZeroU16::new(socket.port())).map(Port);
        match (socket, port) {
            (Some(socket), Some(port)) => Ok(Self { ip: socket.ip(), port: Some(port) }),
            _ => Err(format!(
                "{text:?} is not an address; write an IP address with or without a port, like 10.0.0.1, \
                 10.0.0.1:80 or [2001:db8::1]:80"
            )),
        }
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Place;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an IP address with or without a port")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Place, E> {
                Place::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl<'de> Deserialize<'de> for RawEndpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrTable;
        impl<'de> Visitor<'de> for TextOrTable {
            type Value = RawEndpoint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address with a port, like \"10.0.0.1:80\", or a table with `address`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<RawEndpoint, E> {
                let address = Place::parse(text).map_err(E::custom)?;
                Ok(RawEndpoint(EndpointTable::at(address)))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawEndpoint, A::Error> {
                EndpointTable::deserialize(MapAccessDeserializer::new(map)).map(RawEndpoint)
            }
        }
        deserializer.deserialize_any(TextOrTable)
    }
}

impl RawEndpoint {
    /// An endpoint that is written as an address alone.
    pub(in crate::sources) fn parse(text: &str) -> Result<Self, String> {
        Place::parse(text).map(|place| Self(EndpointTable::at(place)))
    }
}

impl EndpointTable {
    fn at(address: Place) -> Self {
        Self {
            address,
            port: None,
            ports: BTreeMap::new(),
            id: None,
            node: None,
            zone: None,
            region: None,
            weight: None,
            health: None,
            state: None,
            metadata: BTreeMap::new(),
        }
    }
}

impl TryFrom<RawService> for TypedService {
    type Error = String;

    fn try_from(raw: RawService) -> Result<Self, String> {
        let name = raw.name;
        let ports = ports(&name, raw.port, &raw.endpoint)?;
        let mut ids = HashSet::new();
        let mut instances = Vec::with_capacity(raw.endpoint.len());
        for RawEndpoint(endpoint) in raw.endpoint {
            let instance = instance(&name, &ports, endpoint)?;
            if !ids.insert(instance.id.clone()) {
                return Err(format!(
                    "the service {name} has the endpoint {:?} twice; take one out, or give each an `id`",
                    instance.id
                ));
            }
            instances.push(Arc::new(instance));
        }
        let spec = ServiceSpec {
            key: name.as_str().into(),
            name,
            ports: ports.into(),
            labels: raw.labels.into_iter().collect(),
            checks_defined: false,
            version: raw.version.map(Into::into),
            merge: raw.merge,
            routes: Vec::new(),
            virtual_addresses: Vec::new(),
        };
        Ok(Self(Definition { spec: Arc::new(spec), instances }))
    }
}

/// Puts a service together of its definition and its endpoints by id. Of an endpoint that does not fit, and of ports that
/// are defined twice, the second value says what is wrong.
pub(in crate::sources) fn assemble(
    name: ServiceName,
    defined: Defined,
    endpoints: Vec<(String, RawEndpoint)>,
) -> (Service, Vec<String>) {
    let mut problems = Vec::new();
    let (ids, raw): (Vec<String>, Vec<RawEndpoint>) = endpoints.into_iter().unzip();
    let ports = ports(&name, defined.port, &raw).or_else(|problem| {
        problems.push(problem);
        ports(&name, Vec::new(), &raw)
    });
    let ports = ports.unwrap_or_default();
    let mut instances = Vec::with_capacity(raw.len());
    for (id, RawEndpoint(mut endpoint)) in ids.into_iter().zip(raw) {
        endpoint.id = Some(id);
        match instance(&name, &ports, endpoint) {
            Ok(instance) => instances.push(Arc::new(instance)),
            Err(problem) => problems.push(problem),
        }
    }
    let spec = ServiceSpec {
        key: name.as_str().into(),
        name,
        ports: ports.into(),
        labels: defined.labels.into_iter().collect(),
        checks_defined: false,
        version: defined.version.map(Into::into),
        merge: defined.merge,
        routes: Vec::new(),
        virtual_addresses: Vec::new(),
    };
    ((Arc::new(spec), instances), problems)
}

/// The ports as defined; without a definition those that the endpoints name, else one without a name.
fn ports(name: &ServiceName, raw: Vec<RawPort>, endpoints: &[RawEndpoint]) -> Result<Vec<PortSpec>, String> {
    if raw.is_empty() {
        let named: BTreeMap<&str, ()> =
            endpoints.iter().flat_map(|e| e.0.ports.keys()).map(|name| (name.as_str(), ())).collect();
        let of = |name: Option<&str>| PortSpec { name: name.map(Into::into), ..PortSpec::default() };
        return Ok(if named.is_empty() {
            vec![of(None)]
        } else {
            named.keys().map(|name| of(Some(name))).collect()
        });
    }
    let mut known = HashSet::new();
    for port in &raw {
        if let Some(port_name) = &port.name
            && !known.insert((port_name.clone(), port.protocol))
        {
            return Err(format!("the service {name} defines the port {port_name:?} twice; take one out"));
        }
    }
    Ok(raw
        .into_iter()
        .map(|port| PortSpec {
            number: port.number.map_or(0, Port::get),
            name: port.name.map(Into::into),
            protocol: port.protocol,
            app_protocol: port.app,
            labels: Labels::default(),
        })
        .collect())
}

fn instance(name: &ServiceName, ports: &[PortSpec], raw: EndpointTable) -> Result<Instance, String> {
    let ip = raw.address.ip;
    let endpoints = endpoints(name, ports, &raw)?;
    let first = endpoints.first().map_or(0, |endpoint: &InstanceEndpoint| endpoint.number);
    let id = raw.id.unwrap_or_else(|| SocketAddr::new(ip, first).to_string());
    let mut instance = Instance::running(id);
    instance.node = raw.node.map(Into::into);
    instance.zone = raw.zone.map(Into::into);
    instance.region = raw.region.map(Into::into);
    instance.addresses.push(Address::new(ip, Network::Host, Provenance::Registered));
    instance.endpoints.extend(endpoints);
    // What is written is the whole truth: a verdict that is taken out of the file must not linger.
    instance.health = raw.health.unwrap_or(Health::Healthy);
    instance.state = raw.state.unwrap_or(InstanceState::Running);
    instance.weight = raw.weight.unwrap_or(1);
    if !raw.metadata.is_empty() {
        instance.metadata = Some(Arc::new(raw.metadata.into_iter().collect()));
    }
    Ok(instance)
}

/// The ports of one endpoint: each by its name, or one for the first, or the numbers of the definition.
fn endpoints(
    name: &ServiceName,
    ports: &[PortSpec],
    raw: &EndpointTable,
) -> Result<Vec<InstanceEndpoint>, String> {
    let ip = raw.address.ip;
    let at = |index: usize, number: u16| InstanceEndpoint {
        port_index: u16::try_from(index).unwrap_or(u16::MAX),
        address_index: 0,
        number,
    };
    let single = match (raw.address.port, raw.port) {
        (Some(_), Some(_)) => {
            return Err(format!(
                "endpoint {ip} of {name} has a port in `address` and another in `port`; keep one"
            ));
        }
        (one, other) => one.or(other),
    };
    if single.is_some() && !raw.ports.is_empty() {
        return Err(format!("endpoint {ip} of {name} has one port and `ports`; keep one of the two"));
    }
    if let Some(port) = single {
        return Ok(vec![at(0, port.get())]);
    }
    let mut endpoints = Vec::with_capacity(ports.len());
    for (port, number) in &raw.ports {
        let named = |spec: &&PortSpec| spec.name.as_deref() == Some(port);
        if !ports.iter().any(|spec| named(&spec)) {
            let defined: Vec<&str> = ports.iter().filter_map(|spec| spec.name.as_deref()).collect();
            return Err(format!(
                "endpoint {ip} of {name} has a port {port:?} which the service does not define; it defines {}",
                if defined.is_empty() { "none by name".to_owned() } else { defined.join(", ") }
            ));
        }
        let indexes = ports.iter().enumerate().filter(|(_, spec)| named(spec));
        endpoints.extend(indexes.map(|(index, _)| at(index, number.get())));
    }
    if raw.ports.is_empty() {
        let fixed = ports.iter().enumerate().filter(|(_, spec)| spec.number != 0);
        endpoints.extend(fixed.map(|(index, spec)| at(index, spec.number)));
    }
    if endpoints.is_empty() {
        return Err(format!(
            "endpoint {ip} of {name} has no port; write \"{}\", `port` or `ports`",
            SocketAddr::new(ip, 8080)
        ));
    }
    endpoints.sort_by_key(|endpoint| endpoint.port_index);
    Ok(endpoints)
}
