//! One question at the resolvers: who is asked when, and what the first good answer does.

use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use hickory_proto::op::{Message, Metadata, ResponseCode};
use hickory_proto::rr::RecordType;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::cache::{self, Stored};
use super::exchange::{self, Exchange};
use super::flight::Landed;
use super::health::{self, Judgement, Resolver};
use super::question::{Key, Outgoing, Question};
use super::seats::Seat;
use super::sockets::{self, Permit, is_shortage};
use super::{Forwarder, now, random};

/// Queries sent for one question: each resolver twice, within these bounds.
const TRIES_MIN: usize = 3;
const TRIES_MAX: usize = 6;

/// How tries end, as the metric has it.
pub(super) const TRY_OUTCOMES: [&str; 6] =
    ["answered", "error", "garbage", "unreachable", "silent", "overtaken"];

/// A question as it goes out.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) spelling: Box<[u8]>,
    pub(super) token: u64,
}

/// A question on its way. Dropped (at the latest with its runtime), it is no longer in flight, and who waits is told.
pub(super) struct Departure {
    pub(super) forwarder: Arc<Forwarder>,
    pub(super) key: Key,
    pub(super) token: u64,
    /// The state's when it departed.
    pub(super) epoch: u64,
    pub(super) sender: watch::Sender<Option<Landed>>,
    pub(super) _seat: Seat,
}

impl Departure {
    /// Asks, within `timeout`, and tells who waits.
    pub(super) async fn fly(self, asked: Arc<Asked>, timeout: Duration) {
        let forwarder = &self.forwarder;
        let mut race = Race::new(forwarder, asked);
        let answered = tokio::time::timeout(timeout, race.run(timeout / 2)).await.ok().flatten();
        race.judge_open(answered.is_some());
        let landed = if answered.is_none() && race.starved { Landed::Starved } else { self.land(answered) };
        self.sender.send_replace(Some(landed));
    }

    /// Keeps the outcome, unless it is of resolvers that are not asked any more.
    fn land(&self, answered: Option<(Stored, Option<Duration>)>) -> Landed {
        let mut state = self.forwarder.lock();
        let current = state.epoch == self.epoch;
        match answered {
            Some((stored, lifetime)) => {
                let stored = Arc::new(stored);
                if current {
                    state.cache.keep(self.key.clone(), Arc::clone(&stored), lifetime);
                }
                Landed::Answer(stored)
            }
            None => {
                if current {
                    state.cache.keep_failure(self.key.clone(), now());
                }
                Landed::Failed
            }
        }
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        let mut state = self.forwarder.lock();
        state.flights.land(&self.key, self.token);
        self.forwarder.metrics.cache_entries.set(state.cache.len() as i64);
    }
}

/// The tries at one question: the next resolver is asked when the ones before failed, or are slow.
struct Race<'a> {
    forwarder: &'a Arc<Forwarder>,
    asked: Arc<Asked>,
    tries: JoinSet<(SocketAddr, Ended)>,
    open: Vec<(SocketAddr, Instant, Duration)>,
    given_up: Vec<SocketAddr>,
    /// No try is under way, or none is begun any more, for want of a socket.
    starved: bool,
}

/// How a try ended.
enum Ended {
    Answer(Stored, Option<Duration>),
    /// A response code that is no answer, or a referral.
    Error,
    /// Not a DNS message, though its head looked like one.
    Garbage,
    /// The network said no.
    Unreachable,
    /// There was no socket for it.
    Starved,
}

impl Ended {
    fn by(error: &io::Error) -> Self {
        if is_shortage(error) { Self::Starved } else { Self::Unreachable }
    }
}

impl<'a> Race<'a> {
    fn new(forwarder: &'a Arc<Forwarder>, asked: Arc<Asked>) -> Self {
        let (open, given_up) = (Vec::new(), Vec::new());
        Self { forwarder, asked, tries: JoinSet::new(), open, given_up, starved: false }
    }

    /// The first good answer. Without a socket within `socket_wait` it gives up: the rest of the time is the resolver's.
    async fn run(&mut self, socket_wait: Duration) -> Option<(Stored, Option<Duration>)> {
        let free = &self.forwarder.sockets;
        let mut plan = self.plan().into_iter().peekable();
        let mut patience = Duration::ZERO;
        let overload = tokio::time::Instant::now() + socket_wait;
        // Until the first try has its socket.
        self.starved = plan.peek().is_some();
        loop {
            while plan.next_if(|(address, _)| self.given_up.contains(address)).is_some() {}
            if plan.peek().is_none() && self.tries.is_empty() {
                return None;
            }
            let has_other = !self.tries.is_empty();
            tokio::select! {
                // Cancel-safe, all: a finished try stays in the set; the pause is begun anew.
                Some(joined) = self.tries.join_next() => {
                    let Ok((address, ended)) = joined else { continue };
                    if let Some(answer) = self.judge(address, ended) {
                        return Some(answer);
                    }
                    if self.starved {
                        plan = Vec::new().into_iter().peekable();
                    }
                    patience = Duration::ZERO;
                }
                () = tokio::time::sleep_until(overload), if self.starved && !has_other => return None,
                socket = free.after(patience, has_other), if plan.peek().is_some() => {
                    let Some(socket) = socket else {
                        patience = patience.max(sockets::SHORTAGE_PAUSE);
                        continue;
                    };
                    let Some((address, wait)) = plan.next() else { continue };
                    patience = wait;
                    self.start(address, wait, socket);
                }
            }
        }
    }

