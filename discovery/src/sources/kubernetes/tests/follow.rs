//! The source against the fake: lists, watches, pages, versions that are gone, refusals, silence.

use std::time::Duration;

use portolan_table::InstanceState;
use serde_json::json;

use super::super::Kubernetes;
use super::fake::{Server, node, service, slice, web_ports};
use crate::config::{ApiConfig, KubernetesAccess, KubernetesConfig, Reach, SourceConfig, SourceKind};
use crate::source::SourceError;
use crate::sources::propagation::Propagation;
use crate::sources::told::{Model, Running, config};

fn written(server: &Server) -> KubernetesConfig {
    let api = ApiConfig { urls: vec![server.http.url()], ..ApiConfig::default() };
    let access = KubernetesAccess::Api(Box::new(api));
    KubernetesConfig { access, namespaces: Vec::new(), selector: None, reach: Reach::Container }
}

fn source_config(kubernetes: &KubernetesConfig) -> SourceConfig {
    config(SourceKind::Kubernetes(kubernetes.clone()), Duration::from_secs(300), Duration::from_secs(2))
}

fn source(kubernetes: &KubernetesConfig) -> Running {
    let mut source = Kubernetes::new(&source_config(kubernetes), kubernetes);
    source.silence = Duration::from_millis(400);
    Running::start(Box::new(source))
}

async fn shop() -> Server {
    let server = Server::start().await;
    server.put("nodes", node("n1", "192.0.2.1", "r1"));
    server.put("services", service("shop", "web", &web_ports()));
    server.put(
        "endpointslices",
        slice("shop", "web-1", "web", &[("a", "10.1.0.1", true), ("b", "10.1.0.2", true)]),
    );
    server
}

#[tokio::test]
async fn services_follow_their_slices() {
    let server = shop().await;
    let mut running = source(&written(&server));
    running.synced().await;
    assert_eq!(running.model.endpoints("shop/web"), ["10.1.0.1:8080", "10.1.0.2:8080"]);
    let (spec, instances) = &running.model.services["shop/web"];
    assert_eq!((spec.name.as_str(), spec.ports[0].number), ("web.shop", 80));
    let a = &instances["uid-a"];
    assert_eq!(
        (a.node.as_deref(), a.zone.as_deref(), a.region.as_deref()),
        (Some("n1"), Some("z1"), Some("r1"))
    );
    // Not ready is out; a second slice, of the other family, adds to the same pods.
    server.put(
        "endpointslices",
        slice("shop", "web-1", "web", &[("a", "10.1.0.1", true), ("b", "10.1.0.2", false)]),
    );
    let b = |model: &Model| model.state("shop/web", "uid-b");
    running.until("not ready", |model| b(model) == Some(InstanceState::Starting)).await;
    server.put("endpointslices", slice("shop", "web-6", "web", &[("a", "fd00::1", true)]));
    running.until("both families", |model| model.endpoints("shop/web").len() == 2).await;
    assert_eq!(running.model.services["shop/web"].1.len(), 2);
    server.delete("endpointslices", "shop", "web-6");
    running.until("one family", |model| model.endpoints("shop/web") == ["10.1.0.1:8080"]).await;
    // A slice may come before its service, and a service go before its slices.
    server.put("endpointslices", slice("shop", "api-1", "api", &[("c", "10.1.0.3", true)]));
    server.put("services", service("shop", "api", &web_ports()));
    running.until("a new service", |model| model.endpoints("shop/api") == ["10.1.0.3:8080"]).await;
    server.delete("services", "shop", "api");
    running.until("gone", |model| !model.services.contains_key("shop/api")).await;
    server.put("nodes", node("n1", "192.0.2.1", "r2"));
    let region = |model: &Model| model.services["shop/web"].1["uid-a"].region.as_deref() == Some("r2");
    running.until("another region", region).await;
    server.put(
        "services",
        service(
            "shop",
            "ext",
            &json!({"type": "ExternalName", "externalName": "localhost",
        "ports": [{"name": "sql", "port": 5432}]}),
        ),
    );
    running.until("a name", |model| model.endpoints("shop/ext").contains(&"127.0.0.1:5432".to_owned())).await;
    assert!(running.model.errors.is_empty() && running.model.lists == 1, "{:?}", running.model.errors);
}

#[tokio::test]
async fn a_version_that_is_gone_lists_again_and_one_that_is_not_goes_on() {
    let server = shop().await;
    let mut running = source(&written(&server));
    running.synced().await;
    server.bookmark();
    server.end_watches();
    server.put("endpointslices", slice("shop", "web-1", "web", &[("a", "10.1.0.7", true)]));
    running.until("what came in between", |model| model.endpoints("shop/web") == ["10.1.0.7:8080"]).await;
    assert_eq!(server.lists("endpointslices"), 1, "watched on from where it was");
    // Two things happen that no watch will tell of.
    server.end_watches();
    {
        let mut state = server.state();
        state.mute = true;
    }
    server.put("endpointslices", slice("shop", "web-1", "web", &[("a", "10.1.0.8", true)]));
    server.put("services", service("shop", "new", &web_ports()));
    server.compact();
    server.state().mute = false;
    server.end_watches();
    running.until("the list", |model| model.endpoints("shop/web") == ["10.1.0.8:8080"]).await;
    running.until("the list", |model| model.services.contains_key("shop/new")).await;
    assert!(server.lists("endpointslices") > 1 && running.model.errors.is_empty());
}

