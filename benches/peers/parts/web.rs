//! HTTP beside haproxy, nginx, Envoy, Traefik and a bare forwarder.

use std::time::Duration;

use super::{Load, Place, Trial, start};
use crate::bare;
use crate::certificate::Certificate;
use crate::load::h2load::H2load;
use crate::load::paced::Paced;
use crate::load::probe::Probe;
use crate::load::wrk::{Wrk, hosts_script};
use crate::load::{handshake, origin};
use crate::server::{Server, Spec, accepts};
use crate::servers::haproxy::{self, Build};
use crate::servers::{Front, Web, envoy, host, nginx, portolan, traefik};
use crate::trouble::Trouble;

/// Octets of an ordinary body.
pub(super) const SMALL: usize = 128;
const VHOSTS: usize = 1000;

/// Who takes part besides Portolan.
#[derive(Clone, Copy)]
pub(super) enum Who {
    Bare,
    Haproxy,
    /// With bodies through pipes.
    HaproxySplice,
    /// The Python package's.
    HaproxyNewer,
    Nginx,
    Envoy,
    Traefik,
}

use Who::{Bare, Envoy, Haproxy, HaproxyNewer, HaproxySplice, Nginx, Traefik};

impl Who {
    fn spec(self, web: &Web) -> Result<Spec, String> {
        match self {
            Bare => Ok(bare_forwarder(web, 16302)),
            Haproxy => haproxy::web(web, "haproxy", 16303, Build::Debian, false),
            HaproxySplice => haproxy::web(web, "haproxy-splice", 16304, Build::Debian, true),
            HaproxyNewer => haproxy::web(web, "haproxy-newer", 16305, Build::Python, false),
            Nginx => nginx::web(web, 16306),
            Envoy => envoy::web(web, 16307),
            Traefik => traefik::web(web, 16308),
        }
    }
}

fn bare_forwarder(web: &Web, port: u16) -> Spec {
    let mut arguments = vec![bare::list(&web.upstreams)];
    if let Front::Tls(certificate) = &web.front {
        arguments.extend([&certificate.chain, &certificate.key].map(|path| path.display().to_string()));
    }
    bare::spec("bare", port, "http", &arguments)
}

/// What is set up: the proxies before upstreams of one body size.
pub(super) struct Stage {
    pub(super) web: Web,
    pub(super) certificate: Option<Certificate>,
    body: usize,
}

impl Stage {
    pub(super) fn new(place: &Place, body: usize, hosts: usize, front: Front) -> Result<Self, String> {
        let certificate = match &front {
            Front::Tls(certificate) => Some(certificate.clone()),
            _ => None,
        };
        let web = Web { directory: place.directory.clone(), upstreams: origin::start(body)?, front, hosts };
        Ok(Self { web, certificate, body })
    }

    /// Over TLS.
    pub(super) fn tls(place: &Place) -> Result<Self, String> {
        Self::new(place, SMALL, 0, Front::Tls(Certificate::make(&place.directory)?))
    }

    /// Starts Portolan and the others.
    pub(super) fn start(&self, place: &Place, who: &[Who]) -> Result<(Vec<Server>, Vec<String>), Trouble> {
        let mut specs = vec![Ok(portolan::web(&self.web, "portolan", 16301, 1)?)];
        specs.extend(who.iter().map(|who| who.spec(&self.web)));
        start(place, specs, accepts)
    }

    /// What a single request must give.
    fn probe(&self, port: u16) -> Result<Probe, String> {
        let host = if self.web.hosts == 0 { "web".to_owned() } else { host(self.web.hosts - 1) };
        let tls = self.certificate.as_ref().map(Certificate::client).transpose()?;
        Ok(Probe { port, host, body: self.body, tls })
    }

    /// wrk at full load.
    pub(super) fn wrk(self, connections: usize) -> Result<Load, String> {
        let script = match self.web.hosts {
            0 => None,
            hosts => Some(hosts_script(&self.web.directory, hosts)?),
        };
        let openssl = self.certificate.as_ref().map(|certificate| certificate.openssl.clone());
        let wrk = Wrk { connections, script, openssl };
        Ok(Box::new(move |server, time| wrk.run(&self.probe(server.port)?, time)))
    }

