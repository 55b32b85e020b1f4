//! One try at one resolver: UDP from a socket and port of its own, TCP where UDP doesn't do.

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::question::{Outgoing, Verdict};

/// Larger than anything that a resolver may send to our offer of 1232 octets; a packet that fills it was cut.
const UDP_BUFFER_LEN: usize = 4096;

/// After so many packets that are no answer somebody is guessing: the question moves to TCP (RFC 5452 §9.2).
const FOREIGN_MAX: u32 = 16;

/// What one try brought.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The packet, judged to be the answer, and its response code (the low four bits).
    pub(super) packet: Vec<u8>,
    pub(super) code: u8,
    /// Packets that came to the socket and were no answer.
    pub(super) foreign: u32,
    /// The answer, heard over TCP, had the name in another case than the query.
    pub(super) lost_case: bool,
}

/// Asks over UDP, and over TCP if the answer was cut, or is not to be trusted. No deadline of its own: the
/// caller drops the future, which closes the sockets.
pub(super) async fn ask(resolver: SocketAddr, outgoing: &Outgoing) -> io::Result<Exchange> {
    let mut foreign = 0;
    let other_case = match ask_udp(resolver, outgoing, &mut foreign).await? {
        Heard::Answer { packet, code } => return Ok(Exchange { packet, code, foreign, lost_case: false }),
        Heard::Cut | Heard::Flooded => false,
        Heard::OtherCase => true,
    };
    let (packet, code, lost_case) = ask_tcp(resolver, outgoing).await?;
    // Where TCP keeps the case the packet was not the resolver's, or came through something that only meddles
    // with UDP; either way the random case is worth keeping up.
    foreign += u32::from(other_case && !lost_case);
    Ok(Exchange { packet, code, foreign, lost_case })
}

enum Heard {
    Answer { packet: Vec<u8>, code: u8 },
    Cut,
    OtherCase,
    Flooded,
}

async fn ask_udp(resolver: SocketAddr, outgoing: &Outgoing, foreign: &mut u32) -> io::Result<Heard> {
    // The kernel chooses the port at random (RFC 5452 §9.2); connected, it drops what others send.
    let local: SocketAddr = match resolver {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(resolver).await?;
    socket.send(outgoing.wire()).await?;
    let mut buffer = vec![0; UDP_BUFFER_LEN];
    loop {
        let len = socket.recv(&mut buffer).await?;
        match outgoing.judge(&buffer[..len]) {
            Verdict::Answer { truncated, .. } if truncated || len == buffer.len() => return Ok(Heard::Cut),
            Verdict::Answer { code, .. } => {
                buffer.truncate(len);
                return Ok(Heard::Answer { packet: buffer, code });
            }
            Verdict::OtherCase => return Ok(Heard::OtherCase),
            Verdict::Foreign => {
                *foreign += 1;
                if *foreign >= FOREIGN_MAX {
                    return Ok(Heard::Flooded);
                }
            }
        }
    }
}

/// The answer, its response code, and whether it has lost the case of the name.
async fn ask_tcp(resolver: SocketAddr, outgoing: &Outgoing) -> io::Result<(Vec<u8>, u8, bool)> {
    let mut stream = TcpStream::connect(resolver).await?;
    stream.set_nodelay(true)?;
    let len = outgoing.wire().len() as u16;
    // RFC 7766 §8: length and message in one write.
    stream.write_all(&[&len.to_be_bytes(), outgoing.wire()].concat()).await?;
    let len = stream.read_u16().await?;
    let mut packet = vec![0; len.into()];
    stream.read_exact(&mut packet).await?;
    match outgoing.judge(&packet) {
        Verdict::Answer { code, .. } => Ok((packet, code, false)),
        // A handshake stands behind this packet, so only a resolver that doesn't keep the case sends it.
        Verdict::OtherCase => {
            let code = packet[3] & 0x0f;
            Ok((packet, code, true))
        }
        Verdict::Foreign => Err(io::Error::new(io::ErrorKind::InvalidData, "not an answer to the question")),
    }
}
