//! The sources against a real engine, which the tests start.

use std::time::Duration;

use portolan_table::{Health, InstanceState};

use super::super::{Docker, Swarm};
use super::server::Dockerd;
use crate::config::{DockerConfig, Reach, SourceConfig, SourceKind, SwarmConfig};
use crate::sources::program::real_wanted;
use crate::sources::propagation::Propagation;
use crate::sources::told::{Model, Running, config};

const REFRESH: Duration = Duration::from_secs(300);
const TIMEOUT: Duration = Duration::from_secs(10);

fn docker(dockerd: &Dockerd, reach: Reach) -> (SourceConfig, DockerConfig) {
    let docker = DockerConfig { api: dockerd.api(), reach };
    (config(SourceKind::Docker(docker.clone()), REFRESH, TIMEOUT), docker)
}

fn source(dockerd: &Dockerd, reach: Reach) -> Running {
    let (config, docker) = docker(dockerd, reach);
    Running::start(Box::new(Docker::new(&config, &docker)))
}

fn swarm(dockerd: &Dockerd, reach: Reach) -> (SourceConfig, SwarmConfig) {
    let swarm = SwarmConfig { api: dockerd.api(), reach, poll: Duration::from_secs(5) };
    (config(SourceKind::Swarm(swarm.clone()), REFRESH, TIMEOUT), swarm)
}

#[tokio::test]
async fn containers_of_a_laptop() {
    if !real_wanted() {
        return;
    }
    let mut dockerd = Dockerd::start().await;
    let web = dockerd.compose("shop", "web", &["-p", "127.0.0.1:18080:8080"]);
    dockerd.run(&["-l", "unrelated=1"]);
    let mut running = source(&dockerd, Reach::Container);
    running.synced().await;
    // A Compose project needs nothing: the port is the image's.
    let place = format!("{}:8080", dockerd.address(&web));
    assert_eq!(running.model.endpoints("web.shop"), [&*place]);
    assert_eq!(running.model.endpoints("web"), [&*place], "alone as well");
    assert_eq!(running.model.services.len(), 2, "a container without labels is left out");
    // A second project with a service of this name: only the full names say which is meant.
    let other = dockerd.compose("blog", "web", &[]);
    running
        .until("the short name to go", |model| {
            !model.services.contains_key("web") && model.endpoints("web.blog").len() == 1
        })
        .await;
    dockerd.docker(&["rm", "-f", &other]);
    running
        .until("the short name to be back", |model| {
            model.endpoints("web") == [&*place] && !model.services.contains_key("web.blog")
        })
        .await;
    // A container that is told to stop gets nothing new from then on, not only when it has gone.
    let state = |model: &Model| model.state("web", &web);
    let stopping = dockerd.docker(&["kill", "-s", "HUP", &web]);
    assert_eq!(stopping, web);
    dockerd.docker(&["kill", "-s", "TERM", &web]);
    running.until("the way out", |model| state(model) == Some(InstanceState::Killing)).await;
    dockerd.docker(&["kill", &web]);
    running.until("gone", |model| model.services.is_empty()).await;
    dockerd.docker(&["start", &web]);
    running.until("back", |model| state(model) == Some(InstanceState::Running)).await;
    dockerd.docker(&["pause", &web]);
    running.until("paused", |model| state(model) == Some(InstanceState::Unreachable)).await;
    dockerd.docker(&["unpause", &web]);
    running.until("running", |model| state(model) == Some(InstanceState::Running)).await;
    // By label, with named ports and on the network that is asked for.
    dockerd.docker(&["network", "create", "front"]);
    let api = dockerd.docker(&[
        "create",
        "-l",
        "portolan.service=api.shop",
        "-l",
        "portolan.port=http=80,admin=81",
        "-l",
        "portolan.network=front",
        "-l",
        "team=a",
        super::server::IMAGE,
    ]);
    dockerd.docker(&["network", "connect", "front", &api]);
    dockerd.docker(&["start", &api]);
    let front = dockerd.docker(&["inspect", "-f", "{{.NetworkSettings.Networks.front.IPAddress}}", &api]);
    let expected = [format!("{front}:80"), format!("{front}:81")];
    running.until("the label's service", |model| model.endpoints("api.shop") == expected).await;
    let (spec, _) = &running.model.services["api.shop"];
    assert_eq!(spec.ports[1].name.as_deref(), Some("admin"));
    assert_eq!(spec.labels.get("team"), Some("a"));
    assert!(running.model.errors.is_empty(), "{:?}", running.model.errors);
    // The engine goes: everything stays.
    dockerd.kill();
    running.until("an error", |model| !model.errors.is_empty()).await;
    assert_eq!(running.model.services.len(), 3);
}

