//! The chunked coding (RFC 9112 §7.1), judged strictly and not decoded unless the receiver needs it.
//!
//! A relay passes chunks on as they are, so what it must know is where the message ends; and it must not pass
//! on anything two parsers could read in two ways. Refused: line ends that are not CRLF, sizes that are empty,
//! signed, padded with blanks or longer than sixteen digits, control characters in extensions, trailer fields
//! that would change the framing or the route.

/// Octets of one chunk-size line with its extensions.
const SIZE_LINE_MAX: u32 = 1024;
/// Octets of all trailer fields.
pub(crate) const TRAILERS_MAX: u32 = 16 * 1024;

/// Where in a chunked body the next octet belongs. Holds no octets itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChunkScanner {
    state: State,
    /// Octets left of the chunk, or its size while its line is read.
    size: u64,
    /// Octets of the present line, or of the trailers.
    line: u32,
    /// Octets of content so far.
    content: u64,
    /// The name of the present trailer field, as far as it matters.
    name: TrailerName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the first digit of a size.
    Size,
    /// Behind a digit.
    SizeDigits,
    /// In an extension.
    Extension,
    /// Behind the CR of a size line.
    SizeLf,
    Data,
    /// Behind the last octet of a chunk.
    DataCr,
    DataLf,
    /// At the first octet of a trailer line.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    /// Behind the CR of the empty line.
    EndLf,
    Done,
}

/// The first octets of a trailer's name: enough to know the forbidden ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct TrailerName {
    bytes: [u8; 20],
    length: u8,
}

/// What was wrong with a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChunkError {
    /// The size is not hexadecimal, or does not fit in 64 bits.
    #[error("malformed chunk size")]
    Size,
    /// A control character in an extension.
    #[error("malformed chunk extension")]
    Extension,
    /// A line or a chunk does not end in CRLF.
    #[error("chunk does not end in CRLF")]
    LineEnd,
    /// The size line or the trailers are longer than allowed.
    #[error("chunk extensions or trailers are too long")]
    TooLong,
    /// A trailer field that is no field, or one that may not be a trailer.
    #[error("malformed or forbidden trailer field")]
    Trailer,
}

/// A run of octets of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// How many.
    pub(crate) length: usize,
    /// They are content, not framing.
    pub(crate) is_data: bool,
    /// They are trailer fields, or the empty line behind them.
    pub(crate) is_trailer: bool,
}

impl ChunkScanner {
    pub(crate) const fn new() -> Self {
        Self {
            state: State::Size,
            size: 0,
            line: 0,
            content: 0,
            name: TrailerName { bytes: [0; 20], length: 0 },
        }
    }

    /// The last octet of the body has been seen.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// The next octet is content.
    pub(crate) fn is_in_data(&self) -> bool {
        matches!(self.state, State::Data)
    }

    /// Octets of content so far, without framing.
    pub(crate) fn content(&self) -> u64 {
        self.content
    }

