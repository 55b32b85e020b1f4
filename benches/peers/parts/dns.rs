//! DNS beside knot, nsd and a bare responder, and Portolan beside itself.

use std::time::Duration;

use super::{Place, Trial, start};
use crate::bare;
use crate::load::dns::{Manner, run};
use crate::load::probe;
use crate::load::questions::{Kind, Questions};
use crate::server::{Server, Spec};
use crate::servers::names::{self, NAMES};
use crate::servers::portolan::{self, Names};
use crate::trouble::Trouble;

/// Prepared queries; more than names, so that each name is asked for.
const QUESTIONS: usize = 65_536;
const SATURATED: Manner = Manner { sockets: 1, rate: None };
const CHANGING: &str = "portolan-churn";
/// Tables a second that must have been published while 100 changes a second happen: those that come together are
/// published together.
const PUBLISHED_MIN: f64 = 50.0;
/// The cluster that changes: it is not asked for, so that its names are no part of the comparison.
const CHURN: [&str; 5] = ["sim", "--apps", "1000", "--tasks", "10000"];

pub(super) fn a(place: &Place) -> Result<Trial, Trouble> {
    beside_peers(place, Kind::A)
}

pub(super) fn srv(place: &Place) -> Result<Trial, Trouble> {
    beside_peers(place, Kind::Srv)
}

fn beside_peers(place: &Place, kind: Kind) -> Result<Trial, Trouble> {
    let (servers, notes) = peers(place, kind)?;
    let questions = Questions::new(kind, NAMES, QUESTIONS);
    let load = Box::new(move |server: &Server, time| run(server.port, time, &questions, SATURATED));
    Ok(Trial { servers, helpers: Vec::new(), load, notes })
}

/// knot, nsd, the bare responder and Portolan with the same names, all serving.
pub(super) fn peers(place: &Place, kind: Kind) -> Result<(Vec<Server>, Vec<String>), Trouble> {
    let directory = &place.directory;
    let zone = names::zone(directory)?;
    let own =
        Names { directory: directory.clone(), services: names::services(directory, NAMES)?, marathon: None };
    let specs = vec![
        Ok(portolan::dns(&own, "portolan", 15301, 1)?),
        Ok(bare::spec("bare", 15302, "dns", std::slice::from_ref(&zone))),
        names::knot(directory, &zone, 15303),
        names::nsd(directory, &zone, 15304, kind == Kind::A),
    ];
    start(place, specs, |server| probe::dns(server.port, NAMES))
}

/// The same queries to a small and a large table; as many prepared as the large one has names.
pub(super) fn large(place: &Place) -> Result<Trial, Trouble> {
    let spec = |name: &str, port, count| -> Result<Spec, Trouble> {
        let services = names::services(&place.directory, count)?;
        let own = Names { directory: place.directory.clone(), services, marathon: None };
        portolan::dns(&own, name, port, 1)
    };
    let specs = vec![Ok(spec("portolan", 15301, NAMES)?), Ok(spec("portolan-1m", 15302, place.names)?)];
    let count = place.names;
    let names_of = move |port| if port == 15302 { count } else { NAMES };
    let (servers, mut notes) = start(place, specs, |server| probe::dns(server.port, names_of(server.port)))?;
    notes.push(format!("the large table has {count} names of 4 addresses ({} endpoints)", 4 * count));
    let questions = [NAMES, count].map(|names| Questions::new(Kind::A, names, QUESTIONS.max(count)));
    let load = Box::new(move |server: &Server, time| {
        run(server.port, time, &questions[usize::from(server.port == 15302)], SATURATED)
    });
    Ok(Trial { servers, helpers: Vec::new(), load, notes })
}

/// Both follow a simulated Marathon besides; that of one changes.
pub(super) fn churn(place: &Place) -> Result<Trial, Trouble> {
    let services = names::services(&place.directory, NAMES)?;
    let (mut helpers, mut specs) = (Vec::new(), Vec::new());
    for (name, port, rate) in [("portolan", 15301, None), (CHANGING, 15302, Some("100/s"))] {
        let (sim, url) = simulation(place, port, rate)?;
        helpers.push(sim);
        let own =
            Names { directory: place.directory.clone(), services: services.clone(), marathon: Some(url) };
        specs.push(Ok(portolan::dns(&own, name, port, 1)?));
    }
    let (servers, mut notes) = start(place, specs, |server| probe::dns(server.port, NAMES))?;
    notes.push(
        "the changes: kills, failing and recovering checks of 10,000 tasks of `portolan sim` with `--rate 100/s`, \
         followed by its event stream; the cost includes following them"
            .to_owned(),
    );
    let questions = Questions::new(Kind::A, NAMES, QUESTIONS);
    let load = Box::new(move |server: &Server, time: Duration| {
        let before = portolan::generation(server.port)?;
        let outcome = run(server.port, time, &questions, SATURATED)?;
        let published = (portolan::generation(server.port)? - before) as f64 / time.as_secs_f64();
        // A warm-up is too short to tell.
        if server.name == CHANGING && published < PUBLISHED_MIN && time >= Duration::from_secs(1) {
            return Err(format!("only {published:.0} tables a second were published"));
        }
        Ok(outcome)
    });
    Ok(Trial { servers, helpers, load, notes })
}

/// A simulated Marathon on the load's CPU, and its URL.
fn simulation(place: &Place, port: u16, rate: Option<&str>) -> Result<(Server, String), String> {
    let port = port + 100;
    let address = format!("127.0.0.1:{port}");
    let mut command = vec![portolan::PROGRAM];
    command.extend(CHURN);
    command.extend(["--listen", &address]);
    command.extend(rate.into_iter().flat_map(|rate| ["--rate", rate]));
    let mut spec = Spec::new(&format!("sim-{port}"), port, &command);
    spec.cpus = "1";
    let mut server = Server::start(&spec, &place.directory)?;
    server.ready(crate::server::accepts)?;
    Ok((server, format!("http://{address}")))
}
