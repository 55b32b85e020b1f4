//! Ports as labels and the engine write them, and names.

use std::collections::BTreeMap;

use portolan_table::{Labels, PortSpec, Protocol, ServiceName};

/// Names the service.
pub(super) const SERVICE: &str = "portolan.service";
/// Its ports, if they are not those that are exposed.
const PORT: &str = "portolan.port";
/// Which of several networks it is reached on.
pub(super) const NETWORK: &str = "portolan.network";
/// Ports of one service.
const PORTS_MAX: usize = 256;

/// A port inside a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    pub(super) number: u16,
    pub(super) protocol: Protocol,
}

/// A port with the name that a label gives it.
pub(super) type Named = (Port, Option<String>);

/// Reads `80`, `80/udp`.
pub(super) fn port(text: &str) -> Option<Port> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    let number = number.trim().parse().ok().filter(|number| *number > 0)?;
    Some(Port { number, protocol })
}

/// The ports of the label, `8080` or `http=8080,dns=53/udp`; without one those of `exposed`.
pub(super) fn ports(
    labels: &BTreeMap<String, String>,
    exposed: impl Iterator<Item = Port>,
) -> Result<Vec<Named>, String> {
    let Some(label) = labels.get(PORT) else {
        let mut ports: Vec<Named> = exposed.map(|port| (port, None)).collect();
        ports.sort();
        ports.dedup();
        ports.truncate(PORTS_MAX);
        return Ok(ports);
    };
    let read = |text: &str| {
        let (name, number) = match text.split_once('=') {
            Some((name, number)) => (Some(name.trim().to_owned()), number),
            None => (None, text),
        };
        port(number.trim()).map(|port| (port, name))
    };
    let ports: Option<Vec<Named>> = label.split(',').take(PORTS_MAX).map(|text| read(text.trim())).collect();
    ports.ok_or_else(|| {
        format!("label {PORT}: {label:?} is no list of ports; write 8080, 53/udp or http=8080,admin=9090")
    })
}

/// The ports of a service whose instances have these.
pub(super) fn specs(all: &[Named]) -> Box<[PortSpec]> {
    let spec = |(port, name): &Named| PortSpec {
        number: port.number,
        name: name.as_deref().map(Into::into),
        protocol: port.protocol,
        labels: Labels::default(),
        ..PortSpec::default()
    };
    all.iter().map(spec).collect()
}

/// A name as a label or the engine gives it.
pub(super) fn name(text: &str) -> Result<ServiceName, String> {
    ServiceName::from_labels(text.split('.')).map_err(|error| error.to_string())
}

/// Labels that are said by users, not by tools.
pub(super) fn of_users(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    const TOOLS: &[&str] =
        &["com.docker.", "desktop.docker.", "org.opencontainers.", "portolan.service", "portolan.port"];
    let said = labels.iter().filter(|(label, _)| !TOOLS.iter().any(|tool| label.starts_with(tool)));
    said.map(|(label, value)| (label.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_labels() {
        let read = |label: Option<&str>| {
            let labels = label.map(|label| (PORT.to_owned(), label.to_owned())).into_iter().collect();
            let exposed = ["9000/tcp", "53/udp", "53/tcp", "1/sctp"].into_iter().filter_map(port);
            let shown = |(port, name): Named| {
                format!(
                    "{}{}/{}",
                    name.map(|name| name + "=").unwrap_or_default(),
                    port.number,
                    port.protocol.as_str()
                )
            };
            ports(&labels, exposed).map(|ports| ports.into_iter().map(shown).collect::<Vec<_>>())
        };
        assert_eq!(read(None).unwrap(), ["53/tcp", "53/udp", "9000/tcp"]);
        assert_eq!(read(Some("8080")).unwrap(), ["8080/tcp"]);
        assert_eq!(read(Some("http=8080, dns = 53/udp")).unwrap(), ["http=8080/tcp", "dns=53/udp"]);
        for wrong in ["", "web", "0", "70000", "80/sctp", "80,"] {
            assert!(read(Some(wrong)).unwrap_err().contains("is no list of ports"), "{wrong}");
        }
    }
}
