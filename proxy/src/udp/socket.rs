//! The sockets: those that clients send to, and one for each flow.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::io;

use nix::libc;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, SockaddrStorage, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

/// Asked for in each direction of a listening socket; the kernel gives what `net.core.rmem_max` and `wmem_max`
/// allow.
const BUFFER_LEN: usize = 4 << 20;

/// A listening socket for one worker: `SO_REUSEPORT`, so that the kernel keeps a client with one worker. Bound to an
/// unspecified address it is told which address each datagram was sent to. IPv6 sockets take no IPv4.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Smaller buffers lose datagrams in bursts but serve; the kernel caps the wish by itself.
    let _ = socket.set_recv_buffer_size(BUFFER_LEN);
    let _ = socket.set_send_buffer_size(BUFFER_LEN);
    if address.ip().is_unspecified() {
        match address {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A socket of one flow. Connected, so that nobody but the endpoint is heard on it, and so that it hears of the
/// endpoint's refusals.
pub(super) fn connect(endpoint: SocketAddr) -> io::Result<Socket> {
    let kind = Type::DGRAM.nonblocking();
    let socket = Socket::new(Domain::for_address(endpoint), kind, Some(Protocol::UDP))?;
    socket.connect(&endpoint.into())?;
    Ok(socket)
}

/// The control message that makes a reply come from an address.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
}

impl Origin {
    pub(super) fn new(asked: IpAddr) -> Self {
        // No interface: the route decides, and for link-local clients their own scope.
        match asked {
            IpAddr::V4(v4) => Self::V4(libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(v4).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            }),
            IpAddr::V6(v6) => Self::V6(libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: v6.octets() },
                ipi6_ifindex: 0,
            }),
        }
    }

    pub(super) fn message(&self) -> ControlMessage<'_> {
        match self {
            Self::V4(info) => ControlMessage::Ipv4PacketInfo(info),
            Self::V6(info) => ControlMessage::Ipv6PacketInfo(info),
        }
    }
}

/// Room for the control message of one datagram, of either family.
pub(super) fn control_room() -> Vec<u8> {
    nix::cmsg_space!(libc::in6_pktinfo)
}

/// The address a datagram was sent to.
pub(super) fn asked(message: &ControlMessageOwned) -> Option<IpAddr> {
    match message {
        // Not the address in the packet's header, which may be a broadcast: the local one replies come from.
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into())
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into()),
        _ => None,
    }
}

/// The address of a sender.
pub(super) fn sender(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some((v4.ip(), v4.port()).into());
    }
    let v6 = address.as_sockaddr_in6()?;
    Some(core::net::SocketAddrV6::new(v6.ip(), v6.port(), v6.flowinfo(), v6.scope_id()).into())
}
