//! Latency at half load: all servers get one rate, half of what the slowest of them can do in a first trial.

use std::time::Duration;

use super::web::{SMALL, Stage, Who};
use super::{Load, Place, Trial, dns as names};
use crate::load::dns::{Manner, run};
use crate::load::questions::{Kind, Questions};
use crate::sample::Outcome;
use crate::server::Server;
use crate::servers::Front;
use crate::servers::names::NAMES;
use crate::trouble::Trouble;

/// Length of the first trial of each.
const TRIAL: Duration = Duration::from_secs(2);
/// Those that come near: against slower ones the rate would say nothing.
const WHO: [Who; 3] = [Who::Bare, Who::Haproxy, Who::Nginx];

pub(super) fn dns(place: &Place) -> Result<Trial, Trouble> {
    let (servers, mut notes) = names::peers(place, Kind::A)?;
    let questions = Questions::new(Kind::A, NAMES, 65_536);
    let at =
        move |server: &Server, time, rate| run(server.port, time, &questions, Manner { sockets: 1, rate });
    let rate = half(&servers, &mut notes, |server, time| at(server, time, None))?;
    let load = Box::new(move |server: &Server, time| at(server, time, Some(rate)));
    Ok(Trial { servers, helpers: Vec::new(), load, notes })
}

pub(super) fn http(place: &Place) -> Result<Trial, Trouble> {
    requests(place, &Stage::new(place, SMALL, 0, Front::Plain)?)
}

pub(super) fn tls(place: &Place) -> Result<Trial, Trouble> {
    requests(place, &Stage::tls(place)?)
}

fn requests(place: &Place, stage: &Stage) -> Result<Trial, Trouble> {
    let (servers, mut notes) = stage.start(place, &WHO)?;
    // More than anyone can do: the next request is due as soon as a connection is free.
    let rate = half(&servers, &mut notes, stage.paced(64, 1e6)?)?;
    Ok(Trial { servers, helpers: Vec::new(), load: stage.paced(64, rate)?, notes })
}

pub(super) fn h2(place: &Place) -> Result<Trial, Trouble> {
    let stage = Stage::tls(place)?;
    let (servers, mut notes) = stage.start(place, &WHO[1..])?;
    let saturated = stage.h2load(None);
    let rate = half(&servers, &mut notes, |server, time| saturated.run(server.port, time))?;
    let paced = stage.h2load(Some(rate));
    let load: Load = Box::new(move |server, time| paced.run(server.port, time));
    Ok(Trial { servers, helpers: Vec::new(), load, notes })
}

/// Half of what the slowest can do, in operations a second.
fn half(
    servers: &[Server],
    notes: &mut Vec<String>,
    load: impl Fn(&Server, Duration) -> Result<Outcome, String>,
) -> Result<f64, String> {
    let mut rates = Vec::new();
    for server in servers {
        rates.push((load(server, TRIAL)?.operations / TRIAL.as_secs_f64(), server.name.as_str()));
    }
    let slowest = rates.iter().copied().min_by(|a, b| a.0.total_cmp(&b.0)).ok_or("no server")?;
    let rate = (slowest.0 / 2.0 / 100.0).round().max(1.0) * 100.0;
    notes.push(format!("rate: {rate:.0}/s, half of what {} can do ({:.0}/s)", slowest.1, slowest.0));
    Ok(rate)
}
