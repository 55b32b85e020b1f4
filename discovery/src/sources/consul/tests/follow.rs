//! The source against the fake: lists, wakes, turns, refusals, failures.

use std::sync::Arc;
use std::time::Duration;

use portolan_table::Health;
use serde_json::json;

use super::fake::{Consul, entry};
use crate::config::{ApiConfig, Auth, ConsulConfig, Secret, SourceKind};
use crate::source::SourceError;
use crate::sources::propagation::Propagation;
use crate::sources::told::{Running, config};

fn source(consul: &Consul, auth: Auth, datacenter: Option<&str>) -> Running {
    let api = ApiConfig { urls: vec![consul.http.url()], auth, ..ApiConfig::default() };
    let consul = ConsulConfig { api, datacenter: datacenter.map(Arc::from) };
    let (refresh, timeout) = (Duration::from_secs(300), Duration::from_secs(2));
    let config = config(SourceKind::Consul(consul.clone()), refresh, timeout);
    Running::start(Box::new(super::super::Consul::new(&config, &consul)))
}

async fn two() -> Consul {
    let consul = Consul::start().await;
    consul.put(
        "web",
        vec![entry("n1", "a", "10.0.0.1", 80, "passing"), entry("n2", "b", "10.0.0.2", 80, "passing")],
    );
    consul.put("db", vec![entry("n1", "db", "", 5432, "passing")]);
    consul
}

#[tokio::test]
async fn changes_wake_the_questions_that_they_answer() {
    let consul = two().await;
    let mut running = source(&consul, Auth::None, None);
    running.synced().await;
    assert_eq!(running.model.endpoints("web"), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert_eq!(running.model.endpoints("db"), ["192.0.2.1:5432"], "an empty address is the node's");
    consul.put(
        "web",
        vec![entry("n1", "a", "10.0.0.1", 80, "critical"), entry("n2", "b", "10.0.0.2", 80, "passing")],
    );
    let of_a =
        |health| move |model: &crate::sources::told::Model| model.health("web", "dc1/n1/a") == Some(health);
    running.until("unhealthy", of_a(Health::Unhealthy)).await;
    consul.put("web", vec![entry("n1", "a", "10.0.0.1", 80, "passing")]);
    running.until("one", |model| model.endpoints("web") == ["10.0.0.1:80"]).await;
    assert_eq!(running.model.health("web", "dc1/n1/a"), Some(Health::Healthy));
    consul.put("new", vec![entry("n1", "new", "10.0.0.9", 90, "passing")]);
    running.until("a new service", |model| model.endpoints("new") == ["10.0.0.9:90"]).await;
    consul.put("new", vec![entry("n1", "new", "10.0.0.9", 91, "passing")]);
    running.until("it is followed", |model| model.endpoints("new") == ["10.0.0.9:91"]).await;
    consul.remove("web");
    running.until("gone", |model| !model.services.contains_key("web")).await;
    consul.put("web", vec![entry("n3", "c", "10.0.0.3", 80, "passing")]);
    running.until("back", |model| model.endpoints("web") == ["10.0.0.3:80"]).await;
    assert_eq!((running.model.lists, running.model.errors.len()), (1, 0));
}

#[tokio::test]
async fn more_services_than_connections_take_turns() {
    let consul = Consul::start().await;
    for number in 0..300 {
        consul.put(&format!("s{number}"), vec![entry("n1", "x", "10.0.0.1", 80, "passing")]);
    }
    let mut running = source(&consul, Auth::None, None);
    running.synced().await;
    assert_eq!(running.model.services.len(), 300);
    for number in [0, 150, 299] {
        let name = format!("s{number}");
        consul.put(&name, vec![entry("n1", "x", "10.0.0.2", 80, "passing")]);
        running.until("a change of any", |model| model.endpoints(&name) == ["10.0.0.2:80"]).await;
    }
    assert!(consul.state().open_max <= super::super::watches::WATCHES_MAX + 1);
}

#[tokio::test]
async fn an_index_that_goes_back_begins_anew() {
    let consul = two().await;
    let mut running = source(&consul, Auth::None, None);
    running.synced().await;
    // Servers restored from a snapshot.
    consul.state().index = 1;
    consul.put("web", vec![entry("n1", "a", "10.0.0.7", 80, "passing")]);
    // The open questions see it when their time is up; here they are told to look now, by something newer.
    consul.state().index = 50;
    consul.put("web", vec![entry("n1", "a", "10.0.0.8", 80, "passing")]);
    running.until("restored", |model| model.endpoints("web") == ["10.0.0.8:80"]).await;
}

#[tokio::test]
async fn whoever_may_see_nothing_is_told_so_and_nothing_is_removed() {
    let consul = two().await;
    consul.state().token = Some("secret-token".to_owned());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "secret-token").unwrap();
    let mut running = source(&consul, Auth::Bearer { token: Secret::File(file) }, None);
    running.synced().await;
    assert_eq!(running.model.endpoints("web").len(), 2);
    // The token is deleted.
    consul.state().token = Some("other".to_owned());
    consul.wake();
    consul.put("db", Vec::new());
    running.until("refused", |model| !model.errors.is_empty()).await;
    assert!(
        matches!(running.model.errors[0], SourceError::Status { status: 403, .. }),
        "{:?}",
        running.model.errors
    );
    let mut anonymous = source(&consul, Auth::None, None);
    anonymous.until("refused", |model| !model.errors.is_empty()).await;
    let said = anonymous.model.errors[0].to_string();
    assert!(
        said.ends_with("answered 200: but the token may see no service; give it service:read and node:read"),
        "{said}"
    );
    assert_eq!((anonymous.model.lists, running.model.endpoints("web").len()), (0, 2));
}

