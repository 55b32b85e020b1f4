//! Every key of the file, by section, with its default. The reader refuses what is not here; the tests hold
//! `docs/configuration.md`, the examples and the effective defaults to it.

/// The keys of one section.
#[derive(Debug)]
pub(crate) struct Keys {
    /// The section as one writes it: `[dns]`, `[[source]]`.
    pub(crate) title: &'static str,
    pub(crate) keys: &'static [Key],
    /// Further keys, shared with another section.
    pub(crate) shared: &'static [Key],
    /// Sections below this one.
    pub(crate) sections: &'static [&'static str],
    /// Keys of the contract that this version does not know what to do with.
    pub(crate) later: &'static [&'static str],
    /// Words that others use, with what to write in their place.
    pub(crate) instead: &'static [(&'static str, &'static str)],
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) default: Absent,
}

/// What holds where a key is absent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Absent {
    /// This, in TOML.
    Toml(&'static str),
    /// What the words say.
    Words(&'static str),
}

use Absent::{Toml, Words};

const fn key(name: &'static str, default: Absent) -> Key {
    Key { name, default }
}

const NO_KEYS: Keys = Keys { title: "", keys: &[], shared: &[], sections: &[], later: &[], instead: &[] };

impl Keys {
    /// True for a key or a section that may stand here.
    pub(crate) fn holds(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }

    /// All that may stand here.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        let keys = self.keys.iter().chain(self.shared).map(|key| key.name);
        keys.chain(self.sections.iter().copied())
    }
}

pub(crate) static TOP: Keys = Keys {
    title: "the file",
    sections: &["node", "log", "source", "dns", "proxy", "admin"],
    later: &["dcos"],
    instead: &[
        ("sources", "write [[source]]"),
        ("listener", "write [[proxy.listener]]"),
        ("route", "write [[proxy.route]]"),
        ("zone", "write [[dns.zone]]"),
    ],
    ..NO_KEYS
};

pub(crate) static NODE: Keys = Keys {
    title: "[node]",
    keys: &[
        key("name", Words("the host name")),
        key("zone", Words("none")),
        key("workers", Toml("0")),
        key(
            "state_dir",
            Words("`$PORTOLAN_STATE_DIR`, else `$XDG_STATE_HOME/portolan`, else `~/.local/state/portolan`"),
        ),
    ],
    ..NO_KEYS
};

pub(crate) static LOG: Keys = Keys {
    title: "[log]",
    keys: &[key("level", Toml("\"info\"")), key("format", Toml("\"text\""))],
    ..NO_KEYS
};

pub(crate) static SOURCE: Keys = Keys {
    title: "[[source]]",
    keys: &[
        key("name", Words("the type")),
        key("type", Words("required")),
        key(
            "urls",
            Words(
                "`unix:///var/run/docker.sock` for `docker` and `swarm`; required for others but `kubernetes` and `file`",
            ),
        ),
        key("groups", Toml("[]")),
        key("stream_idle", Toml("\"30s\"")),
        key("poll", Words("`\"30s\"`, `\"5s\"` for `swarm`")),
        key("https", Words("`false`")),
        key("zk_credentials_file", Words("none")),
        key("zk_credentials_env", Words("none")),
        key("settle_time", Words("`\"1m\"`")),
        key("recovery_time", Words("`\"10m\"`")),
        key("datacenter", Words("the agent's own")),
        key("layout", Words("required for `etcd`")),
        key("prefix", Words("`/skydns`, `/portolan` or `/services`, by the layout")),
        key("kubeconfig", Words("none: the service account of the pod")),
        key("context", Words("the current one")),
        key("namespaces", Words("all")),
        key("selector", Words("none")),
        key("address", Words("`\"container\"`, `\"published\"` for `docker` over HTTP")),
        key("paths", Words("required for `file`")),
        key("service_label", Words("`service`, then `job`")),
        key("refresh", Words("`\"5m\"` beside a stream, `\"30s\"` for `http` and `file`")),
        key("timeout", Toml("\"10s\"")),
        key("merge", Toml("\"union\"")),
        key("priority", Toml("0")),
        key("required", Toml("true")),
        key("stale_max", Toml("\"never\"")),
        key("max_removal", Toml("\"100%\"")),
    ],
    sections: &["auth", "tls"],
    later: &["region", "service_tag", "port_tag"],
    instead: &[("url", "write urls = [\"…\"]"), ("path", "write paths = [\"…\"]")],
    ..NO_KEYS
};

