//! One running Portolan: control runtime side, data threads, sockets, reload and drain.
//!
//! ```text
//!  start ──► serving ──reload──► serving ──drain──► stopped
//!             │ every socket has a token of its own: a reload stops those that are gone and binds the new
//!             └ sources, zones, routes, limits: handed to their owners, who keep what has not changed
//! ```

mod mesos_dns;
mod metrics;
mod sockets;
mod state_lock;
mod workers;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use portolan_config::Config;
use portolan_discovery::{Discovery, Handle, Secret};
use portolan_dns::{ZoneBuilder, ZoneMetrics, Zones};
use portolan_proxy::tls::{Certificates, Clients};
use portolan_proxy::{Proxy, RouteBuilder, Routes};
use portolan_table::{Publisher, Table, ViewKey};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Access, Command, ConfigurationInfo, ListenerInfo};
use metrics::Metrics;
use sockets::Sockets;
use state_lock::{StateError, StateLock};
use workers::Workers;

/// Commands from the admin side that may wait.
const COMMANDS_MAX: usize = 8;
/// Beyond the drain limit, for the last futures to notice.
const DRAIN_MARGIN: Duration = Duration::from_secs(2);

/// A running node.
#[derive(Debug)]
pub struct Node {
    config: Config,
    table: Table,
    zones: ViewKey<Zones>,
    zone_metrics: ZoneMetrics,
    routes: ViewKey<Routes>,
    discovery: Handle,
    dns: Arc<portolan_dns::Server>,
    proxy: Arc<Proxy>,
    proxy_config: watch::Sender<Arc<portolan_proxy::Config>>,
    workers: Workers,
    sockets: Sockets,
    admin: Arc<admin::State>,
    metrics: Metrics,
    commands: mpsc::Receiver<Command>,
    control: JoinSet<()>,
    stop: CancellationToken,
    /// As configured at the start, even if it could not be used.
    state_dir: Option<PathBuf>,
    _lock: Option<StateLock>,
}

impl Node {
    /// Starts everything that `config` asks for. `file` is shown in the admin API.
    ///
    /// # Errors
    /// When the state directory is held by another instance, an address cannot be bound, or a thread cannot
    /// be started. Sources that cannot be reached are no error: they are retried.
    pub async fn start(mut config: Config, file: Option<PathBuf>) -> Result<Self> {
        let state_dir = config.node.state_dir.clone();
        let lock = take_state(&mut config)?;
        let registry = prometheus::Registry::new();
        let metrics = Metrics::register(&registry)?;
        let stop = CancellationToken::new();
        let mut control = JoinSet::new();
        let mut sockets = Sockets::default();

        let certificates = read_certificates(&config).await?;
        let trust = read_trust(&config).await?;
        let count = worker_count(&config);
        let bound = sockets.bind(&config, count)?;

        let dns = dns_of(&config);
        let mut publisher = Publisher::new();
        let table = publisher.table();
        let zone_metrics = ZoneMetrics::register(&registry)?;
        let zones = publisher.add_view(ZoneBuilder::new(&dns, zone_metrics.clone()));
        let routes = publisher.add_view(RouteBuilder::new(&config.proxy));
        let (discovery, driver) = Discovery::start(config.discovery.clone(), publisher, &registry)
            .context("the sources cannot be started")?;
        control.spawn(driver);

        let dns = portolan_dns::Server::new(&dns, trust, table.clone(), zones, &registry);
        let generations = discovery.generations();
        control.spawn(portolan_dns::tend(Arc::clone(&dns), generations, stop.clone()));
        let proxy = Proxy::new(config.proxy.clone(), table.clone(), routes, &registry);
        proxy.certify(&certificates);
        control.spawn(portolan_proxy::tls::watch(Arc::clone(&proxy), certificates, stop.clone()));
        let (proxy_config, checks_config) = watch::channel(Arc::new(config.proxy.clone()));
        let checks =
            run_checks(table.clone(), checks_config, proxy.clients(), discovery.clone(), stop.clone());
        control.spawn(checks);

        let (command_sender, commands) = mpsc::channel(COMMANDS_MAX);
        let admin = Arc::new(admin::State {
            table: table.clone(),
            zones,
            routes,
            discovery: discovery.clone(),
            proxy: Arc::clone(&proxy),
            registry,
            cuts: metrics.admin_cuts.clone(),
            listeners: ArcSwap::from_pointee(sockets.list()),
            configuration: ArcSwap::from_pointee(ConfigurationInfo {
                file: file.map(|file| file.display().to_string()),
                refused: Vec::new(),
            }),
            mesos_dns: ArcSwap::from_pointee(mesos_dns::shown(&config)),
            access: ArcSwap::from_pointee(access(&config)?),
            commands: command_sender,
            draining: AtomicBool::new(false),
        });
        let workers = Workers::start(count, &proxy)?;
        let mut node = Self {
            config,
            table,
            zones,
            zone_metrics,
            routes,
            discovery,
            dns,
            proxy,
            proxy_config,
            workers,
            sockets,
            admin,
            metrics,
            commands,
            control,
            stop,
            state_dir,
            _lock: lock,
        };
        node.serve(bound).await;
        tracing::info!(workers = count, "serving");
        Ok(node)
    }

