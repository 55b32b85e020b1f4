//! Portolan as it was built with this bench.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Front, Web, file, host};
use crate::server::Spec;
use crate::trouble::Trouble;

/// The program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_portolan");

/// The admin side listens so far above the port that is measured.
const ADMIN: u16 = 500;

/// Where DNS data comes from.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) directory: PathBuf,
    /// A file or folder of services.
    pub(crate) services: PathBuf,
    /// A Marathon to follow besides.
    pub(crate) marathon: Option<String>,
}

/// Serves names over DNS.
pub(crate) fn dns(names: &Names, name: &str, port: u16, workers: usize) -> Result<Spec, Trouble> {
    let mut text = head(&names.directory, name, port, workers, &names.services);
    if let Some(url) = &names.marathon {
        let _ = writeln!(text, "[[source]]\ntype = \"marathon\"\nurls = [\"{url}\"]");
    }
    let _ = write!(
        text,
        "[dns]\nlisten = [\"127.0.0.1:{port}\"]\n[[dns.zone]]\nname = \"svc.cluster\"\nschema = \"native\"\n"
    );
    spec(&names.directory, name, port, &text)
}

/// In front of HTTP upstreams.
pub(crate) fn web(web: &Web, name: &str, port: u16, workers: usize) -> Result<Spec, Trouble> {
    let protocol = if web.certificate().is_some() { "https" } else { "http" };
    let mut text = proxy(web, name, port, workers, protocol)?;
    for n in 0..web.hosts {
        let group = n % web.groups();
        let _ = write!(
            text,
            "[[proxy.route]]\nlistener = \"front\"\nhost = \"{}\"\nservice = \"group{group}\"\n",
            host(n)
        );
    }
    if web.hosts == 0 {
        text.push_str("[[proxy.route]]\nlistener = \"front\"\nservice = \"group0\"\n");
    }
    if let Front::Tls(certificate) = &web.front {
        let (chain, key) = (certificate.chain.display(), certificate.key.display());
        let _ = write!(text, "[[proxy.certificate]]\ncert = \"{chain}\"\nkey = \"{key}\"\n");
    }
    spec(&web.directory, name, port, &text)
}

/// In front of TCP upstreams.
pub(crate) fn relay(web: &Web, name: &str, port: u16) -> Result<Spec, Trouble> {
    let mut text = proxy(web, name, port, 1, "tcp")?;
    text.push_str("[[proxy.route]]\nlistener = \"front\"\nservice = \"group0\"\n");
    spec(&web.directory, name, port, &text)
}

fn head(directory: &Path, name: &str, port: u16, workers: usize, services: &Path) -> String {
    let state = directory.join(format!("{name}-state"));
    format!(
        "[node]\nname = \"bench\"\nworkers = {workers}\nstate_dir = \"{}\"\n\
         [[source]]\ntype = \"file\"\npaths = [\"{}\"]\n[admin]\nlisten = \"127.0.0.1:{}\"\n",
        state.display(),
        services.display(),
        port + ADMIN
    )
}

/// The number of the table in force at the server on `port`.
pub(crate) fn generation(port: u16) -> Result<u64, String> {
    let answer = ask(port, "/api/v1/table").map_err(|e| format!("admin of port {port}: {e}"))?;
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    let table: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    table["generation"].as_u64().ok_or_else(|| format!("admin of port {port}: no generation"))
}

/// True once the server on `port` has read its services: it accepts before that.
pub(crate) fn ready(port: u16) -> bool {
    ask(port, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn ask(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port + ADMIN))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn proxy(web: &Web, name: &str, port: u16, workers: usize, protocol: &str) -> Result<String, Trouble> {
    let endpoints: Vec<String> = web.upstreams.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    let service =
        |group: usize| format!("{{\"name\": \"group{group}\", \"endpoints\": [{}]}}", endpoints.join(", "));
    let services: Vec<String> = (0..web.groups()).map(service).collect();
    let text = format!("{{\"services\": [{}]}}\n", services.join(",\n"));
    let services = file(&web.directory, &format!("{name}-services.json"), &text)?;
    let mut text = head(&web.directory, name, port, workers, Path::new(&services));
    let _ = write!(
        text,
        "[[proxy.listener]]\nname = \"front\"\nbind = \"127.0.0.1:{port}\"\nprotocol = \"{protocol}\"\n"
    );
    Ok(text)
}

/// Writes the configuration and asks the program whether it can be used.
fn spec(directory: &Path, name: &str, port: u16, text: &str) -> Result<Spec, Trouble> {
    let path = file(directory, &format!("{name}.toml"), text)?;
    let check = Command::new(PROGRAM).args(["check", &path]).output();
    let check = check.map_err(|e| format!("portolan cannot be started: {e}"))?;
    if !check.status.success() {
        let complaint = [check.stdout, check.stderr].concat();
        let complaint = String::from_utf8_lossy(&complaint).replace(&format!("{}/", directory.display()), "");
        let line = complaint.lines().next().unwrap_or_default();
        return Err(Trouble::Skip(format!("the portolan that was built refuses the configuration: {line}")));
    }
    Ok(Spec::new(name, port, &[PROGRAM, "run", "--config", &path]))
}