    /// Requests at a rate.
    pub(super) fn paced(&self, connections: usize, rate: f64) -> Result<Load, String> {
        let tls = self.certificate.as_ref().map(Certificate::client).transpose()?;
        let paced = Paced { connections, rate, body: self.body, tls };
        Ok(Box::new(move |server, time| paced.run(server.port, time)))
    }

    /// HTTP/2, at a rate or saturated.
    pub(super) fn h2load(&self, rate: Option<f64>) -> H2load {
        let log = self.web.directory.join("h2load.log");
        let openssl = self.certificate.as_ref().map(|certificate| certificate.openssl.clone());
        let rate = rate.map(|rate| (rate, log));
        H2load { connections: 16, streams: 8, body: self.body, openssl, rate }
    }
}

fn saturated(place: &Place, stage: Stage, who: &[Who], connections: usize) -> Result<Trial, Trouble> {
    let (servers, notes) = stage.start(place, who)?;
    Ok(Trial { servers, helpers: Vec::new(), load: stage.wrk(connections)?, notes })
}

pub(super) fn http(place: &Place) -> Result<Trial, Trouble> {
    let stage = Stage::new(place, SMALL, 0, Front::Plain)?;
    saturated(place, stage, &[Bare, Haproxy, HaproxyNewer, Nginx, Envoy, Traefik], 64)
}

pub(super) fn paced(place: &Place) -> Result<Trial, Trouble> {
    let stage = Stage::new(place, SMALL, 0, Front::Plain)?;
    let (servers, notes) = stage.start(place, &[Bare, Haproxy, Nginx, Envoy])?;
    Ok(Trial { servers, helpers: Vec::new(), load: stage.paced(16, 4000.0)?, notes })
}

pub(super) fn medium(place: &Place) -> Result<Trial, Trouble> {
    let stage = Stage::new(place, 16 << 10, 0, Front::Plain)?;
    saturated(place, stage, &[Bare, Haproxy, Nginx, Envoy], 64)
}

pub(super) fn vhosts(place: &Place) -> Result<Trial, Trouble> {
    let stage = Stage::new(place, SMALL, VHOSTS, Front::Plain)?;
    saturated(place, stage, &[Haproxy, Nginx, Envoy, Traefik], 64)
}

pub(super) fn large(place: &Place) -> Result<Trial, Trouble> {
    let stage = Stage::new(place, 1 << 20, 0, Front::Plain)?;
    saturated(place, stage, &[Bare, Haproxy, HaproxySplice, Nginx], 16)
}

pub(super) fn tls(place: &Place) -> Result<Trial, Trouble> {
    let stage = Stage::tls(place)?;
    saturated(place, stage, &[Bare, Haproxy, HaproxyNewer, Nginx, Envoy, Traefik], 64)
}

pub(super) fn handshake(place: &Place) -> Result<Trial, Trouble> {
    let stage = Stage::tls(place)?;
    let (servers, notes) = stage.start(place, &[Bare, Haproxy, HaproxyNewer, Nginx, Envoy, Traefik])?;
    let probe = stage.probe(0)?;
    let load = Box::new(move |server: &Server, time: Duration| {
        let tls = probe.tls.as_ref().ok_or("handshakes need TLS")?;
        handshake::run(server.port, time, tls, SMALL)
    });
    Ok(Trial { servers, helpers: Vec::new(), load, notes })
}

pub(super) fn h2(place: &Place) -> Result<Trial, Trouble> {
    two(place, &Stage::tls(place)?)
}

pub(super) fn h2c(place: &Place) -> Result<Trial, Trouble> {
    two(place, &Stage::new(place, SMALL, 0, Front::H2c)?)
}

fn two(place: &Place, stage: &Stage) -> Result<Trial, Trouble> {
    let (servers, notes) = stage.start(place, &[Haproxy, HaproxyNewer, Nginx, Envoy, Traefik])?;
    let load = stage.h2load(None);
    let load = Box::new(move |server: &Server, time| load.run(server.port, time));
    Ok(Trial { servers, helpers: Vec::new(), load, notes })
}
