//! The simulation over its sockets, by raw HTTP: what is asserted is what stands on the wire.

use core::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::cluster::State;
use super::*;

/// Longest wait for anything; reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(20);

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("not an object: {other}"),
    }
}

fn fast() -> SimConfig {
    let timing = Timing { staging: 5, starting: 5, healthy: 10, ready: 5, grace: 20, backoff: 20 };
    let web = object(json!({
        "id": "/shop/web", "cmd": "serve", "instances": 2, "networks": [{"mode": "container/bridge"}],
        "container": {"portMappings": [{"containerPort": 8080, "name": "http"}]},
        "healthChecks": [{"protocol": "HTTP", "path": "/health"}], "labels": {"HAPROXY_GROUP": "external"},
    }));
    let blog = object(json!({"id": "/blog", "cmd": "blog", "instances": 1}));
    let cluster = ClusterConfig { timing, ..ClusterConfig::default() };
    SimConfig { cluster, apps: vec![web, blog], heartbeat: Duration::from_millis(50), ..SimConfig::default() }
}

/// One request on its own connection; head and body as they came.
async fn raw(sim: &Sim, request: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(sim.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return (String::new(), answer);
    };
    let body = answer.split_off(end + 4);
    (String::from_utf8(answer).unwrap(), body)
}

