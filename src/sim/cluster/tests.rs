//! The cluster on virtual time.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::*;

const START: Millis = 1_614_834_367_089;

fn cluster() -> Cluster {
    Cluster::new(&ClusterConfig::default(), Box::<PaperLauncher>::default(), START)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("not an object: {other}"),
    }
}

fn web(instances: u32) -> Map<String, Value> {
    object(json!({
        "id": "/shop/web", "cmd": "serve", "instances": instances,
        "networks": [{"mode": "container/bridge"}],
        "container": {"type": "DOCKER", "docker": {"image": "web:1"}, "portMappings": [{"containerPort": 8080, "name": "http"}]},
        "healthChecks": [{"protocol": "MESOS_HTTP", "path": "/health"}],
        "upgradeStrategy": {"minimumHealthCapacity": 0.8, "maximumOverCapacity": 0.2},
    }))
}

fn payload(event: &Event) -> Value {
    let text = std::str::from_utf8(&event.frame).unwrap();
    let data = text.strip_prefix(&format!("event: {}\r\ndata: ", event.kind)).unwrap();
    serde_json::from_str(data.strip_suffix("\r\n\r\n").unwrap()).unwrap()
}

/// Lets time pass until nothing is due, calling `look` after each step.
fn settle(cluster: &mut Cluster, mut look: impl FnMut(&mut Cluster)) {
    for _ in 0..100_000 {
        let Some(due) = cluster.next_due() else { return };
        cluster.advance(due);
        look(cluster);
    }
    panic!("the cluster never comes to rest");
}

#[test]
fn a_new_app_starts_and_its_deployment_ends() {
    let mut cluster = cluster();
    cluster.create(Kind::App, web(3), &Caller::default()).unwrap();
    let image = cluster.image(Kind::App, "/shop/web").unwrap();
    assert_eq!(image.tasks.len(), 3);
    assert!(image.tasks.iter().all(|task| task.state == State::Staging));
    assert!(image.deployment.is_some());
    settle(&mut cluster, |_| {});
    let image = cluster.image(Kind::App, "/shop/web").unwrap();
    assert!(image.tasks.iter().all(|task| task.is_serving()));
    assert!(image.deployment.is_none());
    let kinds: Vec<_> = cluster.take_events().iter().map(|event| event.kind.to_string()).collect();
    let count = |kind: &str| kinds.iter().filter(|own| *own == kind).count();
    assert_eq!(count("api_post_event"), 1);
    assert_eq!(count("add_health_check_event"), 1);
    assert_eq!(count("status_update_event"), 9, "staging, starting and running of three tasks");
    assert_eq!(count("health_status_changed_event"), 3);
    assert_eq!(count("deployment_success"), 1);
    assert_eq!(kinds.last().map(String::as_str), Some("deployment_success"));
}

#[test]
fn rolling_replacement_keeps_the_healthy_minimum_and_the_maximum() {
    for (floor, over, instances) in
        [(0.8, 0.2, 5), (1.0, 1.0, 4), (1.0, 0.0, 3), (0.5, 0.0, 6), (0.0, 0.0, 2)]
    {
        let mut cluster = cluster();
        let mut body = web(instances);
        body.insert(
            "upgradeStrategy".into(),
            json!({"minimumHealthCapacity": floor, "maximumOverCapacity": over}),
        );
        cluster.found(Kind::App, body).unwrap();
        let before: BTreeSet<_> =
            cluster.image(Kind::App, "/shop/web").unwrap().tasks.iter().map(|t| t.number).collect();
        assert_eq!(before.len(), instances as usize);
        cluster.restart("/shop/web", false).unwrap();
        let least = (f64::from(instances) * floor).ceil() as usize;
        let most = ((f64::from(instances) * (1.0 + over)).floor() as usize).max(least + 1);
        settle(&mut cluster, |cluster| {
            let image = cluster.image(Kind::App, "/shop/web").unwrap();
            let serving = image.tasks.iter().filter(|task| task.is_serving()).count();
            assert!(serving >= least, "{serving} of {least} at {floor}/{over}");
            assert!(image.tasks.len() <= most, "{} over {most} at {floor}/{over}", image.tasks.len());
        });
        let image = cluster.image(Kind::App, "/shop/web").unwrap();
        assert_eq!(image.tasks.len(), instances as usize);
        assert!(image.tasks.iter().all(|task| !before.contains(&task.number) && task.is_serving()));
        assert!(image.deployment.is_none());
    }
}

