//! Balancing by what endpoints do, seen from outside.

use std::thread;
use std::time::Duration;

use http_body_util::BodyExt;
use portolan_proxy::{Balance, Config};

use crate::h2_client::*;
use crate::harness::*;

fn peak_ewma() -> Config {
    let mut config = config();
    config.upstream.balance = Balance::PeakEwma;
    config
}

/// An endpoint that takes so long to answer.
fn slow(pause: Duration) -> Backend {
    Backend::start(move |mut client| {
        while !client.read.is_empty() || client.fill() {
            client.request();
            thread::sleep(pause);
            if !client.try_send(HELLO) {
                return;
            }
        }
    })
}

#[test]
fn peak_ewma_sends_little_to_a_slow_endpoint() {
    let (a, of_a) = Backend::answering(HELLO);
    let (b, of_b) = Backend::answering(HELLO);
    let slow = slow(Duration::from_millis(300));
    let node = Node::with(peak_ewma(), &[a.address, b.address, slow.address]);
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

/// Two endpoints of which one takes 100 ms to answer, and what is left of the other's share after it served a client
/// that took longer to send its request. An estimate of 100 ms needs far longer than a test to fade.
fn share_of_the_quick_one_after(upload: impl FnOnce(&Node)) -> usize {
    let (quick, of_quick) = Backend::answering(HELLO);
    let slower = slow(Duration::from_millis(100));
    let node = Node::with(peak_ewma(), &[quick.address, slower.address]);
    // What is not known is taken to be like the other: after so many both are.
    for _ in 0..20 {
        assert_eq!(node.request(&get("/")).status, 200);
    }
    of_quick.try_iter().for_each(drop);
    upload(&node);
    assert_eq!(of_quick.try_iter().count(), 1);
    for _ in 0..20 {
        assert_eq!(node.request(&get("/")).status, 200);
    }
    of_quick.try_iter().count()
}

#[test]
fn a_client_that_is_slow_to_send_does_not_make_its_endpoint_look_slow() {
    let quick = share_of_the_quick_one_after(|node| {
        let mut client = node.connect();
        client.send("POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 2\r\n\r\na");
        thread::sleep(Duration::from_millis(600));
        client.send("b");
        assert_eq!(client.response().status, 200);
    });
    assert!(quick >= 18, "{quick} of 20 went to the quick one");
}

#[test]
fn nor_does_a_stream_that_is_slow_to_send() {
    let quick = share_of_the_quick_one_after(|node| {
        with_client(node, async |mut sender| {
            let content = Dripping::new(3, Duration::from_millis(200)).boxed();
            let response = sender.send_request(to("/").method("POST").body(content).unwrap()).await.unwrap();
            assert_eq!(whole(response).await.0, 200);
        });
    });
    assert!(quick >= 18, "{quick} of 20 went to the quick one");
}
