//! From what stands at a name to the reply.

use core::net::IpAddr;
use core::ops::Range;

use portolan_table::INSTANCE_LABEL_LEN;

use super::records::{FIXED_LEN, QUESTION, addresses, fitting, head, record, turn};
use super::{Written, is_apex};
use crate::wire::{HEADER_LEN, NAME_LEN_MAX, Query, Rcode, Reply, Section, rtype};
use crate::zone::{
    Claims, Fixed, Host, INST, NodeEntry, Part, PartKind, PartRef, PtrName, ServiceEntry, Target, Zone, Zones,
};

/// Octets of an SRV record's data before its target: priority, weight, port (RFC 2782).
const SRV_LEN: usize = 6;
/// What an instance's name has before its service's: its label and `inst`, with their length octets.
const INSTANCE_LEN: usize = 1 + INSTANCE_LABEL_LEN + INST.len();
/// SRV targets whose addresses are added; what lies beyond asks for itself. Keeps the work on one reply bounded.
const ADDITIONAL_MAX: usize = 64;
/// Highest offset that a compression pointer can name (RFC 1035 §4.1.4).
const POINTER_MAX: usize = 0x3fff;

/// Seconds after which secondaries ask again if nobody tells them of changes, retry, and give up.
const REFRESH: u32 = 3600;
const RETRY: u32 = 600;
const EXPIRE: u32 = 86_400;

/// A reply in the making.
pub(super) struct Composer<'a, 'o> {
    reply: Reply<'o>,
    zones: &'a Zones,
    zone: &'a Zone,
    query: &'a Query<'a>,
    rotation: u32,
    truncated: bool,
}

impl<'a, 'o> Composer<'a, 'o> {
    #[inline]
    pub(super) fn new(
        mut reply: Reply<'o>,
        zones: &'a Zones,
        zone: &'a Zone,
        query: &'a Query<'a>,
        rotation: u32,
    ) -> Self {
        reply.authoritative();
        Self { reply, zones, zone, query, rotation, truncated: false }
    }

