//! Response rate limiting: what a network is sent of one kind each second, so that nobody floods a third party
//! with our answers.
//!
//! ```text
//!  (network of the client, class, name asked if there is an answer) ─► bucket of tokens ─► send
//!                                                                      └ empty ─► drop, every slip-th with TC
//! ```
//!
//! A reply with TC makes an honest client ask again by TCP, where its address is proven. Buckets stand in a table
//! of fixed size, one per worker and listener: no lock, no allocation, no clock here. A table that is full forgets
//! who was silent for longest.

mod table;

use core::hash::BuildHasher;
use core::net::IpAddr;

use table::{Bucket, Table};

use crate::config::RateLimit;
use crate::networks::Networks;
use crate::wire::{Query, Rcode};

/// Kinds of replies that are limited each by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// With records, by name and type asked for: a reflector repeats itself.
    Answer = 0,
    /// The name exists, but not the type.
    NoData = 1,
    /// No such name, all names together.
    NxDomain = 2,
    /// Any other response code.
    Error = 3,
}

impl Class {
    /// The class of a reply that stands in a packet.
    #[inline]
    pub(crate) fn of(rcode: Rcode, reply: &[u8]) -> Self {
        match rcode {
            Rcode::NoError if reply.get(6..8).is_some_and(|count| count != [0, 0]) => Self::Answer,
            Rcode::NoError => Self::NoData,
            Rcode::NxDomain => Self::NxDomain,
            _ => Self::Error,
        }
    }
}

/// What becomes of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Send,
    /// Send an empty one with TC in its place.
    Slip,
    Drop,
}

/// [`RateLimit`] in the form in which it is looked up.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Replies a second by class; 0 for no limit.
    rates: [u32; 4],
    all: u32,
    slip: u32,
    mask4: u32,
    mask6: u128,
    exempt: Networks,
    entries: usize,
}

impl Rules {
    /// `None` if nothing is limited.
    pub(crate) fn new(config: &RateLimit) -> Option<Self> {
        let or_answers = |rate: Option<u32>| rate.unwrap_or(config.responses_per_second);
        let rates = [
            config.responses_per_second,
            or_answers(config.nodata_per_second),
            or_answers(config.nxdomains_per_second),
            or_answers(config.errors_per_second),
        ];
        let rules = Self {
            rates,
            all: config.all_per_second,
            slip: config.slip,
            mask4: u32::MAX.checked_shl(32 - u32::from(config.ipv4_prefix.min(32))).unwrap_or(0),
            mask6: u128::MAX.checked_shl(128 - u32::from(config.ipv6_prefix.min(128))).unwrap_or(0),
            exempt: Networks::new(&config.exempt),
            entries: config.entries_max,
        };
        (rules.all > 0 || rules.rates.iter().any(|rate| *rate > 0)).then_some(rules)
    }

    #[inline]
    fn network(&self, client: IpAddr) -> u128 {
        match client {
            // As a mapped address, which no masked IPv6 address equals unless it is one.
            IpAddr::V4(v4) => u128::from(u32::from(v4) & self.mask4) | 0xffff_0000_0000,
            IpAddr::V6(v6) => u128::from(v6) & self.mask6,
        }
    }
}

/// The buckets of one worker and listener.
#[derive(Debug)]
pub(crate) struct Limiter {
    table: Table,
    hasher: foldhash::fast::RandomState,
    /// Workers that share the listener's clients: each gives out its part of a rate.
    workers: u32,
    /// Replies limited so far: every slip-th is sent with TC.
    limited: u32,
}

impl Limiter {
    /// Without room for a bucket until there are rules.
    pub(crate) fn new(workers: usize) -> Self {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX).max(1);
        Self { table: Table::default(), hasher: foldhash::fast::RandomState::default(), workers, limited: 0 }
    }

    /// Makes the table as large as the rules say: at start and on reload.
    pub(crate) fn fit(&mut self, rules: Option<&Rules>) {
        self.table.resize(rules.map_or(0, |rules| rules.entries));
    }

    /// Takes a token for a reply of `class` to `client`, who asked `query` (nothing that can be read: `None`).
    /// `now` is in milliseconds from any start, and may wrap.
    #[inline]
    pub(crate) fn judge(
        &mut self,
        rules: &Rules,
        client: IpAddr,
        class: Class,
        query: Option<&Query<'_>>,
        now: u32,
    ) -> Verdict {
        let client = client.to_canonical();
        if rules.exempt.is_open() && rules.exempt.allows(client) {
            return Verdict::Send;
        }
        let network = rules.network(client);
        let rate = rules.rates[class as usize];
        let name =
            query.filter(|_| class == Class::Answer).map(|query| (query.name().octets(), query.qtype()));
        let within = rate == 0 || self.take((network, class as u8, name), rate, now);
        let within_all = rules.all == 0 || self.take((network, u8::MAX, None), rules.all, now);
        if within && within_all {
            return Verdict::Send;
        }
        self.limited = self.limited.wrapping_add(1);
        if rules.slip > 0 && self.limited.is_multiple_of(rules.slip) { Verdict::Slip } else { Verdict::Drop }
    }

    #[inline]
    fn take(&mut self, key: (u128, u8, Option<(&[u8], u16)>), rate: u32, now: u32) -> bool {
        let bucket = Bucket { rate, workers: self.workers };
        self.table.take(self.hasher.hash_one(key), bucket, now)
    }
}

#[cfg(test)]
mod tests;
