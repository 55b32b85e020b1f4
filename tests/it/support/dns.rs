//! A DNS client for one question.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;

/// Asks by UDP with EDNS; panics if there is no answer.
pub(crate) async fn ask(server: SocketAddr, name: &str, kind: RecordType) -> Message {
    try_ask(server, name, kind).await.unwrap_or_else(|| panic!("{server} does not answer {name} {kind}"))
}

/// Asks by UDP with EDNS; `None` if three tries bring no answer.
pub(crate) async fn try_ask(server: SocketAddr, name: &str, kind: RecordType) -> Option<Message> {
    let socket = UdpSocket::bind((server.ip(), 0)).await.or(UdpSocket::bind("127.0.0.1:0").await).unwrap();
    socket.connect(server).await.unwrap();
    let query = compose(name, kind);
    let mut buffer = vec![0; 4096];
    for _ in 0..3 {
        socket.send(&query.to_vec().unwrap()).await.ok()?;
        if let Ok(Ok(len)) = tokio::time::timeout(Duration::from_secs(2), socket.recv(&mut buffer)).await {
            let message = Message::from_vec(&buffer[..len]).unwrap();
            assert_eq!(message.id, query.id);
            return Some(message);
        }
    }
    None
}

fn compose(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(fastrand::u16(..), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.set_edns(edns);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

/// The addresses of an A or AAAA answer, sorted; panics unless it is NOERROR.
pub(crate) async fn addresses(server: SocketAddr, name: &str, kind: RecordType) -> Vec<String> {
    let message = ask(server, name, kind).await;
    assert_eq!(message.response_code, ResponseCode::NoError, "{name} {kind}");
    let mut found: Vec<String> = message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(a) => Some(a.to_string()),
            RData::AAAA(aaaa) => Some(aaaa.to_string()),
            _ => None,
        })
        .collect();
    found.sort();
    found
}
