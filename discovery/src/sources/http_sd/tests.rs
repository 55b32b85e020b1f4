//! A server of target groups, and what becomes of its answers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::HttpSource;
use crate::config::{ApiConfig, Auth, HttpConfig, Secret, SourceKind};
use crate::source::SourceError;
use crate::sources::fake::{Fake, Reply};
use crate::sources::told::{Running, config};

const TWO: &str = r#"[
    {"targets": ["10.0.0.1:80", "10.0.0.2:80"], "labels": {"job": "web", "team": "shop"}},
    {"targets": ["10.0.0.3:5432"], "labels": {"job": "db"}}
]"#;
const ONE: &str = r#"[{"targets": ["10.0.0.2:80"], "labels": {"job": "web", "team": "shop"}}]"#;

type Answer = fn() -> Reply;
type Shared<T> = Arc<Mutex<T>>;

/// A server that answers with what stands in the cell.
async fn server(first: impl Fn() -> Reply + Send + 'static) -> (Fake, Shared<Box<dyn Fn() -> Reply + Send>>) {
    let answer: Shared<Box<dyn Fn() -> Reply + Send>> = Arc::new(Mutex::new(Box::new(first)));
    let shared = Arc::clone(&answer);
    let fake = Fake::start(move |_| {
        let reply = shared.lock().unwrap()();
        async move { reply }
    });
    (fake.await, answer)
}

fn source(api: ApiConfig, max_removal: f64) -> Running {
    let http = HttpConfig { api, service_label: None };
    let (refresh, timeout) = (Duration::from_millis(20), Duration::from_secs(1));
    let mut config = config(SourceKind::Http(http.clone()), refresh, timeout);
    config.max_removal = max_removal;
    Running::start(Box::new(HttpSource::new(&config, &http)))
}

fn at(urls: Vec<String>) -> ApiConfig {
    ApiConfig { urls, ..ApiConfig::default() }
}