#[test]
fn readiness_holds_a_deployment_back() {
    let mut cluster = cluster();
    let mut body = web(2);
    body.insert("readinessChecks".into(), json!([{"name": "warm", "portName": "http"}]));
    cluster.create(Kind::App, body, &Caller::default()).unwrap();
    let mut waited = false;
    settle(&mut cluster, |cluster| {
        let image = cluster.image(Kind::App, "/shop/web").unwrap();
        waited |= image.tasks.iter().any(|task| task.state == State::Running && !task.ready);
        assert!(image.deployment.is_some() || image.tasks.iter().all(|task| task.ready));
    });
    assert!(waited);
}

#[test]
fn killed_tasks_serve_through_their_grace_and_are_replaced() {
    let mut cluster = cluster();
    cluster.found(Kind::App, web(2)).unwrap();
    let victim = cluster.image(Kind::App, "/shop/web").unwrap().tasks[0].clone();
    let (killed, deployed) = cluster.kill(&[victim.id.to_string()], false, false).unwrap();
    assert_eq!((killed.len(), deployed), (1, None));
    assert_eq!(cluster.task(&victim.id).unwrap().state, State::Killing);
    let due = cluster.next_due().unwrap() - START;
    assert!((300..=500).contains(&due), "grace of 400 ms, a quarter either way: {due}");
    settle(&mut cluster, |_| {});
    assert!(cluster.task(&victim.id).is_none());
    assert_eq!(cluster.image(Kind::App, "/shop/web").unwrap().tasks.len(), 2);
    let events = cluster.take_events();
    let statuses: Vec<String> = events
        .iter()
        .filter(|event| event.kind == "status_update_event")
        .map(|event| payload(event)["taskStatus"].as_str().unwrap().to_owned())
        .collect();
    let expected = ["TASK_KILLING", "TASK_KILLED", "TASK_STAGING", "TASK_STARTING", "TASK_RUNNING"];
    assert_eq!(statuses, expected);
}

#[test]
fn kill_with_scale_kills_exactly_these() {
    let mut cluster = cluster();
    cluster.found(Kind::App, web(4)).unwrap();
    let tasks = cluster.image(Kind::App, "/shop/web").unwrap().tasks;
    let ids = [tasks[0].id.to_string(), tasks[2].id.to_string()];
    let (_, deployed) = cluster.kill(&ids, true, false).unwrap();
    assert!(deployed.is_some());
    settle(&mut cluster, |_| {});
    let left: Vec<_> =
        cluster.image(Kind::App, "/shop/web").unwrap().tasks.iter().map(|t| t.number).collect();
    assert_eq!(left, [tasks[1].number, tasks[3].number]);
    assert_eq!(cluster.image(Kind::App, "/shop/web").unwrap().definition.instances, 2);
}

#[test]
fn scale_down_takes_the_youngest_and_keeps_their_version() {
    let mut cluster = cluster();
    cluster.found(Kind::App, web(3)).unwrap();
    let oldest = cluster.image(Kind::App, "/shop/web").unwrap().tasks[0].clone();
    cluster.advance(START + 1000);
    cluster.scale("/shop/web", 1, false).unwrap();
    assert!(matches!(cluster.scale("/shop/web", 2, false), Err(ChangeError::Locked(_))));
    settle(&mut cluster, |_| {});
    let image = cluster.image(Kind::App, "/shop/web").unwrap();
    assert_eq!(image.tasks.iter().map(|t| t.number).collect::<Vec<_>>(), [oldest.number]);
    assert!(image.definition.version > image.definition.config_version);
    assert_eq!(image.tasks[0].version, image.definition.config_version);
}

