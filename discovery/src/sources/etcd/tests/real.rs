//! The source against real etcd: events, compaction, users, certificates, members that go, hang or lose their leader.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::super::api::Api;
use super::super::follow::{Times, follow};
use super::super::store::Store;
use super::super::wire::Prefix;
use super::server::Cluster;
use crate::config::{ApiConfig, Auth, EtcdConfig, EtcdLayout, Secret, SourceConfig, SourceKind, TlsConfig};
use crate::http::{Base, Client, Limits};
use crate::source::{Session, Sink, Source, SourceError};
use crate::sources::program::real_wanted;
use crate::sources::propagation::Propagation;
use crate::sources::told::{Model, Running, config};

fn etcd(api: ApiConfig, layout: EtcdLayout) -> (SourceConfig, EtcdConfig) {
    let etcd = EtcdConfig { api, layout, prefix: layout.prefix().to_owned() };
    let (refresh, timeout) = (Duration::from_secs(300), Duration::from_secs(2));
    (config(SourceKind::Etcd(etcd.clone()), refresh, timeout), etcd)
}

fn source(api: ApiConfig, layout: EtcdLayout) -> Running {
    let (config, etcd) = etcd(api, layout);
    let mut source = super::super::Etcd::new(&config, &etcd);
    source.silence = Duration::from_millis(500);
    Running::start(Box::new(source))
}

fn at(urls: Vec<String>) -> ApiConfig {
    ApiConfig { urls, ..ApiConfig::default() }
}

