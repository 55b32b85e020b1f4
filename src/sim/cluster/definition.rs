//! App and pod definitions: as a client sends them, then as the cluster keeps them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::ids::{Millis, timestamp};

/// Most instances one app may ask for.
pub const INSTANCES_MAX: u32 = 1_000_000;
/// Most ports one app may have.
const PORTS_MAX: usize = 64;

/// One mistake in a definition, in the form of Marathon's 422 answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `/container/portMappings(0)/containerPort`.
    pub path: String,
    /// What.
    pub error: String,
}

/// Whether a definition is of an app or of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `/v2/apps`.
    App,
    /// `/v2/pods`.
    Pod,
}

/// How tasks are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// The agent's own network.
    Host,
    /// A bridge on the agent, host ports mapped.
    Bridge,
    /// An address per task on the named networks.
    Container(Vec<String>),
}

/// One port of a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSpec {
    /// Its name.
    pub name: Option<String>,
    /// `tcp`, `udp` or `udp,tcp`.
    pub protocol: String,
    /// The service port.
    pub service_port: u16,
    /// The port inside the container; 0 is "as the host port". Host mode has none.
    pub container_port: Option<u16>,
    /// Whether the agent gives a host port; `Some(0)` for one the agent chooses.
    pub host_port: Option<u16>,
}

/// A definition as kept: complete, checked, with its JSON form made once.
#[derive(Debug)]
pub struct Definition {
    /// Absolute path id.
    pub id: Arc<str>,
    /// App or pod.
    pub kind: Kind,
    /// Wanted count.
    pub instances: u32,
    /// Version: changes with everything.
    pub version: Millis,
    /// Version of the last change other than of the count; this is what tasks carry.
    pub config_version: Millis,
    /// When the count changed last.
    pub scaled_at: Millis,
    /// The members as a client may send them again.
    pub body: Map<String, Value>,
    /// How tasks are reached.
    pub network: Network,
    /// Ports in order.
    pub ports: Vec<PortSpec>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Protocol of each health check.
    pub checks: Vec<String>,
    /// Failures in a row after which a task is killed; 0 for never.
    pub failures_max: u32,
    /// Whether deployments wait for readiness.
    pub readiness: bool,
    /// Share of the wanted count that stays healthy during a deployment.
    pub healthy_min: f64,
    /// Share of the wanted count that may run beyond it during a deployment.
    pub over_max: f64,
    /// Scale-down takes the oldest first.
    pub oldest_first: bool,
    /// Names of a pod's containers; empty for apps.
    pub containers: Vec<String>,
    /// The JSON form without its closing brace, so that counts and tasks can follow.
    pub json: String,
}

impl Definition {
    /// Checks a client's `body` and completes it. `assign` gives a free service port for each 0.
    ///
    /// # Errors
    /// All mistakes found.
    pub fn from_body(
        kind: Kind,
        mut body: Map<String, Value>,
        old: Option<&Self>,
        now: Millis,
        assign: &mut dyn FnMut() -> u16,
    ) -> Result<Self, Vec<Problem>> {
        let mut check = Check::default();
        let id = check.id(body.get("id"));
        let instances = check.instances(kind, &body);
        body.remove("version");
        body.remove("versionInfo");
        let mut network = Network::Host;
        let ports;
        if kind == Kind::App {
            check.runnable(&body);
            convert_old_forms(&mut body);
            fill_defaults(&mut body);
            network = check.network(&body);
            ports = check.ports(&mut body, &network, old, assign);
        } else {
            network = if body.get("networks").is_some() { check.network(&body) } else { network };
            body.entry("networks").or_insert_with(|| json!([{"mode": "host"}]));
            ports = check.endpoints(&body, &network);
        }
        let labels = check.labels(&body);
        if !check.problems.is_empty() {
            return Err(check.problems);
        }
        body.insert("id".into(), id.as_ref().into());
        if kind == Kind::App {
            body.insert("instances".into(), instances.into());
        }
        Ok(Self::complete(kind, id, instances, body, network, ports, labels, old, now))
    }

