//! Asks for zones whole and for differences, as a secondary does, and keeps what it got in plain sight.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use portolan_dns::tsig::{Key, Signer};
use portolan_dns::{Algorithm, Config, Network, Transfer};

use crate::node::{Client, Node, config, query};

pub(crate) const APEX: &str = "svc.cluster.";

/// A configuration under which loopback may have zones.
pub(crate) fn open_config() -> Config {
    let allow = vec![Network { address: "127.0.0.0".parse().unwrap(), prefix: 8 }];
    Config { transfer: Transfer { allow, ..Transfer::default() }, ..config() }
}

/// A key and the text of its secret.
pub(crate) fn key(name: &str, algorithm: Algorithm) -> (Arc<Key>, String) {
    let secret = b"0123456789abcdef0123456789abcdef";
    let text = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned();
    (Arc::new(Key::new(&name.into(), algorithm, secret).unwrap()), text)
}

/// What a request for a zone got.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) code: ResponseCode,
    /// Of the answer sections, in order.
    pub(crate) records: Vec<Record>,
    pub(crate) messages: Vec<Message>,
}

impl Got {
    /// The records between the first SOA and the last, as text.
    pub(crate) fn content(&self) -> BTreeSet<String> {
        texts(&self.records)
    }
}

/// Records as text, SOA left out.
pub(crate) fn texts(records: &[Record]) -> BTreeSet<String> {
    let others = records.iter().filter(|record| record.record_type() != RecordType::SOA);
    others.map(ToString::to_string).collect()
}

pub(crate) fn serial_of(record: &Record) -> Option<u32> {
    if let RData::SOA(soa) = &record.data { Some(soa.serial) } else { None }
}

/// An IXFR query of who has version `have`.
pub(crate) fn ixfr(zone: &str, have: u32) -> Vec<u8> {
    let mut message = Message::from_vec(&query(0x1995, zone, RecordType::IXFR, None)).unwrap();
    let name = Name::from_ascii(zone).unwrap();
    let soa = SOA::new(name.clone(), name.clone(), have, 1, 1, 1, 1);
    message.add_authority(Record::from_rdata(name, 0, RData::SOA(soa)));
    message.to_vec().unwrap()
}

pub(crate) fn axfr(zone: &str) -> Vec<u8> {
    query(0x5936, zone, RecordType::AXFR, None)
}

/// Asks, and reads messages until the answer is whole: one SOA alone or an error, or up to the SOA that ends it.
pub(crate) fn transfer(client: &mut Client, request: &[u8]) -> Got {
    client.send(request);
    let mut got = Got { code: ResponseCode::NoError, records: Vec::new(), messages: Vec::new() };
    loop {
        let mut message = client.read();
        got.code = message.metadata.response_code;
        got.records.append(&mut message.answers);
        got.messages.push(message);
        if got.code != ResponseCode::NoError || is_whole(&got.records) {
            return got;
        }
    }
}

/// RFC 1995 §4: what begins with two SOA records are differences, which end with the third SOA of the new serial (or,
/// if the first difference is from it, never mind); anything else ends with the second.
fn is_whole(records: &[Record]) -> bool {
    let Some(newest) = records.first().and_then(serial_of) else { return true };
    let last = records.last().and_then(serial_of);
    match records.get(1).map(serial_of) {
        // A single SOA: the client has what there is. Servers send more at once if there is more.
        None => true,
        Some(Some(_)) => {
            let ends = records.iter().filter(|record| serial_of(record) == Some(newest)).count();
            ends == 3 && last == Some(newest)
        }
        Some(None) => last == Some(newest),
    }
}

pub(crate) fn axfr_of(address: SocketAddr) -> Got {
    let stream = TcpStream::connect(address).unwrap();
    transfer(&mut Client::new(stream), &axfr(APEX))
}

/// Everything that the server answers for the names of its zone, asked name by name.
pub(crate) fn asked(node: &Node) -> BTreeSet<String> {
    let mut client = node.connect();
    let mut all = BTreeSet::new();
    for name in node.zones().zones()[0].owner_names() {
        for kind in [RecordType::NS, RecordType::A, RecordType::AAAA, RecordType::TXT, RecordType::SRV] {
            all.extend(texts(&client.ask(&name, kind).answers));
        }
    }
    all
}

/// Signs a request.
pub(crate) fn signed(key: &Arc<Key>, mut request: Vec<u8>) -> (Vec<u8>, Signer) {
    let signer = Signer::request(key, &mut request, now());
    (request, signer)
}

pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}
