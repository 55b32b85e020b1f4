//! Who is shown which certificate, and certificates that are replaced.

use std::path::PathBuf;
use std::time::Duration;

use portolan_proxy::tls::{
    CertificateConfig, CertificateSource, Certificates, Role, provider, read_certificates, watch,
};
use rustls::crypto::WebPkiSupportedAlgorithms;

use crate::authority::{Authority, Kind, NEW, OLD, connect, shown};
use crate::harness::{Backend, HELLO, Node, get};

/// The certificate of a file.
fn of(path: &PathBuf) -> rustls::pki_types::CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::from_pem_file(path).unwrap()
}

#[test]
fn the_name_asked_for_chooses() {
    let authority = Authority::new();
    let first = authority.file("first.pem", &["first.example", "dns.example"], Kind::Ecdsa);
    let exact = authority.file("exact.pem", &["a.shop.example"], Kind::Ecdsa);
    let wild = authority.file("wild.pem", &["*.shop.example"], Kind::Ecdsa);
    let node = Node::with(authority.config(&[first.clone(), wild.clone(), exact.clone()]), &[]);
    let config = authority.believer().config();
    for (name, file) in [
        ("a.shop.example", &exact),
        ("A.Shop.example", &exact),
        ("b.shop.example", &wild),
        ("dns.example", &first),
        ("first.example", &first),
    ] {
        assert_eq!(shown(&connect(node.address, name, &config).unwrap()), of(file), "{name}");
    }
    let unknown = "portolan_proxy_tls_unknown_names_total{listener=\"web\"}";
    assert_eq!(node.metric(unknown), 0.0);
    // The default is shown to the others, and they refuse it. A wildcard stands for one label.
    for name in ["other.example", "x.b.shop.example", "shop.example"] {
        let error = connect(node.address, name, &config).err().unwrap();
        assert!(error.to_string().contains("not valid for name"), "{error}");
    }
    assert_eq!(node.metric(unknown), 3.0);
}

#[test]
fn the_clients_signatures_choose_between_certificates_of_one_name() {
    let authority = Authority::new();
    let rsa = authority.file("app/app.rsa", &["app.example"], Kind::Rsa);
    let ecdsa = authority.file("app/app.ecdsa", &["app.example"], Kind::Ecdsa);
    let directory = authority.directory.path().join("app");
    let node = Node::with(authority.config(&[directory]), &[]);
    for (offered, file) in [("", &ecdsa), ("RSA", &rsa), ("ECDSA", &ecdsa)] {
        for versions in [NEW, OLD] {
            let mut believer = authority.believer();
            believer.versions = versions;
            let all = believer.provider.signature_verification_algorithms;
            let mapping: Vec<_> = all
                .mapping
                .iter()
                .filter(|(scheme, _)| scheme.as_str().unwrap_or_default().starts_with(offered))
                .copied()
                .collect();
            believer.provider.signature_verification_algorithms =
                WebPkiSupportedAlgorithms { all: all.all, mapping: mapping.leak() };
            let client = connect(node.address, "app.example", &believer.config()).unwrap();
            assert_eq!(shown(&client), of(file), "{offered:?} {versions:?}");
        }
    }
}

#[test]
fn files_come_in_the_forms_that_others_use() {
    let authority = Authority::new();
    let (chain, key) = authority.issue(&["app.example"], Kind::Ecdsa);
    let cert = authority.write("pair/tls.crt", &chain);
    let key_file = authority.write("pair/tls.key", &key);
    authority.write("haproxy/a.pem", &chain);
    authority.write("haproxy/a.pem.key", &key);
    authority.write(
        "haproxy/b.pem",
        &(key + "-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n" + &chain),
    );
    authority.write("haproxy/a.pem.ocsp", "x");
    authority.write("haproxy/.hidden", "x");
    let directory = |name: &str| CertificateSource::Path(authority.directory.path().join(name));
    for (source, count) in [
        (directory("pair"), 1),
        (directory("haproxy"), 2),
        (CertificateSource::Pair { cert, key: key_file }, 1),
    ] {
        assert_eq!(read_certificates(&source, &provider()).unwrap().len(), count, "{source:?}");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let authority = Authority::new();
    let (chain, _) = authority.issue(&["app.example"], Kind::Ecdsa);
    let (_, other) = authority.issue(&["app.example"], Kind::Ecdsa);
    let file = |name: &str, text: &str| CertificateSource::Path(authority.write(name, text));
    let pair = |name: &str, cert: &str, key: &str| CertificateSource::Pair {
        cert: authority.write(&format!("{name}.crt"), cert),
        key: authority.write(&format!("{name}.key"), key),
    };
    std::fs::create_dir(authority.directory.path().join("empty")).unwrap();
    for (source, role, why) in [
        (CertificateSource::Path("/nowhere/a.pem".into()), Role::Certificate, "does not exist"),
        (
            CertificateSource::Path(authority.directory.path().join("empty")),
            Role::Certificate,
            "holds no certificate",
        ),
        (
            file("a.pem", ""),
            Role::Certificate,
            "holds no private key, and there is none in a .key file beside it",
        ),
        (file("b.pem", &other), Role::Certificate, "holds no certificate"),
        (file("c.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n"), Role::Certificate, "is not valid PEM: "),
        (
            file("d.pem", &(chain.clone() + &other)),
            Role::Key,
            "holds a key that does not belong to its certificate",
        ),
        (pair("e", &chain, &other), Role::Key, "does not belong to the certificate in "),
        (pair("f", &chain, "x"), Role::Key, "holds no private key"),
        (pair("g", "x", &other), Role::Certificate, "holds no certificate"),
    ] {
        let error = read_certificates(&source, &provider()).unwrap_err();
        assert_eq!(error.role, role, "{source:?}: {error}");
        assert!(error.why.starts_with(why), "{source:?}: {error}");
    }
}

#[test]
fn certificates_are_replaced_under_open_connections_when_their_files_change() {
    let (backend, _requests) = Backend::answering(HELLO);
    let authority = Authority::new();
    let config = authority.app();
    let node = Node::with(config.clone(), &[backend.address]);
    let believing = authority.believer().config();
    let mut client = connect(node.address, "app.example", &believing).unwrap();
    let seen = Certificates::read(&config).unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let (proxy, stopped) = (std::sync::Arc::clone(&node.proxy), stop.clone());
    let watching = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(watch(proxy, seen, stopped));
    });
    // One that cannot be used changes nothing.
    let path = authority.write("app.pem", "garbage");
    std::thread::sleep(Duration::from_millis(1600));
    let before = shown(&connect(node.address, "app.example", &authority.believer().config()).unwrap());
    assert_eq!(before, shown(&client));
    let new = of(&authority.file("app.pem", &["app.example"], Kind::Ecdsa));
    crate::harness::eventually("the new certificate is shown", || {
        shown(&connect(node.address, "app.example", &authority.believer().config()).unwrap()) == new
    });
    client.send(get("/"));
    assert_eq!(client.response().text(), "hello", "{path:?}");
    stop.cancel();
    watching.join().unwrap();
}

#[test]
fn a_certificate_may_be_for_some_listeners_only() {
    let entry = |listeners: &[&str]| CertificateConfig {
        source: CertificateSource::Path("a.pem".into()),
        listeners: listeners.iter().map(|&name| name.into()).collect(),
    };
    assert!(entry(&[]).is_for("web") && entry(&["web"]).is_for("web") && !entry(&["other"]).is_for("web"));
}
