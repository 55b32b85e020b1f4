//! A client that reads from a ZooKeeper ensemble: children and contents of nodes, and word of their changes.
//!
//! ```text
//!   Ensemble ──connect──► Connection: children(path), contents(paths) ──► changed() ──► read again
//!      ▲ every server is tried, in random order              │ broken, silent, session expired
//!      └─────────────────────────────────────────────────────┘
//! ```
//!
//! It holds nothing in ZooKeeper, so it needs no session beyond a connection: each connection begins one of its own, and
//! whoever reads reads everything again. That leaves out sessions that move between servers, writes, and multi-part
//! requests, which is most of what a general client is made of; the ones at hand bring fifty packages and spawn tasks
//! that nobody awaits. Not spoken: TLS and SASL.

mod wire;

use std::collections::VecDeque;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::source::SourceError;
use wire::{
    AUTH, AUTH_FAILED, EXISTS, GET_CHILDREN, GET_DATA, Message, NO_AUTH, NO_NODE, OK, PING, Reader, XID_AUTH,
    XID_EVENT, XID_PING,
};

/// The session's time-out that is asked for; the server may change it.
const SESSION: Duration = Duration::from_secs(10);
/// Finding a server takes no longer than this for each.
const DIAL_TIME_MAX: Duration = Duration::from_secs(3);
/// Largest answer. A node holds at most 1 MiB; a list of children may be longer.
const ANSWER_LEN_MAX: usize = 64 * 1024 * 1024;
/// Requests on their way at once.
const WINDOW: usize = 64;

/// Servers that are one ZooKeeper.
#[derive(Debug, Clone)]
pub(crate) struct Ensemble {
    /// `host:port` each.
    pub(crate) servers: Vec<String>,
    /// `user:password` for the scheme `digest`.
    pub(crate) credentials: Option<Credentials>,
}

/// A secret that is held. Never shown.
#[derive(Clone)]
pub(crate) struct Credentials(pub(crate) String);

impl core::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("…")
    }
}

/// A connection to one server, with a session of its own.
#[derive(Debug)]
pub(crate) struct Connection {
    tcp: TcpStream,
    server: String,
    /// Octets of an answer that is still arriving.
    held: Vec<u8>,
    xid: i32,
    /// Paths of which a change was told while something else was waited for.
    changed: VecDeque<String>,
    /// Silence for this long means that the server is gone.
    silence_max: Duration,
    heard: Instant,
    pinged: Instant,
}

impl Ensemble {
    /// Takes apart `zk://[user:password@]host[:port][,host[:port]]…[/path]`; the path comes beside.
    ///
    /// # Errors
    /// [`SourceError::Setup`]; credentials are not repeated.
    pub(crate) fn parse(url: &str) -> Result<(Self, String), SourceError> {
        let setup = |message: &str| SourceError::Setup { message: message.to_owned() };
        let rest = url.strip_prefix("zk://").ok_or_else(|| setup("not a zk:// URL"))?;
        let (credentials, rest) = match rest.rsplit_once('@') {
            Some((credentials, rest)) => (Some(Credentials(credentials.to_owned())), rest),
            None => (None, rest),
        };
        let (hosts, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let server = |host: &str| match host.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => host.to_owned(),
            _ => format!("{host}:2181"),
        };
        let servers: Vec<String> = hosts.split(',').filter(|host| !host.is_empty()).map(server).collect();
        if servers.is_empty() {
            return Err(setup("the zk:// URL names no server"));
        }
        let path = path.trim_end_matches('/').to_owned();
        Ok((Self { servers, credentials }, path))
    }

    /// Connects to any server that answers and is part of a quorum.
    ///
    /// # Errors
    /// [`SourceError::Connect`] of the last server, if none does; [`SourceError::Setup`] for credentials that are refused.
    pub(crate) async fn connect(&self) -> Result<Connection, SourceError> {
        let mut servers: Vec<&String> = self.servers.iter().collect();
        fastrand::shuffle(&mut servers);
        let mut last = SourceError::Setup { message: "no ZooKeeper server is configured".to_owned() };
        for server in servers {
            match timeout(DIAL_TIME_MAX, self.dial(server)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error @ SourceError::Setup { .. })) => return Err(error),
                Ok(Err(error)) => last = error,
                Err(_) => last = failed(server, "no answer within the limit"),
            }
            tracing::debug!(server, error = %last, "no ZooKeeper session");
        }
        Err(last)
    }

    async fn dial(&self, server: &str) -> Result<Connection, SourceError> {
        let tcp = TcpStream::connect(server).await.map_err(|error| failed(server, error))?;
        tcp.set_nodelay(true).map_err(|error| failed(server, error))?;
        let now = Instant::now();
        let mut connection = Connection {
            tcp,
            server: server.to_owned(),
            held: Vec::new(),
            xid: 0,
            changed: VecDeque::new(),
            silence_max: SESSION,
            heard: now,
            pinged: now,
        };
        connection.begin().await?;
        if let Some(Credentials(pair)) = &self.credentials {
            connection.authenticate(pair).await?;
        }
        Ok(connection)
    }
}

