//! Another master begins to lead: its first snapshot knows next to nothing, and that is not taken for the truth.

use std::time::Duration;

use serde_json::json;

use super::fake::{Fake, agent, agent_info, framework, task};
use super::follow::cluster;
use super::harness::{Options, start};
use crate::sources::told::{Model, Running};

const BOTH: [&str; 2] = ["10.0.0.1:31000", "10.0.0.2:31000"];

fn complete(model: &Model) -> bool {
    model.endpoints("web.marathon") == BOTH
}

/// The master `M1` dies; another one leads at the same place, with what `change` leaves it.
async fn fail_over(fake: &Fake, change: impl FnOnce(&mut super::fake::Script)) {
    {
        let mut script = fake.script();
        script.id = "M2".to_owned();
        script.leads_for = 1.0;
        (script.agents, script.tasks, script.frameworks) = Default::default();
        change(&mut script);
    }
    fake.cut_streams();
}

async fn started(options: Options) -> (Fake, Running) {
    let fake = cluster().await;
    let mut running = start(vec![fake.url()], options);
    running.synced().await;
    assert!(complete(&running.model));
    (fake, running)
}

#[tokio::test]
async fn an_empty_snapshot_of_a_new_leader_takes_nothing_away() {
    let options = Options { settle: Duration::from_millis(1500), ..Options::default() };
    let (fake, mut running) = started(options).await;
    fail_over(&fake, |_| ()).await;
    running.until("the new leader's list", |m| m.lists >= 2).await;
    assert!(complete(&running.model), "{:?}", running.model.services);
    assert_eq!(running.model.held, 2);

    // Agents, frameworks and tasks come back one by one.
    fake.event("AGENT_ADDED", json!({"agent": agent(1)})).await;
    fake.event("FRAMEWORK_ADDED", json!({"framework": framework(0, "marathon")})).await;
    fake.event("TASK_ADDED", json!({"task": task("web", 1)})).await;
    running.until("one of two is back", |m| m.held == 1).await;
    assert!(complete(&running.model));
    running
        .until("the other is given up in time", |m| m.endpoints("web.marathon") == BOTH[..1] && m.held == 0)
        .await;
    assert_eq!(running.model.services.len(), 1);
}

#[tokio::test]
async fn what_an_agent_has_not_brought_back_is_gone_soon_after_its_return() {
    let options = Options { settle: Duration::from_millis(800), ..Options::default() };
    let (fake, mut running) = started(options).await;
    fail_over(&fake, |script| {
        script.frameworks = vec![framework(0, "marathon")];
        script.recovered = vec![agent_info(1), agent_info(2)];
    })
    .await;
    running.until("the new leader's list", |m| m.lists >= 2 && m.held == 2).await;
    // Settled or not, what the registry knows is waited for.
    running.throughout(Duration::from_millis(1200), "complete", complete).await;
    fake.event("AGENT_ADDED", json!({"agent": agent(1)})).await;
    running.until("gone", |m| m.endpoints("web.marathon") == BOTH[1..] && m.held == 1).await;
    fake.event("AGENT_REMOVED", json!({"agent_id": {"value": "A-S2"}})).await;
    running.until("removed by the master", |m| m.services.is_empty() && m.held == 0).await;
}

#[tokio::test]
async fn recovered_agents_are_waited_for_so_long_and_no_longer() {
    let options = Options {
        settle: Duration::from_millis(300),
        recovery: Duration::from_millis(2500),
        ..Options::default()
    };
    let (fake, mut running) = started(options).await;
    fail_over(&fake, |script| script.recovered = vec![agent_info(1)]).await;
    running.until("the unknown agent's is given up", |m| m.endpoints("web.marathon") == BOTH[..1]).await;
    running.throughout(Duration::from_millis(500), "the other is kept", |m| m.held == 1).await;
    running.until("and then not", |m| m.services.is_empty() && m.held == 0).await;
}

#[tokio::test]
async fn a_master_that_has_led_for_long_is_taken_at_its_word() {
    let (fake, mut running) = started(Options::default()).await;
    fail_over(&fake, |script| {
        script.leads_for = 7200.0;
        script.agents = vec![agent(1)];
        script.frameworks = vec![framework(0, "marathon")];
        script.tasks = vec![task("web", 1)];
    })
    .await;
    running.until("its list", |m| m.lists >= 2).await;
    assert_eq!(running.model.endpoints("web.marathon"), BOTH[..1]);
    assert_eq!(running.model.held, 0);
}

#[tokio::test]
async fn the_same_master_is_taken_at_its_word_however_new() {
    let fake = cluster().await;
    fake.script().leads_for = 1.0;
    let mut running = start(vec![fake.url()], Options::default());
    running.synced().await;
    assert!(!running.model.is_partial, "nothing was known, nobody is missed");
    fake.script().tasks.pop();
    fake.cut_streams();
    running.until("the next list", |m| m.lists >= 2).await;
    assert_eq!(running.model.endpoints("web.marathon"), BOTH[..1]);
}

/// The catalog begins with a saved table, of which the source knows nothing.
#[tokio::test]
async fn a_saved_table_is_not_taken_away_by_a_new_leader() {
    let options = Options { settle: Duration::from_millis(700), resumed: true, ..Options::default() };
    let fake = cluster().await;
    {
        let mut script = fake.script();
        script.leads_for = 1.0;
        script.tasks.pop();
    }
    let mut running = start(vec![fake.url()], options);
    running.until("a list in part", |m| m.lists == 1 && m.is_partial).await;
    running.until("a whole list once it has settled", |m| m.lists == 2 && !m.is_partial).await;
    assert_eq!(running.model.endpoints("web.marathon"), BOTH[..1]);
}

#[tokio::test]
async fn a_new_leader_that_is_polled_is_not_taken_at_its_word_either() {
    let fake = cluster().await;
    fake.script().refusal = Some(405);
    let options = Options { settle: Duration::from_millis(1500), ..Options::default() };
    let mut running = start(vec![fake.url()], options);
    running.synced().await;
    fail_over(&fake, |script| script.recovered = vec![agent_info(2)]).await;
    running.until("held", |m| m.held == 2).await;
    assert!(complete(&running.model));
    running.until("the recovered agent's alone", |m| m.endpoints("web.marathon") == BOTH[1..]).await;
    {
        let mut script = fake.script();
        script.recovered.clear();
        script.agents = vec![agent(2)];
        script.frameworks = vec![framework(0, "marathon")];
        script.tasks = vec![task("web", 2), task("db", 2)];
    }
    running.until("all back", |m| m.held == 0 && m.services.len() == 2).await;
    assert_eq!(running.model.endpoints("web.marathon"), BOTH[1..]);
}
