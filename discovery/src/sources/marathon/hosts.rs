//! Addresses of agents that Marathon knows by name.
//!
//! Looked up ahead of conversion and kept for a minute. A name that cannot be resolved now keeps the address it had: a
//! failing resolver takes nothing away. When many look-ups fail in a row they are put off for some seconds, so
//! that a dead resolver doesn't hold up a list.

use core::net::IpAddr;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::convert::Hosts;

/// How long an address is taken for good.
const FRESH: Duration = Duration::from_secs(60);
/// How long a failure is.
const FAILED: Duration = Duration::from_secs(10);
/// One look-up.
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(2);
/// Look-ups at once.
const LOOKUPS_MAX: usize = 16;
/// Names kept. More agents than this are looked up anew each time.
const NAMES_MAX: usize = 65_536;
/// Failures in a row after which the rest waits.
const FAILURES_MAX: usize = 32;

/// What is known of names; shared by the lists and reads of a source, and kept between its sessions.
#[derive(Debug, Default)]
pub(super) struct Resolver(Mutex<HashMap<Box<str>, Known>>);

#[derive(Debug, Clone, Copy)]
struct Known {
    ip: Option<IpAddr>,
    until: Instant,
}

impl Resolver {
    /// Sees to it that all of `names` that can be resolved are known.
    pub(super) async fn prepare(&self, names: Vec<String>) {
        let mut waiting = self.unknown(names);
        let mut running: JoinSet<(String, Option<IpAddr>)> = JoinSet::new();
        let mut failures = 0;
        loop {
            while running.len() < LOOKUPS_MAX
                && failures < FAILURES_MAX
                && let Some(name) = waiting.pop()
            {
                running.spawn(async move { (name.clone(), look_up(&name).await) });
            }
            match running.join_next().await {
                Some(Ok((name, found))) => {
                    failures = if found.is_some() { 0 } else { failures + 1 };
                    self.learn(&name, found);
                }
                Some(Err(_)) => {}
                None => break,
            }
        }
        for name in waiting {
            self.learn(&name, None);
        }
    }

    fn unknown(&self, mut names: Vec<String>) -> Vec<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        names.retain(|name| {
            name.parse::<IpAddr>().is_err() && known.get(&**name).is_none_or(|known| known.until <= now)
        });
        names.sort_unstable();
        names.dedup();
        names
    }

    fn learn(&self, name: &str, found: Option<IpAddr>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.get(name).and_then(|known| known.ip);
        if known.len() >= NAMES_MAX && !known.contains_key(name) {
            known.clear();
        }
        let life = if found.is_some() { FRESH } else { FAILED };
        known.insert(name.into(), Known { ip: found.or(before), until: Instant::now() + life });
    }
}

impl Hosts for Resolver {
    fn address(&self, name: &str) -> Option<IpAddr> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name).and_then(|known| known.ip)
    }
}

/// The lowest IPv4 address of the name, as agents listen on those, else the lowest IPv6 address.
async fn look_up(name: &str) -> Option<IpAddr> {
    let found = timeout(LOOKUP_TIME_MAX, lookup_host((name, 0))).await.ok()?.ok()?;
    found.map(|address| address.ip()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_keeps_its_address_when_the_resolver_fails() {
        let resolver = Resolver::default();
        resolver.learn("agent1", Some([10, 0, 0, 1].into()));
        resolver.learn("agent1", None);
        assert_eq!(resolver.address("agent1"), Some([10, 0, 0, 1].into()));
        assert_eq!(resolver.address("agent2"), None);
    }

    #[tokio::test]
    async fn names_are_looked_up_and_addresses_are_not() {
        let resolver = Resolver::default();
        let names = ["localhost", "10.0.0.1", "no-such-agent.invalid"].map(str::to_owned);
        resolver.prepare(names.into()).await;
        assert_eq!(resolver.address("localhost"), Some([127, 0, 0, 1].into()));
        assert_eq!(resolver.address("no-such-agent.invalid"), None);
        assert_eq!(resolver.address("10.0.0.1"), None, "an address needs no entry");
    }
}
