//! What a request costs the allocator once everything is warm: nothing; and what a slow one may hold.

use std::sync::Arc;
use std::time::Duration;

use portolan_proxy::{Config, UpstreamProtocol, serve};
use portolan_table::ChangeSet;
use tokio_util::sync::CancellationToken;

use crate::frames::*;
use crate::harness::*;

/// Streams in flight at once.
const STREAMS: u32 = 8;

/// Serves a client on this thread; what that took.
fn measure(
    config: Config,
    backend: &Backend,
    act: impl FnOnce(&mut Frames) + Send + 'static,
) -> allocation_counter::AllocationInfo {
    let (proxy, mut publisher, bound) = assemble(config, &prometheus::Registry::new());
    let mut change = ChangeSet::default();
    change.upsert(service("app", &[backend.address]));
    publisher.apply(change);
    let (address, stop) = (bound.address(), CancellationToken::new());
    let stopped = stop.clone();
    let client = std::thread::spawn(move || {
        let mut frames = Frames::over(Client::connect(address), &[(4, i32::MAX as u32)]);
        assert!(frames.send(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()));
        act(&mut frames);
        stop.cancel();
        while frames.next().is_some() {}
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let worker = Arc::clone(&proxy).worker(0);
    let measured = allocation_counter::measure(|| local.block_on(&runtime, serve(worker, bound, stopped)));
    client.join().unwrap();
    measured
}

/// Allocations of so many rounds of requests.
fn allocations(config: Config, backend: &Backend, rounds: u32) -> u64 {
    let measured = measure(config, backend, move |frames| {
        for round in 0..rounds {
            for at in 0..STREAMS {
                assert!(frames.get(2 * (round * STREAMS + at) + 1));
            }
            let mut ended = 0;
            while ended < STREAMS {
                ended += u32::from(frames.next().unwrap().is_end());
            }
        }
    });
    measured.count_total
}

fn assert_none(config: &Config, backend: &Backend) {
    let (few, many) = (100, 600);
    let before = allocations(config.clone(), backend, few);
    let after = allocations(config.clone(), backend, many);
    let requests = u64::from((many - few) * STREAMS);
    // What the clock does meanwhile, and a buffer that grows once, are no part of a request.
    assert!(after < before + requests / 20, "{before} for few, {after} for {requests} requests more");
}

#[test]
fn a_request_over_http_2_allocates_nothing() {
    let (backend, _requests) = Backend::answering(HELLO);
    assert_none(&config(), &backend);
}

#[test]
fn nor_does_one_that_goes_on_over_http_2() {
    let backend = Backend::start(|client| {
        let mut frames = Frames { client };
        frames.client.until("SM\r\n\r\n");
        frames.send(SETTINGS, 0, 0, &[]);
        while let Some(frame) = frames.next() {
            if frame.kind == HEADERS {
                frames.send(HEADERS, END_HEADERS, frame.stream, &[0x88]);
                frames.send(DATA, END_STREAM, frame.stream, b"hello");
            }
        }
    });
    let mut config = config();
    config.upstream.protocol = UpstreamProtocol::H2;
    assert_none(&config, &backend);
}

const BULK: usize = 24 << 20;
/// Far more than the buffers of one stream and its connection, and far less than the content.
const BOUND: u64 = 4 << 20;

#[test]
fn a_response_that_its_client_takes_slowly_does_not_pile_up() {
    let backend = Backend::start(|mut client| {
        client.request();
        client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {BULK}\r\n\r\n"));
        client.send(vec![7; BULK]);
    });
    let measured = measure(config(), &backend, |frames| {
        assert!(frames.get(1));
        let (mut count, mut is_ended) = (0, false);
        while !is_ended {
            let frame = frames.await_frame(DATA, 1);
            is_ended = frame.is_end();
            count += frame.payload.len();
            // The client is what everything waits for.
            std::thread::sleep(Duration::from_micros(200));
        }
        assert_eq!(count, BULK);
    });
    assert!(measured.bytes_max < BOUND, "{} octets", measured.bytes_max);
}

#[test]
fn nor_does_an_upload_that_its_endpoint_takes_slowly() {
    let backend = Backend::start(|mut client| {
        client.head();
        let mut left = BULK;
        while left > 0 {
            client.exactly(left.min(64 * 1024));
            left -= left.min(64 * 1024);
            std::thread::sleep(Duration::from_millis(1));
        }
        client.send(HELLO);
        client.rest();
    });
    let measured = measure(config(), &backend, |frames| {
        let length = BULK.to_string();
        let fields = [&POST[..], &[("content-length", &*length)]].concat();
        assert!(frames.request(1, 0, &fields));
        // As its first SETTINGS say.
        let mut window = 128 * 1024_i64;
        for piece in (1..=BULK / 16_384).rev() {
            while window < 16_384 {
                let frame = frames.next().unwrap();
                if (frame.kind, frame.stream) == (WINDOW_UPDATE, 1) {
                    window += i64::from(frame.code());
                }
            }
            let flags = if piece == 1 { END_STREAM } else { 0 };
            assert!(frames.send(DATA, flags, 1, &[7; 16_384]));
            window -= 16_384;
        }
        assert_eq!(frames.content(1), b"hello");
    });
    assert!(measured.bytes_max < BOUND, "{} octets", measured.bytes_max);
}

#[test]
fn nor_do_answers_that_their_clients_do_not_take() {
    let (backend, _requests) = Backend::answering(HELLO);
    let measured = measure(config(), &backend, |frames| {
        let address = frames.client.stream.peer_addr().unwrap();
        let mut others: Vec<_> = (0..8).map(|_| Frames::over(Client::connect(address), &[])).collect();
        for other in &mut others {
            // Each is answered at once, and the answer is ten times as long. A frame in two pieces has the proxy read
            // much at a time.
            let mut octets = Vec::new();
            for at in 0..400_000_u32 {
                octets.extend(compose(HEADERS, END_STREAM | END_HEADERS, 2 * at + 1, &[0x82, 0x86, 0x84]));
            }
            other.client.stream.set_nonblocking(true).unwrap();
            flood(&mut other.client.stream, &octets);
        }
    });
    assert!(measured.bytes_max < BOUND, "{} octets", measured.bytes_max);
}

/// Sends until nothing was taken for a while.
fn flood(to: &mut std::net::TcpStream, mut octets: &[u8]) {
    let mut last = std::time::Instant::now();
    while !octets.is_empty() && last.elapsed() < Duration::from_millis(300) {
        match std::io::Write::write(to, octets) {
            Ok(count) => {
                octets = &octets[count..];
                last = std::time::Instant::now();
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(_) => return,
        }
    }
}

#[test]
fn nor_do_interim_responses() {
    let (sent, sending) = std::sync::mpsc::channel();
    let sent = std::sync::Mutex::new(sent);
    let backend = Backend::start(move |mut client| {
        client.request();
        let interim = format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "l".repeat(30_000));
        for _ in 0..30 {
            client.send(&interim);
        }
        sent.lock().unwrap().send(()).unwrap();
        client.send(HELLO);
        client.rest();
    });
    let measured = measure(config(), &backend, move |frames| {
        (0..STREAMS * 2).for_each(|at| assert!(frames.get(2 * at + 1)));
        // As long as the endpoints get rid of something.
        while sending.recv_timeout(Duration::from_millis(500)).is_ok() {}
        let mut ended = 0;
        while ended < STREAMS * 2 {
            ended += u32::from(frames.next().unwrap().is_end());
        }
    });
    assert!(measured.bytes_max < BOUND, "{} octets", measured.bytes_max);
}
