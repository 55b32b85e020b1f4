//! Frames (RFC 9113 §4 and §6): their headers, and what holds for each kind by itself.

use super::error::{Broken, Reason};

/// Octets of a frame's header.
pub(crate) const HEADER: usize = 9;
/// Octets of payload that every peer takes (§4.2).
pub(crate) const PAYLOAD: usize = 16 * 1024;

/// DATA and HEADERS: the last frame of the stream.
pub(crate) const END_STREAM: u8 = 0x1;
/// SETTINGS and PING: an answer.
pub(crate) const ACK: u8 = 0x1;
/// The header block is complete.
pub(crate) const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// §5.5: to be ignored.
    Unknown(u8),
}

impl Kind {
    const fn of(number: u8) -> Self {
        match number {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::Reset,
            4 => Self::Settings,
            5 => Self::PushPromise,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            other => Self::Unknown(other),
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Headers => 1,
            Self::Priority => 2,
            Self::Reset => 3,
            Self::Settings => 4,
            Self::PushPromise => 5,
            Self::Ping => 6,
            Self::GoAway => 7,
            Self::WindowUpdate => 8,
            Self::Continuation => 9,
            Self::Unknown(other) => other,
        }
    }
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) length: usize,
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Header {
    pub(crate) fn parse(octets: [u8; HEADER]) -> Self {
        let [a, b, c, kind, flags, d, e, f, g] = octets;
        Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind: Kind::of(kind),
            flags,
            // §4.1: the highest bit means nothing.
            stream: u32::from_be_bytes([d & 0x7f, e, f, g]),
        }
    }

    pub(crate) fn compose(self) -> [u8; HEADER] {
        debug_assert!(self.length < 1 << 24, "frames are cut to what the peer takes");
        let [_, a, b, c] = (self.length as u32).to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind.number(), self.flags, d, e, f, g]
    }

    pub(crate) const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The rules for size and stream of each kind (§6.1 to §6.10). Those of PRIORITY and WINDOW_UPDATE that cost a
    /// stream only are checked where streams are known.
    pub(crate) fn check(self) -> Result<(), Broken> {
        let size = |ok: bool| {
            if ok {
                Ok(())
            } else {
                Err(Broken(Reason::FrameSize, "frame of a size that its kind can't have"))
            }
        };
        let on_stream = match self.kind {
            Kind::Data | Kind::Headers | Kind::Priority | Kind::Reset | Kind::Continuation => Some(true),
            Kind::PushPromise => Some(true),
            Kind::Settings | Kind::Ping | Kind::GoAway => Some(false),
            Kind::WindowUpdate | Kind::Unknown(_) => None,
        };
        if on_stream.is_some_and(|on_stream| on_stream != (self.stream != 0)) {
            return Err(Broken(Reason::Protocol, "frame on a stream where it can't be"));
        }
        match self.kind {
            Kind::Reset | Kind::WindowUpdate => size(self.length == 4),
            Kind::Settings if self.has(ACK) => size(self.length == 0),
            Kind::Settings => size(self.length.is_multiple_of(6)),
            Kind::Ping => size(self.length == 8),
            Kind::GoAway => size(self.length >= 8),
            _ => Ok(()),
        }
    }

    /// What DATA or HEADERS carry, without padding and priority.
    pub(crate) fn content(self, payload: &[u8]) -> Result<&[u8], Broken> {
        const SHORT: Broken = Broken(Reason::FrameSize, "frame too short for its flags");
        let mut content = payload;
        let mut padding = 0;
        if self.has(PADDED) {
            let (length, rest) = content.split_first().ok_or(SHORT)?;
            (padding, content) = (usize::from(*length), rest);
        }
        if self.kind == Kind::Headers && self.has(PRIORITY) {
            content = content.get(5..).ok_or(SHORT)?;
        }
        let length = content.len().checked_sub(padding);
        let length = length.ok_or(Broken(Reason::Protocol, "padding longer than its frame"))?;
        Ok(&content[..length])
    }
}

/// Appends a frame.
pub(crate) fn push(kind: Kind, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&Header { length: payload.len(), kind, flags, stream }.compose());
    out.extend_from_slice(payload);
}

/// Takes the frames of a stream back, from `start` on, where a frame begins: octets of content in them. `moved` is told
/// which frames stand elsewhere now, and where they stood.
pub(crate) fn take_back(
    stream: u32,
    start: usize,
    out: &mut Vec<u8>,
    mut moved: impl FnMut(Header, usize, usize),
) -> usize {
    let (mut at, mut end, mut content) = (start, start, 0);
    while let Some(header) = out[at..].first_chunk::<HEADER>().map(|octets| Header::parse(*octets)) {
        let length = HEADER + header.length;
        if header.stream != stream {
            if at != end {
                out.copy_within(at..at + length, end);
                moved(header, at, end);
            }
            end += length;
        } else if header.kind == Kind::Data {
            content += header.length;
        }
        at += length;
    }
    out.truncate(end);
    content
}

