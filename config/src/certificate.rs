//! `[[proxy.certificate]]` and `[proxy.tls]`.

use core::ops::Range;
use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;

use portolan_proxy::ListenerProtocol;
use portolan_proxy::tls::{CertificateConfig, CertificateSource, Role, TlsConfig, TlsVersion};
use toml::de::DeValue;

use crate::keys::{PROXY_CERTIFICATE, PROXY_TLS};
use crate::proxy::ReadListener;
use crate::section::{At, Needed, Reading, Section};
use crate::value::{self, Parsed};

/// Certificates named one by one.
const CERTIFICATES_MAX: usize = 10_000;
/// Listeners of one certificate.
const LISTENERS_MAX: usize = 1024;

const VERSIONS: &[(&str, TlsVersion)] = &[("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];

/// A certificate with the places of the listeners it names.
pub(crate) struct ReadCertificate {
    pub(crate) config: CertificateConfig,
    pub(crate) listeners: Vec<At<Arc<str>>>,
}

/// A certificate whose files must be fit to be shown.
#[derive(Debug)]
pub(crate) struct NeededCertificate {
    pub(crate) source: CertificateSource,
    /// Where `path` or `cert` stands.
    pub(crate) cert: (&'static str, Range<usize>),
    /// Where `key` stands; `path` again if there is none.
    pub(crate) key: (&'static str, Range<usize>),
}

/// Reads `[proxy.tls]`.
pub(crate) fn tls(section: &Section<'_>) -> TlsConfig {
    let default = TlsConfig::default();
    let Some(section) = section.section("tls", &PROXY_TLS) else { return default };
    TlsConfig {
        min_version: section.read("min_version", value::choice(VERSIONS, &[])).unwrap_or(default.min_version),
        ticket_rotation: section.read("ticket_rotation", rotation).unwrap_or(default.ticket_rotation),
    }
}

/// A ticket is good for two rotations, and for a week at most (RFC 8446 §4.6.1).
fn rotation(value: &DeValue<'_>) -> Parsed<Duration> {
    value::time_within(Duration::from_secs(60), Duration::from_secs(84 * 3600))(value)
}

/// Reads every `[[proxy.certificate]]`.
pub(crate) fn read(section: &Section<'_>) -> Vec<ReadCertificate> {
    let tables = section.sections("certificate", &PROXY_CERTIFICATE, CERTIFICATES_MAX);
    tables.iter().filter_map(certificate).collect()
}

fn certificate(section: &Section<'_>) -> Option<ReadCertificate> {
    section.refuse_empty_list("listeners", "leave it out for every https listener");
    let listeners =
        section.list("listeners", LISTENERS_MAX, value::shared_text).map_or_else(Vec::new, |at| at.value);
    let source = source(section)?;
    let names = listeners.iter().map(|at| Arc::clone(&at.value)).collect();
    Some(ReadCertificate { config: CertificateConfig { source, listeners: names }, listeners })
}

fn source(section: &Section<'_>) -> Option<CertificateSource> {
    let (path, cert, key) = (section.path("path"), section.path("cert"), section.path("key"));
    let has = |key| section.has(key);
    for beside in ["cert", "key"] {
        if let (true, Some(span)) = (has("path"), section.key_span(beside)) {
            let message = format!("{beside:?} stands beside \"path\"");
            section.reading.conflict(&span, message, "write path alone, or cert and key");
        }
    }
    match (has("path"), has("cert"), has("key")) {
        (false, false, false) => {
            section.missing(
                "path",
                "write path = \"/etc/ssl/shop.pem\": a file with chain and key, or a directory",
            );
        }
        (false, true, false) => {
            section.missing("key", "write the file of its key, or path for a file with both")
        }
        (false, false, true) => section.missing("cert", "write the file of its chain"),
        _ => {}
    }
    match (path, cert, key) {
        (Some(path), ..) => Some(needed(section, path, None)),
        (None, Some(cert), Some(key)) => Some(needed(section, cert, Some(key))),
        _ => None,
    }
}

fn needed(section: &Section<'_>, cert: At<PathBuf>, key: Option<At<PathBuf>>) -> CertificateSource {
    let (name, span) = (if key.is_some() { "cert" } else { "path" }, cert.span);
    let key_place = key.as_ref().map_or((name, span.clone()), |key| ("key", key.span.clone()));
    let source = match key {
        None => CertificateSource::Path(cert.value),
        Some(key) => CertificateSource::Pair { cert: cert.value, key: key.value },
    };
    let needed = NeededCertificate { source: source.clone(), cert: (name, span), key: key_place };
    section.reading.needed.borrow_mut().push(Needed::Certificate(needed));
    source
}

/// Certificates and the listeners that show them.
pub(crate) fn compare(reading: &Reading<'_>, certificates: &[ReadCertificate], listeners: &[ReadListener]) {
    for name in certificates.iter().flat_map(|certificate| &certificate.listeners) {
        let named = listeners.iter().find(|listener| listener.name.value == name.value);
        if named.is_some_and(|listener| listener.protocol != ListenerProtocol::Https) {
            let message = format!("listeners: the listener {:?} shows no certificate", name.value);
            reading.conflict(&name.span, message, "write protocol = \"https\" there");
        }
    }
    for listener in listeners.iter().filter(|listener| listener.protocol == ListenerProtocol::Https) {
        if !certificates.iter().any(|certificate| certificate.config.is_for(&listener.name.value)) {
            let message = format!("the https listener {:?} has no certificate", listener.name.value);
            reading.conflict(
                &listener.protocol_span,
                message,
                "write [[proxy.certificate]] with path = \"…\"",
            );
        }
    }
}

impl NeededCertificate {
    /// Reads the files, and notes what is wrong with them.
    pub(crate) fn look(&self, reading: &Reading<'_>) {
        let provider = portolan_proxy::tls::provider();
        let Err(error) = portolan_proxy::tls::read_certificates(&self.source, &provider) else { return };
        let (name, span) = if error.role == Role::Key { &self.key } else { &self.cert };
        let file = value::quoted(&error.file.to_string_lossy());
        let hint = "relative paths start at the directory of the configuration file";
        reading.mistake(span, format!("{name}: {file} {}", error.why), hint);
    }
}
