//! What makes a header list a message (RFC 9113 §8.1 to §8.3).

use super::hpack::Fields;

/// The message is none: a stream error (§8.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// What a session must know of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Content-Length.
    pub(super) length: Option<u64>,
    /// Of a response.
    pub(super) status: u16,
}

/// Fields of a connection: no message of HTTP/2 has them (§8.2.2). Names in lower case.
fn is_connection_field(name: &[u8]) -> bool {
    matches!(name, b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade")
}

/// §8.3.1.
pub(super) fn request(fields: &Fields) -> Result<Facts, Malformed> {
    let (mut method, mut scheme, mut path, mut authority) = (None, None, None, None);
    let mut message = Message::default();
    for (name, value) in fields.iter() {
        if !name.starts_with(b":") {
            message.take(name, value)?;
            if name == b"host"
                && let Some(authority) = authority
                && !value.eq_ignore_ascii_case(authority)
            {
                return Err(Malformed);
            }
            continue;
        }
        let place = match name {
            b":method" => &mut method,
            b":scheme" => &mut scheme,
            b":path" => &mut path,
            b":authority" => &mut authority,
            _ => return Err(Malformed),
        };
        message.pseudo(value)?;
        if place.replace(value).is_some() {
            return Err(Malformed);
        }
    }
    let method = method.filter(|method| is_token(method)).ok_or(Malformed)?;
    let is_good = if method == b"CONNECT" {
        authority.is_some() && scheme.is_none() && path.is_none()
    } else {
        scheme.is_some_and(is_scheme) && path.is_some_and(|path| is_path(path, method))
    };
    if is_good { Ok(message.facts) } else { Err(Malformed) }
}

/// §8.3.2.
pub(super) fn response(fields: &Fields) -> Result<Facts, Malformed> {
    let mut message = Message::default();
    for (name, value) in fields.iter() {
        if !name.starts_with(b":") {
            message.take(name, value)?;
            continue;
        }
        message.pseudo(value)?;
        match (name, value) {
            (b":status", [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'])
                if message.facts.status == 0 =>
            {
                message.facts.status =
                    [a, b, c].iter().fold(0, |sum, digit| sum * 10 + u16::from(**digit - b'0'));
            }
            _ => return Err(Malformed),
        }
    }
    if message.facts.status == 0 { Err(Malformed) } else { Ok(message.facts) }
}

/// §8.1: trailers have no pseudo-header fields.
pub(super) fn trailers(fields: &Fields) -> Result<(), Malformed> {
    let mut message = Message { is_behind: true, ..Message::default() };
    fields.iter().try_for_each(|(name, value)| {
        if name.starts_with(b":") { Err(Malformed) } else { message.take(name, value) }
    })
}

/// A list in the making.
#[derive(Default)]
struct Message {
    facts: Facts,
    /// The first field that is no pseudo-header field has been seen.
    is_behind: bool,
}

impl Message {
    /// §8.3: in front of all others.
    fn pseudo(&self, value: &[u8]) -> Result<(), Malformed> {
        if self.is_behind || !is_value(value) { Err(Malformed) } else { Ok(()) }
    }

    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        self.is_behind = true;
        let is_wrong = !is_name(name)
            || !is_value(value)
            || is_connection_field(name)
            || (name == b"te" && !value.eq_ignore_ascii_case(b"trailers"));
        if is_wrong {
            return Err(Malformed);
        }
        if name == b"content-length" {
            let length = length(value).ok_or(Malformed)?;
            if self.facts.length.replace(length).is_some_and(|before| before != length) {
                return Err(Malformed);
            }
        }
        Ok(())
    }
}

/// §8.2.1: a token without upper case.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|octet| NAME[usize::from(*octet)])
}

static NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut octet = 0;
    while octet < 256 {
        table[octet] = is_token_octet(octet as u8) && !(octet as u8).is_ascii_uppercase();
        octet += 1;
    }
    table
};

const fn is_token_octet(octet: u8) -> bool {
    matches!(octet,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|'
        | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|octet| is_token_octet(*octet))
}

/// §8.2.1, and what RFC 9110 §5.5 allows: nothing that could end a line, no blanks around it.
fn is_value(value: &[u8]) -> bool {
    let is_blank = |octet: Option<&u8>| matches!(octet, Some(b' ' | b'\t'));
    !is_blank(value.first())
        && !is_blank(value.last())
        && value.iter().all(|octet| matches!(octet, b'\t' | b' '..=b'~' | 0x80..))
}

