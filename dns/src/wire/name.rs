//! Names in wire form (RFC 1035 §3.1) and as text.

use core::fmt::Write;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest name in wire form, root label included (RFC 1035 §2.3.4).
pub const NAME_LEN_MAX: usize = 255;

const IN_ADDR: &[u8] = b"\x07in-addr\x04arpa";
const IP6: &[u8] = b"\x03ip6\x04arpa";

/// Appends one label, lower-cased. The caller has checked that it has 1 to 63 octets.
pub fn push_label(wire: &mut Vec<u8>, label: &[u8]) {
    debug_assert!((1..=63).contains(&label.len()), "a label has 1 to 63 octets");
    wire.push(label.len() as u8);
    wire.extend(label.iter().map(u8::to_ascii_lowercase));
}

/// The wire form, root label included, of a name as text. A dot at the end makes no difference, `\.` and
/// `\DDD` are understood (RFC 1035 §5.1); case is kept. `None` if a label or the whole is too long or empty.
#[must_use]
pub fn text_to_name(text: &str) -> Option<Vec<u8>> {
    let mut wire = vec![0];
    let mut start = 0;
    let mut octets = text.bytes();
    let mut ended = text.is_empty() || text == ".";
    while let Some(octet) = octets.next().filter(|_| text != ".") {
        ended = false;
        match octet {
            b'.' => {
                close_label(&mut wire, start)?;
                start = wire.len();
                wire.push(0);
                ended = true;
            }
            b'\\' => wire.push(escaped(&mut octets)?),
            other => wire.push(other),
        }
    }
    if !ended {
        close_label(&mut wire, start)?;
        wire.push(0);
    }
    (wire.len() <= NAME_LEN_MAX).then_some(wire)
}

fn close_label(wire: &mut [u8], start: usize) -> Option<()> {
    let len = wire.len() - start - 1;
    wire[start] = u8::try_from(len).ok().filter(|len| (1..=63).contains(len))?;
    Some(())
}

fn escaped(octets: &mut core::str::Bytes<'_>) -> Option<u8> {
    let first = octets.next()?;
    if !first.is_ascii_digit() {
        return Some(first);
    }
    let mut value = u16::from(first - b'0');
    for _ in 0..2 {
        let digit = octets.next().filter(u8::is_ascii_digit)?;
        value = value * 10 + u16::from(digit - b'0');
    }
    u8::try_from(value).ok()
}

/// A name in wire form as text with a dot at the end, for logs and tests: dots inside labels and octets that
/// are not printable are escaped. Takes a name with or without its root label.
#[must_use]
pub fn name_to_text(wire: &[u8]) -> String {
    let mut text = String::with_capacity(wire.len());
    let mut rest = wire;
    while let Some((&len, tail)) = rest.split_first() {
        if len == 0 {
            break;
        }
        let (label, tail) = tail.split_at(usize::from(len).min(tail.len()));
        for &octet in label {
            match octet {
                b'.' | b'\\' => text.extend(['\\', char::from(octet)]),
                0x21..=0x7e => text.push(char::from(octet)),
                other => drop(write!(text, "\\{other:03}")),
            }
        }
        text.push('.');
        rest = tail;
    }
    if text.is_empty() {
        text.push('.');
    }
    text
}

/// The owner name of an address's PTR record (RFC 1035 §3.5, RFC 3596 §2.5), root label included.
#[must_use]
pub fn reverse_name(address: IpAddr) -> Vec<u8> {
    let mut wire = Vec::with_capacity(74);
    match address {
        IpAddr::V4(v4) => {
            for octet in v4.octets().iter().rev() {
                push_label(&mut wire, octet.to_string().as_bytes());
            }
            wire.extend_from_slice(IN_ADDR);
        }
        IpAddr::V6(v6) => {
            for octet in v6.octets().iter().rev() {
                for nibble in [octet & 15, octet >> 4] {
                    wire.extend_from_slice(&[1, b"0123456789abcdef"[usize::from(nibble)]]);
                }
            }
            wire.extend_from_slice(IP6);
        }
    }
    wire.push(0);
    wire
}

/// The address whose PTR record has this owner name (lower case, wire form, root label included).
#[must_use]
pub fn address_of(name: &[u8]) -> Option<IpAddr> {
    let name = name.strip_suffix(&[0])?;
    if let Some(labels) = name.strip_suffix(IN_ADDR) {
        return address_v4(labels).map(IpAddr::V4);
    }
    name.strip_suffix(IP6).and_then(address_v6).map(IpAddr::V6)
}

fn address_v4(mut labels: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    for octet in octets.iter_mut().rev() {
        let (&len, tail) = labels.split_first()?;
        let (digits, tail) = tail.split_at_checked(usize::from(len)).filter(|_| (1..=3).contains(&len))?;
        // Only the canonical form exists: 01.0.0.10.in-addr.arpa is another name.
        if digits[0] == b'0' && digits.len() > 1 {
            return None;
        }
        let mut value = 0u16;
        for digit in digits {
            value = value * 10 + u16::from(digit.checked_sub(b'0').filter(|d| *d <= 9)?);
        }
        *octet = u8::try_from(value).ok()?;
        labels = tail;
    }
    labels.is_empty().then(|| Ipv4Addr::from(octets))
}

fn address_v6(labels: &[u8]) -> Option<Ipv6Addr> {
    if labels.len() != 64 {
        return None;
    }
    let mut value = 0u128;
    for (position, pair) in labels.chunks_exact(2).enumerate() {
        let nibble = match pair {
            [1, digit @ b'0'..=b'9'] => digit - b'0',
            [1, digit @ b'a'..=b'f'] => digit - b'a' + 10,
            _ => return None,
        };
        value |= u128::from(nibble) << (4 * position);
    }
    Some(Ipv6Addr::from(value))
}
