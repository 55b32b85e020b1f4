//! Record sets into a reply, turned by the rotation, whole or cut with TC.

use crate::wire::{CLASS_IN, Reply, Section};

/// Octets of a record before its data, with a compressed owner name: pointer, type, class, TTL, length.
pub(super) const FIXED_LEN: usize = 12;
/// Points at the question's name: it always stands right behind the header.
pub(super) const QUESTION: u16 = 0xc00c;

/// The octets before the data of a record of fixed length.
#[inline]
pub(super) fn head(owner: u16, rtype: u16, ttl: u32, data_len: u16) -> [u8; FIXED_LEN] {
    let [o0, o1] = owner.to_be_bytes();
    let [t0, t1] = rtype.to_be_bytes();
    let [c0, c1] = CLASS_IN.to_be_bytes();
    let [l0, l1, l2, l3] = ttl.to_be_bytes();
    let [d0, d1] = data_len.to_be_bytes();
    [o0, o1, t0, t1, c0, c1, l0, l1, l2, l3, d0, d1]
}

/// Where a set of `len` items begins under this rotation: the upper bits of the rotation times 2³² over the golden
/// ratio, scaled to `len`. A client that asks for two types in turn sees every second rotation of each, for which a
/// remainder would have half of the places; the products of every second number, or every third, are spread evenly.
#[inline]
pub(super) fn turn(rotation: u32, len: usize) -> usize {
    let spread = u64::from(rotation.wrapping_mul(0x9E37_79B1));
    ((spread * len as u64) >> 32) as usize
}

/// How many of `wanted` records of `stride` octets fit.
#[inline]
pub(super) fn fitting(reply: &Reply<'_>, wanted: usize, stride: usize) -> usize {
    wanted.min(reply.free() / stride).min(usize::from(u16::MAX))
}

/// Writes addresses in turned order; as many as fit. True if that is all of them.
#[inline]
pub(super) fn addresses<const N: usize>(
    reply: &mut Reply<'_>,
    section: Section,
    head: [u8; FIXED_LEN],
    items: &[[u8; N]],
    rotation: u32,
) -> bool {
    let (late, early) = items.split_at(turn(rotation, items.len()));
    let count = fitting(reply, items.len(), FIXED_LEN + N);
    let Some(out) = reply.take(section, count as u16, count * (FIXED_LEN + N)) else { return false };
    for (out, item) in out.chunks_exact_mut(FIXED_LEN + N).zip(early.iter().chain(late)) {
        out[..FIXED_LEN].copy_from_slice(&head);
        out[FIXED_LEN..].copy_from_slice(item);
    }
    count == items.len()
}

/// Writes one record whose data is `parts` one after another. False, and nothing written, if it does not fit.
#[inline]
pub(super) fn record(
    reply: &mut Reply<'_>,
    section: Section,
    owner: u16,
    rtype: u16,
    ttl: u32,
    parts: &[&[u8]],
) -> bool {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let Ok(data_len) = u16::try_from(len) else { return false };
    let Some(out) = reply.take(section, 1, FIXED_LEN + len) else { return false };
    let (fixed, mut rest) = out.split_at_mut(FIXED_LEN);
    fixed.copy_from_slice(&head(owner, rtype, ttl, data_len));
    for part in parts {
        let (place, tail) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = tail;
    }
    true
}