impl Connection {
    /// Begins a session.
    async fn begin(&mut self) -> Result<(), SourceError> {
        let asked = i32::try_from(SESSION.as_millis()).unwrap_or(i32::MAX);
        let hello = Message::bare().number(0).long(0).number(asked).long(0).octets(&[0; 16]).truth(false);
        self.send(&hello.finish()).await?;
        let answer = self.receive().await?;
        let mut answer = Reader(&answer);
        let granted = answer.number().and_then(|_version| answer.number()).unwrap_or(0);
        match u64::try_from(granted).ok().filter(|granted| *granted > 0) {
            // The server forgets us after all of it; two thirds are enough to know that it is gone.
            Some(granted) => self.silence_max = Duration::from_millis(granted) * 2 / 3,
            None => return Err(failed(&self.server, "no session was given")),
        }
        Ok(())
    }

    async fn authenticate(&mut self, pair: &str) -> Result<(), SourceError> {
        let request = Message::request(XID_AUTH, AUTH).number(0).octets(b"digest").octets(pair.as_bytes());
        self.send(&request.finish()).await?;
        loop {
            let answer = self.receive().await?;
            match self.header(&answer)? {
                (XID_AUTH, OK, _) => return Ok(()),
                (XID_AUTH, _, _) => return Err(refused(&self.server)),
                _ => {}
            }
        }
    }

    /// The names of a node's children, and from now on word of a change of them; `None` if there is no such node, and
    /// from now on word of its creation.
    ///
    /// # Errors
    /// The connection is of no use any more, or reading is not allowed.
    pub(crate) async fn children(&mut self, path: &str) -> Result<Option<Vec<String>>, SourceError> {
        loop {
            let xid = self.request(GET_CHILDREN, path, true).await?;
            let answer = self.answer(xid).await?;
            if let (OK, mut body) = self.result(&answer)? {
                return body.texts().map(Some).ok_or_else(|| self.garbled());
            }
            let xid = self.request(EXISTS, path, true).await?;
            let answer = self.answer(xid).await?;
            if self.result(&answer)?.0 == NO_NODE {
                return Ok(None);
            }
        }
    }

    /// The contents of nodes in their order; `None` for one that is gone.
    ///
    /// # Errors
    /// As [`Connection::children`].
    pub(crate) async fn contents(&mut self, paths: &[String]) -> Result<Vec<Option<Vec<u8>>>, SourceError> {
        let mut contents = Vec::with_capacity(paths.len());
        for window in paths.chunks(WINDOW) {
            let mut xids = Vec::with_capacity(window.len());
            for path in window {
                xids.push(self.request(GET_DATA, path, false).await?);
            }
            for xid in xids {
                let answer = self.answer(xid).await?;
                contents.push(match self.result(&answer)? {
                    (OK, mut body) => Some(body.octets().ok_or_else(|| self.garbled())?.to_vec()),
                    _ => None,
                });
            }
        }
        Ok(contents)
    }

