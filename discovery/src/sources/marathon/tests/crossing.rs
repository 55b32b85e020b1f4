//! Events, reads and lists that overtake each other: the later word stands.

use std::time::{Duration, Instant as Received};

use portolan_table::InstanceState;
use serde_json::json;
use tokio::time::Instant;

use super::super::api::{Found, Kind, Listed};
use super::super::convert::{self, Context, Interned};
use super::super::known::Moment;
use super::super::reads::Target;
use super::super::state::State;
use super::fake::{Fake, Fault, app, task_id, update};
use super::harness::{Options, Running};
use crate::hosts::Resolver;

#[tokio::test]
async fn a_task_that_has_ended_or_is_being_killed_does_not_run_by_a_late_event() {
    let fake = Fake::start(vec![app("/web", &[1, 2, 3])]).await;
    let mut running = Running::start(vec![fake.url()], Options::default());
    running.synced().await;
    let (dead, killed) = (task_id("/web", 1), task_id("/web", 2));
    fake.event("status_update_event", update("/web", 1, "TASK_KILLED")).await;
    fake.event("status_update_event", update("/web", 2, "TASK_KILLING")).await;
    running.until("both ends", |m| m.state("/web", &dead).is_none() && m.endpoints("/web").len() == 1).await;
    fake.script().apps[0] = app("/web", &[2, 3]);
    for task in [1, 2] {
        fake.event("status_update_event", update("/web", task, "TASK_RUNNING")).await;
    }
    let ended = |m: &super::harness::Model| {
        m.state("/web", &dead).is_none() && m.state("/web", &killed) == Some(InstanceState::Killing)
    };
    running.throughout(Duration::from_millis(500), "both ended", ended).await;
    assert!(fake.count("/v2/apps/web") > 0, "the app is asked instead");
}

#[tokio::test(start_paused = true)]
async fn a_dead_task_is_not_raised_by_an_event_that_is_told_again_much_later() {
    let (hosts, names, now) = (Resolver::default(), Interned::default(), Instant::now());
    let mut state = State::new();
    let text = app("/web", &[1]).to_string();
    let mut context = Context { hosts: &hosts, names: &names, problems: Vec::new() };
    let converted = convert::app(&serde_json::from_str(&text).unwrap(), &mut context).unwrap();
    let found = Found { kind: Kind::App, converted, problems: Vec::new() };
    state.take_read(Listed::Found(Box::new(found)), now);
    let mut tell = |kind: &str, after: u64| {
        let now = now + Duration::from_secs(after);
        let at = Moment { now, received: Received::now(), hosts: &hosts, names: &names };
        let text = update("/web", 1, kind).to_string();
        let changes = state.event("status_update_event", &serde_json::from_str(&text).unwrap(), &at);
        let read = state.reads.start(now);
        if let Some(target) = &read {
            state.reads.done(target, now);
        }
        (changes.len(), read)
    };
    assert_eq!(tell("TASK_KILLED", 0), (1, None));
    let read = Some(Target::Service("/web".into()));
    assert_eq!(tell("TASK_RUNNING", 600), (0, read), "only the app itself can tell");
}

#[tokio::test]
async fn of_the_events_during_a_list_the_last_of_each_task_stands() {
    let fake = Fake::start(vec![app("/web", &[1])]).await;
    fake.fail("/v2/apps?", Fault::Late(Duration::from_millis(500)));
    let mut running = Running::start(vec![fake.url()], Options::default());
    fake.asked("/v2/apps?", 1).await;
    for kind in ["TASK_RUNNING", "TASK_KILLED"] {
        fake.event("status_update_event", update("/web", 2, kind)).await;
    }
    running.synced().await;
    let second = task_id("/web", 2);
    running
        .throughout(Duration::from_millis(300), "never there", |m| m.state("/web", &second).is_none())
        .await;
}

/// A list of a large cluster from a slow leader takes minutes.
#[tokio::test]
async fn single_reads_go_on_beside_a_list_and_stand_against_it() {
    let fake = Fake::start(vec![app("/web", &[1, 2]), app("/old", &[3])]).await;
    let options = Options { refresh: Duration::from_millis(300), ..Options::default() };
    let mut running = Running::start(vec![fake.url()], options);
    running.synced().await;
    // What it gives is what there is now.
    fake.fail("/v2/apps?", Fault::Late(Duration::from_secs(2)));
    fake.asked("/v2/apps?", 2).await;
    let lists = running.model.lists;
    {
        let mut script = fake.script();
        script.apps = vec![app("/web", &[2, 5]), app("/new", &[6])];
    }
    for id in ["/web", "/new", "/old"] {
        fake.event("api_post_event", json!({"appDefinition": {"id": id}})).await;
    }
    let now = |m: &super::harness::Model| {
        m.endpoints("/web") == ["10.0.0.2:31000", "10.0.0.5:31000"] && m.services.contains_key("/new")
    };
    running.until("what is read", now).await;
    assert_eq!(running.model.lists, lists, "the list is still under way");
    running.throughout(Duration::from_secs(3), "the later word", now).await;
    assert!(running.model.lists > lists);
    running.until("the end of the old one", |m| !m.services.contains_key("/old")).await;
}

#[tokio::test]
async fn failing_reads_do_not_break_a_list_off() {
    let fake = Fake::start(vec![app("/web", &[1, 2])]).await;
    let options = Options { refresh: Duration::from_millis(300), ..Options::default() };
    let mut running = Running::start(vec![fake.url()], options);
    running.synced().await;
    fake.fail("/v2/apps?", Fault::Late(Duration::from_secs(4)));
    fake.asked("/v2/apps?", 2).await;
    let lists = running.model.lists;
    for _ in 0..3 {
        fake.fail("/v2/apps/web", Fault::Answer(503, String::new(), Vec::new()));
    }
    fake.event("api_post_event", json!({"appDefinition": {"id": "/web"}})).await;
    running.until("the list", |m| m.lists > lists).await;
    assert!(running.model.errors.is_empty(), "{:?}", running.model.errors);
    assert!(fake.count("/v2/apps/web") >= 3);
}
