//! TLS on the data path: one read and one write of the socket for as much as there is, records in between.
//!
//! ```text
//!  socket ─► cipher (taken from the stock while octets are there) ─► decrypted in place ─► the reader's buffer
//!  socket ◄─ out (the same) ◄─ records ◄─ the writer's octets, behind what the session itself has to say
//! ```
//! An idle connection holds no buffer. A write is reported once the socket has taken all of it, so that a slow reader
//! slows its sender down as over plain TCP; until then it is to be tried again with the same octets.

use core::task::{Context, Poll, ready};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::{AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::session::{Sealed, Session, Step};
use crate::l7::{Buffer, LARGE, SMALL, Stock, WIRE};
use crate::tls::{Client, Policy};

/// Head of a record: type, version, length (RFC 8446 §5.1).
const RECORD_HEAD: usize = 5;
/// What encryption adds to a record at most, its head included, for every cipher spoken.
const RECORD_OVERHEAD: usize = 64;
/// What may follow the head of a record (RFC 5246 §6.2.3; TLS 1.3 allows less).
const RECORD_MAX: usize = RECORD_CONTENT + 2048;
/// Content of one record at most.
const RECORD_CONTENT: usize = 16 * 1024;

/// A TLS connection after its handshake.
#[derive(Debug)]
pub struct TlsStream {
    socket: TcpStream,
    session: Session,
    /// What it was made by, towards an endpoint.
    client: Option<Arc<Client>>,
    stock: Rc<Stock>,
    /// Read and not decrypted.
    cipher: Buffer,
    /// Decrypted and not read.
    content: Vec<u8>,
    /// How much of `content` was read.
    content_read: usize,
    /// Encrypted and not sent.
    out: Buffer,
    /// Messages of the session's own, to be sent with what is written next.
    control: Vec<u8>,
    /// Octets of the writer that stand in `out`, and that it was not told of.
    owed: usize,
    /// Some of them may have reached the other side.
    is_underway: bool,
    /// What lies in `cipher` is part of a message whose rest is to come.
    is_joining: bool,
    /// The other side sends no more.
    has_ended: bool,
    /// We send no more.
    has_said_end: bool,
}

impl TlsStream {
    /// After a handshake: octets that came behind it and that the session has looked at, content that came with it,
    /// messages that go with the first write.
    pub(super) fn new(
        socket: TcpStream,
        session: Session,
        stock: &Rc<Stock>,
        incoming: &[u8],
        content: Vec<u8>,
        control: Vec<u8>,
    ) -> Self {
        // The library wants no more once the other side has said that no more will come. It said so to those who carried
        // out the handshake, and will not again.
        let has_ended = !session.wants_read();
        let mut cipher = Buffer::default();
        if !has_ended && !incoming.is_empty() {
            cipher.reserve(stock, WIRE.max(incoming.len()));
            cipher.append(incoming);
        }
        let mut stream = Self {
            socket,
            session,
            client: None,
            stock: Rc::clone(stock),
            cipher,
            content,
            content_read: 0,
            out: Buffer::default(),
            control,
            owed: 0,
            is_underway: false,
            is_joining: false,
            has_ended,
            has_said_end: false,
        };
        // A whole record that is still there belongs to a message in part.
        stream.is_joining = stream.can_decode();
        stream
    }

    /// The same, made by `client`.
    pub(super) fn of(mut self, client: &Arc<Client>) -> Self {
        self.client = Some(Arc::clone(client));
        self
    }

    /// What it was made by, if it leads to an endpoint.
    pub(super) fn policy(&self) -> Option<Policy> {
        self.client.as_ref().map(Policy::of)
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// What is known about the connection.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.content.is_empty() && !self.has_ended && !self.can_decode() {
            return self.socket.poll_read_ready(cx);
        }
        Poll::Ready(Ok(()))
    }

    /// A record is there as a whole.
    fn can_decode(&self) -> bool {
        !self.is_joining && record_len(self.cipher.filled()).is_some_and(|len| len <= self.cipher.len())
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = target.filled().len();
        loop {
            self.take_content(target);
            while target.remaining() > 0 && self.can_decode() {
                self.decode(target)?;
            }
            if target.filled().len() > before || self.has_ended || target.remaining() == 0 {
                self.cipher.release(&self.stock);
                return Poll::Ready(Ok(()));
            }
            if self.poll_fill(cx)?.is_pending() {
                self.settle();
                return Poll::Pending;
            }
        }
    }

    fn take_content(&mut self, target: &mut ReadBuf<'_>) {
        let fresh = &self.content[self.content_read..];
        let count = fresh.len().min(target.remaining());
        target.put_slice(&fresh[..count]);
        self.content_read += count;
        if self.content_read == self.content.len() && !self.content.is_empty() {
            // Records that do not fit the reader are rare: their storage is not kept.
            self.content = Vec::new();
            self.content_read = 0;
        }
    }

    /// Decrypts the next records into `target`; what does not fit is kept.
    fn decode(&mut self, target: &mut ReadBuf<'_>) -> io::Result<()> {
        loop {
            let content = &mut self.content;
            let take = |octets: &[u8]| {
                let (fits, rest) = octets.split_at(octets.len().min(target.remaining()));
                target.put_slice(fits);
                content.extend_from_slice(rest);
            };
            let (taken, step) = self.session.step(self.cipher.filled_mut(), &mut self.control, take);
            self.cipher.consume(taken);
            match step {
                Ok(Step::More) => {}
                Ok(Step::Content) => return Ok(()),
                Ok(Step::Ended) => {
                    self.has_ended = true;
                    self.cipher.discard(&self.stock);
                    return Ok(());
                }
                Ok(Step::Idle) => {
                    self.is_joining = self.can_decode();
                    return Ok(());
                }
                Err(error) => {
                    self.give_up();
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
        }
    }

    /// Tells the other side what is wrong, as far as that goes without waiting.
    fn give_up(&mut self) {
        self.has_ended = true;
        self.cipher.discard(&self.stock);
        self.session.gather_alert(&mut self.control);
        if self.out.is_empty() {
            let _ = self.socket.try_write(&self.control);
            self.control = Vec::new();
        }
    }

    /// Reads once from the socket.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.socket.poll_read_ready(cx))?;
        self.cipher.reserve(&self.stock, WIRE);
        if self.cipher.room() < WIRE / 2 {
            self.cipher.compact();
        }
        if self.cipher.room() == 0 {
            // The library refuses messages of this length; so this is not reached.
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        match ready!(self.cipher.poll_fill(cx, &mut self.socket)) {
            // Without a closing message somebody may have cut the stream off (RFC 8446 §6.1).
            Ok(0) => {
                self.has_ended = true;
                Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()))
            }
            Ok(_) => {
                self.is_joining = false;
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Before a wait: holds no more storage than what is there of a record takes.
    fn settle(&mut self) {
        match self.cipher.len() {
            0 => self.cipher.release(&self.stock),
            1..=SMALL => self.cipher.shrink(&self.stock, SMALL),
            _ => self.cipher.shrink(&self.stock, RECORD_HEAD + RECORD_MAX),
        }
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        if self.owed == 0 {
            let count = octets.len().min(LARGE);
            if count == 0 {
                return Poll::Ready(Ok(0));
            }
            self.seal(Some(&octets[..count]))?;
            self.owed = count;
            ready!(self.poll_send(cx))?;
        }
        let told = self.owed.min(octets.len());
        self.owed -= told;
        self.is_underway = false;
        Poll::Ready(Ok(told))
    }

    /// See [`Stream::is_underway`](super::Stream::is_underway).
    pub(super) const fn is_underway(&self) -> bool {
        self.is_underway
    }

    /// See [`Stream::committed`](super::Stream::committed).
    pub(super) const fn committed(&self) -> usize {
        self.owed
    }

    /// Encrypts into `out`, which is empty; `None` stands for the closing message.
    fn seal(&mut self, content: Option<&[u8]>) -> io::Result<()> {
        let length = content.map_or(0, <[u8]>::len);
        let records = length.div_ceil(RECORD_CONTENT) + 1;
        let most = length + records * RECORD_OVERHEAD;
        loop {
            self.take_control(most);
            let joined = if self.is_joining { self.cipher.filled_mut() } else { &mut [] };
            let space = self.out.room_mut();
            let sealed = match content {
                Some(content) => self.session.seal(joined, content, space, &mut self.control),
                None => self.session.seal_end(joined, space, &mut self.control),
            };
            match sealed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
                Sealed::Done(count) => {
                    self.out.fill(count);
                    return Ok(());
                }
                Sealed::Again => {}
                Sealed::Ended => self.has_ended = true,
                Sealed::Refused => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
    }

    /// Moves messages of the session's own to `out`, and makes room there for `more` octets.
    fn take_control(&mut self, more: usize) {
        self.out.compact();
        let needed = self.out.len() + self.control.len() + more;
        self.out.reserve(&self.stock, if needed <= SMALL { SMALL } else { WIRE.max(needed) });
        self.out.append(&self.control);
        self.control = Vec::new();
    }

    /// Sends what is encrypted.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, self.out.filled()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => {
                    self.out.consume(count);
                    self.is_underway |= self.owed > 0;
                }
            }
        }
        self.out.release(&self.stock);
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.control.is_empty() {
            self.take_control(0);
        }
        self.poll_send(cx)
    }

    /// Sends the closing message, then the end of the TCP stream.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        if !core::mem::replace(&mut self.has_said_end, true) {
            self.seal(None)?;
            ready!(self.poll_send(cx))?;
        }
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    /// See [`Stream::is_quiet`](super::Stream::is_quiet). Tickets may come at any time and are no content.
    pub(super) fn is_quiet(&mut self) -> bool {
        if !self.content.is_empty() || self.has_ended {
            return false;
        }
        let mut octets = [0; 2048];
        loop {
            match self.socket.try_read(&mut octets) {
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
                Ok(0) => return false,
                Ok(count) if !self.take_unasked(&octets[..count]) => return false,
                Ok(_) => {}
            }
        }
    }

    /// Takes in octets that answer nothing. False if there is content in them, or an end, or an error.
    fn take_unasked(&mut self, octets: &[u8]) -> bool {
        self.cipher.reserve(&self.stock, WIRE);
        if self.cipher.room() < octets.len() {
            return false;
        }
        self.cipher.append(octets);
        self.is_joining = false;
        while self.can_decode() {
            let mut nothing = ReadBuf::new(&mut []);
            if self.decode(&mut nothing).is_err() || !self.content.is_empty() || self.has_ended {
                return false;
            }
        }
        self.settle();
        true
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        self.cipher.discard(&self.stock);
        self.out.discard(&self.stock);
    }
}

/// Length of the record that `octets` begin with, its head included. Of what is no record, only the head: the session
/// sees by it that something is wrong.
fn record_len(octets: &[u8]) -> Option<usize> {
    let head = octets.first_chunk::<RECORD_HEAD>()?;
    let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
    let is_record = matches!(head[0], 20..=23) && head[1] == 3 && length <= RECORD_MAX;
    Some(RECORD_HEAD + if is_record { length } else { 0 })
}
