//! TCP relays beside haproxy, Traefik, Envoy and a bare one.

use super::{Place, Trial, start};
use crate::bare;
use crate::load::{relay, sink};
use crate::server::{Server, accepts};
use crate::servers::haproxy::{self, Build};
use crate::servers::{Front, Web, envoy, portolan, traefik};
use crate::trouble::Trouble;

pub(super) fn bulk(place: &Place) -> Result<Trial, Trouble> {
    let (servers, notes) = relays(place)?;
    let load = Box::new(|server: &Server, time| relay::bulk(server.port, time));
    Ok(Trial { servers, helpers: Vec::new(), load, notes })
}

pub(super) fn connect(place: &Place) -> Result<Trial, Trouble> {
    let (servers, notes) = relays(place)?;
    let load = Box::new(|server: &Server, time| relay::short(server.port, time));
    Ok(Trial { servers, helpers: Vec::new(), load, notes })
}

fn relays(place: &Place) -> Result<(Vec<Server>, Vec<String>), Trouble> {
    let upstreams = sink::ports()?;
    let web = Web { directory: place.directory.clone(), upstreams, front: Front::Plain, hosts: 0 };
    let specs = vec![
        Ok(portolan::relay(&web, "portolan", 17301)?),
        Ok(bare::spec("bare", 17302, "splice", &[bare::list(&web.upstreams)])),
        haproxy::relay(&web, "haproxy", 17303, Build::Debian, false),
        haproxy::relay(&web, "haproxy-splice", 17304, Build::Debian, true),
        traefik::relay(&web, 17305),
        envoy::relay(&web, 17306),
    ];
    start(place, specs, accepts)
}
