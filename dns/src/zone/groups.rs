//! The record sets of a service's groups.

use smallvec::SmallVec;

use super::entry::Target;

/// The record sets of groups, those of one kind in one allocation for all groups: there are a few groups to every
/// service, and most hold next to nothing.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Groups {
    /// Where the runs of each group end.
    ends: SmallVec<[GroupEnds; 2]>,
    /// Addresses of the groups but the first, which stand in the entry.
    v4: Box<[[u8; 4]]>,
    v6: Box<[[u8; 16]]>,
    /// Targets of all ports, those of one port in one run.
    targets: Box<[Target]>,
    /// Where the run of each port ends, from the group's first target on; for each group one for each of
    /// the service's ports, and nothing for a service of one port.
    port_ends: Box<[u32]>,
}

/// Where a group's runs end in [`Groups`]; they begin where those of the group before it end.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct GroupEnds {
    v4: u32,
    v6: u32,
    targets: u32,
}

/// The record sets of one or more parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group<'e> {
    /// Distinct addresses, sorted.
    pub(crate) v4: &'e [[u8; 4]],
    pub(crate) v6: &'e [[u8; 16]],
    targets: &'e [Target],
    port_ends: &'e [u32],
}

impl Groups {
    /// A group by its number. `first_v4` are the addresses of group 0, `ports` the number of the service's ports.
    #[inline]
    pub(super) fn get<'e>(&'e self, at: usize, first_v4: &'e [[u8; 4]], ports: usize) -> Option<Group<'e>> {
        let end = self.ends.get(at)?;
        let start = if at == 0 { GroupEnds::default() } else { self.ends[at - 1] };
        Some(Group {
            v4: if at == 0 { first_v4 } else { &self.v4[start.v4 as usize..end.v4 as usize] },
            v6: &self.v6[start.v6 as usize..end.v6 as usize],
            targets: &self.targets[start.targets as usize..end.targets as usize],
            port_ends: if ports == 1 { &[] } else { &self.port_ends[at * ports..][..ports] },
        })
    }
}

impl<'e> Group<'e> {
    /// The SRV records of a run of ports.
    #[inline]
    pub(crate) fn targets_of(self, ports: core::ops::Range<usize>) -> &'e [Target] {
        if self.port_ends.is_empty() {
            return self.targets;
        }
        let start = if ports.start == 0 { 0 } else { self.port_ends[ports.start - 1] as usize };
        &self.targets[start..self.port_ends[ports.end - 1] as usize]
    }
}

impl<'e> Group<'e> {
    /// The SRV records of one port that point at one host; those of a port are sorted by host.
    #[inline]
    pub(crate) fn targets_of_host(self, port: usize, host: u32) -> &'e [Target] {
        let all = self.targets_of(port..port + 1);
        let start = all.partition_point(|target| target.host < host);
        let len = all[start..].partition_point(|target| target.host == host);
        &all[start..start + len]
    }
}

/// Puts record sets behind one another.
#[derive(Default)]
pub(super) struct GroupBuilder {
    ends: SmallVec<[GroupEnds; 2]>,
    first_v4: SmallVec<[[u8; 4]; 4]>,
    v4: Vec<[u8; 4]>,
    v6: Vec<[u8; 16]>,
    targets: Vec<Target>,
    /// Where the run of the present port begins.
    port_start: usize,
    port_ends: Vec<u32>,
}

impl GroupBuilder {
    /// Adds a record to the present port.
    pub(super) fn target(&mut self, target: Target) {
        self.targets.push(target);
    }

    /// Ends the present port: sorts its records, and keeps one of those that are the same.
    pub(super) fn close_port(&mut self) {
        self.targets[self.port_start..].sort_unstable();
        dedup_from(&mut self.targets, self.port_start);
        self.port_start = self.targets.len();
        let before = self.ends.last().map_or(0, |ends| ends.targets as usize);
        self.port_ends.push((self.targets.len() - before) as u32);
    }

    /// Ends a group whose targets have been put in.
    pub(super) fn close(&mut self, v4: &[[u8; 4]], v6: &[[u8; 16]]) {
        match self.ends.is_empty() {
            true => self.first_v4 = v4.iter().copied().collect(),
            false => self.v4.extend_from_slice(v4),
        }
        self.v6.extend_from_slice(v6);
        let (v4, v6, targets) = (self.v4.len() as u32, self.v6.len() as u32, self.targets.len() as u32);
        self.ends.push(GroupEnds { v4, v6, targets });
    }

    pub(super) fn finish(self, ports: usize) -> (SmallVec<[[u8; 4]; 4]>, Groups) {
        let groups = Groups {
            ends: self.ends,
            v4: self.v4.into(),
            v6: self.v6.into(),
            targets: self.targets.into(),
            port_ends: if ports == 1 { Box::default() } else { self.port_ends.into() },
        };
        (self.first_v4, groups)
    }
}

/// An instance reached by IPv4 and IPv6 at one port is one target.
fn dedup_from(targets: &mut Vec<Target>, start: usize) {
    let mut kept = start;
    for at in start..targets.len() {
        if kept == start || targets[kept - 1] != targets[at] {
            targets[kept] = targets[at];
            kept += 1;
        }
    }
    targets.truncate(kept);
}
