//! Balancing by what endpoints do, seen from outside.

use std::thread;
use std::time::Duration;

use portolan_proxy::Balance;

use crate::harness::{Backend, HELLO, Node, config, get};

#[test]
fn peak_ewma_sends_little_to_a_slow_endpoint() {
    let (a, of_a) = Backend::answering(HELLO);
    let (b, of_b) = Backend::answering(HELLO);
    let slow = Backend::start(|mut client| {
        while !client.read.is_empty() || client.fill() {
            client.request();
            thread::sleep(Duration::from_millis(300));
            if !client.try_send(HELLO) {
                return;
            }
        }
    });
    let mut config = config();
    config.upstream.balance = Balance::PeakEwma;
    let node = Node::with(config, &[a.address, b.address, slow.address]);
    // Clients that don't wait for each other.
    let clients = (0..6).map(|_| {
        let mut client = node.connect();
        thread::spawn(move || {
            for _ in 0..20 {
                client.send(get("/"));
                assert_eq!(client.response().status, 200);
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let quick = of_a.try_iter().count() + of_b.try_iter().count();
    // An even share would be 40. Each client may meet it once before anything is known of it.
    assert!((108..=120).contains(&quick), "{quick} of 120 went to the quick ones");
}
