//! Streams of HTTP/2: each has its limits, its retries and its blame, and none is a burden to the others.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;
use tokio::task::JoinSet;

use crate::h2_client::*;
use crate::harness::*;

const SHORT: Duration = Duration::from_millis(200);

fn requests(node: &Node, class: &str) -> f64 {
    node.metric(&format!("portolan_proxy_requests_total{{class=\"{class}\",listener=\"web\"}}"))
}

/// An endpoint that resets every connection at once: some before the request is written, some after.
fn resets() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // One that is gone already needs no reset.
            let _ = stream.map(|stream| socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)));
        }
    });
    address
}

#[test]
fn a_request_that_an_endpoint_did_not_take_is_sent_to_the_next() {
    let (bad, (good, _requests)) = (resets(), Backend::answering(HELLO));
    let mut config = config();
    config.upstream.ejection = None;
    config.upstream.retry_budget = 1.0;
    config.timeouts.response_head = SHORT;
    let node = Node::with(config, &[bad, good.address]);
    with_client(&node, async |sender| {
        for _ in 0..60 {
            let mut streams = JoinSet::new();
            for _ in 0..20 {
                let mut sender = sender.clone();
                streams.spawn(async move {
                    whole(sender.send_request(to("/").body(empty()).unwrap()).await.unwrap()).await.0
                });
            }
            while let Some(status) = streams.join_next().await {
                assert_eq!(status.unwrap(), 200);
            }
        }
    });
}

#[test]
fn a_request_whose_content_was_taken_is_not_sent_again() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let backend = Backend::start(move |mut client| {
        client.head();
        counted.fetch_add(1, Ordering::SeqCst);
        client.until("hello\r\n");
    });
    let node = Node::start(&[backend.address]);
    with_client(&node, async |mut sender| {
        let content = Unfinished([Frame::data(Bytes::from("hello"))].into()).boxed();
        let request = to("/").method("PUT").body(content).unwrap();
        assert_eq!(whole(sender.send_request(request).await.unwrap()).await.0, 502);
    });
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[test]
fn a_request_that_the_client_gives_up_is_counted() {
    let backend = Backend::start(|mut client| {
        client.request();
        client.rest();
    });
    let node = Node::start(&[backend.address]);
    with_client(&node, async |mut sender| {
        let pending = sender.send_request(to("/").body(empty()).unwrap());
        assert!(tokio::time::timeout(SHORT, pending).await.is_err(), "the endpoint says nothing");
        while requests(&node, "aborted") != 1.0 {
            tokio::time::sleep(SHORT / 10).await;
        }
    });
}

#[test]
fn a_response_that_breaks_off_is_the_endpoints_fault() {
    for rest in ["Content-Length: 100\r\n\r\npart", "Transfer-Encoding: chunked\r\n\r\nnonsense"] {
        let broken = Backend::start(move |mut client| {
            client.request();
            client.send(format!("HTTP/1.1 200 OK\r\n{rest}"));
        });
        let (good, _requests) = Backend::answering(HELLO);
        let node = Node::start(&[broken.address, good.address]);
        with_client(&node, async |mut sender| {
            for _ in 0..40 {
                // The reset may overtake the head.
                if let Ok(response) = sender.send_request(to("/").body(empty()).unwrap()).await {
                    let _ = response.into_body().collect().await;
                }
            }
        });
        // Five failures in a row are the default.
        assert_eq!(broken.connections(), 5, "{rest:?}");
        eventually("all are counted", || requests(&node, "2xx") + requests(&node, "aborted") == 40.0);
        assert_eq!(requests(&node, "aborted"), 0.0, "no client gave up");
    }
}

#[test]
fn an_upload_that_moves_keeps_a_response_that_has_begun() {
    let backend = Backend::start(|mut client| {
        let head = client.head();
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let count = client.body(&head).len();
        client.send(format!("2\r\n{count}\r\n0\r\n\r\n"));
        client.rest();
    });
    let mut config = config();
    config.timeouts.response_body_idle = SHORT;
    let node = Node::with(config, &[backend.address]);
    with_client(&node, async |mut sender| {
        let content = Dripping::new(20, SHORT / 4).boxed();
        let response = sender.send_request(to("/").method("POST").body(content).unwrap()).await.unwrap();
        assert_eq!(&whole(response).await.2[..], b"20");
    });
}

