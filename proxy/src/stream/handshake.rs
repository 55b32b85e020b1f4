//! Handshakes: the worker moves the octets, and threads of their own do the arithmetic (see [`crate::tls`]).

use core::cell::Cell;
use core::net::SocketAddr;
use core::task::Poll;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::session::Session;
use super::tls::TlsStream;
use crate::l7::Stock;
use crate::tls::metrics::Failure;
use crate::tls::{Alpn, Client, ListenerTls, Tls, Work};

/// Octets of a client's first message at most. The largest in use, with keys that withstand quantum computers and
/// encrypted names, have about 4,000.
const HELLO_MAX: usize = 16 * 1024;
/// Octets of any flight that wait to be taken in: what the library allows for one message.
const FLIGHT_MAX: usize = 64 * 1024;
/// Type of a record that is part of a handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 0x16;

/// The handshakes of one worker, with clients and with endpoints.
#[derive(Debug)]
pub(crate) struct Handshakes {
    tls: Arc<Tls>,
    stock: Rc<Stock>,
    worker: usize,
    /// Those with clients that have not ended.
    pending: Cell<usize>,
}

/// Counts a handshake as pending until dropped.
struct Place<'h>(&'h Handshakes);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.pending.set(self.0.pending.get() - 1);
    }
}

impl Handshakes {
    pub(crate) fn new(tls: &Arc<Tls>, stock: &Rc<Stock>, worker: usize) -> Rc<Self> {
        Rc::new(Self { tls: Arc::clone(tls), stock: Rc::clone(stock), worker, pending: Cell::new(0) })
    }

    /// Carries out the handshake with a client, of which `most` may be pending. The caller limits its time: dropped,
    /// it leaves nothing behind.
    ///
    /// # Errors
    /// Why it came to nothing; with [`Failure::Plaintext`] the connection, from which something has been read.
    pub(crate) async fn accept(
        &self,
        tls: &ListenerTls,
        socket: TcpStream,
        most: usize,
    ) -> Result<TlsStream, (Failure, Option<TcpStream>)> {
        if self.pending.get() >= most {
            return Err((Failure::Overload, None));
        }
        self.pending.set(self.pending.get() + 1);
        let _place = Place(self);
        let mut shake = Shake::new(self, socket);
        match shake.hello().await {
            Ok(()) => {}
            Err(Failure::Plaintext) => return Err((Failure::Plaintext, Some(shake.socket))),
            Err(why) => return Err((why, None)),
        }
        let session = UnbufferedServerConnection::new(tls.config()).map_err(|_| (Failure::Protocol, None))?;
        match shake.run(Session::Server(Box::new(session))).await {
            Ok(session) => Ok(shake.finish(session)),
            Err(Broken { why, .. }) => Err((why, None)),
        }
    }

    /// Carries out the handshake with an endpoint. The caller limits its time.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if the endpoint is not whom we want or the other way round,
    /// [`io::ErrorKind::ResourceBusy`] if too much waits already.
    pub(crate) async fn connect(
        &self,
        client: &Arc<Client>,
        alpn: Alpn,
        socket: TcpStream,
        endpoint: SocketAddr,
    ) -> Result<TlsStream, (Failure, io::Error)> {
        let mut shake = Shake::new(self, socket);
        let session = match client.begin(endpoint, alpn) {
            Ok(session) => Session::Client(Box::new(session)),
            Err(error) => return Err(Broken::from(error).told()),
        };
        match shake.run(session).await {
            Ok(session) if !alpn.is_agreed(session.alpn_protocol()) => {
                Err(Broken::from(rustls::Error::NoApplicationProtocol).told())
            }
            Ok(session) => Ok(shake.finish(session).of(client)),
            Err(broken) => Err(broken.told()),
        }
    }
}

/// Why a handshake ended early.
struct Broken {
    why: Failure,
    error: Option<rustls::Error>,
}

impl Broken {
    fn told(self) -> (Failure, io::Error) {
        let error = match self.error {
            Some(error) => io::Error::new(io::ErrorKind::InvalidData, error),
            None if self.why == Failure::Overload => io::ErrorKind::ResourceBusy.into(),
            None => io::ErrorKind::ConnectionReset.into(),
        };
        (self.why, error)
    }
}

impl From<rustls::Error> for Broken {
    fn from(error: rustls::Error) -> Self {
        let why = match error {
            rustls::Error::AlertReceived(_) => Failure::Refused,
            rustls::Error::InvalidCertificate(_) => Failure::Certificate,
            rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => Failure::Plaintext,
            _ => Failure::Protocol,
        };
        Self { why, error: Some(error) }
    }
}

impl From<Failure> for Broken {
    fn from(why: Failure) -> Self {
        Self { why, error: None }
    }
}

/// A handshake in progress.
struct Shake<'a> {
    of: &'a Handshakes,
    socket: TcpStream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    content: Vec<u8>,
}

impl<'a> Shake<'a> {
    fn new(of: &'a Handshakes, socket: TcpStream) -> Self {
        Self { of, socket, incoming: Vec::new(), outgoing: Vec::new(), content: Vec::new() }
    }

    /// Reads the client's first message. It is looked at only as a whole, so that one that drips in costs nothing.
    async fn hello(&mut self) -> Result<(), Failure> {
        loop {
            self.read().await?;
            match hello(&self.incoming) {
                Hello::Whole => return Ok(()),
                Hello::Part if self.incoming.len() < HELLO_MAX => {}
                Hello::Part => return Err(Failure::Protocol),
                Hello::None => return Err(Failure::Plaintext),
            }
        }
    }

