//! A whole cluster as a master tells it at once: `/state`, or the first record of the operator API's stream. Pure.
//!
//! One odd task, agent or framework costs itself: it is left out and named, and what was known of it stays.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;
use portolan_table::SharedStr;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::task::{self, Interned, Task, TaskKey};
use super::wire::{self, id, text};

/// Problems told of one snapshot; more are counted in the last.
const PROBLEMS_MAX: usize = 100;
/// Tasks of one framework with one id that are told apart; more are left out.
const TWINS_MAX: u16 = 64;

/// What a master tells of its cluster.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// The master's own id: another one after every fail-over.
    pub(super) master: Option<String>,
    /// `master@address:port` of the leader, if this is told.
    pub(super) leader: Option<String>,
    /// When it was elected, in seconds since the Unix epoch.
    pub(super) elected: Option<f64>,
    /// Seconds between heartbeats of the stream that it begins.
    pub(super) heartbeat: Option<f64>,
    pub(super) agents: Vec<Agent>,
    pub(super) frameworks: Vec<Framework>,
    pub(super) tasks: Vec<Task>,
    /// What could not be read, as (place, message).
    pub(super) problems: Vec<(String, String)>,
    pub(super) unread: Unread,
    /// Where the last task of each key is, and how many there are besides.
    keys: HashMap<TaskKey, (usize, u16), RandomState>,
}

/// Tasks that are listed and could not be read.
#[derive(Debug, Default)]
pub(super) struct Unread {
    tasks: HashSet<TaskKey, RandomState>,
    /// There are some whose ids could not be read either.
    any: bool,
}

impl Unread {
    pub(super) fn covers(&self, key: &TaskKey) -> bool {
        self.any || self.tasks.contains(key) || (key.twin > 0 && self.tasks.contains(&key.first()))
    }
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Agent {
    pub(super) id: SharedStr,
    pub(super) name: SharedStr,
    /// Where it listens: the host, as its `pid` has it, and the port. Empty and 0 if it has not come back yet.
    pub(super) host: SharedStr,
    pub(super) port: u16,
    pub(super) zone: Option<SharedStr>,
    pub(super) region: Option<SharedStr>,
    pub(super) standing: Standing,
}

/// What the master knows of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Registered,
    /// From the registry alone: it has not come back after a fail-over.
    Recovered,
    /// Nothing: the master before knew it.
    Missing,
}

/// A framework.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Framework {
    pub(super) id: SharedStr,
    pub(super) name: SharedStr,
    /// Host and port of its scheduler. The operator API does not tell them.
    pub(super) pid: Option<(SharedStr, u16)>,
    pub(super) hostname: Option<SharedStr>,
    pub(super) web: Option<SharedStr>,
    pub(super) is_active: bool,
    pub(super) is_connected: bool,
    /// The master does not list it at present.
    pub(super) is_held: bool,
    /// Its place among all, from when it was first put in.
    pub(super) order: u32,
}

/// Reads `/state`.
///
/// # Errors
/// It is none, or has no leader; nothing of it can be used.
pub(super) fn of_state(document: &[u8], names: &mut Interned) -> Result<Snapshot, String> {
    let state: wire::State<'_> = serde_json::from_slice(document).map_err(|error| error.to_string())?;
    let Some(leader) = text(&state.leader) else { return Err("it names no leader".to_owned()) };
    let mut snapshot = Snapshot {
        master: text(&state.id).map(str::to_owned),
        leader: Some(leader.to_owned()),
        elected: state.elected_time,
        ..Snapshot::default()
    };
    snapshot.read_agents(state.slaves.as_deref(), Standing::Registered);
    snapshot.read_agents(state.recovered_slaves.as_deref(), Standing::Recovered);
    let mut lists = Vec::new();
    for raw in state.frameworks.iter().flatten() {
        if let Some((framework, read)) = snapshot.read_framework(raw) {
            lists.push((framework, read.tasks, read.unreachable_tasks));
        }
    }
    let known = snapshot.framework_names();
    for (framework, tasks, unreachable) in lists {
        for raw in tasks.iter().chain(&unreachable).flatten() {
            snapshot.read_task(raw, Some(&framework), &known, names);
        }
    }
    Ok(snapshot)
}

