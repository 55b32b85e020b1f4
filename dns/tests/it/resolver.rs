//! A resolver for the forwarder to ask, which has validated everything: `d<N>.` names are answered after N milliseconds, `nx.` does not exist, `dead.` gets
//! no answer, `big.` is 150 addresses (cut over UDP); all else is 192.0.2.1.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record};

pub(crate) struct Resolver {
    pub(crate) address: SocketAddr,
    queries: Arc<AtomicUsize>,
}

impl Resolver {
    /// Runs until the process ends.
    pub(crate) fn start() -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let (address, queries) = (udp.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&queries);
        std::thread::spawn(move || serve_udp(&udp, &count));
        std::thread::spawn(move || serve_tcp(&tcp));
        Self { address, queries }
    }

    /// Queries received over UDP.
    pub(crate) fn queries(&self) -> usize {
        self.queries.load(Ordering::SeqCst)
    }
}

fn serve_udp(socket: &UdpSocket, queries: &AtomicUsize) {
    let mut buffer = [0; 4096];
    while let Ok((len, client)) = socket.recv_from(&mut buffer) {
        queries.fetch_add(1, Ordering::SeqCst);
        let Some((pause, reply)) = reply(&Message::from_vec(&buffer[..len]).unwrap(), 1232) else { continue };
        let socket = socket.try_clone().unwrap();
        std::thread::spawn(move || {
            std::thread::sleep(pause);
            let _ = socket.send_to(&reply, client);
        });
    }
}

fn serve_tcp(listener: &TcpListener) {
    while let Ok((mut stream, _)) = listener.accept() {
        let mut len = [0; 2];
        stream.read_exact(&mut len).unwrap();
        let mut packet = vec![0; u16::from_be_bytes(len).into()];
        stream.read_exact(&mut packet).unwrap();
        if let Some((_, reply)) = reply(&Message::from_vec(&packet).unwrap(), 65_535) {
            stream.write_all(&super::node::framed(&reply)).unwrap();
        }
    }
}

fn reply(query: &Message, size_max: usize) -> Option<(Duration, Vec<u8>)> {
    let asked = query.queries[0].clone();
    let name = asked.name.clone();
    let first = String::from_utf8_lossy(name.iter().next().unwrap_or_default()).to_lowercase();
    let mut reply = Message::response(query.metadata.id, OpCode::Query);
    reply.add_query(asked);
    reply.metadata.authentic_data = true;
    let addresses = match first.as_str() {
        "dead" => return None,
        "nx" => {
            reply.metadata.response_code = ResponseCode::NXDomain;
            let soa = SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, 60);
            reply.add_authority(Record::from_rdata(Name::root(), 60, RData::SOA(soa)));
            0
        }
        "big" => 150,
        _ => 1,
    };
    for last in 1..=addresses {
        let address = RData::A(Ipv4Addr::new(192, 0, 2, last).into());
        reply.add_answer(Record::from_rdata(name.clone(), 60, address));
    }
    let mut packet = reply.to_vec().unwrap();
    if packet.len() > size_max {
        reply.answers.clear();
        reply.metadata.truncation = true;
        packet = reply.to_vec().unwrap();
    }
    let pause = first.strip_prefix('d').and_then(|ms| ms.parse().ok()).unwrap_or(0);
    Some((Duration::from_millis(pause), packet))
}