    /// Waits for word of a change, and gives the path it is about. Cancel-safe: nothing is lost if dropped.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub(crate) async fn changed(&mut self) -> Result<String, SourceError> {
        loop {
            if let Some(path) = self.changed.pop_front() {
                return Ok(path);
            }
            let ping = self.pinged + self.silence_max / 3;
            tokio::select! {
                () = sleep_until(ping) => {
                    // Before it is sent, so that a drop in the middle of it only delays the next.
                    self.pinged = Instant::now();
                    self.send(&Message::request(XID_PING, PING).finish()).await?;
                }
                answer = self.arriving() => {
                    let answer = answer?;
                    self.take_event(&answer)?;
                }
            }
        }
    }

    async fn request(&mut self, kind: i32, path: &str, watch: bool) -> Result<i32, SourceError> {
        self.xid = self.xid.checked_add(1).unwrap_or(1);
        let request = Message::request(self.xid, kind).octets(path.as_bytes()).truth(watch);
        self.send(&request.finish()).await?;
        Ok(self.xid)
    }

    /// The answer to `xid`; answers come in the order of the requests, events between them.
    async fn answer(&mut self, xid: i32) -> Result<Vec<u8>, SourceError> {
        loop {
            let answer = self.receive().await?;
            match self.header(&answer)?.0 {
                of if of == xid => return Ok(answer),
                XID_EVENT | XID_PING => self.take_event(&answer)?,
                _ => return Err(self.garbled()),
            }
        }
    }

    /// Error and body of an answer.
    fn result<'m>(&self, answer: &'m [u8]) -> Result<(i32, Reader<'m>), SourceError> {
        match self.header(answer)? {
            (_, error @ (OK | NO_NODE), body) => Ok((error, body)),
            (_, NO_AUTH | AUTH_FAILED, _) => Err(refused(&self.server)),
            (_, error, _) => Err(failed(&self.server, format!("answered with error {error}"))),
        }
    }

    fn take_event(&mut self, answer: &[u8]) -> Result<(), SourceError> {
        let (xid, _, mut body) = self.header(answer)?;
        if xid != XID_EVENT {
            return Ok(());
        }
        let (kind, _state) = (body.number(), body.number());
        // Kind -1 tells of the session alone.
        match (kind, body.text()) {
            (Some(kind), Some(path)) if kind > 0 => self.changed.push_back(path),
            (Some(_), _) => {}
            _ => return Err(self.garbled()),
        }
        Ok(())
    }

    /// Number, error and body of an answer.
    fn header<'m>(&self, answer: &'m [u8]) -> Result<(i32, i32, Reader<'m>), SourceError> {
        let mut reader = Reader(answer);
        let header = (reader.number(), reader.long(), reader.number());
        let (Some(xid), Some(_zxid), Some(error)) = header else { return Err(self.garbled()) };
        Ok((xid, error, reader))
    }

    async fn send(&mut self, message: &[u8]) -> Result<(), SourceError> {
        let until = Instant::now() + self.silence_max;
        let sent = timeout_at(until, self.tcp.write_all(message)).await;
        sent.map_err(|_| self.silent())?.map_err(|error| failed(&self.server, error))
    }

    /// The next answer, within the time in which there must be one.
    async fn receive(&mut self) -> Result<Vec<u8>, SourceError> {
        self.heard = Instant::now();
        self.arriving().await
    }

    /// The next answer. Cancel-safe: what has arrived of it is kept.
    async fn arriving(&mut self) -> Result<Vec<u8>, SourceError> {
        loop {
            if let Some(answer) = self.whole()? {
                return Ok(answer);
            }
            let until = self.heard + self.silence_max;
            let mut chunk = [0; 16 * 1024];
            let read = timeout_at(until, self.tcp.read(&mut chunk)).await;
            let read = read.map_err(|_| self.silent())?.map_err(|error| failed(&self.server, error))?;
            if read == 0 {
                return Err(failed(&self.server, "the server closed the connection"));
            }
            self.heard = Instant::now();
            self.held.extend_from_slice(&chunk[..read]);
        }
    }

    fn whole(&mut self) -> Result<Option<Vec<u8>>, SourceError> {
        let Some((length, _)) = self.held.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > ANSWER_LEN_MAX {
            return Err(self.garbled());
        }
        if self.held.len() < 4 + length {
            return Ok(None);
        }
        let answer = self.held[4..4 + length].to_vec();
        self.held.drain(..4 + length);
        Ok(Some(answer))
    }

    fn garbled(&self) -> SourceError {
        let message = "not what a ZooKeeper server says".to_owned();
        SourceError::Malformed { place: format!("zk://{}", self.server), message }
    }

    fn silent(&self) -> SourceError {
        SourceError::Idle { place: format!("zk://{}", self.server), seconds: self.silence_max.as_secs() }
    }
}

fn failed(server: &str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SourceError {
    SourceError::Connect { place: format!("zk://{server}"), cause: cause.into() }
}

fn refused(server: &str) -> SourceError {
    let message = format!("zk://{server}: reading is refused; check the user and password of the zk:// URL");
    SourceError::Setup { message }
}

#[cfg(test)]
pub(crate) mod tests;
