//! `https` listeners from the configuration file to the clients of others.

use std::net::SocketAddr;
use std::process::Command;

use crate::support::program::{finish, text, with_real_clients};
use crate::support::site::{Backend, Site, get, listener, metric, route, service};

const HOST: &str = "shop.example.com";

/// What curl says that believes `shop.pem` and nothing else; nothing if it fails.
fn curl(site: &Site, address: SocketAddr, more: &[&str]) -> Option<String> {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "30", "--cacert"]).arg(site.path("shop.pem"));
    command.args(["--resolve", &format!("{HOST}:{}:{}", address.port(), address.ip())]);
    command.args(more).arg(format!("https://{HOST}:{}/", address.port()));
    let output = finish(&mut command).unwrap();
    output.status.success().then(|| text(&output.stdout))
}

#[test]
fn curl_is_served_and_a_new_certificate_takes_no_reload() {
    if !with_real_clients() {
        return;
    }
    let backend = Backend::start();
    let site = Site::new(&service("web.shop", &[backend.address]));
    let certificate = site.certificate("shop", HOST);
    let (listener, route) = (listener("secure", "https"), route("secure", HOST, "web.shop"));
    site.configure(&[certificate, listener, route].concat());
    let mut node = site.run();
    let address = node.bound("secure");
    for (version, written) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for tls in ["1.2", "1.3"] {
            let told =
                curl(&site, address, &[version, "--tls-max", tls, "-w", "\n%{http_version} %{http_code}"]);
            let told = told.unwrap();
            assert!(told.ends_with(&format!("\n{written} 200")), "{version} over TLS {tls}: {told}");
        }
    }
    // Whoever believes the new one alone does not take the old one.
    site.certificate("shop", HOST);
    node.until("the new certificate", |_| curl(&site, address, &[]));
    node.stop();
}

#[test]
fn an_endpoint_over_tls_is_believed_by_the_authority_of_the_file() {
    served_by_itself("http1");
}

#[test]
fn an_endpoint_over_tls_that_agrees_to_http_2_is_spoken_to_in_it() {
    served_by_itself("h2");
}

/// The node is its own endpoint: a request comes in the clear, goes over TLS, and comes in once more.
fn served_by_itself(protocol: &str) {
    const CHAIN: &str = "chain.example.com";
    let backend = Backend::start();
    let own = service("web.shop", &[backend.address]);
    let site = Site::new(&own);
    let parts = [
        site.certificate("shop", HOST),
        listener("secure", "https"),
        listener("web", "http"),
        route("secure", CHAIN, "web.shop"),
        route("web", CHAIN, "edge"),
        format!("[proxy.upstream.tls]\nca = \"shop.pem\"\nserver_name = \"{HOST}\"\n"),
        format!("[[proxy.service]]\nname = \"edge\"\nprotocol = \"{protocol}\"\n"),
    ];
    site.configure(&parts.concat());
    let mut node = site.run();
    let (secure, web, admin) = (node.bound("secure"), node.bound("web"), node.bound("admin"));
    let edge = service("edge", &[secure]).replace("app = \"http\"", "app = \"https\"");
    site.write("services.toml", &(own + &edge));
    node.until("an answer over TLS", |_| (get(web, CHAIN, "/")?.0 == 200).then_some(()));
    for side in [
        "portolan_proxy_upstream_tls_handshakes_total{",
        "portolan_proxy_tls_handshakes_total{listener=\"secure\",",
    ] {
        let series = format!("{side}resumed=\"false\",version=\"1.3\"}}");
        assert!(metric(admin, &series) > Some(0.0), "{series}");
    }
    node.stop();
}
