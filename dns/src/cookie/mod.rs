//! DNS cookies: a client that shows one we gave it is not somebody else's address (RFC 7873, RFC 9018).
//!
//! ```text
//!  client cookie (8) │ version 1 │ reserved │ time │ SipHash-2-4(all before, client address; secret)
//!  ◄── client's own ─┘ └───────────────── server cookie, 16 octets ─────────────────────────────────┘
//! ```
//!
//! Nothing is kept per client. Edges that share a secret know each other's cookies, and those of other servers
//! that follow RFC 9018. Nothing here reads a clock: the time is the caller's, in Unix seconds.

mod secrets;

use core::hash::Hasher;
use core::net::IpAddr;

use siphasher::sip::SipHasher24;

pub use secrets::{Secrets, read_secrets};

/// Octets of what the client sends of its own.
const CLIENT_LEN: usize = 8;
/// Octets of client and server cookie together.
pub const COOKIE_LEN: usize = 24;
/// Octets that the option adds to a reply.
pub(crate) const OPTION_LEN: usize = 4 + COOKIE_LEN;
/// RFC 7873 §4: a server cookie has 8 to 32 octets.
const LENGTHS: core::ops::RangeInclusive<usize> = 16..=40;

/// How long a cookie is taken, and from which age on another one is given in its place (RFC 9018 §4.3).
const AGE_MAX: u32 = 3600;
const AGE_RENEWED: u32 = 1800;
/// So much another edge's clock may be ahead.
const AHEAD_MAX: u32 = 300;

/// The two cookies of a reply.
pub type Cookie = [u8; COOKIE_LEN];

/// What a query's option turns out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// One of ours, or of an edge with our secret; and what to answer with.
    Valid(Cookie),
    /// A client's own alone; and what to answer with.
    New(Cookie),
    /// Old, from elsewhere or made up; and what to answer with.
    Invalid(Cookie),
    /// No cookie by its length: FORMERR (RFC 7873 §5.2.2).
    Malformed,
}

/// Judges the content of a query's option. `now` is in Unix seconds. Allocates nothing.
#[inline]
#[must_use]
pub fn judge(secrets: &Secrets, option: &[u8], client: IpAddr, now: u32) -> Shown {
    let Some((own, server)) = option.split_first_chunk::<CLIENT_LEN>() else { return Shown::Malformed };
    if server.is_empty() {
        return Shown::New(make(secrets.current(), own, client, now));
    }
    if !LENGTHS.contains(&option.len()) {
        return Shown::Malformed;
    }
    let valid = option.first_chunk::<COOKIE_LEN>().filter(|_| option.len() == COOKIE_LEN);
    let Some((cookie, age)) = valid.and_then(|cookie| Some((cookie, age(cookie, now)?))) else {
        return Shown::Invalid(make(secrets.current(), own, client, now));
    };
    let made_with = secrets.accepted().position(|secret| is_made_with(secret, cookie, client));
    match made_with {
        None => Shown::Invalid(make(secrets.current(), own, client, now)),
        Some(0) if age < AGE_RENEWED => Shown::Valid(*cookie),
        Some(_) => Shown::Valid(make(secrets.current(), own, client, now)),
    }
}

/// Seconds since the cookie was made; `None` if it is too old, too new or of another version.
fn age(cookie: &Cookie, now: u32) -> Option<u32> {
    let made = u32::from_be_bytes(*cookie[12..].first_chunk()?);
    let (age, ahead) = (now.wrapping_sub(made), made.wrapping_sub(now));
    let age = if ahead <= AHEAD_MAX { 0 } else { age };
    (cookie[CLIENT_LEN] == 1 && age <= AGE_MAX).then_some(age)
}

fn make(secret: &[u8; 16], own: &[u8; CLIENT_LEN], client: IpAddr, now: u32) -> Cookie {
    let mut cookie = [0; COOKIE_LEN];
    cookie[..CLIENT_LEN].copy_from_slice(own);
    cookie[CLIENT_LEN] = 1;
    cookie[12..16].copy_from_slice(&now.to_be_bytes());
    let hash = hash(secret, &cookie, client);
    cookie[16..].copy_from_slice(&hash);
    cookie
}

/// In a time that doesn't tell how much of a guess was right.
fn is_made_with(secret: &[u8; 16], cookie: &Cookie, client: IpAddr) -> bool {
    let expected = hash(secret, cookie, client);
    let differing = expected.iter().zip(&cookie[16..]).fold(0, |found, (a, b)| found | (a ^ b));
    core::hint::black_box(differing) == 0
}

/// Over client cookie, version, reserved, time and address (RFC 9018 §4.4).
#[inline]
fn hash(secret: &[u8; 16], cookie: &Cookie, client: IpAddr) -> [u8; 8] {
    let mut hasher = SipHasher24::new_with_key(secret);
    hasher.write(&cookie[..16]);
    match client.to_canonical() {
        IpAddr::V4(v4) => hasher.write(&v4.octets()),
        IpAddr::V6(v6) => hasher.write(&v6.octets()),
    }
    hasher.finish().to_le_bytes()
}

/// Puts the option into a finished reply of `len` octets whose last record is an OPT without options, as ours all
/// are; returns the new length. A reply without OPT stays as it is: its query had none, and no cookie either.
#[inline]
pub(crate) fn put(reply: &mut [u8], len: usize, cookie: &Cookie) -> usize {
    let Some(start) = len.checked_sub(crate::wire::OPT_LEN).filter(|start| *start >= 12) else { return len };
    let is_opt = reply[start..start + 3] == [0, 0, 41] && reply[len - 2..len] == [0, 0];
    let counted = reply[10..12] != [0, 0];
    let Some(room) = reply.get_mut(len..len + OPTION_LEN).filter(|_| is_opt && counted) else { return len };
    room[..4].copy_from_slice(&[0, 10, 0, COOKIE_LEN as u8]);
    room[4..].copy_from_slice(cookie);
    reply[len - 1] = OPTION_LEN as u8;
    len + OPTION_LEN
}

#[cfg(test)]
mod tests;