#[tokio::test]
async fn health_is_the_engines_and_published_ports_are_on_the_host() {
    if !real_wanted() {
        return;
    }
    let dockerd = Dockerd::start().await;
    let id = dockerd.run(&[
        "-l",
        "portolan.service=web",
        "-p",
        "127.0.0.1:18081:8080",
        "-p",
        "18082:9090",
        "--health-cmd",
        "/bin/test -f /ok",
        "--health-interval",
        "200ms",
        "--health-retries",
        "1",
        "--health-start-period",
        "0s",
    ]);
    let mut running = source(&dockerd, Reach::Published);
    running.synced().await;
    assert!(running.model.services["web"].0.checks_defined);
    assert_eq!(running.model.endpoints("web"), ["127.0.0.1:18081", "127.0.0.1:18082"]);
    let health = |health| {
        let id = id.clone();
        move |model: &Model| model.health("web", &id) == Some(health)
    };
    running.until("unhealthy", health(Health::Unhealthy)).await;
    dockerd.docker(&["exec", &id, "/bin/touch", "/ok"]);
    running.until("healthy", health(Health::Healthy)).await;
    dockerd.docker(&["exec", &id, "/bin/rm", "/ok"]);
    running.until("unhealthy again", health(Health::Unhealthy)).await;
    // Nonsense in a label costs that container.
    let broken = dockerd.run(&["-l", "portolan.service=other", "-l", "portolan.port=many"]);
    running.until("a problem", |model| !model.problems.is_empty()).await;
    assert!(running.model.problems[0].0.starts_with(&format!("container {}", &broken[..12])));
    assert!(running.model.errors.is_empty() && running.model.services.len() == 1);
}

#[tokio::test]
async fn services_of_a_swarm() {
    if !real_wanted() {
        return;
    }
    let dockerd = Dockerd::start().await;
    dockerd.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1"]);
    dockerd.docker(&["network", "create", "-d", "overlay", "--attachable", "ov1"]);
    let create = |arguments: &[&str]| {
        dockerd.docker(&[&["service", "create", "--detach"], arguments, &[super::server::IMAGE]].concat())
    };
    let web =
        create(&["--name", "web", "--replicas", "2", "--network", "ov1", "-l", "portolan.port=http=8080"]);
    let host = create(&["--name", "wh", "--publish", "mode=host,published=18091,target=8080"]);
    let (config, swarm) = swarm(&dockerd, Reach::Container);
    let mut running = Running::start(Box::new(Swarm::new(&config, &swarm)));
    let live = |model: &Model, service: &str| model.endpoints(service).len();
    running.until("both services", |model| live(model, &web) == 2 && live(model, &host) == 1).await;
    let (spec, instances) = &running.model.services[&web];
    assert_eq!((spec.name.as_str(), spec.ports[0].name.as_deref()), ("web", Some("http")));
    let addresses: Vec<String> = instances.values().map(|i| i.addresses[0].ip.to_string()).collect();
    assert!(addresses.iter().all(|ip| ip.starts_with("10.0.1.")), "{addresses:?}: the tasks' own");
    assert_eq!(running.model.endpoints(&host), ["127.0.0.1:18091"], "published on its node");
    // More, fewer, another name, a task that is killed and replaced, none at all.
    dockerd.docker(&["service", "scale", "--detach", "web=3"]);
    running.until("three", |model| live(model, &web) == 3).await;
    dockerd.docker(&["service", "scale", "--detach", "web=1"]);
    running.until("one", |model| live(model, &web) == 1).await;
    dockerd.docker(&["service", "update", "--detach", "--label-add", "portolan.service=shop.web", &web]);
    running.until("its name", |model| model.services[&web].0.name.as_str() == "shop.web").await;
    let before: Vec<String> = running.model.services[&web].1.keys().cloned().collect();
    // Others of this service may still be on their way out.
    let is_running = |id: &&String| running.model.state(&web, id) == Some(InstanceState::Running);
    let task = before.iter().find(is_running).unwrap();
    let label = format!("label=com.docker.swarm.task.id={task}");
    let container = dockerd.docker(&["ps", "-q", "--filter", &label]);
    dockerd.docker(&["kill", &container]);
    running
        .until("a task in place of the killed", |model| {
            live(model, &web) == 1 && !model.services[&web].1.contains_key(task)
        })
        .await;
    let node = dockerd.docker(&["node", "ls", "-q"]);
    dockerd.docker(&["node", "update", "--availability", "drain", &node]);
    running.until("nothing on a drained node", |model| live(model, &web) == 0).await;
    dockerd.docker(&["node", "update", "--availability", "active", &node]);
    running.until("back", |model| live(model, &web) == 1).await;
    dockerd.docker(&["service", "rm", "web"]);
    running.until("gone", |model| !model.services.contains_key(&web)).await;
    assert!(running.model.errors.is_empty(), "{:?}", running.model.errors);
}

