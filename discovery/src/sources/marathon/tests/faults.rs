//! A Marathon that fails in every way: nothing is lost by it, and the source recovers by itself.

use std::time::Duration;

use portolan_table::{Health, InstanceState};
use serde_json::json;

use super::fake::{Fake, Fault, app, task_id, update};
use super::harness::{Model, Options, Running};
use crate::config::{Auth, Secret};

fn complete(model: &Model) -> bool {
    model.endpoints("/web") == ["10.0.0.1:31000", "10.0.0.2:31000"] && model.services.contains_key("/other")
}

async fn start() -> (Fake, Running) {
    let fake = Fake::start(vec![app("/web", &[1, 2]), app("/other", &[3])]).await;
    let options = Options {
        timeout: Duration::from_millis(700),
        stream_idle: Duration::from_millis(700),
        ..Options::default()
    };
    let mut running = Running::start(vec![fake.url()], options);
    running.synced().await;
    assert!(complete(&running.model));
    (fake, running)
}

#[tokio::test]
async fn bad_lists_take_nothing_away_and_are_got_over() {
    let answer = |body: &[u8]| Fault::Answer(200, String::new(), body.to_vec());
    let whole = json!({"apps": [app("/web", &[1, 2])]}).to_string();
    let twice = whole.replace("\"id\":\"/web\"", "\"id\":\"/web\",\"id\":\"/web\"");
    assert_ne!(twice, whole);
    let table = [
        ("truncated JSON", answer(&whole.as_bytes()[..whole.len() - 3]), "malformed"),
        ("connection cut", Fault::Cut(500), "connect"),
        ("empty reply", answer(b""), "malformed"),
        ("garbage", answer(&b"\x00\xffgarbage ".repeat(1_000_000)), "malformed"),
        (
            "garbage in a list",
            answer(&[&b"{\"apps\":[{\"id\":\"/x\"},"[..], &b"z\x01".repeat(100_000)].concat()),
            "malformed",
        ),
        ("garbage for an app", answer(b"{\"apps\":[garbage]}"), "malformed"),
        ("an app without anything", answer(b"{\"apps\":[{}]}"), "malformed"),
        ("an app that is null", answer(b"{\"apps\":[null]}"), "malformed"),
        ("numbers for apps", answer(b"{\"apps\":[7,8]}"), "malformed"),
        ("an app with two ids", answer(twice.as_bytes()), "malformed"),
        ("another document", answer(b"{\"message\":\"hello\"}"), "malformed"),
        ("an HTML page", answer(b"<html><body>welcome</body></html>"), "malformed"),
        ("no answer", Fault::Close, "connect"),
        ("hang", Fault::Hang, "idle"),
        ("500", Fault::Answer(500, String::new(), b"oops".to_vec()), "status"),
        ("502", Fault::Answer(502, String::new(), Vec::new()), "status"),
        ("503", Fault::Answer(503, String::new(), Vec::new()), "status"),
    ];
    for (what, fault, kind) in table {
        let (fake, mut running) = start().await;
        fake.fail("/v2/apps?", fault);
        // The stream ends, a new session lists, and gets this answer.
        fake.end_streams();
        running.until(&format!("{what}: the error"), |m| m.errors.iter().any(|e| e.kind() == kind)).await;
        running.until(&format!("{what}: recovery"), |m| m.lists >= 2).await;
        assert!(complete(&running.model), "{what}: {:?}", running.model);
        let text = running.model.errors.iter().map(|error| format!("{error}; ")).collect::<String>();
        assert!(text.contains(&fake.url()), "{what}: the error names its place: {text}");
    }
}

#[tokio::test]
async fn data_stay_while_a_bad_list_is_met() {
    let (fake, mut running) = start().await;
    for _ in 0..3 {
        fake.fail("/v2/apps?", Fault::Cut(300));
    }
    fake.end_streams();
    running.until("three failures", |m| m.errors.len() >= 4 && complete(m)).await;
    running.until("recovery", |m| m.lists >= 2 && complete(m)).await;
}

#[tokio::test]
async fn a_stream_cut_in_the_middle_of_an_event_is_made_again() {
    let (fake, mut running) = start().await;
    fake.send("event: status_update_event\r\ndata: {\"appId\":\"/web\",\"taskStatus\":\"TASK_KI").await;
    fake.end_streams();
    running
        .until("the end", |m| {
            m.errors.iter().any(|error| error.kind() == "ended" || error.kind() == "connect")
        })
        .await;
    running.until("recovery", |m| m.lists >= 2 && complete(m)).await;
    fake.event("status_update_event", update("/web", 4, "TASK_RUNNING")).await;
    running.until("an event of the new stream", |m| m.endpoints("/web").len() == 3).await;
}

