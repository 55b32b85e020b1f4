//! One end of a connection: what it sends, and what it keeps. What it receives is in `receive`.
//!
//! ```text
//!  preface ─► SETTINGS ─► frames ─► drain (GOAWAY 2^31-1) ─► finish (GOAWAY last) ─► no streams left: close
//!                            └─► Broken: abandon (GOAWAY, reason), close
//! ```

use super::error::Reason;
use super::flow::{ReceiveWindow, SendWindow, WINDOW};
use super::frame::{self, END_STREAM, Kind};
use super::guard::Guard;
use super::hpack::{Decoder, Fields, SIZE_0, TABLE_SIZE};
use super::settings::{Own, Peer};
use super::streams::{Key, Stream, Streams};

/// The first octets of a client (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The highest number a stream can have.
const LAST: u32 = (1 << 31) - 1;
/// A DATA frame smaller than this that uses a window up is a chore: a peer that opens its windows by a few octets has
/// us send more framing than content (CVE-2019-9511).
const DRIBBLE: usize = 128;

/// What a peer may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Streams it may have open.
    pub(crate) streams_max: u32,
    /// Octets of a header list.
    pub(crate) list_max: usize,
    /// Fields of a header list.
    pub(crate) fields_max: usize,
    /// Octets of content that may come on one stream before what came is used.
    pub(crate) stream_window: u32,
    /// Octets that may be on their way to us on all streams together. Bounds no memory.
    pub(crate) window: u32,
}

/// Whether the peer has to be told that our header table is empty: once it allows a smaller one than it did, it waits
/// for that (RFC 7541 §4.2), and takes the next block for malformed otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Update {
    None,
    /// With the next block.
    Due,
    Told,
}

/// The state of one end of a connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) is_server: bool,
    pub(super) bounds: Bounds,
    pub(super) peer: Peer,
    pub(super) decoder: Decoder,
    pub(super) fields: Fields,
    /// A header block whose end has not come.
    pub(super) block: Vec<u8>,
    /// The frame that began it.
    pub(super) block_of: Option<frame::Header>,
    /// Frames that continued it.
    pub(super) continuations: usize,
    pub(super) streams: Streams,
    pub(super) send: SendWindow,
    pub(super) receive: ReceiveWindow,
    pub(super) guard: Guard,
    /// Octets of the client's preface that have come.
    pub(super) preface: usize,
    /// The peer's first SETTINGS have come.
    pub(super) has_settings: bool,
    /// The peer's last stream that was taken on.
    pub(super) last: u32,
    /// The next stream of ours.
    next: u32,
    pub(super) update: Update,
    /// Streams above this are not taken on any more.
    pub(super) limit: u32,
}

impl Session {
    pub(crate) fn server(bounds: Bounds) -> Self {
        Self::new(bounds, true)
    }

    pub(crate) fn client(bounds: Bounds) -> Self {
        Self::new(bounds, false)
    }

    fn new(bounds: Bounds, is_server: bool) -> Self {
        Self {
            is_server,
            peer: Peer::default(),
            decoder: Decoder::new(TABLE_SIZE),
            fields: Fields::new(bounds.list_max, bounds.fields_max),
            block: Vec::new(),
            block_of: None,
            continuations: 0,
            streams: Streams::default(),
            send: SendWindow::new(WINDOW),
            receive: ReceiveWindow::new(i64::from(bounds.window).max(WINDOW)),
            guard: Guard::new(bounds.streams_max),
            preface: 0,
            has_settings: false,
            last: 0,
            next: 1,
            update: Update::None,
            limit: LAST,
            bounds,
        }
    }

    /// The first frames.
    pub(crate) fn start(&self, out: &mut Vec<u8>) {
        let Bounds { streams_max, list_max, stream_window, window, .. } = self.bounds;
        if !self.is_server {
            out.extend_from_slice(PREFACE);
        }
        let streams_max = self.is_server.then_some(streams_max);
        let list_max = u32::try_from(list_max).unwrap_or(u32::MAX);
        Own { streams_max, window: stream_window, list_max }.push(out);
        let more = i64::from(window) - WINDOW;
        if let Some(more) = u32::try_from(more).ok().filter(|more| *more > 0) {
            frame::push(Kind::WindowUpdate, 0, 0, &more.to_be_bytes(), out);
        }
    }

    /// Milliseconds of a clock that need not be fine: floods are measured by it.
    pub(crate) fn set_now(&mut self, now_ms: u64) {
        self.guard.set_now(now_ms);
    }

    /// The fields that came with the last [`Event::Headers`](super::Event::Headers).
    pub(crate) fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Streams that are not closed.
    pub(crate) fn open_streams(&self) -> usize {
        self.streams.open()
    }

