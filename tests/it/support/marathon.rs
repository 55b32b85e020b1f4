//! A plain HTTP fake of Marathon: it says what it is told to say, however wrong.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::PATIENCE;
use super::refusing::Refusing;

/// How requests for `/v2/apps…` and `/v2/events` are answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Mood {
    /// As it should be.
    #[default]
    Sound,
    /// This status with a short body.
    Status(u16),
    /// The list, cut after half of its octets.
    Truncated,
    /// 200 with an empty body.
    Empty,
    /// 200 with this many octets that are not JSON.
    Garbage(usize),
    /// Accepted and never answered.
    Hung,
}

#[derive(Default)]
struct State {
    apps: Vec<Value>,
    pods: Vec<Value>,
    mood: Mood,
    subscribers: Vec<TcpStream>,
    requests: HashMap<String, usize>,
}

/// A running fake. Ends with its last handle's program; its threads hold nothing else.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    closed: Arc<AtomicBool>,
    /// Nobody else gets the address while the fake is dead.
    _held: Arc<Refusing>,
}

impl Fake {
    /// Starts one that serves `apps` (the array of `/v2/apps?embed=apps.tasks`).
    pub(crate) fn start(apps: Vec<Value>) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), apps)
    }

    /// Starts one at an address that another has left, or is about to leave.
    pub(crate) fn start_at(address: SocketAddr, apps: Vec<Value>) -> Self {
        let held = Refusing::at(address);
        let address = held.address;
        let listener = listen(address);
        let state = Arc::new(Mutex::new(State { apps, ..State::default() }));
        let fake = Self { address, state, closed: Arc::default(), _held: Arc::new(held) };
        let accepting = fake.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.closed.load(Ordering::Relaxed) {
                    return;
                }
                let fake = accepting.clone();
                std::thread::spawn(move || fake.connection(stream));
            }
        });
        fake
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what lists say; nobody is told.
    pub(crate) fn set_apps(&self, apps: Vec<Value>) {
        self.state.lock().unwrap().apps = apps;
    }

    /// Changes what the list of pods (`/v2/pods/::status`) says; nobody is told.
    pub(crate) fn set_pods(&self, pods: Vec<Value>) {
        self.state.lock().unwrap().pods = pods;
    }

    /// Changes how requests are answered from now on.
    pub(crate) fn set_mood(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// Sends an event to all subscribers; returns how many there are.
    pub(crate) fn event(&self, kind: &str, mut payload: Value) -> usize {
        payload["eventType"] = json!(kind);
        payload["timestamp"] = json!("2021-03-04T05:06:07.089Z");
        self.raw(format!("event: {kind}\r\ndata: {payload}\r\n\r\n").as_bytes())
    }

    /// Sends these octets to all subscribers; returns how many there are.
    pub(crate) fn raw(&self, octets: &[u8]) -> usize {
        let mut state = self.state.lock().unwrap();
        state.subscribers.retain_mut(|stream| stream.write_all(octets).is_ok());
        state.subscribers.len()
    }

    /// Subscribers of the event stream.
    pub(crate) fn subscribers(&self) -> usize {
        self.state.lock().unwrap().subscribers.len()
    }

    /// Ends all event streams.
    pub(crate) fn cut(&self) {
        for stream in self.state.lock().unwrap().subscribers.drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Ends everything: nobody listens at the address any more.
    pub(crate) fn kill(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.cut();
        let _ = TcpStream::connect(self.address);
    }

    /// How often a path (without query) was asked for.
    pub(crate) fn requests(&self, path: &str) -> usize {
        self.state.lock().unwrap().requests.get(path).copied().unwrap_or(0)
    }

    fn connection(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        while let Some(path) = request_path(&mut reader) {
            if self.closed.load(Ordering::Relaxed) {
                return;
            }
            let bare = path.split('?').next().unwrap().to_owned();
            *self.state.lock().unwrap().requests.entry(bare.clone()).or_default() += 1;
            let mood = self.state.lock().unwrap().mood.clone();
            if mood == Mood::Hung {
                while self.state.lock().unwrap().mood == Mood::Hung {
                    std::thread::sleep(Duration::from_millis(10));
                }
                return;
            }
            if bare == "/v2/events" && mood == Mood::Sound {
                self.subscribe(stream);
                return;
            }
            if !self.answer(&mut stream, &bare, &mood) {
                return;
            }
        }
    }

    fn subscribe(&self, mut stream: TcpStream) {
        let head =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream;charset=UTF-8\r\nConnection: close\r\n\r\n";
        let attached = "event: event_stream_attached\r\ndata: {\"remoteAddress\":\"127.0.0.1\",\
            \"eventType\":\"event_stream_attached\",\"timestamp\":\"2021-03-04T05:00:00.001Z\"}\r\n\r\n";
        if stream.write_all(head).and_then(|()| stream.write_all(attached.as_bytes())).is_ok() {
            self.state.lock().unwrap().subscribers.push(stream);
        }
    }

    /// True if the connection may be used again.
    fn answer(&self, stream: &mut TcpStream, path: &str, mood: &Mood) -> bool {
        let (status, body) = self.document(path);
        let (status, sent, len) = match mood {
            Mood::Sound | Mood::Hung => (status, body.clone(), body.len()),
            Mood::Status(status) => (*status, b"{\"message\":\"told to\"}".to_vec(), 21),
            Mood::Truncated => (200, body[..body.len() / 2].to_vec(), body.len() / 2),
            Mood::Empty => (200, Vec::new(), 0),
            Mood::Garbage(len) => (200, vec![b'{'; *len], *len),
        };
        let head = format!(
            "HTTP/1.1 {status} Told\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&sent)).is_ok()
    }

    fn document(&self, path: &str) -> (u16, Vec<u8>) {
        let state = self.state.lock().unwrap();
        let body = match path {
            "/ping" => return (200, b"pong".to_vec()),
            "/v2/apps" => json!({ "apps": state.apps }),
            "/v2/pods/::status" => json!(state.pods),
            "/v2/leader" => json!({ "leader": self.address.to_string() }),
            "/v2/info" => {
                json!({ "name": "marathon", "version": "1.10.26", "elected": true, "leader": self.address.to_string() })
            }
            _ => {
                let id = format!("/{}", path.trim_start_matches("/v2/apps").trim_matches('/'));
                match state.apps.iter().find(|app| app["id"] == json!(id)) {
                    Some(app) => json!({ "app": app }),
                    None => {
                        return (404, format!("{{\"message\":\"App '{id}' does not exist\"}}").into_bytes());
                    }
                }
            }
        };
        (200, body.to_string().into_bytes())
    }
}

/// Listens at an address once whoever did so before has let go.
fn listen(address: SocketAddr) -> TcpListener {
    let begin = Instant::now();
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return listener,
            Err(error) => assert!(begin.elapsed() < PATIENCE, "{address}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reads a request head; the path and query, or `None` at the end of the connection.
fn request_path(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if line.trim().is_empty() {
            return first.split(' ').nth(1).map(str::to_owned);
        }
    }
}