    /// Whom to ask in turn, and how long to wait before the next.
    fn plan(&self) -> Vec<(SocketAddr, Duration)> {
        let mut state = self.forwarder.lock();
        let state = &mut *state;
        let wanted = state.configured.of(self.asked.question.wire_name());
        let order = health::order(&mut state.resolvers, now(), |address| wanted.contains(&address));
        let tries = (order.len() * 2).clamp(TRIES_MIN, TRIES_MAX);
        (0..tries)
            .filter_map(|turn| {
                let resolver = &state.resolvers[*order.get(turn % order.len().max(1))?];
                let round = u32::try_from(turn / order.len()).unwrap_or(0);
                Some((resolver.address, resolver.patience() * (1 << round)))
            })
            .collect()
    }

    fn start(&mut self, address: SocketAddr, patience: Duration, socket: Permit) {
        let (forwarder, asked) = (Arc::clone(self.forwarder), Arc::clone(&self.asked));
        self.starved = false;
        self.open.push((address, now(), patience));
        self.tries.spawn(async move {
            let ended = forwarder.try_one(address, &asked).await;
            drop(socket);
            (address, ended)
        });
    }

    /// Takes in one try's end; the answer, if it is one.
    fn judge(&mut self, address: SocketAddr, ended: Ended) -> Option<(Stored, Option<Duration>)> {
        let place = self.open.iter().position(|(open, ..)| *open == address);
        let started = place.map(|place| self.open.remove(place).1);
        let time = started.map(|started| now().saturating_duration_since(started)).unwrap_or_default();
        let (judgement, outcome) = match &ended {
            Ended::Answer(..) => (Judgement::Answered(time), "answered"),
            Ended::Error => (Judgement::Failed, "error"),
            Ended::Garbage => (Judgement::Failed, "garbage"),
            Ended::Unreachable => (Judgement::Failed, "unreachable"),
            Ended::Starved => {
                self.starved = true;
                return None;
            }
        };
        self.forwarder.learn(address, judgement, outcome);
        match ended {
            Ended::Answer(stored, lifetime) => {
                self.open.retain(|(open, ..)| *open != address);
                Some((stored, lifetime))
            }
            _ => {
                self.given_up.push(address);
                None
            }
        }
    }

    /// Judges those that have not answered when the race is over.
    fn judge_open(&self, answered: bool) {
        for (address, started, patience) in &self.open {
            let time = now().saturating_duration_since(*started);
            if !answered {
                self.forwarder.learn(*address, Judgement::Failed, "silent");
            } else if time >= *patience {
                self.forwarder.learn(*address, Judgement::Overtaken(time), "overtaken");
            }
        }
    }
}

impl Forwarder {
    async fn try_one(&self, address: SocketAddr, asked: &Asked) -> Ended {
        let (edns, keeps_case) = self.abilities(address);
        let ended = self.ask(address, asked, edns, keeps_case).await;
        let exchange = match ended {
            Ok(exchange) => exchange,
            Err(error) => return Ended::by(&error),
        };
        match exchange.code {
            0 | 3 => taken(exchange),
            // RFC 6891 §7: what FORMERR and NOTIMP say is perhaps only that it doesn't know EDNS.
            1 | 4 if edns => match self.ask(address, asked, false, keeps_case).await {
                Ok(exchange) if matches!(exchange.code, 0 | 3) => {
                    self.with_resolver(address, |resolver| resolver.lacks_edns(now()));
                    taken(exchange)
                }
                Ok(_) => Ended::Error,
                Err(error) => Ended::by(&error),
            },
            _ => Ended::Error,
        }
    }

    async fn ask(
        &self,
        address: SocketAddr,
        asked: &Asked,
        edns: bool,
        keeps_case: bool,
    ) -> io::Result<Exchange> {
        let id = random().ok_or_else(|| io::Error::other("no random numbers"))? as u16;
        let plain = asked.question.key();
        let spelling = if keeps_case { &asked.spelling } else { plain.name() };
        let outgoing = Outgoing::new(&asked.question, id, spelling, asked.token, edns);
        let exchange = exchange::ask(address, &outgoing).await?;
        self.metrics.foreign.inc_by(exchange.foreign.into());
        if exchange.lost_case {
            self.with_resolver(address, |resolver| resolver.loses_case(now()));
        }
        Ok(exchange)
    }

    fn abilities(&self, address: SocketAddr) -> (bool, bool) {
        let now = now();
        let state = self.lock();
        let resolver = state.resolvers.iter().find(|resolver| resolver.address == address);
        resolver.map_or((true, true), |resolver| (resolver.knows_edns(now), resolver.keeps_case(now)))
    }

    fn with_resolver(&self, address: SocketAddr, change: impl FnOnce(&mut Resolver)) {
        let mut state = self.lock();
        if let Some(resolver) = state.resolvers.iter_mut().find(|resolver| resolver.address == address) {
            change(resolver);
        }
    }
}

fn taken(exchange: Exchange) -> Ended {
    match Stored::new(exchange.packet, now()) {
        Some((_, message)) if is_referral(&message) => Ended::Error,
        Some((stored, message)) => {
            let lifetime = cache::lifetime(&message);
            Ended::Answer(stored, lifetime)
        }
        None => Ended::Garbage,
    }
}

/// True for "ask elsewhere", from a server that does not recurse: nothing is said of the name itself, and passed on
/// it would read as "no data" (RFC 2308 §2.2). Nothing found comes with an SOA, or at least from one that recurses or
/// is the authority.
fn is_referral(message: &Message) -> bool {
    let Metadata { response_code, authoritative, recursion_available, .. } = message.metadata;
    let has = |kind| message.authorities.iter().any(|record| record.record_type() == kind);
    response_code == ResponseCode::NoError
        && message.answers.is_empty()
        && !has(RecordType::SOA)
        && (!recursion_available || has(RecordType::NS) && !authoritative)
}
