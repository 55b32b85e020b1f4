//! What a session makes of the octets of its peer (RFC 9113 §5 and §6).

use super::blocks::fits;
use super::error::{Broken, Reason};
use super::flow::WINDOW_MAX;
use super::frame::{ACK, END_STREAM, HEADER, Header, Kind, PAYLOAD, push};
use super::hpack::TABLE_SIZE;
use super::session::{PREFACE, Session, Update};
use super::streams::Key;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event<'b> {
    /// Nothing that concerns a stream.
    None,
    /// Fields came; they are in [`Session::fields`].
    Headers { key: Key, block: Block, is_end: bool },
    /// Content came. What is used is given back to the stream with [`Session::used`].
    Data { key: Key, data: &'b [u8], is_end: bool },
    /// The stream has ended early, by the peer or for a fault of its; the key waits to be released.
    Reset { key: Key, reason: u32 },
    /// A request that was none; its stream has been reset.
    Malformed,
    /// A request beyond the streams that may be open; it may come again.
    Refused,
    /// More may be sent on one stream, or on any.
    Window(Option<Key>),
    /// The peer takes on no streams above this one.
    GoAway { last: u32 },
    /// The PING of [`Session::drain`] came back.
    Pong,
}

/// What fields are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Block {
    /// The head of a message.
    Head,
    /// A 1xx response of this status.
    Interim(u16),
    Trailers,
}

