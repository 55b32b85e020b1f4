//! What heads of requests and responses have in common: where they end, which fields matter to a relay.

use core::mem::MaybeUninit;

/// Header fields one head may have at most, whatever the configuration says.
pub(crate) const HEADERS_MAX: usize = 256;

/// Uninitialised places for parsed fields: a head has few, and clearing 8 KiB per request shows.
pub(crate) type Slots<'b> = [MaybeUninit<httparse::Header<'b>>; HEADERS_MAX];

/// Empty [`Slots`].
#[inline]
pub(crate) const fn slots<'b>() -> Slots<'b> {
    [const { MaybeUninit::uninit() }; HEADERS_MAX]
}

/// Where a head ends, found as its octets arrive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HeadEnd {
    /// Octets that were looked at.
    seen: usize,
    /// Where the present line begins.
    line: usize,
    /// Lines that ended.
    lines: usize,
    /// Octets of the start line.
    start_line: usize,
}

/// A line that ends in LF without CR: two parsers may disagree on it, so nobody gets to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BareLf;

impl HeadEnd {
    /// Looks at the octets that are new in `bytes`, which begins where the head begins. The length of the
    /// head with its empty line, once that is there.
    #[inline]
    pub(crate) fn find(&mut self, bytes: &[u8]) -> Result<Option<usize>, BareLf> {
        for at in memchr::memchr_iter(b'\n', &bytes[self.seen..]) {
            let at = self.seen + at;
            if at == self.line || bytes[at - 1] != b'\r' {
                return Err(BareLf);
            }
            if at == self.line + 1 {
                return Ok(Some(at + 1));
            }
            if self.lines == 0 {
                self.start_line = at + 1;
            }
            self.line = at + 1;
            self.lines += 1;
        }
        self.seen = bytes.len();
        Ok(None)
    }

    /// Octets of the start line, as far as it has come.
    pub(crate) fn start_line(&self) -> usize {
        if self.lines == 0 { self.seen } else { self.start_line }
    }

    /// Complete lines so far, the start line included.
    pub(crate) fn lines(&self) -> usize {
        self.lines
    }
}

/// The fields a relay must not just pass on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    /// End to end: passed on as it is.
    Other,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Upgrade,
    Expect,
    Te,
    /// Keep-Alive, Proxy-Connection, Proxy-Authenticate, Proxy-Authorization, HTTP2-Settings: for one hop only.
    Hop,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    XForwardedPort,
    Forwarded,
    /// X-Real-IP and whatever else begins with X-Forwarded-: words about the client that only a proxy may say.
    OtherForwarding,
    UserAgent,
}

/// Which field a name is. Cheap for the many that are none: one look at the length.
#[inline]
pub(crate) fn classify(name: &str) -> Field {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    match name.len() {
        2 if is("te") => Field::Te,
        4 if is("host") => Field::Host,
        6 if is("expect") => Field::Expect,
        7 if is("upgrade") => Field::Upgrade,
        9 if is("forwarded") => Field::Forwarded,
        9 if is("x-real-ip") => Field::OtherForwarding,
        10 if is("connection") => Field::Connection,
        10 if is("keep-alive") => Field::Hop,
        10 if is("user-agent") => Field::UserAgent,
        14 if is("content-length") => Field::ContentLength,
        14 if is("http2-settings") => Field::Hop,
        15 if is("x-forwarded-for") => Field::XForwardedFor,
        16 if is("x-forwarded-host") => Field::XForwardedHost,
        16 if is("x-forwarded-port") => Field::XForwardedPort,
        16 if is("proxy-connection") => Field::Hop,
        17 if is("transfer-encoding") => Field::TransferEncoding,
        17 if is("x-forwarded-proto") => Field::XForwardedProto,
        18 if is("proxy-authenticate") => Field::Hop,
        19 if is("proxy-authorization") => Field::Hop,
        13.. if is_forwarding(name) => Field::OtherForwarding,
        _ => Field::Other,
    }
}