#[test]
fn a_deleted_app_is_gone_at_once_and_terminated_at_the_end() {
    let mut cluster = cluster();
    cluster.found(Kind::App, web(2)).unwrap();
    cluster.delete(Kind::App, &["/shop/web".to_owned()], false, &Caller::default()).unwrap();
    assert!(cluster.image(Kind::App, "/shop/web").is_none());
    assert_eq!(cluster.task_count(), 2, "still being killed");
    settle(&mut cluster, |_| {});
    assert_eq!(cluster.task_count(), 0);
    let kinds: BTreeSet<_> = cluster.take_events().iter().map(|event| event.kind.to_string()).collect();
    for kind in
        ["app_terminated_event", "remove_health_check_event", "deployment_success", "group_change_success"]
    {
        assert!(kinds.contains(kind), "{kind} in {kinds:?}");
    }
}

#[test]
fn wrong_definitions_are_refused_with_their_places() {
    let mut cluster = cluster();
    for (body, path) in [
        (json!({"id": "/Bad_Id", "cmd": "x"}), "/id"),
        (json!({"id": "/a"}), "/"),
        (json!({"id": "/a", "cmd": "x", "instances": -1}), "/instances"),
        (json!({"id": "/a", "cmd": "x", "labels": {"a": 1}}), "/labels"),
        (json!({"id": "/a", "cmd": "x", "networks": [{"mode": "moon"}]}), "/networks(0)/mode"),
        (json!({"id": "/a", "cmd": "x", "networks": [{"mode": "host"}, {"mode": "container"}]}), "/networks"),
        (json!({"id": "/a", "cmd": "x", "portDefinitions": [{"port": 70000}]}), "/portDefinitions(0)/port"),
        (json!({"id": "/a", "cmd": "x", "healthChecks": {}}), "/healthChecks"),
    ] {
        let error = cluster.create(Kind::App, object(body.clone()), &Caller::default()).unwrap_err();
        let ChangeError::Invalid(problems) = error else { panic!("{body}: {error}") };
        assert!(problems.iter().any(|problem| problem.path == path), "{body}: {problems:?}");
    }
    assert_eq!(cluster.images(Kind::App).count(), 0);
}

#[test]
fn service_ports_are_assigned_and_kept() {
    let mut cluster = cluster();
    cluster.found(Kind::App, web(1)).unwrap();
    let port = cluster.image(Kind::App, "/shop/web").unwrap().definition.ports[0].service_port;
    assert!((10_000..=20_000).contains(&port));
    let mut body = web(1);
    body.insert("labels".into(), json!({"HAPROXY_GROUP": "external"}));
    let update = Update { kind: Kind::App, id: "/shop/web".into(), body, partial: true, restart: false };
    cluster.update(vec![update], false, None).unwrap();
    assert_eq!(cluster.image(Kind::App, "/shop/web").unwrap().definition.ports[0].service_port, port);
}

#[test]
fn old_forms_are_converted() {
    let mut cluster = cluster();
    let body = json!({"id": "/legacy", "container": {"type": "DOCKER", "docker": {"image": "x", "network": "BRIDGE",
        "portMappings": [{"containerPort": 80, "servicePort": 10010}]}}, "ports": [10010]});
    cluster.found(Kind::App, object(body)).unwrap();
    let image = cluster.image(Kind::App, "/legacy").unwrap();
    assert_eq!(image.definition.network, Network::Bridge);
    assert_eq!(image.definition.ports[0].service_port, 10_010);
    assert_eq!(image.tasks[0].ports.len(), 1);
}