/// Reads what `SUBSCRIBED` tells.
pub(super) fn of_subscribed(subscribed: &wire::Subscribed<'_>, names: &mut Interned) -> Snapshot {
    let mut snapshot = Snapshot { heartbeat: subscribed.heartbeat_interval_seconds, ..Snapshot::default() };
    let Some(state) = &subscribed.get_state else { return snapshot };
    if let Some(agents) = &state.get_agents {
        snapshot.read_agents(agents.agents.as_deref(), Standing::Registered);
        snapshot.read_agents(agents.recovered_agents.as_deref(), Standing::Recovered);
    }
    for raw in state.get_frameworks.iter().filter_map(|list| list.frameworks.as_deref()).flatten() {
        snapshot.read_framework(raw);
    }
    let known = snapshot.framework_names();
    if let Some(tasks) = &state.get_tasks {
        for raw in tasks.tasks.iter().chain(&tasks.unreachable_tasks).flatten() {
            snapshot.read_task(raw, None, &known, names);
        }
    }
    snapshot
}

impl Snapshot {
    fn framework_names(&self) -> HashMap<SharedStr, SharedStr, RandomState> {
        self.frameworks.iter().map(|framework| (framework.id.clone(), framework.name.clone())).collect()
    }

    fn read_agents(&mut self, list: Option<&[&RawValue]>, standing: Standing) {
        for raw in list.into_iter().flatten() {
            match read_agent(raw, standing) {
                Ok(agent) => self.agents.push(agent),
                Err(message) => self.problem("agents", message),
            }
        }
    }

    fn read_framework<'a>(&mut self, raw: &'a RawValue) -> Option<(SharedStr, wire::Framework<'a>)> {
        match read_framework(raw) {
            Ok((mut framework, read)) => {
                // Schedulers of one id are no more than that: each is where it says, with the tasks inside it.
                let is_of = |id: &str| self.frameworks.iter().filter(|known| *known.id == *id).count();
                if is_of(&framework.id) > 0 {
                    let numbers = (2..).map(|number| format!("{}#{number}", framework.id));
                    framework.id = numbers.clone().find(|id| is_of(id) == 0).map_or(framework.id, Into::into);
                }
                let id = framework.id.clone();
                self.frameworks.push(framework);
                Some((id, read))
            }
            Err(message) => {
                // Its tasks may be inside.
                self.unread.any = true;
                self.problem("frameworks", message);
                None
            }
        }
    }

    fn read_task(
        &mut self,
        raw: &RawValue,
        framework: Option<&SharedStr>,
        known: &HashMap<SharedStr, SharedStr, RandomState>,
        names: &mut Interned,
    ) {
        match read_task(raw, framework.map(|id| &**id), &|id| known.get(id).cloned(), names) {
            Ok(task) => self.put_task(task),
            Err((key, message)) => {
                let place = key.as_ref().map_or("tasks", |key| &*key.id).to_owned();
                match key {
                    Some(key) => drop(self.unread.tasks.insert(key)),
                    None => self.unread.any = true,
                }
                self.problem(&place, message);
            }
        }
    }

    /// A task that is listed again, elsewhere or as another, is another; as the same, it takes the place of its former
    /// self.
    fn put_task(&mut self, mut task: Task) {
        let known = self.keys.get(&task.key).copied();
        let mut twins = 0;
        if let Some((at, count)) = known {
            let former = &self.tasks[at];
            if former.agent == task.agent && former.kind == task.kind {
                task.key.twin = former.key.twin;
                self.tasks[at] = task;
                return;
            }
            if count >= TWINS_MAX {
                let message = format!("more than {TWINS_MAX} tasks have this id; one is left out");
                return self.problem(&task.key.id.clone(), message);
            }
            twins = count + 1;
        }
        self.keys.insert(task.key.clone(), (self.tasks.len(), twins));
        task.key.twin = twins;
        self.tasks.push(task);
    }

    fn problem(&mut self, place: &str, message: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push((place.to_owned(), message));
        }
    }
}

