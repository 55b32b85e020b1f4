//! What the streams of a connection and its driver share. For one thread; nobody holds it across an await.

use core::task::{Context, Poll, Waker};
use core::time::Duration;

use std::rc::Rc;

use tokio::sync::Notify;

use super::Terms;
use super::clothes;
use super::mail::{Fate, Mail, watch};
use super::outbox::Outbox;
use crate::h2::{Block, Bounds, Broken, Event, Key, Reason, Session};
use crate::l7::buffer::{Buffer, Stock, forget_front};
use crate::l7::clock::TICK;

/// Octets of content on their way to us on all streams; and those that one stream may have sent ahead of its client,
/// who holds up its own stream with them, and no other.
const WINDOW: u32 = 2 * 1024 * 1024;
const STREAM_WINDOW: u32 = 128 * 1024;
/// Streams of one connection before its endpoint has said how many there may be (RFC 9113 §6.5.2 wants no fewer), and
/// whatever it says.
const STREAMS_AT_FIRST: usize = 100;
const STREAMS_MAX: usize = 1000;
/// Fields of a response.
const FIELDS_MAX: usize = 256;
/// With this much on its way to the endpoint, streams wait.
const WAITING_MAX: usize = 128 * 1024;

/// A connection without its socket.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) session: Session,
    pub(super) out: Outbox,
    mails: Vec<Mail>,
    /// Streams that are open or about to be.
    handles: usize,
    /// Streams that the endpoint allows at once, if it has said.
    streams_max: Option<usize>,
    driver: Option<Waker>,
    /// When the endpoint last sent something, in milliseconds of the worker's clock.
    heard_ms: u64,
    /// Streams that may not be opened yet.
    waiting: Vec<Waker>,
    /// Those who look for a place on any connection to the endpoint.
    changed: Rc<Notify>,
    stock: Rc<Stock>,
    /// No more requests; those that have a place here go on.
    is_leaving: bool,
    /// No more streams.
    is_closed: bool,
    is_tls: bool,
}

impl Core {
    pub(super) fn new(terms: &Terms, is_tls: bool, changed: &Rc<Notify>, stock: &Rc<Stock>) -> Self {
        let session = Session::client(Bounds {
            streams_max: 0,
            list_max: terms.head_max,
            fields_max: FIELDS_MAX,
            stream_window: STREAM_WINDOW,
            window: WINDOW,
        });
        let mut out = stock.take_head();
        session.start(&mut out);
        Self {
            session,
            out: Outbox::new(out),
            mails: Vec::new(),
            handles: 0,
            streams_max: None,
            driver: None,
            heard_ms: 0,
            waiting: Vec::new(),
            changed: Rc::clone(changed),
            stock: Rc::clone(stock),
            is_leaving: false,
            is_closed: false,
            is_tls,
        }
    }

    pub(super) const fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(super) const fn is_unused(&self) -> bool {
        self.handles == 0
    }

    /// Another stream may be opened here.
    pub(super) fn has_place(&self) -> bool {
        let most = self.streams_max.unwrap_or(STREAMS_AT_FIRST);
        !self.is_leaving && self.handles < most.min(STREAMS_MAX)
    }

    pub(super) fn take_place(&mut self) {
        self.handles += 1;
        if self.out.octets.capacity() == 0 {
            self.out.octets = self.stock.take_head();
        }
    }

    /// Gives back what only streams need, once all is written.
    pub(super) fn rest_if_unused(&mut self) {
        if self.is_unused() && self.out.octets.is_empty() {
            self.stock.put_head(core::mem::take(&mut self.out.octets));
        }
    }

    pub(super) fn mail(&mut self, key: Key) -> &mut Mail {
        &mut self.mails[key.index()]
    }

    pub(super) fn is_full(&self) -> bool {
        self.out.pending() >= WAITING_MAX
    }

    /// Octets of content that a stream may send now.
    pub(super) fn room(&self, key: Key) -> usize {
        if self.is_full() { 0 } else { self.session.room(key) }
    }

    /// The task that reads and writes.
    pub(super) fn watch_driver(&mut self, cx: &Context<'_>) {
        watch(&mut self.driver, cx);
    }

    pub(super) fn wake_driver(&self) {
        if let Some(driver) = &self.driver {
            driver.wake_by_ref();
        }
    }

