//! In the place of Mesos-DNS on a real Mesos: names follow what its tasks, agents and masters do.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, RecordType};
use portolan_dns::wire::text_to_name;
use serde_json::{Value, json};

use crate::support::mesos::Program;
use crate::support::real_mesos::Cluster;
use crate::support::{block_on, dns, http, until};

fn config(master: SocketAddr) -> Value {
    json!({"masters": [master.to_string()], "listener": "127.0.0.1", "HTTPListener": "127.0.0.1", "port": 0,
           "httpport": 0, "externalOn": false})
}

/// The ports of a name's SRV records, sorted; none if there is no such name.
async fn ports(server: SocketAddr, name: &str) -> Vec<u16> {
    let answer = dns::ask(server, name, RecordType::SRV).await;
    let port = |record: &hickory_proto::rr::Record| match &record.data {
        RData::SRV(srv) => Some(srv.port),
        _ => None,
    };
    let mut ports: Vec<u16> = answer.answers.iter().filter_map(port).collect();
    ports.sort_unstable();
    ports
}

async fn until_count(server: SocketAddr, name: &str, count: usize) -> Vec<u16> {
    until(&format!("{count} tasks of {name}"), || async {
        let ports = ports(server, name).await;
        (ports.len() == count).then_some(ports)
    })
    .await
}

#[test]
fn names_follow_a_real_cluster_and_outlive_its_master() {
    let Some(cluster) = Cluster::start() else { return };
    block_on(async {
        let program = Program::start_in(tempfile::tempdir().unwrap(), &config(cluster.master), &[]);
        program.until_ready().await;
        let (server, web) = (program.dns, "_web._tcp.example.mesos");
        let ip = cluster.master.ip().to_string();
        assert_eq!(dns::addresses(server, "leader.mesos", RecordType::A).await, [&*ip]);
        assert_eq!(ports(server, "_slave._tcp.mesos").await, [5051, 5052]);

        let mut framework = cluster.framework("example");
        framework.tell(r#"launch web 4 {"health": true}"#);
        for task in ["web.0", "web.1", "web.2", "web.3"] {
            framework.until_update(task, &|update| update["healthy"] == true);
        }
        let all = until_count(server, web, 4).await;
        assert_eq!(dns::addresses(server, "web.example.mesos", RecordType::A).await, [&*ip]);
        framework.tell("kill web.0");
        framework.until("web.0", "KILLED");
        framework.tell("fail web.1 3");
        framework.until("web.1", "FAILED");
        let left = until_count(server, web, 2).await;
        assert!(left.iter().all(|port| all.contains(port)));
        framework.tell("sick web.2");
        let well = until_count(server, web, 1).await;
        framework.tell("well web.2");
        assert_eq!(until_count(server, web, 2).await, left);
        assert!(left.contains(&well[0]));
        agrees_with_state(&program, cluster.master).await;

        // The master goes and another comes, which knows nothing at first: no answer is wrong in between.
        let watch = Watch::start(server, web, 2);
        cluster.run("master", &["--stop"]);
        cluster.run("master", &["--start"]);
        until("the agents' return", || async {
            let state = http::json(cluster.master, "/state").await;
            let tasks: usize = state["frameworks"]
                .as_array()?
                .iter()
                .map(|f| f["tasks"].as_array().map_or(0, Vec::len))
                .sum();
            (state["slaves"].as_array()?.len() == 2 && tasks == 2).then_some(())
        })
        .await;
        until("a session with the new master", || async {
            let sources = http::json(program.http, "/api/v1/sources").await;
            (sources["sources"][0]["standing"] == "synced").then_some(())
        })
        .await;
        assert_eq!(watch.stop(), 0, "answers that lacked a task");
        agrees_with_state(&program, cluster.master).await;

        // An agent dies: what ran on it gets no more traffic. Where the tasks run is the master's choice.
        let stays = ports_beside(cluster.master, 5052).await;
        cluster.run("remove", &["agent2", "--lost"]);
        assert_eq!(until_count(server, web, stays.len()).await, stays);
        drop(framework);
    });
}

/// The ports of the running tasks on other agents than the one that listens at `agent`, sorted.
async fn ports_beside(master: SocketAddr, agent: u16) -> Vec<u16> {
    let state = http::json(master, "/state").await;
    let list = |value: &Value, key: &str| value[key].as_array().unwrap().clone();
    let agents = list(&state, "slaves");
    let lost = agents.iter().find(|slave| slave["port"] == agent).unwrap();
    let mut ports: Vec<u16> = list(&state, "frameworks")
        .iter()
        .flat_map(|framework| list(framework, "tasks"))
        .filter(|task| task["state"] == "TASK_RUNNING" && task["slave_id"] != lost["id"])
        .map(|task| list(&task["discovery"]["ports"], "ports")[0]["number"].as_u64().unwrap() as u16)
        .collect();
    ports.sort_unstable();
    ports
}

/// The zone has the tasks that the master itself lists as running, and no others.
async fn agrees_with_state(program: &Program, master: SocketAddr) {
    until("what the master's own state says", || async {
        let state = http::json(master, "/state").await;
        let mut running: Vec<String> = state["frameworks"]
            .as_array()?
            .iter()
            .flat_map(|framework| framework["tasks"].as_array().into_iter().flatten())
            .filter(|task| task["state"] == "TASK_RUNNING")
            .map(|task| task["id"].as_str().unwrap().to_owned())
            .collect();
        let enumerated = http::json(program.http, "/v1/enumerate").await;
        let mut named: Vec<String> = enumerated["frameworks"]
            .as_array()?
            .iter()
            .flat_map(|framework| framework["tasks"].as_array().into_iter().flatten())
            .map(|task| task["id"].as_str().unwrap().to_owned())
            .collect();
        running.sort();
        named.sort();
        (running == named && !running.is_empty()).then_some(())
    })
    .await;
}

/// Asks for a name all the time and counts the answers with fewer records than there should be.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<usize>,
}

