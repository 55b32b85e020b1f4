//! Whole batches through real sockets: what they cost.

use core::net::IpAddr;
use std::net::UdpSocket as Client;
use std::sync::Arc;

use arc_swap::ArcSwap;
use nix::sys::socket::SockaddrIn;
use portolan_table::Publisher;
use prometheus::Registry;

use super::batch::{self, Batch};
use super::{Peer, SlowPath, UdpPort, bind_udp};
use crate::config::{Config, Cookies, Network, RateLimit, Schema, ZoneConfig};
use crate::cookie::Secrets;
use crate::gate::{Gate, Rules};
use crate::metrics::Tally;
use crate::wire::{Query, text_to_name};
use crate::zone::{ZoneBuilder, ZoneMetrics};

struct Nobody;

impl SlowPath for Nobody {
    fn udp_size_max(&self) -> u16 {
        1232
    }
    fn forwards(&self) -> bool {
        false
    }
    fn offers_recursion(&self, _: IpAddr) -> bool {
        false
    }
    fn take(&self, _: &Query<'_>, _: Peer) -> bool {
        false
    }
}

/// A query for A, with a client's own cookie.
fn query(name: &str) -> Vec<u8> {
    let mut packet = b"\x12\x34\0\0\0\x01\0\0\0\0\0\x01".to_vec();
    packet.extend(text_to_name(name).unwrap());
    packet.extend([0, 1, 0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 12, 0, 10, 0, 8]);
    packet.extend(*b"cookie!!");
    packet
}

fn guarded() -> Config {
    let networks = |count: u8| {
        let network = |at| Network { address: IpAddr::from([10, at, 0, 0]), prefix: 16 };
        let loopback = Network { address: IpAddr::from([127, 0, 0, 0]), prefix: 8 };
        (0..count).map(network).chain([loopback]).collect()
    };
    Config {
        zones: vec![ZoneConfig { name: "svc.cluster".into(), schema: Schema::Native, sources: Vec::new() }],
        allow_query: Some(networks(50)),
        rate_limit: RateLimit {
            responses_per_second: 3,
            all_per_second: 1000,
            slip: 2,
            ..RateLimit::default()
        },
        cookies: Cookies { enabled: true, ..Cookies::default() },
        ..Config::default()
    }
}

#[test]
fn a_guarded_batch_allocates_nothing() {
    let config = guarded();
    let mut publisher = Publisher::new();
    let metrics = ZoneMetrics::register(&Registry::new()).unwrap();
    let key = publisher.add_view(ZoneBuilder::new(&config, metrics));
    let rules = Rules::new(&config, &Arc::new(Secrets::random()));
    let mut gate = Gate::new(&Arc::new(ArcSwap::from_pointee(rules)), 2);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let port = UdpPort::new(bind_udp("127.0.0.1:0".parse().unwrap()).unwrap()).unwrap();
    let client = Client::bind("127.0.0.1:0").unwrap();
    client.connect(port.local()).unwrap();
    let mut packets: Vec<Vec<u8>> =
        ["svc.cluster", "nope.svc.cluster", "edge.node.svc.cluster", "example.com"]
            .iter()
            .map(|name| query(name))
            .collect();
    packets.push(b"\x12\x34\0\0\0\x02\0\0\0\0\0\0".to_vec());
    let table = publisher.table();
    let mut batch = Batch::<SockaddrIn>::new(port.knows_asked(), 0);
    let mut tally = Tally::default();
    let mut received = 0;
    let mut turn = |tally: &mut Tally| {
        for at in 0..batch::LEN {
            client.send(&packets[at % packets.len()]).unwrap();
        }
        let counted = allocation_counter::measure(|| {
            received += batch.receive(port.socket()).unwrap();
            let snapshot = table.load();
            gate.refresh();
            batch.answer(port.socket(), snapshot.view(key), (&Nobody, &mut gate), tally);
        });
        counted.count_total
    };
    // The first load of a thread makes its slot in the table.
    turn(&mut tally);
    let allocations: u64 = (0..20).map(|_| turn(&mut tally)).sum();
    assert_eq!(allocations, 0);
    assert_eq!(received, 21 * batch::LEN);
    let shown = format!("{tally:?}");
    assert!(!shown.contains("limited: [0, "), "some were cut: {shown}");
    assert!(!shown.contains(", 0], cookies"), "some were dropped: {shown}");
    assert!(shown.contains("denied: 0") && !shown.contains("cookies: [0, 0,"), "all had cookies: {shown}");
}