    /// Opens a stream with this head; pending while the endpoint allows no more.
    pub(super) fn poll_open(&mut self, cx: &Context<'_>, head: &clothes::Head<'_, '_>) -> Poll<Option<Key>> {
        if self.is_closed {
            return Poll::Ready(None);
        }
        let start = clothes::push_request(head, self.is_tls, &mut self.out.octets);
        let is_end = head.is_end();
        match self.session.open(start, is_end, head.is_head, &mut self.out.octets) {
            Some(key) => {
                while self.mails.len() <= key.index() {
                    self.mails.push(Mail::default());
                }
                let text = self.stock.take_head();
                let place = self.out.place(start);
                *self.mail(key) = Mail::new(text, place, head.is_head);
                self.wake_driver();
                if self.session.is_spent() {
                    self.end_opening();
                }
                Poll::Ready(Some(key))
            }
            None => {
                // Whoever waits may be polled for other reasons; it waits once.
                if !self.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    self.waiting.push(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// Reads what came for a stream into `target`: how much.
    pub(super) fn read(&mut self, key: Key, most: usize, mut put: impl FnMut(&[u8])) {
        let mail = &mut self.mails[key.index()];
        let count = mail.unread().len().min(most);
        put(&mail.unread()[..count]);
        mail.at += count;
        let is_all = mail.at == mail.text.len();
        forget_front(&mut mail.text, &mut mail.at);
        // Framing counts as content here; all is given back once all is read.
        let given = if is_all { mail.owed } else { mail.owed.min(count) };
        mail.owed -= given;
        let before = self.out.octets.len();
        if given > 0 {
            self.session.used(key, given, &mut self.out.octets);
        }
        if self.out.octets.len() > before {
            self.wake_driver();
        }
    }

    /// A stream is not wanted any more.
    pub(super) fn close(&mut self, key: Option<Key>) {
        self.handles -= 1;
        if let Some(key) = key {
            if !self.take_back(key) {
                self.session.reset(key, Reason::Cancel, &mut self.out.octets);
            }
            self.session.release(key);
            let mail = core::mem::take(self.mail(key));
            self.stock.put_head(mail.text);
        }
        self.wake_driver();
        self.waiting.drain(..).for_each(Waker::wake);
        if self.has_place() {
            // One place, for one of those who look for one.
            self.changed.notify_one();
        }
    }

    /// Takes back a stream that the endpoint has seen nothing of: a request given up as soon as it was made costs it
    /// nothing, and does not count as a reset, of which endpoints bear few before they end the connection for all.
    fn take_back(&mut self, key: Key) -> bool {
        let Self { session, out, mails, .. } = self;
        let Some(at) = out.unseen(mails[key.index()].place).filter(|_| session.is_open(key)) else {
            return false;
        };
        let begin = out.place(0);
        session.take_back(key, at, &mut out.octets, |key, from, to| {
            // Trailers are headers too, and stay where they belong.
            let place = &mut mails[key.index()].place;
            if *place == begin.behind(from) {
                *place = begin.behind(to);
            }
        })
    }

    /// What holds for all of them has changed.
    fn wake_waiting(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
        self.changed.notify_waiters();
    }

    /// No stream can be opened here any more; those that are open go on. Who has a place and no stream is told, and
    /// knows that nothing of the request left.
    fn end_opening(&mut self) {
        (self.is_leaving, self.is_closed) = (true, true);
        self.wake_waiting();
    }

    /// No more requests; those that have a place go on.
    pub(super) fn retire(&mut self) {
        self.is_leaving = true;
        self.wake_driver();
        self.wake_waiting();
    }

    /// The connection has ended. What the endpoint has seen nothing of, it did not begin with.
    pub(super) fn lose(&mut self) {
        self.session.lose();
        for mail in &mut self.mails {
            let is_unseen = self.out.unseen(mail.place).is_some();
            mail.end(if is_unseen { Fate::Refused } else { Fate::Lost });
        }
        self.end_opening();
    }

    /// The endpoint sent something.
    pub(super) fn hear(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
    }

    /// A stream was waited for in vain for as long as `limit`. If nothing came on the connection meanwhile, more of it
    /// than the stream may be dead, and no more requests should find out.
    pub(super) fn doubt(&mut self, now_ms: u64, limit: Duration) {
        // The clock may lag by a tick at either end.
        let silence = Duration::from_millis(now_ms.saturating_sub(self.heard_ms)) + 2 * TICK;
        if silence >= limit {
            self.retire();
        }
    }

    /// Streams that wait for room go on.
    pub(super) fn wake_writers(&mut self) {
        self.mails.iter_mut().for_each(Mail::wake_writer);
    }

    /// Takes in the frames that are there as a whole.
    pub(super) fn take_input(&mut self, input: &mut Buffer) -> Result<(), Broken> {
        let mut at = 0;
        loop {
            let (count, event) = self.session.receive(&input.filled()[at..], &mut self.out.octets)?;
            if count == 0 {
                break;
            }
            at += count;
            self.take_event(event);
        }
        input.consume(at);
        Ok(())
    }

    fn take_event(&mut self, event: Event<'_>) {
        // Nothing comes before SETTINGS.
        let streams_max = Some(self.session.streams_max());
        if core::mem::replace(&mut self.streams_max, streams_max) != streams_max {
            self.wake_waiting();
        }
        match event {
            Event::Headers { key, block, is_end } => self.take_headers(key, block, is_end),
            Event::Data { key, data, is_end } => self.take_data(key, data, is_end),
            Event::Reset { key, reason } => {
                let is_refused = reason == Reason::Refused as u32;
                self.mail(key).end(if is_refused { Fate::Refused } else { Fate::Reset(reason) });
            }
            Event::Window(Some(key)) => self.mail(key).wake_writer(),
            Event::Window(None) => self.wake_writers(),
            Event::GoAway { last } => self.take_go_away(last),
            Event::None | Event::Malformed | Event::Refused | Event::Pong => {}
        }
    }

    fn take_headers(&mut self, key: Key, block: Block, is_end: bool) {
        let mail = &mut self.mails[key.index()];
        let fields = self.session.fields();
        match block {
            Block::Interim(_) => {
                clothes::write_interim(fields, &mut mail.text);
            }
            Block::Head => {
                mail.is_chunked = clothes::write_response(fields, mail.is_head, is_end, &mut mail.text);
            }
            Block::Trailers if mail.is_chunked => clothes::write_trailers(fields, &mut mail.text),
            Block::Trailers => {}
        }
        mail.is_ended |= is_end;
        mail.wake_reader();
    }

    fn take_data(&mut self, key: Key, data: &[u8], is_end: bool) {
        let mail = &mut self.mails[key.index()];
        if mail.is_chunked {
            clothes::write_chunk(data, is_end, &mut mail.text);
        } else {
            mail.text.extend_from_slice(data);
        }
        mail.owed += data.len();
        mail.is_ended |= is_end;
        mail.wake_reader();
    }

    fn take_go_away(&mut self, last: u32) {
        let refused: Vec<Key> = self.session.above(last).collect();
        for key in refused {
            self.session.forget(key);
            self.mail(key).end(Fate::Refused);
        }
        self.end_opening();
    }
}
