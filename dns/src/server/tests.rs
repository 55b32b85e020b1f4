//! The handler on what nobody would send in good faith.

use std::sync::Arc;

use arc_swap::ArcSwap;
use hickory_proto::op::Message;
use hickory_server::net::xfer::Protocol;
use portolan_table::Publisher;
use prometheus::Registry;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::Limits;
use super::handler::Handler;
use super::trust::{Held, Trust};
use crate::config::{Config, NodeConfig, Schema, ZoneConfig};
use crate::forward::Forwarder;
use crate::transfer::Transfers;
use crate::zone::{ZoneBuilder, ZoneMetrics};

fn handler() -> Handler {
    let config = Config {
        listen: Vec::new(),
        zones: vec![ZoneConfig { name: "svc.cluster".into(), schema: Schema::Native, sources: Vec::new() }],
        ttl: 5,
        negative_ttl: 5,
        forward: Vec::new(),
        forward_zones: Vec::new(),
        allow_forward: Vec::new(),
        forward_timeout: core::time::Duration::from_secs(1),
        forward_in_flight_max: 1,
        forward_cache_entries: 1,
        udp_size_max: 1232,
        tcp_connections_max: 1,
        tcp_idle: core::time::Duration::from_secs(1),
        txt_labels: Vec::new(),
        node: NodeConfig::default(),
        ..Config::default()
    };
    let registry = Registry::new();
    let mut publisher = Publisher::new();
    let key = publisher.add_view(ZoneBuilder::new(&config, ZoneMetrics::register(&registry).unwrap()));
    let trust = Held::new(&config, Trust::read(&config).unwrap());
    let table = publisher.table();
    Handler {
        forwarder: Forwarder::new(&config, &registry).unwrap(),
        limits: Arc::new(ArcSwap::from_pointee(Limits::new(&config))),
        rules: trust.rules(),
        transfers: Transfers::new(&config, &trust.keys().load(), table.clone(), key, &registry).unwrap(),
        keys: trust.keys(),
        signatures: super::metrics::signatures(&registry).unwrap(),
        reserve: 0,
        table,
        key,
    }
}

fn reply(runtime: &Runtime, handler: &Handler, packet: &[u8]) -> Option<Vec<u8>> {
    let client = "127.0.0.1:5353".parse().unwrap();
    let reply = runtime.block_on(handler.reply(packet, client, Protocol::Tcp))?;
    Some(reply.packet)
}

/// A query as hostile as it may be while something in it still makes sense.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let octets = |most: usize| prop::collection::vec(any::<u8>(), 0..most);
    let name = prop_oneof![
        Just(b"\x03svc\x07cluster\x00".to_vec()),
        Just(b"\x01a\x03svc\x07cluster\x00".to_vec()),
        Just(vec![0]),
        Just(vec![0xc0, 12]),
        octets(80),
    ];
    let opt = prop_oneof![
        Just(Vec::new()),
        octets(20)
            .prop_map(|data| [&[0, 0, 41, 4, 208, 0, 0, 128, 0, 0, data.len() as u8], &data[..]].concat()),
        octets(60),
    ];
    let counts =
        prop_oneof![Just([0, 1, 0, 0, 0, 0, 0, 1]), Just([0, 1, 0, 0, 0, 0, 0, 0]), any::<[u8; 8]>()];
    (any::<[u8; 4]>(), counts, name, any::<[u8; 4]>(), opt, octets(8)).prop_map(
        |(head, counts, name, question, opt, rest)| {
            [&head[..], &counts, &name, &question, &opt, &rest].concat()
        },
    )
}

#[test]
fn every_packet_has_one_reply_that_can_be_read_or_none() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let handler = handler();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(20_000));
    let outcome = runner.run(&packets(), |packet| {
        let is_reply = packet.get(2).is_none_or(|flags| flags & 0x80 != 0);
        match reply(&runtime, &handler, &packet) {
            None => prop_assert!(packet.len() < 12 || is_reply),
            Some(reply) => {
                prop_assert!(!is_reply, "replies are not answered");
                prop_assert_eq!(&reply[..2], &packet[..2]);
                prop_assert!(reply[2] & 0x80 != 0);
                prop_assert!(Message::from_vec(&reply).is_ok());
            }
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
