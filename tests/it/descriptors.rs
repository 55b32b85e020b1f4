//! The limit on open files: how much of it the program takes, and what is left while resolvers are slow.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

use crate::support::program::{Running, program};
use crate::support::site::{DNS, Site, get};
use crate::support::{block_on, dns};

/// Names asked for at once: far more than there are descriptors.
const NAMES: u16 = 200;

/// Runs the program under a limit, as `ulimit` of the shell takes it.
fn limited(limit: &str, arguments: &str) -> Running {
    let script = format!("ulimit {limit} && exec {} {arguments}", program().display());
    Running::spawn(Command::new("sh").arg("-c").arg(script))
}

fn query(name: &str) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

/// Asks for names that nobody answers, from several clients at once, so that none has more than its share.
fn ask_for_slow_names(server: SocketAddr) -> Vec<UdpSocket> {
    let clients: Vec<UdpSocket> =
        (1..=8).map(|last| UdpSocket::bind(format!("127.0.1.{last}:0")).unwrap()).collect();
    for index in 0..NAMES {
        let client = &clients[usize::from(index) % clients.len()];
        client.send_to(&query(&format!("n{index}.slow.example.")), server).unwrap();
    }
    clients
}

/// How many of the names were SERVFAIL in the end; each is answered.
fn failures(clients: &[UdpSocket]) -> usize {
    let code = |index: u16| {
        let client = &clients[usize::from(index) % clients.len()];
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut buffer = [0; 512];
        let len = client.recv(&mut buffer).unwrap();
        Message::from_vec(&buffer[..len]).unwrap().metadata.response_code
    };
    (0..NAMES).map(code).filter(|code| *code == ResponseCode::ServFail).count()
}

/// The value of a series; 0 if it has never been counted.
fn metric(admin: SocketAddr, series: &str) -> u64 {
    let text = get(admin, "localhost", "/metrics").unwrap().1;
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok()).unwrap_or(0)
}

#[test]
fn run_and_demo_take_what_the_hard_limit_allows() {
    let site = Site::new("");
    site.configure(DNS);
    let mut node = limited("-Sn 200", &format!("run --config {}", site.file().display()));
    node.bound("admin");
    let mut demo = limited(
        "-Sn 200",
        "demo --dns 127.0.0.1:0 --proxy 127.0.0.1:0 --tcp 127.0.0.1:0 --admin 127.0.0.1:0",
    );
    demo.until("the commands to try", |demo| demo.stdout().contains("dig @").then_some(()));
    for running in [&node, &demo] {
        let (soft, hard) = running.open_files_max();
        assert_eq!(soft, hard);
        assert_ne!(soft, "200");
    }
}

#[test]
fn slow_names_leave_descriptors_to_everything_else() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let site = Site::new("[[service]]\nname = \"web\"\nendpoint = [\"10.0.0.1:80\"]\n");
    let forward = format!("forward = [\"{}\"]\nforward_timeout = \"3s\"\n", silent.local_addr().unwrap());
    site.configure(&DNS.replace("[[dns.zone]]", &format!("{forward}[[dns.zone]]")));
    let mut node = limited("-n 128", &format!("run --config {}", site.file().display()));
    let (server, admin) = (node.bound("dns"), node.bound("admin"));
    node.until("ready", |_| (get(admin, "localhost", "/readyz")?.0 == 200).then_some(()));

    let clients = ask_for_slow_names(server);
    node.until("the slow names", |_| {
        (metric(admin, "portolan_dns_forward_in_flight ") >= u64::from(NAMES)).then_some(())
    });
    block_on(async {
        for _ in 0..10 {
            assert_eq!(dns::addresses(server, "web.svc.cluster.", RecordType::A).await, ["10.0.0.1"]);
        }
    });
    assert!(std::net::TcpStream::connect(server).is_ok());
    assert_eq!(get(admin, "localhost", "/readyz").unwrap().0, 200);

    assert_eq!(failures(&clients), usize::from(NAMES));
    let address = silent.local_addr().unwrap();
    let tries = |outcome| {
        metric(
            admin,
            &format!("portolan_dns_forward_tries_total{{outcome=\"{outcome}\",resolver=\"{address}\"}}"),
        )
    };
    assert_eq!(tries("unreachable"), 0, "for want of a descriptor nobody is blamed");
    let sent = tries("silent");
    assert!((1..=32).contains(&sent), "{sent} sockets of 128 descriptors");
    assert!(metric(admin, "portolan_dns_forward_queries_total{outcome=\"overload\"}") > 0);
    node.stop();
}