impl Watch {
    fn start(server: SocketAddr, name: &str, count: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (ended, mut prober) = (Arc::clone(&stop), Prober::new(server));
        let name = text_to_name(name).unwrap();
        let thread = std::thread::spawn(move || {
            let mut wrong = 0;
            while !ended.load(Ordering::Relaxed) {
                wrong += usize::from(prober.ask(&name, 33).1 < count);
                std::thread::sleep(Duration::from_millis(1));
            }
            wrong
        });
        Self { stop, thread }
    }

    fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Asks without a runtime, so that time is not spent on one.
struct Prober {
    socket: UdpSocket,
    id: u16,
}

impl Prober {
    fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        Self { socket, id: 0 }
    }

    /// Response code and number of answers.
    fn ask(&mut self, name: &[u8], rtype: u16) -> (u16, u16) {
        self.id = self.id.wrapping_add(1);
        let mut query = self.id.to_be_bytes().to_vec();
        query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        query.extend(name);
        query.extend(rtype.to_be_bytes());
        query.extend([0, 1]);
        let mut answer = [0; 1232];
        loop {
            self.socket.send(&query).unwrap();
            while let Ok(len) = self.socket.recv(&mut answer) {
                if len >= 12 && answer[..2] == query[..2] {
                    return (u16::from(answer[3] & 15), u16::from_be_bytes([answer[6], answer[7]]));
                }
            }
        }
    }
}

/// The time from the master's word, as another subscriber hears it, to the first answer that shows it. What is asserted
/// is far above what is seen, since a loaded machine must not fail a test; the figures are printed.
#[test]
#[expect(clippy::print_stderr, reason = "the figures are for people")]
fn a_change_of_a_real_task_is_answered_at_once() {
    const TASKS: usize = 12;
    const ROUNDS: usize = 3;
    let Some(cluster) = Cluster::start() else { return };
    block_on(async {
        let program =
            Program::start_in(tempfile::tempdir().unwrap(), &config(cluster.master), &["--compat", "strict"]);
        program.until_ready().await;
        let witness = cluster.witness();
        let mut framework = cluster.framework("example");
        let mut prober = Prober::new(program.dns);
        let (mut times, mut early) = (Vec::new(), 0);
        for round in 0..ROUNDS {
            let name = |n: usize| format!("r{round}n{n}");
            for (is_there, state) in [(true, "TASK_RUNNING"), (false, "TASK_KILLED")] {
                for n in 0..TASKS {
                    framework.tell(&if is_there {
                        format!("launch {} 1", name(n))
                    } else {
                        format!("kill {}.0", name(n))
                    });
                }
                let mut open: Vec<usize> = (0..TASKS).collect();
                let begin = Instant::now();
                let mut seen = Vec::new();
                while !open.is_empty() {
                    assert!(
                        begin.elapsed() < Duration::from_secs(60),
                        "{state}: waited in vain for {open:?}"
                    );
                    open.retain(|n| {
                        let wire = text_to_name(&format!("{}.example.mesos", name(*n))).unwrap();
                        let (rcode, answers) = prober.ask(&wire, 1);
                        let is_done =
                            (rcode == u16::from(ResponseCode::NoError.low()) && answers > 0) == is_there;
                        if is_done {
                            seen.push((*n, Instant::now()));
                        }
                        !is_done
                    });
                    std::thread::sleep(Duration::from_millis(1));
                }
                for (n, at) in seen {
                    let task = format!("{}.0", name(n));
                    // A task that is being killed leaves at the word KILLING, which comes first.
                    let states = if is_there { vec![state] } else { vec!["TASK_KILLING", state] };
                    let told = until("the master's word", || async {
                        states.iter().find_map(|state| witness.told(&task, state))
                    })
                    .await;
                    match at.checked_duration_since(told) {
                        Some(time) => times.push(time),
                        None => early += 1,
                    }
                }
            }
        }
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        eprintln!(
            "real Mesos, {} changes: p50 {:?}, p99 {:?}, most {:?}; {early} answered before the other subscriber heard",
            times.len() + early,
            at(0.5),
            at(0.99),
            times[times.len() - 1]
        );
        assert!(at(0.5) < Duration::from_millis(100), "half of all changes took longer than {:?}", at(0.5));
    });
}