pub(crate) static SOURCE_AUTH: Keys = Keys {
    title: "[source.auth]",
    keys: &[
        key("type", Words("required")),
        key("username", Words("required for `basic` and `dcos`")),
        key("password_file", Words("none")),
        key("password_env", Words("none")),
        key("token_file", Words("none")),
        key("token_env", Words("none")),
        key("private_key_file", Words("none")),
        key("private_key_env", Words("none")),
        key("login_url", Words("`/acs/api/v1/auth/login` at the first of `urls`")),
    ],
    instead: &[
        (
            "password",
            "secrets do not stand in this file: name a file with password_file or a variable with password_env",
        ),
        (
            "token",
            "secrets do not stand in this file: name a file with token_file or a variable with token_env",
        ),
        (
            "private_key",
            "secrets do not stand in this file: name a file with private_key_file or a variable with private_key_env",
        ),
        ("uid", "write username"),
        ("user", "write username"),
    ],
    ..NO_KEYS
};

pub(crate) static SOURCE_TLS: Keys = Keys {
    title: "[source.tls]",
    keys: &[
        key("ca", Words("the built-in authorities")),
        key("cert", Words("none")),
        key("key", Words("none")),
        key("verify", Toml("true")),
    ],
    ..NO_KEYS
};

pub(crate) static DNS: Keys = Keys {
    title: "[dns]",
    keys: &[
        key("listen", Toml("[\"127.0.0.1:8053\"]")),
        key("ttl", Toml("\"5s\"")),
        key("negative_ttl", Toml("\"5s\"")),
        key("forward", Toml("[]")),
        key(
            "allow_forward",
            Toml(
                "[\"127.0.0.0/8\", \"10.0.0.0/8\", \"172.16.0.0/12\", \"192.168.0.0/16\", \"169.254.0.0/16\", \"::1/128\", \"fc00::/7\", \"fe80::/10\"]",
            ),
        ),
        key("forward_timeout", Toml("\"4s\"")),
        key("forward_in_flight_max", Toml("1000")),
        key("forward_cache_entries", Toml("10000")),
        key("udp_size_max", Toml("1232")),
        key("tcp_connections_max", Toml("1000")),
        key("tcp_idle", Toml("\"10s\"")),
        key("txt_labels", Toml("[]")),
        key("allow_query", Words("everybody")),
        key("query_denied", Toml("\"refuse\"")),
    ],
    sections: &["zone", "forward_zone", "rate_limit", "cookies", "key", "transfer"],
    instead: &[
        ("zones", "write [[dns.zone]]"),
        ("forward_zones", "write [[dns.forward_zone]]"),
        ("bind", "write listen = [\"…\"]"),
        ("keys", "write [[dns.key]]"),
        ("allow_transfer", "write [dns.transfer] with allow = [\"…\"]"),
        ("also_notify", "write [dns.transfer] with notify = [\"…\"]"),
    ],
    ..NO_KEYS
};

pub(crate) static DNS_RATE_LIMIT: Keys = Keys {
    title: "[dns.rate_limit]",
    keys: &[
        key("responses_per_second", Toml("0")),
        key("nodata_per_second", Words("`responses_per_second`")),
        key("nxdomains_per_second", Words("`responses_per_second`")),
        key("errors_per_second", Words("`responses_per_second`")),
        key("all_per_second", Toml("0")),
        key("slip", Toml("2")),
        key("ipv4_prefix", Toml("24")),
        key("ipv6_prefix", Toml("56")),
        key("exempt", Toml("[]")),
        key("entries_max", Toml("65536")),
    ],
    ..NO_KEYS
};

pub(crate) static DNS_COOKIES: Keys = Keys {
    title: "[dns.cookies]",
    keys: &[
        key("enabled", Toml("false")),
        key("required", Toml("false")),
        key("secret_file", Words("secrets of our own, another each day")),
    ],
    ..NO_KEYS
};

