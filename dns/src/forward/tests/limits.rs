//! What is bounded: clients that wait, in all and each, and sockets.

use std::collections::HashMap;

use super::*;

fn client(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// Answers after so long.
fn slow(pause: Duration) -> impl Fn(&Got) -> Script + Send + Sync {
    move |got| vec![(pause, with_addresses(&got.message, 1, 60))]
}

/// Asks for `n<index>.example.` for each client in turn, at once.
fn ask_all(forwarder: &Arc<Forwarder>, clients: &[IpAddr]) -> JoinSet<(IpAddr, Vec<String>)> {
    let mut asking = JoinSet::new();
    for (index, &client) in clients.iter().enumerate() {
        let forwarder = Arc::clone(forwarder);
        asking.spawn(async move {
            (client, addresses_for(&forwarder, &format!("n{index}.example."), client).await)
        });
    }
    asking
}

async fn wait_for_waiting(forwarder: &Forwarder, waiting: i64) {
    while forwarder.metrics.in_flight.get() < waiting {
        tokio::time::sleep(MS).await;
    }
}

#[tokio::test]
async fn over_the_bound_it_is_servfail_and_afterwards_well_again() {
    let fake = Fake::new(slow(MS * 200)).await;
    let mut config = config(&[&fake]);
    config.forward_in_flight_max = 4;
    let forwarder = forwarder(&config);
    let clients: Vec<IpAddr> = (1..=10).map(client).collect();
    let outcomes = ask_all(&forwarder, &clients).join_all().await;
    assert_eq!(outcomes.iter().filter(|(_, outcome)| *outcome == ["192.0.2.1"]).count(), 4);
    assert_eq!(queries(&forwarder, Outcome::Overload), 6);
    assert_eq!(addresses(&forwarder, "later.example.").await, ["192.0.2.1"]);
    assert_eq!(forwarder.metrics.in_flight.get(), 0);
}

#[tokio::test]
async fn one_client_gets_a_quarter_of_the_places_and_leaves_the_others_to_others() {
    let fake = Fake::new(slow(MS * 200)).await;
    let mut config = config(&[&fake]);
    config.forward_in_flight_max = 8;
    let forwarder = forwarder(&config);
    let clients = [1, 1, 1, 1, 1, 2, 2, 2, 3].map(client);
    let mut answered = HashMap::new();
    for (client, outcome) in ask_all(&forwarder, &clients).join_all().await {
        *answered.entry(client).or_insert(0) += usize::from(outcome == ["192.0.2.1"]);
    }
    assert_eq!(answered, HashMap::from([(client(1), 2), (client(2), 2), (client(3), 1)]));
    assert_eq!(queries(&forwarder, Outcome::Overload), 4);
    assert_eq!(forwarder.metrics.in_flight.get(), 0);
}

#[tokio::test]
async fn who_goes_away_keeps_the_place_until_the_question_is_done() {
    let fake = Fake::new(slow(MS * 300)).await;
    let mut config = config(&[&fake]);
    config.forward_in_flight_max = 4;
    let forwarder = forwarder(&config);
    drop(tokio::time::timeout(MS * 20, addresses(&forwarder, "gone.example.")).await);
    assert_eq!(addresses(&forwarder, "next.example.").await, ["Failed"]);
    while forwarder.metrics.in_flight.get() > 0 {
        tokio::time::sleep(MS).await;
    }
    assert_eq!(addresses(&forwarder, "next.example.").await, ["192.0.2.1"]);
}

#[tokio::test]
async fn what_is_known_is_told_while_all_places_are_taken() {
    let fake = Fake::new(|got: &Got| {
        let name = got.message.queries[0].name.to_ascii().to_lowercase();
        if name.starts_with("known") { good(got) } else { silent(got) }
    })
    .await;
    let mut config = config(&[&fake]);
    config.forward_in_flight_max = 4;
    let forwarder = forwarder(&config);
    assert_eq!(addresses(&forwarder, "known.example.").await, ["192.0.2.1"]);
    let waiting = ask_all(&forwarder, &[1, 2, 3, 4].map(client));
    wait_for_waiting(&forwarder, 4).await;
    for last in 1..=5 {
        assert_eq!(addresses_for(&forwarder, "known.example.", client(last)).await, ["192.0.2.1"]);
        assert_eq!(addresses_for(&forwarder, "unknown.example.", client(last)).await, ["Failed"]);
    }
    assert_eq!(queries(&forwarder, Outcome::Cached), 5);
    assert_eq!(queries(&forwarder, Outcome::Overload), 5);
    waiting.join_all().await;
}

fn with_sockets(config: &Config, max: usize) -> Arc<Forwarder> {
    Forwarder::with_sockets(config, &Registry::new(), Sockets::new(max)).unwrap()
}

#[tokio::test]
async fn questions_wait_for_a_socket() {
    let fake = Fake::new(slow(MS * 50)).await;
    let forwarder = with_sockets(&config(&[&fake]), 3);
    let clients: Vec<IpAddr> = (1..=15).map(client).collect();
    for (_, outcome) in ask_all(&forwarder, &clients).join_all().await {
        assert_eq!(outcome, ["192.0.2.1"]);
    }
    assert_eq!(fake.got().len(), 15);
}

#[tokio::test]
async fn who_gets_no_socket_in_time_is_overload_and_no_resolvers_fault() {
    let fake = Fake::new(silent).await;
    let mut config = config(&[&fake]);
    config.forward_timeout = MS * 800;
    let forwarder = with_sockets(&config, 2);
    let clients: Vec<IpAddr> = (1..=10).map(client).collect();
    // No resolver is asked in the last moment and then blamed for its silence: who waits gives up before.
    for (_, outcome) in ask_all(&forwarder, &clients).join_all().await {
        assert_eq!(outcome, ["Failed"]);
    }
    // No second try either: it would have to wait for a socket that others wait for to make their first.
    assert_eq!(fake.got().len(), 2);
    assert_eq!((queries(&forwarder, Outcome::Failed), queries(&forwarder, Outcome::Overload)), (2, 8));
    let address = fake.address.to_string();
    assert_eq!(forwarder.metrics.tries.with_label_values(&[&address, "silent"]).get(), 2);
    assert_eq!(forwarder.metrics.cache_entries.get(), 2, "overload is no failure to be remembered");
    assert_eq!(forwarder.metrics.in_flight.get(), 0);
}
