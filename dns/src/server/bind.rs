//! The sockets of one listen address.

use core::net::SocketAddr;
use std::io;
use std::net::{TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::fast::bind_udp;

const TCP_BACKLOG: i32 = 1024;

/// For port 0: how often another port is tried when the one that UDP got is taken for TCP.
const PORT_TRIES: usize = 16;

/// One worker's sockets for one listen address. Bound, not yet served; may be handed to the worker's thread.
#[derive(Debug)]
pub struct Sockets {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
    /// Workers among which the kernel spreads the clients of this address.
    pub(super) workers: usize,
}

impl Sockets {
    /// The address of both; the port is the kernel's choice if 0 was asked for.
    ///
    /// # Errors
    /// As `getsockname` fails.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }
}

/// Binds UDP and TCP on `address`, once per worker, so that the kernel spreads the queries (`SO_REUSEPORT`). An IPv6
/// address takes IPv6 only. Port 0 is the same free port for all.
///
/// # Errors
/// As the kernel refuses one of them: address in use, not of this machine, or a port without permission.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<Sockets>> {
    let workers = workers.max(1);
    if address.port() != 0 {
        return bind_all(address, workers);
    }
    let mut last = None;
    for _ in 0..PORT_TRIES {
        let chosen = bind_udp(address)?.local_addr()?;
        match bind_all(chosen, workers) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = Some(error),
            done => return done,
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

fn bind_all(address: SocketAddr, workers: usize) -> io::Result<Vec<Sockets>> {
    (0..workers).map(|_| Ok(Sockets { udp: bind_udp(address)?, tcp: bind_tcp(address)?, workers })).collect()
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_reuse_port(true)?;
    // A restart must not wait for the connections of the process before.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(TCP_BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_gets_both_on_one_port() {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let address = sockets[0].local_addr().unwrap();
        assert_ne!(address.port(), 0);
        for sockets in &sockets {
            assert_eq!(sockets.local_addr().unwrap(), address);
            assert_eq!(sockets.tcp.local_addr().unwrap(), address);
        }
    }

    #[test]
    fn an_ipv6_listener_leaves_ipv4_alone() {
        let Ok(six) = bind("[::]:0".parse().unwrap(), 1) else { return };
        let port = six[0].local_addr().unwrap().port();
        let mut four: SocketAddr = "0.0.0.0:0".parse().unwrap();
        four.set_port(port);
        bind(four, 1).unwrap();
    }

    #[test]
    fn a_taken_address_is_an_error() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(bind(other.local_addr().unwrap(), 1).is_err());
    }
}