    /// Gives back what only streams need, while there are none: all keys have been released.
    pub(crate) fn rest(&mut self) {
        self.streams.rest();
        self.fields.rest();
        self.block = Vec::new();
    }

    /// A header block has begun and not ended.
    pub(crate) fn is_in_block(&self) -> bool {
        self.block_of.is_some()
    }

    /// True while the peer has not ended its side of the stream.
    pub(crate) fn is_receiving(&self, key: Key) -> bool {
        self.streams.get(key).is_receiving
    }

    /// Octets of content that may be sent on a stream now.
    pub(crate) fn room(&self, key: Key) -> usize {
        self.streams.get(key).send.available().min(self.send.available())
    }

    /// Ends a header block that [`begin_block`](super::begin_block) began at `start`.
    pub(crate) fn end_headers(&mut self, key: Key, start: usize, is_end: bool, out: &mut Vec<u8>) {
        if self.update == Update::Due {
            self.update = Update::Told;
            out.insert(start + frame::HEADER, SIZE_0);
        }
        let stream = self.streams.of(key);
        debug_assert!(stream.is_sending, "nothing follows the end of a stream");
        frame::end_block(start, stream.id, is_end, self.peer.frame_max, out);
        if is_end {
            self.end_sending(key);
        }
    }

    /// Sends as much of `data` as the windows allow, and says how much that was. With `is_end` the last of it ends
    /// our side of the stream.
    pub(crate) fn send_data(&mut self, key: Key, data: &[u8], is_end: bool, out: &mut Vec<u8>) -> usize {
        let count = data.len().min(self.room(key));
        let stream = self.streams.of(key);
        debug_assert!(stream.is_sending, "nothing follows the end of a stream");
        let ends = is_end && count == data.len();
        if count == 0 && !ends {
            return 0;
        }
        stream.send.take(count);
        self.send.take(count);
        let (id, most) = (stream.id, self.peer.frame_max);
        let mut rest = &data[..count];
        loop {
            let (piece, behind) = rest.split_at(rest.len().min(most));
            rest = behind;
            let flags = if ends && rest.is_empty() { END_STREAM } else { 0 };
            frame::push(Kind::Data, flags, id, piece, out);
            if rest.is_empty() {
                break;
            }
        }
        // Those who send cut what they have to the window before, so it shows only in that nothing is left of it.
        if count < DRIBBLE && !ends && self.room(key) == 0 {
            self.guard.chore();
        } else {
            self.guard.done();
        }
        if ends {
            self.end_sending(key);
        }
        count
    }

    fn end_sending(&mut self, key: Key) {
        self.streams.of(key).is_sending = false;
        self.close_if_over(key);
    }

    pub(super) fn close_if_over(&mut self, key: Key) {
        // What an endpoint answered it has served. Of what we answer, only those who carry it out know whether it was
        // more than a refusal.
        if self.streams.close_if_over(key) && !self.is_server {
            self.guard.served();
        }
    }

    /// A request of the peer's was carried out.
    pub(crate) fn served(&mut self) {
        self.guard.served();
    }

    /// Ends a stream at once. Nothing is sent if it is closed.
    pub(crate) fn reset(&mut self, key: Key, reason: Reason, out: &mut Vec<u8>) {
        let Stream { id, is_receiving, .. } = *self.streams.get(key);
        if self.streams.close(key) {
            if is_receiving {
                self.streams.remember(id);
            }
            frame::push(Kind::Reset, 0, id, &reason.octets(), out);
        }
    }

    /// Takes a stream of ours back, of which nothing has left: its frames stand in `out` from `start` on. Its number stays
    /// unused, as numbers may (§5.1.1). `moved` is told where heads of other streams stand now, and where they stood.
    /// False, and nothing done, if the peer waits for what its head says besides.
    pub(crate) fn take_back(
        &mut self,
        key: Key,
        start: usize,
        out: &mut Vec<u8>,
        mut moved: impl FnMut(Key, usize, usize),
    ) -> bool {
        if out.get(start + frame::HEADER) == Some(&SIZE_0) {
            return false;
        }
        let streams = &self.streams;
        let content = frame::take_back(streams.get(key).id, start, out, |header, from, to| {
            if header.kind == Kind::Headers
                && let Some(key) = streams.find(header.stream)
            {
                moved(key, from, to);
            }
        });
        self.send.put_back(content);
        self.streams.close(key);
        true
    }

    /// The peer did not take the stream on, as its GOAWAY says.
    pub(crate) fn forget(&mut self, key: Key) {
        self.streams.close(key);
    }

