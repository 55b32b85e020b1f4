//! Snapshots and events: what is told, and by whom it is asked for.

use std::time::Duration;

use portolan_table::{ClusterFact, FactKey, Health, InstanceState};
use serde_json::json;

use super::fake::{Fake, agent, framework, framework_id, staged, task};
use super::harness::{Options, start};
use crate::config::{Auth, Secret};

const WEB: &str = "web.marathon";

/// A cluster of two agents with a task of `web` on each.
pub(super) async fn cluster() -> Fake {
    let fake = Fake::start("M1").await;
    {
        let mut script = fake.script();
        script.agents = vec![agent(1), agent(2)];
        script.tasks = vec![task("web", 1), task("web", 2)];
        script.pids = vec![(framework_id(0), "scheduler-1@10.0.0.9:15101".to_owned())];
    }
    fake
}

#[tokio::test]
async fn events_move_single_tasks_on() {
    let fake = cluster().await;
    let mut running = start(vec![fake.url()], Options::default());
    running.synced().await;
    assert_eq!(running.model.endpoints(WEB), ["10.0.0.1:31000", "10.0.0.2:31000"]);
    let (spec, _) = &running.model.services[WEB];
    assert_eq!((spec.ports[0].name.as_deref(), spec.ports[0].number), (Some("http"), 0));

    fake.script().agents.push(agent(3));
    fake.event("AGENT_ADDED", json!({"agent": agent(3)})).await;
    fake.add(staged("web", 3)).await;
    let state = |wanted| move |m: &crate::sources::told::Model| m.state(WEB, "web.3") == wanted;
    running.until("staging", state(Some(InstanceState::Staging))).await;
    assert_eq!(running.model.endpoints(WEB).len(), 2);
    fake.move_to("web.3", "TASK_RUNNING", None).await;
    running.until("running", |m| m.endpoints(WEB).contains(&"10.0.0.3:31000".to_owned())).await;
    fake.move_to("web.3", "TASK_RUNNING", Some(false)).await;
    running.until("unhealthy", |m| m.health(WEB, "web.3") == Some(Health::Unhealthy)).await;
    fake.move_to("web.3", "TASK_RUNNING", Some(true)).await;
    running.until("healthy", |m| m.health(WEB, "web.3") == Some(Health::Healthy)).await;
    fake.move_to("web.3", "TASK_KILLING", None).await;
    running.until("killing", state(Some(InstanceState::Killing))).await;
    fake.move_to("web.3", "TASK_KILLED", None).await;
    running.until("its end", state(None)).await;

    fake.move_to("web.2", "TASK_UNREACHABLE", None).await;
    running.until("lost", |m| m.state(WEB, "web.2") == Some(InstanceState::Unreachable)).await;
    fake.event("TASK_ADDED", json!({"task": task("web", 2)})).await;
    running.until("back", |m| m.endpoints(WEB).len() == 2).await;

    fake.event("FRAMEWORK_REMOVED", json!({"framework_info": framework(0, "marathon")["framework_info"]}))
        .await;
    running.until("torn down", |m| m.services.is_empty()).await;
    assert_eq!(fake.count("SUBSCRIBE"), 1);
    assert_eq!(fake.count("/master/state"), 0);
    assert!(running.model.errors.is_empty(), "{:?}", running.model.errors);
}

#[tokio::test]
async fn masters_agents_and_schedulers_are_told() {
    let fake = cluster().await;
    let mut running = start(vec![fake.url()], Options::default());
    running
        .until("the scheduler's address", |m| {
            let fact = m.facts.get(&FactKey::Scheduler(framework_id(0).as_str().into()));
            matches!(fact.map(|fact| &**fact), Some(ClusterFact::Scheduler(s))
                if s.at.port == 15101 && s.at.addresses.to_vec() == ["10.0.0.9".parse::<core::net::IpAddr>().unwrap()])
        })
        .await;
    let ClusterFact::Masters(masters) = &*running.model.facts[&FactKey::Masters] else { panic!() };
    let leader = masters.leader.as_ref().unwrap();
    assert_eq!((&*leader.host, leader.port), ("127.0.0.1", fake.address.port()));
    let ClusterFact::Agent(first) = &*running.model.facts[&FactKey::Agent("A-S1".into())] else { panic!() };
    assert_eq!((&*first.name, &*first.at.host, first.is_registered), ("node-1", "10.0.0.1", true));
    fake.event("AGENT_REMOVED", json!({"agent_id": {"value": "A-S1"}})).await;
    running
        .until("the agent's end", |m| {
            !m.facts.contains_key(&FactKey::Agent("A-S1".into())) && m.endpoints(WEB) == ["10.0.0.2:31000"]
        })
        .await;
}

