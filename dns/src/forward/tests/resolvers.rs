//! Resolvers that should not be resolvers, and resolvers that change.

use hickory_proto::rr::rdata::NS;

use super::*;

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
