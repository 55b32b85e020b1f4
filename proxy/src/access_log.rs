//! The access log: one JSON object per line, a sample of the requests and every failure of ours.
//!
//! ```text
//!  worker ─ line ─► bounded queue of the worker ─┐
//!  worker ─ line ─► bounded queue of the worker ─┴─► one thread ─► file or standard output
//! ```
//! A worker never waits for the disk: what does not fit its queue is dropped and counted. The file is opened
//! anew when it was moved away (log rotation), looked at once a second.

use core::time::Duration;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::config::{AccessLogConfig, AccessLogPath};

/// Lines that may wait, per worker.
const QUEUE_MAX: usize = 1024;
/// How long a written line may stay in the buffer, and how often the file's place is looked at.
const FLUSH: Duration = Duration::from_secs(1);
/// Octets of a path in a line; the rest is cut off.
const PATH_MAX: usize = 1024;

/// The writer's side, made once; gives every worker a queue of its own.
#[derive(Debug)]
pub(crate) struct AccessLog {
    sample: f64,
    queues: Arc<Mutex<Vec<Receiver<Vec<u8>>>>>,
    wake: SyncSender<()>,
}

/// One worker's way into the log.
#[derive(Debug)]
pub(crate) struct Lines {
    sample: f64,
    queue: SyncSender<Vec<u8>>,
    wake: SyncSender<()>,
}

/// What is said about one request.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) listener: &'a str,
    pub(crate) client: core::net::SocketAddr,
    /// The client's connection is encrypted.
    pub(crate) is_tls: bool,
    /// The head as the endpoint gets it; empty if the request was none.
    pub(crate) head: &'a [u8],
    pub(crate) status: u16,
    pub(crate) took: Duration,
    /// Octets sent to the client.
    pub(crate) octets: u64,
    pub(crate) service: Option<&'a str>,
    pub(crate) endpoint: Option<core::net::SocketAddr>,
    pub(crate) attempts: u32,
    /// Why the proxy answered itself.
    pub(crate) refusal: Option<&'a str>,
}

impl AccessLog {
    /// Opens the log and starts its thread, which ends when the log and all its [`Lines`] are gone.
    ///
    /// # Errors
    /// The file can't be opened, or no thread can be started.
    pub(crate) fn open(config: &AccessLogConfig) -> io::Result<Self> {
        let mut sink = Sink::open(&config.path)?;
        let queues = Arc::new(Mutex::new(Vec::new()));
        let (wake, woken) = sync_channel(1);
        let of_thread = Arc::clone(&queues);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write(&of_thread, &woken, &mut sink))?;
        Ok(Self { sample: config.sample, queues, wake })
    }

    /// A queue for one worker.
    pub(crate) fn lines(&self) -> Lines {
        let (queue, receiver) = sync_channel(QUEUE_MAX);
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).push(receiver);
        Lines { sample: self.sample, queue, wake: self.wake.clone() }
    }
}

impl Lines {
    /// Whether this request is to be logged.
    #[inline]
    pub(crate) fn wants(&self, is_failure: bool) -> bool {
        is_failure || (self.sample > 0.0 && fastrand::f64() < self.sample)
    }

    /// Hands a line over. False if it was dropped because the writer lags.
    pub(crate) fn write(&self, entry: &Entry<'_>) -> bool {
        let written = match self.queue.try_send(compose(entry)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        };
        // A wake-up that waits already will do.
        let _ = self.wake.try_send(());
        written
    }
}

/// The thread: takes what the queues have, writes it, and leaves when nobody can send any more.
fn write(queues: &Mutex<Vec<Receiver<Vec<u8>>>>, woken: &Receiver<()>, sink: &mut Sink) {
    let mut flushed = Instant::now();
    loop {
        let wait = woken.recv_timeout(FLUSH);
        for queue in queues.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            for line in queue.try_iter().take(QUEUE_MAX) {
                sink.write(&line);
            }
        }
        let is_over = wait == Err(RecvTimeoutError::Disconnected);
        if is_over || wait.is_err() || flushed.elapsed() >= FLUSH {
            flushed = Instant::now();
            sink.flush();
        }
        if is_over {
            return;
        }
    }
}

/// Where lines end up.
enum Sink {
    Stdout(BufWriter<io::Stdout>),
    File { path: Box<Path>, file: BufWriter<File>, failed: bool },
}

