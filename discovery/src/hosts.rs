//! Addresses of agents and schedulers that a cluster knows by name.
//!
//! Looked up ahead of conversion and kept for a minute; after that the old address is used until a new look-up, which
//! nobody waits for, has brought another. A name that cannot be resolved now keeps the address it had: a failing resolver
//! takes nothing away. When several look-ups in a row are slow and give nothing, none is made for some seconds, so that a
//! dead resolver doesn't hold up a list at every app of it.

use core::net::IpAddr;
use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// How long an address is taken for good.
const FRESH: Duration = Duration::from_secs(60);
/// How long a failure is.
const FAILED: Duration = Duration::from_secs(10);
/// One look-up.
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(2);
/// A failure that takes longer speaks against the resolver, not against the name.
const SLOW: Duration = Duration::from_millis(500);
/// Slow failures in a row after which the resolver is taken for dead.
const SLOW_MAX: u32 = 4;
/// How long a dead resolver is left alone.
const REST: Duration = Duration::from_secs(15);
/// Look-ups at once: by one list or read, and in the background.
const LOOKUPS_MAX: usize = 16;
/// Names kept. More agents than this are looked up anew each time.
const NAMES_MAX: usize = 65_536;

/// Addresses of one host, sorted.
pub(crate) type Addresses = SmallVec<[IpAddr; 1]>;

type Looking = Pin<Box<dyn Future<Output = Option<Addresses>> + Send>>;
type LookUp = Arc<dyn Fn(String) -> Looking + Send + Sync>;

/// Addresses of hosts whose name is not an address.
pub(crate) trait Hosts {
    /// The addresses that are known at present: none, if the name could not be resolved.
    fn addresses(&self, name: &str) -> Addresses;

    /// The lowest IPv4 address, as agents listen on those, else the lowest IPv6 address.
    fn address(&self, name: &str) -> Option<IpAddr> {
        self.addresses(name).first().copied()
    }
}

/// What is known of names; shared by the lists and reads of a source, and kept between its sessions.
pub(crate) struct Resolver {
    names: Arc<Mutex<Names>>,
    /// Look-ups that nobody waits for.
    background: Mutex<JoinSet<()>>,
    look_up: LookUp,
}

#[derive(Debug, Default)]
struct Names {
    all: HashMap<Box<str>, Known>,
    slow: u32,
    /// No look-ups before this.
    rests_until: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Known {
    /// None: it could not be resolved so far.
    found: Addresses,
    until: Instant,
}

enum Looked {
    Found(Addresses),
    Failed,
    Slow,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new(Arc::new(|name| Box::pin(system(name))))
    }
}

impl Resolver {
    fn new(look_up: LookUp) -> Self {
        Self { names: Arc::default(), background: Mutex::default(), look_up }
    }

    /// Sees to it that all of `names` that can be resolved are known. Waits only for those without any address.
    pub(crate) async fn prepare(&self, names: Vec<String>) {
        let (mut waiting, aged) = lock(&self.names).due(names);
        self.refresh(aged);
        let mut running: JoinSet<()> = JoinSet::new();
        loop {
            while running.len() < LOOKUPS_MAX
                && !lock(&self.names).rests(Instant::now())
                && let Some(name) = waiting.pop()
            {
                running.spawn(self.looking(name));
            }
            if running.join_next().await.is_none() {
                return;
            }
        }
    }

    /// Looks up names whose address has aged; those that are too many now have their turn at the next call.
    fn refresh(&self, aged: Vec<String>) {
        let mut background = lock(&self.background);
        while background.try_join_next().is_some() {}
        for name in aged.into_iter().take(LOOKUPS_MAX.saturating_sub(background.len())) {
            lock(&self.names).put_off(&name);
            background.spawn(self.looking(name));
        }
    }

    fn looking(&self, name: String) -> impl Future<Output = ()> + Send + use<> {
        let (look_up, names) = (Arc::clone(&self.look_up), Arc::clone(&self.names));
        async move {
            let begun = Instant::now();
            let looked = match timeout(LOOKUP_TIME_MAX, look_up(name.clone())).await {
                Ok(Some(found)) => Looked::Found(found),
                Ok(None) if begun.elapsed() < SLOW => Looked::Failed,
                Ok(None) | Err(_) => Looked::Slow,
            };
            lock(&names).learn(&name, &looked, Instant::now());
        }
    }
}

impl Names {
    /// Of the names that are due, those without an address and those with an old one; none while the resolver rests.
    fn due(&self, mut names: Vec<String>) -> (Vec<String>, Vec<String>) {
        let now = Instant::now();
        if self.rests(now) {
            return (Vec::new(), Vec::new());
        }
        names.retain(|name| {
            name.parse::<IpAddr>().is_err() && self.all.get(&**name).is_none_or(|known| known.until <= now)
        });
        names.sort_unstable();
        names.dedup();
        names.into_iter().partition(|name| self.all.get(&**name).is_none_or(|known| known.found.is_empty()))
    }

    fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    /// It is being looked up.
    fn put_off(&mut self, name: &str) {
        if let Some(known) = self.all.get_mut(name) {
            known.until = Instant::now() + FAILED;
        }
    }

    fn learn(&mut self, name: &str, looked: &Looked, now: Instant) {
        if let Looked::Slow = looked {
            self.slow += 1;
            if self.slow >= SLOW_MAX {
                tracing::warn!(name, "the resolver does not answer; agents keep the addresses they had");
                // One that is slow after the rest is enough to begin another.
                (self.slow, self.rests_until) = (SLOW_MAX - 1, Some(now + REST));
            }
        } else {
            (self.slow, self.rests_until) = (0, None);
        }
        let before = self.all.get(name).map(|known| known.found.clone());
        if self.all.len() >= NAMES_MAX && !self.all.contains_key(name) {
            self.all.clear();
        }
        let known = match looked {
            Looked::Found(found) => Known { found: found.clone(), until: now + FRESH },
            Looked::Failed | Looked::Slow => Known { found: before.unwrap_or_default(), until: now + FAILED },
        };
        self.all.insert(name.into(), known);
    }
}

impl Hosts for Resolver {
    fn addresses(&self, name: &str) -> Addresses {
        lock(&self.names).all.get(name).map(|known| known.found.clone()).unwrap_or_default()
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("names", &self.names).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn system(name: String) -> Option<Addresses> {
    let found = lookup_host((name, 0)).await.ok()?;
    let mut found: Addresses = found.map(|address| address.ip()).collect();
    found.sort_unstable();
    found.dedup();
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, 1));
    const NEW: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, 2));

    fn one(ip: IpAddr) -> Option<Addresses> {
        Some([ip].into_iter().collect())
    }

    fn found(ip: IpAddr) -> Looked {
        Looked::Found([ip].into_iter().collect())
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test]
    async fn a_name_keeps_its_address_when_the_resolver_fails() {
        let resolver = Resolver::default();
        for looked in [found(OLD), Looked::Failed, Looked::Slow] {
            lock(&resolver.names).learn("agent1", &looked, Instant::now());
        }
        assert_eq!(resolver.address("agent1"), Some(OLD));
        assert_eq!(resolver.address("agent2"), None);
    }

    #[tokio::test]
    async fn names_are_looked_up_and_addresses_are_not() {
        let resolver = Resolver::default();
        resolver.prepare(names(&["localhost", "10.0.0.1", "no-such-agent.invalid"])).await;
        assert_eq!(resolver.address("localhost"), Some([127, 0, 0, 1].into()));
        assert_eq!(resolver.address("no-such-agent.invalid"), None);
        assert_eq!(resolver.address("10.0.0.1"), None, "an address needs no entry");
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_has_aged_is_used_until_there_is_another() {
        let resolver = Resolver::new(Arc::new(|_| {
            Box::pin(async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                one(NEW)
            })
        }));
        lock(&resolver.names).learn("agent", &found(OLD), Instant::now());
        tokio::time::sleep(FRESH).await;
        let begun = Instant::now();
        resolver.prepare(names(&["agent"])).await;
        assert_eq!((begun.elapsed(), resolver.address("agent")), (Duration::ZERO, Some(OLD)));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(resolver.address("agent"), Some(NEW));
    }

    /// As each app of a list brings its own agents.
    #[tokio::test(start_paused = true)]
    async fn a_dead_resolver_is_left_alone() {
        let asked = Arc::new(Mutex::new(0));
        let asking = Arc::clone(&asked);
        let resolver = Resolver::new(Arc::new(move |name| {
            *lock(&asking) += 1;
            Box::pin(async move { if name == "back" { one(NEW) } else { core::future::pending().await } })
        }));
        let begun = Instant::now();
        for app in 0..10_000 {
            resolver.prepare(names(&[&format!("agent-{app}")])).await;
        }
        assert_eq!(begun.elapsed(), LOOKUP_TIME_MAX * SLOW_MAX, "that many waited, the others did not");
        assert_eq!(*lock(&asked), SLOW_MAX);
        tokio::time::sleep(REST).await;
        resolver.prepare(names(&["still-dead"])).await;
        assert!(lock(&resolver.names).rests(Instant::now()), "one slow answer is enough now");
        tokio::time::sleep(REST).await;
        resolver.prepare(names(&["back"])).await;
        assert_eq!(resolver.address("back"), Some(NEW));
        assert!(!lock(&resolver.names).rests(Instant::now()));
    }
}
