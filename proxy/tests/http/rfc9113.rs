//! RFC 9113: HTTP/2 with prior knowledge, in front of endpoints that speak HTTP/1.1.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use hyper::body::Frame;
use tokio::task::JoinSet;

use crate::h2_client::*;
use crate::harness::*;

#[test]
fn section_8_1_a_request_becomes_one_of_http_1_1_and_back() {
    let (backend, requests) = Backend::answering(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: 5\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 5\r\n\r\nhello",
    );
    let node = Node::start(&[backend.address]);
    with_client(&node, async |mut sender| {
        let request = to("/a?b").header("cookie", "a=1").header("cookie", "b=2").body(empty()).unwrap();
        let (status, fields, body, _) = whole(sender.send_request(request).await.unwrap()).await;
        assert_eq!((status, &body[..]), (200, &b"hello"[..]));
        assert_eq!(fields.get_all("x-a").iter().count(), 2);
        assert!(!fields.contains_key("connection") && !fields.contains_key("keep-alive"));
    });
    let (head, _) = requests.recv().unwrap();
    assert!(head.starts_with("GET /a?b HTTP/1.1\r\nHost: app.example\r\n"), "{head}");
    assert_eq!(field(&head, "cookie"), Some("a=1; b=2"));
    assert_eq!(field(&head, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(field(&head, "x-forwarded-host"), Some("app.example"));
    assert_eq!(field(&head, "transfer-encoding"), None);
}

#[test]
fn section_5_many_streams_share_a_connection() {
    let (backend, _requests) = Backend::answering(HELLO);
    let node = Node::start(&[backend.address]);
    with_client(&node, async |sender| {
        let mut streams = JoinSet::new();
        for at in 0..200 {
            let mut sender = sender.clone();
            streams.spawn(async move {
                let request = to(&format!("/{at}")).body(empty()).unwrap();
                whole(sender.send_request(request).await.unwrap()).await
            });
        }
        while let Some(done) = streams.join_next().await {
            let (status, _, body, _) = done.unwrap();
            assert_eq!((status, &body[..]), (200, &b"hello"[..]));
        }
    });
    assert_eq!(node.metric("portolan_proxy_connections_total{listener=\"web\"}"), 1.0);
}

#[test]
fn section_8_1_content_and_trailers_stream_both_ways() {
    let (backend, requests) = Backend::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    let node = Node::start(&[backend.address]);
    with_client(&node, async |mut sender| {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-up", "1".parse().unwrap());
        let frames =
            [Frame::data(Bytes::from("hel")), Frame::data(Bytes::from("lo")), Frame::trailers(trailers)];
        let content = Frames(frames.into()).boxed();
        let request = to("/").method("POST").body(content).unwrap();
        let (_, _, body, trailers) = whole(sender.send_request(request).await.unwrap()).await;
        assert_eq!(&body[..], b"abcde");
        assert_eq!(trailers.unwrap().get("x-sum").unwrap(), "7");
        let request = to("/").method("POST").header("content-length", 4).body(full("body")).unwrap();
        whole(sender.send_request(request).await.unwrap()).await;
    });
    let (head, body) = requests.recv().unwrap();
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"));
    assert_eq!(body, b"hello");
    let (head, body) = requests.recv().unwrap();
    assert_eq!((field(&head, "content-length"), body.as_slice()), (Some("4"), &b"body"[..]));
    assert_eq!(field(&head, "transfer-encoding"), None);
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_large_body_passes_both_ways() {
    const SIZE: usize = 8 * 1024 * 1024;
    let backend = Backend::start(|mut client| {
        let (_, body) = client.request();
        client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
        client.try_send(body);
    });
    let node = Node::start(&[backend.address]);
    let content: Vec<u8> = (0..SIZE).map(|at| ((at * 31) >> 5) as u8).collect();
    with_client(&node, async |mut sender| {
        let request = to("/").method("PUT").body(full(content.clone())).unwrap();
        let (status, _, body, _) = whole(sender.send_request(request).await.unwrap()).await;
        assert_eq!(status, 200);
        assert!(body == content, "{} of {SIZE} octets, or others", body.len());
    });
}

#[test]
fn answers_of_ours_and_heads_have_no_more_than_they_should() {
    let mut config = config();
    config.routes = vec![route("one", portolan_table::HostMatch::Exact("app.example".into()), "app")];
    let (backend, _requests) = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    let node = Node::with(config, &[backend.address]);
    with_client(&node, async |mut sender| {
        let request = Request::builder().uri("http://other.example/").body(empty()).unwrap();
        let (status, _, body, _) = whole(sender.send_request(request).await.unwrap()).await;
        assert_eq!(status, 404);
        assert!(body.starts_with(b"no route"));
        let (status, fields, body, _) =
            whole(sender.send_request(to("/").method("HEAD").body(empty()).unwrap()).await.unwrap()).await;
        assert_eq!((status, body.len()), (200, 0));
        assert_eq!(fields.get("content-length").unwrap(), "5");
    });
}

#[test]
fn a_response_cut_short_resets_the_stream() {
    let backend = Backend::start(|mut client| {
        client.request();
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
    });
    let node = Node::start(&[backend.address]);
    with_client(&node, async |mut sender| {
        // The reset may overtake the head.
        if let Ok(response) = sender.send_request(to("/").body(empty()).unwrap()).await {
            assert!(response.into_body().collect().await.is_err());
        }
    });
}

#[test]
fn a_client_that_resets_a_stream_ends_the_request_at_the_endpoint() {
    let (ended, end) = std::sync::mpsc::channel();
    let ended = Arc::new(Mutex::new(ended));
    let backend = Backend::start(move |mut client| {
        client.request();
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
        ended.lock().unwrap().send(client.rest()).unwrap();
    });
    let node = Node::start(&[backend.address]);
    with_client(&node, async |mut sender| {
        drop(sender.send_request(to("/").body(empty()).unwrap()).await.unwrap());
        assert_eq!(
            tokio::task::spawn_blocking(move || end.recv_timeout(PATIENCE).unwrap()).await.unwrap(),
            b""
        );
    });
}

#[test]
fn an_endpoint_that_does_not_answer_is_504() {
    let backend = Backend::start(|mut client| {
        client.request();
        client.rest();
    });
    let mut config = config();
    config.timeouts.response_head = Duration::from_millis(150);
    let node = Node::with(config, &[backend.address]);
    with_client(&node, async |mut sender| {
        let (status, ..) = whole(sender.send_request(to("/").body(empty()).unwrap()).await.unwrap()).await;
        assert_eq!(status, 504);
    });
}

#[test]
fn section_6_8_stopping_says_goaway_and_lets_streams_end() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let backend = Backend::start(move |mut client| {
        client.request();
        released.lock().unwrap().recv().unwrap();
        client.send(HELLO);
        client.rest();
    });
    let node = Node::start(&[backend.address]);
    with_client(&node, async |mut sender| {
        let pending = sender.send_request(to("/").body(empty()).unwrap());
        let mut pending = std::pin::pin!(pending);
        let early = tokio::time::timeout(Duration::from_millis(100), &mut pending).await;
        assert!(early.is_err(), "the endpoint waits");
        node.stop();
        tokio::time::sleep(Duration::from_millis(100)).await;
        release.send(()).unwrap();
        let (status, _, body, _) = whole(pending.await.unwrap()).await;
        assert_eq!((status, &body[..]), (200, &b"hello"[..]));
        while !sender.is_closed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn an_idle_connection_is_closed() {
    let mut config = config();
    config.timeouts.keep_alive = Duration::from_millis(150);
    let (backend, _requests) = Backend::answering(HELLO);
    let node = Node::with(config, &[backend.address]);
    with_client(&node, async |mut sender| {
        whole(sender.send_request(to("/").body(empty()).unwrap()).await.unwrap()).await;
        while !sender.is_closed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_request_body_that_stops_is_408() {
    let (backend, requests) = Backend::answering(HELLO);
    let mut config = config();
    config.timeouts.request_body_idle = Duration::from_millis(150);
    let node = Node::with(config, &[backend.address]);
    with_client(&node, async |mut sender| {
        let request =
            to("/").method("POST").header("content-length", 5).body(Unfinished::default().boxed()).unwrap();
        let (status, ..) = whole(sender.send_request(request).await.unwrap()).await;
        assert_eq!(status, 408);
    });
    assert!(requests.try_recv().is_err(), "the endpoint never saw a whole request");
}

#[test]
fn an_endpoint_that_refuses_is_passed_over() {
    let (backend, requests) = Backend::answering(HELLO);
    let node = Node::start(&[nobody(), backend.address]);
    with_client(&node, async |mut sender| {
        for _ in 0..4 {
            let request = to("/").method("POST").body(full("body")).unwrap();
            let (status, ..) = whole(sender.send_request(request).await.unwrap()).await;
            assert_eq!(status, 200);
            assert_eq!(requests.recv().unwrap().1, b"body");
        }
    });
}