    /// Takes in what has been read and reads on, until the handshake is done.
    async fn run(&mut self, mut session: Session) -> Result<Session, Broken> {
        loop {
            session = self.take_in(session).await?;
            if !session.is_handshaking() && session.may_hold_last_flight() {
                return Ok(session);
            }
            self.write().await?;
            if !session.is_handshaking() {
                return Ok(session);
            }
            if self.incoming.len() >= FLIGHT_MAX {
                return Err(Failure::Protocol.into());
            }
            self.read().await?;
        }
    }

    async fn take_in(&mut self, mut session: Session) -> Result<Session, Broken> {
        // A client's first message answers nothing: it is written already.
        if session.is_light() || self.incoming.is_empty() {
            let (taken, outcome) = session.shake(&mut self.incoming, &mut self.outgoing, &mut self.content);
            self.incoming.drain(..taken);
            return outcome.map(|()| session).map_err(|error| self.refuse(error));
        }
        let work = self.elsewhere(session).await?;
        let Work { session, mut incoming, taken, outgoing, content, outcome } = *work;
        incoming.drain(..taken);
        (self.incoming, self.outgoing, self.content) = (incoming, outgoing, content);
        outcome.map(|()| session).map_err(|error| self.refuse(error))
    }

    /// Has a thread take in what has been read.
    async fn elsewhere(&mut self, session: Session) -> Result<Box<Work>, Failure> {
        let work = Box::new(Work {
            session,
            incoming: core::mem::take(&mut self.incoming),
            taken: 0,
            outgoing: core::mem::take(&mut self.outgoing),
            content: core::mem::take(&mut self.content),
            outcome: Ok(()),
        });
        let result = self.of.tls.threads().hand_over(self.of.worker, work);
        result.map_err(|_| Failure::Overload)?.await.map_err(|_| Failure::Overload)
    }

    /// Tells the other side what is wrong, as far as that goes without waiting.
    fn refuse(&self, error: rustls::Error) -> Broken {
        let _ = self.socket.try_write(&self.outgoing);
        tracing::debug!(%error, "TLS handshake failed");
        error.into()
    }

    async fn read(&mut self) -> Result<(), Failure> {
        poll_fn(|cx| {
            let mut piece = [0; 4096];
            let mut target = ReadBuf::new(&mut piece);
            let read = core::task::ready!(Pin::new(&mut self.socket).poll_read(cx, &mut target));
            self.incoming.extend_from_slice(target.filled());
            Poll::Ready(match read {
                Ok(()) if !target.filled().is_empty() => Ok(()),
                _ => Err(Failure::Closed),
            })
        })
        .await
    }

    async fn write(&mut self) -> Result<(), Failure> {
        let mut written = 0;
        poll_fn(|cx| {
            while written < self.outgoing.len() {
                let socket = Pin::new(&mut self.socket);
                match core::task::ready!(socket.poll_write(cx, &self.outgoing[written..])) {
                    Ok(count) if count > 0 => written += count,
                    _ => return Poll::Ready(Err(Failure::Closed)),
                }
            }
            self.outgoing.clear();
            Poll::Ready(Ok(()))
        })
        .await
    }

    fn finish(self, session: Session) -> TlsStream {
        TlsStream::new(self.socket, session, &self.of.stock, &self.incoming, self.content, self.outgoing)
    }
}

/// What the first octets of a client are.
#[derive(Debug, PartialEq, Eq)]
enum Hello {
    /// No beginning of TLS.
    None,
    /// The beginning of a first message, or of what may be one.
    Part,
    /// A whole first message, or what the library refuses anyway.
    Whole,
}

/// Looks at the records of the first message, which may be spread over several (RFC 8446 §5.1), for its length.
fn hello(octets: &[u8]) -> Hello {
    let mut rest = octets;
    let (mut length, mut have) = ([0; 3], 0_usize);
    loop {
        match rest {
            [] => return Hello::Part,
            [HANDSHAKE, ..] => {}
            _ if have == 0 => return Hello::None,
            _ => return Hello::Whole,
        }
        let Some((head, behind)) = rest.split_first_chunk::<5>() else { return Hello::Part };
        let record = usize::from(u16::from_be_bytes([head[3], head[4]]));
        if record == 0 || head[1] != 3 {
            return Hello::Whole;
        }
        let content = &behind[..record.min(behind.len())];
        // The message's own head: one octet of type, three of length.
        for (at, octet) in (have..4).zip(content) {
            if let Some(place) = at.checked_sub(1) {
                length[place] = *octet;
            }
        }
        have += content.len();
        let [high, middle, low] = length.map(usize::from);
        if have >= 4 && have >= 4 + (high << 16 | middle << 8 | low) {
            return Hello::Whole;
        }
        let Some(next) = behind.get(record..) else { return Hello::Part };
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(message: &[u8], piece: usize) -> Vec<u8> {
        let record =
            |piece: &[u8]| [&[HANDSHAKE, 3, 1], &(piece.len() as u16).to_be_bytes()[..], piece].concat();
        message.chunks(piece).flat_map(record).collect()
    }

    #[test]
    fn a_first_message_is_whole_when_its_last_octet_is_there() {
        let message = [&[1, 0, 1, 44][..], &[7; 300]].concat();
        for piece in [1, 2, 3, 4, 5, 100, 304] {
            let octets = records(&message, piece);
            for length in 0..octets.len() {
                assert_eq!(hello(&octets[..length]), Hello::Part, "{length} octets in records of {piece}");
            }
            assert_eq!(hello(&octets), Hello::Whole, "records of {piece}");
        }
    }

    #[test]
    fn other_protocols_are_seen_at_their_first_octet() {
        for octets in [&b"GET / HTTP/1.1\r\n"[..], b"\0", b"SSH-2.0-x"] {
            assert_eq!(hello(octets), Hello::None);
        }
    }
}