#[tokio::test]
async fn what_happens_to_keys_happens_to_services() {
    if !real_wanted() {
        return;
    }
    let cluster = Cluster::start(1).await;
    cluster.put("/services/shop/web/1", "10.0.0.1:80").await;
    cluster.put("/services/shop/web/2", r#"{"host": "10.0.0.2", "port": 80, "weight": 3}"#).await;
    cluster.put("/other/web/3", "10.0.0.3:80").await;
    let mut running = source(at(cluster.urls()), EtcdLayout::Tree);
    running.synced().await;
    assert_eq!(running.model.endpoints("web.shop"), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert_eq!(running.model.services.len(), 1);
    cluster.put("/services/shop/web/1", "10.0.0.1:81").await;
    running.until("an update", |model| model.endpoints("web.shop")[0] == "10.0.0.1:81").await;
    cluster.delete("/services/shop/web/1").await;
    running.until("a deletion", |model| model.endpoints("web.shop") == ["10.0.0.2:80"]).await;
    // One transaction moves an instance and makes another service.
    let op = |key: &str, value: &str| json!({"request_put": {"key": STANDARD.encode(key), "value": STANDARD.encode(value)}});
    let deletion = json!({"request_delete_range": {"key": STANDARD.encode("/services/shop/web/2")}});
    let both = [deletion, op("/services/shop/web/4", "10.0.0.4:80"), op("/services/db/1", "10.0.0.9:5432")];
    cluster.call("/v3/kv/txn", json!({"success": both})).await;
    let moved = ["10.0.0.4:80"];
    running
        .until("a transaction", |model| {
            model.endpoints("db") == ["10.0.0.9:5432"] && model.endpoints("web.shop") == moved
        })
        .await;
    cluster.delete("/services/db/1").await;
    running.until("no service", |model| !model.services.contains_key("db")).await;
    // A lease that ends takes its key along.
    let lease = cluster.call("/v3/lease/grant", json!({"TTL": "60", "ID": "7"})).await;
    assert_eq!(lease["ID"], "7");
    let leased = json!({"key": STANDARD.encode("/services/db/1"), "value": STANDARD.encode("10.0.0.9:5432"), "lease": "7"});
    cluster.call("/v3/kv/put", leased).await;
    running.until("a leased key", |model| model.services.contains_key("db")).await;
    cluster.call("/v3/kv/lease/revoke", json!({"ID": "7"})).await;
    running.until("the end of the lease", |model| !model.services.contains_key("db")).await;
    // Nonsense costs itself alone, and is told.
    cluster.put("/services/shop/web/5", "nonsense").await;
    running.until("a problem", |model| !model.problems.is_empty()).await;
    assert_eq!(running.model.problems[0].0, "/services/shop/web/5");
    assert_eq!(running.model.endpoints("web.shop"), ["10.0.0.4:80"]);
    // Over a good value, too: what was there stays, and goes with its key.
    cluster.put("/services/db/1", "10.0.0.9:5432").await;
    running.until("a good value", |model| model.services.contains_key("db")).await;
    cluster.put("/services/db/1", "10.0.0.9").await;
    let told = |model: &Model| model.problems.iter().any(|(place, _)| place == "/services/db/1");
    running.until("a problem", told).await;
    assert_eq!(running.model.endpoints("db"), ["10.0.0.9:5432"]);
    cluster.delete("/services/db/1").await;
    running.until("no service again", |model| !model.services.contains_key("db")).await;
    assert!(running.model.errors.is_empty(), "{:?}", running.model.errors);
}

#[tokio::test]
async fn pages_hold_one_revision_and_the_watch_follows_them() {
    if !real_wanted() {
        return;
    }
    let cluster = Cluster::start(1).await;
    let put = |n: usize| {
        let key = STANDARD.encode(format!("/services/s{:04}/1", n));
        json!({"request_put": {"key": key, "value": STANDARD.encode("10.0.0.1:80")}})
    };
    for part in 0..45 {
        let ops: Vec<_> = (0..100).map(|n| put(part * 100 + n)).collect();
        cluster.call("/v3/kv/txn", json!({"success": ops})).await;
    }
    let mut running = source(at(cluster.urls()), EtcdLayout::Tree);
    running.synced().await;
    assert_eq!(running.model.services.len(), 4500);
    cluster.put("/services/s0001/1", "10.0.0.2:80").await;
    running.until("an event", |model| model.endpoints("s0001") == ["10.0.0.2:80"]).await;
}

#[tokio::test]
async fn a_watch_that_compaction_has_overtaken_lists_again() {
    if !real_wanted() {
        return;
    }
    let cluster = Cluster::start(1).await;
    cluster.put("/services/web/1", "10.0.0.1:80").await;
    for number in 0..5 {
        cluster.put("/services/web/1", &format!("10.0.0.{number}:80")).await;
    }
    cluster.compact().await;
    let mut running = Running::start(Box::new(Late { url: cluster.url(0) }));
    running.synced().await;
    running.until("the list after compaction", |model| model.endpoints("web") == ["10.0.0.4:80"]).await;
    cluster.put("/services/web/1", "10.0.0.9:80").await;
    running.until("what came after", |model| model.endpoints("web") == ["10.0.0.9:80"]).await;
    assert!(running.model.errors.is_empty());
}

/// A session whose list is so old that its watch begins before what is left of history.
struct Late {
    url: String,
}

impl Source for Late {
    fn session<'a>(&'a mut self, sink: &'a Sink) -> Session<'a> {
        let base = Base::parse(&self.url).unwrap();
        let limits = Limits { request: Duration::from_secs(2), body: 1 << 24 };
        let client = Client::new(&Auth::None, &TlsConfig::default(), &base, limits).unwrap();
        let (prefix, timeout) = (Arc::new(Prefix::below("/services")), Duration::from_secs(2));
        let api = Api { client: Arc::new(client), base, prefix, timeout };
        let store = Store::new(EtcdLayout::Tree, "/services", Arc::default());
        let times = Times { refresh: Duration::from_secs(300), silence: Duration::from_secs(10) };
        Box::pin(async move { follow(&api, store, (Vec::new(), 1), times, sink).await.unwrap_err() })
    }
}

#[tokio::test]
async fn a_user_is_let_in_and_one_without_rights_is_told() {
    if !real_wanted() {
        return;
    }
    let cluster = Cluster::start(1).await;
    cluster.put("/services/web/1", "10.0.0.1:80").await;
    let (first, end) = (STANDARD.encode("/services/"), STANDARD.encode("/services0"));
    let read = json!({"permType": "READ", "key": first, "range_end": end});
    for (path, body) in [
        ("/v3/auth/user/add", json!({"name": "root", "password": "root-pw"})),
        ("/v3/auth/user/add", json!({"name": "portolan", "password": "right"})),
        ("/v3/auth/user/add", json!({"name": "nobody", "password": "right"})),
        ("/v3/auth/role/add", json!({"name": "root"})),
        ("/v3/auth/role/add", json!({"name": "reader"})),
        ("/v3/auth/role/grant", json!({"name": "reader", "perm": read})),
        ("/v3/auth/user/grant", json!({"user": "root", "role": "root"})),
        ("/v3/auth/user/grant", json!({"user": "portolan", "role": "reader"})),
        ("/v3/auth/enable", json!({})),
    ] {
        cluster.call(path, body).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "right\n").unwrap();
    let user = |name: &str| {
        let auth = Auth::Etcd { username: name.to_owned(), password: Secret::File(file.clone()) };
        source(ApiConfig { auth, ..at(cluster.urls()) }, EtcdLayout::Tree)
    };
    let mut running = user("portolan");
    running.synced().await;
    assert_eq!(running.model.endpoints("web"), ["10.0.0.1:80"]);
    for (mut other, status, word) in [
        (user("nobody"), 403, "permission denied"),
        (source(at(cluster.urls()), EtcdLayout::Tree), 401, "user name is empty"),
        (user("stranger"), 400, "login refused"),
    ] {
        other.until("a refusal", |model| !model.errors.is_empty()).await;
        let error = &other.model.errors[0];
        assert!(matches!(error, SourceError::Status { status: told, .. } if *told == status), "{error}");
        assert!(error.to_string().contains(word) && !error.to_string().contains("right"), "{error}");
        assert_eq!(other.model.lists, 0);
    }
}

#[tokio::test]
async fn certificates_identify_both_sides() {
    if !real_wanted() {
        return;
    }
    let cluster = Cluster::start_tls().await;
    cluster.put("/services/web/1", "10.0.0.1:80").await;
    let mut running = source(ApiConfig { tls: cluster.tls.clone(), ..at(cluster.urls()) }, EtcdLayout::Tree);
    running.synced().await;
    cluster.put("/services/web/1", "10.0.0.2:80").await;
    running.until("an event", |model| model.endpoints("web") == ["10.0.0.2:80"]).await;
    let mut stranger = source(at(cluster.urls()), EtcdLayout::Tree);
    stranger.until("a refusal", |model| !model.errors.is_empty()).await;
    assert!(matches!(stranger.model.errors[0], SourceError::Connect { .. }));
}

#[tokio::test]
async fn members_may_go_and_a_cluster_without_leader_takes_nothing_away() {
    if !real_wanted() {
        return;
    }
    let mut cluster = Cluster::start(3).await;
    cluster.put("/services/web/1", "10.0.0.1:80").await;
    let mut running = source(at(cluster.urls()), EtcdLayout::Tree);
    running.synced().await;
    // The member that is watched goes: another goes on.
    cluster.kill(0);
    cluster.put("/services/web/1", "10.0.0.2:80").await;
    running.until("another member's word", |model| model.endpoints("web") == ["10.0.0.2:80"]).await;
    // No majority: the watch is ended by the member that is left, whose stream would else just be silent.
    let errors = running.model.errors.len();
    cluster.kill(1);
    cluster.kill(2);
    cluster.restart(2);
    running.until("the loss of the leader", |model| model.errors.len() > errors + 1).await;
    assert_eq!(running.model.endpoints("web"), ["10.0.0.2:80"]);
    let lists = running.model.lists;
    cluster.restart(0);
    cluster.restart(1);
    running.until("a leader", |model| model.lists > lists).await;
    cluster.put("/services/web/1", "10.0.0.3:80").await;
    running.until("its word", |model| model.endpoints("web") == ["10.0.0.3:80"]).await;
}

#[tokio::test]
async fn a_leader_that_is_lost_ends_the_watch_of_the_member_that_is_left() {
    if !real_wanted() {
        return;
    }
    let mut cluster = Cluster::start(3).await;
    cluster.put("/services/web/1", "10.0.0.1:80").await;
    let (config, etcd) = etcd(at(vec![cluster.url(0)]), EtcdLayout::Tree);
    // Checks are far away: it is the member that says so.
    let mut running = Running::start(Box::new(super::super::Etcd::new(&config, &etcd)));
    running.synced().await;
    cluster.kill(1);
    cluster.kill(2);
    running.until("an end", |model| !model.errors.is_empty()).await;
    // A check would say that nothing came.
    let error = &running.model.errors[0];
    assert!(matches!(error, SourceError::Ended { .. } | SourceError::Status { status: 503, .. }), "{error}");
    assert_eq!(running.model.endpoints("web"), ["10.0.0.1:80"]);
}

#[tokio::test]
async fn a_member_that_hangs_is_left() {
    if !real_wanted() {
        return;
    }
    let mut cluster = Cluster::start(3).await;
    cluster.put("/services/web/1", "10.0.0.1:80").await;
    let mut running = source(at(cluster.urls()), EtcdLayout::Tree);
    running.synced().await;
    cluster.signal(0, "-STOP");
    running.until("an error", |model| !model.errors.is_empty()).await;
    assert!(matches!(running.model.errors[0], SourceError::Idle { .. }), "{:?}", running.model.errors);
    let lists = running.model.lists;
    running.until("another member's list", |model| model.lists > lists).await;
    cluster.signal(0, "-CONT");
    cluster.kill(0);
}

#[tokio::test]
async fn a_change_reaches_the_table_at_once() {
    if !real_wanted() {
        return;
    }
    let cluster = Cluster::start(1).await;
    cluster.put("/services/web/1", "10.0.0.1:1").await;
    let (config, _) = etcd(at(cluster.urls()), EtcdLayout::Tree);
    let propagation = Propagation::start(config);
    propagation.until_live("web", &["10.0.0.1:1"]).await;
    let cluster = &cluster;
    let change = |number: u16| async move {
        cluster.put("/services/web/1", &format!("10.0.0.1:{}", 1000 + number)).await;
    };
    let expected = |number: u16| vec![format!("10.0.0.1:{}", 1000 + number)];
    propagation.measure("etcd", "web", 300, change, expected).await;
}
