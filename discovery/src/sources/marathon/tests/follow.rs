//! Lists and events: what is told, and what it costs the scheduler.

use std::time::Duration;

use portolan_table::{Health, InstanceState};
use serde_json::json;

use super::fake::{Fake, app, instance_id, task, task_id, update};
use super::harness::{Options, Running};

async fn start(fake: &Fake) -> Running {
    let mut running = Running::start(vec![fake.url()], Options::default());
    running.synced().await;
    running
}

#[tokio::test]
async fn the_stream_is_opened_before_the_list_is_read() {
    let fake = Fake::start(vec![app("/shop/web", &[1, 2])]).await;
    let running = start(&fake).await;
    assert_eq!(running.model.endpoints("/shop/web"), ["10.0.0.1:31000", "10.0.0.2:31000"]);
    let (spec, _) = &running.model.services["/shop/web"];
    assert_eq!(spec.name.as_str(), "web.shop");
    let requests = fake.script().requests.clone();
    assert!(
        requests[0].starts_with("/v2/events?") && requests[0].contains("plan-format=light"),
        "{requests:?}"
    );
    assert!(requests[1].starts_with("/v2/apps?embed=apps.tasks"), "{requests:?}");
    assert_eq!(requests[2], "/v2/pods/::status");
    assert_eq!(requests.len(), 3);
}

#[tokio::test]
async fn status_updates_are_applied_from_their_payload() {
    let fake = Fake::start(vec![app("/web", &[1, 2])]).await;
    let mut running = start(&fake).await;
    let asked = fake.script().requests.len();

    fake.event("status_update_event", update("/web", 3, "TASK_RUNNING")).await;
    running.until("the new task", |m| m.endpoints("/web").len() == 3).await;
    assert!(running.model.endpoints("/web").contains(&"10.0.0.3:31000".to_owned()));

    fake.event("status_update_event", update("/web", 1, "TASK_KILLING")).await;
    let killed = task_id("/web", 1);
    running.until("killing", |m| m.state("/web", &killed) == Some(InstanceState::Killing)).await;

    fake.event("status_update_event", update("/web", 1, "TASK_KILLED")).await;
    running.until("its end", |m| m.state("/web", &killed).is_none()).await;

    fake.event("status_update_event", update("/web", 2, "TASK_UNREACHABLE")).await;
    let lost = task_id("/web", 2);
    running.until("lost", |m| m.state("/web", &lost) == Some(InstanceState::Unreachable)).await;
    fake.event("status_update_event", update("/web", 2, "TASK_RUNNING")).await;
    running.until("found", |m| m.state("/web", &lost) == Some(InstanceState::Running)).await;

    assert_eq!(fake.script().requests.len(), asked, "no event made a request");
}

/// As Marathon tells it again after a fail-over of Mesos, with the time of the repetition.
#[tokio::test]
async fn a_task_on_a_network_of_its_own_that_is_told_again_stays_what_it_is() {
    let mut own = app("/own", &[1]);
    own["networks"] = json!([{"mode": "container", "name": "dcos"}]);
    own["container"] = json!({"portMappings": [{"containerPort": 8080, "servicePort": 10000}]});
    own["healthChecks"] = json!([{"protocol": "HTTP"}]);
    own["tasks"][0]["ipAddresses"] = json!([{"ipAddress": "9.0.0.1", "protocol": "IPv4"}]);
    let fake = Fake::start(vec![own]).await;
    let mut running = start(&fake).await;
    let mut again = update("/own", 1, "TASK_RUNNING");
    again["ipAddresses"] = json!([{"ipAddress": "9.0.0.2", "protocol": "IPv4"}]);
    again["timestamp"] = json!("2026-01-01T07:00:00.000Z");
    fake.event("status_update_event", again).await;
    running.until("its other address", |m| m.endpoints("/own") == ["9.0.0.2:8080"]).await;
    let told = &running.model.services["/own"].1[&task_id("/own", 1)];
    assert_eq!(told.started_ms, 0, "not known: the catalog keeps the start and the verdict it has");
}

