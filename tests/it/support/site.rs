//! A place to run the program in: a configuration file with ports from the kernel, a file of services, the state.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::program::Running;

/// Files of one node.
pub(crate) struct Site {
    home: TempDir,
}

impl Site {
    /// A directory with these services (TOML).
    pub(crate) fn new(services: &str) -> Self {
        let site = Self { home: tempfile::tempdir().unwrap() };
        site.write("services.toml", services);
        site
    }

    /// A file of the site.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The configuration file.
    pub(crate) fn file(&self) -> PathBuf {
        self.path("portolan.toml")
    }

    /// Writes a file at once, as careful editors do.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let draft = self.path(".draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, self.path(name)).unwrap();
    }

    /// Writes the configuration: the parts that every node here has, then `more`.
    pub(crate) fn configure(&self, more: &str) {
        self.write("portolan.toml", &format!("{}{more}", self.head()));
    }

    /// Node, log, source and admin side. Relative paths are the file's.
    pub(crate) fn head(&self) -> String {
        "[node]\nname = \"edge-1\"\nworkers = 2\nstate_dir = \"state\"\n\
         [log]\nformat = \"json\"\n\
         [[source]]\nname = \"files\"\ntype = \"file\"\npaths = [\"services.toml\"]\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n"
            .to_owned()
    }

    /// Writes a certificate with its key to `NAME.pem`, where a certificate signs itself; the entry that names it.
    pub(crate) fn certificate(&self, name: &str, host: &str) -> String {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        self.write(&format!("{name}.pem"), &(made.cert.pem() + &made.signing_key.serialize_pem()));
        format!("[[proxy.certificate]]\npath = \"{name}.pem\"\n")
    }

    /// Starts the program on the configuration file, and waits until it has its services.
    pub(crate) fn run(&self) -> Running {
        let mut running = Running::daemon(&self.file());
        let admin = running.bound("admin");
        running.until("ready", |_| (get(admin, "localhost", "/readyz")?.0 == 200).then_some(()));
        running
    }
}

/// `[dns]` with the native zone.
pub(crate) const DNS: &str =
    "[dns]\nlisten = [\"127.0.0.1:0\"]\n[[dns.zone]]\nname = \"svc.cluster\"\nschema = \"native\"\n";

/// A listener on a port of the kernel's choice.
pub(crate) fn listener(name: &str, protocol: &str) -> String {
    listener_at(name, protocol, "127.0.0.1:0")
}

/// A listener on an address.
pub(crate) fn listener_at(name: &str, protocol: &str, address: &str) -> String {
    format!("[[proxy.listener]]\nname = \"{name}\"\nbind = \"{address}\"\nprotocol = \"{protocol}\"\n")
}

/// A route of an `http` listener.
pub(crate) fn route(listener: &str, host: &str, service: &str) -> String {
    format!("[[proxy.route]]\nlistener = \"{listener}\"\nhost = \"{host}\"\nservice = \"{service}\"\n")
}

/// A service with a port named `http` and these endpoints.
pub(crate) fn service(name: &str, endpoints: &[SocketAddr]) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "[[service]]\nname = \"{name}\"\nport = [{{ name = \"http\", number = 80, app = \"http\" }}]\n\
         endpoint = [{}]\n",
        endpoints.join(", ")
    )
}

/// GET with `Connection: close`: status and body, or nothing if there is no whole answer.
pub(crate) fn get(server: SocketAddr, host: &str, path: &str) -> Option<(u16, String)> {
    exchange(server, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
}

/// The value of one series of the metrics.
pub(crate) fn metric(admin: SocketAddr, series: &str) -> Option<f64> {
    let (_, body) = get(admin, "localhost", "/metrics")?;
    body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// How many reloads were taken. A file that was changed and a signal about it may be one reload or two.
pub(crate) fn reloads(admin: SocketAddr) -> Option<f64> {
    metric(admin, "portolan_config_reloads_total{result=\"ok\"}")
}

/// Sends a request that asks to close, and reads the answer.
pub(crate) fn exchange(server: SocketAddr, request: &str) -> Option<(u16, String)> {
    let stream = TcpStream::connect_timeout(&server, super::PATIENCE).ok()?;
    stream.set_read_timeout(Some(super::PATIENCE)).ok()?;
    stream.set_write_timeout(Some(super::PATIENCE)).ok()?;
    exchange_on(stream, request)
}

/// A connection to a Unix socket, for [`exchange_on`].
pub(crate) fn unix_stream(path: &Path) -> Option<UnixStream> {
    let stream = UnixStream::connect(path).ok()?;
    stream.set_read_timeout(Some(super::PATIENCE)).ok()?;
    stream.set_write_timeout(Some(super::PATIENCE)).ok()?;
    Some(stream)
}

/// The same on a connection.
pub(crate) fn exchange_on(mut stream: impl Read + Write, request: &str) -> Option<(u16, String)> {
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// An HTTP server that tells the size of the body it got. A request for `/slow` waits until it is let go.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    arrived: Receiver<()>,
    release: Sender<()>,
}

impl Backend {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (arrive, arrived) = channel();
        let (release, released) = channel();
        let released = Arc::new(Mutex::new(released));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (arrive, released) = (arrive.clone(), Arc::clone(&released));
                std::thread::spawn(move || while serve(&stream, &arrive, &released).is_some() {});
            }
        });
        Self { address, arrived, release }
    }

    /// Waits until a slow request is there.
    pub(crate) fn until_slow(&self) {
        self.arrived.recv_timeout(super::PATIENCE).expect("the slow request arrives");
    }

    /// Lets one slow request go.
    pub(crate) fn release(&self) {
        self.release.send(()).unwrap();
    }
}

fn serve(stream: &TcpStream, arrive: &Sender<()>, released: &Mutex<Receiver<()>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_ascii_lowercase());
    }
    let field = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    if field("expect").is_some() {
        (&mut &*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let size = match field("content-length") {
        Some(length) => body(&mut reader, length.parse().ok()?)?,
        None if field("transfer-encoding").is_some() => chunks(&mut reader)?,
        None => 0,
    };
    if lines.first()?.contains(" /slow ") {
        arrive.send(()).ok()?;
        released.lock().unwrap().recv().ok()?;
    }
    let answer = format!("got {size}\n");
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
    (&mut &*stream).write_all(format!("{head}{answer}").as_bytes()).ok()
}

fn body(reader: &mut impl Read, length: usize) -> Option<usize> {
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(length)
}

fn chunks(reader: &mut impl BufRead) -> Option<usize> {
    let mut total = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim(), 16).ok()?;
        body(reader, size + 2)?;
        total += size;
        if size == 0 {
            return Some(total);
        }
    }
}