pub(crate) static DNS_KEY: Keys = Keys {
    title: "[[dns.key]]",
    keys: &[
        key("name", Words("required")),
        key("algorithm", Toml("\"hmac-sha256\"")),
        key("secret_file", Words("required")),
    ],
    instead: &[("secret", "secrets do not stand in this file: name a file with secret_file")],
    ..NO_KEYS
};

pub(crate) static DNS_TRANSFER: Keys = Keys {
    title: "[dns.transfer]",
    keys: &[
        key("allow", Toml("[]")),
        key("keys", Toml("[]")),
        key("notify", Toml("[]")),
        key("notify_delay", Toml("\"1s\"")),
        key("journal_max", Toml("\"16MiB\"")),
        key("transfers_max", Toml("8")),
    ],
    ..NO_KEYS
};

pub(crate) static DNS_ZONE: Keys = Keys {
    title: "[[dns.zone]]",
    keys: &[key("name", Words("required")), key("schema", Toml("\"native\"")), key("sources", Words("all"))],
    sections: &["mesos_dns"],
    ..NO_KEYS
};

pub(crate) static DNS_ZONE_MESOS_DNS: Keys = Keys {
    title: "[dns.zone.mesos_dns]",
    keys: &[
        key("profile", Toml("\"0.8\"")),
        key("compat", Toml("\"rfc\"")),
        key("ip_sources", Toml("[\"netinfo\", \"mesos\", \"host\"]")),
        key("rfc952", Toml("false")),
        key("ignore_health", Words("`false`; `true` with `compat = \"strict\"`")),
        key("ttl", Toml("\"60s\"")),
        key("srv_weight", Toml("1")),
        key("soa_mname", Words("`ns1.` and the zone's name")),
        key("soa_rname", Words("`root.ns1.` and the zone's name")),
        key("soa_refresh", Toml("60")),
        key("soa_retry", Toml("600")),
        key("soa_expire", Toml("86400")),
        key("addresses", Words("those of `listen`")),
        key("reverse", Toml("false")),
        key("recursion_bit", Toml("true")),
        key("truncate_bit", Toml("true")),
        key("subnet_first", Toml("false")),
        key("http", Toml("[]")),
        key("enumeration", Toml("true")),
    ],
    ..NO_KEYS
};

pub(crate) static DNS_FORWARD_ZONE: Keys = Keys {
    title: "[[dns.forward_zone]]",
    keys: &[key("name", Words("required")), key("forward", Words("required"))],
    ..NO_KEYS
};

pub(crate) static PROXY: Keys = Keys {
    title: "[proxy]",
    keys: &[
        key("drain", Toml("\"30s\"")),
        key("trusted_proxies", Toml("[]")),
        key("forwarded", Toml("false")),
    ],
    sections: &[
        "timeouts",
        "limits",
        "access_log",
        "tls",
        "certificate",
        "listener",
        "route",
        "upstream",
        "service",
    ],
    instead: &[
        ("listeners", "write [[proxy.listener]]"),
        ("certificates", "write [[proxy.certificate]]"),
        ("routes", "write [[proxy.route]]"),
        ("services", "write [[proxy.service]]"),
    ],
    ..NO_KEYS
};

pub(crate) static PROXY_TIMEOUTS: Keys = Keys {
    title: "[proxy.timeouts]",
    keys: &[
        key("tls_handshake", Toml("\"10s\"")),
        key("request_head", Toml("\"10s\"")),
        key("request_body_idle", Toml("\"30s\"")),
        key("connect", Toml("\"3s\"")),
        key("response_head", Toml("\"60s\"")),
        key("response_body_idle", Toml("\"60s\"")),
        key("keep_alive", Toml("\"60s\"")),
        key("tunnel_idle", Toml("\"1h\"")),
        key("udp_idle", Toml("\"30s\"")),
        key("write_stall", Toml("\"30s\"")),
    ],
    ..NO_KEYS
};

