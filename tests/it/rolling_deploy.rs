//! Twenty services of five tasks each, all replaced one after another while requests run through the proxy and
//! queries through DNS: no request fails, and no answer names a task that is gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use portolan::sim::command::start_scenario;
use portolan::sim::{Control, Scenario};

use crate::support::http::Connection;
use crate::support::node::{TestNode, marathon};
use crate::support::{block_on, dns, http, until};

/// Half of the services replace their tasks one at a time with no spare one; the other half all at once.
const SCENARIO: &str = r#"
agents = 5
backends = true
[[app]]
id = "/roll/one-{n}"
copies = 10
tasks = 5
check = "MESOS_HTTP"
definition = { upgradeStrategy = { minimumHealthCapacity = 0.8, maximumOverCapacity = 0.0 } }
[[app]]
id = "/roll/all-{n}"
copies = 10
tasks = 5
network = "container"
check = "MESOS_HTTP"
"#;
const TASKS: usize = 5;

/// Kinds of load, each by a client of its own.
#[derive(Debug, Clone, Copy)]
enum Load {
    /// GETs on one connection for good.
    KeepAlive,
    /// A connection for each GET.
    OneShot,
    /// POSTs, which nobody may repeat once they have been sent.
    Post,
    /// Answers that take longer than most deployments' steps.
    Slow,
}

/// What all clients share.
struct Run {
    services: Vec<String>,
    stop: AtomicBool,
    requests: AtomicU64,
    queries: AtomicU64,
    failures: Mutex<Vec<String>>,
    /// Tasks that answered, by service.
    answered: Mutex<BTreeMap<String, BTreeSet<String>>>,
    places: Mutex<Places>,
}

/// Where tasks serve, as the simulation knows.
#[derive(Default)]
struct Places {
    living: BTreeSet<SocketAddr>,
    gone: HashMap<SocketAddr, Instant>,
}

#[test]
fn nothing_fails_while_everything_is_replaced() {
    block_on(async {
        let scenario = Scenario::parse(SCENARIO).unwrap();
        let sim = start_scenario(scenario, "127.0.0.1:0".parse().unwrap(), None).await.unwrap();
        let control = sim.control();
        let services: Vec<String> = control
            .apps()
            .iter()
            .map(|app| app.definition.id.trim_start_matches("/roll/").to_owned())
            .collect();
        assert_eq!(services.len(), 20);
        let routes: String = services.iter().map(|service| route(service)).collect();
        let node = TestNode::start(&marathon(&sim.url()), &routes).await;
        until("all tasks in the table", || async { all_live(&node, &services).then_some(()) }).await;

        let run = Run {
            services,
            stop: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            queries: AtomicU64::new(0),
            failures: Mutex::default(),
            answered: Mutex::default(),
            places: Mutex::default(),
        };
        let before = tasks(&control);
        let deploy = async {
            for service in &run.services {
                control.deploy(&format!("/roll/{service}")).unwrap();
                until(&format!("{service} deployed"), || async {
                    (!control.is_deploying() && all_live(&node, &run.services)).then_some(())
                })
                .await;
            }
            until("every new task has answered", || async {
                let answered = run.answered.lock().unwrap();
                let seen: BTreeSet<&String> = answered.values().flatten().collect();
                tasks(&control).iter().all(|task| seen.contains(task)).then_some(())
            })
            .await;
            run.stop.store(true, Ordering::Relaxed);
        };
        let (web, resolver) = (node.web(), node.dns());
        tokio::join!(
            deploy,
            watch(&run, &control),
            requests(&run, web, Load::KeepAlive, 0),
            requests(&run, web, Load::KeepAlive, 7),
            requests(&run, web, Load::OneShot, 3),
            requests(&run, web, Load::Post, 11),
            requests(&run, web, Load::Slow, 5),
            requests(&run, web, Load::Slow, 15),
            queries(&run, resolver, 0),
            queries(&run, resolver, 10),
        );

        let after = tasks(&control);
        assert!(before.is_disjoint(&after) && after.len() == 20 * TASKS, "every task was replaced");
        let (requests, queries) = (run.requests.into_inner(), run.queries.into_inner());
        let failures = run.failures.into_inner().unwrap();
        let shown = failures.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
        assert!(
            failures.is_empty(),
            "{} of {requests} requests and {queries} queries:\n{shown}",
            failures.len()
        );
        assert!(requests > 2000 && queries > 1000, "only {requests} requests, {queries} queries");
        let answered = run.answered.into_inner().unwrap();
        let seen: BTreeSet<String> = answered.into_values().flatten().collect();
        assert!(seen.is_superset(&after), "every new task got requests");
        node.stop().await;
        sim.shutdown().await;
    });
}

fn route(service: &str) -> String {
    format!(
        "[[proxy.route]]\nlistener = \"web\"\nhost = \"{service}.example.com\"\nservice = \"{service}.roll\"\n"
    )
}

