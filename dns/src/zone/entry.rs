//! What stands behind one service's names: every part of every answer, compiled once per endpoint.
//!
//! A service of the native schema has dozens of owner names, and nearly all of their records are made of the
//! same few octets. So nothing is kept per name. An entry holds columns: instances with their labels,
//! distinct addresses, and for each port (instance, port number, weight). The names that stand in the index
//! (`web`, `web.prod.src`, `web.rack-1.zone`, `web.vip`) point at the entry and at one of its *parts*; names
//! inside (`_http._tcp.web`, `<label>.inst.web`) are found in the entry itself. Parts that mean the same
//! endpoints share one *group*.

use std::sync::Arc;

use portolan_table::{INSTANCE_LABEL_LEN, Protocol};
use smallvec::SmallVec;

use super::groups::{Group, Groups};

/// Octets of an instance's label without its length octet.
pub(crate) type InstanceLabel = [u8; INSTANCE_LABEL_LEN];

/// Everything that is answered below one service's names. Immutable; replaced whole when the service changes.
/// What a plain address query needs (owner, first group) stands inside, so that it costs few cache misses, and so does
/// what most services have one of: each allocation less is one less to wait for when the entry is replaced.
#[derive(Debug, PartialEq)]
pub(crate) struct ServiceEntry {
    /// The service's labels in wire form, without zone and root.
    pub(crate) owner: Owner,
    /// The IPv4 addresses of group 0: what the service's own name is asked for most.
    pub(crate) first_v4: SmallVec<[[u8; 4]; 4]>,
    /// The record sets of all groups.
    pub(crate) groups: Groups,
    /// Instances that are in an answer of some part, by label.
    pub(crate) hosts: Box<[Host]>,
    /// Addresses of the hosts, each host's in one run.
    pub(crate) v4: Box<[[u8; 4]]>,
    /// The same for IPv6.
    pub(crate) v6: Box<[[u8; 16]]>,
    /// By protocol, then by index.
    pub(crate) ports: SmallVec<[Port; 1]>,
    /// Shared by the services that have the same.
    pub(crate) parts: Arc<[Part]>,
    /// One TXT record for each source that defines the service.
    pub(crate) texts: SmallVec<[Text; 1]>,
}

/// A service's labels; longer names than usual are kept apart.
pub(crate) type Owner = SmallVec<[u8; 32]>;

/// One instance.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Host {
    pub(crate) label: InstanceLabel,
    /// How many addresses from `at4` and `at6` on are its own.
    pub(crate) len4: u8,
    pub(crate) len6: u8,
    /// It is in the service's own answers, not only in those of its source.
    pub(crate) selected: bool,
    pub(crate) source: u16,
    /// Place of its fault domain's part in [`ServiceEntry::parts`]; [`Host::NO_ZONE`] for none.
    pub(crate) zone: u16,
    pub(crate) at4: u32,
    pub(crate) at6: u32,
}

/// One port of the service, for SRV names.
#[derive(Debug, PartialEq)]
pub(crate) struct Port {
    /// Its name as a label, without the underscore; empty if it has none.
    pub(crate) label: Arc<[u8]>,
    pub(crate) protocol: Protocol,
    /// Its place in the service's definition: `_port<index>`.
    pub(crate) index: u16,
    /// The port clients use on the edge proxies; 0 if there is none.
    pub(crate) number: u16,
}

/// One way to say the service's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Part {
    /// The labels between the service's own and the apex: none, `prod.src`, `rack-1.zone`, `vip`.
    pub(crate) suffix: Arc<[u8]>,
    pub(crate) kind: PartKind,
    /// Number of its group; [`Part::NO_GROUP`] for [`PartKind::Vip`].
    pub(crate) group: u16,
    /// Names of instances below this part fit into 255 octets.
    pub(crate) deep: bool,
    /// There are some. Known here, as a query must not cost as much as a service has instances.
    pub(crate) has_hosts: bool,
}

/// What a part's suffix selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PartKind {
    /// The service as it is.
    Whole,
    /// What one source says of it.
    Source(u16),
    /// What is in one fault domain: the place of this part itself.
    Zone(u16),
    /// The way through the edge proxies.
    Vip,
}

/// One SRV record, less what its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    /// Index into [`ServiceEntry::hosts`].
    pub(crate) host: u32,
    pub(crate) port: u16,
    pub(crate) weight: u16,
}

/// The data of one TXT record.
#[derive(Debug, PartialEq)]
pub(crate) struct Text {
    pub(crate) source: u16,
    pub(crate) data: Box<[u8]>,
}