impl Sink {
    fn open(path: &AccessLogPath) -> io::Result<Self> {
        Ok(match path {
            AccessLogPath::Stdout => Self::Stdout(BufWriter::new(io::stdout())),
            AccessLogPath::File(path) => {
                Self::File { path: path.as_path().into(), file: BufWriter::new(append(path)?), failed: false }
            }
        })
    }

    fn write(&mut self, line: &[u8]) {
        let written = match self {
            Self::Stdout(out) => out.write_all(line),
            Self::File { file, .. } => file.write_all(line),
        };
        self.note(written);
    }

    /// Writes out what is buffered, and follows the path if another file is there now, or none.
    fn flush(&mut self) {
        let flushed = match self {
            Self::Stdout(out) => out.flush(),
            Self::File { path, file, .. } => file.flush().and_then(|()| {
                if !is_at(file.get_ref(), path) {
                    *file = BufWriter::new(append(path)?);
                }
                Ok(())
            }),
        };
        self.note(flushed);
    }

    /// A full disk stops no traffic; it is said once until it is over.
    fn note(&mut self, outcome: io::Result<()>) {
        let Self::File { path, failed, .. } = self else { return };
        match outcome {
            Ok(()) => *failed = false,
            Err(error) if !core::mem::replace(failed, true) => {
                tracing::error!(path = %path.display(), %error, "access log can't be written");
            }
            Err(_) => {}
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn compose(entry: &Entry<'_>) -> Vec<u8> {
    let (method, path, host) = request_line(entry.head);
    let time_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let object = serde_json::json!({
        "time_ms": u64::try_from(time_ms).unwrap_or(u64::MAX),
        "listener": entry.listener,
        "client": entry.client.to_string(),
        "tls": entry.is_tls,
        "method": method,
        "host": host,
        "path": path,
        "status": entry.status,
        "duration_us": u64::try_from(entry.took.as_micros()).unwrap_or(u64::MAX),
        "bytes": entry.octets,
        "service": entry.service,
        "endpoint": entry.endpoint.map(|endpoint| endpoint.to_string()),
        "attempts": entry.attempts,
        "reason": entry.refusal,
    });
    let mut line = object.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// Method, path without the query (it may hold secrets), and host of a head that was judged.
fn request_line(head: &[u8]) -> (Option<&str>, Option<&str>, Option<&str>) {
    let Ok(head) =
        core::str::from_utf8(head).or_else(|error| core::str::from_utf8(&head[..error.valid_up_to()]))
    else {
        return (None, None, None);
    };
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().filter(|word| !word.is_empty()), words.next());
    let path = target.map(|target| target.split_once('?').map_or(target, |(path, _)| path));
    let host = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim())
    });
    (method, path.map(|path| path.get(..PATH_MAX).unwrap_or(path)), host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(head: &[u8]) -> Entry<'_> {
        Entry {
            listener: "web",
            client: "192.0.2.1:1234".parse().unwrap(),
            is_tls: true,
            head,
            status: 200,
            took: Duration::from_micros(1500),
            octets: 5,
            service: Some("web.shop"),
            endpoint: Some("10.0.0.1:80".parse().unwrap()),
            attempts: 1,
            refusal: None,
        }
    }

    #[test]
    fn a_line_is_one_object_and_holds_no_query() {
        let line = compose(&entry(b"GET /a\"b?token=secret HTTP/1.1\r\nX: y\r\nHost: h\r\n\r\n"));
        assert_eq!(line.iter().filter(|octet| **octet == b'\n').count(), 1);
        let object: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(object["path"], "/a\"b");
        assert_eq!(object["host"], "h");
        assert_eq!(object["tls"], true);
        assert_eq!(object["duration_us"], 1500);
        assert!(!String::from_utf8(line).unwrap().contains("secret"));
        let object: serde_json::Value = serde_json::from_slice(&compose(&entry(b""))).unwrap();
        assert!(object["method"].is_null());
    }

    #[test]
    fn a_full_queue_drops_and_never_waits() {
        let (queue, _kept) = sync_channel(1);
        let (wake, _woken) = sync_channel(1);
        let lines = Lines { sample: 1.0, queue, wake };
        assert!(lines.write(&entry(b"")));
        assert!(!lines.write(&entry(b"")));
    }

    #[test]
    fn failures_are_logged_whatever_the_sample() {
        let (queue, _kept) = sync_channel(1);
        let (wake, _woken) = sync_channel(1);
        let lines = Lines { sample: 0.0, queue, wake };
        assert!(lines.wants(true) && !lines.wants(false));
    }
}
