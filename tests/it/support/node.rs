//! A whole node in this process, on ports from the kernel.

use std::net::SocketAddr;

use portolan::node::Node;
use portolan_config::{Config, Environment};
use tempfile::TempDir;

/// A running node and the directory of its state.
pub(crate) struct TestNode {
    pub(crate) node: Node,
    pub(crate) home: TempDir,
}

impl TestNode {
    /// Starts a node with `sources` (TOML) and one DNS, one HTTP (`web`) and one TCP (`echo`) listener; `more` is
    /// appended to the configuration.
    pub(crate) async fn start(sources: &str, more: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), sources, more).await
    }

    /// The same with the state of a node before.
    pub(crate) async fn start_in(home: TempDir, sources: &str, more: &str) -> Self {
        let text = configuration(&home.path().join("state"), sources, more);
        let environment = Environment { host_name: "edge-1".into(), ..Environment::of_process() };
        let config =
            Config::parse(&text, "test.toml", &environment).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let node = Node::start(config, None).await.unwrap_or_else(|error| panic!("{error:#}"));
        Self { node, home }
    }

    pub(crate) fn dns(&self) -> SocketAddr {
        self.node.address("dns").unwrap()
    }

    pub(crate) fn web(&self) -> SocketAddr {
        self.node.address("web").unwrap()
    }

    pub(crate) fn echo(&self) -> SocketAddr {
        self.node.address("echo").unwrap()
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.node.address("admin").unwrap()
    }

    /// Drains the node and gives its directory back for the next.
    pub(crate) async fn stop(self) -> TempDir {
        self.node.drain().await;
        self.home
    }
}

/// The configuration file of a test node.
pub(crate) fn configuration(state: &std::path::Path, sources: &str, more: &str) -> String {
    format!(
        r#"
[node]
name = "edge-1"
workers = 2
state_dir = "{}"
{sources}
[dns]
listen = ["127.0.0.1:0"]
[[dns.zone]]
name = "svc.cluster"
schema = "native"
[[proxy.listener]]
name = "web"
bind = "127.0.0.1:0"
protocol = "http"
[[proxy.listener]]
name = "echo"
bind = "127.0.0.1:0"
protocol = "tcp"
[admin]
listen = ["127.0.0.1:0"]
{more}
"#,
        state.display()
    )
}

/// A Marathon source for the test node.
pub(crate) fn marathon(url: &str) -> String {
    format!("[[source]]\nname = \"marathon\"\ntype = \"marathon\"\nurls = [\"{url}\"]\n")
}
