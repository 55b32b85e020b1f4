//! One session: the list, then the blocking queries and their turns.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use portolan_table::SharedStr;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::api::{Api, Block, Indexed};
use super::convert::Converted;
use crate::clock;
use crate::source::{Sink, SourceError};
use crate::sources::telling::{Services, Telling};
use crate::sources::unwound;

/// Services watched at once, each on a connection of its own. Consul's own limit for one client is 200.
pub(super) const WATCHES_MAX: usize = 128;
/// With more services than that, all have had their turn after this.
const ROUND: Duration = Duration::from_secs(4);
/// Shortest block of a turn.
const WAIT_MIN: Duration = Duration::from_millis(100);
/// Between two answers to one question.
const PAUSE: Duration = Duration::from_millis(10);
/// After an answer that names no index, or is none.
const LONG_PAUSE: Duration = Duration::from_secs(2);

pub(super) struct Follower<'s> {
    api: Api,
    wait: Duration,
    telling: Telling<'s>,
    known: BTreeMap<SharedStr, Known>,
    /// Services that wait for their turn.
    waiting: VecDeque<SharedStr>,
    watching: usize,
    tasks: JoinSet<Answered>,
    round: u64,
}

/// What is known of a service.
struct Known {
    index: u64,
    pause: Duration,
    /// Tells its own question from one about a former service of this name.
    born: u64,
    /// Answers in a row that may be a refusal.
    refused: u8,
}

const REFUSED: &str =
    "no instance is shown, and the token may be the reason; give it service:read and node:read";

/// To those it denies, Consul shows the service's name and no instances.
fn may_be_refusal(answer: &Indexed<Converted>) -> bool {
    let Converted { service, in_part, problems } = &answer.value;
    let is_empty = service.as_ref().is_some_and(|(_, instances)| instances.is_empty());
    answer.denies && is_empty && !in_part && problems.is_empty()
}

enum Answered {
    Names(Result<Indexed<Vec<String>>, SourceError>),
    Service { name: SharedStr, born: u64, answer: Result<Indexed<Converted>, SourceError> },
}

impl<'s> Follower<'s> {
    pub(super) fn new(api: Api, wait: Duration, sink: &'s Sink) -> Self {
        let telling = Telling::new(sink);
        let (known, waiting, tasks) = (BTreeMap::new(), VecDeque::new(), JoinSet::new());
        Self { api, wait, telling, known, waiting, watching: 0, tasks, round: 0 }
    }

    /// Lists the services of `names`, then follows until something breaks.
    pub(super) async fn follow(&mut self, names: Indexed<Vec<String>>) -> Result<(), SourceError> {
        self.list(&names).await?;
        self.watch_names(names.index, PAUSE);
        loop {
            self.start_watches();
            let Some(answered) = self.tasks.join_next().await else { return Ok(()) };
            match unwound(answered)? {
                Answered::Names(answer) => {
                    let answer = answer?;
                    self.names(&answer).await?;
                    self.watch_names(answer.index, PAUSE);
                }
                Answered::Service { name, born, answer } => self.service(name, born, answer).await?,
            }
        }
    }

