//! The UDP socket of one worker.

use core::net::SocketAddr;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, SockaddrIn6, sendmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::Peer;
use super::family::Family;

/// Asked for in each direction; the kernel gives what `net.core.rmem_max` and `wmem_max` allow.
const BUFFER_LEN: usize = 4 << 20;

/// A UDP socket for one worker: `SO_REUSEPORT`, large buffers, non-blocking; bound to an unspecified address
/// it is told which address each packet was sent to. IPv6 sockets take no IPv4.
///
/// # Errors
/// When the address cannot be bound.
pub fn bind_udp(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Smaller buffers lose packets in bursts but serve; the kernel caps the wish by itself.
    let _ = socket.set_recv_buffer_size(BUFFER_LEN);
    let _ = socket.set_send_buffer_size(BUFFER_LEN);
    if address.ip().is_unspecified() {
        if address.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A bound socket inside a worker's runtime.
#[derive(Debug)]
pub struct UdpPort {
    socket: UdpSocket,
    local: SocketAddr,
}

impl UdpPort {
    /// Takes a socket of [`bind_udp`] into the current runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch the socket.
    ///
    /// # Panics
    /// Outside a runtime with I/O enabled.
    pub fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let socket = UdpSocket::from_std(socket)?;
        let local = socket.local_addr()?;
        Ok(Self { socket, local })
    }

    /// The address it is bound to.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn is_ipv4(&self) -> bool {
        self.local.is_ipv4()
    }

    /// True if it is told which address a packet was sent to.
    pub(super) fn knows_asked(&self) -> bool {
        self.local.ip().is_unspecified()
    }

    pub(super) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Sends one reply from the address that was asked, waiting while the socket's buffer is full.
    /// Cancel-safe: a reply is sent whole or not at all.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub async fn send(&self, reply: &[u8], peer: &Peer) -> io::Result<()> {
        self.socket.async_io(Interest::WRITABLE, || self.try_send(reply, peer)).await
    }

    /// The same without waiting: a full buffer is an error of kind `WouldBlock`.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn try_send(&self, reply: &[u8], peer: &Peer) -> io::Result<()> {
        if self.is_ipv4() {
            self.send_now::<SockaddrIn>(reply, peer)
        } else {
            self.send_now::<SockaddrIn6>(reply, peer)
        }
    }

    fn send_now<F: Family>(&self, reply: &[u8], peer: &Peer) -> io::Result<()> {
        let info = peer.asked.and_then(F::info_for);
        let message: Option<ControlMessage<'_>> = info.as_ref().map(F::message);
        let client = F::address(peer.client);
        let flags = MsgFlags::MSG_DONTWAIT;
        sendmsg(self.socket.as_raw_fd(), &[IoSlice::new(reply)], message.as_slice(), flags, client.as_ref())?;
        Ok(())
    }
}