/// An endpoint that sends much for `/big` and counts how often it is at that.
fn sends_much() -> (Backend, Arc<AtomicUsize>) {
    let busy = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&busy);
    let backend = Backend::start(move |mut client| {
        while client.fill() {
            let (head, _) = client.request();
            if head.starts_with("GET /big ") {
                counted.fetch_add(1, Ordering::SeqCst);
                client.send("HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n");
                let piece = vec![b'x'; 1 << 20];
                let _ = (0..100).all(|_| client.try_send(&piece));
                counted.fetch_sub(1, Ordering::SeqCst);
                return;
            }
            client.send(HELLO);
        }
    });
    (backend, busy)
}

#[test]
fn a_stream_whose_client_takes_nothing_is_reset_and_the_others_go_on() {
    let (backend, busy) = sends_much();
    let mut config = config();
    config.timeouts.write_stall = SHORT;
    let node = Node::with(config, &[backend.address]);
    with_client_at(node.address, 1024, async |mut sender| {
        let mut held = Vec::new();
        for _ in 0..20 {
            held.push(sender.send_request(to("/big").body(empty()).unwrap()).await.unwrap());
        }
        let begun = Instant::now();
        while busy.load(Ordering::SeqCst) > 0 {
            assert!(begun.elapsed() < PATIENCE, "{} are held", busy.load(Ordering::SeqCst));
            let response = sender.send_request(to("/").body(empty()).unwrap()).await.unwrap();
            assert_eq!(whole(response).await.0, 200);
            tokio::time::sleep(SHORT / 10).await;
        }
        for response in held {
            assert!(response.into_body().collect().await.is_err(), "a part is not the whole");
        }
    });
    eventually("all are counted", || requests(&node, "aborted") == 20.0);
}

#[test]
fn the_response_of_an_endpoint_that_left_ends_after_the_drain_time_whether_it_is_taken_or_not() {
    for path in ["/big", "/drips"] {
        let (big, busy) = sends_much();
        let dripped = Backend::start(|mut client| {
            client.request();
            client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while client.try_send("1\r\nx\r\n") {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let address = if path == "/big" { big.address } else { dripped.address };
        let mut config = config();
        config.drain = Duration::from_secs(1);
        let mut node = Node::with(config, &[address]);
        with_client_at(node.address, 1024, async |mut sender| {
            let response = sender.send_request(to(path).body(empty()).unwrap()).await.unwrap();
            node.publish(&service("app", &[nobody()]));
            let begun = Instant::now();
            if path == "/big" {
                while busy.load(Ordering::SeqCst) > 0 {
                    assert!(begun.elapsed() < PATIENCE, "it is held");
                    tokio::time::sleep(SHORT / 10).await;
                }
            }
            assert!(response.into_body().collect().await.is_err(), "a part is not the whole");
            assert!(begun.elapsed() > Duration::from_millis(900), "after {:?}", begun.elapsed());
        });
    }
}

#[test]
fn an_upload_that_an_endpoint_does_not_read_does_not_stop_the_others() {
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let backend = Backend::start(move |mut client| {
        while client.fill() {
            let head = client.head();
            if head.starts_with("POST /stuck ") {
                // The end of the test is the end of the wait.
                let _ = released.lock().unwrap().recv();
                return;
            }
            client.body(&head);
            client.send(HELLO);
        }
    });
    let node = Node::start(&[backend.address]);
    with_client(&node, async |mut sender| {
        let mut other = sender.clone();
        let mut stuck = JoinSet::new();
        stuck.spawn(async move {
            let content = full(vec![b'x'; 32 << 20]);
            // It never ends.
            let _ = other.send_request(to("/stuck").method("POST").body(content).unwrap()).await;
        });
        tokio::time::sleep(2 * SHORT).await;
        let request = to("/").method("POST").body(full("abcd")).unwrap();
        assert_eq!(whole(sender.send_request(request).await.unwrap()).await.0, 200);
    });
    drop(release);
}
