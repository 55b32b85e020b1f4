//! Connections to endpoints belong to the policy that they were made by: no request goes out as somebody else, or to
//! somebody its own service would not believe.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use portolan_proxy::tls::ServerName;
use portolan_proxy::{Config, UpstreamProtocol};
use portolan_table::{HostMatch, ServiceName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::authority::{Authority, TlsServer, secure};
use crate::h2_server::{Answer, Server, full};
use crate::harness::*;

const PROTOCOLS: [UpstreamProtocol; 2] = [UpstreamProtocol::Http1, UpstreamProtocol::H2];

/// Notes the names that handshakes ask for.
#[derive(Debug)]
struct Noting {
    key: Arc<CertifiedKey>,
    names: Arc<Mutex<Vec<String>>>,
}

impl ResolvesServerCert for Noting {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.names.lock().unwrap().push(hello.server_name().unwrap_or("none").to_owned());
        Some(Arc::clone(&self.key))
    }
}

async fn hello(_: http::Request<hyper::body::Incoming>) -> Answer {
    http::Response::new(full("hello"))
}

type Names = Arc<Mutex<Vec<String>>>;

/// An endpoint, and the names that it was asked for.
fn endpoint(authority: &Authority, names: &[&str], protocol: UpstreamProtocol) -> (SocketAddr, Names) {
    let mut config = authority.server(names, false);
    let asked = Names::default();
    config.cert_resolver =
        Arc::new(Noting { key: Arc::new(authority.certified(names)), names: Arc::clone(&asked) });
    let address = if protocol == UpstreamProtocol::H2 {
        config.alpn_protocols = vec![b"h2".to_vec()];
        Server::secure(config, hello).address
    } else {
        let serve = |mut client: TlsServer| {
            while client.fill() {
                client.request();
                client.send(HELLO);
            }
        };
        secure(Arc::new(config), serve).address
    };
    (address, asked)
}

fn named(base: &Config, name: &'static str) -> portolan_proxy::UpstreamConfig {
    let mut upstream = base.upstream.clone();
    upstream.tls.server_name = Some(ServerName::try_from(name).unwrap());
    upstream
}

#[test]
fn two_services_with_one_endpoint_do_not_share_connections() {
    for protocol in PROTOCOLS {
        let authority = Authority::new();
        let names = ["one.internal", "two.internal"];
        let (address, asked) = endpoint(&authority, &names, protocol);
        let mut config = config();
        config.upstream.protocol = protocol;
        config.upstream.tls.enabled = Some(true);
        config.upstream.tls.ca = Some(authority.write("ca.pem", &authority.pem()));
        config.services = vec![
            (ServiceName::parse("one").unwrap(), named(&config, "one.internal")),
            (ServiceName::parse("two").unwrap(), named(&config, "two.internal")),
        ];
        config.routes = ["one", "two"]
            .map(|name| route(name, HostMatch::Exact(format!("{name}.example").into()), name))
            .to_vec();
        let mut node = Node::with(config, &[]);
        // One endpoint, and so one slot.
        node.publish(&service("one", &[address]));
        node.publish(&service("two", &[address]));
        for _ in 0..3 {
            for name in ["one", "two"] {
                let request = format!("GET / HTTP/1.1\r\nHost: {name}.example\r\n\r\n");
                assert_eq!(node.request(&request).text(), "hello");
            }
        }
        assert_eq!(*asked.lock().unwrap(), names, "{protocol:?}");
    }
}

#[test]
fn a_connection_is_of_no_use_once_its_endpoint_is_not_believed() {
    for protocol in PROTOCOLS {
        let (before, after) = (Authority::new(), Authority::new());
        let (address, asked) = endpoint(&before, &["127.0.0.1"], protocol);
        let mut config = config();
        config.upstream.protocol = protocol;
        config.upstream.tls.enabled = Some(true);
        config.upstream.tls.ca = Some(before.write("ca.pem", &before.pem()));
        let node = Node::with(config.clone(), &[address]);
        assert_eq!(node.request(&get("/")).text(), "hello");
        // A look at the files that brings nothing new costs no connection.
        node.reconfigure(&config);
        assert_eq!(node.request(&get("/")).text(), "hello");
        assert_eq!(asked.lock().unwrap().len(), 1, "{protocol:?}");
        before.write("ca.pem", &after.pem());
        node.reconfigure(&config);
        assert_eq!(node.request(&get("/")).status, 502, "{protocol:?}");
    }
}
