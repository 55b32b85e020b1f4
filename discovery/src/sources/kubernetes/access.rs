//! Where the API is and how to be let in: by the service account of a pod, or by a kubeconfig. Read anew for every session.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::config::{ApiConfig, Auth, Given, GivenPems, KubernetesAccess, Secret, TlsConfig};
use crate::source::SourceError;

/// Where a pod finds its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Largest kubeconfig.
const LEN_MAX: u64 = 4 * 1024 * 1024;

/// The API that `access` leads to. Blocks on the disk.
///
/// # Errors
/// [`SourceError::Setup`] with what is missing or cannot be used.
pub(super) fn api(access: &KubernetesAccess) -> Result<ApiConfig, SourceError> {
    let api = match access {
        KubernetesAccess::Api(api) => return Ok((**api).clone()),
        KubernetesAccess::InCluster => in_cluster(|name| std::env::var(name).ok()),
        KubernetesAccess::Kubeconfig(path, context) => {
            let len =
                fs::metadata(path).map_err(|error| error.to_string()).and_then(|meta| match meta.len() {
                    len if len <= LEN_MAX => Ok(len),
                    _ => Err("too large for a kubeconfig".to_owned()),
                });
            let text = len.and_then(|_| fs::read_to_string(path).map_err(|error| error.to_string()));
            let api = text.and_then(|text| kubeconfig(&text, path, context.as_deref()));
            api.map_err(|message| format!("{}: {message}", path.display()))
        }
    };
    api.map_err(|message| SourceError::Setup { message })
}

