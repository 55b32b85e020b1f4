//! The built program as a process of its own, in front of a simulated scheduler.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};

/// Longest wait for a node to be ready: a million tasks may have to be listed.
const READY: Duration = Duration::from_secs(900);
/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(5);

/// A running `portolan run`; ended with its handle.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    /// Where DNS is served.
    pub(crate) dns: SocketAddr,
    /// Where the `http` listener is.
    pub(crate) web: SocketAddr,
    /// Where the admin side is.
    pub(crate) admin: SocketAddr,
    _home: tempfile::TempDir,
}

impl Node {
    /// Starts one that follows the Marathon at `url`, with `routes` appended to its configuration, and waits until
    /// it has a whole list.
    pub(crate) fn start(url: &str, routes: &str) -> Self {
        let node = Self::launch(url, routes);
        until(READY, "the first whole list", || (node.get("/readyz").0 == 200).then_some(()));
        node
    }

    /// The same, without the wait.
    pub(crate) fn launch(url: &str, routes: &str) -> Self {
        let source = format!("[[source]]\nname = \"marathon\"\ntype = \"marathon\"\nurls = [\"{url}\"]\n");
        Self::launch_with(&source, "[[dns.zone]]\nname = \"svc.cluster\"\nschema = \"native\"\n", routes)
    }

    /// The same with sources and zones of the caller's.
    pub(crate) fn launch_with(sources: &str, zones: &str, routes: &str) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let file = home.path().join("portolan.toml");
        let state = home.path().join("state");
        let text = format!(
            "[node]\nname = \"bench\"\nworkers = 1\nstate_dir = \"{}\"\n[log]\nlevel = \"info\"\nformat = \"json\"\n\
             {sources}[dns]\nlisten = [\"127.0.0.1:0\"]\n{zones}\
             [[proxy.listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\nprotocol = \"http\"\n\
             [admin]\nlisten = [\"127.0.0.1:0\"]\n{routes}",
            state.display()
        );
        fs::write(&file, text).expect("the configuration is written");
        let mut child = Command::new(env!("CARGO_BIN_EXE_portolan"))
            .args(["run", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("portolan starts");
        let mut log = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let (mut bound, mut seen) = (HashMap::new(), String::new());
        while bound.len() < 3 {
            let Some(Ok(line)) = log.next() else { panic!("portolan has ended: {seen}") };
            let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if let ("bound", Some(name), Some(address)) = (
                event["message"].as_str().unwrap_or_default(),
                event["listener"].as_str(),
                event["address"].as_str(),
            ) {
                bound.insert(name.to_owned(), address.parse().expect("an address in the log"));
            }
            seen.push_str(&line);
        }
        let (dns, web, admin) = (bound["dns"], bound["web"], bound["admin"]);
        // The pipe must not fill.
        std::thread::spawn(move || log.for_each(drop));
        Self { child, dns, web, admin, _home: home }
    }

    /// GET from the admin side: status and body.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).expect("the admin side accepts");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }

    /// A line of `/proc/PID/status` or `/proc/PID/smaps_rollup`, in KiB.
    pub(crate) fn memory_kib(&self, file: &str, key: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `condition` gives something; panics with `what` after `limit`.
pub(crate) fn until<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(begin.elapsed() < limit, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asks for the A records of one name, again and again.
#[derive(Debug)]
pub(crate) struct Resolver {
    socket: UdpSocket,
    query: Vec<u8>,
}

impl Resolver {
    pub(crate) fn new(server: SocketAddr, name: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(server).expect("an address of loopback");
        socket.set_read_timeout(Some(ANSWER)).expect("a time");
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::A));
        Self { socket, query: message.to_vec().expect("a query") }
    }

    /// The addresses of a fresh answer.
    pub(crate) fn addresses(&self) -> Vec<std::net::IpAddr> {
        let mut buffer = [0; 4096];
        self.socket.send(&self.query).expect("DNS listens");
        let len = self.socket.recv(&mut buffer).expect("DNS answers");
        let message = Message::from_vec(&buffer[..len]).expect("a message");
        let address = |data: &RData| match data {
            RData::A(address) => Some(address.0.into()),
            _ => None,
        };
        message.answers.iter().filter_map(|record| address(&record.data)).collect()
    }
}

/// Sends the same request on one connection, again and again.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    request: String,
}

impl Client {
    pub(crate) fn new(server: SocketAddr, host: &str) -> Self {
        let stream = TcpStream::connect(server).expect("the proxy accepts");
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(ANSWER)).expect("a time");
        Self { stream: BufReader::new(stream), request: format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n") }
    }

    /// Status and `x-task` of a fresh answer.
    pub(crate) fn task(&mut self) -> (u16, String) {
        self.stream.get_mut().write_all(self.request.as_bytes()).expect("the proxy reads");
        let (mut status, mut task, mut len) = (0, String::new(), 0);
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("the proxy answers");
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            match line.split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("x-task") => value.clone_into(&mut task),
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    len = value.parse().expect("a length");
                }
                Some(_) => {}
                None => status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0),
            }
        }
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body).expect("a whole answer");
        (status, task)
    }
}