    /// How many of `bytes` belong to the body.
    ///
    /// # Errors
    /// The body is malformed; nothing of `bytes` may be used.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Result<usize, ChunkError> {
        let mut length = 0;
        while length < bytes.len() && !self.is_done() {
            length += self.next_run(&bytes[length..])?.length;
        }
        Ok(length)
    }

    /// Takes the next octets of one kind off the front of `bytes`, which must not be empty.
    pub(crate) fn next_run(&mut self, bytes: &[u8]) -> Result<Run, ChunkError> {
        if self.state == State::Data {
            let length = bytes.len().min(usize::try_from(self.size).unwrap_or(usize::MAX));
            self.size -= length as u64;
            self.content += length as u64;
            if self.size == 0 {
                self.state = State::DataCr;
            }
            return Ok(Run { length, is_data: true, is_trailer: false });
        }
        let is_trailer = self.is_in_trailers();
        let mut length = 0;
        for &byte in bytes {
            if matches!(self.state, State::Data | State::Done) || self.is_in_trailers() != is_trailer {
                break;
            }
            self.step(byte)?;
            length += 1;
        }
        Ok(Run { length, is_data: false, is_trailer })
    }

    const fn is_in_trailers(&self) -> bool {
        matches!(
            self.state,
            State::Trailer | State::TrailerName | State::TrailerValue | State::TrailerLf | State::EndLf
        )
    }

    fn step(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.state = match (self.state, byte) {
            (State::Size | State::SizeDigits, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.push_digit(byte)?;
                State::SizeDigits
            }
            (State::SizeDigits, b';') => self.count(SIZE_LINE_MAX, State::Extension)?,
            (State::SizeDigits | State::Extension, b'\r') => State::SizeLf,
            (State::Size | State::SizeDigits, _) => return Err(ChunkError::Size),
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => {
                self.count(SIZE_LINE_MAX, State::Extension)?
            }
            (State::Extension, _) => return Err(ChunkError::Extension),
            (State::SizeLf, b'\n') => self.end_size_line(),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::Trailer, b'\r') => State::EndLf,
            (State::EndLf, b'\n') => State::Done,
            (State::TrailerLf, b'\n') => State::Trailer,
            (State::Trailer | State::TrailerName | State::TrailerValue, _) => self.step_trailer(byte)?,
            (State::SizeLf | State::DataCr | State::DataLf | State::TrailerLf | State::EndLf, _) => {
                return Err(ChunkError::LineEnd);
            }
            (State::Data | State::Done, _) => unreachable!("octets of these states are not stepped over"),
        };
        Ok(())
    }

    fn push_digit(&mut self, byte: u8) -> Result<(), ChunkError> {
        // Sixteen digits fit in 64 bits; more are refused even if they are zeros.
        self.line += 1;
        if self.line > 16 {
            return Err(ChunkError::Size);
        }
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            _ => (byte | 0x20) - b'a' + 10,
        };
        self.size = self.size << 4 | u64::from(digit);
        Ok(())
    }

    fn count(&mut self, most: u32, next: State) -> Result<State, ChunkError> {
        self.line += 1;
        if self.line > most { Err(ChunkError::TooLong) } else { Ok(next) }
    }

    fn end_size_line(&mut self) -> State {
        self.line = 0;
        if self.size == 0 { State::Trailer } else { State::Data }
    }

    fn step_trailer(&mut self, byte: u8) -> Result<State, ChunkError> {
        self.count(TRAILERS_MAX, State::Trailer)?;
        match (self.state, byte) {
            (State::TrailerName, b':') => {
                if self.name.is_forbidden() {
                    return Err(ChunkError::Trailer);
                }
                Ok(State::TrailerValue)
            }
            (State::Trailer, _) if is_token(byte) => {
                self.name = TrailerName::default();
                self.name.push(byte);
                Ok(State::TrailerName)
            }
            (State::TrailerName, _) if is_token(byte) => {
                self.name.push(byte);
                Ok(State::TrailerName)
            }
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => Ok(State::TrailerValue),
            _ => Err(ChunkError::Trailer),
        }
    }
}

impl TrailerName {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(usize::from(self.length)) {
            *place = byte.to_ascii_lowercase();
        }
        self.length = self.length.saturating_add(1);
    }

    /// Fields that say where a message ends or goes must not come behind it (RFC 9110 §6.5.1), nor those of one connection,
    /// which HTTP/2 has no place for (RFC 9113 §8.2.2).
    fn is_forbidden(&self) -> bool {
        let name = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        // Nor may what a proxy says about the client: there it would be the client's own word.
        let is_forwarding =
            matches!(name, b"forwarded" | b"x-real-ip") || self.bytes.starts_with(b"x-forwarded-");
        is_forwarding
            || matches!(
                name,
                b"content-length"
                    | b"transfer-encoding"
                    | b"host"
                    | b"connection"
                    | b"keep-alive"
                    | b"proxy-connection"
                    | b"trailer"
                    | b"upgrade"
                    | b"te"
                    | b"content-encoding"
                    | b"content-type"
                    | b"content-range"
                    | b"authorization"
            )
    }
}

/// Keeps trailer fields as they come. The empty line behind none is nothing to keep: it would cost an allocation.
pub(crate) fn keep_trailers(octets: &[u8], kept: &mut Vec<u8>) {
    let is_none = kept.is_empty() && matches!(octets, [b'\r' | b'\n', ..]);
    if !is_none {
        kept.extend_from_slice(octets);
    }
}

/// Writes a chunk's size and the end of its line.
pub(crate) fn push_size(size: usize, out: &mut Vec<u8>) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4);
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(size >> (4 * digit)) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}

/// True for the name, in lower case, of a field that may not be a trailer.
pub(crate) fn is_forbidden_trailer(name: &[u8]) -> bool {
    let mut known = TrailerName::default();
    name.iter().for_each(|octet| known.push(*octet));
    known.is_forbidden()
}