    #[expect(clippy::too_many_arguments, reason = "the checked parts, put together in one place only")]
    fn complete(
        kind: Kind,
        id: Arc<str>,
        instances: u32,
        body: Map<String, Value>,
        network: Network,
        ports: Vec<PortSpec>,
        labels: BTreeMap<String, String>,
        old: Option<&Self>,
        now: Millis,
    ) -> Self {
        let version = old.map_or(now, |old| now.max(old.version + 1));
        let same = old.filter(|old| same_config(&old.body, &body));
        let config_version = same.map_or(version, |old| old.config_version);
        let scaled_at = old.filter(|old| old.instances == instances).map_or(version, |old| old.scaled_at);
        let checks = checks_of(kind, &body);
        let strategy = body.get("upgradeStrategy").or_else(|| body.get("scheduling")?.get("upgrade"));
        let share = |name: &str| strategy.and_then(|s| s.get(name)).and_then(Value::as_f64);
        let failures_max = body
            .get("healthChecks")
            .and_then(|checks| checks.get(0)?.get("maxConsecutiveFailures")?.as_u64())
            .map_or(3, |n| u32::try_from(n).unwrap_or(u32::MAX));
        let containers = body
            .get("containers")
            .and_then(Value::as_array)
            .map(|list| list.iter().filter_map(|c| Some(c.get("name")?.as_str()?.to_owned())).collect());
        let mut this = Self {
            id,
            kind,
            instances,
            version,
            config_version,
            scaled_at,
            network,
            ports,
            labels,
            checks,
            failures_max,
            readiness: body.get("readinessChecks").and_then(Value::as_array).is_some_and(|l| !l.is_empty()),
            healthy_min: share("minimumHealthCapacity").unwrap_or(1.0).clamp(0.0, 1.0),
            over_max: share("maximumOverCapacity").unwrap_or(1.0).clamp(0.0, 1.0),
            oldest_first: body.get("killSelection").and_then(Value::as_str) == Some("OLDEST_FIRST"),
            containers: containers.unwrap_or_default(),
            json: String::new(),
            body,
        };
        this.json = this.render();
        this
    }

    /// The JSON form, without the closing brace.
    pub(super) fn render(&self) -> String {
        let mut out = self.body.clone();
        out.insert("version".into(), timestamp(self.version).into());
        if self.kind == Kind::App {
            out.insert(
                "versionInfo".into(),
                json!({
                    "lastScalingAt": timestamp(self.scaled_at),
                    "lastConfigChangeAt": timestamp(self.config_version),
                }),
            );
        }
        let mut text = Value::Object(out).to_string();
        text.pop();
        text
    }

    /// The whole JSON form.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{}}}", self.json)
    }

    /// Whether tasks get a health verdict at all.
    #[must_use]
    pub fn is_checked(&self) -> bool {
        !self.checks.is_empty()
    }

    /// Whether verdicts live in the leader's memory (and are lost with it) rather than with the agents.
    #[must_use]
    pub fn is_checked_by_leader(&self) -> bool {
        self.checks.iter().any(|protocol| matches!(protocol.as_str(), "HTTP" | "HTTPS" | "TCP"))
    }

    /// Fewest tasks ready at any moment of a deployment.
    #[must_use]
    pub fn healthy_floor(&self) -> usize {
        (f64::from(self.instances) * self.healthy_min).ceil() as usize
    }

    /// Most tasks alive at any moment of a deployment, given how many are ready as it goes on.
    #[must_use]
    pub fn capacity(&self) -> usize {
        let most = (f64::from(self.instances) * (1.0 + self.over_max)).floor() as usize;
        // With no room on either side nothing could move: Marathon then allows one more.
        if most == self.healthy_floor() { most + 1 } else { most }
    }
}

/// Whether two bodies differ in nothing but the count.
fn same_config(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    let rest = |m: &Map<String, Value>| {
        let mut m = m.clone();
        m.remove("instances");
        m.remove("scaling");
        m
    };
    rest(a) == rest(b)
}

fn checks_of(kind: Kind, body: &Map<String, Value>) -> Vec<String> {
    if kind == Kind::Pod {
        let containers = body.get("containers").and_then(Value::as_array);
        let checked = containers.is_some_and(|list| list.iter().any(|c| c.get("healthCheck").is_some()));
        return if checked { vec!["MESOS_HTTP".to_owned()] } else { Vec::new() };
    }
    let list = body.get("healthChecks").and_then(Value::as_array);
    let protocol = |check: &Value| check.get("protocol").and_then(Value::as_str).unwrap_or("HTTP").to_owned();
    list.map(|list| list.iter().map(protocol).collect()).unwrap_or_default()
}