#[tokio::test]
async fn a_hung_stream_is_noticed_and_a_beating_one_is_not() {
    let (fake, mut running) = start().await;
    for _ in 0..12 {
        fake.send("\r\n").await;
        running.throughout(Duration::from_millis(150), "connected", |m| m.errors.is_empty()).await;
    }
    running.until("silence noticed", |m| m.errors.iter().any(|error| error.kind() == "idle")).await;
    assert!(running.model.errors[0].to_string().contains("nothing received"), "{:?}", running.model.errors);
    running.until("recovery", |m| m.lists >= 2 && complete(m)).await;
}

#[tokio::test]
async fn bad_events_cost_only_themselves() {
    let (fake, mut running) = start().await;
    for data in
        ["{", "null", "[]", "7", "{\"appId\":7}", "{\"appId\":null,\"taskId\":null}", "\u{1}\u{2}", ""]
    {
        fake.send(format!("event: status_update_event\r\ndata: {data}\r\n\r\n")).await;
    }
    fake.send("\r\n\r\nnonsense\r\n: comment\r\n\r\nevent: no_such_event\r\ndata: {}\r\n\r\n").await;
    fake.event("status_update_event", update("/web", 4, "TASK_RUNNING")).await;
    running.until("the good event", |m| m.endpoints("/web").len() == 3).await;
    assert!(running.model.errors.is_empty());
    assert!(running.model.problems.iter().any(|(place, _)| place == "/v2/events"));
}

#[tokio::test]
async fn an_odd_app_or_task_is_left_out_alone_and_reported() {
    let (fake, mut running) = start().await;
    let mut odd = vec![app("/web", &[1, 2]), app("/other", &[3])];
    odd.extend([
        json!(null),
        json!(7),
        json!({"id": "/no-tasks", "tasks": null, "labels": null, "container": null}),
    ]);
    odd.push(json!({"id": "/bad-tasks", "tasks": "none"}));
    odd.push(json!({"labels": {}}));
    odd.push(json!({"id": "///"}));
    odd[0]["tasks"].as_array_mut().unwrap().extend([json!(null), json!(1), json!({"host": "x"})]);
    odd[0]["labels"] = json!({"number": 7, "null": null, "list": [1], "text": "x"});
    fake.script().apps = odd;
    fake.end_streams();
    running.until("the next list", |m| m.lists >= 2).await;
    assert!(complete(&running.model));
    assert!(running.model.services.contains_key("/no-tasks"));
    let labels = &running.model.services["/web"].0.labels;
    assert_eq!(labels.iter().collect::<Vec<_>>(), [("number", "7"), ("text", "x")]);
    let places: Vec<&str> = running.model.problems.iter().map(|(place, _)| &**place).collect();
    for place in ["/bad-tasks", "(no id)", "///", "/web"] {
        assert!(places.contains(&place), "{place} is not in {:?}", running.model.problems);
    }
}

/// Which services the nameless element would name is not known: the list adds and takes nothing away.
#[tokio::test]
async fn a_list_with_an_element_without_an_id_takes_nothing_away() {
    for odd in [json!(null), json!(7), json!({"labels": {}}), json!({"id": 7}), json!({"id": ""})] {
        let (fake, mut running) = start().await;
        fake.script().apps = vec![odd.clone(), app("/web", &[2, 3]), app("/new", &[4])];
        fake.end_streams();
        running.until("the next list", |m| m.lists >= 2).await;
        assert_eq!(running.model.endpoints("/web"), ["10.0.0.2:31000", "10.0.0.3:31000"], "{odd}");
        assert!(running.model.services.contains_key("/other"), "{odd} took something away");
        assert!(running.model.services.contains_key("/new"));
        // Its end is told by an event all the same.
        fake.event("status_update_event", update("/other", 3, "TASK_KILLED")).await;
        running.until("an event", |m| m.endpoints("/other").is_empty()).await;
        fake.script().apps = vec![app("/web", &[1, 2])];
        fake.end_streams();
        running.until("a whole list", |m| m.services.len() == 1).await;
    }
}

