//! A large cluster's `/state`, taken in whole, and what queries feel of it.
//!
//! `cargo bench --bench mesos -- run` puts the built program, with one worker and a zone of Mesos-DNS's names, in front of a
//! master that offers no event stream and lists 50,000 tasks in 10 MB. In every state but the first all tasks but one are others
//! than before: the most that a list can change. The clock starts when the master is asked, and stops when the table
//! holds the last task of the list. Queries are sent 1,000 times a second for the name that stays, whether or not the last has
//! been answered, and take their latency from when they were due.

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

#[expect(dead_code, reason = "each bench uses a part of it")]
mod node;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use node::{Node, Resolver};

/// Tasks of one name.
const TASKS_PER_APP: usize = 10;
/// Tasks on one agent.
const TASKS_PER_AGENT: usize = 50;
/// Time between two queries.
const PERIOD: Duration = Duration::from_millis(1);
/// Period of polling: long enough for quiet in between.
const POLL: &str = "4s";
/// Longest wait for one list.
const LATE: Duration = Duration::from_secs(120);

/// What is asked for on the command line.
#[derive(Debug, Clone, Copy)]
struct Options {
    tasks: usize,
    lists: usize,
}

/// When something was due, and how long it took from then.
type Seen = Vec<(Instant, Duration)>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match parse(&arguments) {
        Some(options) => run(options),
        None => println!(
            "mesos: takes in a large cluster's state, whole.\n\
             cargo bench --bench mesos -- run [--tasks 50000] [--lists 10]"
        ),
    }
    ExitCode::SUCCESS
}

fn parse(arguments: &[String]) -> Option<Options> {
    let (part, rest) = arguments.split_first()?;
    let number = |name: &str, default| match rest.iter().position(|argument| argument == name) {
        Some(at) => rest.get(at + 1)?.parse().ok(),
        None => Some(default),
    };
    (part == "run").then_some(())?;
    Some(Options { tasks: number("--tasks", 50_000)?, lists: number("--lists", 10)? })
}

fn run(options: Options) {
    let states: Vec<Arc<str>> = (0..2).map(|turn| state(options.tasks, turn).into()).collect();
    let master = Master::start(Arc::clone(&states[0]));
    let begin = Instant::now();
    let node = Node::launch_with(&source(master.address), ZONE, "");
    let last = Resolver::new(node.dns, "zz.marathon.mesos");
    shows(&last, 0);
    let first = master.asked().expect("it was asked").elapsed();
    println!(
        "{} tasks, {:.1} MB: the first list is in {:.0} ms after it was asked for, {:.0} ms after the start",
        options.tasks,
        states[0].len() as f64 / 1e6,
        first.as_secs_f64() * 1e3,
        begin.elapsed().as_secs_f64() * 1e3
    );
    let stop = AtomicBool::new(false);
    let (mut windows, mut queries) = (Vec::new(), Seen::new());
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let resolver = Resolver::new(node.dns, "steady.marathon.mesos");
            paced(&stop, || assert_eq!(resolver.addresses().len(), 1, "it stays"))
        });
        for turn in 1..=options.lists {
            master.say(Arc::clone(&states[turn % 2]));
            shows(&last, turn % 2);
            windows.push((master.asked().expect("it was asked"), Instant::now()));
        }
        stop.store(true, Ordering::Relaxed);
        queries = asking.join().expect("queries are answered");
    });
    report(&windows, &queries);
}

fn source(master: SocketAddr) -> String {
    format!(
        "[[source]]\nname = \"mesos\"\ntype = \"mesos\"\nurls = [\"http://{master}\"]\npoll = \"{POLL}\"\n"
    )
}

const ZONE: &str = "[[dns.zone]]\nname = \"mesos\"\nschema = \"mesos-dns\"\n";

