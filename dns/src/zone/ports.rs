//! The ports of a service and the labels of their SRV names.

use portolan_table::{LABEL_LEN_MAX, Service, sanitise_label};

use super::entry::Port;
use super::report::{Problem, ProblemKind};
use super::schema::Context;

/// The ports by protocol, then index, each with its place in the service. Of two ports with one label the first
/// has it; the other has its number, and every port has `_any`.
pub(super) fn ports(service: &Service, context: &Context, problems: &mut Vec<Problem>) -> Vec<(usize, Port)> {
    let mut ports: Vec<(usize, Port)> = Vec::with_capacity(service.ports.len());
    for (at, port) in service.ports.iter().enumerate() {
        let wished = port.name.as_deref().and_then(sanitise_label).unwrap_or_default();
        let taken = |(_, other): &(usize, Port)| {
            other.protocol == port.protocol && *other.label == *wished.as_bytes()
        };
        let label = match wished.as_str() {
            "" => "",
            label if !is_free(label, at) || ports.iter().any(taken) => {
                let name = port.name.as_deref().unwrap_or_default();
                problems.push(Problem::new(service.name.as_str(), ProblemKind::PortLabel, name));
                ""
            }
            label => label,
        };
        let label = context.shared(label.as_bytes());
        ports.push((at, Port { label, protocol: port.protocol, index: at as u16, number: port.number }));
    }
    ports.sort_by_key(|(at, port)| (port.protocol, *at));
    ports
}

/// True if `_<label>` can be written, and does not mean all ports or another one by its number.
fn is_free(label: &str, index: usize) -> bool {
    let number = label.strip_prefix("port").filter(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    label.len() < LABEL_LEN_MAX
        && label != "any"
        && number.is_none_or(|number| number.is_empty() || number == index.to_string())
}