fn all_live(node: &TestNode, services: &[String]) -> bool {
    let snapshot = node.node.table().load();
    let live = |name: &String| {
        snapshot.service(&format!("{name}.roll")).is_some_and(|s| s.live_members().count() == TASKS)
    };
    services.iter().all(live)
}

fn tasks(control: &Control) -> BTreeSet<String> {
    control
        .apps()
        .iter()
        .flat_map(|app| app.tasks.iter().map(|task| task.id.to_string()).collect::<Vec<_>>())
        .collect()
}

/// Follows where tasks serve and since when they don't.
async fn watch(run: &Run, control: &Control) {
    while !run.stop.load(Ordering::Relaxed) {
        let apps = control.apps();
        let tasks = apps.iter().flat_map(|app| app.tasks.iter());
        let place = |(ip, port)| SocketAddr::new(ip, port);
        let now: BTreeSet<SocketAddr> = tasks
            .filter_map(|task| match task.address {
                Some(ip) => Some((ip, 8080)),
                None => Some((task.agent.host.parse().ok()?, *task.ports.first()?)),
            })
            .map(place)
            .collect();
        run.places.lock().unwrap().note(now);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn requests(run: &Run, web: SocketAddr, load: Load, first: usize) {
    let mut connection = None;
    for turn in first.. {
        if run.stop.load(Ordering::Relaxed) {
            return;
        }
        let service = &run.services[turn % run.services.len()];
        let host = format!("{service}.example.com");
        match exchange(web, load, &host, &mut connection).await {
            Ok(answer) if answer.status == 200 => {
                let task = answer.header("x-task").unwrap_or_default();
                run.answered.lock().unwrap().entry(service.clone()).or_default().insert(task.to_owned());
            }
            Ok(answer) => run.fail(format!("{load:?} {service}: {} {}", answer.status, answer.body)),
            Err(error) => {
                connection = None;
                run.fail(format!("{load:?} {service}: {error}"));
            }
        }
        run.requests.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn exchange(
    web: SocketAddr,
    load: Load,
    host: &str,
    connection: &mut Option<Connection>,
) -> std::io::Result<http::Answer> {
    let request = match load {
        Load::OneShot => return http::try_get(web, host, "/").await,
        Load::KeepAlive => format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        Load::Slow => format!("GET /slow?ms=300 HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        Load::Post => format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello"),
    };
    let open = match connection {
        Some(open) => open,
        None => connection.insert(Connection::open(web).await?),
    };
    let answer = open.exchange(&request).await?;
    if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
        *connection = None;
    }
    Ok(answer)
}

async fn queries(run: &Run, server: SocketAddr, first: usize) {
    for turn in first.. {
        if run.stop.load(Ordering::Relaxed) {
            return;
        }
        let service = &run.services[turn % run.services.len()];
        let asked = Instant::now();
        let name = format!("_http._tcp.{service}.roll.svc.cluster");
        match dns::try_ask(server, &name, RecordType::SRV).await {
            Some(message) if message.response_code == ResponseCode::NoError => {
                run.judge(service, asked, &message)
            }
            Some(message) => run.fail(format!("{name}: {}", message.response_code)),
            None => run.fail(format!("{name}: no answer")),
        }
        run.queries.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

impl Places {
    /// Takes what lives now; what does no longer is gone from here on.
    fn note(&mut self, now: BTreeSet<SocketAddr>) {
        let seen = Instant::now();
        self.gone.extend(self.living.difference(&now).map(|place| (*place, seen)));
        self.gone.retain(|place, _| !now.contains(place));
        self.living = now;
    }
}

impl Run {
    fn fail(&self, what: String) {
        self.failures.lock().unwrap().push(what);
    }

    /// A fresh answer must name nobody who was gone before it was asked for: whoever keeps it for its TTL then
    /// uses no task that is dead for longer than that.
    fn judge(&self, service: &str, asked: Instant, message: &Message) {
        let named = places(message);
        if named.is_empty() {
            self.fail(format!("{service}: an answer without an endpoint"));
        }
        let gone = &self.places.lock().unwrap().gone;
        for place in named {
            if let Some(since) = gone.get(&place).filter(|since| **since < asked) {
                self.fail(format!("{service}: {place} is gone since {:?} and named", asked - *since));
            }
        }
    }
}

/// Address and port of each SRV record, by the additional records.
fn places(message: &Message) -> Vec<SocketAddr> {
    let mut addresses = HashMap::new();
    for record in &message.additionals {
        if let RData::A(address) = &record.data {
            addresses.insert(record.name.clone(), address.0);
        }
    }
    let place = |data: &RData| match data {
        RData::SRV(srv) => Some(SocketAddr::new((*addresses.get(&srv.target)?).into(), srv.port)),
        _ => None,
    };
    message.answers.iter().filter_map(|record| place(&record.data)).collect()
}
