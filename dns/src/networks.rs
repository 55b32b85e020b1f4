//! Lists of networks: who may ask, who may use the forwarder, who may have a zone.

use core::net::IpAddr;

use crate::config::Network;

/// The networks that may do something, in the form in which they are looked up: once per query on the fast path.
#[derive(Debug, Default)]
pub struct Networks {
    v4: Box<[Prefix<u32>]>,
    v6: Box<[Prefix<u128>]>,
}

#[derive(Debug, Clone, Copy)]
struct Prefix<T> {
    base: T,
    mask: T,
}

impl Networks {
    /// Looks up in these.
    pub(crate) fn new(networks: &[Network]) -> Self {
        let mut access = (Vec::new(), Vec::new());
        for network in networks {
            let prefix = u32::from(network.prefix);
            match network.address {
                IpAddr::V4(base) => {
                    let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix)).unwrap_or(0);
                    access.0.push(Prefix { base: u32::from(base) & mask, mask });
                }
                IpAddr::V6(base) => {
                    let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix)).unwrap_or(0);
                    access.1.push(Prefix { base: u128::from(base) & mask, mask });
                }
            }
        }
        Self { v4: access.0.into(), v6: access.1.into() }
    }

    /// True if somebody may.
    #[inline]
    #[must_use]
    pub fn is_open(&self) -> bool {
        !(self.v4.is_empty() && self.v6.is_empty())
    }

    /// True if this client may. A v4 address in v6 clothes (RFC 4291 §2.5.5.2) counts as v4.
    #[inline]
    #[must_use]
    pub fn allows(&self, client: IpAddr) -> bool {
        match client.to_canonical() {
            IpAddr::V4(client) => {
                let client = u32::from(client);
                self.v4.iter().any(|prefix| client & prefix.mask == prefix.base)
            }
            IpAddr::V6(client) => {
                let client = u128::from(client);
                self.v6.iter().any(|prefix| client & prefix.mask == prefix.base)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(address: &str, prefix: u8) -> Network {
        Network { address: address.parse().unwrap(), prefix }
    }

    #[test]
    fn networks_hold_addresses_by_prefix() {
        let access =
            Networks::new(&[net("10.0.0.0", 8), net("::1", 128), net("192.168.4.9", 22), net("fd00::", 8)]);
        let allows = |client: &str| access.allows(client.parse().unwrap());
        assert!(allows("10.255.0.1") && allows("::1") && allows("192.168.7.255") && allows("fdff::1"));
        assert!(allows("::ffff:10.1.2.3"), "a v4 client of a v6 socket");
        assert!(!allows("11.0.0.1") && !allows("::2") && !allows("192.168.8.0") && !allows("a00::1"));
        assert!(!allows("fe00::1"));
    }

    #[test]
    fn a_prefix_of_zero_is_everybody_of_the_family_and_none_is_nobody() {
        let access = Networks::new(&[net("0.0.0.0", 0)]);
        assert!(
            access.allows("203.0.113.9".parse().unwrap()) && !access.allows("2001:db8::1".parse().unwrap())
        );
        assert!(access.is_open() && !Networks::default().is_open());
    }
}
