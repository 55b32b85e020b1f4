//! Ids that are not what they should be: given twice, or told in two ways.

use serde_json::{Value, json};

use super::super::snapshot;
use super::super::state::{Patience, State};
use super::super::task::Interned;
use super::recorded::{of_state, told, told_in_order};
use crate::source::Change;
use portolan_table::ClusterFact;

const NONE: Patience = Patience { recovered: false, missing: false };

fn task(id: &str, name: &str, agent: &str, state: &str) -> Value {
    json!({"id": id, "name": name, "slave_id": agent, "state": state, "resources": {"ports": "[31000-31000]"},
           "statuses": [{"state": state, "timestamp": 1.0}]})
}

fn cluster(frameworks: &Value) -> String {
    let agent =
        |id: &str, last: u8| json!({"id": id, "hostname": id, "pid": format!("slave(1)@10.0.0.{last}:5051")});
    json!({"leader": "master@10.0.0.9:5050", "slaves": [agent("S0", 1), agent("S1", 2)], "frameworks": frameworks})
        .to_string()
}

fn framework(id: &str, name: &str, pid: &str, tasks: &Value) -> Value {
    json!({"id": id, "name": name, "pid": pid, "tasks": tasks})
}

/// Instance id, task id, service and place of all instances, by place.
fn instances(state: &mut State) -> Vec<(String, String, String, u32)> {
    let (instances, problems) = told_in_order(state);
    assert_eq!(problems, [] as [&str; 0]);
    let mut all: Vec<_> = instances
        .into_iter()
        .map(|(id, (service, instance))| {
            let order = instance.placement.as_ref().unwrap().order;
            (id, instance.correlation_key().to_string(), service, order)
        })
        .collect();
    all.sort_by_key(|(_, _, _, order)| *order);
    all
}

fn ids(all: &[(String, String, String, u32)]) -> Vec<[&str; 3]> {
    all.iter().map(|(id, task, service, _)| [&**id, &**task, &**service]).collect()
}

#[test]
fn two_tasks_of_one_id_are_two() {
    let tasks = json!([
        task("t.1", "web", "S0", "TASK_RUNNING"),
        task("t.1", "api", "S0", "TASK_RUNNING"),
        task("t.2", "web", "S0", "TASK_RUNNING"),
        task("t.2", "web", "S1", "TASK_RUNNING"),
    ]);
    let document = cluster(&json!([framework("F", "marathon", "s@10.0.0.5:1", &tasks)]));
    let all = instances(&mut of_state(document.as_bytes()));
    assert_eq!(
        ids(&all),
        [
            ["t.1", "t.1", "web.marathon"],
            ["t.1@F#2", "t.1", "api.marathon"],
            ["t.2", "t.2", "web.marathon"],
            ["t.2@F#2", "t.2", "web.marathon"],
        ]
    );
}

#[test]
fn one_task_told_twice_is_one() {
    let mut framework =
        framework("F", "marathon", "s@10.0.0.5:1", &json!([task("t", "web", "S0", "TASK_RUNNING")]));
    framework["unreachable_tasks"] = json!([task("t", "web", "S0", "TASK_UNREACHABLE")]);
    let all = instances(&mut of_state(cluster(&json!([framework])).as_bytes()));
    assert_eq!(ids(&all), [["t", "t", "web.marathon"]]);
}

#[test]
fn a_task_whose_former_self_is_unreachable_runs() {
    let mut framework =
        framework("F", "marathon", "s@10.0.0.5:1", &json!([task("t", "web", "S0", "TASK_RUNNING")]));
    framework["unreachable_tasks"] = json!([task("t", "web", "S1", "TASK_UNREACHABLE")]);
    let (instances, _) = told(&mut of_state(cluster(&json!([framework])).as_bytes()));
    let running = |id: &str| instances[id].1.state == portolan_table::InstanceState::Running;
    assert!(running("t") && !running("t@F#2"));
}

#[test]
fn two_frameworks_of_one_id_keep_their_schedulers_and_tasks() {
    let web = |id: &str| json!([task(id, "web", "S0", "TASK_RUNNING")]);
    let frameworks = json!([
        framework("F", "marathon", "s1@10.0.0.11:1111", &web("a")),
        framework("F", "marathon", "s2@10.0.0.12:1112", &web("b")),
    ]);
    let mut state = of_state(cluster(&frameworks).as_bytes());
    assert_eq!(instances(&mut state).len(), 2);
    let mut ports: Vec<(u16, u32)> = state
        .list(&super::recorded::NoNames)
        .into_iter()
        .filter_map(|change| match change {
            Change::Fact(fact) => match &*fact {
                ClusterFact::Scheduler(scheduler) => Some((scheduler.at.port, scheduler.order)),
                _ => None,
            },
            _ => None,
        })
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, [(1111, 0), (1112, 1)]);
}

#[test]
fn a_task_is_of_the_framework_that_it_is_listed_under() {
    let mut odd = task("t", "web", "S0", "TASK_RUNNING");
    odd["framework_id"] = json!("another");
    let document = cluster(&json!([framework("F", "chronos", "s@10.0.0.5:1", &json!([odd]))]));
    assert_eq!(ids(&instances(&mut of_state(document.as_bytes()))), [["t", "t", "web.chronos"]]);
}

#[test]
fn places_stay_and_new_tasks_come_last() {
    let list = |ids: &[&str]| {
        let tasks: Vec<Value> = ids.iter().map(|id| task(id, "web", "S0", "TASK_RUNNING")).collect();
        cluster(&json!([framework("F", "marathon", "s@10.0.0.5:1", &json!(tasks))]))
    };
    let mut state = of_state(list(&["c", "a", "b"]).as_bytes());
    let first = instances(&mut state);
    assert_eq!(first.iter().map(|(id, ..)| &**id).collect::<Vec<_>>(), ["c", "a", "b"]);
    let mut names = Interned::default();
    let next = snapshot::of_state(list(&["b", "d", "c"]).as_bytes(), &mut names).unwrap();
    let second = instances(&mut State::of(next, state, NONE));
    assert_eq!(second.iter().map(|(id, ..)| &**id).collect::<Vec<_>>(), ["c", "b", "d"]);
    let place =
        |all: &[(String, String, String, u32)], id: &str| all.iter().find(|one| one.0 == id).unwrap().3;
    for id in ["b", "c"] {
        assert_eq!(place(&first, id), place(&second, id), "{id}");
    }
}
