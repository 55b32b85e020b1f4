//! The forwarder against scripted resolvers on loopback.

mod fake;
mod limits;
mod resolvers;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record};
use tokio::task::JoinSet;

use super::*;
use crate::wire::text_to_name;
use fake::*;

#[tokio::test]
async fn an_answer_comes_in_the_clients_spelling_and_once_only() {
    let fake = Fake::new(good).await;
    let forwarder = forwarder(&config(&[&fake]));
    for name in ["Www.example.", "wwW.EXAMPLE."] {
        let Forwarded::Answer(message) = forwarder.resolve(&question(name), CLIENT).await else { panic!() };
        assert_eq!(message.queries[0].name.to_ascii(), name);
        assert_eq!(message.answers[0].name.to_ascii(), name);
        assert_eq!(message.answers[0].data.to_string(), "192.0.2.1");
    }
    let got = fake.got();
    assert_eq!(got.len(), 1, "the second came from the cache");
    assert!(got[0].message.metadata.recursion_desired && !got[0].tcp);
    assert_eq!(got[0].message.max_payload(), 1232);
    assert_eq!((queries(&forwarder, Outcome::Answered), queries(&forwarder, Outcome::Cached)), (1, 1));
}

#[tokio::test]
async fn rfc5452_9_queries_differ_in_id_port_and_spelling() {
    let fake = Fake::new(|got: &Got| vec![(Duration::ZERO, with_addresses(&got.message, 1, 0))]).await;
    let forwarder = forwarder(&config(&[&fake]));
    for _ in 0..8 {
        assert_eq!(addresses(&forwarder, "a-name-with-letters.example.").await, ["192.0.2.1"]);
    }
    let got = fake.got();
    let ids: std::collections::HashSet<u16> = got.iter().map(|got| got.message.metadata.id).collect();
    let names: std::collections::HashSet<String> =
        got.iter().map(|got| got.message.queries[0].name.to_ascii()).collect();
    assert_eq!(got.len(), 8, "a TTL of 0 is not kept");
    assert!(ids.len() >= 7 && names.len() >= 7, "{ids:?} {names:?}");
}

