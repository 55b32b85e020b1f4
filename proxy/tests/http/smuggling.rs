//! RFC 9112 §11.2: no octet of one request is ever read as the beginning of another, however the first one ended.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::harness::*;

/// How long the endpoints of this module read nothing.
const STALLED: Duration = Duration::from_millis(600);
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n";

/// An endpoint that reads the head of a POST and no content; then it goes away, or counts what it could have had.
fn reads_no_content(resets: bool) -> (Backend, Receiver<String>, Receiver<usize>) {
    let ((seen, heads), (counting, counts)) = (channel(), channel());
    let senders = Mutex::new((seen, counting));
    let backend = Backend::start(move |mut client| {
        let (seen, counting) = senders.lock().unwrap().clone();
        // A window that does not grow takes about as much each time.
        socket2::SockRef::from(&client.stream).set_recv_buffer_size(32 << 10).unwrap();
        let head = client.head();
        let is_post = head.starts_with("POST ");
        // The test may have seen enough.
        let _ = seen.send(head);
        if !is_post {
            let _ = client.try_send(HELLO);
            return;
        }
        std::thread::sleep(if resets { STALLED / 4 } else { STALLED });
        if !resets {
            let _ = counting.send(client.rest().len());
        }
    });
    (backend, heads, counts)
}

fn node(address: SocketAddr) -> Node {
    let mut config = config();
    config.upstream.ejection = None;
    config.timeouts.write_stall = STALLED / 2;
    config.timeouts.response_head = STALLED / 2;
    Node::with(config, &[address])
}

/// Posts content of this length whose end reads as a request wherever one begins to read; the answer.
fn post(address: SocketAddr, length: usize) -> Response {
    let mut client = Client::connect(address);
    client.stream.set_write_timeout(Some(2 * STALLED)).unwrap();
    let mut body = "A".repeat(length - SMUGGLED.len());
    body.push_str(SMUGGLED);
    client.send(format!("POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    // How much of it is taken is what the test is about.
    let _ = client.try_send(&body);
    let response = client.response();
    // Whatever would be served next gets the time for it.
    std::thread::sleep(STALLED / 4);
    response
}

/// What the kernel takes for an endpoint that reads nothing, in octets of content.
fn swallowed() -> usize {
    let (backend, _heads, counts) = reads_no_content(false);
    let node = node(backend.address);
    post(node.address, 32 << 20);
    counts.recv_timeout(PATIENCE).unwrap()
}

/// Contents of which all has been read by the proxy and not all written to the endpoint, by all their sizes.
fn leaves_nothing_behind(resets: bool, status: u16) {
    let swallowed = swallowed();
    let (backend, heads, _counts) = reads_no_content(resets);
    let node = node(backend.address);
    std::thread::scope(|scope| {
        for more in 0..16 {
            let address = node.address;
            scope.spawn(move || {
                let response = post(address, swallowed - (16 << 10) + more * (8 << 10));
                assert_eq!(response.status, status, "{response:?}");
            });
        }
    });
    let smuggled = heads.try_iter().filter(|head| !head.starts_with("POST /first ")).count();
    assert_eq!(smuggled, 0, "of contents of {swallowed} octets and more");
}

#[test]
fn content_that_a_stalled_endpoint_never_got_is_no_request() {
    leaves_nothing_behind(false, 504);
}

#[test]
fn content_that_an_endpoint_that_went_away_never_got_is_no_request() {
    leaves_nothing_behind(true, 502);
}
