//! What any octets go through that come from Consul.

use super::convert::{self, convert};
use super::wire::{Catalog, Entries, Entry};
use crate::sources::checked::{OneHost, check};

/// Takes `octets` for an answer to `/v1/health/service/web` and for one to `/v1/catalog/services`.
///
/// # Panics
/// When a service comes of it that cannot be: a defect.
pub fn consul(octets: &[u8]) {
    let _ = serde_json::from_slice::<Catalog>(octets);
    let Ok(entries) = serde_json::from_slice::<Entries<'_>>(octets) else { return };
    let entries: Vec<Result<Entry<'_>, String>> =
        entries.iter().map(|entry| serde_json::from_str(entry.get()).map_err(|e| e.to_string())).collect();
    let _ = entries.iter().flatten().flat_map(convert::host_names).count();
    if let Some(service) = convert("web.shop", &entries, &OneHost).service {
        check(&service);
    }
}

#[cfg(test)]
#[test]
fn the_corpus_is_survived() {
    crate::sources::corpus::replay("consul", consul);
}
