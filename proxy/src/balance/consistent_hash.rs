//! Consistent hashing by several probes (Appleton and O'Reilly, "Multi-probe consistent hashing", 2015).
//!
//! Endpoints lie on a ring at the hash of their address. A key is hashed to several points; of these, the one with
//! the nearest endpoint behind it decides. Compared with many points per endpoint and one per key, the table is as small as
//! the list of endpoints, which is what makes it cheap to build at every change, and shares differ no more. An
//! endpoint that leaves moves its own keys and no others; the hash depends on the address alone, so that all
//! edges agree.

use core::net::{IpAddr, SocketAddr};

use portolan_table::{Endpoint, index_hash};

use super::below;
use super::steps::step;

/// Points of a key. With 21 the fullest endpoint is some 5 % above the mean of equal weights.
const PROBES: u64 = 21;
/// An endpoint of the largest weight lies at this many points, others at fewer; of equal weights, one.
const POINTS_MAX: u32 = 32;

/// The endpoints of one port on a ring.
#[derive(Debug)]
pub(crate) struct Ring {
    /// Where the points lie, ascending.
    points: Box<[u64]>,
    /// Whose they are.
    owners: Box<[u32]>,
    /// The ring is cut into as many equal parts as there are points; for each, the first point at or after its
    /// beginning.
    guide: Box<[u32]>,
    endpoints: usize,
}

/// The hash of what the policy hashes, for [`Upstreams::begin`](crate::upstream::Upstreams::begin). Local to one version of the
/// program, the same on every edge that runs it.
#[must_use]
pub fn hash_key(octets: &[u8]) -> u64 {
    index_hash(octets)
}

/// [`hash_key`] of a client's address, for what shows nothing else: connections and flows of datagrams.
pub(crate) fn hash_address(client: IpAddr) -> u64 {
    match client {
        IpAddr::V4(ip) => hash_key(&ip.octets()),
        IpAddr::V6(ip) => hash_key(&ip.octets()),
    }
}

impl Ring {
    pub(crate) fn new(live: &[Endpoint]) -> Self {
        let weight_max = live.iter().map(|endpoint| endpoint.weight).max().unwrap_or(1).max(1);
        let equal = live.iter().all(|endpoint| endpoint.weight == weight_max);
        let mut ring: Vec<(u64, u32)> = Vec::with_capacity(live.len());
        for (owner, endpoint) in (0u32..).zip(live) {
            let share = u32::from(endpoint.weight) * POINTS_MAX / u32::from(weight_max);
            let count = if equal { 1 } else { share.max(1) };
            let place = place(endpoint.address);
            ring.extend((0..u64::from(count)).map(|n| (mix(place.wrapping_add(mix(n))), owner)));
        }
        ring.sort_unstable();
        let points: Box<[u64]> = ring.iter().map(|(point, _)| *point).collect();
        let len = points.len() as u128;
        let guide = (0..len)
            .map(|part| {
                let begin = (part << 64).div_ceil(len) as u64;
                points.partition_point(|point| *point < begin) as u32
            })
            .collect();
        Self {
            owners: ring.into_iter().map(|(_, owner)| owner).collect(),
            points,
            guide,
            endpoints: live.len(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.endpoints
    }

    /// The endpoint of `key`; with another `turn`, the one that takes its place.
    #[inline]
    pub(crate) fn at(&self, key: u64, turn: u32) -> usize {
        let base = mix(key ^ (u64::from(turn) << 32));
        let mut best = (u64::MAX, 0);
        for probe in 0..PROBES {
            let probe = mix(base.wrapping_add(probe));
            let at = self.behind(probe);
            let distance = self.points[at].wrapping_sub(probe);
            if distance < best.0 {
                best = (distance, at);
            }
        }
        self.owners[best.1] as usize
    }

    /// The first point at or behind `probe`, round the ring. A part of the guide holds one point on average, so there
    /// is little to walk.
    #[inline]
    fn behind(&self, probe: u64) -> usize {
        let mut at = self.guide[below(probe, self.guide.len())] as usize;
        step();
        while self.points.get(at).is_some_and(|point| *point < probe) {
            step();
            at += 1;
        }
        if at == self.points.len() { 0 } else { at }
    }
}

fn place(address: SocketAddr) -> u64 {
    let ip = match address {
        SocketAddr::V4(a) => u128::from(a.ip().to_ipv6_mapped()),
        SocketAddr::V6(a) => u128::from(*a.ip()),
    };
    mix(mix((ip >> 64) as u64) ^ ip as u64).wrapping_add(u64::from(address.port()))
}

/// The finaliser of SplitMix64: every bit of the result depends on every bit given.
#[inline]
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use portolan_table::{Provenance, Slot};

    use super::*;

    fn endpoints(weights: &[u16]) -> Vec<Endpoint> {
        (0u32..)
            .zip(weights)
            .map(|(n, weight)| Endpoint {
                address: SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 8080)),
                member: n,
                slot: Slot { index: n, epoch: 0 },
                weight: *weight,
                provenance: Provenance::Registered,
            })
            .collect()
    }

    fn shares(ring: &Ring, n: usize, keys: u64) -> Vec<u64> {
        let mut counts = vec![0; n];
        for key in 0..keys {
            counts[ring.at(mix(key), 0)] += 1;
        }
        counts
    }

    #[test]
    fn equal_weights_get_about_equal_shares() {
        for n in [2usize, 10, 1000] {
            let ring = Ring::new(&endpoints(&vec![1; n]));
            let keys = 500 * n as u64;
            let fullest = shares(&ring, n, keys).into_iter().max().unwrap();
            assert!(fullest < 750, "fullest of {n} has {fullest} of 500");
        }
    }

    #[test]
    fn shares_follow_weights() {
        let weights = [8u16, 8, 4, 2, 16, 16, 1, 8];
        let whole: u64 = weights.iter().map(|w| u64::from(*w)).sum();
        let ring = Ring::new(&endpoints(&weights));
        for (count, weight) in shares(&ring, weights.len(), 100_000).into_iter().zip(weights) {
            let share = 100_000 * u64::from(weight) / whole;
            assert!(count > share / 2 && count < share * 2, "{count} of {share}");
        }
    }

    #[test]
    fn an_endpoint_that_leaves_moves_its_own_keys_only() {
        let before = endpoints(&[1; 50]);
        let mut after = before.clone();
        let gone = after.remove(17);
        let (old, new) = (Ring::new(&before), Ring::new(&after));
        let mut moved = 0u32;
        for key in 0..20_000 {
            let was = before[old.at(mix(key), 0)].address;
            let is = after[new.at(mix(key), 0)].address;
            if was == gone.address {
                moved += 1;
            } else {
                assert_eq!(was, is, "a key moved although its endpoint stayed");
            }
        }
        assert!(moved > 0 && moved <= 2 * 20_000 / 50, "{moved} keys moved");
    }

    #[test]
    fn another_turn_gives_another_endpoint_soon() {
        let ring = Ring::new(&endpoints(&[1; 10]));
        for key in 0..100 {
            let first = ring.at(key, 0);
            assert!((1..16).any(|turn| ring.at(key, turn) != first));
        }
    }
}
