//! UDP through the built program: a relay beside DNS and TCP, and what a reload makes of it.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::support::site::{Site, listener, listener_at, metric, reloads};

/// Answers what it gets, with a tag before it, until the process ends.
fn echo(tag: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut octets = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut octets) {
            let answer = [tag.as_bytes(), &octets[..len]].concat();
            // Whoever asked may be gone.
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

fn services(endpoint: SocketAddr) -> String {
    format!(
        "[[service]]\nname = \"clock\"\nport = [{{ name = \"ntp\", number = 123, protocol = \"udp\" }}]\n\
         endpoint = [\"{endpoint}\"]\n"
    )
}

fn ask(client: &UdpSocket, server: SocketAddr, text: &str) -> Option<String> {
    client.send_to(text.as_bytes(), server).unwrap();
    let mut answer = [0; 2048];
    let (len, from) = client.recv_from(&mut answer).ok()?;
    assert_eq!(from, server);
    Some(String::from_utf8(answer[..len].to_vec()).unwrap())
}

#[test]
fn a_udp_listener_relays_to_the_service_and_follows_it() {
    let site = Site::new(&services(echo("old ")));
    let route = "[[proxy.route]]\nlistener = \"time\"\nservice = \"clock\"\nport = \"ntp\"\n";
    site.configure(&format!("{}{route}", listener("time", "udp")));
    let mut node = site.run();
    let (admin, time) = (node.bound("admin"), node.bound("time"));
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(ask(&client, time, "now?").unwrap(), "old now?");
    assert_eq!(metric(admin, "portolan_proxy_udp_flows_total"), Some(1.0));

    // The flow of a client whose endpoint has left goes to the one that is there.
    site.write("services.toml", &services(echo("new ")));
    client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    node.until("the new endpoint", |_| ask(&client, time, "now?").filter(|text| text == "new now?"));

    // A tcp listener may have the same port; the relay goes on beside it.
    let beside = format!("{}{}", listener("time", "udp"), listener_at("tcp", "tcp", &time.to_string()));
    let tcp_route = "[[proxy.route]]\nlistener = \"tcp\"\nservice = \"clock\"\n";
    let before = reloads(admin).unwrap();
    site.configure(&format!("{beside}{route}{tcp_route}"));
    node.signal("HUP");
    node.until("the reload", |_| (reloads(admin)? > before).then_some(()));
    assert_eq!(node.bound("tcp"), time);
    node.until("an answer", |_| ask(&client, time, "still?").filter(|text| text == "new still?"));
    node.stop();
}