#[tokio::test]
async fn health_is_applied_from_the_event_and_a_kill_for_ill_health_drains_at_once() {
    let mut checked = app("/web", &[1]);
    checked["healthChecks"] = json!([{"protocol": "HTTP"}]);
    let fake = Fake::start(vec![checked]).await;
    let mut running = start(&fake).await;
    let (asked, id) = (fake.script().requests.len(), task_id("/web", 1));
    assert_eq!(running.model.health("/web", &id), Some(Health::Unknown));
    for (alive, health) in [(true, Health::Healthy), (false, Health::Unhealthy), (true, Health::Healthy)] {
        let payload = json!({"appId": "/web", "instanceId": instance_id("/web", 1), "alive": alive});
        fake.event("health_status_changed_event", payload).await;
        running.until("the verdict", |m| m.health("/web", &id) == Some(health)).await;
    }
    let payload = json!({"appId": "/web", "taskId": id, "instanceId": instance_id("/web", 1), "reason": "x"});
    fake.event("unhealthy_instance_kill_event", payload).await;
    running.until("draining", |m| m.state("/web", &id) == Some(InstanceState::Killing)).await;
    assert_eq!(fake.script().requests.len(), asked);
}

#[tokio::test]
async fn with_several_checks_the_app_is_read_for_the_verdict() {
    let mut checked = app("/web", &[1]);
    checked["healthChecks"] = json!([{"protocol": "HTTP"}, {"protocol": "TCP"}]);
    checked["tasks"][0]["healthCheckResults"] = json!([{"alive": true}, {"alive": true}]);
    let fake = Fake::start(vec![checked]).await;
    let mut running = start(&fake).await;
    fake.script().apps[0]["tasks"][0]["healthCheckResults"] = json!([{"alive": false}, {"alive": false}]);
    let payload = json!({"appId": "/web", "instanceId": instance_id("/web", 1), "alive": false});
    fake.event("health_status_changed_event", payload).await;
    running.until("the verdict", |m| m.health("/web", &task_id("/web", 1)) == Some(Health::Unhealthy)).await;
    assert_eq!(fake.count("/v2/apps/web"), 1);
}

#[tokio::test]
async fn a_changed_app_is_read_alone() {
    let fake = Fake::start((0..50).map(|n| app(&format!("/app{n}"), &[1])).collect()).await;
    let mut running = start(&fake).await;
    let asked = fake.script().requests.len();
    fake.script().apps[7] = app("/app7", &[4, 5]);
    fake.event("api_post_event", json!({"uri": "/v2/apps//app7", "appDefinition": {"id": "/app7"}})).await;
    running.until("the change", |m| m.endpoints("/app7").len() == 2).await;
    fake.script().apps.push(app("/new", &[9]));
    fake.event("status_update_event", update("/new", 9, "TASK_RUNNING")).await;
    running.until("the new app", |m| m.endpoints("/new") == ["10.0.0.9:31000"]).await;
    let requests = fake.script().requests[asked..].to_vec();
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert!(requests.iter().all(|request| request.starts_with("/v2/apps/")), "{requests:?}");
}

#[tokio::test]
async fn an_app_that_ends_is_removed_at_once() {
    let fake = Fake::start(vec![app("/web", &[1]), app("/other", &[2])]).await;
    let mut running = start(&fake).await;
    // The API still shows it for a moment: the event is believed.
    fake.event("app_terminated_event", json!({"appId": "/web"})).await;
    running.until("removal", |m| !m.services.contains_key("/web")).await;
    fake.event("deployment_success", json!({"plan": {"version": "v", "steps": [{"actions": [{"action": "StopApplication", "app": "/web"}]}]}})).await;
    running.throughout(Duration::from_secs(1), "the app is gone", |m| !m.services.contains_key("/web")).await;
    assert!(running.model.services.contains_key("/other"));
}