#[tokio::test]
async fn a_group_with_an_element_without_an_id_takes_nothing_away() {
    let fake = Fake::start(vec![app("/shop/web", &[1]), app("/shop/db", &[2])]).await;
    let mut running = Running::start(vec![fake.url()], Options::default());
    running.synced().await;
    let part = json!({"apps": [app("/shop/web", &[1, 3]), {}]}).to_string();
    fake.fail("/v2/apps//shop/*", Fault::Answer(200, String::new(), part.into_bytes()));
    fake.event("group_change_success", json!({"groupId": "/shop", "version": "v1"})).await;
    running.until("the group", |m| m.endpoints("/shop/web").len() == 2).await;
    running.until("the complaint", |m| m.problems.iter().any(|(place, _)| place == "(no id)")).await;
    assert!(running.model.services.contains_key("/shop/db"));
}

#[tokio::test]
async fn an_app_that_turns_odd_keeps_what_was_known_of_it() {
    let (fake, mut running) = start().await;
    fake.script().apps[0] = json!({"id": "/web", "labels": "none"});
    fake.event("api_post_event", json!({"appDefinition": {"id": "/web"}})).await;
    running.until("the complaint", |m| m.problems.iter().any(|(place, _)| place == "/web")).await;
    assert!(complete(&running.model));
}

#[tokio::test]
async fn a_failing_read_is_repeated_and_then_ends_the_session() {
    let (fake, mut running) = start().await;
    fake.fail("/v2/apps/web", Fault::Answer(503, String::new(), Vec::new()));
    fake.script().apps[0] = app("/web", &[1, 2, 3]);
    fake.event("api_post_event", json!({"appDefinition": {"id": "/web"}})).await;
    running.until("the second try", |m| m.endpoints("/web").len() == 3).await;
    assert!(running.model.errors.is_empty());
    // A 404 that is not Marathon's own says nothing about the app.
    for _ in 0..3 {
        fake.fail("/v2/apps/web", Fault::Answer(404, String::new(), b"<html>no route</html>".to_vec()));
    }
    fake.event("api_post_event", json!({"appDefinition": {"id": "/web"}})).await;
    running.until("the end of the session", |m| !m.errors.is_empty()).await;
    running.until("recovery", |m| m.lists >= 2).await;
    assert_eq!(running.model.endpoints("/web").len(), 3);
}