fn is_forwarding(name: &str) -> bool {
    const PREFIX: &[u8] = b"x-forwarded-";
    name.as_bytes().get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// The comma-separated members of a field, without the blanks around them and without empty ones.
pub(crate) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// A Content-Length as RFC 9112 §6.2 writes it: digits only, no sign, no list.
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// What `Connection` says, over all its fields.
#[derive(Debug, Default)]
pub(crate) struct ConnectionOptions<'b> {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    /// Other names: fields meant for this hop alone.
    pub(crate) named: smallvec::SmallVec<[&'b [u8]; 4]>,
}

/// Fields one Connection header may name; more is not a message anyone means.
const NAMED_MAX: usize = 32;

impl<'b> ConnectionOptions<'b> {
    /// Reads one `Connection` field. False if it names more fields than allowed.
    pub(crate) fn read(&mut self, value: &'b [u8]) -> bool {
        for member in members(value) {
            if member.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if member.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if member.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else if self.named.len() < NAMED_MAX {
                self.named.push(member);
            } else {
                return false;
            }
        }
        true
    }

    /// True if a field is for this hop because Connection names it.
    #[inline]
    pub(crate) fn names(&self, field: &str) -> bool {
        self.named.iter().any(|name| name.eq_ignore_ascii_case(field.as_bytes()))
    }
}

/// Copies lines of a head into another one: runs of lines that stay are copied at once.
#[derive(Debug)]
pub(crate) struct LineCopier<'b> {
    head: &'b [u8],
    /// Where the run that was not copied yet begins.
    run: usize,
}

impl<'b> LineCopier<'b> {
    /// `fields` is the offset of the first field line in `head`.
    pub(crate) fn new(head: &'b [u8], fields: usize) -> Self {
        Self { head, run: fields }
    }

    /// Leaves out the line of `header`, which is a field of this head; to be called in their order.
    pub(crate) fn skip(&mut self, header: &httparse::Header<'b>, out: &mut Vec<u8>) {
        let (start, end) = self.line_of(header);
        out.extend_from_slice(&self.head[self.run..start]);
        self.run = end;
    }

    /// Copies what is left, without the empty line.
    pub(crate) fn finish(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head[self.run..self.head.len() - 2]);
    }

    /// A field's line with its CRLF. Fields begin their lines, and every line ends in CRLF: both were judged.
    fn line_of(&self, header: &httparse::Header<'b>) -> (usize, usize) {
        let start = header.name.as_ptr() as usize - self.head.as_ptr() as usize;
        let from_name = &self.head[start..];
        let length = memchr::memchr(b'\n', from_name).map_or(from_name.len(), |at| at + 1);
        (start, start + length)
    }
}

/// Where the field lines of a head begin: behind the start line.
pub(crate) fn fields_offset(head: &[u8]) -> usize {
    memchr::memchr(b'\n', head).map_or(head.len(), |at| at + 1)
}

/// Writes a decimal number.
pub(crate) fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_whatever_the_pieces() {
        let bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
        for piece in 1..bytes.len() {
            let (mut end, mut upto) = (HeadEnd::default(), 0);
            let found = loop {
                upto = (upto + piece).min(bytes.len());
                if let Some(length) = end.find(&bytes[..upto]).unwrap() {
                    break length;
                }
            };
            assert_eq!(found, bytes.len() - 4);
        }
    }

    #[test]
    fn rfc9112_2_2_a_bare_lf_is_no_line_end() {
        for bytes in ["GET / HTTP/1.1\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\n\nX", "\n", "a\r\n\n"] {
            assert_eq!(HeadEnd::default().find(bytes.as_bytes()), Err(BareLf), "{bytes:?}");
        }
    }

    #[test]
    fn rfc9112_6_2_a_content_length_is_digits() {
        assert_eq!(content_length(b"0"), Some(0));
        assert_eq!(content_length(b"9999999999999999999"), Some(9_999_999_999_999_999_999));
        for bad in ["", "+5", "-5", "5, 5", "5 5", "0x5", "5\t", "99999999999999999999", "1e3", "٥"] {
            assert_eq!(content_length(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn lines_are_left_out_wherever_they_stand() {
        let mut slots = slots();
        let mut parsed = httparse::Response::new(&mut []);
        let head_ok = b"HTTP/1.1 200 OK\r\nA: 1\r\nB:2 \r\nC:  3\r\n\r\n";
        let config = httparse::ParserConfig::default();
        config.parse_response_with_uninit_headers(&mut parsed, head_ok, &mut slots).unwrap();
        for (left_out, rest) in
            [("A", "B:2 \r\nC:  3\r\n"), ("B", "A: 1\r\nC:  3\r\n"), ("C", "A: 1\r\nB:2 \r\n")]
        {
            let mut out = Vec::new();
            let mut copier = LineCopier::new(head_ok, fields_offset(head_ok));
            for header in parsed.headers.iter().filter(|header| header.name == left_out) {
                copier.skip(header, &mut out);
            }
            copier.finish(&mut out);
            assert_eq!(out, rest.as_bytes());
        }
    }
}