#[tokio::test]
async fn a_burst_for_one_app_is_folded_into_few_reads() {
    let fake = Fake::start(vec![app("/web", &[1])]).await;
    let mut running = start(&fake).await;
    fake.script().apps[0] = app("/web", &[1, 2, 3]);
    let burst: String = (0..200)
        .map(|_| "event: api_post_event\r\ndata: {\"appDefinition\":{\"id\":\"/web\"}}\r\n\r\n")
        .collect();
    fake.send(burst).await;
    running.until("the change", |m| m.endpoints("/web").len() == 3).await;
    running.throughout(Duration::from_millis(400), "stands", |m| m.endpoints("/web").len() == 3).await;
    let reads = fake.count("/v2/apps/web");
    assert!((1..=2).contains(&reads), "{reads} reads for one burst");
}

#[tokio::test]
async fn what_an_event_announced_is_looked_for_again() {
    let fake = Fake::start(vec![app("/web", &[1])]).await;
    let mut running = start(&fake).await;
    // Of another version than the one that is known: it has to be read, and isn't visible yet.
    let mut later = update("/web", 2, "TASK_RUNNING");
    later["version"] = json!("2026-02-02T00:00:00.000Z");
    fake.event("status_update_event", later).await;
    running.until("a read that does not show it", |_| fake.count("/v2/apps/web") > 0).await;
    fake.script().apps[0]["tasks"].as_array_mut().unwrap().push(task("/web", 2));
    running.until("the task", |m| m.endpoints("/web").len() == 2).await;
}

#[tokio::test]
async fn an_answer_older_than_an_event_does_not_undo_it() {
    let fake = Fake::start(vec![app("/web", &[1, 2])]).await;
    let mut running = start(&fake).await;
    let killed = task_id("/web", 1);
    fake.event("status_update_event", update("/web", 1, "TASK_KILLED")).await;
    running.until("its end", |m| m.state("/web", &killed).is_none()).await;
    // The API still lists the task.
    fake.event("api_post_event", json!({"appDefinition": {"id": "/web"}})).await;
    running.until("a read", |_| fake.count("/v2/apps/web") > 0).await;
    running
        .throughout(Duration::from_millis(300), "the end stands", |m| m.state("/web", &killed).is_none())
        .await;
    fake.script().apps[0] = app("/web", &[2]);
    running.until("the check", |_| fake.count("/v2/apps/web") > 1).await;
    running
        .throughout(Duration::from_millis(300), "the end stands", |m| m.state("/web", &killed).is_none())
        .await;
}

#[tokio::test]
async fn a_group_is_read_only_if_no_deployment_names_its_apps() {
    let fake = Fake::start(vec![app("/shop/web", &[1]), app("/shop/db", &[2]), app("/other", &[3])]).await;
    let mut running = start(&fake).await;
    fake.script().apps[0] = app("/shop/web", &[1, 4]);
    fake.event("group_change_success", json!({"groupId": "/shop", "version": "v1"})).await;
    let plan = json!({"plan": {"id": "p", "version": "v1", "steps": [{"actions": [{"action": "ScaleApplication", "app": "/shop/web"}]}]}});
    fake.event("deployment_success", plan).await;
    running.until("the change", |m| m.endpoints("/shop/web").len() == 2).await;

    fake.script().apps.remove(1);
    fake.event("group_change_success", json!({"groupId": "/shop", "version": "v2"})).await;
    running.until("the removal", |m| !m.services.contains_key("/shop/db")).await;
    assert_eq!(fake.count("/v2/apps//shop/*"), 1);
    assert_eq!(fake.count("/v2/apps?"), 1, "nothing was listed as a whole");
    assert_eq!(running.model.endpoints("/shop/web").len(), 2);
}

