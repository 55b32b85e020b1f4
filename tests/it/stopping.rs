//! The end of the built program: what drains, what is said meanwhile, and how it is cut short.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::site::{Site, listener, service};
use crate::support::{block_on, http, until, within};

#[test]
fn a_drain_is_told_and_a_second_sigterm_cuts_it_short() {
    block_on(async {
        let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let site = Site::new(&service("echo", &[backend.local_addr().unwrap()]));
        let route = "[[proxy.route]]\nlistener = \"echo\"\nservice = \"echo\"\n";
        site.configure(&format!("{}{route}", listener("echo", "tcp")));
        let mut node = site.run();
        let (admin, echo) = (node.bound("admin"), node.bound("echo"));
        let readiness = || async { http::try_get(admin, "localhost", "/readyz").await.ok() };

        // A relay that nobody ends.
        let mut client = TcpStream::connect(echo).await.unwrap();
        client.write_all(b"x").await.unwrap();
        let (mut relayed, _) = within("a relay", backend.accept()).await.unwrap();
        assert_eq!(within("an octet", relayed.read_u8()).await.unwrap(), b'x');

        node.signal("TERM");
        let draining = until("a drain", || async { readiness().await.filter(|a| a.status == 503) }).await;
        assert!(draining.body.contains("draining"), "{}", draining.body);
        relayed.write_all(b"y").await.unwrap();
        let answer = within("an octet back", client.read_u8()).await.unwrap();
        assert_eq!(answer, b'y', "open connections go on");

        let begin = Instant::now();
        node.signal("TERM");
        assert_eq!(node.ended().code(), Some(1));
        assert!(begin.elapsed() < Duration::from_secs(10), "took {:?}", begin.elapsed());
    });
}
