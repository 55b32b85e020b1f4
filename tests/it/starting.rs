//! Starts with and without what was saved, and a second instance.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use portolan::node::Node;
use portolan_config::{Config, Environment};

use crate::support::apps::app;
use crate::support::marathon::Fake;
use crate::support::node::{TestNode, configuration, marathon};
use crate::support::refusing::Refusing;
use crate::support::{block_on, dns, http, until};

const WEB: &str = "web.shop.svc.cluster";

#[test]
fn unknown_is_not_empty() {
    block_on(async {
        let dead = Refusing::new();
        let node = TestNode::start(&marathon(&dead.url()), "").await;
        let answer = dns::ask(node.dns(), WEB, RecordType::A).await;
        assert_eq!(answer.response_code, ResponseCode::ServFail);
        assert_eq!(http::get(node.admin(), "localhost", "/readyz").await.status, 503);
        assert_eq!(http::get(node.admin(), "localhost", "/healthz").await.status, 200);
        let apex = dns::ask(node.dns(), "svc.cluster", RecordType::SOA).await;
        assert_eq!(
            apex.response_code,
            ResponseCode::NoError,
            "what does not depend on the source is answered"
        );
        node.stop().await;
    });
}

#[test]
fn with_the_scheduler_down_the_saved_table_serves() {
    block_on(async {
        let fake = Fake::start(vec![app("/shop/web", &[("10.1.0.1", 31_000)])]);
        let source = marathon(&fake.url());
        let node = TestNode::start(&source, "").await;
        until("a whole list", || async {
            (http::get(node.admin(), "localhost", "/readyz").await.status == 200).then_some(())
        })
        .await;
        fake.kill();
        let home = node.stop().await;

        let heard = || fake.requests("/v2/apps") + fake.requests("/v2/events") + fake.requests("/v2/info");
        let before = heard();
        let node = TestNode::start_in(home, &source, "").await;
        until("the saved answer", || async {
            (dns::ask(node.dns(), WEB, RecordType::A).await.response_code == ResponseCode::NoError)
                .then_some(())
        })
        .await;
        assert_eq!(heard(), before, "the first answer needs no word from the scheduler");
        assert_eq!(dns::addresses(node.dns(), WEB, RecordType::A).await, ["10.1.0.1"]);
        assert_eq!(http::get(node.admin(), "localhost", "/readyz").await.status, 200);
        let sources = http::json(node.admin(), "/api/v1/sources").await;
        assert_eq!(sources["sources"][0]["standing"], "stale");
        node.stop().await;
    });
}

#[test]
fn a_saved_table_of_other_sources_is_not_loaded() {
    block_on(async {
        let fake = Fake::start(vec![app("/shop/web", &[("10.1.0.1", 31_000)])]);
        let node = TestNode::start(&marathon(&fake.url()), "").await;
        until("a whole list", || async {
            (http::get(node.admin(), "localhost", "/readyz").await.status == 200).then_some(())
        })
        .await;
        fake.kill();
        let home = node.stop().await;
        let dead = Refusing::new();
        let node = TestNode::start_in(home, &marathon(&dead.url()), "").await;
        assert_eq!(dns::ask(node.dns(), WEB, RecordType::A).await.response_code, ResponseCode::ServFail);
        node.stop().await;
    });
}

#[test]
fn a_second_instance_on_the_same_state_is_refused() {
    block_on(async {
        let node = TestNode::start("", "").await;
        let text = configuration(&node.home.path().join("state"), "", "");
        let config = Config::parse(&text, "second.toml", &Environment::of_process()).unwrap();
        let error = Node::start(config, None).await.expect_err("the state directory is held");
        assert!(error.to_string().contains("another instance runs on the state directory"), "{error}");
        node.stop().await;
    });
}

#[test]
fn a_port_of_another_instance_is_not_shared() {
    block_on(async {
        let node = TestNode::start("", "").await;
        let other = tempfile::tempdir().unwrap();
        for (listener, address) in [("dns", node.dns()), ("web", node.web()), ("echo", node.echo())] {
            let text = configuration(&other.path().join(listener), "", "");
            let taken = match listener {
                "dns" => text.replace(
                    "listen = [\"127.0.0.1:0\"]\n[[dns",
                    &format!("listen = [\"{address}\"]\n[[dns"),
                ),
                name => text.replace(
                    &format!("name = \"{name}\"\nbind = \"127.0.0.1:0\""),
                    &format!("name = \"{name}\"\nbind = \"{address}\""),
                ),
            };
            assert_ne!(taken, text);
            let config = Config::parse(&taken, "second.toml", &Environment::of_process()).unwrap();
            let error = Node::start(config, None).await.expect_err("the port is taken");
            assert!(format!("{error:#}").contains(&address.to_string()), "{error:#}");
        }
        node.stop().await;
    });
}
