//! Bulk TCP: four connections that write as fast as they can, and sinks that count what arrives.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::measure::{Sample, Server};

const CONNECTIONS: usize = 4;
const UPSTREAMS: usize = 4;
/// Octets of one write and one read.
const PIECE: usize = 64 * 1024;

static ARRIVED: AtomicU64 = AtomicU64::new(0);

/// Starts the sinks once; returns their ports.
pub(crate) fn sinks() -> Result<Vec<u16>, String> {
    static PORTS: OnceLock<Result<Vec<u16>, String>> = OnceLock::new();
    PORTS.get_or_init(|| (0..UPSTREAMS).map(|_| sink()).collect()).clone()
}

fn sink() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    let port = listener.local_addr().map_err(|e| e.to_string())?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || drain(stream));
        }
    });
    Ok(port)
}

fn drain(mut stream: TcpStream) {
    let mut buffer = vec![0; PIECE];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => drop(ARRIVED.fetch_add(read as u64, Ordering::Relaxed)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
}

/// Writes for `time`; an operation is an octet that has arrived at a sink. Octets that were written and did
/// not arrive within two seconds of the end are errors.
pub(crate) fn bulk(server: &Server, time: Duration) -> Result<Sample, String> {
    let before = ARRIVED.load(Ordering::Relaxed);
    let writers: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let port = server.port;
            std::thread::spawn(move || write(port, time))
        })
        .collect();
    let mut written = 0;
    for writer in writers {
        written += writer.join().map_err(|_| "a writer panicked".to_owned())?.map_err(|e| e.to_string())?;
    }
    let deadline = Instant::now() + Duration::from_secs(2);
    while ARRIVED.load(Ordering::Relaxed) - before < written && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    let arrived = ARRIVED.load(Ordering::Relaxed) - before;
    Ok(Sample {
        operations: arrived as f64,
        errors: written - arrived,
        seconds: 0.0,
        server: 0.0,
        load: 0.0,
        resident: 0,
    })
}

fn write(port: u16, time: Duration) -> std::io::Result<u64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let piece = vec![7; PIECE];
    let end = Instant::now() + time;
    let mut written = 0;
    while Instant::now() < end {
        stream.write_all(&piece)?;
        written += PIECE as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(written)
}