/// Only a "does not exist" of Marathon's own takes an app away.
#[tokio::test]
async fn a_read_that_is_answered_by_something_else_takes_nothing_away() {
    let answer = |status, body: &str| Fault::Answer(status, String::new(), body.as_bytes().to_vec());
    let table = [
        ("an app that is null", answer(200, r#"{"app":null}"#)),
        ("an app without an id", answer(200, r#"{"app":{}}"#)),
        ("another app", answer(200, &json!({"app": app("/other", &[9])}).to_string())),
        ("a message of a proxy", answer(404, r#"{"message":"no healthy upstream"}"#)),
        ("a message about something else", answer(404, r#"{"message":"Host 'marathon' does not exist"}"#)),
    ];
    for (what, fault) in table {
        let fake = Fake::start(vec![app("/web", &[1, 2]), app("/other", &[3])]).await;
        let mut running = Running::start(vec![fake.url()], Options::default());
        running.synced().await;
        for _ in 0..3 {
            fake.fail("/v2/apps/web", fault.clone());
        }
        fake.event("api_post_event", json!({"appDefinition": {"id": "/web"}})).await;
        running.until(&format!("{what}: the error"), |m| !m.errors.is_empty()).await;
        assert!(complete(&running.model), "{what}: {:?}", running.model);
        assert!(["malformed", "status"].contains(&running.model.errors[0].kind()), "{what}");
        fake.script().apps.remove(0);
        running.until("recovery", |m| m.lists >= 2 && !m.services.contains_key("/web")).await;
    }
}

#[tokio::test]
async fn a_task_that_cannot_be_read_stays_what_it_was() {
    let (fake, mut running) = start().await;
    let first = task_id("/web", 1);
    let mut web = app("/web", &[1, 2, 3]);
    web["tasks"][0]["host"] = json!({"name": "10.0.0.1"});
    fake.script().apps[0] = web.clone();
    fake.event("api_post_event", json!({"appDefinition": {"id": "/web"}})).await;
    running.until("the third", |m| m.endpoints("/web").len() == 3).await;
    assert_eq!(running.model.state("/web", &first), Some(InstanceState::Running));

    // With an unreadable id it may be any that is not told.
    web["tasks"][0]["id"] = json!(7);
    web["tasks"].as_array_mut().unwrap().truncate(1);
    fake.script().apps[0] = web;
    fake.end_streams();
    running.until("the next list", |m| m.lists >= 2).await;
    assert_eq!(running.model.endpoints("/web").len(), 3);
    fake.event("status_update_event", update("/web", 1, "TASK_KILLED")).await;
    running.until("its end by an event", |m| m.state("/web", &first).is_none()).await;
    fake.script().apps[0] = app("/web", &[3]);
    fake.event("api_post_event", json!({"appDefinition": {"id": "/web"}})).await;
    running.until("the end of the rest", |m| m.endpoints("/web") == ["10.0.0.3:31000"]).await;
}

#[tokio::test]
async fn a_cluster_with_pods_is_not_believed_to_know_none() {
    let pods: serde_json::Value = serde_json::from_str(include_str!("../fixtures/pods.json")).unwrap();
    let fake = Fake::start(vec![app("/web", &[1])]).await;
    fake.script().pods = Some(vec![pods[2].clone()]);
    let mut running = Running::start(vec![fake.url()], Options::default());
    running.synced().await;
    assert!(running.model.services.contains_key("/pods/bridge"));
    for status in [404, 405] {
        let lists = running.model.lists;
        fake.fail("/v2/pods/::status", Fault::Answer(status, String::new(), b"<html>".to_vec()));
        fake.end_streams();
        let refused =
            |m: &Model| m.errors.iter().any(|error| error.to_string().contains(&status.to_string()));
        running.until("the error", refused).await;
        running.until("recovery", |m| m.lists > lists).await;
        assert!(running.model.services.contains_key("/pods/bridge"));
    }
    let null = Fault::Answer(200, String::new(), b"null".to_vec());
    fake.fail("/v2/pods/pods/bridge::status", null);
    fake.event("pod_updated_event", json!({"uri": "/v2/pods/pods/bridge"})).await;
    fake.asked("/v2/pods/pods/bridge::status", 2).await;
    running.throughout(Duration::from_millis(200), "it", |m| m.services.contains_key("/pods/bridge")).await;
}

#[tokio::test]
async fn a_pod_whose_older_version_cannot_be_read_costs_only_itself() {
    let pods: serde_json::Value = serde_json::from_str(include_str!("../fixtures/pods.json")).unwrap();
    let net = pods.as_array().unwrap().iter().find(|pod| pod["id"] == "/pods/net").unwrap().clone();
    let fake = Fake::start(vec![app("/web", &[1])]).await;
    fake.script().pods = Some(vec![net, pods[2].clone()]);
    let refused = Fault::Answer(500, String::new(), b"oops".to_vec());
    fake.fail("/v2/pods/pods/net::versions/", refused);
    let mut running = Running::start(vec![fake.url()], Options::default());
    running.synced().await;
    assert!(running.model.services.contains_key("/pods/bridge"));
    assert!(!running.model.services.contains_key("/pods/net"));
    let told = |(place, message): &(String, String)| place == "/pods/net" && message.contains("500");
    assert!(running.model.problems.iter().any(told), "{:?}", running.model.problems);
    running.until("it is read again", |m| m.services.contains_key("/pods/net")).await;
    assert!(running.model.errors.is_empty());
}

#[tokio::test]
async fn an_empty_list_of_apps_is_confirmed_though_there_are_pods() {
    let pods: serde_json::Value = serde_json::from_str(include_str!("../fixtures/pods.json")).unwrap();
    let fake = Fake::start(vec![app("/web", &[1])]).await;
    fake.script().pods = Some(vec![pods[2].clone()]);
    let mut running = Running::start(vec![fake.url()], Options::default());
    running.synced().await;
    fake.fail("/v2/apps?", Fault::Answer(200, String::new(), b"{\"apps\":[]}".to_vec()));
    fake.end_streams();
    running.until("the second look", |m| m.lists >= 2).await;
    assert!(running.model.services.contains_key("/web"));
}

/// The catalog serves what was saved; the source itself has seen nothing yet.
#[tokio::test]
async fn the_first_empty_list_after_a_start_on_a_saved_table_is_confirmed() {
    let fake = Fake::start(vec![app("/web", &[1])]).await;
    fake.fail("/v2/apps?", Fault::Answer(200, String::new(), b"{\"apps\":[]}".to_vec()));
    let options = Options { resumed: true, ..Options::default() };
    let mut running = Running::start(vec![fake.url()], options);
    running.synced().await;
    assert!(running.model.services.contains_key("/web"), "a leader without its state was believed");
    assert_eq!(fake.count("/v2/apps?"), 2);
}

#[tokio::test]
async fn an_empty_list_after_one_that_was_not_is_confirmed() {
    let fake = Fake::start(vec![app("/web", &[1, 2]), app("/other", &[3])]).await;
    let mut running = Running::start(vec![fake.url()], Options::default());
    running.synced().await;
    fake.fail("/v2/apps?", Fault::Answer(200, String::new(), b"{\"apps\":[]}".to_vec()));
    fake.end_streams();
    running.until("the second look", |m| m.lists >= 2).await;
    assert!(complete(&running.model), "a leader without its state was believed");
    fake.script().apps.clear();
    fake.end_streams();
    running.until("the truth", |m| m.lists >= 3).await;
    assert!(running.model.services.is_empty(), "an empty cluster that is confirmed is believed");
}

#[tokio::test]
async fn an_empty_result_after_a_leader_change_is_no_verdict() {
    let mut checked = app("/web", &[1]);
    checked["healthChecks"] = json!([{"protocol": "HTTP"}]);
    checked["tasks"][0]["healthCheckResults"] = json!([{"alive": true}]);
    let fake = Fake::start(vec![checked]).await;
    let mut running = Running::start(vec![fake.url()], Options::default());
    running.synced().await;
    let id = task_id("/web", 1);
    assert_eq!(running.model.health("/web", &id), Some(Health::Healthy));
    fake.script().apps[0]["tasks"][0]["healthCheckResults"] = json!([]);
    fake.end_streams();
    running.until("the next list", |m| m.lists >= 2).await;
    // The catalog keeps the verdict it has; the source must not make one up.
    assert_eq!(running.model.health("/web", &id), Some(Health::Unknown));
    assert_eq!(running.model.state("/web", &id), Some(InstanceState::Running));
}

#[tokio::test]
async fn the_next_url_is_taken_when_one_is_down() {
    let fake = Fake::start(vec![app("/web", &[1])]).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ill = Fake::start(Vec::new()).await;
    ill.fail("/v2/events", Fault::Answer(503, String::new(), Vec::new()));
    let urls = vec![format!("http://{closed}"), ill.url(), fake.url()];
    let mut running = Running::start(urls, Options::default());
    running.synced().await;
    assert_eq!(running.model.endpoints("/web"), ["10.0.0.1:31000"]);
    assert!(running.model.errors.is_empty(), "one session went through all: {:?}", running.model.errors);
}

fn moved_to(url: &str) -> Fault {
    Fault::Answer(302, format!("Location: {url}/v2/events?plan-format=light\r\n"), Vec::new())
}

#[tokio::test]
async fn a_redirect_is_followed_to_the_leader_and_nowhere_else() {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "t0\n").unwrap();
    let auth = Auth::Bearer { token: Secret::File(token.path().to_owned()) };
    let options = Options { auth, ..Options::default() };
    let leader = Fake::start(vec![app("/web", &[1])]).await;
    let follower = Fake::start(Vec::new()).await;
    follower.script().leader = Some(leader.address.to_string());
    follower.fail("/v2/events", moved_to(&leader.url()));
    let mut running = Running::start(vec![follower.url()], options.clone());
    running.synced().await;
    assert_eq!(running.model.endpoints("/web"), ["10.0.0.1:31000"]);
    assert_eq!(leader.count("/v2/apps?"), 1, "the leader itself is asked for the list");
    drop(running);

    let stranger = Fake::start(vec![app("/trap", &[1])]).await;
    follower.script().leader = Some("10.9.9.9:8080".to_owned());
    follower.fail("/v2/events", moved_to(&stranger.url()));
    let mut running = Running::start(vec![follower.url()], options.clone());
    running.until("refusal", |m| !m.errors.is_empty()).await;
    let told = running.model.errors[0].to_string();
    assert!(told.contains("302") && told.contains("not configured"), "{told}");
    drop(running);
    assert!(stranger.script().requests.is_empty(), "credentials were sent to a stranger");

    // A second redirect is not followed, even between members.
    let (one, two) = (Fake::start(Vec::new()).await, Fake::start(Vec::new()).await);
    for _ in 0..10 {
        one.fail("/v2/events", moved_to(&two.url()));
        two.fail("/v2/events", moved_to(&one.url()));
    }
    let mut running = Running::start(vec![one.url(), two.url()], options);
    running.until("refusal", |m| !m.errors.is_empty()).await;
    assert!(one.count("/v2/events") + two.count("/v2/events") <= 4);
}

#[tokio::test]
async fn a_refused_token_is_read_again_and_a_wrong_one_is_told_without_showing_it() {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "first-secret\n").unwrap();
    let auth = Auth::Bearer { token: Secret::File(token.path().to_owned()) };
    let fake = Fake::start(vec![app("/web", &[1])]).await;
    fake.script().authorization = Some("Bearer first-secret".to_owned());
    let mut running = Running::start(vec![fake.url()], Options { auth, ..Options::default() });
    running.synced().await;

    std::fs::write(token.path(), "second-secret").unwrap();
    fake.script().authorization = Some("Bearer second-secret".to_owned());
    fake.script().apps[0] = app("/web", &[1, 2]);
    fake.event("api_post_event", json!({"appDefinition": {"id": "/web"}})).await;
    running.until("the change", |m| m.endpoints("/web").len() == 2).await;
    assert!(running.model.errors.is_empty(), "a renewed token is no error");

    fake.script().authorization = Some("Bearer third-secret".to_owned());
    fake.event("api_post_event", json!({"appDefinition": {"id": "/web"}})).await;
    running.until("the refusal", |m| !m.errors.is_empty()).await;
    let told = format!("{:?} {}", running.model.errors, running.model.errors[0]);
    assert!(told.contains("401") && told.contains("[source.auth]"), "{told}");
    assert!(!told.contains("secret"), "{told}");
    assert_eq!(running.model.endpoints("/web").len(), 2);
}

#[tokio::test]
async fn pods_are_listed_and_followed_by_their_events() {
    let pods: serde_json::Value = serde_json::from_str(include_str!("../fixtures/pods.json")).unwrap();
    let fake = Fake::start(vec![app("/web", &[1])]).await;
    {
        let mut script = fake.script();
        script.pods = Some(pods.as_array().unwrap().clone());
        let older = json!({"version": "2026-03-01T00:00:00.000Z", "networks": [{"mode": "container", "name": "dcos"}],
            "containers": [{"name": "app", "endpoints": [{"name": "http", "containerPort": 7070}]}]});
        let path = "/v2/pods/pods/net::versions/2026-03-01T00:00:00.000Z";
        script.versions.insert(path.to_owned(), older);
    }
    let mut running = Running::start(vec![fake.url()], Options::default());
    running.synced().await;
    assert!(
        running.model.endpoints("/pods/net").contains(&"9.0.5.140:7070".to_owned()),
        "the older version's port"
    );
    let bridge = "bridge.instance-1";
    let changed = |condition: &str| json!({"instanceId": bridge, "condition": condition, "runSpecId": "/pods/bridge", "host": "10.0.0.4"});
    fake.event("instance_changed_event", changed("Killing")).await;
    running.until("killing", |m| m.state("/pods/bridge", bridge) == Some(InstanceState::Killing)).await;
    fake.event("instance_changed_event", changed("Killed")).await;
    running.until("the end", |m| m.state("/pods/bridge", bridge).is_none()).await;

    fake.script().pods.as_mut().unwrap()[2]["instances"][0]["id"] = json!("bridge.instance-2");
    let started =
        json!({"instanceId": "bridge.instance-2", "condition": "Running", "runSpecId": "/pods/bridge"});
    fake.event("instance_changed_event", started).await;
    running.until("the new one", |m| m.endpoints("/pods/bridge") == ["10.0.0.4:31600"]).await;
    let ill = json!({"instanceId": "host.instance-1", "runSpecId": "/pods/host", "healthy": false});
    fake.event("instance_health_changed_event", ill).await;
    running
        .until("the verdict", |m| m.health("/pods/host", "host.instance-1") == Some(Health::Unhealthy))
        .await;
    fake.event("pod_deleted_event", json!({"uri": "/v2/pods/pods/host?force=true"})).await;
    running.until("removal", |m| !m.services.contains_key("/pods/host")).await;
}