    /// The routing table.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Every bound address, by listener name (`dns` and `admin` for those).
    #[must_use]
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        self.sockets.addresses()
    }

    /// The first bound address of a listener, or of `dns` or `admin`.
    #[must_use]
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.addresses().into_iter().find(|(known, _)| known == name).map(|(_, address)| address)
    }

    /// The next command from the admin API. Cancel-safe. Watches over the control tasks meanwhile.
    pub(crate) async fn command(&mut self) -> Option<Command> {
        loop {
            // Both arms are cancel-safe: recv loses no command, join_next no result.
            tokio::select! {
                command = self.commands.recv() => return command,
                Some(ended) = self.control.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a control task failed; the table in force goes on serving");
                    }
                }
            }
        }
    }

    /// Says in the admin API that a new configuration was refused, and why.
    pub(crate) fn refuse(&self, mistakes: Vec<String>) {
        self.metrics.reloaded(false);
        self.tell(mistakes);
    }

    fn tell(&self, refused: Vec<String>) {
        let file = self.admin.configuration.load().file.clone();
        self.admin.configuration.store(Arc::new(ConfigurationInfo { file, refused }));
    }

    /// Takes another configuration. What has not changed goes on undisturbed.
    ///
    /// # Errors
    /// When a new address cannot be bound; the old configuration then stays in force as a whole.
    pub async fn reload(&mut self, mut config: Config) -> Result<()> {
        if config.node.state_dir != self.state_dir {
            tracing::warn!("a change of [node] state_dir takes a restart");
        }
        move_state(&mut config, self.config.node.state_dir.as_deref());
        if worker_count(&config) != self.workers.len() {
            tracing::warn!("a change of [node] workers takes a restart");
        }
        if config.proxy.access_log != self.config.proxy.access_log {
            tracing::warn!("a change of [proxy.access_log] takes a restart");
        }
        let access = access(&config)?;
        let certificates = read_certificates(&config).await?;
        let trust = read_trust(&config).await?;
        let bound = self.sockets.bind(&config, self.workers.len())?;
        self.reload_views(&config).await;
        self.dns.reconfigure(&dns_of(&config), trust);
        self.proxy.reconfigure(&config.proxy, &certificates);
        self.proxy_config.send_replace(Arc::new(config.proxy.clone()));
        self.admin.access.store(Arc::new(access));
        self.admin.mesos_dns.store(Arc::new(mesos_dns::shown(&config)));
        if config.discovery != self.config.discovery {
            self.discovery.reload(config.discovery.clone()).await;
        }
        self.serve(bound).await;
        self.admin.listeners.store(Arc::new(self.sockets.list()));
        self.metrics.reloaded(true);
        self.tell(Vec::new());
        self.config = config;
        tracing::info!("configuration reloaded");
        Ok(())
    }

    async fn reload_views(&self, config: &Config) {
        let (zones, routes) = (self.zones, self.routes);
        let dns = dns_of(config);
        if dns != dns_of(&self.config) {
            let builder = ZoneBuilder::new(&dns, self.zone_metrics.clone());
            self.discovery.with_publisher(move |publisher| publisher.replace_view(zones, builder)).await;
        }
        if config.proxy != self.config.proxy {
            let builder = RouteBuilder::new(&config.proxy);
            self.discovery.with_publisher(move |publisher| publisher.replace_view(routes, builder)).await;
        }
    }

    /// Hands bound sockets to the threads that serve them.
    async fn serve(&mut self, bound: sockets::New) {
        for (worker, sockets, stop) in bound.dns {
            let server = Arc::clone(&self.dns);
            let job = move |local: workers::Local| portolan_dns::serve(server, sockets, local.index, stop);
            self.workers.run(worker, job).await;
        }
        for (worker, sockets, stop) in bound.proxy {
            let job = move |local: workers::Local| portolan_proxy::serve(local.proxy, sockets, stop);
            self.workers.run(worker, job).await;
        }
        for (listener, endpoint, stop) in bound.admin {
            self.control.spawn(admin::serve(listener, endpoint, Arc::clone(&self.admin), stop));
        }
    }

    /// Stops accepting, lets what is open end within the drain limit, saves the table, and returns. The admin
    /// side answers until the data threads are done.
    pub async fn drain(mut self) {
        tracing::info!(limit_seconds = self.config.proxy.drain.as_secs(), "draining");
        self.admin.draining.store(true, Ordering::Relaxed);
        self.commands.close();
        self.sockets.stop_data();
        self.workers.join(self.config.proxy.drain + DRAIN_MARGIN).await;
        self.sockets.stop_admin();
        self.stop.cancel();
        self.discovery.stop();
        let ended = async { while self.control.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(5), ended).await.is_err() {
            tracing::warn!("control tasks did not end in time");
        }
        tracing::info!("stopped");
    }
}