/// Turns the forms written for Marathon before 1.5 into the present ones, as Marathon itself does on input.
fn convert_old_forms(body: &mut Map<String, Value>) {
    let docker = body.get_mut("container").and_then(|c| c.get_mut("docker")).and_then(Value::as_object_mut);
    if let Some(docker) = docker {
        let network = docker.remove("network");
        let mappings = docker.remove("portMappings");
        let mode = match network.as_ref().and_then(Value::as_str) {
            Some("BRIDGE") => Some("container/bridge"),
            Some("HOST") => Some("host"),
            Some("USER") => Some("container"),
            _ => None,
        };
        if let Some(mode) = mode {
            body.entry("networks").or_insert_with(|| json!([{"mode": mode}]));
        }
        if let (Some(mappings @ Value::Array(_)), Some(Value::Object(container))) =
            (mappings, body.get_mut("container"))
        {
            container.entry("portMappings").or_insert(mappings);
        }
    }
    if let Some(Value::Array(ports)) = body.remove("ports") {
        let host = body.get("container").is_none_or(|c| c.get("portMappings").is_none());
        if host && !body.contains_key("portDefinitions") {
            let list = ports.into_iter().map(|port| json!({"port": port, "protocol": "tcp"})).collect();
            body.insert("portDefinitions".into(), Value::Array(list));
        }
    }
    body.remove("ipAddress");
    body.remove("uris");
}