/// Every type of §11.2 that something in the simulation causes, each with the members clients read.
#[test]
fn events_of_every_type_in_their_form() {
    let mut cluster = cluster();
    let pod = json!({"id": "/cart", "containers": [{"name": "app", "endpoints": [{"name": "http", "hostPort": 0}]}],
        "networks": [{"mode": "container", "name": "dcos"}], "scaling": {"kind": "fixed", "instances": 1}});
    cluster.create(Kind::App, web(3), &Caller::default()).unwrap();
    cluster.create(Kind::Pod, object(pod), &Caller::default()).unwrap();
    settle(&mut cluster, |_| {});
    let body = object(json!({"labels": {"team": "shop"}}));
    let update = Update { kind: Kind::Pod, id: "/cart".into(), body, partial: true, restart: false };
    cluster.update(vec![update], false, Some(&Caller::default())).unwrap();
    let tasks = cluster.image(Kind::App, "/shop/web").unwrap().tasks;
    assert!(cluster.set_health(&tasks[0].id, false, true));
    assert!(cluster.crash(&tasks[1].id));
    settle(&mut cluster, |_| {});
    let deployed = cluster.scale("/shop/web", 5, false).unwrap();
    cluster.cancel(&deployed.deployment, true).unwrap();
    cluster.change_leader();
    settle(&mut cluster, |_| {});
    let caller = Caller::default();
    cluster.delete(Kind::Pod, &["/cart".to_owned()], false, &caller).unwrap();
    cluster.delete(Kind::App, &["/shop/web".to_owned()], false, &caller).unwrap();
    settle(&mut cluster, |_| {});
    let status =
        ["slaveId", "taskId", "taskStatus", "message", "appId", "host", "ipAddresses", "ports", "version"];
    let changed = ["instanceId", "condition", "runSpecId", "agentId", "host", "runSpecVersion"];
    let table: &[(&str, &[&str])] = &[
        ("api_post_event", &["clientIp", "uri", "appDefinition"]),
        ("status_update_event", &status),
        ("instance_changed_event", &changed),
        ("health_status_changed_event", &["appId", "instanceId", "version", "alive"]),
        ("instance_health_changed_event", &["instanceId", "runSpecId", "healthy", "runSpecVersion"]),
        ("failed_health_check_event", &["appId", "taskId", "healthCheck"]),
        (
            "unhealthy_instance_kill_event",
            &["appId", "taskId", "instanceId", "version", "reason", "host", "slaveId"],
        ),
        ("add_health_check_event", &["appId", "version", "healthCheck"]),
        ("remove_health_check_event", &["appId"]),
        ("pod_created_event", &["clientIp", "uri"]),
        ("pod_updated_event", &["clientIp", "uri"]),
        ("pod_deleted_event", &["clientIp", "uri"]),
        ("app_terminated_event", &["appId"]),
        ("group_change_success", &["groupId", "version"]),
        ("deployment_info", &["plan", "currentStep"]),
        ("deployment_step_success", &["plan", "currentStep"]),
        ("deployment_step_failure", &["plan", "currentStep"]),
        ("deployment_success", &["id", "plan"]),
        ("deployment_failed", &["id", "plan"]),
        ("scheduler_registered_event", &["frameworkId", "master"]),
    ];
    let events = cluster.take_events();
    for (kind, members) in table {
        let own: Vec<_> = events.iter().filter(|event| event.kind == *kind).map(payload).collect();
        assert!(!own.is_empty(), "{kind} never came");
        for event in own {
            assert_eq!(event["eventType"], *kind);
            assert!(parse_timestamp(event["timestamp"].as_str().unwrap()).is_some());
            for member in *members {
                assert!(event.get(member).is_some(), "{kind} without {member}: {event}");
            }
        }
    }
}

#[test]
fn a_new_leader_forgets_only_what_it_kept_itself() {
    for (protocol, forgotten) in [("HTTP", true), ("MESOS_HTTP", false)] {
        let mut cluster = cluster();
        let mut body = web(2);
        body.insert("healthChecks".into(), json!([{"protocol": protocol}]));
        cluster.found(Kind::App, body).unwrap();
        cluster.change_leader();
        let image = cluster.image(Kind::App, "/shop/web").unwrap();
        assert!(image.tasks.iter().all(|task| task.verdict.is_none() == forgotten), "{protocol}");
        settle(&mut cluster, |_| {});
        let image = cluster.image(Kind::App, "/shop/web").unwrap();
        assert!(image.tasks.iter().all(|task| task.verdict.as_ref().is_some_and(|v| v.alive)), "{protocol}");
    }
}

#[test]
fn the_same_seed_gives_the_same_story() {
    let story = || {
        let mut cluster = cluster();
        cluster.found(Kind::App, web(5)).unwrap();
        for _ in 0..20 {
            let task = cluster.any_task().unwrap();
            cluster.kill(&[task.id.to_string()], false, false).unwrap();
            settle(&mut cluster, |_| {});
        }
        cluster.take_events().iter().map(|event| event.frame.clone()).collect::<Vec<_>>()
    };
    assert_eq!(story(), story());
}
