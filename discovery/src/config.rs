//! What the configuration says about sources, as meant (defaults applied, references resolved).

use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;

use portolan_table::{MergePolicy, SharedStr, SourceId};

/// Everything the discovery side is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where the last-known-good table is kept; `None` keeps none.
    pub state_dir: Option<PathBuf>,
    /// The sources, in the order of the file; [`SourceConfig::id`] is the index.
    pub sources: Vec<SourceConfig>,
    /// Longest time a change may wait for others to be published with it. At most 5 ms.
    pub coalesce_time: Duration,
    /// Changes that are published without waiting any longer.
    pub coalesce_changes: usize,
}

/// One `[[source]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    /// Its number.
    pub id: SourceId,
    /// Its name; unique.
    pub name: SharedStr,
    /// What it is, with the keys of its type.
    pub kind: SourceKind,
    /// Period of the full re-list beside a stream, or of polling.
    pub refresh: Duration,
    /// Limit of one request.
    pub timeout: Duration,
    /// How its part of a service name goes together with others'.
    pub merge: MergePolicy,
    /// Lower goes first in `failover`.
    pub priority: i32,
    /// Without its data unknown names are SERVFAIL and the node is not ready.
    pub required: bool,
    /// Age after which a stale source's data is dropped; `None` for never.
    pub stale_max: Option<Duration>,
    /// Share of endpoints (0.0 to 1.0) one update may take away without a second confirmation; 1.0 is off.
    pub max_removal: f64,
}

/// The source types that are built.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceKind {
    /// A Marathon API.
    Marathon(MarathonConfig),
    /// A Mesos cluster, by its masters.
    Mesos(MesosConfig),
    /// A Consul datacenter.
    Consul(ConsulConfig),
    /// Keys in etcd.
    Etcd(EtcdConfig),
    /// A Kubernetes API.
    Kubernetes(KubernetesConfig),
    /// Containers of a Docker engine.
    Docker(DockerConfig),
    /// Services of a swarm.
    Swarm(SwarmConfig),
    /// HTTP service discovery in Prometheus' form.
    Http(HttpConfig),
    /// Files of service definitions.
    File(FileConfig),
}

impl SourceKind {
    /// The type as written in the configuration.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Marathon(_) => "marathon",
            Self::Mesos(_) => "mesos",
            Self::Consul(_) => "consul",
            Self::Etcd(_) => "etcd",
            Self::Kubernetes(_) => "kubernetes",
            Self::Docker(_) => "docker",
            Self::Swarm(_) => "swarm",
            Self::Http(_) => "http",
            Self::File(_) => "file",
        }
    }

    /// How the source authenticates itself, for those that do.
    pub const fn auth_mut(&mut self) -> Option<&mut Auth> {
        match self {
            Self::Marathon(marathon) => Some(&mut marathon.auth),
            Self::Mesos(mesos) => Some(&mut mesos.auth),
            Self::Consul(consul) => Some(&mut consul.api.auth),
            Self::Etcd(etcd) => Some(&mut etcd.api.auth),
            Self::Docker(docker) => Some(&mut docker.api.auth),
            Self::Swarm(swarm) => Some(&mut swarm.api.auth),
            Self::Http(http) => Some(&mut http.api.auth),
            Self::Kubernetes(_) | Self::File(_) => None,
        }
    }
}

/// Keys of `type = "marathon"`.
#[derive(Debug, Clone, PartialEq)]
pub struct MarathonConfig {
    /// Base URLs (`http://…`, `https://…`), tried in order.
    pub urls: Vec<String>,
    /// Marathon-LB groups this node exposes.
    pub groups: Vec<Arc<str>>,
    /// How to authenticate.
    pub auth: Auth,
    /// How to verify the server and identify ourselves to it.
    pub tls: TlsConfig,
    /// No event and no keep-alive for this long: the stream is taken for dead. Default 30 s.
    pub stream_idle: Duration,
}

/// Keys of `type = "mesos"`.
#[derive(Debug, Clone, PartialEq)]
pub struct MesosConfig {
    /// Base URLs of masters (`http://…`, `https://…`): all, or one name that leads to any; and at most one
    /// `zk://host:port,…/path`, without credentials: the masters found there go before those written.
    pub urls: Vec<String>,
    /// `user:password` for ZooKeeper's scheme `digest`.
    pub zookeeper_credentials: Option<Secret>,
    /// Masters that ZooKeeper lists are spoken to over TLS.
    pub https: bool,
    /// How to authenticate to masters.
    pub auth: Auth,
    /// How to verify the masters and identify ourselves to them.
    pub tls: TlsConfig,
    /// Period of polling where a master offers no stream; with one, [`SourceConfig::refresh`] counts.
    pub poll: Duration,
    /// How long tasks are kept whose agent a newly elected master does not know.
    pub settle_time: Duration,
    /// How long tasks are kept whose agent a newly elected master knows from its registry alone.
    pub recovery_time: Duration,
}

/// Where an API is and how to be let in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ApiConfig {
    /// Base URLs (`http://…`, `https://…`, for some `unix:///…`), tried in order.
    pub urls: Vec<String>,
    /// How to authenticate.
    pub auth: Auth,
    /// How to verify the server and identify ourselves to it.
    pub tls: TlsConfig,
}

/// Keys of `type = "consul"`.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsulConfig {
    /// Agents or servers; several give the same.
    pub api: ApiConfig,
    /// Which datacenter to read; the default is that of the agent.
    pub datacenter: Option<Arc<str>>,
}