/// Members Marathon always writes.
fn fill_defaults(body: &mut Map<String, Value>) {
    let defaults = [
        ("backoffFactor", json!(1.15)),
        ("backoffSeconds", json!(1)),
        ("cpus", json!(1)),
        ("disk", json!(0)),
        ("gpus", json!(0)),
        ("mem", json!(128)),
        ("executor", json!("")),
        ("labels", json!({})),
        ("maxLaunchDelaySeconds", json!(300)),
        ("networks", json!([{"mode": "host"}])),
        ("requirePorts", json!(false)),
        ("role", json!("*")),
        ("unreachableStrategy", json!({"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0})),
        ("killSelection", json!("YOUNGEST_FIRST")),
    ];
    for (name, value) in defaults {
        body.entry(name).or_insert(value);
    }
    let strategy = body.entry("upgradeStrategy").or_insert_with(|| json!({}));
    if let Value::Object(strategy) = strategy {
        strategy.entry("minimumHealthCapacity").or_insert(json!(1));
        strategy.entry("maximumOverCapacity").or_insert(json!(1));
    }
    for name in ["healthChecks", "readinessChecks"] {
        if body.get(name).and_then(Value::as_array).is_some_and(Vec::is_empty) {
            body.remove(name);
        }
    }
    if let Some(Value::Array(checks)) = body.get_mut("healthChecks") {
        checks.iter_mut().filter_map(Value::as_object_mut).for_each(fill_check);
    }
}

fn fill_check(check: &mut Map<String, Value>) {
    let protocol = check.entry("protocol").or_insert(json!("HTTP")).as_str().unwrap_or("HTTP").to_owned();
    for (name, value) in [
        ("gracePeriodSeconds", 300),
        ("intervalSeconds", 60),
        ("timeoutSeconds", 20),
        ("maxConsecutiveFailures", 3),
    ] {
        check.entry(name).or_insert(json!(value));
    }
    if protocol != "COMMAND" && !check.contains_key("port") {
        check.entry("portIndex").or_insert(json!(0));
    }
    if protocol.contains("HTTP") {
        check.entry("path").or_insert(json!("/"));
    }
    if protocol.starts_with("MESOS") {
        check.entry("delaySeconds").or_insert(json!(15));
        check.entry("ipProtocol").or_insert(json!("IPv4"));
    }
}

/// Gathers mistakes while the parts are read.
#[derive(Debug, Default)]
struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn say(&mut self, path: impl Into<String>, error: impl Into<String>) {
        self.problems.push(Problem { path: path.into(), error: error.into() });
    }

    fn id(&mut self, id: Option<&Value>) -> Arc<str> {
        let text = id.and_then(Value::as_str).unwrap_or_default();
        let id = format!("/{}", text.trim_matches('/'));
        let segment_ok = |segment: &str| {
            !segment.is_empty()
                && segment.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
                && !segment.starts_with('-')
                && !segment.ends_with('-')
        };
        if id == "/" || id.len() > 1024 || !id[1..].split('/').all(segment_ok) {
            self.say("/id", "must fully match regular expression '^(([a-z0-9]|[a-z0-9][a-z0-9\\-]*[a-z0-9])\\.)*([a-z0-9]|[a-z0-9][a-z0-9\\-]*[a-z0-9])|(\\.|\\.\\.)$'");
        }
        id.into()
    }

    fn instances(&mut self, kind: Kind, body: &Map<String, Value>) -> u32 {
        let (value, path) = match kind {
            Kind::App => (body.get("instances"), "/instances"),
            Kind::Pod => (body.get("scaling").and_then(|s| s.get("instances")), "/scaling/instances"),
        };
        let Some(value) = value else { return 1 };
        let count = value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= INSTANCES_MAX);
        count.unwrap_or_else(|| {
            self.say(path, "error.expected.number of instances, 0 or more");
            0
        })
    }

    fn runnable(&mut self, body: &Map<String, Value>) {
        let has = |name: &str| body.get(name).is_some_and(|v| !v.is_null());
        let image = body.get("container").and_then(|c| c.get("docker")).and_then(|d| d.get("image"));
        if !has("cmd") && !has("args") && image.is_none() {
            self.say("/", "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.");
        }
        if has("cmd") && has("args") {
            self.say("/", "AppDefinition must not contain both 'cmd' and 'args'");
        }
        for name in ["cpus", "mem", "disk", "gpus"] {
            if body.get(name).is_some_and(|v| v.as_f64().is_none_or(|n| n < 0.0)) {
                self.say(format!("/{name}"), "error.expected.number, 0 or more");
            }
        }
        for name in ["healthChecks", "readinessChecks", "portDefinitions", "networks"] {
            if body.get(name).is_some_and(|v| !v.is_array()) {
                self.say(format!("/{name}"), "error.expected.jsarray");
            }
        }
    }

    fn network(&mut self, body: &Map<String, Value>) -> Network {
        let list = body.get("networks").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut found: Option<Network> = None;
        for (index, network) in list.iter().enumerate() {
            let name = network.get("name").and_then(Value::as_str).unwrap_or("dcos").to_owned();
            let this = match network.get("mode").and_then(Value::as_str).unwrap_or("container") {
                "host" => Network::Host,
                "container/bridge" => Network::Bridge,
                "container" => Network::Container(vec![name.clone()]),
                _ => {
                    self.say(format!("/networks({index})/mode"), "error.unknown.enum.literal");
                    Network::Host
                }
            };
            match (&mut found, this) {
                (None, this) => found = Some(this),
                (Some(Network::Container(names)), Network::Container(_)) => names.push(name),
                _ => self.say(
                    "/networks",
                    "may contain at most one host or bridge network, and modes cannot be mixed",
                ),
            }
        }
        found.unwrap_or(Network::Host)
    }

    fn labels(&mut self, body: &Map<String, Value>) -> BTreeMap<String, String> {
        let Some(labels) = body.get("labels") else { return BTreeMap::new() };
        let parsed: Option<BTreeMap<String, String>> = serde_json::from_value(labels.clone()).ok();
        parsed.unwrap_or_else(|| {
            self.say("/labels", "error.expected.jsobject of strings");
            BTreeMap::new()
        })
    }

    /// The ports of an app; zeros among the service ports are replaced in `body`, kept from `old` where possible.
    fn ports(
        &mut self,
        body: &mut Map<String, Value>,
        network: &Network,
        old: Option<&Definition>,
        assign: &mut dyn FnMut() -> u16,
    ) -> Vec<PortSpec> {
        let host = *network == Network::Host;
        let (list, path) = if host {
            if let Some(Value::Object(container)) = body.get_mut("container") {
                container.remove("portMappings");
            }
            let none = body.get("cmd").is_none() && body.get("container").is_none();
            let default =
                if none { json!([]) } else { json!([{"port": 0, "protocol": "tcp", "name": "default"}]) };
            (Some(body.entry("portDefinitions").or_insert(default)), "/portDefinitions")
        } else {
            body.remove("portDefinitions");
            let container =
                body.entry("container").or_insert_with(|| json!({"type": "MESOS", "volumes": []}));
            (container.get_mut("portMappings"), "/container/portMappings")
        };
        let Some(list) = list else { return Vec::new() };
        let Some(list) = list.as_array_mut() else {
            self.say(path, "error.expected.jsarray");
            return Vec::new();
        };
        if list.len() > PORTS_MAX {
            self.say(path, format!("at most {PORTS_MAX} ports"));
        }
        let mut ports = Vec::with_capacity(list.len().min(PORTS_MAX));
        for (index, entry) in list.iter_mut().take(PORTS_MAX).enumerate() {
            let path = format!("{path}({index})");
            let Some(entry) = entry.as_object_mut() else {
                self.say(path, "error.expected.jsobject");
                continue;
            };
            let kept = old.and_then(|old| old.ports.get(index)).map(|port| port.service_port);
            let mut service = || kept.unwrap_or_else(&mut *assign);
            ports.push(self.port(entry, &path, network, &mut service));
        }
        if host && body.get("requirePorts").and_then(Value::as_bool) == Some(true) {
            ports.iter_mut().for_each(|port| port.host_port = Some(port.service_port));
        }
        ports
    }

    fn port(
        &mut self,
        entry: &mut Map<String, Value>,
        path: &str,
        network: &Network,
        service: &mut dyn FnMut() -> u16,
    ) -> PortSpec {
        let protocol =
            entry.entry("protocol").or_insert(json!("tcp")).as_str().unwrap_or_default().to_owned();
        if !matches!(protocol.as_str(), "tcp" | "udp" | "udp,tcp" | "tcp,udp") {
            self.say(format!("{path}/protocol"), "error.unknown.enum.literal");
        }
        entry.entry("labels").or_insert_with(|| json!({}));
        let name = entry.get("name").and_then(Value::as_str).map(str::to_owned);
        let service_member = if *network == Network::Host { "port" } else { "servicePort" };
        let mut service_port = self.number(entry, service_member, path).unwrap_or(0);
        if service_port == 0 {
            service_port = service();
            entry.insert(service_member.into(), service_port.into());
        }
        let (container_port, host_port) = match network {
            Network::Host => (None, Some(0)),
            Network::Bridge => {
                entry.entry("hostPort").or_insert(json!(0));
                (self.number(entry, "containerPort", path), self.number(entry, "hostPort", path))
            }
            Network::Container(_) => {
                (self.number(entry, "containerPort", path), self.number(entry, "hostPort", path))
            }
        };
        if *network != Network::Host && container_port.is_none() {
            entry.insert("containerPort".into(), json!(0));
        }
        let container_port = (*network != Network::Host).then(|| container_port.unwrap_or(0));
        PortSpec { name, protocol, service_port, container_port, host_port }
    }

    fn number(&mut self, entry: &Map<String, Value>, name: &str, path: &str) -> Option<u16> {
        let value = entry.get(name).filter(|v| !v.is_null())?;
        let number = value.as_u64().and_then(|n| u16::try_from(n).ok());
        if number.is_none() {
            self.say(format!("{path}/{name}"), "error.port: must be between 0 and 65535");
        }
        number
    }

    /// The endpoints of a pod's containers, flattened in order.
    fn endpoints(&mut self, body: &Map<String, Value>, network: &Network) -> Vec<PortSpec> {
        let containers =
            body.get("containers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if containers.is_empty() {
            self.say("/containers", "must not be empty");
        }
        let mut ports = Vec::new();
        for (index, container) in containers.iter().enumerate() {
            let path = format!("/containers({index})");
            if container.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
                self.say(format!("{path}/name"), "error.path.missing");
            }
            let list =
                container.get("endpoints").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            for endpoint in list.iter().filter_map(Value::as_object) {
                let container_port = self.number(endpoint, "containerPort", &path);
                let host_port = self.number(endpoint, "hostPort", &path);
                ports.push(PortSpec {
                    name: endpoint.get("name").and_then(Value::as_str).map(str::to_owned),
                    protocol: "tcp".to_owned(),
                    service_port: 0,
                    container_port: (*network != Network::Host).then(|| container_port.unwrap_or(0)),
                    host_port: if *network == Network::Host {
                        Some(host_port.unwrap_or(0))
                    } else {
                        host_port
                    },
                });
            }
        }
        ports
    }
}
