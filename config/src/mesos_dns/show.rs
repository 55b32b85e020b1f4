//! `/v1/config`: the configuration in force, in the program's spelling and order.

use serde::Serialize;

use super::MesosDns;

/// What stands in the place of a secret.
pub(super) const MASK: &str = "********";

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown<'a> {
    refresh_seconds: u32,
    port: u16,
    timeout: u32,
    state_timeout_seconds: u32,
    zk_detection_timeout: u32,
    http_port: u16,
    #[serde(rename = "TTL")]
    ttl: u32,
    #[serde(rename = "SRVRecordDefaultWeight")]
    srv_weight: u16,
    #[serde(rename = "SOASerial")]
    serial: u32,
    #[serde(rename = "SOARefresh")]
    soa_refresh: u32,
    #[serde(rename = "SOARetry")]
    soa_retry: u32,
    #[serde(rename = "SOAExpire")]
    soa_expire: u32,
    #[serde(rename = "SOAMinttl")]
    soa_minttl: u32,
    #[serde(rename = "SOAMname")]
    soa_mname: String,
    #[serde(rename = "SOARname")]
    soa_rname: String,
    masters: &'a [String],
    zone_resolvers: std::collections::BTreeMap<&'a str, &'a [String]>,
    resolvers: Vec<String>,
    #[serde(rename = "IPSources")]
    ip_sources: &'a [String],
    zk: &'a str,
    domain: &'a str,
    file: &'a str,
    listener: String,
    #[serde(rename = "HTTPListener")]
    http_listener: String,
    recurse_on: bool,
    dns_on: bool,
    http_on: bool,
    external_on: bool,
    #[serde(rename = "EnforceRFC952")]
    rfc952: bool,
    set_truncate_bit: bool,
    enumeration_on: bool,
    // The switches of later profiles stand only where they are on: who reads the older body finds what it knows.
    #[serde(rename = "ReverseDnsOn", skip_serializing_if = "is_off")]
    reverse: bool,
    #[serde(rename = "ResolvSubnetFirst", skip_serializing_if = "is_off")]
    subnet_first: bool,
    #[serde(rename = "MesosHTTPSOn")]
    https: bool,
    #[serde(rename = "CACertFile")]
    ca_file: &'a str,
    cert_file: &'a str,
    key_file: &'a str,
    mesos_credentials: ShownCredentials<'a>,
    #[serde(rename = "IAMConfigFile")]
    iam_file: &'a str,
    mesos_authentication: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownCredentials<'a> {
    principal: &'a str,
    secret: &'static str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_off(switch: &bool) -> bool {
    !switch
}

/// The body of `/v1/config`.
pub(super) fn config(of: &MesosDns, serial: u32) -> String {
    let resolvers = match of.resolvers.is_empty() {
        true => of.forward.iter().map(|address| address.ip().to_string()).collect(),
        false => of.resolvers.clone(),
    };
    let shown = Shown {
        refresh_seconds: of.refresh_seconds,
        port: of.port,
        timeout: of.timeout,
        state_timeout_seconds: of.state_timeout_seconds,
        zk_detection_timeout: of.zk_detection_timeout,
        http_port: of.http_port,
        ttl: of.ttl,
        srv_weight: of.srv_weight,
        serial,
        soa_refresh: of.soa_refresh,
        soa_retry: of.soa_retry,
        soa_expire: of.soa_expire,
        soa_minttl: of.soa_minttl,
        soa_mname: format!("{}.", of.soa_mname),
        soa_rname: format!("{}.", of.soa_rname),
        masters: &of.masters,
        zone_resolvers: of.zone_resolvers.iter().map(|(zone, list)| (&**zone, &**list)).collect(),
        resolvers,
        ip_sources: &of.ip_sources,
        zk: &of.zk,
        domain: &of.domain,
        file: &of.file,
        listener: of.listener.to_string(),
        http_listener: of.http_listener.to_string(),
        recurse_on: of.recurse,
        dns_on: of.dns,
        http_on: of.http,
        external_on: of.external,
        rfc952: of.rfc952,
        set_truncate_bit: of.truncate_bit,
        enumeration_on: of.enumeration,
        reverse: of.reverse,
        subnet_first: of.subnet_first,
        https: of.https,
        ca_file: &of.ca_file,
        cert_file: &of.cert_file,
        key_file: &of.key_file,
        mesos_credentials: ShownCredentials {
            principal: &of.credentials.principal,
            secret: if of.credentials.secret.is_empty() { "" } else { MASK },
        },
        iam_file: &of.iam_file,
        mesos_authentication: &of.authentication,
    };
    pretty(&shown)
}

/// JSON with one space of indent, as all of the program's bodies have.
fn pretty(shown: &impl Serialize) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut writer = serde_json::Serializer::with_formatter(&mut out, formatter);
    match shown.serialize(&mut writer) {
        Ok(()) => String::from_utf8_lossy(&out).into_owned(),
        Err(_) => String::new(),
    }
}