/// Waits until the last task of a list is answered as in that of `turn`.
fn shows(last: &Resolver, turn: usize) {
    let (begin, wanted) = (Instant::now(), IpAddr::from(agent(turn)));
    while last.addresses() != [wanted] {
        assert!(begin.elapsed() < LATE, "the list is never taken in");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The address of agent `n`.
fn agent(n: usize) -> [u8; 4] {
    let [.., high, low] = (n as u32).to_be_bytes();
    [10, 1, high, low]
}

/// A cluster's `/state`: `tasks` tasks, each with one port. The last one told is `zz`, and `steady` is always the same.
fn state(tasks: usize, turn: usize) -> String {
    let agents = (tasks / TASKS_PER_AGENT).max(2);
    let mut text = String::from(
        r#"{"id":"m","leader":"master@127.0.0.1:5050","pid":"master@127.0.0.1:5050","slaves":["#,
    );
    for n in 0..agents {
        let comma = if n == 0 { "" } else { "," };
        let [a, b, c, d] = agent(n);
        let _ = write!(
            text,
            r#"{comma}{{"id":"S-{n}","hostname":"agent-{n}","pid":"slave(1)@{a}.{b}.{c}.{d}:5051"}}"#
        );
    }
    text += r#"],"frameworks":[{"id":"F-0","name":"marathon","hostname":"127.0.0.1","tasks":["#;
    let mut task = |name: &str, id: &str, agent: usize, port: usize, comma: &str| {
        let _ = write!(
            text,
            r#"{comma}{{"id":"{id}","name":"{name}","framework_id":"F-0","slave_id":"S-{agent}","state":"TASK_RUNNING","resources":{{"ports":"[{port}-{port}]"}},"statuses":[{{"state":"TASK_RUNNING","timestamp":1.5}}]}}"#
        );
    };
    task("steady", "steady.0", 0, 31_000, "");
    for n in 0..tasks.saturating_sub(2) {
        let port = 31_000 + (n / agents * 2 + turn) % 1000;
        task(&format!("app-{}", n / TASKS_PER_APP), &format!("app.{turn}.{n}"), n % agents, port, ",");
    }
    task("zz", &format!("zz.{turn}"), turn, 31_999, ",");
    text + "]}]}"
}

/// A master that says one state. Its thread ends with the program.
struct Master {
    address: SocketAddr,
    said: Arc<Mutex<Said>>,
}

struct Said {
    state: Arc<str>,
    /// When this state was first asked for.
    asked: Option<Instant>,
}

impl Master {
    fn start(state: Arc<str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = listener.local_addr().expect("an address");
        let said = Arc::new(Mutex::new(Said { state, asked: None }));
        let shared = Arc::clone(&said);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut line = String::new();
                let _ = BufReader::new(&stream).read_line(&mut line);
                let (status, body) = if line.starts_with("GET /master/state ") {
                    let mut said = shared.lock().expect("nobody panics");
                    said.asked.get_or_insert_with(Instant::now);
                    ("200 OK", Arc::clone(&said.state))
                } else {
                    ("404 Not Found", Arc::from(""))
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
            }
        });
        Self { address, said }
    }

    fn say(&self, state: Arc<str>) {
        *self.said.lock().expect("nobody panics") = Said { state, asked: None };
    }

    fn asked(&self) -> Option<Instant> {
        self.said.lock().expect("nobody panics").asked
    }
}

/// Does `once` each period until it is told to stop.
fn paced(stop: &AtomicBool, mut once: impl FnMut()) -> Seen {
    let (begin, mut seen) = (Instant::now(), Vec::new());
    for turn in 0_u32.. {
        let due = begin + PERIOD * turn;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            break;
        }
        once();
        seen.push((due, due.elapsed()));
    }
    seen
}

fn report(windows: &[(Instant, Instant)], queries: &Seen) {
    let mut taken: Vec<Duration> = windows.iter().map(|(begin, end)| *end - *begin).collect();
    taken.sort_unstable();
    println!(
        "  {} lists in which every task is another: in within {:.0} ms at the median, {:.0} ms at most (goal: 1000 ms)",
        taken.len(),
        percentile(&taken, 0.5),
        percentile(&taken, 1.0)
    );
    let within = |due: Instant| windows.iter().any(|(begin, end)| due >= *begin && due < *end);
    let part = |during: bool| {
        let of = queries.iter().filter(|(due, _)| within(*due) == during);
        let mut part: Vec<Duration> = of.map(|(_, time)| *time).collect();
        part.sort_unstable();
        part
    };
    let (quiet, during) = (part(false), part(true));
    let (before, meanwhile) = (percentile(&quiet, 0.99), percentile(&during, 0.99));
    println!(
        "  queries   p99 {before:.2} ms in quiet ({}), {meanwhile:.2} ms meanwhile ({}): {:.2} ×",
        quiet.len(),
        during.len(),
        meanwhile / before
    );
}

/// In milliseconds; nothing has none.
fn percentile(sorted: &[Duration], share: f64) -> f64 {
    let at = (sorted.len().saturating_sub(1)) as f64 * share;
    sorted.get(at as usize).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}
