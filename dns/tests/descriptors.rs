//! A process that has no file descriptor left. Alone in its binary: the limit is the whole process's.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "it/node.rs"]
#[allow(dead_code, reason = "shared with the other test binary, which uses all of it")]
mod node;
#[path = "it/resolver.rs"]
#[allow(dead_code, reason = "the same")]
mod resolver;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use node::{Node, config};
use resolver::Resolver;

const QUERIES: &str = "portolan_dns_forward_queries_total";
const TRIES: &str = "portolan_dns_forward_tries_total";

#[test]
fn without_descriptors_it_is_overload_and_not_the_resolvers_fault() {
    let resolver = Resolver::start();
    let mut config = config();
    config.forward = vec![resolver.address];
    let mut node = Node::start(&config);
    node.publish(&[("web", 2)]);
    let mut client = node.connect();
    assert_eq!(client.ask("before.example.", RecordType::A).answers.len(), 1);

    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 3, hard).unwrap();
    for index in 0..10 {
        let reply = client.ask(&format!("n{index}.example."), RecordType::A);
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    }
    assert_eq!(client.ask("web.svc.cluster.", RecordType::A).answers.len(), 2);
    assert_eq!(client.ask("before.example.", RecordType::A).answers.len(), 1);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();

    assert_eq!(node.metric(QUERIES, Some("overload")), 10.0);
    assert_eq!(node.metric(TRIES, None), 1.0, "only the one that went out");
    assert_eq!(node.metric("portolan_dns_forward_resolver_resting", None), 0.0);
    assert_eq!(client.ask("n0.example.", RecordType::A).answers.len(), 1, "nothing is remembered");
}
