//! Who may ask, and how often: access lists, cookies and rate limits, the same on both paths.
//!
//! ```text
//!  query ─► allow_query? ─► cookie ─┬─ valid: known ────────────────► answer ─► with cookie ─► sent
//!             │ no: refuse or drop  ├─ none, new, invalid: unknown ─► answer ─► rate limit (UDP) ─► sent, TC, dropped
//!                                   └─ malformed: FORMERR; unknown and wanted: BADCOOKIE
//! ```
//!
//! `Rules::enter` is pure and judges for both paths. A [`Gate`] is one worker's: the rules as it last saw them,
//! its buckets, and the time of the batch. With nothing configured it reads no clock and asks nothing.

use core::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arc_swap::{ArcSwap, Cache};

use crate::answer::{Terms, bare};
use crate::config::{Config, Denied};
use crate::cookie::{self, Cookie, OPTION_LEN, Secrets, Shown};
use crate::metrics::Tally;
use crate::networks::Networks;
use crate::rate::{self, Class, Limiter, Verdict};
use crate::wire::{Query, Rcode};

/// What the configuration says about who may ask.
#[derive(Debug)]
pub struct Rules {
    /// Everybody may, if there is no list.
    access: Option<Networks>,
    denied: Denied,
    cookies: Option<Cookies>,
    rate: Option<rate::Rules>,
}

#[derive(Debug)]
struct Cookies {
    secrets: Arc<Secrets>,
    required: bool,
}

/// How a query is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// To be answered; with a cookie if one was shown. Whoever is known is not limited.
    Pass { cookie: Option<Cookie>, known: bool },
    /// To be answered with this code and nothing more.
    Refuse { rcode: Rcode, cookie: Option<Cookie> },
    /// Not to be answered.
    Drop,
}

impl Rules {
    /// `secrets` make cookies, if the configuration wants them.
    #[must_use]
    pub fn new(config: &Config, secrets: &Arc<Secrets>) -> Self {
        let cookies = Cookies { secrets: Arc::clone(secrets), required: config.cookies.required };
        Self {
            access: config.allow_query.as_deref().map(Networks::new),
            denied: config.query_denied,
            cookies: config.cookies.enabled.then_some(cookies),
            rate: rate::Rules::new(&config.rate_limit),
        }
    }

    /// True if judging takes the time of day.
    #[inline]
    pub(crate) fn need_time(&self) -> bool {
        self.cookies.is_some()
    }

    /// Judges a query. `now` is in Unix seconds, and looked at only where [time is needed](Self::need_time).
    #[inline]
    pub(crate) fn enter(
        &self,
        query: &Query<'_>,
        client: IpAddr,
        over_udp: bool,
        now: u32,
        tally: &mut Tally,
    ) -> Entry {
        if self.access.as_ref().is_some_and(|access| !access.allows(client)) {
            tally.denied();
            return match self.denied {
                Denied::Refuse => Entry::Refuse { rcode: Rcode::Refused, cookie: None },
                Denied::Drop => Entry::Drop,
            };
        }
        match (&self.cookies, query.cookie()) {
            (Some(cookies), Some(option)) => cookies.enter(option, client, over_udp, now, tally),
            _ => Entry::Pass { cookie: None, known: false },
        }
    }
}

impl Cookies {
    fn enter(&self, option: &[u8], client: IpAddr, over_udp: bool, now: u32, tally: &mut Tally) -> Entry {
        let shown = cookie::judge(&self.secrets, option, client, now);
        tally.cookie(shown);
        match shown {
            Shown::Valid(cookie) => Entry::Pass { cookie: Some(cookie), known: true },
            Shown::Malformed => Entry::Refuse { rcode: Rcode::FormErr, cookie: None },
            // Over TCP the address is proven already (RFC 7873 §5.2.3).
            Shown::New(cookie) | Shown::Invalid(cookie) if self.required && over_udp => {
                Entry::Refuse { rcode: Rcode::BadCookie, cookie: Some(cookie) }
            }
            Shown::New(cookie) | Shown::Invalid(cookie) => Entry::Pass { cookie: Some(cookie), known: false },
        }
    }
}

