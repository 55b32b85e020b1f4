//! Any packet: it is read, answered from a small cluster, and the reply can be read by another library.
#![no_main]

#[path = "../../tests/zones/cluster.rs"]
#[allow(dead_code)]
mod cluster;

use libfuzzer_sys::fuzz_target;
use portolan_dns::answer::{Outcome, Terms, answer};
use portolan_dns::wire::{Request, error_reply};

thread_local! {
    static CLUSTER: cluster::Cluster = cluster::Cluster::with(vec![cluster::web()]);
}

fuzz_target!(|packet: &[u8]| {
    let mut out = [0; 1232];
    let len = match Request::read(packet) {
        Request::Ignore => return,
        Request::Malformed(rcode) => error_reply(packet, rcode, &mut out),
        Request::Question(query) => {
            let terms =
                Terms::udp(query.udp_limit(1232), 1232);
            let outcome = CLUSTER
                .with(|cluster| cluster.zones(|zones| answer(zones, &query, &terms, 1, &mut out)));
            let Outcome::Reply(written) = outcome else { return };
            assert!(written.len <= terms.size_max);
            written.len
        }
    };
    hickory_proto::op::Message::from_vec(&out[..len]).expect("every reply can be read");
});
