//! SETTINGS (RFC 9113 §6.5).

use super::error::{Broken, Reason};
use super::flow::{WINDOW, WINDOW_MAX};
use super::frame::{self, Kind, PAYLOAD};
use super::hpack::TABLE_SIZE;

const HEADER_TABLE_SIZE: u16 = 0x1;
const ENABLE_PUSH: u16 = 0x2;
const MAX_CONCURRENT_STREAMS: u16 = 0x3;
const INITIAL_WINDOW_SIZE: u16 = 0x4;
const MAX_FRAME_SIZE: u16 = 0x5;
const MAX_HEADER_LIST_SIZE: u16 = 0x6;

/// What the peer said, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Octets of our header table, which stays empty: what matters is that the peer allowed fewer.
    pub(crate) table_max: usize,
    pub(crate) streams_max: u32,
    pub(crate) window: i64,
    pub(crate) frame_max: usize,
}

impl Default for Peer {
    fn default() -> Self {
        Self { table_max: TABLE_SIZE, streams_max: u32::MAX, window: WINDOW, frame_max: PAYLOAD }
    }
}

impl Peer {
    /// Takes over what a SETTINGS frame says. `may_push`: the peer is a client, and may allow or forbid push.
    pub(crate) fn read(&mut self, payload: &[u8], may_push: bool) -> Result<(), Broken> {
        for setting in payload.chunks_exact(6) {
            let id = u16::from_be_bytes([setting[0], setting[1]]);
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            match id {
                HEADER_TABLE_SIZE => self.table_max = self.table_max.min(value as usize),
                ENABLE_PUSH if value > u32::from(may_push) => {
                    return Err(Broken(Reason::Protocol, "SETTINGS_ENABLE_PUSH out of range"));
                }
                MAX_CONCURRENT_STREAMS => self.streams_max = value,
                INITIAL_WINDOW_SIZE if i64::from(value) > WINDOW_MAX => {
                    return Err(Broken(Reason::FlowControl, "SETTINGS_INITIAL_WINDOW_SIZE out of range"));
                }
                INITIAL_WINDOW_SIZE => self.window = i64::from(value),
                MAX_FRAME_SIZE if !(PAYLOAD..1 << 24).contains(&(value as usize)) => {
                    return Err(Broken(Reason::Protocol, "SETTINGS_MAX_FRAME_SIZE out of range"));
                }
                MAX_FRAME_SIZE => self.frame_max = value as usize,
                _ => {}
            }
        }
        Ok(())
    }
}

/// What we say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Own {
    /// Streams the peer may open; `None` where it may open none anyway, and push is to be forbidden.
    pub(crate) streams_max: Option<u32>,
    /// Window of each stream.
    pub(crate) window: u32,
    /// Octets of a header list.
    pub(crate) list_max: u32,
}

impl Own {
    pub(crate) fn push(self, out: &mut Vec<u8>) {
        let first = match self.streams_max {
            Some(most) => (MAX_CONCURRENT_STREAMS, most),
            None => (ENABLE_PUSH, 0),
        };
        let mut payload = [0; 18];
        let all = [first, (INITIAL_WINDOW_SIZE, self.window), (MAX_HEADER_LIST_SIZE, self.list_max)];
        for (place, (id, value)) in payload.chunks_exact_mut(6).zip(all) {
            place[..2].copy_from_slice(&id.to_be_bytes());
            place[2..].copy_from_slice(&value.to_be_bytes());
        }
        frame::push(Kind::Settings, 0, 0, &payload, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(id: u16, value: u32, may_push: bool) -> Result<Peer, Reason> {
        let mut payload = id.to_be_bytes().to_vec();
        payload.extend_from_slice(&value.to_be_bytes());
        let mut peer = Peer::default();
        peer.read(&payload, may_push).map(|()| peer).map_err(|broken| broken.0)
    }

    #[test]
    fn section_6_5_2_values_out_of_range_break_the_connection() {
        for (id, value, may_push, reason) in [
            (ENABLE_PUSH, 2, true, Reason::Protocol),
            (ENABLE_PUSH, 1, false, Reason::Protocol),
            (INITIAL_WINDOW_SIZE, 1 << 31, true, Reason::FlowControl),
            (MAX_FRAME_SIZE, 16_383, true, Reason::Protocol),
            (MAX_FRAME_SIZE, 1 << 24, true, Reason::Protocol),
        ] {
            assert_eq!(read(id, value, may_push), Err(reason), "{id} {value}");
        }
        assert_eq!(read(ENABLE_PUSH, 1, true), Ok(Peer::default()));
        assert_eq!(read(0x99, 7, false), Ok(Peer::default()), "unknown ones are ignored");
        assert_eq!(read(MAX_CONCURRENT_STREAMS, 3, false).unwrap().streams_max, 3);
    }

    #[test]
    fn what_we_say_reads_as_we_mean_it() {
        let mut out = Vec::new();
        Own { streams_max: Some(9), window: 1 << 17, list_max: 5 }.push(&mut out);
        let mut peer = Peer::default();
        peer.read(&out[frame::HEADER..], false).unwrap();
        assert_eq!((peer.streams_max, peer.window), (9, 1 << 17));
    }
}
