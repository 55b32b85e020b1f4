//! Whatever the scheduler does wrong: nothing is lost because of it, it shows, and it heals without a restart.

use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use serde_json::json;

use crate::support::apps::{app, status};
use crate::support::marathon::{Fake, Mood};
use crate::support::node::{TestNode, marathon};
use crate::support::{block_on, dns, http, until};

const WEB: &str = "web.shop.svc.cluster";

fn fast_source(url: &str) -> String {
    format!("{}refresh = \"1s\"\ntimeout = \"1s\"\nstream_idle = \"2s\"\n", marathon(url))
}

async fn standing(node: &TestNode) -> (String, bool) {
    let sources = http::json(node.admin(), "/api/v1/sources").await;
    let source = &sources["sources"][0];
    (source["standing"].as_str().unwrap().to_owned(), !source["error"].is_null())
}

async fn until_addresses(node: &TestNode, expected: &[&str]) {
    until(&format!("{WEB} = {expected:?}"), || async {
        let message = dns::try_ask(node.dns(), WEB, RecordType::A).await?;
        if message.response_code != ResponseCode::NoError {
            return None;
        }
        (dns::addresses(node.dns(), WEB, RecordType::A).await == expected).then_some(())
    })
    .await;
}

async fn until_standing(node: &TestNode, expected: &str) {
    until(&format!("standing {expected}"), || async { (standing(node).await.0 == expected).then_some(()) })
        .await;
}