impl Entry {
    #[inline]
    fn cookie(&self) -> Option<&Cookie> {
        match self {
            Self::Pass { cookie, .. } | Self::Refuse { cookie, .. } => cookie.as_ref(),
            Self::Drop => None,
        }
    }

    /// Octets to leave free in the reply.
    #[inline]
    pub(crate) fn reserve(&self) -> usize {
        if self.cookie().is_some() { OPTION_LEN } else { 0 }
    }

    /// True if the client's address is no lie.
    #[inline]
    pub(crate) fn is_known(&self) -> bool {
        matches!(self, Self::Pass { known: true, .. })
    }

    /// Puts what the client is to be told into a finished reply; returns its length.
    #[inline]
    pub(crate) fn finish(&self, reply: &mut [u8], len: usize) -> usize {
        self.cookie().map_or(len, |cookie| cookie::put(reply, len, cookie))
    }
}

/// One worker's gate of one listener.
#[derive(Debug)]
pub struct Gate {
    shared: Cache<Arc<ArcSwap<Rules>>, Arc<Rules>>,
    rules: Arc<Rules>,
    limiter: Limiter,
    start: Instant,
    /// Milliseconds from the start.
    now_ms: u32,
    /// Unix seconds.
    now: u32,
}

impl Gate {
    /// A gate by `rules`, which it follows, of a listener whose clients come to `workers` workers.
    #[must_use]
    pub fn new(rules: &Arc<ArcSwap<Rules>>, workers: usize) -> Self {
        let mut shared = Cache::new(Arc::clone(rules));
        let rules = Arc::clone(shared.load());
        let mut limiter = Limiter::new(workers);
        limiter.fit(rules.rate.as_ref());
        Self { shared, rules, limiter, start: Instant::now(), now_ms: 0, now: 0 }
    }

    /// Takes over rules that are new and the time, if there is a use for it. Once per batch.
    #[inline]
    pub(crate) fn refresh(&mut self) {
        let latest = self.shared.load();
        if !Arc::ptr_eq(latest, &self.rules) {
            self.rules = Arc::clone(latest);
            self.limiter.fit(self.rules.rate.as_ref());
        }
        if self.rules.need_time() {
            self.now = unix_seconds();
        }
        if self.rules.rate.is_some() {
            self.now_ms = self.start.elapsed().as_millis() as u32;
        }
    }

    /// [`Rules::enter`] for a query over UDP.
    #[inline]
    pub(crate) fn enter(&self, query: &Query<'_>, client: IpAddr, tally: &mut Tally) -> Entry {
        self.rules.enter(query, client, true, self.now, tally)
    }

    /// Lets a finished reply of `len` octets out: returns its length, which is another one if it is to be cut, and 0
    /// if it is to be dropped. Counts it as limited then.
    #[inline]
    pub(crate) fn limit(
        &mut self,
        (rcode, len): (Rcode, usize),
        client: IpAddr,
        query: Option<&Query<'_>>,
        (terms, entry): (&Terms, &Entry),
        (reply, tally): (&mut [u8], &mut Tally),
    ) -> usize {
        let Some(rules) = self.rules.rate.as_ref().filter(|_| !entry.is_known()) else { return len };
        let class = Class::of(rcode, reply);
        match (self.limiter.judge(rules, client, class, query, self.now_ms), query) {
            (Verdict::Send, _) => len,
            (Verdict::Slip, Some(query)) => {
                tally.slipped();
                let written = bare(query, Rcode::NoError, terms, reply);
                reply[2] |= 2;
                entry.finish(reply, written.len)
            }
            // What cannot be read cannot be asked again by TCP either.
            (Verdict::Slip | Verdict::Drop, _) => {
                tally.dropped();
                0
            }
        }
    }
}

/// The time of day as cookies have it: it wraps in 2106, and they know.
pub(crate) fn unix_seconds() -> u32 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32)
}
