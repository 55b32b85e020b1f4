//! A master that fails in every way: nothing is lost by it, and the source recovers by itself.

use std::time::Duration;

use serde_json::json;

use super::fake::{Fake, Fault, record, task};
use super::follow::cluster;
use super::harness::{Options, start};
use crate::sources::told::{Model, Running};

fn complete(model: &Model) -> bool {
    model.endpoints("web.marathon") == ["10.0.0.1:31000", "10.0.0.2:31000"]
}

async fn started() -> (Fake, Running) {
    let fake = cluster().await;
    fake.script().heartbeat = Some(0.25);
    let options = Options { timeout: Duration::from_millis(700), ..Options::default() };
    let mut running = start(vec![fake.url()], options);
    running.synced().await;
    assert!(complete(&running.model));
    (fake, running)
}

#[tokio::test]
async fn bad_snapshots_take_nothing_away_and_are_got_over() {
    let first = |value: serde_json::Value| Fault::Answer(200, record(&value));
    let table = [
        ("killed before its answer", Fault::Close, "connect"),
        ("hung", Fault::Hang, "idle"),
        ("truncated", Fault::Cut(300), "connect"),
        ("no record", Fault::Answer(200, b"<html>welcome</html>".to_vec()), "malformed"),
        ("a record that is no JSON", Fault::Answer(200, b"3\nabc".to_vec()), "malformed"),
        ("a record too large", Fault::Answer(200, b"99999999999\n".to_vec()), "malformed"),
        ("not a snapshot", first(json!({"type": "TASK_ADDED", "task_added": {}})), "malformed"),
        ("a snapshot of nothing", first(json!({"type": "SUBSCRIBED", "subscribed": null})), "malformed"),
        ("an end", Fault::Answer(200, Vec::new()), "ended"),
        ("an error", Fault::Answer(500, b"oops".to_vec()), "status"),
        ("no leader", Fault::Answer(503, Vec::new()), "status"),
    ];
    for (what, fault, kind) in table {
        let (fake, mut running) = started().await;
        fake.fail("SUBSCRIBE", fault);
        // Else the state would be polled for want of a stream.
        fake.fail("/master/state", Fault::Answer(503, Vec::new()));
        fake.cut_streams();
        running.until(&format!("{what}: the error"), |m| m.errors.iter().any(|e| e.kind() == kind)).await;
        running.until(&format!("{what}: recovery"), |m| m.lists >= 2).await;
        assert!(complete(&running.model), "{what}: {:?}", running.model);
        let text = running.model.errors.iter().map(|error| format!("{error}; ")).collect::<String>();
        assert!(text.contains(&fake.address.to_string()), "{what}: the error names its place: {text}");
    }
}

#[tokio::test]
async fn a_hung_stream_is_noticed_and_a_beating_one_is_not() {
    let (fake, mut running) = started().await;
    for _ in 0..12 {
        fake.beat().await;
        running.throughout(Duration::from_millis(150), "connected", |m| m.errors.is_empty()).await;
    }
    running.until("silence noticed", |m| m.errors.iter().any(|error| error.kind() == "idle")).await;
    running.until("recovery", |m| m.lists >= 2 && complete(m)).await;
}

#[tokio::test]
async fn a_stream_cut_in_the_middle_of_a_record_is_made_again() {
    let (fake, mut running) = started().await;
    fake.send("1000\n{\"type\":\"AGENT_REMOVED\",\"agent_removed\":{\"agent_id\":{\"value\":\"A-S1\"}").await;
    fake.cut_streams();
    running.until("the end", |m| m.errors.iter().any(|error| error.kind() == "connect")).await;
    running.until("recovery", |m| m.lists >= 2 && complete(m)).await;
    fake.add(task("db", 2)).await;
    running.until("an event of the new stream", |m| m.services.contains_key("db.marathon")).await;
}

#[tokio::test]
async fn events_arrive_whole_wherever_they_are_cut() {
    let (fake, mut running) = started().await;
    let event = record(&json!({"type": "TASK_ADDED", "task_added": {"task": task("db", 2)}}));
    for piece in event.chunks(7) {
        fake.send(piece).await;
    }
    running.until("the event", |m| m.endpoints("db.marathon") == ["10.0.0.2:31000"]).await;
}

#[tokio::test]
async fn bad_events_cost_only_themselves() {
    let (fake, mut running) = started().await;
    for text in ["{", "null", "[]", "7", "{\"type\":7}", "{\"type\":\"NEW\",\"new\":{\"a\":1}}", "", "\u{1}"]
    {
        fake.send(format!("{}\n{text}", text.len())).await;
    }
    for task in [json!(null), json!(7), json!({}), json!({"task_id": {"value": "web.1"}, "statuses": 7})] {
        fake.event("TASK_ADDED", json!({"task": task})).await;
    }
    fake.event("TASK_UPDATED", json!({"status": {"task_id": {"value": "no.such"}}, "state": "TASK_RUNNING"}))
        .await;
    fake.event("AGENT_REMOVED", json!({"agent_id": {"value": "A-S77"}})).await;
    fake.add(task("db", 2)).await;
    running.until("the good event", |m| m.services.contains_key("db.marathon")).await;
    assert!(running.model.errors.is_empty(), "{:?}", running.model.errors);
    assert!(complete(&running.model));
    assert!(!running.model.problems.is_empty());
}

#[tokio::test]
async fn an_odd_task_is_left_out_alone_and_reported() {
    let (fake, mut running) = started().await;
    {
        let mut script = fake.script();
        let mut odd = task("odd", 1);
        odd["discovery"]["ports"]["ports"] = json!("many");
        script.tasks.extend([odd, json!(null), json!({"name": "x"})]);
        script.agents.push(json!({"agent_info": 7}));
    }
    fake.cut_streams();
    running.until("the next list", |m| m.lists >= 2).await;
    assert!(complete(&running.model) && running.model.services.len() == 1, "{:?}", running.model.services);
    let places: Vec<&str> = running.model.problems.iter().map(|(place, _)| &**place).collect();
    assert!(places.contains(&"odd.1") && places.contains(&"agents"), "{places:?}");

    // One that was known before it became odd stays as it was.
    fake.script().tasks[0]["statuses"] = json!("none");
    fake.cut_streams();
    running.until("one more list", |m| m.lists >= 3).await;
    assert!(complete(&running.model), "{:?}", running.model.services);
}
