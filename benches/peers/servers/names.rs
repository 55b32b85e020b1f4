//! The names that the DNS servers serve, and knot and nsd.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::file;
use crate::load::questions::{ADDRESSES, address};
use crate::server::Spec;

/// Names of the ordinary zone.
pub(crate) const NAMES: usize = 10_000;
/// Services of one file; a file source has a limit on the size of each.
const FILE_NAMES: usize = 10_000;

/// A name of the native zone's instance, as long as a real one.
fn target(n: usize, k: u8) -> String {
    format!("i{n:06}abcde{k}.inst.svc{n:07}")
}

/// The zone file that knot, nsd and the bare responder read.
pub(crate) fn zone(directory: &Path) -> Result<String, String> {
    let mut zone = String::from(
        "$ORIGIN svc.cluster.\n$TTL 5\n@ IN SOA ns root 1 60 60 600 5\n@ IN NS ns\nns IN A 127.0.0.1\n",
    );
    for n in 1..=NAMES {
        for k in 1..=ADDRESSES {
            let (address, target) = (address(n, k), target(n, k));
            let _ = writeln!(zone, "svc{n:07} IN A {address}");
            let _ = writeln!(zone, "_http._tcp.svc{n:07} IN SRV 0 1 8080 {target}");
            let _ = writeln!(zone, "{target} IN A {address}");
        }
    }
    file(directory, "svc.cluster.zone", &zone)
}

/// A folder of services of four endpoints for Portolan's file source.
pub(crate) fn services(directory: &Path, names: usize) -> Result<PathBuf, String> {
    let folder = directory.join(format!("services-{names}"));
    for begin in (0..names).step_by(FILE_NAMES) {
        let end = (begin + FILE_NAMES).min(names);
        let mut text = String::from("{\"services\": [");
        for n in begin + 1..=end {
            let endpoints: Vec<String> = (1..=ADDRESSES).map(|k| format!("\"{}\"", address(n, k))).collect();
            let comma = if n == begin + 1 { "" } else { "," };
            let _ = write!(
                text,
                "{comma}\n{{\"name\": \"svc{n:07}\", \"ports\": [{{\"name\": \"http\", \"number\": 8080}}], \"endpoints\": [{}]}}",
                endpoints.join(", ")
            );
        }
        text.push_str("\n]}\n");
        file(&folder, &format!("{begin:07}.json"), &text)?;
    }
    Ok(folder)
}

/// knot with the zone.
pub(crate) fn knot(directory: &Path, zone: &str, port: u16) -> Result<Spec, String> {
    let d = directory.join("knot").display().to_string();
    fs::create_dir_all(&d).map_err(|e| e.to_string())?;
    let text = format!(
        "server:\n    rundir: {d}\n    listen: 127.0.0.1@{port}\n    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\n\
         database:\n    storage: {d}\nlog:\n  - target: stderr\n    any: warning\n\
         zone:\n  - domain: svc.cluster\n    file: {zone}\n    zonefile-sync: -1\n    journal-content: none\n"
    );
    Ok(Spec::new("knot", port, &["knotd", "-c", &file(directory, "knot.conf", &text)?]))
}

/// nsd with the zone. `minimal`: without what was not asked for; it then leaves out the addresses of targets too.
pub(crate) fn nsd(directory: &Path, zone: &str, port: u16, minimal: bool) -> Result<Spec, String> {
    let minimal = if minimal { "yes" } else { "no" };
    let d = directory.join("nsd").display().to_string();
    fs::create_dir_all(&d).map_err(|e| e.to_string())?;
    let text = format!(
        "server:\n  server-count: 1\n  ip-address: 127.0.0.1@{port}\n  do-ip6: no\n  username: \"\"\n  database: \"\"\n\
         \x20 pidfile: \"{d}/nsd.pid\"\n  xfrdfile: \"{d}/xfrd.state\"\n  zonelistfile: \"{d}/zone.list\"\n\
         \x20 minimal-responses: {minimal}\n  rrl-ratelimit: 0\nremote-control:\n  control-enable: no\n\
         zone:\n  name: svc.cluster\n  zonefile: {zone}\n"
    );
    Ok(Spec::new("nsd", port, &["nsd", "-d", "-c", &file(directory, "nsd.conf", &text)?]))
}
