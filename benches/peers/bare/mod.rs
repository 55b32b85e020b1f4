//! Bare programs that do the same work with next to no code of their own: what the kernel alone costs.
//!
//! They run as processes of their own like every server: this program, started again as `bare NAME PORT …`. They
//! decide nothing, time nothing out and trust their peers, so they are a floor to compare with and no proxies.

mod dns;
mod http;
mod splice;

use super::server::Spec;

/// How to start one. The arguments come behind the port.
pub(crate) fn spec(name: &str, port: u16, kind: &str, arguments: &[String]) -> Spec {
    let program = std::env::current_exe().expect("the path of this program").display().to_string();
    let port_text = port.to_string();
    let mut command = vec![program.as_str(), "bare", kind, port_text.as_str()];
    command.extend(arguments.iter().map(String::as_str));
    Spec::new(name, port, &command)
}

/// Runs the one that the arguments name; returns only with a complaint.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let [kind, port, rest @ ..] = arguments else {
        return Err("bare: which one, and on which port?".to_owned());
    };
    let port: u16 = port.parse().map_err(|_| format!("bare: {port} is no port"))?;
    let done = match kind.as_str() {
        "dns" => dns::run(port, &rest[0]),
        "http" => http::run(port, &ports(&rest[0])?, rest.get(1..3)),
        "splice" => splice::run(port, ports(&rest[0])?),
        _ => return Err(format!("bare: there is no {kind}")),
    };
    done.map_err(|error| format!("bare {kind}: {error}"))
}

fn ports(text: &str) -> Result<Vec<u16>, String> {
    text.split(',').map(|port| port.parse().map_err(|_| format!("bare: {port} is no port"))).collect()
}

/// The list as an argument.
pub(crate) fn list(ports: &[u16]) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
}
