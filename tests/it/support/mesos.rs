//! A master that offers no event stream and says one state, as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// A running master. Its threads end with the program.
pub(crate) struct Master {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<String>>,
}

impl Master {
    /// Starts one that answers `/master/state` with `state`. It says of itself that it leads.
    pub(crate) fn start(state: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let master =
            Self { address: listener.local_addr().unwrap(), state: Arc::new(Mutex::new(String::new())) };
        master.set_state(state);
        let state = Arc::clone(&master.state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                std::thread::spawn(move || while answer(&stream, &state).is_some() {});
            }
        });
        master
    }

    /// What is said from now on. A state without a leader is led from here.
    pub(crate) fn set_state(&self, mut state: Value) {
        if state["leader"].is_null() {
            state["leader"] = json!(format!("master@{}", self.address));
        }
        state["pid"] = state["leader"].clone();
        *self.state.lock().unwrap() = state.to_string();
    }
}

/// Answers one request; `None` at the end of the connection.
fn answer(mut stream: &TcpStream, state: &Mutex<String>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut len) = (String::new(), 0);
    reader.read_line(&mut first).ok().filter(|octets| *octets > 0)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            len = value.trim().parse().ok()?;
        }
    }
    reader.read_exact(&mut vec![0; len]).ok()?;
    let (status, body) = match first.split(' ').nth(1)? {
        "/master/state" => ("200 OK", state.lock().unwrap().clone()),
        _ => ("404 Not Found", String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()
}
