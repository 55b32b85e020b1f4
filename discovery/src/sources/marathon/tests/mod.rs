//! The source against a scripted Marathon on loopback, and conversion against tables.

mod conformance;
mod conversion;
mod crossing;
mod fake;
mod faults;
mod follow;
mod harness;

use std::net::SocketAddr;

use portolan_table::Instance;

/// `address:port` of an instance's endpoints, in order.
fn endpoints(instance: &Instance) -> impl Iterator<Item = String> + '_ {
    instance.endpoints.iter().map(|endpoint| {
        SocketAddr::new(instance.addresses[usize::from(endpoint.address_index)].ip, endpoint.number)
            .to_string()
    })
}
