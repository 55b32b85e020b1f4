//! Resolvers that should not be resolvers, and resolvers that change.

use hickory_proto::rr::rdata::NS;

use super::*;
use crate::config::ForwardZone;

/// An answer without records: with RA, with AA, with NS records, with an SOA record.
fn empty(flags: [bool; 4]) -> impl Fn(&Got) -> Script + Send + Sync {
    let [recursion, authority, name_servers, soa] = flags;
    move |got| {
        let mut reply = reply(&got.message, ResponseCode::NoError);
        reply.metadata.recursion_available = recursion;
        reply.metadata.authoritative = authority;
        let name = || Name::from_ascii("example.").unwrap();
        if name_servers {
            reply.add_authority(Record::from_rdata(name(), 60, RData::NS(NS(name()))));
        }
        if soa {
            let soa = SOA::new(name(), name(), 1, 1, 1, 1, 30);
            reply.add_authority(Record::from_rdata(name(), 60, RData::SOA(soa)));
        }
        vec![(Duration::ZERO, reply.to_vec().unwrap())]
    }
}

#[tokio::test]
async fn rfc2308_2_2_a_referral_sends_us_to_the_next() {
    for referral in [
        [false, false, true, false],
        [false, false, false, false],
        [true, false, true, false],
        [false, true, false, false],
    ] {
        let (lame, alive) = (Fake::new(empty(referral)).await, Fake::new(good).await);
        let both = forwarder(&config(&[&lame, &alive]));
        assert_eq!(addresses(&both, "a.example.").await, ["192.0.2.1"], "{referral:?}");
        let alone = forwarder(&config(&[&lame]));
        assert_eq!(addresses(&alone, "a.example.").await, ["Failed"], "{referral:?}");
        let tries = alone.metrics.tries.with_label_values(&[&lame.address.to_string(), "error"]);
        assert_eq!(tries.get(), 1);
    }
}

#[tokio::test]
async fn rfc2308_2_2_no_data_is_an_answer() {
    for no_data in [
        [true, false, false, true],
        [true, false, false, false],
        [false, true, true, true],
        [false, false, false, true],
        [true, true, true, false],
    ] {
        let (first, second) = (Fake::new(empty(no_data)).await, Fake::new(good).await);
        let forwarder = forwarder(&config(&[&first, &second]));
        assert_eq!(addresses(&forwarder, "a.example.").await, Vec::<String>::new(), "{no_data:?}");
        assert!(second.got().is_empty());
    }
}

/// Answers with this address, after a while.
fn answers(last: u8, pause: Duration) -> impl Fn(&Got) -> Script + Send + Sync {
    move |got| {
        let mut reply = reply(&got.message, ResponseCode::NoError);
        let address = RData::A(Ipv4Addr::new(192, 0, 2, last).into());
        reply.add_answer(Record::from_rdata(got.message.queries[0].name.clone(), 60, address));
        vec![(pause, reply.to_vec().unwrap())]
    }
}

#[tokio::test]
async fn what_the_old_resolvers_said_goes_with_them() {
    let (old, new) = (Fake::new(answers(1, MS)).await, Fake::new(answers(2, MS)).await);
    let forwarder = forwarder(&config(&[&old]));
    assert_eq!(addresses(&forwarder, "a.example.").await, ["192.0.2.1"]);
    forwarder.reconfigure(&config(&[&old]));
    assert_eq!(addresses(&forwarder, "a.example.").await, ["192.0.2.1"]);
    assert_eq!(old.got().len(), 1, "with the same resolvers the answer is kept");
    for resolvers in [vec![&new], vec![&new, &old], vec![&new]] {
        forwarder.reconfigure(&config(&resolvers));
        assert_eq!(forwarder.metrics.cache_entries.get(), 0);
        assert_eq!(addresses(&forwarder, "a.example.").await.len(), 1);
    }
    assert_eq!(addresses(&forwarder, "a.example.").await, ["192.0.2.2"]);
}

#[tokio::test]
async fn the_order_of_the_resolvers_is_no_change_of_them() {
    let (one, other) = (Fake::new(good).await, Fake::new(good).await);
    let forwarder = forwarder(&config(&[&one, &other]));
    assert_eq!(addresses(&forwarder, "a.example.").await, ["192.0.2.1"]);
    forwarder.reconfigure(&config(&[&other, &one]));
    assert_eq!(addresses(&forwarder, "a.example.").await, ["192.0.2.1"]);
    assert_eq!(one.got().len() + other.got().len(), 1);
}

#[tokio::test]
async fn a_question_that_is_with_the_old_resolvers_is_asked_anew_and_not_kept() {
    let (old, new) = (Fake::new(answers(1, MS * 100)).await, Fake::new(answers(2, MS * 250)).await);
    let forwarder = forwarder(&config(&[&old]));
    let before = async { addresses(&forwarder, "a.example.").await };
    let after = async {
        while old.got().is_empty() {
            tokio::time::sleep(MS).await;
        }
        forwarder.reconfigure(&config(&[&new]));
        // The old one's answer comes while the new one is asked; the second of these shares the first one's query.
        tokio::join!(addresses(&forwarder, "a.example."), async {
            tokio::time::sleep(MS * 150).await;
            addresses(&forwarder, "a.example.").await
        })
    };
    let (before, (after, later)) = tokio::join!(before, after);
    assert_eq!(
        (before, after, later),
        (vec!["192.0.2.1".into()], vec!["192.0.2.2".into()], vec!["192.0.2.2".into()])
    );
    assert_eq!(addresses(&forwarder, "a.example.").await, ["192.0.2.2"]);
    assert_eq!((old.got().len(), new.got().len()), (1, 1));
    assert_eq!(forwarder.metrics.in_flight.get(), 0);
}

#[tokio::test]
async fn a_zone_with_resolvers_of_its_own_is_asked_of_those_alone() {
    let (others, own, inner) = (Fake::new(good).await, Fake::new(good).await, Fake::new(good).await);
    let mut config = config(&[&others]);
    let zone = |name: &str, fake: &Fake| ForwardZone { name: name.into(), forward: vec![fake.address] };
    config.forward_zones = vec![zone("corp.example", &own), zone("lab.corp.example", &inner)];
    let forwarder = forwarder(&config);
    for (name, asked) in [
        ("a.example.", [1, 0, 0]),
        ("CORP.example.", [1, 1, 0]),
        ("a.corp.EXAMPLE.", [1, 2, 0]),
        ("xcorp.example.", [2, 2, 0]),
        ("a.b.lab.corp.example.", [2, 2, 1]),
    ] {
        assert_eq!(addresses(&forwarder, name).await, ["192.0.2.1"], "{name}");
        assert_eq!([&others, &own, &inner].map(|fake| fake.got().len()), asked, "{name}");
    }
    config.forward.clear();
    forwarder.reconfigure(&config);
    assert_eq!(addresses(&forwarder, "b.example.").await, ["Refused"]);
    assert_eq!(addresses(&forwarder, "b.corp.example.").await, ["192.0.2.1"]);
}