pub(crate) static PROXY_LIMITS: Keys = Keys {
    title: "[proxy.limits]",
    keys: &[
        key("request_head_max", Toml("\"32KiB\"")),
        key("request_headers_max", Toml("100")),
        key("request_body_max", Toml("\"unlimited\"")),
        key("response_head_max", Toml("\"64KiB\"")),
        key("connections_max", Toml("50000")),
        key("udp_flows_max", Toml("10000")),
        key("tls_handshakes_max", Toml("1000")),
        key("h2_streams_max", Toml("128")),
    ],
    ..NO_KEYS
};

pub(crate) static PROXY_ACCESS_LOG: Keys = Keys {
    title: "[proxy.access_log]",
    keys: &[key("path", Toml("\"stdout\"")), key("sample", Toml("\"100%\""))],
    ..NO_KEYS
};

pub(crate) static PROXY_TLS: Keys = Keys {
    title: "[proxy.tls]",
    keys: &[key("min_version", Toml("\"1.2\"")), key("ticket_rotation", Toml("\"12h\""))],
    ..NO_KEYS
};

pub(crate) static PROXY_CERTIFICATE: Keys = Keys {
    title: "[[proxy.certificate]]",
    keys: &[
        key("path", Words("required, unless `cert` and `key` are there")),
        key("cert", Words("none")),
        key("key", Words("none")),
        key("listeners", Words("every `https` listener")),
    ],
    instead: &[("file", "write path = \"…\""), ("listener", "write listeners = [\"…\"]")],
    ..NO_KEYS
};

pub(crate) static PROXY_LISTENER: Keys = Keys {
    title: "[[proxy.listener]]",
    keys: &[
        key("name", Words("the protocol")),
        key("bind", Toml("\"127.0.0.1:8080\"")),
        key("protocol", Toml("\"http\"")),
        key("tcp_fast_open", Toml("false")),
    ],
    instead: &[("listen", "write bind = \"…\""), ("address", "write bind = \"…\"")],
    ..NO_KEYS
};

pub(crate) static PROXY_ROUTE: Keys = Keys {
    title: "[[proxy.route]]",
    keys: &[
        key("name", Words("`route-` and the place among the routes, from 1")),
        key("listener", Words("every `http` and `https` listener")),
        key("host", Words("any")),
        key("path", Toml("\"/\"")),
        key("path_match", Toml("\"prefix\"")),
        key("methods", Words("any")),
        key("headers", Toml("{}")),
        key("service", Words("required, unless `targets` is there")),
        key("port", Words("the first port")),
        key("targets", Words("`service` and `port` alone")),
    ],
    ..NO_KEYS
};

pub(crate) static PROXY_TARGET: Keys = Keys {
    title: "targets",
    keys: &[
        key("service", Words("required")),
        key("port", Words("the first port")),
        key("weight", Toml("1")),
    ],
    ..NO_KEYS
};

const UPSTREAM_KEYS: &[Key] = &[
    key("protocol", Toml("\"auto\"")),
    key("balance", Toml("\"round-robin\"")),
    key("hash_key", Toml("\"client-address\"")),
    key("in_flight_max", Toml("0")),
    key("idle_connections_max", Toml("64")),
    key("idle_timeout", Toml("\"60s\"")),
    key("attempts", Toml("3")),
    key("retry_budget", Toml("\"20%\"")),
];

pub(crate) static PROXY_UPSTREAM: Keys = Keys {
    title: "[proxy.upstream]",
    keys: UPSTREAM_KEYS,
    sections: &["ejection", "check", "tls"],
    ..NO_KEYS
};

pub(crate) static PROXY_SERVICE: Keys = Keys {
    title: "[[proxy.service]]",
    keys: &[key("name", Words("required"))],
    shared: UPSTREAM_KEYS,
    sections: &["ejection", "check", "tls"],
    ..NO_KEYS
};

const EJECTION_KEYS: &[Key] = &[
    key("enabled", Toml("true")),
    key("failures", Toml("5")),
    key("base", Toml("\"5s\"")),
    key("max", Toml("\"5m\"")),
    key("panic_threshold", Toml("\"50%\"")),
];

pub(crate) static UPSTREAM_EJECTION: Keys =
    Keys { title: "[proxy.upstream.ejection]", keys: EJECTION_KEYS, ..NO_KEYS };