/// Begins a header block at the end of `out`; the fields follow, then [`end_block`].
pub(crate) fn begin_block(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    start
}

/// Makes what follows `start` the HEADERS of a stream, with CONTINUATION where they are longer than `most`.
pub(crate) fn end_block(start: usize, stream: u32, is_end: bool, most: usize, out: &mut Vec<u8>) {
    let length = out.len() - start - HEADER;
    let end_stream = if is_end { END_STREAM } else { 0 };
    let end_headers = if length <= most { END_HEADERS } else { 0 };
    let first =
        Header { length: length.min(most), kind: Kind::Headers, flags: end_stream | end_headers, stream };
    out[start..start + HEADER].copy_from_slice(&first.compose());
    if length <= most {
        return;
    }
    let rest = out.split_off(start + HEADER + most);
    let mut pieces = rest.chunks(most).peekable();
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        push(Kind::Continuation, flags, stream, piece, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(kind: Kind, flags: u8, stream: u32, length: usize) -> Header {
        Header { length, kind, flags, stream }
    }

    #[test]
    fn section_6_sizes_and_streams_of_each_kind() {
        use Reason::{FrameSize, Protocol};
        for (frame, reason) in [
            (header(Kind::Data, 0, 0, 1), Protocol),
            (header(Kind::Headers, 0, 0, 1), Protocol),
            (header(Kind::Priority, 0, 0, 5), Protocol),
            (header(Kind::Reset, 0, 0, 4), Protocol),
            (header(Kind::Reset, 0, 1, 5), FrameSize),
            (header(Kind::Settings, 0, 1, 6), Protocol),
            (header(Kind::Settings, 0, 0, 5), FrameSize),
            (header(Kind::Settings, ACK, 0, 6), FrameSize),
            (header(Kind::Ping, 0, 1, 8), Protocol),
            (header(Kind::Ping, 0, 0, 7), FrameSize),
            (header(Kind::GoAway, 0, 1, 8), Protocol),
            (header(Kind::GoAway, 0, 0, 7), FrameSize),
            (header(Kind::WindowUpdate, 0, 1, 3), FrameSize),
            (header(Kind::Continuation, 0, 0, 1), Protocol),
        ] {
            assert_eq!(frame.check().map_err(|broken| broken.0), Err(reason), "{frame:?}");
        }
        for frame in [header(Kind::WindowUpdate, 0, 0, 4), header(Kind::Unknown(99), 0, 7, 3)] {
            assert_eq!(frame.check(), Ok(()), "{frame:?}");
        }
    }

    #[test]
    fn section_6_1_and_6_2_padding_and_priority_are_taken_off() {
        let data = header(Kind::Data, PADDED, 1, 6);
        assert_eq!(data.content(b"\x02abc\0\0").unwrap(), b"abc");
        assert_eq!(data.content(b"\x05abc\0\0").unwrap(), b"");
        assert_eq!(data.content(b"\x06abc\0\0").unwrap_err().0, Reason::Protocol);
        assert_eq!(data.content(b"").unwrap_err().0, Reason::FrameSize);
        let headers = header(Kind::Headers, PADDED | PRIORITY, 1, 0);
        assert_eq!(headers.content(b"\x01\0\0\0\0\x10abc\0").unwrap(), b"abc");
        assert_eq!(headers.content(b"\x01\0\0\0").unwrap_err().0, Reason::FrameSize);
    }

    #[test]
    fn section_6_10_a_long_block_is_continued() {
        let mut out = b"before".to_vec();
        let start = begin_block(&mut out);
        out.extend_from_slice(&[7; 25]);
        end_block(start, 5, true, 10, &mut out);
        let mut rest = &out[6..];
        let mut seen = Vec::new();
        while let Some((head, behind)) = rest.split_first_chunk::<HEADER>() {
            let head = Header::parse(*head);
            seen.push((head.kind, head.flags, head.length, head.stream));
            rest = &behind[head.length..];
        }
        assert_eq!(
            seen,
            [
                (Kind::Headers, END_STREAM, 10, 5),
                (Kind::Continuation, 0, 10, 5),
                (Kind::Continuation, END_HEADERS, 5, 5)
            ]
        );
    }

    proptest! {
        #[test]
        fn parse_undoes_compose(octets in any::<[u8; HEADER]>()) {
            let mut octets = octets;
            octets[5] &= 0x7f;
            prop_assert_eq!(Header::parse(octets).compose(), octets);
        }
    }
}