    /// The connection is gone: so are its streams.
    pub(crate) fn lose(&mut self) {
        self.streams.close_all();
        self.limit = 0;
    }

    /// The stream is not closed.
    pub(crate) fn is_open(&self, key: Key) -> bool {
        let stream = self.streams.get(key);
        stream.is_sending || stream.is_receiving
    }

    /// Content can still be sent on the stream.
    pub(crate) fn is_sending(&self, key: Key) -> bool {
        self.streams.get(key).is_sending
    }

    /// Streams that the peer lets us open.
    pub(crate) fn streams_max(&self) -> usize {
        self.peer.streams_max as usize
    }

    /// The key may be given to another stream. Nothing happens on the wire: the stream has ended.
    pub(crate) fn release(&mut self, key: Key) {
        self.streams.release(key);
    }

    /// Content that came on a stream was used: the peer may send as much again on it. What is not used any more when
    /// the stream has ended need not be told.
    pub(crate) fn used(&mut self, key: Key, count: usize, out: &mut Vec<u8>) {
        let stream = self.streams.of(key);
        if stream.is_receiving
            && let Some(more) = stream.receive.give_back(count)
        {
            frame::push(Kind::WindowUpdate, 0, stream.id, &more.to_be_bytes(), out);
        }
    }

    /// The window of all streams bounds what is on its way, not what lies here unused: that is up to the windows of the
    /// streams. So it is given back on receipt, and neither a stream that is not read nor one that ended unread takes
    /// any of it from the others.
    pub(super) fn give_back(&mut self, count: usize, out: &mut Vec<u8>) {
        if let Some(more) = self.receive.give_back(count) {
            frame::push(Kind::WindowUpdate, 0, 0, &more.to_be_bytes(), out);
        }
    }

    /// Opens a stream of ours whose head ends a block begun at `start`; `None`, and the block taken back, if none
    /// may be opened now.
    pub(crate) fn open(
        &mut self,
        start: usize,
        is_end: bool,
        is_bodiless: bool,
        out: &mut Vec<u8>,
    ) -> Option<Key> {
        if !self.may_open() {
            out.truncate(start);
            return None;
        }
        let id = self.next;
        self.next += 2;
        let key = self.streams.insert(Stream { is_bodiless, ..self.stream(id) });
        self.end_headers(key, start, is_end, out);
        Some(key)
    }

    /// Another stream of ours may be opened.
    pub(crate) fn may_open(&self) -> bool {
        !self.is_spent() && self.limit == LAST && self.streams.open() < self.peer.streams_max as usize
    }

    /// No stream of ours can be opened here any more: each takes a number of its own, and there are no more.
    pub(crate) const fn is_spent(&self) -> bool {
        self.next > LAST
    }

    /// As if so many streams had been opened that `next` is the next one.
    #[cfg(test)]
    pub(crate) fn skip_to(&mut self, next: u32) {
        self.next = next;
    }

    pub(super) fn stream(&self, id: u32) -> Stream {
        Stream {
            id,
            send: SendWindow::new(self.peer.window),
            receive: ReceiveWindow::new(i64::from(self.bounds.stream_window)),
            is_receiving: true,
            is_sending: true,
            has_head: false,
            is_bodiless: false,
            promised: None,
        }
    }

    pub(super) fn is_idle(&self, id: u32) -> bool {
        let is_ours = (id % 2 == 1) != self.is_server;
        if is_ours { id >= self.next } else { id > self.last }
    }

    /// The peer is to open no further streams (§6.8). A PING goes along: once it comes back the peer knows, and
    /// [`finish`](Self::finish) may follow.
    pub(crate) fn drain(&self, out: &mut Vec<u8>) {
        go_away(LAST, Reason::No, out);
        frame::push(Kind::Ping, 0, 0, b"draining", out);
    }

    /// Streams opened from now on are not carried out; the peer is told where that begins.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if self.limit == LAST {
            self.limit = self.last;
            go_away(self.last, Reason::No, out);
        }
    }

    /// The connection ends here.
    pub(crate) fn abandon(&self, reason: Reason, out: &mut Vec<u8>) {
        go_away(self.last.min(self.limit), reason, out);
    }

    /// Keys of our streams that the peer did not take on, as its GOAWAY says.
    pub(crate) fn above(&self, last: u32) -> impl Iterator<Item = Key> {
        self.streams.above(last)
    }
}

fn go_away(last: u32, reason: Reason, out: &mut Vec<u8>) {
    let mut payload = [0; 8];
    payload[..4].copy_from_slice(&last.to_be_bytes());
    payload[4..].copy_from_slice(&reason.octets());
    frame::push(Kind::GoAway, 0, 0, &payload, out);
}