pub(crate) static SERVICE_EJECTION: Keys =
    Keys { title: "[proxy.service.ejection]", shared: EJECTION_KEYS, ..NO_KEYS };

const CHECK_KEYS: &[Key] = &[
    key("type", Toml("\"none\"")),
    key("path", Toml("\"/\"")),
    key("host", Words("the endpoint's address")),
    key("interval", Toml("\"5s\"")),
    key("timeout", Toml("\"2s\"")),
    key("rise", Toml("2")),
    key("fall", Toml("3")),
];

pub(crate) static UPSTREAM_CHECK: Keys =
    Keys { title: "[proxy.upstream.check]", keys: CHECK_KEYS, ..NO_KEYS };

pub(crate) static SERVICE_CHECK: Keys =
    Keys { title: "[proxy.service.check]", shared: CHECK_KEYS, ..NO_KEYS };

const UPSTREAM_TLS_KEYS: &[Key] = &[
    key("enabled", Words("`true` for ports with `app = \"https\"`")),
    key("ca", Words("the built-in authorities")),
    key("verify", Toml("true")),
    key("server_name", Words("the endpoint's address")),
    key("cert", Words("none")),
    key("key", Words("none")),
];

pub(crate) static UPSTREAM_TLS: Keys =
    Keys { title: "[proxy.upstream.tls]", keys: UPSTREAM_TLS_KEYS, ..NO_KEYS };

pub(crate) static SERVICE_TLS: Keys =
    Keys { title: "[proxy.service.tls]", shared: UPSTREAM_TLS_KEYS, ..NO_KEYS };

pub(crate) static ADMIN: Keys = Keys {
    title: "[admin]",
    keys: &[
        key("listen", Toml("[\"127.0.0.1:9090\"]")),
        key("metrics_listen", Words("none: `/metrics` is served on `listen`")),
        key("socket", Words("`admin.sock` in `state_dir`")),
        key("token_file", Words("none")),
        key("token_env", Words("none")),
        key("allowed_hosts", Toml("[]")),
    ],
    instead: &[(
        "token",
        "secrets do not stand in this file: name a file with token_file or a variable with token_env",
    )],
    ..NO_KEYS
};

/// Every section.
pub(crate) static SECTIONS: &[&Keys] = &[
    &NODE,
    &LOG,
    &SOURCE,
    &SOURCE_AUTH,
    &SOURCE_TLS,
    &DNS,
    &DNS_ZONE,
    &DNS_ZONE_MESOS_DNS,
    &DNS_FORWARD_ZONE,
    &DNS_RATE_LIMIT,
    &DNS_COOKIES,
    &DNS_KEY,
    &DNS_TRANSFER,
    &PROXY,
    &PROXY_TIMEOUTS,
    &PROXY_LIMITS,
    &PROXY_ACCESS_LOG,
    &PROXY_TLS,
    &PROXY_CERTIFICATE,
    &PROXY_LISTENER,
    &PROXY_ROUTE,
    &PROXY_TARGET,
    &PROXY_UPSTREAM,
    &PROXY_SERVICE,
    &UPSTREAM_EJECTION,
    &UPSTREAM_CHECK,
    &UPSTREAM_TLS,
    &ADMIN,
];

/// A key of the file, for those who hold documents to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownKey {
    /// The section as one writes it: `[dns]`, `[[source]]`; `targets` for the tables in a route's list.
    pub section: &'static str,
    /// The key.
    pub name: &'static str,
    /// What holds without it, in TOML; `None` where `default_words` says it.
    pub default: Option<&'static str>,
    /// What holds without it, in words; empty where `default` says it.
    pub default_words: &'static str,
}

/// Every key of the file. Keys that `[[proxy.service]]` shares with `[proxy.upstream]` are there once.
pub fn known_keys() -> impl Iterator<Item = KnownKey> {
    SECTIONS.iter().flat_map(|section| {
        section.keys.iter().map(|key| {
            let (default, default_words) = match key.default {
                Toml(text) => (Some(text), ""),
                Words(words) => (None, words),
            };
            KnownKey { section: section.title, name: key.name, default, default_words }
        })
    })
}
