//! RFC 1996: secondaries are told of changes, until they answer.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::RecordType;
use portolan_dns::{Config, Transfer};

use crate::node::{MS, Node, PATIENCE};
use crate::zone_client::{APEX, open_config, serial_of};

/// A secondary that listens and says what it is told to.
struct Told {
    socket: UdpSocket,
}

impl Told {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    fn next(&self) -> (Message, SocketAddr) {
        let mut buffer = [0; 1500];
        let (len, from) = self.socket.recv_from(&mut buffer).unwrap();
        (Message::from_vec(&buffer[..len]).unwrap(), from)
    }

    fn answer(&self, (message, from): &(Message, SocketAddr), code: ResponseCode) {
        let mut answer = message.clone();
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.response_code = code;
        answer.answers.clear();
        self.socket.send_to(&answer.to_vec().unwrap(), from).unwrap();
    }
}

fn config(told: &Told, delay: Duration) -> Config {
    let config = open_config();
    let transfer = Transfer { notify: vec![told.address()], notify_delay: delay, ..config.transfer };
    Config { transfer, ..config }
}

fn serial(message: &Message) -> u32 {
    serial_of(&message.answers[0]).unwrap()
}

#[test]
fn a_secondary_is_told_of_the_first_version_and_of_changes() {
    let told = Told::new();
    let mut node = Node::start(&config(&told, MS));
    node.publish(&[("web", 1)]);
    let mut first = told.next();
    while serial(&first.0) != node.zones().serial() {
        told.answer(&first, ResponseCode::NoError);
        first = told.next();
    }
    let (message, _) = &first;
    assert_eq!((message.metadata.op_code, message.metadata.authoritative), (OpCode::Notify, true));
    let question = &message.queries[0];
    assert_eq!((question.name().to_ascii(), question.query_type()), (APEX.to_owned(), RecordType::SOA));
    told.answer(&first, ResponseCode::NoError);
    node.publish(&[("web", 2)]);
    let second = told.next();
    assert_eq!(serial(&second.0), node.zones().serial());
    told.answer(&second, ResponseCode::NoError);
    node.wait_for_metric("portolan_dns_notify_total", Some("answered"), 2.0);
}

#[test]
fn who_is_silent_or_refuses_is_told_again_under_another_id() {
    let told = Told::new();
    let mut node = Node::start(&config(&told, MS));
    node.publish(&[("web", 1)]);
    let first = loop {
        let first = told.next();
        if serial(&first.0) == node.zones().serial() {
            break first;
        }
    };
    told.answer(&first, ResponseCode::Refused);
    node.wait_for_metric("portolan_dns_notify_total", Some("refused"), 1.0);
    let second = told.next();
    assert_eq!(serial(&second.0), serial(&first.0));
    // An answer to an earlier try, from elsewhere, or to no try at all is none.
    let mut stranger = second.clone();
    stranger.0.metadata.id = stranger.0.metadata.id.wrapping_add(1);
    told.answer(&stranger, ResponseCode::NoError);
    Told::new().answer(&second, ResponseCode::NoError);
    let third = told.next();
    assert_eq!(serial(&third.0), serial(&first.0));
    assert_eq!(node.metric("portolan_dns_notify_total", Some("answered")), 0.0);
    told.answer(&third, ResponseCode::NoError);
    node.wait_for_metric("portolan_dns_notify_total", Some("answered"), 1.0);
}

#[test]
fn a_storm_is_one_word_at_its_beginning_and_one_at_its_end() {
    let told = Told::new();
    let mut node = Node::start(&config(&told, MS * 1500));
    node.publish(&[("web", 1)]);
    for instances in 2..60 {
        node.publish(&[("web", instances)]);
    }
    let last = node.zones().serial();
    let mut words = 0;
    loop {
        let word = told.next();
        told.answer(&word, ResponseCode::NoError);
        words += 1;
        if serial(&word.0) == last {
            break;
        }
    }
    assert!(words <= 2, "{words} words");
}

#[test]
fn a_change_of_standing_alone_is_no_news() {
    let told = Told::new();
    let mut node = Node::start(&config(&told, MS));
    node.publish(&[("web", 1)]);
    let answer_all = |until: u32| loop {
        let word = told.next();
        told.answer(&word, ResponseCode::NoError);
        if serial(&word.0) == until {
            break;
        }
    };
    answer_all(node.zones().serial());
    let before = node.zones().serial();
    node.publish_as(&[], false);
    node.publish_as(&[], true);
    assert!(node.zones().serial() > before, "its answers differed for a while");
    node.publish(&[("web", 2)]);
    let word = told.next();
    assert_eq!(serial(&word.0), node.zones().serial(), "the next word is of the next content");
}
