//! What a simulation begins with and what happens in it: from a file, from a few numbers, or the demonstration's.

use core::time::Duration;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::backend::BACKEND_LABEL;
use super::cluster::{ClusterConfig, Millis, Timing};

/// Most tasks one scenario may ask for.
const TASKS_MAX: usize = 1_000_000;
/// Most timed steps.
const STEPS_MAX: usize = 100_000;

/// Events a reader of the stream may be behind unless a scenario says otherwise.
pub(super) const OUTSTANDING: usize = 1024;

/// A scenario as meant.
#[derive(Debug)]
pub struct Scenario {
    /// The cluster's properties.
    pub cluster: ClusterConfig,
    /// Bodies of the first apps.
    pub apps: Vec<Map<String, Value>>,
    /// Bodies of the first pods.
    pub pods: Vec<Map<String, Value>>,
    /// Whether tasks are real servers.
    pub backends: bool,
    /// Changes per second by themselves.
    pub rate: f64,
    /// Events a reader of the stream may be behind before it is cut off.
    pub outstanding: usize,
    /// What happens when, in order of time.
    pub steps: Vec<Step>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            cluster: ClusterConfig::default(),
            apps: Vec::new(),
            pods: Vec::new(),
            backends: false,
            rate: 0.0,
            outstanding: OUTSTANDING,
            steps: Vec::new(),
        }
    }
}

/// One timed step: a request to `/sim/<what>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When, since the start.
    pub at: Duration,
    /// What: the last part of a path below `/sim/`.
    pub what: String,
    /// Its parameters.
    pub parameters: Vec<(String, String)>,
}

/// Why a scenario is refused.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// It is not TOML, or has unknown or missing keys.
    #[error("the scenario is not understood")]
    Syntax(#[from] toml::de::Error),
    /// A value makes no sense.
    #[error("{0}")]
    Value(String),
}

/// How tasks of generated apps are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Ports of the agent.
    Host,
    /// Ports of the agent, mapped to those of a container.
    #[default]
    Bridge,
    /// An address per task.
    Container,
}