/// Both tasks stay in the answers, over a time in which whatever was taken away would have gone.
async fn nothing_is_lost(node: &TestNode) {
    for _ in 0..20 {
        let found = dns::addresses(node.dns(), WEB, RecordType::A).await;
        assert_eq!(found, ["10.1.0.1", "10.1.0.2"], "nothing is lost because of an error");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Makes a node that serves two tasks, lets `harm` happen, and checks that both are served throughout and that
/// a change after `heal` arrives.
fn survives(harm: impl FnOnce(&Fake), heal: impl FnOnce(Fake) -> Fake) {
    block_on(async {
        let fake = Fake::start(vec![app("/shop/web", &[("10.1.0.1", 31_000), ("10.1.0.2", 31_000)])]);
        let node = TestNode::start(&fast_source(&fake.url()), "").await;
        until_addresses(&node, &["10.1.0.1", "10.1.0.2"]).await;
        until_standing(&node, "synced").await;

        harm(&fake);
        until_standing(&node, "stale").await;
        assert!(standing(&node).await.1, "the error is shown");
        let metrics = http::get(node.admin(), "localhost", "/metrics").await.body;
        let counted = metrics
            .lines()
            .any(|line| line.starts_with("portolan_source_errors_total{") && !line.ends_with(" 0"));
        assert!(counted, "the error is counted");
        nothing_is_lost(&node).await;

        let fake = heal(fake);
        fake.set_apps(vec![app("/shop/web", &[("10.1.0.3", 31_000)])]);
        until_addresses(&node, &["10.1.0.3"]).await;
        until_standing(&node, "synced").await;
        fake.kill();
        node.stop().await;
    });
}

fn mended(fake: Fake) -> Fake {
    fake.set_mood(Mood::Sound);
    fake
}

fn moody(mood: Mood) {
    survives(
        |fake| {
            fake.set_mood(mood);
            fake.cut();
        },
        mended,
    );
}

#[test]
fn killed_and_started_again() {
    survives(Fake::kill, |fake| Fake::start_at(fake.address, Vec::new()));
}

#[test]
fn hung() {
    moody(Mood::Hung);
}

#[test]
fn internal_errors() {
    moody(Mood::Status(500));
}

#[test]
fn no_leader() {
    moody(Mood::Status(503));
}

#[test]
fn truncated_list() {
    moody(Mood::Truncated);
}

#[test]
fn empty_reply() {
    moody(Mood::Empty);
}

#[test]
fn ten_megabytes_of_garbage() {
    moody(Mood::Garbage(10 << 20));
}

#[test]
fn a_stream_that_falls_silent_is_made_again() {
    block_on(async {
        let fake = Fake::start(vec![app("/shop/web", &[("10.1.0.1", 31_000)])]);
        let node =
            TestNode::start(&fast_source(&fake.url()).replace("refresh = \"1s\"", "refresh = \"1h\""), "")
                .await;
        until_addresses(&node, &["10.1.0.1"]).await;
        let before = fake.requests("/v2/events");
        until("another subscription", || async { (fake.requests("/v2/events") > before).then_some(()) })
            .await;
        assert_eq!(dns::addresses(node.dns(), WEB, RecordType::A).await, ["10.1.0.1"]);
        fake.kill();
        node.stop().await;
    });
}

#[test]
fn a_stream_cut_in_the_middle_of_an_event() {
    block_on(async {
        let fake = Fake::start(vec![app("/shop/web", &[("10.1.0.1", 31_000), ("10.1.0.2", 31_000)])]);
        let source = fast_source(&fake.url()).replace("refresh = \"1s\"", "refresh = \"1h\"");
        let node = TestNode::start(&source, "").await;
        until_addresses(&node, &["10.1.0.1", "10.1.0.2"]).await;
        until("a subscription", || async { (fake.subscribers() > 0).then_some(()) }).await;
        // All of the event but the blank line that ends it. No list repairs what it would do: none is answered.
        fake.set_mood(Mood::Hung);
        let asked = || fake.requests("/v2/events") + fake.requests("/v2/apps");
        let before = asked();
        let killed = status("/shop/web", 0, "10.1.0.1", 31_000, "TASK_KILLED");
        fake.raw(format!("event: status_update_event\r\ndata: {killed}\r\n").as_bytes());
        fake.cut();
        until("another connection", || async { (asked() > before).then_some(()) }).await;
        nothing_is_lost(&node).await;
        fake.set_mood(Mood::Sound);
        until("another subscription", || async { (fake.subscribers() > 0).then_some(()) }).await;
        until_standing(&node, "synced").await;
        nothing_is_lost(&node).await;
        fake.kill();
        node.stop().await;
    });
}

#[test]
fn the_leader_moves() {
    block_on(async {
        let first = Fake::start(vec![app("/shop/web", &[("10.1.0.1", 31_000)])]);
        let second = Fake::start(vec![app("/shop/web", &[("10.1.0.2", 31_000)])]);
        let source = fast_source(&first.url())
            .replace(&first.url(), &format!("{}\", \"{}", first.url(), second.url()));
        let node = TestNode::start(&source, "").await;
        until_addresses(&node, &["10.1.0.1"]).await;
        first.kill();
        until_addresses(&node, &["10.1.0.2"]).await;
        until_standing(&node, "synced").await;
        second.kill();
        node.stop().await;
    });
}

#[test]
fn no_tasks_in_a_whole_answer_is_believed() {
    block_on(async {
        let fake = Fake::start(vec![app("/shop/web", &[("10.1.0.1", 31_000)])]);
        let node = TestNode::start(&fast_source(&fake.url()), "").await;
        until_addresses(&node, &["10.1.0.1"]).await;
        fake.set_apps(vec![app("/shop/web", &[])]);
        until("no data", || async {
            let message = dns::ask(node.dns(), WEB, RecordType::A).await;
            (message.response_code == ResponseCode::NoError && message.answers.is_empty()).then_some(())
        })
        .await;
        fake.set_apps(Vec::new());
        until("no such name", || async {
            (dns::ask(node.dns(), WEB, RecordType::A).await.response_code == ResponseCode::NXDomain)
                .then_some(())
        })
        .await;
        fake.kill();
        node.stop().await;
    });
}

#[test]
fn an_event_is_applied_without_another_list() {
    block_on(async {
        let fake = Fake::start(vec![app("/shop/web", &[("10.1.0.1", 31_000), ("10.1.0.2", 31_000)])]);
        let node = TestNode::start(&marathon(&fake.url()), "").await;
        until_addresses(&node, &["10.1.0.1", "10.1.0.2"]).await;
        until("a subscription", || async { (fake.subscribers() > 0).then_some(()) }).await;
        let lists = fake.requests("/v2/apps");
        fake.set_apps(vec![app("/shop/web", &[("10.1.0.1", 31_000)])]);
        fake.event("status_update_event", status("/shop/web", 1, "10.1.0.2", 31_000, "TASK_KILLING"));
        until_addresses(&node, &["10.1.0.1"]).await;
        assert_eq!(fake.requests("/v2/apps"), lists, "one change costs no list");
        fake.kill();
        node.stop().await;
    });
}

#[test]
fn one_odd_app_costs_itself_alone() {
    block_on(async {
        let odd = json!({ "id": "/odd", "tasks": "none", "portDefinitions": 7, "labels": [] });
        let fake = Fake::start(vec![odd, app("/shop/web", &[("10.1.0.1", 31_000)])]);
        let node = TestNode::start(&marathon(&fake.url()), "").await;
        until_addresses(&node, &["10.1.0.1"]).await;
        until("the problem is shown", || async {
            let sources = http::json(node.admin(), "/api/v1/sources").await;
            let problems = sources["sources"][0]["problems"].as_array().unwrap();
            problems.iter().any(|problem| problem["place"] == json!("/odd")).then_some(())
        })
        .await;
        fake.kill();
        node.stop().await;
    });
}
