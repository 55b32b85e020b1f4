//! A simulated scheduler: Marathon's HTTP API and event stream over a cluster that is not there.
//!
//! It is made for real clients. Whatever speaks to Marathon can list, scale, kill and follow events here, and the tests, the
//! demonstration and the load tests drive it through a second interface under `/sim/` (see `docs/sim.md`): changes, faults,
//! a lost leader, counts of what each client has asked.
//!
//! ```text
//!  scenario / rate ─┐                ┌─► api: /v2/…  (lists from pictures taken under the lock, written outside it)
//!  control /sim/… ──┼─► World (lock) ┼─► events: one bounded queue per reader, closed when it overflows
//!  library calls ───┘    │ Cluster   └─► backends: real small servers on loopback for each running task
//!                        └─ timers ◄── driver task
//! ```
//! What it does not do: offers, resources, constraints, volumes. Tasks fit everywhere.

mod api;
mod backend;
pub mod cluster;
pub mod command;
mod control;
mod fault;
mod hub;
pub mod scenario;
mod server;
mod stats;
mod world;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use backend::BACKEND_LABEL;
use backend::BackendLauncher;
pub use cluster::{ChangeError, ClusterConfig, Timing};
pub use control::Control;
pub use fault::{Fault, Leader, Scope, Stream};
pub use scenario::{Scenario, Step};
pub use stats::Asked;
use world::World;

/// What a simulation is started with.
#[derive(Debug)]
pub struct SimConfig {
    /// Where the API listens; port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// The cluster.
    pub cluster: ClusterConfig,
    /// Apps there are from the start, as bodies of `POST /v2/apps`.
    pub apps: Vec<Map<String, Value>>,
    /// Pods there are from the start, as bodies of `POST /v2/pods`.
    pub pods: Vec<Map<String, Value>>,
    /// User name and password that every API request must carry.
    pub credentials: Option<(String, String)>,
    /// Whether tasks are real small servers. Agents must then have loopback addresses.
    pub backends: bool,
    /// What happens when.
    pub steps: Vec<Step>,
    /// Changes per second that happen by themselves.
    pub rate: f64,
    /// Period of the event stream's keep-alive.
    pub heartbeat: core::time::Duration,
    /// Events a reader may be behind before it is cut off, as Marathon's `--event_stream_max_outstanding_messages`.
    pub outstanding: usize,
    /// The version told by `/v2/info`.
    pub version: String,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            cluster: ClusterConfig::default(),
            apps: Vec::new(),
            pods: Vec::new(),
            credentials: None,
            backends: false,
            steps: Vec::new(),
            rate: 0.0,
            heartbeat: core::time::Duration::from_secs(10),
            outstanding: scenario::OUTSTANDING,
            version: "1.10.26".to_owned(),
        }
    }
}

impl From<Scenario> for SimConfig {
    fn from(scenario: Scenario) -> Self {
        let Scenario { mut cluster, apps, pods, backends, rate, outstanding, steps } = scenario;
        if backends {
            // Each agent is an address of its own on loopback.
            cluster.agents_from = Ipv4Addr::new(127, 1, 0, 1);
        }
        Self { cluster, apps, pods, backends, rate, outstanding, steps, ..Self::default() }
    }
}

/// Why a simulation does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The listening address.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// A definition of the first state.
    #[error("definition {0} is refused: {1}")]
    Definition(String, ChangeError),
}

/// A running simulation. Dropping it stops it without waiting; [`Sim::shutdown`] waits.
#[derive(Debug)]
pub struct Sim {
    address: SocketAddr,
    world: Arc<World>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Starts a simulation on the current runtime.
///
/// # Errors
/// See [`StartError`].
pub async fn start(config: SimConfig) -> Result<Sim, StartError> {
    let listen = config.listen;
    let listener = TcpListener::bind(listen).await.map_err(|error| StartError::Listen(listen, error))?;
    let address = listener.local_addr().map_err(|error| StartError::Listen(listen, error))?;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let launcher: Box<dyn cluster::Launcher> = match config.backends {
        true => Box::new(BackendLauncher::new(Handle::current(), tasks.clone(), stop.clone())),
        false => Box::<cluster::PaperLauncher>::default(),
    };
    let world = World::new(&config, address, launcher)?;
    world.set_rate(config.rate);
    tasks.spawn(world::drive(Arc::clone(&world), stop.clone()));
    tasks.spawn(server::serve(Arc::clone(&world), listener, tasks.clone(), stop.clone()));
    tasks.spawn(world::follow(Arc::clone(&world), config.steps, stop.clone()));
    Ok(Sim { address, world, tasks, stop })
}

impl Sim {
    /// Base URL of the API: `http://127.0.0.1:4711`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the API listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A handle for driving it, cheap to clone.
    #[must_use]
    pub fn control(&self) -> Control {
        Control { world: Arc::clone(&self.world) }
    }

    /// Ends everything: listeners, streams, backends. Returns when nothing is left.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests;