    async fn list(&mut self, names: &Indexed<Vec<String>>) -> Result<(), SourceError> {
        self.names_known(&names.value);
        let (mut services, mut problems) = (Services::new(), Vec::new());
        let mut left = self.waiting.len();
        while left > 0 {
            self.start_watches();
            let Some(answered) = self.tasks.join_next().await else { break };
            let Answered::Service { name, answer, .. } = unwound(answered)? else { continue };
            (self.watching, left) = (self.watching - 1, left - 1);
            match answer {
                Ok(answer) if may_be_refusal(&answer) => {
                    problems.push((name.clone(), REFUSED.to_owned()));
                    self.await_turn(name, 0, LONG_PAUSE);
                }
                Ok(answer) => {
                    let converted = answer.value;
                    problems.extend(converted.problems.into_iter().map(|problem| (name.clone(), problem)));
                    if converted.in_part {
                        self.telling.in_part(&name);
                    }
                    services.extend(converted.service.map(|service| (name.clone(), service)));
                    self.await_turn(name, answer.index, PAUSE);
                }
                Err(SourceError::Malformed { message, .. }) => {
                    problems.push((name.clone(), message));
                    self.await_turn(name, 0, LONG_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
        self.telling.list(clock::now(), services, problems).await
    }

    /// Takes in the names of the catalog; those that are new are asked for first. Gives those that are gone.
    fn names_known(&mut self, names: &[String]) -> Vec<SharedStr> {
        let named: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let gone: Vec<SharedStr> =
            self.known.keys().filter(|name| !named.contains(&***name)).cloned().collect();
        for name in &gone {
            self.known.remove(name);
        }
        for name in named {
            if !self.known.contains_key(name) {
                let name = SharedStr::from(name);
                self.round += 1;
                self.known.insert(
                    name.clone(),
                    Known { index: 0, pause: Duration::ZERO, born: self.round, refused: 0 },
                );
                self.waiting.push_front(name);
            }
        }
        gone
    }

    async fn names(&mut self, names: &Indexed<Vec<String>>) -> Result<(), SourceError> {
        if names.value.is_empty() && names.denies {
            let hint = ": but the token may no longer see any service".to_owned();
            return Err(SourceError::Status { place: self.api.base.to_string(), status: 200, hint });
        }
        for name in self.names_known(&names.value) {
            self.telling.service(names.received, &name, None).await?;
        }
        self.telling.alive(names.received).await
    }

    async fn service(
        &mut self,
        name: SharedStr,
        born: u64,
        answer: Result<Indexed<Converted>, SourceError>,
    ) -> Result<(), SourceError> {
        self.watching -= 1;
        // Taken out of the catalog meanwhile, and perhaps put in again: not this question's business.
        if self.known.get(&name).is_none_or(|known| known.born != born) {
            return Ok(());
        }
        match answer {
            Ok(answer) if may_be_refusal(&answer) => {
                // The last instance may have gone as well: the catalog says so next, and takes the name away.
                let refused = self.known.get_mut(&name).map_or(0, |known| {
                    known.refused = known.refused.saturating_add(1);
                    known.refused
                });
                if refused == 2 {
                    self.telling.problem(answer.received, name.clone(), REFUSED.to_owned()).await?;
                }
                self.await_turn(name, 0, LONG_PAUSE);
            }
            Ok(answer) => {
                if let Some(known) = self.known.get_mut(&name) {
                    known.refused = 0;
                }
                let Converted { service, in_part, problems } = answer.value;
                for problem in problems {
                    self.telling.problem(answer.received, name.clone(), problem).await?;
                }
                if in_part {
                    self.telling.in_part(&name);
                }
                self.telling.service(answer.received, &name, service).await?;
                self.telling.alive(answer.received).await?;
                let pause = if answer.index == 0 { LONG_PAUSE } else { PAUSE };
                self.await_turn(name, answer.index, pause);
            }
            Err(SourceError::Malformed { message, .. }) => {
                self.telling.problem(clock::now(), name.clone(), message).await?;
                self.await_turn(name, 0, LONG_PAUSE);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The service is asked for again, with what is newer than `index`. An index that has gone back means nothing any more:
    /// the servers were restored from a snapshot.
    fn await_turn(&mut self, name: SharedStr, index: u64, pause: Duration) {
        let Some(known) = self.known.get_mut(&name) else { return };
        known.index = if index < known.index { 0 } else { index };
        known.pause = pause;
        self.waiting.push_back(name);
    }

    fn start_watches(&mut self) {
        let wait = self.turn();
        while self.watching < WATCHES_MAX {
            let Some(name) = self.waiting.pop_front() else { return };
            let Some(known) = self.known.get(&name) else { continue };
            let (api, pause, born) = (self.api.clone(), known.pause, known.born);
            let block = Block { index: known.index, wait };
            self.watching += 1;
            self.tasks.spawn(async move {
                sleep(pause).await;
                let answer = api.health(&name, block).await;
                Answered::Service { name, born, answer }
            });
        }
    }

    /// How long one query may block, so that all have their turn in time.
    fn turn(&self) -> Duration {
        let (services, seats) = (self.known.len(), WATCHES_MAX);
        if services <= seats {
            return self.wait;
        }
        let share = u32::try_from(seats).unwrap_or(u32::MAX);
        let turn = ROUND * share / u32::try_from(services).unwrap_or(u32::MAX);
        turn.clamp(WAIT_MIN, self.wait.max(WAIT_MIN))
    }

    fn watch_names(&mut self, index: u64, pause: Duration) {
        let (api, wait) = (self.api.clone(), self.wait);
        let pause = if index == 0 { LONG_PAUSE } else { pause };
        self.tasks.spawn(async move {
            sleep(pause).await;
            let answer = api.catalog(Block { index, wait }).await;
            // As with services: an index that has gone back begins anew.
            let reset = |answer: Indexed<_>| match answer.index < index {
                true => Indexed { index: 0, ..answer },
                false => answer,
            };
            Answered::Names(answer.map(reset))
        });
    }
}
