//! `[proxy.upstream.tls]` and `[proxy.service.tls]`: TLS to endpoints, inherited key by key.

use core::ops::Range;
use std::path::PathBuf;

use portolan_proxy::tls::{Role, ServerName, UpstreamTlsConfig, try_upstream};
use toml::de::DeValue;

use crate::section::{At, Needed, Reading, Section};
use crate::value::{self, Parsed, quoted, wrong};

/// Files for TLS to endpoints that must be fit for it.
#[derive(Debug)]
pub(crate) struct NeededUpstreamTls {
    tls: UpstreamTlsConfig,
    /// Where `ca`, `cert` and `key` stand, as far as they do.
    places: [(&'static str, Option<Range<usize>>); 3],
}

/// Reads the section; what is absent is as in `inherited`.
pub(crate) fn read(section: &Section<'_>, inherited: &UpstreamTlsConfig) -> UpstreamTlsConfig {
    let (ca, cert, key) = (section.path("ca"), section.path("cert"), section.path("key"));
    match (section.has("cert"), section.has("key")) {
        (true, false) => section.missing("key", "the key of the certificate in cert"),
        (false, true) => section.missing("cert", "the certificate of the key in key"),
        _ => {}
    }
    let span = |at: &Option<At<PathBuf>>| at.as_ref().map(|at| at.span.clone());
    let places = [("ca", span(&ca)), ("cert", span(&cert)), ("key", span(&key))];
    let verify = section.read("verify", value::boolean);
    if let (true, Some(false), Some(span)) = (section.has("ca"), verify, section.key_span("verify")) {
        let message = "\"verify\" is false although \"ca\" is given".to_owned();
        section.reading.conflict(&span, message, "take one of them out");
    }
    let identity = cert.zip(key).map(|(cert, key)| (cert.value, key.value));
    // Whoever names an authority wants it to be asked, also where the inherited settings believe anybody.
    let verify = verify.unwrap_or(section.has("ca") || inherited.verify);
    let tls = UpstreamTlsConfig {
        enabled: section.read("enabled", value::boolean).or(inherited.enabled),
        ca: ca.map(|at| at.value).or_else(|| inherited.ca.clone()),
        verify,
        server_name: section.read("server_name", server_name).or_else(|| inherited.server_name.clone()),
        identity: identity.or_else(|| inherited.identity.clone()),
    };
    if places.iter().any(|(_, span)| span.is_some()) {
        let needed = NeededUpstreamTls { tls: tls.clone(), places };
        section.reading.needed.borrow_mut().push(Needed::UpstreamTls(needed));
    }
    tls
}

fn server_name(value: &DeValue<'_>) -> Parsed<ServerName<'static>> {
    let text = value::text(value)?;
    match ServerName::try_from(text.clone()) {
        Ok(name) => Ok(name),
        Err(_) => wrong(
            format!("{} is not a name that a certificate can have", quoted(&text)),
            "write a host name or an address, without a port",
        ),
    }
}

impl NeededUpstreamTls {
    /// Reads the files, and notes what is wrong with them. What is inherited is told where it stands.
    pub(crate) fn look(&self, reading: &Reading<'_>) {
        let Err(error) = try_upstream(&self.tls) else { return };
        let place = match error.role {
            Role::Authority => &self.places[0],
            Role::Certificate => &self.places[1],
            Role::Key => &self.places[2],
        };
        if let (name, Some(span)) = place {
            let file = quoted(&error.file.to_string_lossy());
            let hint = "relative paths start at the directory of the configuration file";
            reading.mistake(span, format!("{name}: {file} {}", error.why), hint);
        }
    }
}
