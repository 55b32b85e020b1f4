//! HTTP upstreams with one canned answer, and wrk as the client.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::measure::{Sample, Server};

/// Octets of the body.
const BODY: usize = 128;
const UPSTREAMS: usize = 4;
const CONNECTIONS: &str = "64";

/// Starts the upstreams once, on a thread of this process; returns their ports.
pub(crate) fn origins() -> Result<Vec<u16>, String> {
    static PORTS: OnceLock<Result<Vec<u16>, String>> = OnceLock::new();
    PORTS.get_or_init(start).clone()
}

fn start() -> Result<Vec<u16>, String> {
    let listeners: Vec<TcpListener> = (0..UPSTREAMS)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()
        .map_err(|e| e.to_string())?;
    let ports = listeners.iter().map(|l| l.local_addr().map(|a| a.port())).collect::<Result<_, _>>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let local = tokio::task::LocalSet::new();
        for listener in listeners {
            listener.set_nonblocking(true).expect("a socket that can be set");
            local.spawn_local(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                loop {
                    if let Ok((stream, _)) = listener.accept().await {
                        tokio::task::spawn_local(answer(stream));
                    }
                }
            });
        }
        runtime.block_on(local);
    });
    ports.map_err(|e| e.to_string())
}

/// One answer per request head; requests of the load have no body and do not arrive in pieces or together.
async fn answer(mut stream: tokio::net::TcpStream) {
    let _ = stream.set_nodelay(true);
    let canned = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {BODY}\r\n\r\n{}",
        "x".repeat(BODY)
    );
    let mut buffer = vec![0; 8192];
    while let Ok(read) = stream.read(&mut buffer).await {
        if read == 0
            || !buffer[..read].ends_with(b"\r\n\r\n")
            || stream.write_all(canned.as_bytes()).await.is_err()
        {
            return;
        }
    }
}

/// wrk, one thread, keep-alive. The whole answer is checked on one request beforehand, the status by wrk.
pub(crate) fn load(server: &Server, time: Duration) -> Result<Sample, String> {
    check(server.port)?;
    let seconds = time.as_secs().max(1);
    let output = Command::new("wrk")
        .args([
            "-t1",
            "-c",
            CONNECTIONS,
            "-d",
            &format!("{seconds}s"),
            &format!("http://127.0.0.1:{}/", server.port),
        ])
        .output()
        .map_err(|e| format!("wrk cannot be started: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = |line: Option<&str>, at: usize| -> u64 {
        line.and_then(|line| line.split_whitespace().nth(at)?.trim_matches(',').parse().ok()).unwrap_or(0)
    };
    let operations = number(text.lines().find(|line| line.contains("requests in")), 0);
    let refused = number(text.lines().find(|line| line.contains("Non-2xx")), 4);
    let broken: u64 = text
        .lines()
        .find(|line| line.contains("Socket errors"))
        .map(|line| line.split([' ', ',']).filter_map(|word| word.parse::<u64>().ok()).sum())
        .unwrap_or(0);
    if operations == 0 {
        return Err(format!("{}: wrk saw no answer\n{text}", server.name));
    }
    Ok(Sample {
        operations: operations as f64,
        errors: refused + broken,
        seconds: 0.0,
        server: 0.0,
        load: 0.0,
        resident: 0,
    })
}

fn check(port: u16) -> Result<(), String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(|e| e.to_string())?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
        .map_err(|e| e.to_string())?;
    let mut text = Vec::new();
    match stream.read_to_end(&mut text) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => {
            return Err(format!("port {port}: {error}"));
        }
        _ => {}
    }
    let text = String::from_utf8_lossy(&text);
    if text.starts_with("HTTP/1.1 200") && text.ends_with(&"x".repeat(BODY)) {
        return Ok(());
    }
    Err(format!("port {port}: not the upstream's answer: {text}"))
}