impl Mode {
    fn networks(self) -> Value {
        match self {
            Self::Host => json!([{"mode": "host"}]),
            Self::Bridge => json!([{"mode": "container/bridge"}]),
            Self::Container => json!([{"mode": "container", "name": "dcos"}]),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScenario {
    seed: Option<u64>,
    agents: Option<usize>,
    #[serde(default)]
    backends: bool,
    rate: Option<String>,
    max_outstanding_messages: Option<usize>,
    #[serde(default)]
    timing: RawTiming,
    #[serde(default)]
    app: Vec<RawApp>,
    #[serde(default)]
    pod: Vec<RawPod>,
    #[serde(default)]
    step: Vec<BTreeMap<String, Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTiming {
    staging: Option<String>,
    starting: Option<String>,
    healthy: Option<String>,
    ready: Option<String>,
    grace: Option<String>,
    backoff: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawApp {
    /// `{n}` is the number of the copy.
    id: String,
    #[serde(default = "one")]
    copies: usize,
    #[serde(default = "one")]
    tasks: usize,
    #[serde(default)]
    network: Mode,
    ports: Option<Vec<String>>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    vhost: Option<String>,
    check: Option<String>,
    backend: Option<String>,
    #[serde(default)]
    definition: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPod {
    definition: Map<String, Value>,
}

const fn one() -> usize {
    1
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// See [`ScenarioError`].
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let raw: RawScenario = toml::from_str(text)?;
        let mut cluster = ClusterConfig { timing: timing(&raw.timing)?, ..ClusterConfig::default() };
        cluster.seed = raw.seed.unwrap_or(cluster.seed);
        cluster.agents = raw.agents.unwrap_or(cluster.agents);
        let wanted: usize = raw.app.iter().map(|app| app.copies.saturating_mul(app.tasks)).sum();
        if wanted > TASKS_MAX {
            return Err(ScenarioError::Value(format!("{wanted} tasks are more than {TASKS_MAX}")));
        }
        let mut steps = raw.step.iter().map(step).collect::<Result<Vec<_>, _>>()?;
        if steps.len() > STEPS_MAX {
            return Err(ScenarioError::Value(format!("more than {STEPS_MAX} steps")));
        }
        steps.sort_by_key(|step| step.at);
        Ok(Self {
            cluster,
            apps: raw.app.iter().flat_map(|app| (1..=app.copies).map(|n| app.body(n))).collect(),
            pods: raw.pod.into_iter().map(|pod| pod.definition).collect(),
            backends: raw.backends,
            rate: raw.rate.as_deref().map(parse_rate).transpose()?.unwrap_or(0.0),
            outstanding: raw.max_outstanding_messages.unwrap_or(OUTSTANDING),
            steps,
        })
    }

    /// Many like apps: `/load/app-1` and so on, the tasks spread over them, each with a virtual host.
    ///
    /// # Errors
    /// Too many tasks.
    pub fn generate(apps: usize, tasks: usize, network: Mode, seed: u64) -> Result<Self, ScenarioError> {
        if tasks > TASKS_MAX || apps > TASKS_MAX {
            return Err(ScenarioError::Value(format!("at most {TASKS_MAX} apps and tasks")));
        }
        let apps = apps.max(1);
        let body = |n: usize| {
            let own = tasks / apps + usize::from(n <= tasks % apps);
            let raw = RawApp {
                id: "/load/app-{n}".to_owned(),
                copies: apps,
                tasks: own,
                network,
                ports: None,
                labels: BTreeMap::new(),
                vhost: Some("app-{n}.example.com".to_owned()),
                check: Some("MESOS_HTTP".to_owned()),
                backend: None,
                definition: Map::new(),
            };
            raw.body(n)
        };
        // Some twenty tasks an agent at least, and no more agents than a large cluster has.
        let agents = (tasks / 20).clamp(3, 1000);
        let cluster = ClusterConfig { seed, agents, ..ClusterConfig::default() };
        Ok(Self { cluster, apps: (1..=apps).map(body).collect(), ..Self::default() })
    }

    /// The demonstration: a shop, a blog and an echo, with real backends.
    #[must_use]
    pub fn demo() -> Self {
        let app = |id: &str, tasks: usize, network, vhost: Option<&str>, backend: &str| {
            let raw = RawApp {
                id: id.to_owned(),
                copies: 1,
                tasks,
                network,
                ports: None,
                labels: BTreeMap::new(),
                vhost: vhost.map(str::to_owned),
                check: Some(if backend == "tcp" { "MESOS_TCP" } else { "MESOS_HTTP" }.to_owned()),
                backend: Some(backend.to_owned()),
                definition: Map::new(),
            };
            raw.body(1)
        };
        Self {
            apps: vec![
                app("/shop/web", 3, Mode::Bridge, Some("shop.example.com"), "http"),
                app("/shop/cart", 2, Mode::Host, Some("cart.example.com"), "http"),
                app("/blog", 2, Mode::Bridge, Some("blog.example.com"), "http"),
                app("/echo", 2, Mode::Host, None, "tcp"),
            ],
            backends: true,
            ..Self::default()
        }
    }
}

impl RawApp {
    /// The body of copy `n`.
    fn body(&self, n: usize) -> Map<String, Value> {
        let number = |text: &str| text.replace("{n}", &n.to_string());
        let mut labels: Map<String, Value> =
            self.labels.iter().map(|(key, value)| (key.clone(), number(value).into())).collect();
        if let Some(vhost) = &self.vhost {
            labels.entry("HAPROXY_GROUP").or_insert_with(|| json!("external"));
            labels.insert("HAPROXY_0_VHOST".to_owned(), number(vhost).into());
        }
        if let Some(backend) = &self.backend {
            labels.insert(BACKEND_LABEL.to_owned(), backend.as_str().into());
        }
        let default = [if self.backend.as_deref() == Some("tcp") { "tcp" } else { "http" }.to_owned()];
        let names = self.ports.as_deref().unwrap_or(&default);
        let mut body = Map::from_iter([
            ("id".to_owned(), number(&self.id).into()),
            ("cmd".to_owned(), "serve".into()),
            ("instances".to_owned(), self.tasks.into()),
            ("networks".to_owned(), self.network.networks()),
            ("labels".to_owned(), labels.into()),
        ]);
        if self.network == Mode::Host {
            let ports: Vec<Value> = names.iter().map(|name| json!({"port": 0, "name": name})).collect();
            body.insert("portDefinitions".to_owned(), ports.into());
        } else {
            let mapping =
                |(index, name): (usize, &String)| json!({"containerPort": 8080 + index, "name": name});
            let ports: Vec<Value> = names.iter().enumerate().map(mapping).collect();
            body.insert(
                "container".to_owned(),
                json!({"type": "MESOS", "volumes": [], "portMappings": ports}),
            );
        }
        if let Some(protocol) = &self.check {
            let mut check = json!({"protocol": protocol, "portIndex": 0, "intervalSeconds": 10});
            if protocol.contains("HTTP") {
                check["path"] = json!("/health");
            }
            body.insert("healthChecks".to_owned(), json!([check]));
        }
        body.extend(self.definition.clone());
        body
    }
}

fn timing(raw: &RawTiming) -> Result<Timing, ScenarioError> {
    let default = Timing::default();
    let own = |text: &Option<String>, default: Millis| match text {
        Some(text) => Ok(u64::try_from(parse_duration(text)?.as_millis()).unwrap_or(u64::MAX)),
        None => Ok::<_, ScenarioError>(default),
    };
    Ok(Timing {
        staging: own(&raw.staging, default.staging)?,
        starting: own(&raw.starting, default.starting)?,
        healthy: own(&raw.healthy, default.healthy)?,
        ready: own(&raw.ready, default.ready)?,
        grace: own(&raw.grace, default.grace)?,
        backoff: own(&raw.backoff, default.backoff)?,
    })
}

fn step(raw: &BTreeMap<String, Value>) -> Result<Step, ScenarioError> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let named = |name: &str| {
        raw.get(name).map(text).ok_or_else(|| ScenarioError::Value(format!("a step has no '{name}'")))
    };
    let what = named("do")?;
    if !super::api::ACTIONS.contains(&what.as_str()) {
        let known = super::api::ACTIONS.join(", ");
        return Err(ScenarioError::Value(format!("a step cannot do '{what}'; it can do {known}")));
    }
    let rest = raw.iter().filter(|(key, _)| !matches!(key.as_str(), "at" | "do"));
    // The event stream's own verb is a parameter called `do`, which is taken here.
    let key = |key: &str| if key == "stream" { "do".to_owned() } else { key.to_owned() };
    let parameters = rest.map(|(own, value)| (key(own), text(value))).collect();
    Ok(Step { at: parse_duration(&named("at")?)?, what, parameters })
}

/// Reads a time: `250ms`, `5s`, `1.5m`, `2h`.
///
/// # Errors
/// No number, or no unit.
pub fn parse_duration(text: &str) -> Result<Duration, ScenarioError> {
    let wrong = || ScenarioError::Value(format!("'{text}' is not a time such as 250ms, 5s or 1m"));
    let text = text.trim();
    let digits = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * factor).map_err(|_| wrong())
}

/// Reads a rate: `100/s`, `30/m`, or a bare number per second.
///
/// # Errors
/// No number, or another unit.
pub fn parse_rate(text: &str) -> Result<f64, ScenarioError> {
    let wrong = || ScenarioError::Value(format!("'{text}' is not a rate such as 100/s or 30/m"));
    let (number, unit) = text.trim().split_once('/').unwrap_or((text.trim(), "s"));
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let rate = match unit.trim() {
        "s" => number,
        "m" => number / 60.0,
        _ => return Err(wrong()),
    };
    if (0.0..=100_000.0).contains(&rate) { Ok(rate) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_everything() {
        let scenario = Scenario::parse(
            r#"
            seed = 7
            agents = 3
            rate = "30/m"
            [timing]
            grace = "1s"
            [[app]]
            id = "/load/a-{n}"
            copies = 2
            tasks = 3
            network = "host"
            ports = ["http", "admin"]
            vhost = "a-{n}.example.com"
            check = "HTTP"
            definition = { killSelection = "OLDEST_FIRST" }
            [[pod]]
            definition = { id = "/pod", containers = [{ name = "app" }] }
            [[step]]
            at = "5s"
            do = "scale"
            app = "/load/a-1"
            instances = 5
            [[step]]
            at = "250ms"
            do = "events"
            stream = "tear"
            "#,
        )
        .unwrap();
        assert_eq!((scenario.cluster.seed, scenario.cluster.agents, scenario.rate), (7, 3, 0.5));
        assert_eq!(scenario.cluster.timing.grace, 1000);
        assert_eq!(scenario.apps.len(), 2);
        let app = &scenario.apps[1];
        assert_eq!(app["id"], "/load/a-2");
        assert_eq!(app["labels"]["HAPROXY_0_VHOST"], "a-2.example.com");
        assert_eq!(app["portDefinitions"][1]["name"], "admin");
        assert_eq!(app["killSelection"], "OLDEST_FIRST");
        assert_eq!(scenario.pods.len(), 1);
        assert_eq!(scenario.steps[0].what, "events");
        assert_eq!(scenario.steps[0].parameters, [("do".to_owned(), "tear".to_owned())]);
        let parameters =
            [("app", "/load/a-1"), ("instances", "5")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(scenario.steps[1].parameters, parameters);
    }

    #[test]
    fn the_documented_scenario_is_understood() {
        let page = include_str!("../../docs/sim.md");
        let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let scenario = Scenario::parse(example).unwrap();
        assert_eq!((scenario.apps.len(), scenario.pods.len(), scenario.steps.len()), (20, 1, 2));
        assert_eq!(scenario.cluster.timing, Timing::default(), "the page shows the defaults");
        for action in super::super::api::ACTIONS {
            assert!(page.contains(&format!("`/sim/{action}`")), "{action} is not described");
        }
    }

    #[test]
    fn mistakes() {
        for text in [
            "sede = 1",
            "[[app]]\nid = 5",
            "[[app]]\nid = '/a'\nnetwork = 'moon'",
            "[[app]]\nid = '/a'\ntasks = 2000000",
            "[[step]]\ndo = 'scale'",
            "[[step]]\nat = '5s'\ndo = 'dance'",
            "[[step]]\nat = '5'\ndo = 'clear'",
            "rate = 'often'",
            "rate = '-1/s'",
        ] {
            assert!(Scenario::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn generated_tasks_add_up() {
        let scenario = Scenario::generate(7, 100, Mode::Bridge, 1).unwrap();
        let tasks: u64 = scenario.apps.iter().map(|app| app["instances"].as_u64().unwrap()).sum();
        assert_eq!((scenario.apps.len(), tasks), (7, 100));
        assert!(Scenario::generate(1, 2_000_000, Mode::Bridge, 1).is_err());
    }
}