/// Reads one agent.
///
/// # Errors
/// What it lacks to be one.
pub(super) fn read_agent(raw: &RawValue, standing: Standing) -> Result<Agent, String> {
    let agent: wire::Agent<'_> = element(raw, "an agent")?;
    let info = agent.agent_info.as_ref();
    let of_info = |own: Option<&'_ str>, inner: Option<&'_ str>| own.or(inner).map(SharedStr::from);
    let agent_id = of_info(id(&agent.id), info.and_then(|info| id(&info.id)))
        .ok_or("an agent without an id is left out")?;
    let name = of_info(text(&agent.hostname), info.and_then(|info| text(&info.hostname)));
    let (host, port) = text(&agent.pid).and_then(listens_at).unwrap_or_default();
    let domain = agent.domain.as_ref().or_else(|| info.and_then(|info| info.domain.as_ref()));
    let domain = domain.and_then(|domain| domain.fault_domain.as_ref());
    let place = |place: Option<&wire::Place<'_>>| place.and_then(|place| text(&place.name)).map(Into::into);
    Ok(Agent {
        name: name.unwrap_or_else(|| host.clone()),
        id: agent_id,
        host,
        port,
        zone: place(domain.and_then(|domain| domain.zone.as_ref())),
        region: place(domain.and_then(|domain| domain.region.as_ref())),
        standing,
    })
}

/// Reads one framework; its tasks, which `/state` has inside, are left for later.
///
/// # Errors
/// What it lacks to be one.
pub(super) fn read_framework(raw: &RawValue) -> Result<(Framework, wire::Framework<'_>), String> {
    let framework: wire::Framework<'_> = element(raw, "a framework")?;
    let info = framework.framework_info.as_ref();
    let of_info = |own: Option<&'_ str>, inner: Option<&'_ str>| own.or(inner).map(SharedStr::from);
    let read = Framework {
        id: of_info(id(&framework.id), info.and_then(|info| id(&info.id)))
            .ok_or("a framework without an id is left out")?,
        name: of_info(text(&framework.name), info.and_then(|info| text(&info.name))).unwrap_or_default(),
        pid: text(&framework.pid).and_then(listens_at),
        hostname: of_info(text(&framework.hostname), info.and_then(|info| text(&info.hostname))),
        web: of_info(text(&framework.webui_url), info.and_then(|info| text(&info.webui_url))),
        is_active: framework.active.unwrap_or(true),
        is_connected: framework.connected.unwrap_or(true),
        is_held: false,
        order: 0,
    };
    Ok((read, framework))
}

/// Reads one task.
///
/// # Errors
/// Which task it is, if that can be read, and what it lacks.
pub(super) fn read_task(
    raw: &RawValue,
    framework: Option<&str>,
    name_of: &dyn Fn(&str) -> Option<SharedStr>,
    names: &mut Interned,
) -> Result<Task, (Option<TaskKey>, String)> {
    let key = || {
        let ids: wire::TaskIds<'_> = serde_json::from_str(raw.get()).ok()?;
        let framework = framework.or(id(&ids.framework_id))?;
        Some(TaskKey { id: id(&ids.id)?.into(), framework: framework.into(), twin: 0 })
    };
    let read = element::<wire::Task<'_>>(raw, "a task");
    let read = read.and_then(|task| task::read(&task, framework, name_of, names));
    read.map_err(|message| (key(), message))
}

fn element<'a, T: Deserialize<'a>>(raw: &'a RawValue, what: &str) -> Result<T, String> {
    serde_json::from_str(raw.get())
        .map_err(|error| format!("{what} is left out, what was known of it stays: {error}"))
}

/// Host and port of `name@host:port`; the brackets of an IPv6 address are taken off.
pub(super) fn listens_at(pid: &str) -> Option<(SharedStr, u16)> {
    let (_, at) = pid.rsplit_once('@')?;
    let (host, port) = at.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() { None } else { Some((host.into(), port.parse().ok()?)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_gives_host_and_port() {
        let table = [
            ("slave(1)@10.0.1.5:5051", Some(("10.0.1.5", 5051))),
            ("scheduler-4@marathon-1:15101", Some(("marathon-1", 15101))),
            ("master@[2001:db8::1]:5050", Some(("2001:db8::1", 5050))),
            ("master@2001:db8::1:5050", Some(("2001:db8::1", 5050))),
            ("a@b@c:1", Some(("c", 1))),
            ("10.0.1.5:5051", None),
            ("x@10.0.1.5", None),
            ("x@:5051", None),
            ("x@h:70000", None),
            ("", None),
        ];
        for (pid, read) in table {
            let read = read.map(|(host, port)| (SharedStr::from(host), port));
            assert_eq!(listens_at(pid), read, "{pid}");
        }
    }
}