impl Part {
    /// The way through the proxies has no record sets of the service's.
    pub(crate) const NO_GROUP: u16 = u16::MAX;
}

impl Host {
    /// No fault domain is known.
    pub(crate) const NO_ZONE: u16 = u16::MAX;

    /// True if the host is in the answers of a part of this kind.
    #[inline]
    pub(crate) fn is_in(&self, kind: PartKind) -> bool {
        match kind {
            PartKind::Whole => self.selected,
            PartKind::Source(source) => self.source == source,
            PartKind::Zone(zone) => self.selected && self.zone == zone,
            PartKind::Vip => false,
        }
    }
}

impl ServiceEntry {
    /// The host of this label, if it is in the answers of `part`.
    pub(crate) fn host(&self, part: &Part, label: &[u8]) -> Option<&Host> {
        let at = self.hosts.binary_search_by(|host| host.label.as_slice().cmp(label)).ok()?;
        Some(&self.hosts[at]).filter(|host| part.deep && host.is_in(part.kind))
    }

    #[inline]
    pub(crate) fn v4_of(&self, host: &Host) -> &[[u8; 4]] {
        &self.v4[host.at4 as usize..][..usize::from(host.len4)]
    }

    #[inline]
    pub(crate) fn v6_of(&self, host: &Host) -> &[[u8; 16]] {
        &self.v6[host.at6 as usize..][..usize::from(host.len6)]
    }

    /// The group of a part; nothing for the way through the proxies.
    #[inline]
    pub(crate) fn group(&self, part: &Part) -> Option<Group<'_>> {
        self.numbered(part.group)
    }

    /// A group by its number.
    #[inline]
    pub(crate) fn numbered(&self, group: u16) -> Option<Group<'_>> {
        self.groups.get(usize::from(group), &self.first_v4, self.ports.len())
    }

    /// The ports that `_<label>._<protocol>` means, as a run of [`ServiceEntry::ports`]; `None` if there is none.
    pub(crate) fn ports_of(&self, label: &[u8], protocol: Protocol) -> Option<core::ops::Range<usize>> {
        let start = self.ports.partition_point(|port| port.protocol < protocol);
        let len = self.ports[start..].partition_point(|port| port.protocol == protocol);
        let run = &self.ports[start..start + len];
        // Ports without a name have an empty label, which is no name for them: `_._tcp` is none.
        if run.is_empty() || label.is_empty() {
            return None;
        }
        if label == b"any" {
            return Some(start..start + len);
        }
        let at = match label.strip_prefix(b"port").and_then(decimal) {
            Some(index) => run.iter().position(|port| port.index == index),
            None => run.iter().position(|port| *port.label == *label),
        }?;
        Some(start + at..start + at + 1)
    }

    /// True if a port of this protocol exists: `_tcp` and `_udp` are names then.
    pub(crate) fn speaks(&self, protocol: Protocol) -> bool {
        self.ports.iter().any(|port| port.protocol == protocol)
    }
}

/// A number in its one canonical form.
fn decimal(text: &[u8]) -> Option<u16> {
    let canonical = text == b"0" || (!text.is_empty() && text[0] != b'0');
    let digits = canonical && text.iter().all(u8::is_ascii_digit);
    if digits { core::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

impl ServiceEntry {
    /// The names that are found inside the entry below `part`, as prefixes with a dot at the end.
    pub(crate) fn inner_names(&self, part: &Part) -> Vec<String> {
        let mut names = Vec::new();
        if !part.deep && part.kind != PartKind::Vip {
            return names;
        }
        let mut below = vec![String::new()];
        if part.has_hosts {
            names.push("inst.".to_owned());
            let hosts = self.hosts.iter().filter(|host| host.is_in(part.kind));
            below.extend(hosts.map(|host| format!("{}.inst.", String::from_utf8_lossy(&host.label))));
        }
        for prefix in &below {
            names.extend((!prefix.is_empty()).then(|| prefix.clone()));
            for port in &self.ports {
                let protocol = port.protocol.as_str();
                names.push(format!("_{protocol}.{prefix}"));
                names.push(format!("_any._{protocol}.{prefix}"));
                names.push(format!("_port{}._{protocol}.{prefix}", port.index));
                if !port.label.is_empty() {
                    names.push(format!("_{}._{protocol}.{prefix}", String::from_utf8_lossy(&port.label)));
                }
            }
        }
        names
    }
}