#[tokio::test]
async fn events_during_a_list_are_not_lost() {
    let fake = Fake::start(vec![app("/web", &[1, 2]), app("/late", &[5])]).await;
    fake.fail("/v2/pods", super::fake::Fault::Late(Duration::from_millis(500)));
    let mut running = Running::start(vec![fake.url()], Options::default());
    running.until("the apps", |m| m.services.len() == 2).await;
    fake.event("status_update_event", update("/web", 1, "TASK_KILLED")).await;
    fake.event("status_update_event", update("/late", 6, "TASK_RUNNING")).await;
    running.synced().await;
    running
        .until("both events", |m| {
            m.endpoints("/web") == ["10.0.0.2:31000"] && m.endpoints("/late").len() == 2
        })
        .await;
}

#[tokio::test]
async fn the_list_is_read_again_on_the_slow_timer() {
    let fake = Fake::start(vec![app("/web", &[1])]).await;
    let options = Options { refresh: Duration::from_millis(300), ..Options::default() };
    let mut running = Running::start(vec![fake.url()], options);
    running.synced().await;
    fake.script().apps = vec![app("/web", &[1, 2]), app("/silent", &[3])];
    running.until("the unannounced", |m| m.services.len() == 2 && m.endpoints("/web").len() == 2).await;
    fake.script().apps.remove(0);
    running.until("the unannounced end", |m| m.services.len() == 1).await;
    assert!(running.model.errors.is_empty(), "{:?}", running.model.errors);
}

#[tokio::test]
async fn a_task_from_an_event_has_the_fault_domain_of_its_agent() {
    let mut zoned = app("/web", &[1]);
    zoned["tasks"][0]["zone"] = json!("eu-1a");
    zoned["tasks"][0]["region"] = json!("eu");
    let fake = Fake::start(vec![zoned]).await;
    let mut running = start(&fake).await;
    let mut second = update("/web", 2, "TASK_RUNNING");
    second["host"] = json!("10.0.0.1");
    second["ports"] = json!([31001]);
    fake.event("status_update_event", second).await;
    running.until("the task", |m| m.endpoints("/web").len() == 2).await;
    let instance = &running.model.services["/web"].1[&task_id("/web", 2)];
    assert_eq!((instance.zone.as_deref(), instance.region.as_deref()), (Some("eu-1a"), Some("eu")));
    // Said again, it stays what it is.
    fake.event("status_update_event", update("/web", 1, "TASK_RUNNING")).await;
    fake.event("status_update_event", update("/web", 2, "TASK_KILLED")).await;
    running.until("the end of the second", |m| m.endpoints("/web").len() == 1).await;
    assert_eq!(running.model.services["/web"].1[&task_id("/web", 1)].zone.as_deref(), Some("eu-1a"));
}

#[tokio::test(start_paused = true)]
async fn a_group_is_explained_by_its_deployment_in_either_order() {
    use std::time::Instant as Received;

    use super::super::convert::Interned;
    use super::super::known::Moment;
    use super::super::reads::Target;
    use super::super::state::State;
    use crate::hosts::Resolver;

    let (hosts, names, now) = (Resolver::default(), Interned::default(), tokio::time::Instant::now());
    let at = Moment { now, received: Received::now(), hosts: &hosts, names: &names };
    let deployment = r#"{"plan": {"version": "v", "steps": [{"actions": [{"app": "/shop/web"}]}]}}"#;
    let deployment = ("deployment_success", serde_json::from_str(deployment).unwrap());
    let group =
        ("group_change_success", serde_json::from_str(r#"{"groupId": "/shop", "version": "v"}"#).unwrap());
    for events in [[&deployment, &group], [&group, &deployment]] {
        let mut state = State::new();
        for (name, event) in events {
            state.event(name, event, &at);
        }
        let later = now + Duration::from_secs(60);
        assert_eq!(state.groups_due(later), None);
        assert_eq!(state.reads.start(later), Some(Target::Service("/shop/web".into())));
        assert_eq!(state.reads.start(later), None, "the group was to be read too");
    }
}
