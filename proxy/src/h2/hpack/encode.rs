//! From fields to a header block, by the static table and literals.
//!
//! Literals are written as never to be indexed. What came so must go on so (RFC 7541 §6.2.3), and which did is not known
//! any more where fields are written; nothing is lost by it, as we use no table, and whoever comes behind us had better
//! keep none of other people's secrets (§7.1.3).

use super::table::static_name;

/// Says that the dynamic table holds nothing from here on (RFC 7541 §6.3). At the beginning of a block.
pub(crate) const SIZE_0: u8 = 0x20;

/// The beginning of a literal field that is never indexed (§6.2.3): its name's place in the static table, or 0, in the
/// last four bits.
const LITERAL: u8 = 0x10;

/// Appends `:status` (RFC 7541 §6.1 where the static table has it).
pub(crate) fn push_status(status: u16, out: &mut Vec<u8>) {
    let index = match status {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => {
            let digits = [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + (digit % 10) as u8);
            out.extend_from_slice(&[LITERAL | 8, 3]);
            out.extend_from_slice(&digits);
            return;
        }
    };
    out.push(0x80 | index);
}

/// Appends an entry of the static table, name and value.
pub(crate) fn push_indexed(index: u8, out: &mut Vec<u8>) {
    out.push(0x80 | index);
}

/// Appends a field whose name is that of an entry of the static table.
pub(crate) fn push_named(index: u8, value: &[u8], out: &mut Vec<u8>) {
    push_integer(usize::from(index), 4, LITERAL, out);
    push_value(value, out);
}

/// Appends a literal field. The name is written in lower case (RFC 9113 §8.2).
pub(crate) fn push_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let mut lower = [0_u8; SHORT];
    let Some(place) = lower.get_mut(..name.len()) else { return push_long(name, value, out) };
    place.copy_from_slice(name);
    place.make_ascii_lowercase();
    let index = static_name(place);
    push_integer(usize::from(index), 4, LITERAL, out);
    if index == 0 {
        push_integer(place.len(), 7, 0, out);
        out.extend_from_slice(place);
    }
    push_value(value, out);
}

/// Names up to this length are looked up in the static table, which has none that is longer.
const SHORT: usize = 64;

fn push_long(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.push(LITERAL);
    push_integer(name.len(), 7, 0, out);
    out.extend(name.iter().map(u8::to_ascii_lowercase));
    push_value(value, out);
}

fn push_value(value: &[u8], out: &mut Vec<u8>) {
    push_integer(value.len(), 7, 0, out);
    out.extend_from_slice(value);
}

/// §5.1: `value` behind the bits of `first` that are not its prefix.
fn push_integer(value: usize, prefix: u32, first: u8, out: &mut Vec<u8>) {
    let mask = (1_usize << prefix) - 1;
    if value < mask {
        out.push(first | value as u8);
        return;
    }
    out.push(first | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
