//! An address where nobody listens, and nobody else can: it is held, so that no other test gets it meanwhile.

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// A bound socket that does not listen: connections are refused.
pub(crate) struct Refusing {
    _socket: Socket,
    pub(crate) address: SocketAddr,
}

impl Refusing {
    pub(crate) fn new() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap())
    }

    /// At an address of one's own choice. A listener beside it must have `SO_REUSEADDR`, as those of the standard
    /// library have.
    pub(crate) fn at(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        // What is left of connections there is no obstacle.
        socket.set_reuse_address(true).unwrap();
        socket.bind(&address.into()).unwrap_or_else(|error| panic!("{address}: {error}"));
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { _socket: socket, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