fn is_scheme(scheme: &[u8]) -> bool {
    scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.'))
}

/// Nothing that could be two words of a request line, or a URI of its own.
fn is_path(path: &[u8], method: &[u8]) -> bool {
    (path.starts_with(b"/") || (path == b"*" && method == b"OPTIONS"))
        && path.iter().all(|octet| matches!(octet, b'!'..=b'~'))
}

fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&str, &str)]) -> Fields {
        let mut block = Vec::new();
        for (name, value) in list {
            // Not by the encoder, which would make names lower case.
            block.extend_from_slice(&[0, name.len() as u8]);
            block.extend_from_slice(name.as_bytes());
            block.push(value.len() as u8);
            block.extend_from_slice(value.as_bytes());
        }
        let mut fields = Fields::new(10_000, 100);
        crate::h2::hpack::Decoder::new(0).decode(&block, &mut fields).unwrap();
        fields
    }

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];

    fn with(more: &[(&str, &str)]) -> Result<Facts, Malformed> {
        request(&fields(&[&GET, more].concat()))
    }

    #[test]
    fn section_8_3_1_requests() {
        assert_eq!(with(&[]), Ok(Facts::default()));
        assert_eq!(with(&[("content-length", "5"), ("te", "trailers")]).unwrap().length, Some(5));
        assert!(with(&[("host", "A"), ("x", "")]).is_ok());
        let good: &[&[(&str, &str)]] = &[
            &[(":method", "OPTIONS"), (":scheme", "http"), (":path", "*")],
            &[(":method", "CONNECT"), (":authority", "a:443")],
        ];
        for list in good {
            assert!(request(&fields(list)).is_ok(), "{list:?}");
        }
        let bad: &[&[(&str, &str)]] = &[
            &[(":method", "GET"), (":scheme", "http")],
            &[(":method", "GET"), (":path", "/")],
            &[(":scheme", "http"), (":path", "/")],
            &[(":method", "GET"), (":scheme", "http"), (":path", "")],
            &[(":method", "GET"), (":scheme", "http"), (":path", "*")],
            &[(":method", "GET"), (":scheme", "http"), (":path", "/a HTTP/1.1")],
            &[(":method", "GET"), (":scheme", "http"), (":path", "http://evil/")],
            &[(":method", "GET /"), (":scheme", "http"), (":path", "/")],
            &[(":method", "GET"), (":scheme", "ht tp"), (":path", "/")],
            &[(":method", "GET"), (":method", "GET"), (":scheme", "http"), (":path", "/")],
            &[(":method", "GET"), ("x", "1"), (":scheme", "http"), (":path", "/")],
            &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":status", "200")],
            &[(":method", "CONNECT"), (":authority", "a"), (":path", "/")],
            &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":protocol", "websocket")],
        ];
        for list in bad {
            assert_eq!(request(&fields(list)), Err(Malformed), "{list:?}");
        }
    }

    #[test]
    fn section_8_2_fields_that_no_message_has() {
        for field in [
            ("Upper", "1"),
            ("a b", "1"),
            ("a:", "1"),
            ("", "1"),
            ("x", "a\r\nb: c"),
            ("x", "a\0"),
            ("x", " a"),
            ("x", "a\t"),
            ("connection", "close"),
            ("keep-alive", "5"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
            ("content-length", "+5"),
            ("host", "b"),
        ] {
            assert_eq!(with(&[field]), Err(Malformed), "{field:?}");
        }
        assert_eq!(with(&[("content-length", "1"), ("content-length", "2")]), Err(Malformed));
    }

    #[test]
    fn section_8_3_2_responses_and_section_8_1_trailers() {
        assert_eq!(response(&fields(&[(":status", "204"), ("x", "1")])).unwrap().status, 204);
        for list in [
            &[("x", "1")][..],
            &[(":status", "20")],
            &[(":status", "099")],
            &[(":status", "200"), (":status", "200")],
            &[("x", "1"), (":status", "200")],
            &[(":status", "200"), (":path", "/")],
        ] {
            assert_eq!(response(&fields(list)), Err(Malformed), "{list:?}");
        }
        assert!(trailers(&fields(&[("grpc-status", "0")])).is_ok());
        assert_eq!(trailers(&fields(&[(":status", "200")])), Err(Malformed));
    }
}
