//! `portolan demo`: a simulated Marathon with real small backends, and a node in front of them, in one process.

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use portolan_config::{Config, Environment};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::DemoArgs;
use crate::node::Node;
use crate::sim::command::start_scenario;
use crate::sim::{Scenario, Sim};

/// Longest wait for the first answers.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs until SIGINT (Ctrl-C) or SIGTERM, or for as long as asked.
pub(crate) async fn run(arguments: DemoArgs) -> Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let state = tempfile::tempdir().context("no temporary directory for the state")?;
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let cluster = start_scenario(Scenario::demo(), listen, None)
        .await
        .context("the simulated Marathon cannot be started")?;
    let text = configuration(&arguments, &cluster.url(), state.path());
    let config = Config::parse(&text, "demo.toml", &Environment::of_process())
        .map_err(|mistakes| anyhow::anyhow!("the demo's own configuration: {}", mistakes))?;
    let node = Node::start(config, None).await.context(
        "the demo cannot start (if a port is taken: --dns, --proxy, --tcp and --admin choose others, and port 0 \
         takes a free one)",
    )?;
    let show = async {
        wait_ready(&node).await?;
        tell(&node, &cluster.url())?;
        match arguments.seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
        Ok(ExitCode::SUCCESS)
    };
    let ended = tokio::select! {
        ended = show => ended,
        _ = terminate.recv() => Ok(ExitCode::SUCCESS),
        _ = interrupt.recv() => Ok(ExitCode::SUCCESS),
    };
    // A second signal ends at once what the first lets drain.
    tokio::select! {
        () = stop(node, cluster) => ended,
        _ = terminate.recv() => Ok(ExitCode::FAILURE),
        _ = interrupt.recv() => Ok(ExitCode::FAILURE),
    }
}

async fn stop(node: Node, cluster: Sim) {
    node.drain().await;
    cluster.shutdown().await;
}

fn configuration(arguments: &DemoArgs, marathon: &str, state: &std::path::Path) -> String {
    let DemoArgs { dns, proxy, tcp, admin, .. } = arguments;
    format!(
        r#"
[node]
name = "demo"
state_dir = "{state}"

[[source]]
name = "marathon"
type = "marathon"
urls = ["{marathon}"]

[dns]
listen = ["{dns}"]

[[dns.zone]]
name = "svc.cluster"
schema = "native"

[[proxy.listener]]
name = "web"
bind = "{proxy}"
protocol = "http"

[[proxy.listener]]
name = "echo"
bind = "{tcp}"
protocol = "tcp"

[[proxy.route]]
listener = "web"
host = "shop.example.com"
service = "web.shop"

[[proxy.route]]
listener = "web"
host = "shop.example.com"
path = "/cart"
service = "cart.shop"

[[proxy.route]]
listener = "web"
host = "blog.example.com"
service = "blog"

[[proxy.route]]
listener = "echo"
service = "echo"

[admin]
listen = "{admin}"
"#,
        state = state.display()
    )
}

async fn wait_ready(node: &Node) -> Result<()> {
    let ready = async {
        let live =
            |name: &str| node.table().load().service(name).is_some_and(|s| s.live_members().count() > 0);
        while !["web.shop", "cart.shop", "blog", "echo"].into_iter().all(live) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(READY_TIMEOUT, ready)
        .await
        .context("the simulated tasks did not become healthy in time")
}

/// Prints commands that work as they stand.
fn tell(node: &Node, marathon: &str) -> Result<()> {
    let address = |name: &str| node.address(name).with_context(|| format!("{name} is not bound"));
    let (dns, web, echo, admin) = (address("dns")?, address("web")?, address("echo")?, address("admin")?);
    let dig = format!("dig @{} -p {}", dns.ip(), dns.port());
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "\
Portolan is serving a simulated cluster. Try:

  {dig} web.shop.svc.cluster
  {dig} _http._tcp.web.shop.svc.cluster SRV
  {dig} web.shop.svc.cluster TXT
  curl -H 'Host: shop.example.com' http://{web}/
  curl -H 'Host: shop.example.com' http://{web}/cart
  curl -H 'Host: blog.example.com' http://{web}/
  curl http://{admin}/api/v1/services
  curl http://{admin}/metrics
  curl -X PUT -H 'Content-Type: application/json' -d '{{\"instances\": 5}}' {marathon}/v2/apps//shop/web

TCP echo: {echo}   Marathon: {marathon}   Ctrl-C ends it.
"
    )?;
    out.flush()?;
    Ok(())
}
