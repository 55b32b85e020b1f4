//! The keys of `[[source]]` for registries and other APIs that keep lists of services.

use portolan_discovery::{Auth, ConsulConfig, EtcdConfig, EtcdLayout, HttpConfig};
use toml::de::DeValue;

use crate::section::Section;
use crate::source::{api, http_url};
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