#[tokio::test]
async fn without_a_leader_everything_stays() {
    let consul = two().await;
    let mut running = source(&consul, Auth::None, None);
    running.synced().await;
    consul.state().status = Some(500);
    consul.put("web", Vec::new());
    running.until("an error", |model| !model.errors.is_empty()).await;
    assert_eq!(running.model.endpoints("web").len(), 2);
    consul.state().status = None;
    running.until("the leader's word", |model| model.endpoints("web").is_empty()).await;
}

#[tokio::test]
async fn an_instance_that_cannot_be_read_costs_itself() {
    let consul = two().await;
    let mut running = source(&consul, Auth::None, None);
    running.synced().await;
    let mut broken = entry("n1", "a", "10.0.0.1", 80, "passing");
    broken["Service"]["ID"] = json!(5);
    consul.put("web", vec![broken, entry("n2", "b", "10.0.0.2", 82, "passing")]);
    running.until("the other", |model| model.endpoints("web") == ["10.0.0.1:80", "10.0.0.2:82"]).await;
    let (place, message) = &running.model.problems[0];
    assert!(place == "web" && message.starts_with("an instance stays as it was: "), "{place} {message}");
    consul.put("web", vec![entry("n2", "b", "10.0.0.2", 82, "passing")]);
    running.until("the whole again", |model| model.endpoints("web") == ["10.0.0.2:82"]).await;
    assert!(running.model.errors.is_empty());
}

#[tokio::test]
async fn another_datacenter_is_asked_for_by_name() {
    let consul = two().await;
    let mut running = source(&consul, Auth::None, Some("east-2"));
    running.synced().await;
    assert!(consul.state().datacenters.iter().all(|dc| dc.as_deref() == Some("east%2D2")));
}

#[tokio::test]
async fn a_change_reaches_the_table_at_once() {
    let consul = two().await;
    let api = ApiConfig { urls: vec![consul.http.url()], ..ApiConfig::default() };
    let kind = SourceKind::Consul(ConsulConfig { api, datacenter: None });
    let source = config(kind, Duration::from_secs(300), Duration::from_secs(2));
    let propagation = Propagation::start(source);
    consul.put("web", vec![entry("n1", "a", "10.0.0.1", 999, "passing")]);
    propagation.until_live("web", &["10.0.0.1:999"]).await;
    let consul = &consul;
    let change = |number: u16| async move {
        consul.put("web", vec![entry("n1", "a", "10.0.0.1", 1000 + number, "passing")]);
    };
    let expected = |number: u16| vec![format!("10.0.0.1:{}", 1000 + number)];
    propagation.measure("consul (fake)", "web", 200, change, expected).await;
}

#[tokio::test]
async fn a_token_that_may_no_longer_read_nodes_takes_nothing_away() {
    let consul = two().await;
    consul.state().token = Some("secret-token".to_owned());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "secret-token").unwrap();
    let auth = || Auth::Bearer { token: Secret::File(file.clone()) };
    let mut running = source(&consul, auth(), None);
    running.synced().await;
    consul.state().without_nodes = true;
    consul.put("web", vec![entry("n1", "a", "10.0.0.9", 80, "passing")]);
    let told = |model: &crate::sources::told::Model| model.problems.iter().any(|(place, _)| place == "web");
    running.until("a word of it", told).await;
    assert_eq!(running.model.endpoints("web"), ["10.0.0.1:80", "10.0.0.2:80"]);
    consul.state().without_nodes = false;
    running.until("news again", |model| model.endpoints("web") == ["10.0.0.9:80"]).await;
    // Whose last instance goes, goes.
    consul.remove("db");
    running.until("gone", |model| !model.services.contains_key("db")).await;
    // Nor does a first list take a saved service for one without instances.
    consul.state().without_nodes = true;
    let mut second = source(&consul, auth(), None);
    second.synced().await;
    assert!(!second.model.services.contains_key("web") && told(&second.model));
}