#[tokio::test]
async fn groups_become_services_and_follow_the_answer() {
    let (fake, answer) = server(|| Reply::json(TWO)).await;
    let mut running = source(at(vec![format!("{}/sd?site=a", fake.url())]), 1.0);
    running.synced().await;
    assert_eq!(running.model.endpoints("web"), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert_eq!(running.model.endpoints("db"), ["10.0.0.3:5432"]);
    let first = &fake.asked()[0];
    assert_eq!((&*first.method, &*first.target), ("GET", "/sd?site=a"));
    assert_eq!(first.header("accept"), Some("application/json"));
    assert_eq!(first.header("x-prometheus-refresh-interval-seconds"), Some("1"));
    *answer.lock().unwrap() = Box::new(|| Reply::json(ONE));
    running
        .until("one target", |model| {
            model.endpoints("web") == ["10.0.0.2:80"] && !model.services.contains_key("db")
        })
        .await;
    assert_eq!(running.model.lists, 1, "the rest was told as a difference");
    *answer.lock().unwrap() = Box::new(|| Reply::json("[]"));
    running.until("none", |model| model.services.is_empty()).await;
}

#[tokio::test]
async fn under_a_guard_every_change_is_a_list() {
    let (fake, answer) = server(|| Reply::json(TWO)).await;
    let mut running = source(at(vec![fake.url()]), 0.5);
    running.synced().await;
    *answer.lock().unwrap() = Box::new(|| Reply::json(ONE));
    running.until("one target", |model| model.endpoints("web") == ["10.0.0.2:80"] && model.lists > 1).await;
}

#[tokio::test]
async fn whatever_goes_wrong_takes_nothing_away() {
    let (fake, answer) = server(|| Reply::json(TWO)).await;
    let mut running = source(at(vec![fake.url()]), 1.0);
    running.synced().await;
    let faults: [(Answer, &str); 8] = [
        (|| Reply::status(500), "answered 500: an error inside the API"),
        (|| Reply::status(404), "answered 404: no such path; check the URL"),
        (|| Reply::Close, "connection failed"),
        (|| Reply::json(&TWO[..TWO.len() / 2]), "answer not understood: EOF"),
        (|| Reply::json("{}"), "answer not understood: invalid type: map, expected a sequence"),
        (|| Reply::json(r#"[{"targets": 5}]"#), "answer not understood: invalid type"),
        (
            || Reply::Whole(200, vec![("Content-Type".into(), "text/html".into())], b"<html>".to_vec()),
            "\"text/html\" in place of a JSON list of target groups; check the URL",
        ),
        (|| Reply::Hang, "nothing received for 1 s"),
    ];
    for (fault, expected) in faults {
        let before = running.model.errors.len();
        *answer.lock().unwrap() = Box::new(fault);
        running.until(expected, |model| model.errors.len() > before).await;
        let said = running.model.errors.last().unwrap().to_string();
        assert!(said.contains(expected), "{said:?} does not say {expected:?}");
        assert_eq!(running.model.endpoints("web").len(), 2, "after {expected}");
    }
    *answer.lock().unwrap() = Box::new(|| Reply::json(ONE));
    running.until("well again", |model| model.endpoints("web") == ["10.0.0.2:80"]).await;
}

#[tokio::test]
async fn a_target_that_cannot_be_used_costs_itself() {
    let text = r#"[
        {"targets": ["10.0.0.1:80", "10.0.0.2", "localhost:81", "no-such-host.invalid:80", "[::1]:82"],
         "labels": {"service": "web"}},
        {"targets": ["10.0.0.9:80"]},
        {"targets": null, "labels": null}
    ]"#;
    let (fake, _answer) = server(move || Reply::json(text)).await;
    let mut running = source(at(vec![fake.url()]), 1.0);
    running.synced().await;
    let found = running.model.endpoints("web");
    assert!(
        found.contains(&"127.0.0.1:81".to_owned()) && found.contains(&"[::1]:82".to_owned()),
        "{found:?}"
    );
    assert!(found.contains(&"10.0.0.1:80".to_owned()), "{found:?}");
    let (place, message) = &running.model.problems[0];
    assert_eq!(place, "targets");
    for part in [
        "group 2: has no label service or job; add it, or set `service_label`",
        "\"10.0.0.2\" has no port; write 10.0.0.2:PORT",
        "\"no-such-host.invalid:80\": no address is known for this name at present",
    ] {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

#[tokio::test]
async fn another_url_is_tried_when_one_fails() {
    let (broken, _) = server(|| Reply::status(503)).await;
    let (well, _) = server(|| Reply::json(ONE)).await;
    let mut running = source(at(vec![broken.url(), well.url()]), 1.0);
    running.synced().await;
    assert!(running.model.errors.is_empty());
    assert_eq!(running.model.endpoints("web"), ["10.0.0.2:80"]);
}

#[tokio::test]
async fn credentials_are_shown_and_read_again_when_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "old\n").unwrap();
    let accepted = Arc::new(Mutex::new("Bearer old"));
    let shared = Arc::clone(&accepted);
    let fake = Fake::start(move |asked| {
        let fits = asked.header("authorization") == Some(*shared.lock().unwrap());
        async move { if fits { Reply::json(ONE) } else { Reply::status(401) } }
    })
    .await;
    let auth = Auth::Bearer { token: Secret::File(file.clone()) };
    let mut running = source(ApiConfig { auth, ..at(vec![fake.url()]) }, 1.0);
    running.synced().await;
    *accepted.lock().unwrap() = "Bearer new";
    running.until("refused", |model| !model.errors.is_empty()).await;
    assert!(matches!(running.model.errors[0], SourceError::Status { status: 401, .. }));
    assert!(!running.model.errors[0].to_string().contains("old"));
    std::fs::write(&file, "new\n").unwrap();
    let lists = running.model.lists;
    running.until("let in again", |model| model.lists > lists).await;
}

#[tokio::test]
async fn what_is_odd_in_every_line_is_told_in_short() {
    let odd = vec![json!({"targets": ["x".repeat(5000)], "labels": {"service": "web"}}); 1000];
    let text = Value::from(odd).to_string();
    let (fake, _answer) = server(move || Reply::json(text.clone())).await;
    let mut running = source(at(vec![fake.url()]), 1.0);
    running.synced().await;
    let (_, message) = &running.model.problems[0];
    assert!(message.len() < 5000 && message.ends_with("and 980 more"), "{message}");
}
