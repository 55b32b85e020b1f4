//! What header blocks mean (RFC 9113 §6.2, §6.10 and §8.1): requests, responses, trailers.

use super::error::{Broken, Reason};
use super::frame::{END_HEADERS, END_STREAM, Header, Kind, PAYLOAD, push};
use super::hpack::BlockError;
use super::message;
use super::receive::{Block, Event};
use super::session::Session;
use super::streams::{Key, Stream};

/// Frames that one header block may be cut into: more is a flood (CVE-2024-27316), and so is a longer block.
const CONTINUATIONS_MAX: usize = 32;

impl Session {
    pub(super) fn take_headers<'b>(
        &mut self,
        header: Header,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Event<'b>, Broken> {
        let block = header.content(payload)?;
        if header.has(END_HEADERS) {
            return self.take_block(header, block, out);
        }
        self.block.clear();
        self.block.extend_from_slice(block);
        self.block_of = Some(header);
        self.continuations = 0;
        Ok(Event::None)
    }

    pub(super) fn take_continuation<'b>(
        &mut self,
        header: Header,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Event<'b>, Broken> {
        self.continuations += 1;
        let most = self.bounds.list_max + PAYLOAD;
        if self.continuations > CONTINUATIONS_MAX || self.block.len() + payload.len() > most {
            return Err(Broken(Reason::EnhanceYourCalm, "a header block without end"));
        }
        self.block.extend_from_slice(payload);
        let Some(first) = self.block_of.filter(|_| header.has(END_HEADERS)) else { return Ok(Event::None) };
        self.block_of = None;
        let block = core::mem::take(&mut self.block);
        let event = self.take_block(first, &block, out);
        self.block = block;
        event
    }

    /// A whole header block. It is decoded whatever comes of it: the table must stay the peer's.
    fn take_block<'b>(
        &mut self,
        header: Header,
        block: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Event<'b>, Broken> {
        self.fields.clear();
        self.decoder.decode(block, &mut self.fields).map_err(|error| match error {
            BlockError::Malformed => Broken(Reason::Compression, "malformed header block"),
            BlockError::Bomb => Broken(Reason::EnhanceYourCalm, "header list far beyond the limit"),
        })?;
        let is_end = header.has(END_STREAM);
        match self.streams.find(header.stream) {
            Some(key) if !self.streams.get(key).is_receiving => Ok(self.fail(key, Reason::StreamClosed, out)),
            Some(key) if self.streams.get(key).has_head => Ok(self.take_trailers(key, is_end, out)),
            Some(key) => Ok(self.take_response(key, is_end, out)),
            None if !self.is_idle(header.stream) => self.closed(header, out),
            None if self.is_server && header.stream % 2 == 1 => {
                Ok(self.take_request(header.stream, is_end, out))
            }
            None => Err(Broken(Reason::Protocol, "HEADERS on a stream that is not the peer's to open")),
        }
    }

    fn take_trailers<'b>(&mut self, key: Key, is_end: bool, out: &mut Vec<u8>) -> Event<'b> {
        let is_good = is_end
            && !self.fields.is_too_large()
            && message::trailers(&self.fields).is_ok()
            && fits(self.streams.of(key), 0, true);
        if !is_good {
            return self.fail(key, Reason::Protocol, out);
        }
        self.end_receiving(key);
        Event::Headers { key, block: Block::Trailers, is_end }
    }

    fn take_request<'b>(&mut self, id: u32, is_end: bool, out: &mut Vec<u8>) -> Event<'b> {
        self.last = id;
        if id > self.limit {
            // §6.8: the peer knows that it is not carried out.
            return Event::None;
        }
        if self.streams.open() >= self.bounds.streams_max as usize {
            self.turn_away(id, Reason::Refused, out);
            return Event::Refused;
        }
        let mut stream = self.stream(id);
        stream.has_head = true;
        // One that is too large is not all here; whoever carries it out refuses it.
        if !self.fields.is_too_large() {
            match message::request(&self.fields) {
                Ok(facts) => stream.promised = facts.length,
                Err(message::Malformed) => {
                    self.turn_away(id, Reason::Protocol, out);
                    return Event::Malformed;
                }
            }
        }
        if is_end && !fits(&mut stream, 0, true) {
            self.turn_away(id, Reason::Protocol, out);
            return Event::Malformed;
        }
        stream.is_receiving = !is_end;
        let key = self.streams.insert(stream);
        Event::Headers { key, block: Block::Head, is_end }
    }

    /// Ends a stream that was not taken on.
    fn turn_away(&mut self, id: u32, reason: Reason, out: &mut Vec<u8>) {
        self.guard.reset();
        self.streams.remember(id);
        push(Kind::Reset, 0, id, &reason.octets(), out);
    }

    fn take_response<'b>(&mut self, key: Key, is_end: bool, out: &mut Vec<u8>) -> Event<'b> {
        let Ok(facts) = message::response(&self.fields) else {
            return self.fail(key, Reason::Protocol, out);
        };
        let is_interim = facts.status < 200;
        if self.fields.is_too_large() || facts.status == 101 || (is_interim && is_end) {
            return self.fail(key, Reason::Protocol, out);
        }
        if is_interim {
            self.guard.chore();
            return Event::Headers { key, block: Block::Interim(facts.status), is_end };
        }
        let stream = self.streams.of(key);
        stream.has_head = true;
        stream.is_bodiless |= matches!(facts.status, 204 | 304);
        stream.promised = if stream.is_bodiless { Some(0) } else { facts.length };
        if is_end && !fits(stream, 0, true) {
            return self.fail(key, Reason::Protocol, out);
        }
        if is_end {
            self.end_receiving(key);
        }
        Event::Headers { key, block: Block::Head, is_end }
    }
}

/// §8.1.1: content is as long as Content-Length says.
pub(super) fn fits(stream: &mut Stream, length: u64, is_end: bool) -> bool {
    if stream.is_bodiless && length > 0 {
        return false;
    }
    let Some(promised) = &mut stream.promised else { return true };
    let Some(rest) = promised.checked_sub(length) else { return false };
    *promised = rest;
    !is_end || rest == 0 || stream.is_bodiless
}
