//! What any octets go through that come from etcd.

use std::collections::BTreeMap;

use portolan_table::ServiceName;

use super::layout::{self, Entry};
use super::wire::{Line, Range};
use crate::config::EtcdLayout;
use crate::sources::checked::{OneHost, check};

/// Takes `octets` for a range, for a line of a watch, and for keys with their values: a line each, with a space between.
///
/// # Panics
/// When a service comes of it that cannot be: a defect.
pub fn etcd(octets: &[u8]) {
    let _ = serde_json::from_slice::<Range>(octets);
    let _ = serde_json::from_slice::<Line>(octets);
    for layout in [EtcdLayout::SkyDns, EtcdLayout::Portolan, EtcdLayout::Tree] {
        let mut services: BTreeMap<ServiceName, Vec<(String, Entry)>> = BTreeMap::new();
        for line in octets.split(|octet| *octet == b'\n') {
            let at = line.iter().position(|octet| *octet == b' ').unwrap_or(line.len());
            let key = String::from_utf8_lossy(&line[..at]).into_owned();
            let value = line.get(at + 1..).unwrap_or_default();
            for name in layout::read(layout, &key, value).names() {
                let entry = layout::read(layout, &key, value);
                let _ = entry.host_name();
                services.entry(name.clone()).or_default().push((key.clone(), entry));
            }
        }
        for (name, entries) in &services {
            let entries = entries.iter().map(|(key, entry)| (key.clone(), entry));
            let (service, _) = layout::service(layout, name, entries, &OneHost);
            check(&service);
        }
    }
}

#[cfg(test)]
#[test]
fn the_corpus_is_survived() {
    crate::sources::corpus::replay("etcd", etcd);
}
