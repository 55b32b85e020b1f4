//! Shared connections without sockets.

use core::cell::RefCell;
use core::task::{Context, Poll, Waker};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::sync::Notify;

use super::Terms;
use super::clothes::{Head, slots};
use super::mail::Fate;
use super::state::Core;
use super::stream::SharedStream;
use crate::h2::Key;
use crate::l7::buffer::{Buffer, SMALL, Stock};

const TERMS: Terms = Terms { idle: Duration::from_secs(1), stall: Duration::from_secs(1), head_max: 10_000 };
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30000\r\n\r\n";

/// A connection whose endpoint has sent its SETTINGS, and whose own are written.
fn core() -> Core {
    core_of(&Rc::new(Notify::new()))
}

fn core_of(changed: &Rc<Notify>) -> Core {
    let mut core = Core::new(&TERMS, false, changed, &Rc::new(Stock::default()));
    feed(&mut core, 4, 0, &[]);
    core.out.wrote(core.out.pending());
    core
}

/// A frame from the endpoint.
fn feed(core: &mut Core, kind: u8, stream: u8, payload: &[u8]) {
    let mut input = Buffer::default();
    input.reserve(&Stock::default(), SMALL);
    input.append(&[0, 0, payload.len() as u8, kind, 0, 0, 0, 0, stream]);
    input.append(payload);
    core.take_input(&mut input).unwrap();
    assert!(input.is_empty());
}

fn poll_open(core: &mut Core, text: &str) -> Poll<Option<Key>> {
    let mut slots = slots();
    let head = Head::parse(text.as_bytes(), &mut slots).unwrap();
    core.poll_open(&Context::from_waker(Waker::noop()), &head)
}

fn open(core: &mut Core, text: &str) -> Key {
    core.take_place();
    match poll_open(core, text) {
        Poll::Ready(Some(key)) => key,
        other => panic!("{other:?}"),
    }
}

/// Streams of the frames that wait.
fn waiting(core: &Core) -> Vec<u8> {
    let (mut rest, mut streams) = (core.out.unwritten(), Vec::new());
    while let Some((head, behind)) = rest.split_first_chunk::<9>() {
        streams.push(head[8]);
        rest = &behind[u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize..];
    }
    streams
}

#[test]
fn what_was_refused_stays_refused_when_the_connection_is_lost() {
    let mut core = core();
    let keys = [open(&mut core, GET), open(&mut core, GET)];
    core.out.wrote(core.out.pending());
    feed(&mut core, 7, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
    core.lose();
    assert_eq!(keys.map(|key| core.mail(key).fate), [Some(Fate::Lost), Some(Fate::Refused)]);
}

#[test]
fn what_never_left_is_refused_when_the_connection_is_lost() {
    let mut core = core();
    let first = open(&mut core, GET);
    let length = core.out.pending();
    let second = open(&mut core, GET);
    core.out.wrote(length);
    let third = open(&mut core, GET);
    // Of the second, some is in the hands of a write that has not ended.
    core.out.commit(1);
    core.lose();
    let fates = [first, second, third].map(|key| core.mail(key).fate);
    assert_eq!(fates, [Some(Fate::Lost), Some(Fate::Lost), Some(Fate::Refused)]);
}

#[test]
fn a_request_given_up_before_it_left_leaves_nothing_behind() {
    let mut core = core();
    let first = open(&mut core, GET);
    core.out.wrote(1);
    let (second, third) = (open(&mut core, POST), open(&mut core, GET));
    let window = core.session.room(second);
    assert_eq!(core.session.send_data(second, &[7; 20_000], false, &mut core.out.octets), 20_000);
    core.close(Some(second));
    // Six octets of fields.
    core.out.wrote(core.out.pending() - 9 - 6);
    assert_eq!(waiting(&core), [5], "all but the head of the third left");
    let fourth = open(&mut core, POST);
    assert_eq!(core.session.room(fourth), window, "its content takes up no window");
    core.close(Some(first));
    assert_eq!(waiting(&core), [5, 7, 1], "what was seen has to be reset");
    core.lose();
    assert_eq!([third, fourth].map(|key| core.mail(key).fate), [Some(Fate::Refused); 2]);
}

#[test]
fn a_head_that_says_more_than_its_request_is_not_taken_back() {
    let mut core = core();
    // The endpoint allows a smaller table, and waits for our word on that (RFC 7541 §4.2).
    feed(&mut core, 4, 0, &[0, 1, 0, 0, 0, 0]);
    core.out.wrote(core.out.pending());
    let key = open(&mut core, GET);
    core.close(Some(key));
    assert_eq!(waiting(&core), [1, 1]);
}

#[test]
fn a_connection_whose_numbers_are_used_up_makes_way_for_another() {
    let mut core = core();
    core.session.skip_to((1 << 31) - 3);
    let last_but_one = open(&mut core, GET);
    assert!(core.has_place());
    // Whoever has a place by then finds out that there is no number for it.
    core.take_place();
    let last = open(&mut core, GET);
    assert!(!core.has_place() && core.is_leaving(), "further requests go elsewhere");
    assert_eq!(poll_open(&mut core, GET), Poll::Ready(None));
    assert!(core.is_closed(), "it is safe to send it elsewhere");
    for key in [last_but_one, last] {
        assert_eq!(core.mail(key).fate, None, "what is open goes on");
        core.close(Some(key));
    }
}

#[test]
fn a_connection_is_doubted_only_after_as_much_silence() {
    let limit = Duration::from_secs(1);
    for (heard_ms, is_doubted) in [(1000, true), (1800, false)] {
        let mut core = core();
        core.hear(heard_ms);
        core.doubt(2000, limit);
        assert_eq!(!core.has_place(), is_doubted, "heard of at {heard_ms}");
    }
}

#[tokio::test]
async fn the_kernel_gives_up_an_endpoint_that_is_gone() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    super::watch(&stream, Duration::from_secs(7));
    let socket = socket2::SockRef::from(&stream);
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(7)));
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), super::PROBE_AFTER);
}