/// Keys of `type = "etcd"`.
#[derive(Debug, Clone, PartialEq)]
pub struct EtcdConfig {
    /// Members of the cluster.
    pub api: ApiConfig,
    /// How services lie in the keys.
    pub layout: EtcdLayout,
    /// What all keys begin with: a path, without a slash at its end.
    pub prefix: String,
}

/// How services lie in the keys of etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EtcdLayout {
    /// SkyDNS' and CoreDNS': names reversed, one JSON object for each leaf.
    SkyDns,
    /// Portolan's own: `<service>` for a definition, `<service>/<instance>` for an instance.
    Portolan,
    /// Trees of addresses, as confd's templates and Traefik read them.
    Tree,
}

impl EtcdLayout {
    /// The prefix where none is configured.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::SkyDns => "/skydns",
            Self::Portolan => "/portolan",
            Self::Tree => "/services",
        }
    }
}

/// Keys of `type = "kubernetes"`.
#[derive(Debug, Clone, PartialEq)]
pub struct KubernetesConfig {
    /// Where the API is and how to be let in.
    pub access: KubernetesAccess,
    /// Namespaces that are read; none for all.
    pub namespaces: Vec<String>,
    /// Label selector of services, as the API takes it.
    pub selector: Option<String>,
    /// By which address pods are reached.
    pub reach: Reach,
}

/// How to reach a Kubernetes API.
#[derive(Debug, Clone, PartialEq)]
pub enum KubernetesAccess {
    /// As a pod of the cluster: by its service account.
    InCluster,
    /// By a kubeconfig, and a context of it other than the current one.
    Kubeconfig(PathBuf, Option<String>),
    /// As written.
    Api(Box<ApiConfig>),
}

/// Keys of `type = "docker"`.
#[derive(Debug, Clone, PartialEq)]
pub struct DockerConfig {
    /// The engine: `unix:///…`, `http://…`, `https://…`; several lead to the same.
    pub api: ApiConfig,
    /// By which address containers are reached.
    pub reach: Reach,
}

/// Keys of `type = "swarm"`.
#[derive(Debug, Clone, PartialEq)]
pub struct SwarmConfig {
    /// Managers.
    pub api: ApiConfig,
    /// By which address tasks are reached.
    pub reach: Reach,
    /// Period of reading all tasks: a swarm tells nothing of those on other nodes.
    pub poll: Duration,
}

/// By which of its addresses a container is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Its own, on a network of the engine.
    Container,
    /// The ports it has published on its host.
    Published,
}

/// Keys of `type = "http"`.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpConfig {
    /// URLs that give the list; several give the same.
    pub api: ApiConfig,
    /// Label that names the service; the default is `service`, then `job`.
    pub service_label: Option<String>,
}

/// `[source.auth]`. Secrets are paths, read when needed and never kept in a message.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Auth {
    /// None.
    #[default]
    None,
    /// HTTP basic.
    Basic {
        /// User name.
        username: String,
        /// Where the password is read.
        password: Secret,
    },
    /// A bearer token, read again when refused.
    Bearer {
        /// Where the token is read.
        token: Secret,
    },
    /// A header field that was read elsewhere, as it is.
    Given(Given),
    /// An etcd user: logs in for a token, and again when it is refused.
    Etcd {
        /// User name.
        username: String,
        /// Where the password is read.
        password: Secret,
    },
    /// A DC/OS service account: logs in with a signed token and renews.
    Dcos {
        /// The account's name.
        uid: String,
        /// Its private key (PEM).
        private_key: Secret,
        /// Login URL; default `<first url's origin>/acs/api/v1/auth/login`.
        login_url: Option<String>,
    },
}

/// A secret, or a certificate with its key, that was read elsewhere (a kubeconfig). Never shown.
#[derive(Clone, PartialEq)]
pub struct Given(pub String);

impl core::fmt::Debug for Given {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("(not shown)")
    }
}

/// Where a secret is read.
#[derive(Debug, Clone, PartialEq)]
pub enum Secret {
    /// A file; white space at its end is dropped.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// This itself: it stood in a URL, or in the configuration of another program.
    Given(Given),
}

/// `[source.tls]`.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsConfig {
    /// PEM bundle of private authorities, in place of the built-in ones.
    pub ca: Option<PathBuf>,
    /// Client certificate chain (PEM).
    pub cert: Option<PathBuf>,
    /// Its key (PEM).
    pub key: Option<PathBuf>,
    /// False: the server's certificate is not verified.
    pub verify: bool,
    /// PEM texts, read elsewhere, in place of the files.
    pub given: GivenPems,
}

/// PEM texts in place of the files of [`TlsConfig`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GivenPems {
    /// As [`TlsConfig::ca`].
    pub ca: Option<Given>,
    /// As [`TlsConfig::cert`].
    pub cert: Option<Given>,
    /// As [`TlsConfig::key`].
    pub key: Option<Given>,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self { ca: None, cert: None, key: None, verify: true, given: GivenPems::default() }
    }
}

/// Keys of `type = "file"`.
#[derive(Debug, Clone, PartialEq)]
pub struct FileConfig {
    /// Files, directories or globs.
    pub paths: Vec<PathBuf>,
    /// Label that names the service in Prometheus-style files; the default is `service`, then `job`.
    pub service_label: Option<String>,
}