impl Session {
    /// Takes the next frame off the front of `input`: how many octets that was, and what it meant. 0 if it is not
    /// there as a whole. Answers go to the end of `out`.
    pub(crate) fn receive<'b>(
        &mut self,
        input: &'b [u8],
        out: &mut Vec<u8>,
    ) -> Result<(usize, Event<'b>), Broken> {
        if self.is_server && self.preface < PREFACE.len() {
            return self.take_preface(input);
        }
        let Some((header, behind)) = input.split_first_chunk::<HEADER>() else { return Ok((0, Event::None)) };
        let header = Header::parse(*header);
        self.judge(header)?;
        let Some(payload) = behind.get(..header.length) else { return Ok((0, Event::None)) };
        let event = self.take_frame(header, payload, out)?;
        self.guard.check()?;
        Ok((HEADER + header.length, event))
    }

    fn take_preface<'b>(&mut self, input: &[u8]) -> Result<(usize, Event<'b>), Broken> {
        let expected = &PREFACE[self.preface..];
        let length = input.len().min(expected.len());
        if input[..length] != expected[..length] {
            return Err(Broken(Reason::Protocol, "no preface"));
        }
        self.preface += length;
        Ok((length, Event::None))
    }

    /// What can be said of a frame by its header.
    fn judge(&self, header: Header) -> Result<(), Broken> {
        if header.length > PAYLOAD {
            return Err(Broken(Reason::FrameSize, "frame larger than allowed"));
        }
        if !self.has_settings && (header.kind != Kind::Settings || header.flags & ACK != 0) {
            return Err(Broken(Reason::Protocol, "the first frame is not SETTINGS"));
        }
        let is_continued = self.block_of.is_some_and(|first| first.stream == header.stream);
        if (header.kind == Kind::Continuation) != self.block_of.is_some()
            || (self.block_of.is_some() && !is_continued)
        {
            return Err(Broken(
                Reason::Protocol,
                "a header block is interrupted, or continued without beginning",
            ));
        }
        header.check()
    }

    fn take_frame<'b>(
        &mut self,
        header: Header,
        payload: &'b [u8],
        out: &mut Vec<u8>,
    ) -> Result<Event<'b>, Broken> {
        match header.kind {
            Kind::Data => self.take_data(header, payload, out),
            Kind::Headers => self.take_headers(header, payload, out),
            Kind::Continuation => self.take_continuation(header, payload, out),
            Kind::Reset => self.take_reset(header, payload),
            Kind::WindowUpdate => self.take_window_update(header, payload, out),
            Kind::Settings => self.take_settings(header, payload, out),
            Kind::Ping => Ok(self.take_ping(header, payload, out)),
            Kind::GoAway => Ok(Event::GoAway { last: number(payload) & 0x7fff_ffff }),
            Kind::Priority => self.take_priority(header, out),
            Kind::PushPromise => Err(Broken(Reason::Protocol, "push was not allowed")),
            Kind::Unknown(_) => {
                self.guard.chore();
                Ok(Event::None)
            }
        }
    }

    fn take_data<'b>(
        &mut self,
        header: Header,
        payload: &'b [u8],
        out: &mut Vec<u8>,
    ) -> Result<Event<'b>, Broken> {
        let data = header.content(payload)?;
        if self.is_idle(header.stream) {
            return Err(Broken(Reason::Protocol, "DATA on a stream that was never opened"));
        }
        self.receive
            .take(payload.len())
            .map_err(|_| Broken(Reason::FlowControl, "more DATA than the window allows"))?;
        self.give_back(payload.len(), out);
        let is_end = header.has(END_STREAM);
        if data.is_empty() && !is_end {
            self.guard.chore();
        } else {
            self.guard.done();
        }
        let Some(key) = self.streams.find(header.stream) else {
            return self.closed(header, out);
        };
        let stream = self.streams.of(key);
        if !stream.is_receiving || !stream.has_head {
            return Ok(self.fail(key, Reason::StreamClosed, out));
        }
        if stream.receive.take(payload.len()).is_err() {
            return Ok(self.fail(key, Reason::FlowControl, out));
        }
        if !fits(stream, data.len() as u64, is_end) {
            return Ok(self.fail(key, Reason::Protocol, out));
        }
        if is_end {
            self.end_receiving(key);
        }
        self.used(key, payload.len() - data.len(), out);
        Ok(Event::Data { key, data, is_end })
    }

    pub(super) fn end_receiving(&mut self, key: Key) {
        self.streams.of(key).is_receiving = false;
        self.close_if_over(key);
    }

    /// A stream error: the stream ends, the connection does not.
    pub(super) fn fail<'b>(&mut self, key: Key, reason: Reason, out: &mut Vec<u8>) -> Event<'b> {
        self.guard.reset();
        self.reset(key, reason, out);
        Event::Reset { key, reason: reason as u32 }
    }

    /// A frame on a stream that is closed. Those we ended get frames for as long as the peer does not know.
    pub(super) fn closed<'b>(&mut self, header: Header, out: &mut Vec<u8>) -> Result<Event<'b>, Broken> {
        if self.streams.is_recent(header.stream) || header.stream > self.limit {
            return Ok(Event::None);
        }
        if header.kind == Kind::Headers && self.is_server {
            return Err(Broken(Reason::StreamClosed, "HEADERS on a closed stream"));
        }
        self.guard.chore();
        self.streams.remember(header.stream);
        push(Kind::Reset, 0, header.stream, &Reason::StreamClosed.octets(), out);
        Ok(Event::None)
    }

    fn take_reset<'b>(&mut self, header: Header, payload: &[u8]) -> Result<Event<'b>, Broken> {
        if self.is_idle(header.stream) {
            return Err(Broken(Reason::Protocol, "RST_STREAM on a stream that was never opened"));
        }
        let Some(key) = self.streams.find(header.stream) else {
            self.guard.chore();
            return Ok(Event::None);
        };
        if self.is_server {
            self.guard.reset();
        }
        self.streams.close(key);
        Ok(Event::Reset { key, reason: number(payload) })
    }

    fn take_window_update<'b>(
        &mut self,
        header: Header,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Event<'b>, Broken> {
        const ZERO: Broken = Broken(Reason::Protocol, "WINDOW_UPDATE of nothing");
        const OVERFLOW: Broken = Broken(Reason::FlowControl, "a window larger than it can be");
        let by = i64::from(number(payload) & 0x7fff_ffff);
        debug_assert!(by <= WINDOW_MAX, "31 bits");
        if header.stream == 0 {
            if by == 0 {
                return Err(ZERO);
            }
            self.send.change(by).map_err(|_| OVERFLOW)?;
            return Ok(Event::Window(None));
        }
        if self.is_idle(header.stream) {
            return Err(Broken(Reason::Protocol, "WINDOW_UPDATE on a stream that was never opened"));
        }
        let Some(key) = self.streams.find(header.stream) else { return Ok(Event::None) };
        if by == 0 {
            return Ok(self.fail(key, Reason::Protocol, out));
        }
        match self.streams.of(key).send.change(by) {
            Ok(()) => Ok(Event::Window(Some(key))),
            Err(_) => Ok(self.fail(key, Reason::FlowControl, out)),
        }
    }

    fn take_settings<'b>(
        &mut self,
        header: Header,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Event<'b>, Broken> {
        if header.has(ACK) {
            self.guard.chore();
            return Ok(Event::None);
        }
        if core::mem::replace(&mut self.has_settings, true) {
            self.guard.chore();
        }
        let before = self.peer.window;
        self.peer.read(payload, self.is_server)?;
        if self.peer.table_max < TABLE_SIZE && self.update == Update::None {
            self.update = Update::Due;
        }
        push(Kind::Settings, ACK, 0, &[], out);
        let by = self.peer.window - before;
        self.streams
            .change_windows(by)
            .map_err(|_| Broken(Reason::FlowControl, "a window larger than it can be"))?;
        Ok(if by > 0 { Event::Window(None) } else { Event::None })
    }

    fn take_ping<'b>(&mut self, header: Header, payload: &[u8], out: &mut Vec<u8>) -> Event<'b> {
        self.guard.chore();
        if header.has(ACK) {
            return Event::Pong;
        }
        push(Kind::Ping, ACK, 0, payload, out);
        Event::None
    }

    /// §5.3.2: the old priorities are not heeded.
    fn take_priority<'b>(&mut self, header: Header, out: &mut Vec<u8>) -> Result<Event<'b>, Broken> {
        self.guard.chore();
        if header.length == 5 {
            return Ok(Event::None);
        }
        match self.streams.find(header.stream) {
            Some(key) => Ok(self.fail(key, Reason::FrameSize, out)),
            None => Err(Broken(Reason::FrameSize, "PRIORITY of another size")),
        }
    }
}

fn number(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(0, |octets| u32::from_be_bytes(*octets))
}