fn text(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: sim\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// Status and JSON of one request. HTTP/1.0 spares the tests from undoing chunks.
async fn ask(sim: &Sim, method: &str, path: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = text(method, path, &body).replace("HTTP/1.1", "HTTP/1.0");
    let (head, body) = raw(sim, &request).await;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn is_settled(control: &Control) -> bool {
    let whole = |image: &cluster::Image| {
        image.tasks.len() == image.definition.instances as usize && image.tasks.iter().all(|t| t.is_serving())
    };
    !control.is_deploying() && control.apps().iter().all(whole)
}

/// An open event stream.
struct Events {
    stream: TcpStream,
    seen: Vec<u8>,
}

impl Events {
    async fn open(sim: &Sim, query: &str) -> Self {
        let mut stream = TcpStream::connect(sim.address()).await.unwrap();
        let request =
            format!("GET /v2/events{query} HTTP/1.1\r\nHost: sim\r\nAccept: text/event-stream\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Self { stream, seen: Vec::new() }
    }

    /// Reads on until the text has come (or the stream ends, when there is none); gives everything so far.
    async fn until(&mut self, text: Option<&str>) -> String {
        let reading = async {
            loop {
                let seen = String::from_utf8_lossy(&self.seen);
                if text.is_some_and(|text| seen.contains(text)) {
                    return;
                }
                if self.stream.read_buf(&mut self.seen).await.unwrap_or(0) == 0 {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap();
        String::from_utf8_lossy(&self.seen).into_owned()
    }
}

#[tokio::test]
async fn reads() {
    let sim = start(fast()).await.unwrap();
    let table: &[(&str, u16, &str, Value)] = &[
        ("/v2/info", 200, "/name", json!("marathon")),
        ("/v2/leader", 200, "/leader", json!(sim.address().to_string())),
        ("/v2/apps", 200, "/apps/1/id", json!("/shop/web")),
        ("/v2/apps", 200, "/apps/1/tasksRunning", json!(2)),
        ("/v2/apps", 200, "/apps/1/deployments", json!([])),
        ("/v2/apps", 200, "/apps/1/tasks", Value::Null),
        ("/v2/apps?embed=apps.tasks", 200, "/apps/1/tasks/1/state", json!("TASK_RUNNING")),
        ("/v2/apps?embed=apps.tasks", 200, "/apps/1/tasks/1/servicePorts", json!([])),
        ("/v2/apps?embed=app.tasks", 200, "/apps/1/tasks/0/healthCheckResults/0/alive", json!(true)),
        ("/v2/apps?id=blog", 200, "/apps/0/id", json!("/blog")),
        ("/v2/apps?id=blog", 200, "/apps/1", Value::Null),
        ("/v2/apps?cmd=serve", 200, "/apps/0/id", json!("/shop/web")),
        ("/v2/apps?label=HAPROXY_GROUP%3D%3Dexternal", 200, "/apps/0/id", json!("/shop/web")),
        ("/v2/apps?label=!HAPROXY_GROUP%20in%20(a", 400, "/apps", Value::Null),
        ("/v2/apps//shop/*", 200, "/apps/0/id", json!("/shop/web")),
        ("/v2/apps//shop/web", 200, "/app/tasks/0/appId", json!("/shop/web")),
        ("/v2/apps/shop/web", 200, "/app/upgradeStrategy/maximumOverCapacity", json!(1)),
        ("/v2/apps/shop/web", 200, "/app/networks/0/mode", json!("container/bridge")),
        ("/v2/apps/none", 404, "/message", json!("App '/none' does not exist")),
        ("/v2/apps/shop/web/tasks", 200, "/tasks/1/appId", json!("/shop/web")),
        ("/v2/tasks", 200, "/tasks/0/servicePorts/0", json!(10001)),
        ("/v2/tasks?status=staging", 200, "/tasks", json!([])),
        ("/v2/groups", 200, "/groups/0/apps/0/id", json!("/shop/web")),
        ("/v2/groups/shop", 200, "/apps/0/id", json!("/shop/web")),
        ("/v2/groups/none", 404, "/apps", Value::Null),
        ("/v2/deployments", 200, "", json!([])),
        ("/v2/pods/::status", 200, "", json!([])),
        ("/v2/queue", 200, "/queue", json!([])),
        ("/v2/events", 405, "/id", Value::Null),
        ("/v2/nothing", 404, "/id", Value::Null),
        ("/sim/stats", 200, "/tasks", json!(3)),
    ];
    for (path, status, pointer, expected) in table {
        let (got, body) = ask(&sim, "GET", path, Value::Null).await;
        assert_eq!(got, *status, "{path}: {body}");
        assert_eq!(body.pointer(pointer).unwrap_or(&Value::Null), expected, "{path} {pointer}: {body}");
    }
    let (head, body) = raw(&sim, &text("GET", "/ping", "")).await;
    assert!(head.contains("text/plain"), "{head}");
    assert_eq!(body, b"pong");
    sim.shutdown().await;
}

#[tokio::test]
async fn versions_of_an_app_are_kept() {
    let sim = start(fast()).await.unwrap();
    let control = sim.control();
    let first = ask(&sim, "GET", "/v2/apps/shop/web/versions", Value::Null).await.1["versions"][0].clone();
    let (status, _) = ask(&sim, "PUT", "/v2/apps/shop/web", json!({"labels": {"a": "b"}})).await;
    assert_eq!(status, 200);
    wait("deployed", || is_settled(&control)).await;
    let versions = ask(&sim, "GET", "/v2/apps/shop/web/versions", Value::Null).await.1;
    assert_eq!(versions["versions"].as_array().map(Vec::len), Some(2));
    assert_eq!(versions["versions"][1], first, "newest first");
    let path = format!("/v2/apps/shop/web/versions/{}", first.as_str().unwrap());
    let (status, old) = ask(&sim, "GET", &path, Value::Null).await;
    assert_eq!((status, &old["labels"]["HAPROXY_GROUP"]), (200, &json!("external")));
    let (status, _) = ask(&sim, "PUT", "/v2/apps/shop/web", json!({"version": first})).await;
    assert_eq!(status, 200);
    wait("rolled back", || is_settled(&control)).await;
    assert_eq!(control.app("/shop/web").unwrap().definition.labels["HAPROXY_GROUP"], "external");
    sim.shutdown().await;
}

#[tokio::test]
async fn changes_and_refusals() {
    let sim = start(fast()).await.unwrap();
    let control = sim.control();
    let (status, created) =
        ask(&sim, "POST", "/v2/apps", json!({"id": "/new", "cmd": "x", "instances": 2})).await;
    assert_eq!((status, &created["id"]), (201, &json!("/new")));
    assert_eq!(ask(&sim, "POST", "/v2/apps", json!({"id": "/new", "cmd": "x"})).await.0, 409);
    let (status, invalid) = ask(&sim, "POST", "/v2/apps", json!({"id": "/b", "instances": "many"})).await;
    assert_eq!((status, invalid["details"].is_array()), (422, true), "{invalid}");
    let request = text("POST", "/v2/apps", "{\"id\":");
    assert!(raw(&sim, &request).await.0.starts_with("HTTP/1.1 400 "));
    wait("started", || is_settled(&control)).await;

    let (status, done) = ask(&sim, "PUT", "/v2/apps//new", json!({"instances": 4})).await;
    assert_eq!((status, done["deploymentId"].is_string()), (200, true), "{done}");
    let (status, locked) = ask(&sim, "PUT", "/v2/apps//new", json!({"instances": 1})).await;
    assert_eq!((status, &locked["deployments"][0]["id"]), (409, &done["deploymentId"]), "{locked}");
    assert_eq!(ask(&sim, "PUT", "/v2/apps//new?force=true", json!({"instances": 1})).await.0, 200);
    wait("scaled", || is_settled(&control)).await;
    assert_eq!(control.app("/new").unwrap().tasks.len(), 1);

    let victim = control.app("/shop/web").unwrap().tasks[0].clone();
    let path = format!("/v2/apps/shop/web/tasks/{}", victim.id);
    let (status, killed) = ask(&sim, "DELETE", &path, Value::Null).await;
    assert_eq!((status, &killed["task"]["id"]), (200, &json!(&*victim.id)));
    assert_eq!(control.with(|cluster| cluster.task(&victim.id)).unwrap().state, State::Killing);
    let (status, _) = ask(&sim, "DELETE", "/v2/apps/shop/web/tasks?scale=true&wipe=true", Value::Null).await;
    assert_eq!(status, 400);
    wait("replaced", || is_settled(&control)).await;

    let ids: Vec<_> =
        control.app("/shop/web").unwrap().tasks.iter().map(|task| task.id.to_string()).collect();
    let (status, done) = ask(&sim, "POST", "/v2/tasks/delete?scale=true", json!({"ids": [ids[0]]})).await;
    assert_eq!((status, done["deploymentId"].is_string()), (200, true), "{done}");
    wait("shrunk", || is_settled(&control)).await;
    assert_eq!(control.app("/shop/web").unwrap().tasks[0].id.to_string(), ids[1]);

    let group = json!({"apps": [{"id": "one", "cmd": "x"}], "groups": [{"id": "deep", "apps": [{"id": "two", "cmd": "x"}]}]});
    assert_eq!(ask(&sim, "PUT", "/v2/groups/team", group).await.0, 200);
    wait("group started", || is_settled(&control)).await;
    assert!(control.app("/team/one").is_some() && control.app("/team/deep/two").is_some());
    assert_eq!(ask(&sim, "DELETE", "/v2/groups/team", Value::Null).await.0, 200);
    assert_eq!(ask(&sim, "DELETE", "/v2/apps/new", Value::Null).await.0, 200);
    assert_eq!(ask(&sim, "GET", "/v2/apps/new", Value::Null).await.0, 404);
    sim.shutdown().await;
}

#[tokio::test]
async fn pods_show_their_instances() {
    let sim = start(fast()).await.unwrap();
    let control = sim.control();
    let pod = json!({"id": "/cart", "scaling": {"kind": "fixed", "instances": 1}, "networks": [{"mode": "container", "name": "dcos"}],
        "containers": [{"name": "app", "healthCheck": {"http": {"endpoint": "http"}},
            "endpoints": [{"name": "http", "containerPort": 8080, "hostPort": 0, "protocol": ["tcp"]}]}]});
    assert_eq!(ask(&sim, "POST", "/v2/pods", pod).await.0, 201);
    wait("pod up", || !control.is_deploying()).await;
    let (_, all) = ask(&sim, "GET", "/v2/pods/::status", Value::Null).await;
    assert_eq!(all[0]["status"], "STABLE", "{all}");
    let instance = &all[0]["instances"][0];
    assert_eq!(instance["networks"][0]["name"], "dcos");
    assert_eq!(instance["containers"][0]["endpoints"][0]["healthy"], true);
    assert!(instance["containers"][0]["endpoints"][0]["allocatedHostPort"].is_u64());
    let reference = instance["specReference"].as_str().unwrap();
    let (status, spec) = ask(&sim, "GET", reference, Value::Null).await;
    assert_eq!((status, &spec["containers"][0]["endpoints"][0]["containerPort"]), (200, &json!(8080)));
    let (status, _) = ask(&sim, "DELETE", "/v2/pods/cart::instances", json!([instance["id"]])).await;
    assert_eq!(status, 200);
    assert_eq!(ask(&sim, "DELETE", "/v2/pods/cart", Value::Null).await.0, 202);
    assert_eq!(ask(&sim, "GET", "/v2/pods/cart::status", Value::Null).await.0, 404);
    sim.shutdown().await;
}

#[tokio::test]
async fn the_event_stream_is_in_its_form() {
    let sim = start(fast()).await.unwrap();
    let mut events = Events::open(&sim, "").await;
    events.until(Some("event_stream_attached\",")).await;
    let task = sim.control().app("/shop/web").unwrap().tasks[0].clone();
    assert!(sim.control().kill(&task.id).is_some());
    let seen = events.until(Some("health_status_changed_event")).await;
    let (head, stream) = seen.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    for line in ["Content-Type: text/event-stream;charset=UTF-8", "Connection: close"] {
        assert!(head.contains(line), "{head}");
    }
    assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
    assert!(!stream.replace("\r\n", "").contains(['\r', '\n']), "only CRLF ends lines");
    assert!(stream.starts_with("event: event_stream_attached\r\ndata: {"), "{stream}");
    events.until(Some("}\r\n\r\n\r\n\r\n")).await;
    let mut filtered = Events::open(&sim, "?event_type=deployment_success&plan-format=light").await;
    wait("subscribed", || sim.control().subscribers() == 2).await;
    sim.control().scale("/blog", 2).unwrap();
    let seen = filtered.until(Some("deployment_success\",")).await;
    let kinds: Vec<_> = seen.split("event: ").skip(1).filter_map(|frame| frame.split('\r').next()).collect();
    assert_eq!(kinds, ["deployment_success"]);
    sim.shutdown().await;
}

#[tokio::test]
async fn a_slow_reader_is_cut_off() {
    let sim = start(fast()).await.unwrap();
    let mut events = Events::open(&sim, "").await;
    events.until(Some("event_stream_attached")).await;
    let padding = object(json!({"message": "x".repeat(8000)}));
    for _ in 0..4 * scenario::OUTSTANDING {
        let padding = padding.clone();
        sim.control().with(|cluster| cluster.emit_raw("framework_message_event".to_owned(), padding));
    }
    wait("cut off", || sim.control().subscribers() == 0).await;
    sim.shutdown().await;
}

#[tokio::test]
async fn faults() {
    let sim = start(fast()).await.unwrap();
    let control = sim.control();
    let get = text("GET", "/v2/apps?embed=apps.tasks", "");
    control.fault(Fault::Status(500), Scope::All);
    assert!(raw(&sim, &get).await.0.starts_with("HTTP/1.1 500 "));
    control.fault(Fault::Truncate, Scope::All);
    let (head, body) = raw(&sim, &get).await;
    assert!(
        head.contains(" 200 ")
            && body.starts_with(b"{\"apps\":[")
            && serde_json::from_slice::<Value>(&body).is_err()
    );
    control.fault(Fault::Cut, Scope::All);
    let (head, body) = raw(&sim, &get).await;
    let length: usize =
        head.split("Content-Length: ").nth(1).unwrap().split('\r').next().unwrap().parse().unwrap();
    assert!(body.len() < length);
    control.fault(Fault::Empty, Scope::All);
    assert_eq!(raw(&sim, &get).await.1, b"");
    control.fault(Fault::Garbage(100_000), Scope::List);
    assert_eq!(raw(&sim, &get).await.1.len(), 100_000);
    assert_eq!(ask(&sim, "GET", "/v2/apps/blog", Value::Null).await.0, 200, "only lists are spoiled");
    control.fault(Fault::NoApps, Scope::All);
    assert_eq!(raw(&sim, &get).await.1, b"{\"apps\":[]}");
    control.fault(Fault::Close, Scope::All);
    assert_eq!(raw(&sim, &get).await, (String::new(), Vec::new()));
    control.fault(Fault::Hang, Scope::All);
    let hung = tokio::time::timeout(Duration::from_millis(100), raw(&sim, &get)).await;
    assert!(hung.is_err(), "answered although it hangs: {hung:?}");
    assert_eq!(ask(&sim, "POST", "/sim/clear", Value::Null).await.0, 200);
    assert_eq!(ask(&sim, "GET", "/v2/apps", Value::Null).await.0, 200);
    sim.shutdown().await;
}

#[tokio::test]
async fn a_lost_leader_ends_streams_and_requests() {
    let sim = start(fast()).await.unwrap();
    let other = start(fast()).await.unwrap();
    let mut events = Events::open(&sim, "").await;
    events.until(Some("event_stream_attached")).await;
    assert_eq!(ask(&sim, "POST", "/sim/leader?seconds=0.2", Value::Null).await.0, 200);
    events.until(None).await;
    assert_eq!(ask(&sim, "GET", "/v2/apps", Value::Null).await.0, 503);
    assert_eq!(ask(&sim, "GET", "/v2/leader", Value::Null).await.0, 404);
    tokio::time::timeout(PATIENCE, async {
        while ask(&sim, "GET", "/v2/apps", Value::Null).await.0 != 200 {}
    })
    .await
    .unwrap();
    sim.control().follow(other.url());
    let stream =
        "GET /v2/events?a=b HTTP/1.1\r\nHost: sim\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n";
    let (head, _) = raw(&sim, stream).await;
    assert!(head.starts_with("HTTP/1.1 302 "), "{head}");
    assert!(head.contains(&format!("location: {}/v2/events?a=b\r\n", other.url())), "{head}");
    let before = other.control().asked(Asked::Apps);
    let (head, body) = raw(&sim, &text("GET", "/v2/apps", "")).await;
    assert!(head.contains("x-marathon-leader: "), "{head}");
    assert!(serde_json::from_slice::<Value>(&body).is_ok());
    assert_eq!(other.control().asked(Asked::Apps), before + 1);
    sim.shutdown().await;
    other.shutdown().await;
}

#[tokio::test]
async fn streams_tear_and_hang() {
    let sim = start(fast()).await.unwrap();
    let control = sim.control();
    let mut events = Events::open(&sim, "").await;
    events.until(Some("event_stream_attached")).await;
    assert_eq!(ask(&sim, "POST", "/sim/events?do=tear", Value::Null).await.0, 200);
    let seen = events.until(None).await;
    assert!(seen.contains("TASK_KILLED") && !seen.ends_with("\r\n"), "{seen}");
    control.stream(Stream::Hung);
    let mut events = Events::open(&sim, "").await;
    let head = events.until(Some("\r\n\r\n")).await.len();
    let read = tokio::time::timeout(Duration::from_millis(200), events.until(Some("event: "))).await;
    assert!(read.is_err(), "a hung stream says nothing, heartbeats included");
    assert_eq!(events.seen.len(), head);
    sim.shutdown().await;
}

#[tokio::test]
async fn credentials_are_asked_for() {
    let config = SimConfig { credentials: Some(("ann".to_owned(), "secret".to_owned())), ..fast() };
    let sim = start(config).await.unwrap();
    let get = text("GET", "/v2/apps", "");
    let (head, body) = raw(&sim, &get).await;
    assert!(head.starts_with("HTTP/1.1 401 ") && head.contains("www-authenticate: Basic"), "{head}");
    assert_eq!(body, b"{\"message\":\"Invalid username or password.\"}");
    let right = get.replace("Host: sim", "Host: sim\r\nAuthorization: Basic YW5uOnNlY3JldA==");
    assert!(raw(&sim, &right).await.0.starts_with("HTTP/1.1 200 "));
    sim.shutdown().await;
}

#[tokio::test]
async fn requests_are_counted_by_kind() {
    let sim = start(fast()).await.unwrap();
    for path in ["/v2/apps", "/v2/apps/blog", "/v2/apps//shop/web", "/v2/tasks", "/v2/pods/::status", "/ping"]
    {
        ask(&sim, "GET", path, Value::Null).await;
    }
    ask(&sim, "PUT", "/v2/apps/blog", json!({"instances": 2})).await;
    let counts = ask(&sim, "GET", "/sim/stats", Value::Null).await.1["requests"].clone();
    let expected = json!({"apps": 1, "app": 2, "tasks": 1, "pods": 1, "groups": 0, "events": 0, "changes": 1, "other": 1});
    assert_eq!(counts, expected);
    sim.shutdown().await;
}

#[tokio::test]
async fn the_rate_makes_changes_and_the_cluster_recovers() {
    let sim = start(fast()).await.unwrap();
    let control = sim.control();
    control.rate(500.0);
    wait("changes", || control.world.changes_made() > 50).await;
    control.rate(0.0);
    for image in control.apps() {
        for task in image.tasks.iter() {
            let _ = control.set_health(&task.id, true);
        }
    }
    wait("recovered", || is_settled(&control)).await;
    sim.shutdown().await;
}

/// A simulation of one app with real backends, whose staging lasts until told otherwise.
async fn with_backends(network: &str, labels: Value) -> Sim {
    let timing = Timing { staging: 300, starting: 5, healthy: 10, ready: 5, grace: 200, backoff: 20 };
    let cluster =
        ClusterConfig { timing, agents_from: Ipv4Addr::new(127, 1, 0, 1), ..ClusterConfig::default() };
    let mut app = json!({"id": "/app", "cmd": "x", "instances": 1, "networks": [{"mode": network}], "labels": labels,
        "healthChecks": [{"protocol": "MESOS_HTTP"}]});
    if network != "host" {
        app["container"] = json!({"portMappings": [{"containerPort": 18_080}]});
    }
    start(SimConfig { cluster, apps: vec![object(app)], backends: true, ..SimConfig::default() })
        .await
        .unwrap()
}

fn place_of(task: &cluster::Task) -> (String, u16) {
    match (task.ports.first(), task.address) {
        (Some(port), _) => (task.agent.host.clone(), *port),
        (None, Some(address)) => (address.to_string(), 18_080),
        (None, None) => panic!("a task without any address"),
    }
}

/// Sends a request and reads until the end of the answer's connection.
async fn get(place: &(String, u16), path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((place.0.as_str(), place.1)).await?;
    stream.write_all(text("GET", path, "").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backends_live_and_die_with_their_tasks() {
    for network in ["host", "container/bridge", "container"] {
        let sim = with_backends(network, json!({})).await;
        let control = sim.control();
        let task = control.app("/app").unwrap().tasks[0].clone();
        let place = place_of(&task);
        let answer = get(&place, "/any").await.unwrap();
        assert!(answer.contains(&format!("\"task\":\"{}\"", task.id)), "{answer}");
        assert!(get(&place, "/health").await.unwrap().starts_with("HTTP/1.1 200 "));
        assert!(control.set_health(&task.id, false));
        assert!(get(&place, "/health").await.unwrap().starts_with("HTTP/1.1 503 "));
        assert!(control.set_health(&task.id, true));
        assert_eq!(get(&place, "/bytes?n=100000").await.unwrap().matches('\0').count(), 100_000);

        // Told to stop, it serves on through the grace, and what is open then is finished.
        assert!(control.kill(&task.id).is_some());
        assert!(get(&place, "/").await.unwrap().starts_with("HTTP/1.1 200 "), "within the grace");
        let mut owner = tokio::task::JoinSet::new();
        owner.spawn({
            let place = place.clone();
            async move { get(&place, "/slow?ms=600").await }
        });
        wait("gone", || control.with(|cluster| cluster.task(&task.id)).is_none()).await;
        // Its successor refuses until it runs.
        wait("successor", || !control.app("/app").unwrap().tasks.is_empty()).await;
        let next = control.app("/app").unwrap().tasks[0].clone();
        assert_eq!(next.state, State::Staging);
        assert!(get(&place_of(&next), "/").await.is_err(), "bound, but not listening yet");
        let open = owner.join_next().await.unwrap().unwrap();
        assert!(open.unwrap().starts_with("HTTP/1.1 200 "), "an open request finishes");
        wait_refused(&place).await;

        wait("running", || is_settled(&control)).await;
        assert!(get(&place_of(&next), "/").await.unwrap().contains(&*next.id));
        assert!(control.crash(&next.id));
        wait_refused(&place_of(&next)).await;
        sim.shutdown().await;
    }
}

async fn wait_refused(place: &(String, u16)) {
    let refused = async { while TcpStream::connect((place.0.as_str(), place.1)).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, refused).await.unwrap();
}

#[tokio::test]
async fn tcp_backends_echo() {
    let sim = with_backends("host", json!({"sim.backend": "tcp"})).await;
    let place = place_of(&sim.control().app("/app").unwrap().tasks[0]);
    let mut stream = TcpStream::connect((place.0.as_str(), place.1)).await.unwrap();
    stream.write_all(b"ahoy").await.unwrap();
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"ahoy");
    drop(stream);
    sim.shutdown().await;
}

#[tokio::test]
async fn tasks_on_paper_among_real_ones() {
    let sim = with_backends("host", json!({"sim.backend": "none"})).await;
    let place = place_of(&sim.control().app("/app").unwrap().tasks[0]);
    let refused = TcpStream::connect((place.0.as_str(), place.1)).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "nobody listens at {place:?}");
    sim.shutdown().await;
}

#[tokio::test]
async fn scenarios_start_and_step() {
    let scenario = Scenario::parse(
        "[[app]]\nid = '/a'\ntasks = 2\n[[step]]\nat = '20ms'\ndo = 'scale'\napp = '/a'\ninstances = 3\n\
         [[step]]\nat = '30ms'\ndo = 'fault'\nkind = 'status'\ncode = 500",
    )
    .unwrap();
    let sim = start(scenario.into()).await.unwrap();
    wait("scaled", || sim.control().app("/a").unwrap().definition.instances == 3).await;
    let faulty = async { while ask(&sim, "GET", "/v2/apps", Value::Null).await.0 != 500 {} };
    tokio::time::timeout(PATIENCE, faulty).await.unwrap();
    sim.shutdown().await;
}
