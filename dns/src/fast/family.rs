//! IPv4 and IPv6 sockets, told apart once per socket and not once per packet.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use nix::libc;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, SockaddrIn, SockaddrIn6, SockaddrLike};

/// One address family.
pub(super) trait Family: SockaddrLike + Copy + Unpin + 'static {
    /// The control message that names the address a packet was sent to.
    type Info: Copy;

    /// Octets of control data per packet.
    fn control() -> Vec<u8>;
    /// The peer's address.
    fn client(&self) -> SocketAddr;
    /// Reads the address a packet was sent to, as the message that makes the reply come from it.
    fn info(message: &ControlMessageOwned) -> Option<Self::Info>;
    /// The address in a message.
    fn asked(info: &Self::Info) -> IpAddr;
    /// The message to send with a reply.
    fn message(info: &Self::Info) -> ControlMessage<'_>;
    /// The message that makes a reply come from `asked`.
    fn info_for(asked: IpAddr) -> Option<Self::Info>;
    /// The address in the form the kernel takes.
    fn address(client: SocketAddr) -> Option<Self>;
}

impl Family for SockaddrIn {
    type Info = libc::in_pktinfo;

    fn control() -> Vec<u8> {
        nix::cmsg_space!(libc::in_pktinfo)
    }

    #[inline]
    fn client(&self) -> SocketAddr {
        SocketAddr::V4(SocketAddrV4::new(self.ip(), self.port()))
    }

    fn info(message: &ControlMessageOwned) -> Option<Self::Info> {
        let ControlMessageOwned::Ipv4PacketInfo(info) = message else { return None };
        // The address in the packet's header: for a broadcast the kernel's choice is the local one.
        Self::info_for(IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr))))
    }

    fn asked(info: &Self::Info) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)))
    }

    fn message(info: &Self::Info) -> ControlMessage<'_> {
        ControlMessage::Ipv4PacketInfo(info)
    }

    fn info_for(asked: IpAddr) -> Option<Self::Info> {
        let IpAddr::V4(v4) = asked else { return None };
        let address = libc::in_addr { s_addr: u32::from(v4).to_be() };
        Some(libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: address,
            ipi_addr: libc::in_addr { s_addr: 0 },
        })
    }

    fn address(client: SocketAddr) -> Option<Self> {
        if let SocketAddr::V4(v4) = client { Some(v4.into()) } else { None }
    }
}

impl Family for SockaddrIn6 {
    type Info = libc::in6_pktinfo;

    fn control() -> Vec<u8> {
        nix::cmsg_space!(libc::in6_pktinfo)
    }

    #[inline]
    fn client(&self) -> SocketAddr {
        SocketAddr::V6(SocketAddrV6::new(self.ip(), self.port(), self.flowinfo(), self.scope_id()))
    }

    fn info(message: &ControlMessageOwned) -> Option<Self::Info> {
        let ControlMessageOwned::Ipv6PacketInfo(info) = message else { return None };
        Self::info_for(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)))
    }

    fn asked(info: &Self::Info) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr))
    }

    fn message(info: &Self::Info) -> ControlMessage<'_> {
        ControlMessage::Ipv6PacketInfo(info)
    }

    fn info_for(asked: IpAddr) -> Option<Self::Info> {
        let IpAddr::V6(v6) = asked else { return None };
        // The client's own scope names the interface where one is needed.
        Some(libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: v6.octets() }, ipi6_ifindex: 0 })
    }

    fn address(client: SocketAddr) -> Option<Self> {
        if let SocketAddr::V6(v6) = client { Some(v6.into()) } else { None }
    }
}