#[tokio::test]
async fn any_master_leads_to_the_leader() {
    let leader = cluster().await;
    let follower = Fake::start("M2").await;
    follower.script().redirect = Some(leader.address.to_string());
    let dead = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let mut running = start(vec![dead, follower.url()], Options::default());
    running.synced().await;
    assert_eq!(running.model.endpoints(WEB).len(), 2);
    assert_eq!((follower.count("SUBSCRIBE"), leader.count("SUBSCRIBE")), (1, 1));
    let mut two_of_them = start(vec![leader.url(), follower.url()], Options::default());
    two_of_them.synced().await;
    assert_eq!(follower.count("SUBSCRIBE"), 1, "the first that answers is enough");
}

#[tokio::test]
async fn masters_that_send_each_other_around_are_left() {
    let (a, b, leader) = (Fake::start("M1").await, Fake::start("M2").await, cluster().await);
    a.script().redirect = Some(b.address.to_string());
    b.script().redirect = Some(a.address.to_string());
    let mut running = start(vec![a.url(), leader.url()], Options::default());
    running.synced().await;
    assert_eq!(running.model.endpoints(WEB).len(), 2);
}

#[tokio::test]
async fn where_the_stream_is_refused_the_state_is_polled_until_it_is_not() {
    for refusal in [403, 404, 405, 415, 501] {
        let fake = cluster().await;
        fake.script().refusal = Some(refusal);
        let mut running = start(vec![fake.url()], Options::default());
        running.synced().await;
        assert_eq!(running.model.endpoints(WEB), ["10.0.0.1:31000", "10.0.0.2:31000"], "{refusal}");
        assert!(running.model.facts.contains_key(&FactKey::Scheduler(framework_id(0).as_str().into())));
        fake.script().tasks.push(task("db", 1));
        running.until("the next poll", |m| m.endpoints("db.marathon") == ["10.0.0.1:31000"]).await;
        fake.script().tasks.truncate(1);
        running.until("a poll without", |m| m.endpoints(WEB).len() == 1 && m.services.len() == 1).await;
        fake.script().refusal = None;
        fake.script().requests.clear();
        running.until("the end of polling", |m| m.errors.iter().any(|e| e.kind() == "ended")).await;
        fake.asked("SUBSCRIBE", 2).await;
        let lists = running.model.lists;
        running.until("the stream's list", move |m| m.lists > lists).await;
        fake.add(task("web", 2)).await;
        running.until("an event", |m| m.endpoints(WEB).len() == 2).await;
    }
}

/// Masters of old answer `/state` for themselves, whoever leads.
#[tokio::test]
async fn a_polled_master_that_names_another_as_leader_is_believed() {
    let (leader, other) = (cluster().await, Fake::start("M2").await);
    {
        let mut script = other.script();
        script.refusal = Some(404);
        script.leader = Some(format!("master@{}", leader.address));
    }
    let mut running = start(vec![other.url()], Options::default());
    running.synced().await;
    assert_eq!(running.model.endpoints(WEB).len(), 2);
    assert!(leader.count("/master/state") >= 1);
}

#[tokio::test]
async fn a_snapshot_is_taken_beside_the_stream_now_and_then() {
    let fake = cluster().await;
    let options = Options { refresh: Duration::from_millis(200), ..Options::default() };
    let mut running = start(vec![fake.url()], options);
    running.synced().await;
    // No event tells of this.
    fake.script().tasks[0]["resources"][1]["ranges"]["range"][0] = json!({"begin": 31007, "end": 31007});
    fake.script().tasks[0]["discovery"]["ports"]["ports"][0]["number"] = json!(31007);
    running.until("the silent change", |m| m.endpoints(WEB).contains(&"10.0.0.1:31007".to_owned())).await;
    assert!(running.model.errors.is_empty(), "{:?}", running.model.errors);
    fake.add(task("db", 1)).await;
    running.until("an event on the second stream", |m| m.services.contains_key("db.marathon")).await;
}

#[tokio::test]
async fn passwords_are_shown() {
    let fake = cluster().await;
    fake.script().authorization = Some("Basic cG9ydG9sYW46c2VjcmV0".to_owned());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "wrong\n").unwrap();
    let auth =
        Auth::Basic { username: "portolan".to_owned(), password: Secret::File(file.path().to_owned()) };
    let mut running = start(vec![fake.url()], Options { auth, ..Options::default() });
    running.until("a refusal", |m| m.errors.iter().any(|e| e.kind() == "status")).await;
    assert!(running.model.services.is_empty() && running.model.lists == 0);
    std::fs::write(file.path(), "secret\n").unwrap();
    running.synced().await;
    assert_eq!(running.model.endpoints(WEB).len(), 2);
}