/// As a pod sees its cluster.
fn in_cluster(variable: impl Fn(&str) -> Option<String>) -> Result<ApiConfig, String> {
    let both = variable("KUBERNETES_SERVICE_HOST").zip(variable("KUBERNETES_SERVICE_PORT"));
    let Some((host, port)) = both else {
        return Err(
            "not in a cluster: KUBERNETES_SERVICE_HOST and _PORT are not set; write `urls` or `kubeconfig`"
                .to_owned(),
        );
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let account = Path::new(ACCOUNT);
    Ok(ApiConfig {
        urls: vec![format!("https://{host}:{port}")],
        auth: Auth::Bearer { token: Secret::File(account.join("token")) },
        tls: TlsConfig { ca: Some(account.join("ca.crt")), ..TlsConfig::default() },
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    current_context: Option<String>,
    #[serde(default)]
    contexts: Vec<Named<Context>>,
    #[serde(default)]
    clusters: Vec<Named<Cluster>>,
    #[serde(default)]
    users: Vec<Named<User>>,
}

/// An entry of a list: `name`, and the rest under the kind's own word.
#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "context", alias = "cluster", alias = "user")]
    value: Option<T>,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    #[serde(default)]
    user: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    username: Option<String>,
    password: Option<String>,
    exec: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    auth_provider: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

fn kubeconfig(text: &str, path: &Path, context: Option<&str>) -> Result<ApiConfig, String> {
    // The parser's picture of the place could show a token.
    let read: Kubeconfig = serde_saphyr::from_str(text).map_err(|error| {
        let place = error.location().map(|at| format!(" at line {}", at.line())).unwrap_or_default();
        format!("not a kubeconfig{place}")
    })?;
    let wanted = context.or(read.current_context.as_deref()).filter(|name| !name.is_empty());
    let wanted = wanted.ok_or("no current-context; write `context`")?;
    let context = find(&read.contexts, wanted).ok_or_else(|| format!("no context {wanted:?}"))?;
    let cluster = find(&read.clusters, &context.cluster);
    let cluster = cluster.ok_or_else(|| format!("no cluster {:?}", context.cluster))?;
    let nobody = User::default();
    let user = match &*context.user {
        "" => &nobody,
        name => find(&read.users, name).ok_or_else(|| format!("no user {name:?}"))?,
    };
    // Relative paths begin at the kubeconfig.
    let placed = |file: &Option<PathBuf>| {
        let base = path.parent().unwrap_or(Path::new(""));
        file.as_ref().map(|file| base.join(file))
    };
    let given = GivenPems {
        ca: decoded(&cluster.certificate_authority_data, "certificate-authority-data")?,
        cert: decoded(&user.client_certificate_data, "client-certificate-data")?,
        key: decoded(&user.client_key_data, "client-key-data")?,
    };
    let tls = TlsConfig {
        // Data go before files.
        ca: placed(&cluster.certificate_authority).filter(|_| given.ca.is_none()),
        cert: placed(&user.client_certificate).filter(|_| given.cert.is_none()),
        key: placed(&user.client_key).filter(|_| given.key.is_none()),
        verify: !cluster.insecure_skip_tls_verify,
        given,
    };
    let auth = auth(user, placed(&user.token_file), &context.user)?;
    Ok(ApiConfig { urls: vec![cluster.server.trim_end_matches('/').to_owned()], auth, tls })
}

fn auth(user: &User, token_file: Option<PathBuf>, name: &str) -> Result<Auth, String> {
    if let Some(file) = token_file {
        return Ok(Auth::Bearer { token: Secret::File(file) });
    }
    if let Some(token) = user.token.as_ref().filter(|token| !token.is_empty()) {
        return Ok(Auth::Given(Given(format!("Bearer {token}"))));
    }
    if let (Some(username), Some(password)) = (&user.username, &user.password) {
        let pair = STANDARD.encode(format!("{username}:{password}"));
        return Ok(Auth::Given(Given(format!("Basic {pair}"))));
    }
    if user.exec.is_some() || user.auth_provider.is_some() {
        return Err(format!(
            "user {name:?} logs in by a program; that is not supported: make a service account and give its token"
        ));
    }
    Ok(Auth::None)
}

fn find<'n, T>(all: &'n [Named<T>], name: &str) -> Option<&'n T> {
    all.iter().find(|named| named.name == name)?.value.as_ref()
}

fn decoded(data: &Option<String>, what: &str) -> Result<Option<Given>, String> {
    let Some(data) = data.as_ref().filter(|data| !data.is_empty()) else { return Ok(None) };
    let octets = STANDARD.decode(data.trim()).map_err(|_| format!("{what} is not in base 64"))?;
    String::from_utf8(octets).map(|text| Some(Given(text))).map_err(|_| format!("{what} is not text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
apiVersion: v1
kind: Config
current-context: prod
contexts:
- name: prod
  context: { cluster: c1, user: u1, namespace: x }
- name: test
  context: { cluster: c2, user: u2 }
- name: cloud
  context: { cluster: c1, user: u3 }
clusters:
- name: c1
  cluster: { server: "https://10.0.0.1:6443/", certificate-authority-data: Q0E= }
- name: c2
  cluster: { server: "https://10.0.0.2:6443", certificate-authority: pki/ca.crt, insecure-skip-tls-verify: true }
users:
- name: u1
  user: { token: s3cret }
- name: u2
  user: { client-certificate-data: Q0VSVA==, client-key: pki/key }
- name: u3
  user: { exec: { command: aws, apiVersion: x } }
"#;

    fn read(context: Option<&str>) -> Result<ApiConfig, String> {
        kubeconfig(CONFIG, Path::new("/home/x/.kube/config"), context)
    }

    #[test]
    fn contexts_lead_to_clusters_and_users() {
        let prod = read(None).unwrap();
        assert_eq!(prod.urls, ["https://10.0.0.1:6443"]);
        assert_eq!(prod.auth, Auth::Given(Given("Bearer s3cret".to_owned())));
        assert_eq!(prod.tls.given.ca, Some(Given("CA".to_owned())));
        assert!(!format!("{prod:?}").contains("s3cret"));
        let test = read(Some("test")).unwrap();
        assert_eq!(test.tls.ca.as_deref(), Some(Path::new("/home/x/.kube/pki/ca.crt")));
        assert_eq!(test.tls.key.as_deref(), Some(Path::new("/home/x/.kube/pki/key")));
        assert!(!test.tls.verify && test.tls.given.cert == Some(Given("CERT".to_owned())));
        assert!(read(Some("cloud")).unwrap_err().contains("logs in by a program"));
        assert_eq!(read(Some("none")).unwrap_err(), "no context \"none\"");
        let broken =
            kubeconfig("users: [{name: a, user: {token: [s3cret]}}]", Path::new("x"), None).unwrap_err();
        assert!(broken.starts_with("not a kubeconfig") && !broken.contains("s3cret"), "{broken}");
    }

    #[test]
    fn a_pod_finds_its_cluster() {
        let variable = |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some("fd00::1".to_owned()),
            "KUBERNETES_SERVICE_PORT" => Some("443".to_owned()),
            _ => None,
        };
        assert_eq!(in_cluster(variable).unwrap().urls, ["https://[fd00::1]:443"]);
        assert!(in_cluster(|_| None).unwrap_err().starts_with("not in a cluster"));
    }
}
