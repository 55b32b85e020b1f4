//! The keys of `[[source]]` for registries and other APIs that keep lists of services.

use portolan_discovery::{ConsulConfig, HttpConfig};
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
