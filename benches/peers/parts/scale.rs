//! Two workers beside one, both free to use CPUs 0 and 1, with the load on CPU 1 as ever. With two CPUs in all, the second
//! worker has to share its CPU with the load: what shows is the sum of shared cache lines, smaller batches and displaced caches,
//! an upper bound of what sharing costs where every worker has a CPU of its own.

use super::web::{SMALL, Stage};
use super::{Place, Trial, start};
use crate::load::dns::{Manner, run};
use crate::load::probe;
use crate::load::questions::{Kind, Questions};
use crate::server::{Server, Spec, accepts};
use crate::servers::Front;
use crate::servers::names::{self, NAMES};
use crate::servers::portolan::{self, Names};
use crate::trouble::Trouble;

/// Client sockets, so that the kernel spreads queries over both workers.
const MANNER: Manner = Manner { sockets: 8, rate: None };
const WORKERS: [(&str, usize); 2] = [("portolan", 1), ("portolan-2-workers", 2)];

pub(super) fn dns(place: &Place) -> Result<Trial, Trouble> {
    let services = names::services(&place.directory, NAMES)?;
    let own = Names { directory: place.directory.clone(), services, marathon: None };
    let specs = both(|name, port, workers| portolan::dns(&own, name, port, workers))?;
    let (servers, notes) = start(place, specs, |server| probe::dns(server.port, NAMES))?;
    let questions = Questions::new(Kind::A, NAMES, 65_536);
    let load = Box::new(move |server: &Server, time| run(server.port, time, &questions, MANNER));
    Ok(Trial { servers, helpers: Vec::new(), load, notes })
}

pub(super) fn http(place: &Place) -> Result<Trial, Trouble> {
    let stage = Stage::new(place, SMALL, 0, Front::Plain)?;
    let specs = both(|name, port, workers| portolan::web(&stage.web, name, port, workers))?;
    let (servers, notes) = start(place, specs, accepts)?;
    Ok(Trial { servers, helpers: Vec::new(), load: stage.wrk(64)?, notes })
}

fn both(
    spec: impl Fn(&str, u16, usize) -> Result<Spec, Trouble>,
) -> Result<Vec<Result<Spec, String>>, Trouble> {
    let free = |(name, workers)| {
        spec(name, 16301 + workers as u16, workers).map(|spec| Spec { cpus: "0,1", ..spec })
    };
    WORKERS.into_iter().map(|which| free(which).map(Ok)).collect()
}