#[tokio::test]
async fn an_engine_that_is_no_manager_says_so() {
    if !real_wanted() {
        return;
    }
    let dockerd = Dockerd::start().await;
    let (config, swarm) = swarm(&dockerd, Reach::Container);
    let mut running = Running::start(Box::new(Swarm::new(&config, &swarm)));
    running.until("a refusal", |model| !model.errors.is_empty()).await;
    let said = running.model.errors[0].to_string();
    assert!(said.ends_with("answered 503: not a manager of a swarm; name managers in `urls`"), "{said}");
}

#[tokio::test]
async fn a_change_reaches_the_table_at_once() {
    if !real_wanted() {
        return;
    }
    let dockerd = Dockerd::start().await;
    let id = dockerd.run(&["-l", "portolan.service=web", "-l", "portolan.port=80"]);
    let place = format!("{}:80", dockerd.address(&id));
    let propagation = Propagation::start(docker(&dockerd, Reach::Container).0);
    propagation.until_live("web", &[&place]).await;
    let (dockerd, id) = (&dockerd, &id);
    let change = |number: u16| async move { dockerd.pause(id, number.is_multiple_of(2)).await };
    let expected = |number: u16| if number.is_multiple_of(2) { Vec::new() } else { vec![place.clone()] };
    propagation.measure("docker", "web", 200, change, expected).await;
}

#[tokio::test]
async fn a_change_of_a_swarm_reaches_the_table_at_once() {
    if !real_wanted() {
        return;
    }
    let dockerd = Dockerd::start().await;
    dockerd.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1"]);
    dockerd.docker(&["network", "create", "-d", "overlay", "ov1"]);
    let create =
        ["service", "create", "--detach", "--name", "web", "--network", "ov1", "-l", "portolan.port=1"];
    let id = dockerd.docker(&[&create[..], &[super::server::IMAGE]].concat());
    let propagation = Propagation::start(swarm(&dockerd, Reach::Container).0);
    let ip = propagation.until_one("web").await.ip();
    let (dockerd, id) = (&dockerd, &id);
    // A label changes nothing of its tasks: what is measured is the way of the change, not the start of a container.
    let change = |number: u16| async move {
        let mut service = dockerd.get(&format!("/services/{id}")).await;
        let version = service["Version"]["Index"].clone();
        let mut spec = service["Spec"].take();
        spec["Labels"]["portolan.port"] = serde_json::json!((1000 + number).to_string());
        dockerd.post(&format!("/services/{id}/update?version={version}"), spec).await;
    };
    let expected = |number: u16| vec![format!("{ip}:{}", 1000 + number)];
    propagation.measure("swarm", "web", 200, change, expected).await;
}