    fn fixed(&self) -> &'a Fixed {
        self.zone.fixed()
    }

    /// Ends a reply that has its records, or tells that there are none of the type.
    #[inline]
    fn finish(mut self, records: usize) -> Written {
        if records == 0 {
            return self.negative(Rcode::NoError);
        }
        if self.truncated {
            self.reply.truncated();
        }
        Written { len: self.reply.finish(Rcode::NoError), rcode: Rcode::NoError, truncated: self.truncated }
    }

    /// No such name, or nothing of the type: the SOA says for how long that holds (RFC 2308 §3).
    pub(super) fn negative(mut self, rcode: Rcode) -> Written {
        let apex_at = self.query.name().octets().len() - self.fixed().apex.len();
        let apex = (HEADER_LEN + apex_at) as u16 | 0xc000;
        self.soa(Section::Authority, apex, &apex.to_be_bytes());
        Written { len: self.reply.finish(rcode), rcode, truncated: false }
    }

    /// The SOA record; `apex` ends the names in its data: a pointer, or the apex in full.
    fn soa(&mut self, section: Section, owner: u16, apex: &[u8]) -> bool {
        let fixed = self.fixed();
        let mut numbers = [0u8; 20];
        let values = [self.zones.serial(), REFRESH, RETRY, EXPIRE, fixed.negative_ttl];
        for (place, value) in numbers.chunks_exact_mut(4).zip(values) {
            place.copy_from_slice(&value.to_be_bytes());
        }
        let data: [&[u8]; 5] = [&fixed.edge, apex, b"\x0ahostmaster", apex, &numbers];
        record(&mut self.reply, section, owner, rtype::SOA, fixed.negative_ttl, &data)
    }

    /// ANY gets one small record instead of everything (RFC 8482 §4.2).
    pub(super) fn any(mut self) -> Written {
        let data: [&[u8]; 1] = [b"\x07RFC8482\x00"];
        let ttl = self.fixed().ttl;
        self.truncated = !record(&mut self.reply, Section::Answer, QUESTION, rtype::HINFO, ttl, &data);
        self.finish(1)
    }

    pub(super) fn apex(mut self) -> Written {
        debug_assert!(is_apex(self.zone, self.query), "the question's name is the apex");
        match self.query.qtype() {
            rtype::SOA => {
                self.truncated = !self.soa(Section::Answer, QUESTION, &QUESTION.to_be_bytes());
                self.finish(1)
            }
            rtype::NS => self.name_servers(),
            _ => self.finish(0),
        }
    }

    /// NS, with this edge's addresses beside it.
    fn name_servers(mut self) -> Written {
        let fixed = self.fixed();
        let target_at = self.reply.len() + FIXED_LEN;
        let data: [&[u8]; 2] = [&fixed.edge, &QUESTION.to_be_bytes()];
        self.truncated = !record(&mut self.reply, Section::Answer, QUESTION, rtype::NS, fixed.ttl, &data);
        if let Some(node) = self.zone.edge().filter(|_| !self.truncated) {
            let owner = target_at as u16 | 0xc000;
            // Glue that does not fit is left out without TC: the name can be asked for (RFC 2181 §9).
            for rtype in [rtype::A, rtype::AAAA] {
                self.node_addresses(Section::Additional, owner, rtype, node);
            }
        }
        self.finish(1)
    }

    #[inline]
    pub(super) fn service(mut self, entry: &'a ServiceEntry, part: PartRef) -> Written {
        match self.query.qtype() {
            rtype::A => {
                let v4 = part.group(entry).map_or(&*self.fixed().proxy4, |group| group.v4);
                self.address_set(rtype::A, v4)
            }
            rtype::AAAA => {
                let v6 = part.group(entry).map_or(&*self.fixed().proxy6, |group| group.v6);
                self.address_set(rtype::AAAA, v6)
            }
            rtype::TXT => {
                let mut count = 0;
                for text in &entry.texts {
                    if !matches!(part.of(entry).kind, PartKind::Source(source) if source != text.source) {
                        let (ttl, data) = (self.fixed().ttl, [&*text.data]);
                        count += 1;
                        self.truncated |=
                            !record(&mut self.reply, Section::Answer, QUESTION, rtype::TXT, ttl, &data);
                    }
                }
                self.finish(count)
            }
            _ => self.finish(0),
        }
    }

    #[inline]
    fn address_set<const N: usize>(mut self, rtype: u16, items: &[[u8; N]]) -> Written {
        let head = head(QUESTION, rtype, self.fixed().ttl, N as u16);
        self.truncated = !addresses(&mut self.reply, Section::Answer, head, items, self.rotation);
        self.finish(items.len())
    }

    pub(super) fn instance(self, entry: &'a ServiceEntry, host: &'a Host) -> Written {
        match self.query.qtype() {
            rtype::A => self.address_set(rtype::A, entry.v4_of(host)),
            rtype::AAAA => self.address_set(rtype::AAAA, entry.v6_of(host)),
            _ => self.finish(0),
        }
    }

    pub(super) fn node(mut self, node: &'a NodeEntry) -> Written {
        let qtype = self.query.qtype();
        let (wanted, written) = self.node_addresses(Section::Answer, QUESTION, qtype, node);
        self.truncated = written < wanted;
        self.finish(wanted)
    }

    /// The addresses of a node that `rtype` asks for: how many there are, and how many fitted.
    fn node_addresses(
        &mut self,
        section: Section,
        owner: u16,
        rtype: u16,
        node: &NodeEntry,
    ) -> (usize, usize) {
        let (mut wanted, mut written) = (0, 0);
        let ttl = self.fixed().ttl;
        for (address, _) in node.addresses() {
            let fits = match (address, rtype) {
                (IpAddr::V4(v4), rtype::A) => {
                    record(&mut self.reply, section, owner, rtype, ttl, &[&v4.octets()])
                }
                (IpAddr::V6(v6), rtype::AAAA) => {
                    record(&mut self.reply, section, owner, rtype, ttl, &[&v6.octets()])
                }
                _ => continue,
            };
            wanted += 1;
            written += usize::from(fits);
        }
        (wanted, written)
    }

    /// PTR records of one served address, which is answered as a zone of its own.
    pub(super) fn pointer(mut self, names: &[(PtrName, Claims)]) -> Written {
        let fixed = self.fixed();
        match self.query.qtype() {
            rtype::PTR => {
                let (late, early) = names.split_at(turn(self.rotation, names.len()));
                for (name, _) in early.iter().chain(late) {
                    let mut octets = [0u8; NAME_LEN_MAX];
                    let octets = &mut octets[..name.len()];
                    name.write(octets);
                    let data: [&[u8]; 2] = [octets, &fixed.apex];
                    self.truncated |=
                        !record(&mut self.reply, Section::Answer, QUESTION, rtype::PTR, fixed.ttl, &data);
                }
                self.finish(names.len())
            }
            rtype::ANY => self.any(),
            rtype::NS => {
                let data: [&[u8]; 2] = [&fixed.edge, &fixed.apex];
                self.truncated =
                    !record(&mut self.reply, Section::Answer, QUESTION, rtype::NS, fixed.ttl, &data);
                self.finish(1)
            }
            rtype::SOA => {
                self.truncated = !self.soa(Section::Answer, QUESTION, &fixed.apex);
                self.finish(1)
            }
            _ => {
                self.soa(Section::Authority, QUESTION, &fixed.apex);
                Written { len: self.reply.finish(Rcode::NoError), rcode: Rcode::NoError, truncated: false }
            }
        }
    }

    /// SRV records of a run of ports, each pointing at an instance below the name that was asked about.
    pub(super) fn ports(
        self,
        entry: &'a ServiceEntry,
        part: &'a Part,
        ports: Range<usize>,
        service_label: usize,
    ) -> Written {
        if self.query.qtype() != rtype::SRV {
            return self.finish(0);
        }
        let Some(group) = entry.group(part) else { return self.proxy_ports(entry, ports, service_label) };
        let targets = group.targets_of(ports);
        let (late, early) = targets.split_at(turn(self.rotation, targets.len()));
        self.targets(entry, &early.iter().chain(late), targets.len(), service_label)
    }

    /// The same of one instance.
    pub(super) fn instance_ports(
        self,
        entry: &'a ServiceEntry,
        part: &'a Part,
        ports: Range<usize>,
        host: &'a Host,
        service_label: usize,
    ) -> Written {
        let Some(group) = entry.group(part).filter(|_| self.query.qtype() == rtype::SRV) else {
            return self.finish(0);
        };
        let place = entry.hosts.binary_search_by(|other| other.label.cmp(&host.label));
        let index = place.unwrap_or(usize::MAX) as u32;
        // Found and not filtered: a name that one may ask for must not cost as much as there are instances.
        let targets = ports.flat_map(|port| group.targets_of_host(port, index));
        let count = targets.clone().count();
        self.targets(entry, &targets, count, service_label)
    }

    /// All records have one length: an instance's label has, and the rest of the target is the question's end.
    /// The target stands in full, since it must not be compressed (RFC 2782); the owner names of the addresses
    /// that follow point into it.
    fn targets<'t>(
        mut self,
        entry: &'a ServiceEntry,
        targets: &(impl Iterator<Item = &'t Target> + Clone),
        wanted: usize,
        service_label: usize,
    ) -> Written {
        let name = self.query.name();
        let tail = &name.octets()[name.start(service_label)..];
        let data_len = SRV_LEN + INSTANCE_LEN + tail.len();
        let stride = FIXED_LEN + data_len;
        let first = self.reply.len();
        let count = fitting(&self.reply, wanted, stride);
        let head = head(QUESTION, rtype::SRV, self.fixed().ttl, data_len as u16);
        let Some(out) = self.reply.take(Section::Answer, count as u16, count * stride) else {
            return self.finish(1);
        };
        for (out, target) in out.chunks_exact_mut(stride).zip(targets.clone()) {
            let (fixed, data) = out.split_at_mut(FIXED_LEN);
            fixed.copy_from_slice(&head);
            write_target(data, target, &entry.hosts[target.host as usize], tail);
        }
        self.truncated = count < wanted;
        if !self.truncated {
            self.target_addresses(entry, targets, first + FIXED_LEN + SRV_LEN, stride);
        }
        self.finish(wanted)
    }

    /// The addresses of the targets just written, each set whole or not at all.
    fn target_addresses<'t>(
        &mut self,
        entry: &ServiceEntry,
        targets: &(impl Iterator<Item = &'t Target> + Clone),
        first: usize,
        stride: usize,
    ) {
        let ttl = self.fixed().ttl;
        for (index, target) in targets.clone().enumerate().take(ADDITIONAL_MAX) {
            let at = first + index * stride;
            if at > POINTER_MAX {
                return;
            }
            // An instance with several ports is the target of several records; its addresses stand once.
            if targets.clone().take(index).any(|earlier| earlier.host == target.host) {
                continue;
            }
            let (owner, host) = (at as u16 | 0xc000, &entry.hosts[target.host as usize]);
            let (v4, v6) = (entry.v4_of(host), entry.v6_of(host));
            if v4.len() * (FIXED_LEN + 4) + v6.len() * (FIXED_LEN + 16) > self.reply.free() {
                return;
            }
            addresses(&mut self.reply, Section::Additional, head(owner, rtype::A, ttl, 4), v4, 0);
            addresses(&mut self.reply, Section::Additional, head(owner, rtype::AAAA, ttl, 16), v6, 0);
        }
    }

    /// SRV below `vip`: the ports clients are meant to use, at the proxies.
    fn proxy_ports(mut self, entry: &'a ServiceEntry, ports: Range<usize>, service_label: usize) -> Written {
        let fixed = self.fixed();
        let name = self.query.name();
        let tail = &name.octets()[name.start(service_label)..];
        let mut count = 0;
        let mut target_at = None;
        let ports = &entry.ports[ports];
        for (at, port) in ports.iter().enumerate().filter(|(_, port)| port.number != 0) {
            // Two ports of the service may be one at the proxies: a set has no record twice (RFC 2181 §5).
            if ports[..at].iter().any(|earlier| earlier.number == port.number) {
                continue;
            }
            target_at.get_or_insert(self.reply.len() + FIXED_LEN + SRV_LEN);
            let [p0, p1] = port.number.to_be_bytes();
            let data: [&[u8]; 2] = [&[0, 0, 0, 1, p0, p1], tail];
            self.truncated |=
                !record(&mut self.reply, Section::Answer, QUESTION, rtype::SRV, fixed.ttl, &data);
            count += 1;
        }
        if let Some(at) = target_at.filter(|at| !self.truncated && *at <= POINTER_MAX) {
            let (owner, ttl) = (at as u16 | 0xc000, fixed.ttl);
            let needed = fixed.proxy4.len() * (FIXED_LEN + 4) + fixed.proxy6.len() * (FIXED_LEN + 16);
            if needed <= self.reply.free() {
                addresses(
                    &mut self.reply,
                    Section::Additional,
                    head(owner, rtype::A, ttl, 4),
                    &fixed.proxy4,
                    0,
                );
                addresses(
                    &mut self.reply,
                    Section::Additional,
                    head(owner, rtype::AAAA, ttl, 16),
                    &fixed.proxy6,
                    0,
                );
            }
        }
        self.finish(count)
    }
}

/// The data of one SRV record: priority 0, weight, port, target.
#[inline]
fn write_target(out: &mut [u8], target: &Target, host: &Host, tail: &[u8]) {
    out[..2].fill(0);
    out[2..4].copy_from_slice(&target.weight.to_be_bytes());
    out[4..SRV_LEN].copy_from_slice(&target.port.to_be_bytes());
    let (label, rest) = out[SRV_LEN..].split_at_mut(1 + INSTANCE_LABEL_LEN);
    label[0] = INSTANCE_LABEL_LEN as u8;
    label[1..].copy_from_slice(&host.label);
    let (inst, rest) = rest.split_at_mut(INST.len());
    inst.copy_from_slice(INST);
    rest.copy_from_slice(tail);
}
