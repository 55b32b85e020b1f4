//! The keys of `[[source]]` for registries and other APIs that keep lists of services.

use core::time::Duration;

use portolan_discovery::{
    ApiConfig, Auth, ConsulConfig, DockerConfig, EtcdConfig, EtcdLayout, HttpConfig, KubernetesAccess,
    KubernetesConfig, Reach, SwarmConfig,
};
use toml::de::DeValue;

use crate::section::Section;
use crate::source::{NAMES_MAX, URLS_MAX, api, api_at, http_url, refresh};
use crate::value::{self, Parsed};

pub(crate) fn consul(section: &Section<'_>) -> ConsulConfig {
    ConsulConfig {
        api: api(section, "write urls = [\"http://127.0.0.1:8500\"]: an agent or servers", consul_url),
        datacenter: section.read("datacenter", value::shared_text),
    }
}

fn consul_url(value: &DeValue<'_>) -> Parsed<String> {
    let url = http_url(value)?;
    match url.rsplit_once("/v1") {
        Some((base, "")) => value::wrong(
            format!("{} names the API's version", value::quoted(&url)),
            format!("leave it out: {}", value::quoted(base)),
        ),
        _ => Ok(url),
    }
}

const LAYOUTS: &[(&str, EtcdLayout)] =
    &[("skydns", EtcdLayout::SkyDns), ("portolan", EtcdLayout::Portolan), ("tree", EtcdLayout::Tree)];

pub(crate) fn etcd(section: &Section<'_>) -> EtcdConfig {
    let hint = "write layout = \"skydns\", \"portolan\" or \"tree\": how services lie in the keys";
    let layout = section.required("layout", hint, value::choice(LAYOUTS, &["serverset", "curator"]));
    let layout = layout.map_or(EtcdLayout::SkyDns, |at| at.value);
    let mut api = api(section, "write urls = [\"http://HOST:2379\"]", http_url);
    api.auth = match api.auth {
        Auth::Basic { username, password } => Auth::Etcd { username, password },
        Auth::None => Auth::None,
        other => {
            let span = section.place_of("auth");
            let message = "etcd knows users with passwords alone".to_owned();
            section.reading.mistake(
                &span,
                message,
                "write type = \"basic\", or give a certificate in [source.tls]",
            );
            other
        }
    };
    let prefix = section.read("prefix", prefix).unwrap_or_else(|| layout.prefix().to_owned());
    EtcdConfig { api, layout, prefix }
}

/// A path that keys begin with; a slash at its end is dropped.
fn prefix(value: &DeValue<'_>) -> Parsed<String> {
    let text = value::text(value)?;
    if text.contains("//") || text.chars().any(char::is_control) {
        return value::wrong(
            format!("{} is no path of keys", value::quoted(&text)),
            "write it as \"/services\"",
        );
    }
    Ok(text.trim_end_matches('/').to_owned())
}

pub(crate) fn kubernetes(section: &Section<'_>) -> KubernetesConfig {
    let kubeconfig = section.existing_file("kubeconfig");
    if let (true, Some(span)) = (section.has("urls"), section.key_span("kubeconfig")) {
        let message = "\"urls\" and \"kubeconfig\" both say where the API is".to_owned();
        section.reading.conflict(&span, message, "keep one of them");
    }
    if let (false, Some(span)) = (section.has("kubeconfig"), section.key_span("context")) {
        let message = "\"context\" means nothing without a kubeconfig".to_owned();
        section.reading.conflict(&span, message, "take it out, or name the file with kubeconfig");
    }
    for key in ["auth", "tls"].into_iter().filter(|_| !section.has("urls")) {
        if let Some(span) = section.key_span(key) {
            let message = format!(
                "{key:?} means nothing without \"urls\": the kubeconfig or the pod's account says it"
            );
            section.reading.conflict(&span, message, "take it out, or write urls = [\"https://HOST:6443\"]");
        }
    }
    let access = match (kubeconfig, section.has("urls")) {
        (_, true) => {
            KubernetesAccess::Api(Box::new(api(section, "write urls = [\"https://HOST:6443\"]", http_url)))
        }
        (Some(path), false) => KubernetesAccess::Kubeconfig(path, section.read("context", value::text)),
        (None, false) => KubernetesAccess::InCluster,
    };
    KubernetesConfig {
        access,
        namespaces: section.values("namespaces", NAMES_MAX, value::text),
        selector: section.read("selector", value::text),
        reach: section.read("address", value::choice(REACHES, &[])).unwrap_or(Reach::Container),
    }
}

/// Where Docker listens.
const SOCKET: &str = "unix:///var/run/docker.sock";

const REACHES: &[(&str, Reach)] = &[("container", Reach::Container), ("published", Reach::Published)];

pub(crate) fn docker(section: &Section<'_>) -> DockerConfig {
    let api = engine(section);
    // The networks of an engine on another host are not ours to reach.
    let is_local = api.urls.iter().all(|url| url.starts_with("unix:"));
    let default = if is_local { Reach::Container } else { Reach::Published };
    let reach = section.read("address", value::choice(REACHES, &[])).unwrap_or(default);
    DockerConfig { api, reach }
}

pub(crate) fn swarm(section: &Section<'_>) -> SwarmConfig {
    SwarmConfig {
        api: engine(section),
        reach: section.read("address", value::choice(REACHES, &[])).unwrap_or(Reach::Container),
        poll: section.read("poll", refresh).unwrap_or(Duration::from_secs(5)),
    }
}

fn engine(section: &Section<'_>) -> ApiConfig {
    section.refuse_empty_list("urls", "leave it out, or write urls = [\"unix:///var/run/docker.sock\"]");
    let urls = match section.has("urls") {
        true => section.values("urls", URLS_MAX, engine_url),
        false => vec![SOCKET.to_owned()],
    };
    api_at(section, urls)
}

fn engine_url(value: &DeValue<'_>) -> Parsed<String> {
    let text = value::text(value)?;
    match text.split_once("://") {
        Some(("unix", path)) if path.starts_with('/') && path.len() > 1 => Ok(text),
        Some(("unix", _)) => value::wrong(
            format!("{} names no absolute path", value::quoted(&text)),
            "write unix:///var/run/docker.sock",
        ),
        Some(("tcp", rest)) => value::wrong(
            format!("the scheme of {} does not say whether it is TLS", value::quoted(&text)),
            format!("write http://{rest} or https://{rest}"),
        ),
        _ => http_url(value),
    }
}

pub(crate) fn http(section: &Section<'_>) -> HttpConfig {
    HttpConfig {
        api: api(section, "write urls = [\"http://HOST/targets\"]", list_url),
        service_label: section.read("service_label", value::text),
    }
}

/// The URL of a list: a query may stand in it.
fn list_url(value: &DeValue<'_>) -> Parsed<String> {
    let text = value::text(value)?;
    let Some((base, query)) = text.split_once('?') else { return http_url(value) };
    let base = http_url(&DeValue::String(base.into()))?;
    let fits = query.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'"' | b'<' | b'>'));
    if fits {
        return Ok(format!("{base}?{query}"));
    }
    value::wrong(
        format!("the query of {} cannot be sent", value::quoted(&text)),
        "write spaces and other characters as %20 and so on, and no fragment",
    )
}
