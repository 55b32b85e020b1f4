//! Handshakes: the worker moves the octets, and threads of their own do the arithmetic (see [`crate::tls`]).

use core::cell::Cell;
use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, ready};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;

use rustls::server::UnbufferedServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::session::Session;
use super::tls::TlsStream;
use crate::l7::Timer;
use crate::tls::metrics::Failure;
use crate::tls::{ListenerTls, Work};
use crate::worker::Worker;

/// Octets of a client's first message at most. The largest in use, with keys that withstand quantum computers and
/// encrypted names, have about 4,000.
const HELLO_MAX: usize = 16 * 1024;
/// Octets of any flight that wait to be taken in: what the library allows for one message.
const FLIGHT_MAX: usize = 64 * 1024;
/// Type of a record that is part of a handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 0x16;

/// A handshake that came to nothing.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) why: Failure,
    /// What is left of the connection. After [`Failure::Plaintext`] something has been read from it.
    pub(crate) socket: TcpStream,
}

/// The handshakes of a worker that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Pending(Cell<usize>);

impl Pending {
    /// A place for one more, unless there are `most` already.
    fn enter(&self, most: usize) -> Option<Place<'_>> {
        (self.0.get() < most).then(|| {
            self.0.set(self.0.get() + 1);
            Place(self)
        })
    }
}

struct Place<'p>(&'p Pending);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() - 1);
    }
}

/// Carries out the handshake with a client, within the time that `timer` allows.
///
/// # Errors
/// Why there is no connection to speak of.
pub(crate) async fn accept(
    worker: &Rc<Worker>,
    tls: &ListenerTls,
    socket: TcpStream,
    timer: &Timer,
) -> Result<TlsStream, Failed> {
    let Some(_place) = worker.handshakes.enter(worker.config().limits.tls_handshakes_max) else {
        return Err(Failed { why: Failure::Overload, socket });
    };
    let mut shake =
        Shake { worker, socket, timer, incoming: Vec::new(), outgoing: Vec::new(), content: Vec::new() };
    let outcome = match shake.hello().await {
        Ok(()) => match UnbufferedServerConnection::new(tls.config()) {
            Ok(session) => shake.run(Session::Server(Box::new(session))).await,
            Err(_) => Err(Failure::Protocol),
        },
        Err(why) => Err(why),
    };
    match outcome {
        Ok(session) => Ok(shake.finish(session)),
        Err(why) => Err(Failed { why, socket: shake.socket }),
    }
}

/// A handshake in progress.
struct Shake<'a> {
    worker: &'a Rc<Worker>,
    socket: TcpStream,
    timer: &'a Timer,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    content: Vec<u8>,
}

impl Shake<'_> {
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
    async fn run(&mut self, mut session: Session) -> Result<Session, Failure> {
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
                return Err(Failure::Protocol);
            }
            self.read().await?;
        }
    }

    async fn take_in(&mut self, mut session: Session) -> Result<Session, Failure> {
        if session.is_light() {
            let (taken, outcome) = session.shake(&mut self.incoming, &mut self.outgoing, &mut self.content);
            self.incoming.drain(..taken);
            return outcome.map(|()| session).map_err(|error| self.refuse(&error));
        }
        let work = self.elsewhere(session).await?;
        let Work { session, mut incoming, taken, outgoing, content, outcome } = *work;
        incoming.drain(..taken);
        (self.incoming, self.outgoing, self.content) = (incoming, outgoing, content);
        outcome.map(|()| session).map_err(|error| self.refuse(&error))
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
        let threads = self.worker.tls().threads();
        let mut result = pin!(threads.hand_over(self.worker.index, work).map_err(|_| Failure::Overload)?);
        poll_fn(|cx| match result.as_mut().poll(cx) {
            Poll::Ready(work) => Poll::Ready(work.map_err(|_| Failure::Overload)),
            Poll::Pending => self.poll_time(),
        })
        .await
    }

    /// Tells the other side what is wrong, as far as that goes without waiting.
    fn refuse(&self, error: &rustls::Error) -> Failure {
        let _ = self.socket.try_write(&self.outgoing);
        tracing::debug!(%error, "TLS handshake failed");
        match error {
            rustls::Error::AlertReceived(_) => Failure::Refused,
            _ => Failure::Protocol,
        }
    }

    async fn read(&mut self) -> Result<(), Failure> {
        poll_fn(|cx| {
            let mut piece = [0; 4096];
            let mut target = ReadBuf::new(&mut piece);
            match Pin::new(&mut self.socket).poll_read(cx, &mut target) {
                Poll::Ready(Ok(())) if !target.filled().is_empty() => {
                    self.incoming.extend_from_slice(target.filled());
                    Poll::Ready(Ok(()))
                }
                Poll::Ready(_) => Poll::Ready(Err(Failure::Closed)),
                Poll::Pending => self.poll_time(),
            }
        })
        .await
    }

    async fn write(&mut self) -> Result<(), Failure> {
        let mut written = 0;
        let outgoing = core::mem::take(&mut self.outgoing);
        poll_fn(|cx| {
            while written < outgoing.len() {
                match self.poll_write(cx, &outgoing[written..]) {
                    Poll::Ready(Ok(count)) if count > 0 => written += count,
                    Poll::Ready(_) => return Poll::Ready(Err(Failure::Closed)),
                    Poll::Pending => return self.poll_time(),
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(ready!(Pin::new(&mut self.socket).poll_write(cx, octets)))
    }

    /// Nothing happened: whether to go on waiting.
    fn poll_time<T>(&self) -> Poll<Result<T, Failure>> {
        if self.timer.is_expired() { Poll::Ready(Err(Failure::TimedOut)) } else { Poll::Pending }
    }

    fn finish(self, session: Session) -> TlsStream {
        TlsStream::new(self.socket, session, &self.worker.stock, &self.incoming, self.content, self.outgoing)
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
