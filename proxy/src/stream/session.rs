//! The state of one TLS connection, which takes octets in and gives octets out, and does no I/O.

use core::fmt;
use std::ops::Deref;

use rustls::CommonState;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

/// Either side of a TLS connection.
///
/// The library's form without buffers of its own: octets are decrypted where they were read to, and a connection that
/// is idle holds keys and nothing else.
pub(crate) enum Session {
    /// We are the server.
    Server(Box<UnbufferedServerConnection>),
    /// We are the client.
    Client(Box<UnbufferedClientConnection>),
}

/// What one step of a session brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Content, handed to the caller's function.
    Content,
    /// Something else; there may be more.
    More,
    /// The other side said that it will send no more.
    Ended,
    /// Nothing can be done until more octets come.
    Idle,
}

/// What became of content to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sealed {
    /// It stands encrypted in so many octets.
    Done(usize),
    /// A message of the session's own goes first and was put with the others; again.
    Again,
    /// The other side ended; again.
    Ended,
    /// Nothing can be sent on this connection.
    Refused,
}

impl Session {
    /// Takes in what can be taken from the front of `incoming`; content is given to `content`, messages for the
    /// other side are put behind `control`. The number says how many octets are done with.
    pub(super) fn step(
        &mut self,
        incoming: &mut [u8],
        control: &mut Vec<u8>,
        content: impl FnMut(&[u8]),
    ) -> (usize, Result<Step, rustls::Error>) {
        match self {
            Self::Server(session) => step(session.process_tls_records(incoming), control, content),
            Self::Client(session) => step(session.process_tls_records(incoming), control, content),
        }
    }

    /// Encrypts `content` into `space`, which must have room for it. `joined` is what lies there of a message that
    /// has arrived in part.
    pub(super) fn seal(
        &mut self,
        joined: &mut [u8],
        content: &[u8],
        space: &mut [u8],
        control: &mut Vec<u8>,
    ) -> Result<Sealed, rustls::Error> {
        match self {
            Self::Server(session) => seal(session.process_tls_records(joined), Some(content), space, control),
            Self::Client(session) => seal(session.process_tls_records(joined), Some(content), space, control),
        }
    }

    /// As [`seal`](Self::seal), for the message that says that nothing more will come.
    pub(super) fn seal_end(
        &mut self,
        joined: &mut [u8],
        space: &mut [u8],
        control: &mut Vec<u8>,
    ) -> Result<Sealed, rustls::Error> {
        match self {
            Self::Server(session) => seal(session.process_tls_records(joined), None, space, control),
            Self::Client(session) => seal(session.process_tls_records(joined), None, space, control),
        }
    }

    /// Takes in everything that can be taken in during a handshake. How many octets are done with, and how it went;
    /// after an error `outgoing` ends with the alert.
    pub(crate) fn shake(
        &mut self,
        incoming: &mut [u8],
        outgoing: &mut Vec<u8>,
        content: &mut Vec<u8>,
    ) -> (usize, Result<(), rustls::Error>) {
        let mut taken = 0;
        loop {
            let (count, step) =
                self.step(&mut incoming[taken..], outgoing, |octets| content.extend_from_slice(octets));
            taken += count;
            match step {
                Ok(Step::Content | Step::More) => {}
                Ok(Step::Idle | Step::Ended) => return (taken, Ok(())),
                Err(error) => {
                    self.gather_alert(outgoing);
                    return (taken, Err(error));
                }
            }
        }
    }

    /// Puts the alert that goes with an error behind `control`.
    pub(super) fn gather_alert(&mut self, control: &mut Vec<u8>) {
        // What has been said already goes first, so the library looks at nothing else while there is something to say.
        // Afterwards it would go on reading, and expect messages where it left them.
        while self.wants_write() {
            if self.step(&mut [], control, |_| ()).1.is_err() {
                return;
            }
        }
    }

    /// What is left of the handshake costs little: the keys are agreed on, and nothing is to be signed any more.
    pub(super) fn is_light(&self) -> bool {
        use rustls::{HandshakeKind, ProtocolVersion};
        matches!(self, Self::Server(_))
            && self.protocol_version() == Some(ProtocolVersion::TLSv1_3)
            && matches!(self.handshake_kind(), Some(HandshakeKind::Full | HandshakeKind::Resumed))
    }

    /// The last messages of the handshake can wait for what is written first. Not those of a server of TLS 1.2: the
    /// client waits for them.
    pub(super) fn may_hold_last_flight(&self) -> bool {
        matches!(self, Self::Client(_)) || self.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3)
    }
}

impl Deref for Session {
    type Target = CommonState;

    fn deref(&self) -> &CommonState {
        match self {
            Self::Server(session) => session,
            Self::Client(session) => session,
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Server(_) => "Server",
            Self::Client(_) => "Client",
        };
        f.debug_struct(name).field("version", &self.protocol_version()).finish_non_exhaustive()
    }
}

fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    control: &mut Vec<u8>,
    mut content: impl FnMut(&[u8]),
) -> (usize, Result<Step, rustls::Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state {
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                None => break Ok(Step::Content),
                Some(Ok(record)) => {
                    discard += record.discard;
                    content(record.payload);
                }
                Some(Err(error)) => break Err(error),
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut message)) => {
            append(control, |space| message.encode(space)).map(|()| Step::More)
        }
        Ok(ConnectionState::TransmitTlsData(transmit)) => {
            transmit.done();
            Ok(Step::More)
        }
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Step::Ended),
        Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => Ok(Step::Idle),
        // Early data is never offered or asked for.
        Ok(_) => Err(rustls::Error::General("unexpected state".to_owned())),
        Err(error) => Err(error),
    };
    (discard, step)
}

/// Grows `control` as far as a message needs.
fn append(
    control: &mut Vec<u8>,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), rustls::Error> {
    let start = control.len();
    loop {
        match encode(&mut control[start..]) {
            Ok(count) => {
                control.truncate(start + count);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needed)) => control.resize(start + needed.required_size, 0),
            Err(EncodeError::AlreadyEncoded) => {
                return Err(rustls::Error::General("message encoded twice".to_owned()));
            }
        }
    }
}

fn seal<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    content: Option<&[u8]>,
    space: &mut [u8],
    control: &mut Vec<u8>,
) -> Result<Sealed, rustls::Error> {
    match status.state? {
        ConnectionState::WriteTraffic(mut traffic) => {
            let sealed = match content {
                Some(content) => traffic.encrypt(content, space),
                None => traffic.queue_close_notify(space),
            };
            match sealed {
                Ok(count) => Ok(Sealed::Done(count)),
                Err(EncryptError::EncryptExhausted) => Ok(Sealed::Refused),
                Err(EncryptError::InsufficientSize(_)) => {
                    Err(rustls::Error::General("no room for a record".to_owned()))
                }
            }
        }
        ConnectionState::EncodeTlsData(mut message) => {
            append(control, |space| message.encode(space)).map(|()| Sealed::Again)
        }
        ConnectionState::TransmitTlsData(transmit) => {
            transmit.done();
            Ok(Sealed::Again)
        }
        ConnectionState::PeerClosed => Ok(Sealed::Ended),
        _ => Ok(Sealed::Refused),
    }
}