#[test]
fn what_cannot_be_said_is_nobody_elses_fault() {
    let core = Rc::new(RefCell::new(core()));
    let write = |stream: &mut SharedStream, octets: &[u8]| {
        Pin::new(stream).poll_write(&mut Context::from_waker(Waker::noop()), octets)
    };
    let mut stream = SharedStream::new(&core);
    assert!(matches!(write(&mut stream, b"GET / HTTP/1.1\r\nno head"), Poll::Ready(Err(_))));
    assert!(stream.is_unfit());
    let mut stream = SharedStream::new(&core);
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(matches!(write(&mut stream, head), Poll::Ready(Ok(_))));
    assert!(!stream.is_unfit());
    assert!(matches!(write(&mut stream, b"no size\r\n"), Poll::Ready(Err(_))));
    assert!(stream.is_unfit());
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Woken {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// SETTINGS_MAX_CONCURRENT_STREAMS.
fn allow(core: &mut Core, streams: u8) {
    feed(core, 4, 0, &[0, 3, 0, 0, 0, streams]);
}

#[test]
fn a_place_that_is_free_wakes_one_of_those_who_look_for_one() {
    let changed = Rc::new(Notify::new());
    let mut core = core_of(&changed);
    allow(&mut core, 2);
    let keys = [open(&mut core, GET), open(&mut core, GET)];
    assert!(!core.has_place());
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let mut looking: Vec<_> = (0..500).map(|_| Box::pin(changed.notified())).collect();
    for one in &mut looking {
        assert!(one.as_mut().poll(&mut cx).is_pending());
    }
    core.close(Some(keys[0]));
    assert_eq!(woken.count(), 1);
    // The first is told, and goes away before it has heard: then the next is.
    drop(looking.remove(0));
    assert_eq!(woken.count(), 2);
    core.retire();
    assert_eq!(woken.count(), 500, "all look elsewhere");
}

#[test]
fn more_streams_that_are_allowed_wake_those_who_wait() {
    let changed = Rc::new(Notify::new());
    let mut core = core_of(&changed);
    let first = open(&mut core, GET);
    core.take_place();
    allow(&mut core, 1);
    let woken = [Arc::new(Woken::default()), Arc::new(Woken::default())];
    let wakers = woken.each_ref().map(|woken| Waker::from(Arc::clone(woken)));
    let mut slots = slots();
    let head = Head::parse(GET.as_bytes(), &mut slots).unwrap();
    for _ in 0..100 {
        assert!(core.poll_open(&Context::from_waker(&wakers[0]), &head).is_pending());
    }
    let mut looking = Box::pin(changed.notified());
    assert!(looking.as_mut().poll(&mut Context::from_waker(&wakers[1])).is_pending());
    allow(&mut core, 1);
    assert_eq!(woken.each_ref().map(|woken| woken.count()), [0, 0], "nothing has changed");
    allow(&mut core, 3);
    assert_eq!(woken.each_ref().map(|woken| woken.count()), [1, 1], "each once");
    assert!(core.poll_open(&Context::from_waker(&wakers[0]), &head).is_ready());
    core.close(Some(first));
}