/// A `tchar` of RFC 9110 §5.6.2.
pub(crate) const fn is_token(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|'
        | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan_all(bytes: &[u8]) -> Result<(usize, bool), ChunkError> {
        let mut scanner = ChunkScanner::new();
        let length = scanner.scan(bytes)?;
        Ok((length, scanner.is_done()))
    }

    #[test]
    fn rfc9112_7_1_finds_the_end() {
        for (body, rest) in [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "GET / HTTP/1.1\r\n"),
            ("000A\r\n0123456789\r\n0\r\n\r\n", "x"),
            ("5;a=b;c=\"d e\"\r\nhello\r\n0;last\r\n\r\n", "x"),
            ("0\r\nX-Sum: 1\r\nServer-Timing: \ta;dur=1\r\n\r\n", "x"),
        ] {
            let whole = format!("{body}{rest}");
            assert_eq!(scan_all(whole.as_bytes()), Ok((body.len(), true)), "{whole:?}");
        }
    }

    #[test]
    fn rfc9112_7_1_and_11_2_refuse_what_two_parsers_could_read_in_two_ways() {
        for (body, error) in [
            ("\r\n", ChunkError::Size),
            ("-1\r\n", ChunkError::Size),
            ("+5\r\nhello\r\n", ChunkError::Size),
            ("0x5\r\nhello\r\n", ChunkError::Size),
            (" 5\r\nhello\r\n", ChunkError::Size),
            ("5 \r\nhello\r\n", ChunkError::Size),
            ("5\nhello\r\n", ChunkError::Size),
            ("g\r\n", ChunkError::Size),
            ("10000000000000000\r\n", ChunkError::Size),
            ("00000000000000005\r\nhello\r\n", ChunkError::Size),
            ("5;a\nb\r\nhello\r\n", ChunkError::Extension),
            ("5;a\0\r\nhello\r\n", ChunkError::Extension),
            ("5;a\rb\r\nhello\r\n", ChunkError::LineEnd),
            ("5\rXhello\r\n", ChunkError::LineEnd),
            ("5\r\nhelloXX", ChunkError::LineEnd),
            ("5\r\nhello\n0\r\n\r\n", ChunkError::LineEnd),
            ("5\r\nhello\r0", ChunkError::LineEnd),
            ("0\r\nContent-Length: 5\r\n\r\n", ChunkError::Trailer),
            ("0\r\ntransfer-encoding: chunked\r\n\r\n", ChunkError::Trailer),
            ("0\r\nHost: evil\r\n\r\n", ChunkError::Trailer),
            ("0\r\nKeep-Alive: 5\r\n\r\n", ChunkError::Trailer),
            ("0\r\nProxy-Connection: close\r\n\r\n", ChunkError::Trailer),
            ("0\r\nForwarded: for=x\r\n\r\n", ChunkError::Trailer),
            ("0\r\nX-Real-IP: x\r\n\r\n", ChunkError::Trailer),
            ("0\r\nX-Forwarded-For: x\r\n\r\n", ChunkError::Trailer),
            ("0\r\nX-Forwarded-Client-Certificate: x\r\n\r\n", ChunkError::Trailer),
            ("0\r\n folded: x\r\n\r\n", ChunkError::Trailer),
            ("0\r\nname : x\r\n\r\n", ChunkError::Trailer),
            ("0\r\nname\r\n\r\n", ChunkError::Trailer),
            ("0\r\nname: a\nb\r\n\r\n", ChunkError::Trailer),
            ("0\r\n\n", ChunkError::Trailer),
            ("0\r\n\rX", ChunkError::LineEnd),
        ] {
            assert_eq!(scan_all(body.as_bytes()), Err(error), "{body:?}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let long = format!("1;{}\r\n", "e".repeat(2000));
        assert_eq!(scan_all(long.as_bytes()), Err(ChunkError::TooLong));
        let long = format!("0\r\nname: {}\r\n\r\n", "v".repeat(20_000));
        assert_eq!(scan_all(long.as_bytes()), Err(ChunkError::TooLong));
    }

    proptest! {
        /// Any way of cutting a body into chunks and the wire into reads gives the content back, and the same end.
        #[test]
        fn any_split_gives_the_same_content_and_end(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            cuts in prop::collection::vec(1_usize..9, 1..200),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x};x=1\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\nt: 1\r\n\r\n");
            let end = wire.len();
            wire.extend_from_slice(b"NEXT");
            let mut scanner = ChunkScanner::new();
            let (mut at, mut content) = (0, Vec::new());
            for cut in cuts.iter().cycle() {
                let piece = &wire[at..(at + cut).min(wire.len())];
                if scanner.is_done() || piece.is_empty() { break }
                let run = scanner.next_run(piece).unwrap();
                if run.is_data { content.extend_from_slice(&piece[..run.length]); }
                at += run.length;
            }
            prop_assert!(scanner.is_done());
            prop_assert_eq!(at, end);
            prop_assert_eq!(content, chunks.concat());
        }

        /// No input makes the scanner claim more than it was given, or go on behind the end.
        #[test]
        fn arbitrary_octets_never_run_over(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut scanner = ChunkScanner::new();
            if let Ok(length) = scanner.scan(&bytes) {
                prop_assert!(length <= bytes.len());
                prop_assert!(length == bytes.len() || scanner.is_done());
            }
        }
    }
}