async fn run_checks(
    table: Table,
    config: watch::Receiver<Arc<portolan_proxy::Config>>,
    clients: Clients,
    discovery: Handle,
    stop: CancellationToken,
) {
    let generations = discovery.generations();
    let report = move |source, instance, health| discovery.set_verdict(source, instance, health);
    portolan_proxy::checks::run(table, config, generations, clients, report, stop).await;
}

/// Takes the state directory, or goes on without one if it cannot be used; another holder is an error.
fn take_state(config: &mut Config) -> Result<Option<StateLock>> {
    let Some(directory) = config.node.state_dir.clone() else { return Ok(None) };
    match StateLock::take(&directory) {
        Ok(lock) => Ok(Some(lock)),
        Err(StateError::Held) => bail!(
            "another instance runs on the state directory {}; stop it, or give this one another [node] state_dir",
            directory.display()
        ),
        Err(StateError::Unusable(error)) => {
            tracing::error!(directory = %directory.display(), %error, "state directory cannot be used: nothing is kept across restarts");
            move_state(config, None);
            Ok(None)
        }
    }
}

/// Changes the state directory of `config`, the admin socket in it included. Without one there is no such socket.
fn move_state(config: &mut Config, directory: Option<&Path>) {
    let before = std::mem::replace(&mut config.node.state_dir, directory.map(Path::to_owned));
    config.discovery.state_dir.clone_from(&config.node.state_dir);
    if let Some(dns) = &mut config.dns {
        dns.state_dir.clone_from(&config.node.state_dir);
    }
    let inside =
        |socket: &PathBuf| before.as_ref().and_then(|b| Some(socket.strip_prefix(b).ok()?.to_owned()));
    if let Some(name) = config.admin.socket.as_ref().and_then(inside) {
        config.admin.socket = directory.map(|directory| directory.join(name));
    }
}

fn worker_count(config: &Config) -> usize {
    if config.node.workers > 0 {
        return config.node.workers;
    }
    match rustix::thread::sched_getaffinity(None) {
        Ok(cpus) => (cpus.count() as usize).max(1),
        Err(_) => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// Reads the certificates, on a thread where that may take its time.
async fn read_certificates(config: &Config) -> Result<Certificates> {
    let config = config.proxy.clone();
    let read = tokio::task::spawn_blocking(move || Certificates::read(&config)).await;
    read.context("certificates cannot be read")?.context("a certificate cannot be used")
}

/// Reads the secrets of the DNS side, on a thread where that may take its time.
async fn read_trust(config: &Config) -> Result<portolan_dns::Trust> {
    let config = dns_of(config);
    let read = tokio::task::spawn_blocking(move || portolan_dns::Trust::read(&config)).await;
    read.context("secrets cannot be read")?.context("a secret of [dns] cannot be used")
}

/// What DNS is told; without `[dns]` it has no listener and no zone.
fn dns_of(config: &Config) -> portolan_dns::Config {
    config.dns.clone().unwrap_or_default()
}

fn access(config: &Config) -> Result<Access> {
    let mut hosts = config.admin.allowed_hosts.clone();
    hosts.push(Arc::clone(&config.node.name));
    let token = match &config.admin.token {
        Some(Secret::File(file)) => Some(
            std::fs::read_to_string(file)
                .with_context(|| format!("{}: token cannot be read", file.display()))?,
        ),
        Some(Secret::Env(name)) => {
            Some(std::env::var(name).with_context(|| format!("${name}: token cannot be read"))?)
        }
        Some(Secret::Given(given)) => Some(given.0.clone()),
        None => None,
    };
    let token = token.map(|text| text.trim().to_owned());
    if token.as_deref() == Some("") {
        bail!("the admin token is empty");
    }
    Ok(Access { hosts, token })
}

impl From<&sockets::Place> for ListenerInfo {
    fn from(place: &sockets::Place) -> Self {
        Self { name: place.name.clone(), protocol: place.protocol, address: place.shown() }
    }
}

#[cfg(test)]
mod tests {
    use portolan_config::Environment;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn ready(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_whose_catalog_failed_says_so_and_serves_on() {
        let home = tempfile::tempdir().unwrap();
        let text = format!(
            "[node]\nworkers = 1\nstate_dir = {:?}\n[dns]\nlisten = [\"127.0.0.1:0\"]\n\
             [admin]\nlisten = [\"127.0.0.1:0\"]\n",
            home.path().join("state")
        );
        let config = Config::parse(&text, "test.toml", &Environment::of_process()).unwrap();
        let mut node = Node::start(config, None).await.unwrap();
        let admin = node.address("admin").unwrap();
        assert!(ready(admin).await.starts_with("HTTP/1.1 200 "));
        let ended = node.discovery.with_publisher(|_| -> () { panic!("as a bug would") }).await;
        assert_eq!(ended, None);
        let watched = tokio::time::timeout(Duration::from_millis(200), node.command()).await;
        assert!(watched.is_err(), "it goes on");
        let answer = ready(admin).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("the catalog has ended"), "{answer}");
        node.drain().await;
    }
}
