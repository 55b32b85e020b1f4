//! What must hold of every service, whatever it was read from. For fuzzing.

use super::telling::Service;
use crate::hosts::{Addresses, Hosts};

/// Half of all names have an address.
pub(super) struct OneHost;

impl Hosts for OneHost {
    fn addresses(&self, name: &str) -> Addresses {
        name.len().is_multiple_of(2).then(|| [10, 0, 0, 1].into()).into_iter().collect()
    }
}

/// # Panics
/// When an endpoint points outside its service's ports or its instance's addresses, or leads to port 0.
pub(super) fn check((spec, instances): &Service) {
    for instance in instances {
        for endpoint in &instance.endpoints {
            assert!(usize::from(endpoint.port_index) < spec.ports.len(), "{instance:?}");
            assert!(usize::from(endpoint.address_index) < instance.addresses.len(), "{instance:?}");
            assert!(endpoint.number > 0, "{instance:?}");
        }
        assert!(instance.endpoints.is_sorted_by_key(|endpoint| endpoint.port_index), "{instance:?}");
    }
}