#[tokio::test]
async fn a_dead_resolver_costs_one_pause_and_then_nothing() {
    let (dead, alive) = (Fake::new(silent).await, Fake::new(good).await);
    let forwarder = forwarder(&config(&[&dead, &alive]));
    for round in 0..6 {
        let started = Instant::now();
        assert_eq!(addresses(&forwarder, &format!("n{round}.example.")).await, ["192.0.2.1"]);
        assert!(started.elapsed() < MS * 1500, "round {round}: {:?}", started.elapsed());
    }
    assert!(dead.got().len() < 6, "asked first no more: {}", dead.got().len());
    assert_eq!(alive.got().len(), 6);
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_passed_over_at_once() {
    let gone = Fake::new(good).await.address;
    let alive = Fake::new(good).await;
    let mut config = config(&[&alive]);
    config.forward.insert(0, gone);
    let started = Instant::now();
    assert_eq!(addresses(&forwarder(&config), "a.example.").await, ["192.0.2.1"]);
    assert!(started.elapsed() < MS * 250, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_slow_resolver_is_overtaken() {
    let slow = Fake::new(|got: &Got| vec![(MS * 1500, with_addresses(&got.message, 2, 60))]).await;
    let fast = Fake::new(good).await;
    let started = Instant::now();
    assert_eq!(addresses(&forwarder(&config(&[&slow, &fast])), "a.example.").await, ["192.0.2.1"]);
    assert!(started.elapsed() < MS * 1000, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_slow_answer_is_better_than_none() {
    let slow = Fake::new(|got: &Got| vec![(MS * 1000, with_addresses(&got.message, 1, 60))]).await;
    assert_eq!(addresses(&forwarder(&config(&[&slow])), "a.example.").await, ["192.0.2.1"]);
}

#[tokio::test]
async fn with_all_dead_it_is_servfail_at_the_deadline() {
    let (one, two) = (Fake::new(silent).await, Fake::new(silent).await);
    let mut config = config(&[&one, &two]);
    config.forward_timeout = MS * 700;
    let forwarder = forwarder(&config);
    let started = Instant::now();
    assert_eq!(addresses(&forwarder, "a.example.").await, ["Failed"]);
    assert!((MS * 650..MS * 1500).contains(&started.elapsed()), "{:?}", started.elapsed());
    let asked = one.got().len() + two.got().len();
    assert!((2..=6).contains(&asked), "tries are bounded: {asked}");
    // RFC 9520 §3.2: the failure is remembered for a moment.
    assert_eq!(addresses(&forwarder, "a.example.").await, ["Failed"]);
    assert_eq!(one.got().len() + two.got().len(), asked);
}

#[tokio::test]
async fn servfail_and_refused_send_us_to_the_next() {
    for code in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NotImp] {
        let (bad, alive) = (Fake::new(with_code(code)).await, Fake::new(good).await);
        let started = Instant::now();
        assert_eq!(addresses(&forwarder(&config(&[&bad, &alive])), "a.example.").await, ["192.0.2.1"]);
        assert!(started.elapsed() < MS * 250, "{code}: {:?}", started.elapsed());
    }
    let bad = Fake::new(with_code(ResponseCode::ServFail)).await;
    let started = Instant::now();
    assert_eq!(addresses(&forwarder(&config(&[&bad])), "a.example.").await, ["Failed"]);
    assert!(started.elapsed() < MS * 1000, "no use in asking again");
}

#[tokio::test]
async fn forged_packets_are_passed_over() {
    let fake = Fake::new(|got: &Got| {
        let mut wrong_id = with_addresses(&got.message, 9, 60);
        wrong_id[1] ^= 1;
        let mut other = got.message.clone();
        other.queries[0].name = Name::from_ascii("other.example.").unwrap();
        let wrong_question = with_addresses(&other, 9, 60);
        let garbage = vec![0xff; 40];
        let right = with_addresses(&got.message, 1, 60);
        [wrong_id, wrong_question, garbage, Vec::new(), right].map(|packet| (Duration::ZERO, packet)).into()
    })
    .await;
    let forwarder = forwarder(&config(&[&fake]));
    assert_eq!(addresses(&forwarder, "a.example.").await, ["192.0.2.1"]);
    assert_eq!(forwarder.metrics.foreign.get(), 4);
}

#[tokio::test]
async fn a_flood_of_forged_packets_moves_the_question_to_tcp() {
    let fake = Fake::new(|got: &Got| {
        let mut packet = with_addresses(&got.message, 9, 60);
        if got.tcp {
            return good(got);
        }
        packet[1] ^= 1;
        vec![(Duration::ZERO, packet); 40]
    })
    .await;
    assert_eq!(addresses(&forwarder(&config(&[&fake])), "a.example.").await, ["192.0.2.1"]);
    assert!(fake.got().iter().any(|got| got.tcp));
}

#[tokio::test]
async fn an_answer_with_a_good_head_and_a_bad_body_is_no_answer() {
    let bad = Fake::new(|got: &Got| {
        let mut packet = with_addresses(&got.message, 1, 60);
        packet.truncate(packet.len() - 3);
        vec![(Duration::ZERO, packet)]
    })
    .await;
    let alive = Fake::new(good).await;
    assert_eq!(addresses(&forwarder(&config(&[&bad, &alive])), "a.example.").await, ["192.0.2.1"]);
    assert_eq!(addresses(&forwarder(&config(&[&bad])), "a.example.").await, ["Failed"]);
}

#[tokio::test]
async fn rfc7766_5_a_cut_answer_is_asked_for_again_over_tcp() {
    let fake = Fake::new(|got: &Got| {
        if got.tcp {
            return vec![(Duration::ZERO, with_addresses(&got.message, 200, 60))];
        }
        let mut cut = reply(&got.message, ResponseCode::NoError);
        cut.metadata.truncation = true;
        vec![(Duration::ZERO, cut.to_vec().unwrap())]
    })
    .await;
    assert_eq!(addresses(&forwarder(&config(&[&fake])), "a.example.").await.len(), 200);
}

#[tokio::test]
async fn a_resolver_that_changes_the_case_is_believed_over_tcp_and_remembered() {
    let fake = Fake::new(|got: &Got| {
        let mut lower = got.message.clone();
        lower.queries[0].name = lower.queries[0].name.to_lowercase();
        vec![(Duration::ZERO, with_addresses(&lower, 1, 60))]
    })
    .await;
    let forwarder = forwarder(&config(&[&fake]));
    assert_eq!(addresses(&forwarder, "a-long-enough.example.").await, ["192.0.2.1"]);
    assert_eq!(addresses(&forwarder, "another-name.example.").await, ["192.0.2.1"]);
    let tcp: Vec<bool> = fake.got().iter().map(|got| got.tcp).collect();
    assert_eq!(tcp, [false, true, false]);
}

#[tokio::test]
async fn rfc5452_9_2_one_packet_in_another_case_does_not_make_the_next_query_guessable() {
    let fake = Fake::new(|got: &Got| {
        let mut answered = got.message.clone();
        if !got.tcp {
            answered.queries[0].name = answered.queries[0].name.to_lowercase();
        }
        vec![(Duration::ZERO, with_addresses(&answered, 1, 60))]
    })
    .await;
    let forwarder = forwarder(&config(&[&fake]));
    for round in 0..4 {
        let name = format!("a-long-enough-name-{round}.example.");
        assert_eq!(addresses(&forwarder, &name).await, ["192.0.2.1"]);
    }
    let got = fake.got();
    assert_eq!(got.iter().map(|got| got.tcp).collect::<Vec<_>>(), [false, true].repeat(4));
    let random = |got: &Got| got.message.queries[0].name.to_ascii().bytes().any(|b| b.is_ascii_uppercase());
    assert!(got.iter().all(random), "each query keeps its random case");
    assert_eq!(forwarder.metrics.foreign.get(), 4);
}

#[tokio::test]
async fn rfc6891_7_a_resolver_without_edns_is_asked_without() {
    let fake = Fake::new(|got: &Got| match got.message.edns {
        Some(_) => with_code(ResponseCode::FormErr)(got),
        None => good(got),
    })
    .await;
    let forwarder = forwarder(&config(&[&fake]));
    assert_eq!(addresses(&forwarder, "a.example.").await, ["192.0.2.1"]);
    assert_eq!(addresses(&forwarder, "b.example.").await, ["192.0.2.1"]);
    let edns: Vec<bool> = fake.got().iter().map(|got| got.message.edns.is_some()).collect();
    assert_eq!(edns, [true, false, false], "remembered");
}

#[tokio::test]
async fn rfc2308_5_a_denial_is_kept_by_its_soa() {
    let fake = Fake::new(|got: &Got| {
        let mut denial = reply(&got.message, ResponseCode::NXDomain);
        let apex = Name::from_ascii("example.").unwrap();
        let soa = SOA::new(apex.clone(), apex.clone(), 1, 1, 1, 1, 30);
        if got.message.queries[0].name.to_ascii().to_lowercase().starts_with("kept") {
            denial.add_authority(Record::from_rdata(apex, 600, RData::SOA(soa)));
        }
        vec![(Duration::ZERO, denial.to_vec().unwrap())]
    })
    .await;
    let forwarder = forwarder(&config(&[&fake]));
    for _ in 0..2 {
        for name in ["kept.example.", "not.example."] {
            let Forwarded::Answer(denial) = forwarder.resolve(&question(name), CLIENT).await else {
                panic!()
            };
            assert_eq!(denial.metadata.response_code, ResponseCode::NXDomain);
        }
    }
    assert_eq!(fake.got().len(), 3, "the one without an SOA was asked twice");
}

#[tokio::test]
async fn one_query_serves_all_who_ask_the_same() {
    let fake = Fake::new(|got: &Got| vec![(MS * 100, with_addresses(&got.message, 1, 60))]).await;
    let forwarder = forwarder(&config(&[&fake]));
    let mut clients = JoinSet::new();
    for _ in 0..50 {
        let forwarder = Arc::clone(&forwarder);
        clients.spawn(async move { addresses(&forwarder, "same.example.").await });
    }
    for addresses in clients.join_all().await {
        assert_eq!(addresses, ["192.0.2.1"]);
    }
    assert_eq!(fake.got().len(), 1);
    assert_eq!((queries(&forwarder, Outcome::Answered), queries(&forwarder, Outcome::Shared)), (1, 49));
}

#[tokio::test]
async fn who_asked_first_may_leave_the_others_are_answered() {
    let fake = Fake::new(|got: &Got| vec![(MS * 100, with_addresses(&got.message, 1, 60))]).await;
    let forwarder = forwarder(&config(&[&fake]));
    let leaving = tokio::time::timeout(MS * 20, addresses(&forwarder, "same.example."));
    let (left, answered) = tokio::join!(leaving, addresses(&forwarder, "same.example."));
    assert!(left.is_err());
    assert_eq!(answered, ["192.0.2.1"]);
}

#[tokio::test]
async fn only_the_allowed_may_ask_and_only_record_sets() {
    let fake = Fake::new(good).await;
    let forwarder = forwarder(&config(&[&fake]));
    let stranger = "203.0.113.5".parse().unwrap();
    assert!(matches!(forwarder.resolve(&question("a.example."), stranger).await, Forwarded::Refused));
    for meta in [41, 249, 251, 252] {
        let question = Question::new(&text_to_name("a.example.").unwrap(), meta, false, false);
        assert!(matches!(forwarder.resolve(&question, CLIENT).await, Forwarded::Refused), "type {meta}");
    }
    assert!(fake.got().is_empty());
    let none = self::forwarder(&config(&[]));
    assert!(matches!(none.resolve(&question("a.example."), CLIENT).await, Forwarded::Refused));
}

#[tokio::test]
async fn resolvers_that_are_ourselves_are_never_asked() {
    let fake = Fake::new(good).await;
    let forwarder = forwarder(&config(&[&fake]));
    let listening = forwarder.listening_on(SocketAddr::from(([0, 0, 0, 0], fake.address.port())));
    assert!(matches!(forwarder.resolve(&question("a.example."), CLIENT).await, Forwarded::Refused));
    assert!(!forwarder.access().load().is_open(), "no recursion is offered");
    assert!(fake.got().is_empty());
    drop(listening);
    assert_eq!(addresses(&forwarder, "a.example.").await, ["192.0.2.1"]);
}

/// A resolver that sends the query back to the forwarder: as a plain forwarder that keeps the spelling, or as
/// another Portolan, which doesn't but hands on the trail.
async fn loops_back(keep_spelling: bool) {
    let (sender, mut back) = tokio::sync::mpsc::channel::<Message>(8);
    let fake = Fake::new(move |got: &Got| {
        sender.try_send(got.message.clone()).unwrap();
        Vec::new()
    })
    .await;
    let forwarder = forwarder(&config(&[&fake]));
    let mut client = JoinSet::new();
    client.spawn({
        let forwarder = Arc::clone(&forwarder);
        async move { addresses(&forwarder, "a-long-enough.example.").await }
    });
    let came = back.recv().await.unwrap();
    let mut name = text_to_name(&came.queries[0].name.to_ascii()).unwrap();
    if !keep_spelling {
        name.make_ascii_lowercase();
    }
    let mut again = Question::new(&name, 1, false, false);
    if !keep_spelling {
        let edns = came.edns.as_ref().unwrap();
        let Some(hickory_proto::rr::rdata::opt::EdnsOption::Unknown(_, trail)) =
            edns.option(LOOP_OPTION.into())
        else {
            panic!("no trail")
        };
        again.set_trail(trail);
    }
    let started = Instant::now();
    assert!(matches!(forwarder.resolve(&again, CLIENT).await, Forwarded::Failed));
    assert!(started.elapsed() < MS * 200, "known at once: {:?}", started.elapsed());
    assert_eq!(queries(&forwarder, Outcome::Loop), 1);
}

#[tokio::test]
async fn our_own_spelling_coming_back_is_a_loop() {
    loops_back(true).await;
}

#[tokio::test]
async fn our_own_token_coming_back_is_a_loop() {
    loops_back(false).await;
}

#[tokio::test]
async fn flags_for_dnssec_are_handed_on_and_kept_apart() {
    let fake = Fake::new(good).await;
    let forwarder = forwarder(&config(&[&fake]));
    let name = text_to_name("a.example.").unwrap();
    for (dnssec_ok, checking_disabled) in [(false, false), (true, false), (true, true)] {
        let question = Question::new(&name, 1, dnssec_ok, checking_disabled);
        assert!(matches!(forwarder.resolve(&question, CLIENT).await, Forwarded::Answer(_)));
    }
    let flags: Vec<(bool, bool)> = fake
        .got()
        .iter()
        .map(|got| {
            let edns = got.message.edns.as_ref().unwrap();
            (edns.flags().dnssec_ok, got.message.metadata.checking_disabled)
        })
        .collect();
    assert_eq!(flags, [(false, false), (true, false), (true, true)]);
}

#[tokio::test]
async fn reconfigured_it_asks_the_new_ones_and_forgets_the_series_of_the_old() {
    let (old, new) = (Fake::new(good).await, Fake::new(good).await);
    let registry = Registry::new();
    let forwarder = Forwarder::new(&config(&[&old]), &registry).unwrap();
    assert_eq!(addresses(&forwarder, "a.example.").await, ["192.0.2.1"]);
    forwarder.reconfigure(&config(&[&new]));
    assert_eq!(addresses(&forwarder, "b.example.").await, ["192.0.2.1"]);
    assert_eq!((old.got().len(), new.got().len()), (1, 1));
    let series = format!("{:?}", registry.gather());
    assert!(series.contains(&new.address.to_string()) && !series.contains(&old.address.to_string()));
}

#[tokio::test]
async fn every_metric_of_the_table_is_there() {
    let fake = Fake::new(good).await;
    let registry = Registry::new();
    let forwarder = Forwarder::new(&config(&[&fake]), &registry).unwrap();
    assert_eq!(addresses(&forwarder, "a.example.").await, ["192.0.2.1"]);
    forwarder.metrics.resting.with_label_values(&["x"]).set(0);
    let names: Vec<String> = registry.gather().iter().map(|family| family.name().to_owned()).collect();
    for (name, help, _) in METRICS {
        assert!(names.iter().any(|known| known == name), "{name}");
        assert!(name.starts_with("portolan_dns_") && !help.is_empty());
    }
    assert_eq!(names.len(), METRICS.len());
}