#[tokio::test]
async fn a_silent_watch_is_opened_anew() {
    let server = shop().await;
    let mut running = source(&written(&server));
    running.synced().await;
    server.state().mute = true;
    server.put("endpointslices", slice("shop", "web-1", "web", &[("a", "10.1.0.9", true)]));
    server.state().mute = false;
    running
        .until("what the watch kept silent", |model| model.endpoints("shop/web") == ["10.1.0.9:8080"])
        .await;
    assert_eq!((server.lists("endpointslices"), running.model.errors.len()), (1, 0));
}

#[tokio::test]
async fn pages_are_read_to_their_end_even_if_one_is_gone() {
    let server = Server::start().await;
    for number in 0..1200 {
        server.put("services", service("shop", &format!("s{number}"), &web_ports()));
    }
    server.state().page_is_gone = true;
    let mut running = source(&written(&server));
    running.synced().await;
    assert_eq!((running.model.services.len(), server.lists("services")), (1200, 2));
    assert!(running.model.errors.is_empty());
}

#[tokio::test]
async fn namespaces_are_read_by_themselves_and_nodes_need_not_be() {
    let server = shop().await;
    server.put("services", service("other", "web", &web_ports()));
    server.put("services", service("blog", "web", &web_ports()));
    server.state().forbidden.insert("nodes".to_owned());
    let namespaces = vec!["shop".to_owned(), "blog".to_owned()];
    let mut running = source(&KubernetesConfig {
        namespaces,
        selector: Some("app in (web)".to_owned()),
        ..written(&server)
    });
    running.synced().await;
    let keys: Vec<&str> = running.model.services.keys().map(String::as_str).collect();
    assert_eq!(keys, ["blog/web", "shop/web"]);
    let (place, message) = &running.model.problems[0];
    assert!(
        place == "nodes" && message.contains("nodes is forbidden: User \"portolan\" cannot list"),
        "{message}"
    );
    server.delete("services", "blog", "web");
    running.until("one", |model| model.services.len() == 1).await;
    let asked = server.http.asked();
    let selected = asked.iter().find(|asked| asked.path().ends_with("namespaces/shop/services")).unwrap();
    assert_eq!(selected.parameter("labelSelector"), Some("app%20in%20%28web%29"));
}

#[tokio::test]
async fn refusals_say_what_is_missing_and_take_nothing_away() {
    let server = shop().await;
    let mut running = source(&written(&server));
    running.synced().await;
    server.state().forbidden.insert("endpointslices".to_owned());
    server.end_watches();
    running.until("a refusal", |model| !model.errors.is_empty()).await;
    let error = &running.model.errors[0];
    assert!(matches!(error, SourceError::Status { status: 403, .. }), "{error}");
    assert!(error.to_string().contains("endpointslices is forbidden"), "{error}");
    assert_eq!(running.model.endpoints("shop/web").len(), 2);
    server.state().forbidden.clear();
    let lists = running.model.lists;
    running.until("let in again", |model| model.lists > lists).await;
}

#[tokio::test]
async fn a_kubeconfig_leads_in() {
    let server = shop().await;
    server.state().token = Some("s3cret".to_owned());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config");
    let write = |token: &str| {
        let text = format!(
            "current-context: x\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: \"{}\"}}}}]\nusers: [{{name: u, user: {{token: {token}}}}}]\n",
            server.http.url()
        );
        std::fs::write(&file, text).unwrap();
    };
    write("wrong");
    let access = KubernetesAccess::Kubeconfig(file.clone(), None);
    let mut running = source(&KubernetesConfig { access, ..written(&server) });
    running.until("a refusal", |model| !model.errors.is_empty()).await;
    assert!(matches!(running.model.errors[0], SourceError::Status { status: 401, .. }));
    write("s3cret");
    running.until("let in", |model| model.endpoints("shop/web").len() == 2).await;
}

#[tokio::test]
async fn pods_are_reached_at_their_nodes_where_that_is_wanted() {
    let server = shop().await;
    let mut running = source(&KubernetesConfig { reach: Reach::Published, ..written(&server) });
    running.synced().await;
    assert_eq!(running.model.endpoints("shop/web"), ["192.0.2.1:30080", "192.0.2.1:30080"]);
}

#[tokio::test]
async fn an_object_that_cannot_be_read_costs_itself() {
    let server = shop().await;
    let mut running = source(&written(&server));
    running.synced().await;
    let mut broken = service("shop", "web", &web_ports());
    broken["spec"]["ports"][0]["port"] = json!("eighty");
    server.put("services", broken);
    running.until("a problem", |model| !model.problems.is_empty()).await;
    assert_eq!(running.model.problems[0].0, "shop/web");
    server.put("endpointslices", slice("shop", "web-1", "web", &[("a", "10.1.0.9", true)]));
    running.until("the rest goes on", |model| model.endpoints("shop/web") == ["10.1.0.9:8080"]).await;
    assert!(running.model.errors.is_empty());
}

#[tokio::test]
async fn a_change_reaches_the_table_at_once() {
    let server = shop().await;
    server.put("endpointslices", slice("shop", "web-1", "web", &[("a", "10.1.0.1", true)]));
    let propagation = Propagation::start(source_config(&written(&server)));
    propagation.until_live("web.shop", &["10.1.0.1:8080"]).await;
    let server = &server;
    let place = |number: u16| format!("10.1.{}.{}", 1 + number / 200, number % 200);
    let change = |number: u16| async move {
        server.put("endpointslices", slice("shop", "web-1", "web", &[("a", &place(number), true)]));
    };
    let expected = |number: u16| vec![format!("{}:8080", place(number))];
    propagation.measure("kubernetes (fake)", "web.shop", 300, change, expected).await;
}
