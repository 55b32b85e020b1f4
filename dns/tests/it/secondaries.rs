//! Secondaries as operators run them: knotd, nsd and named take the zone, follow NOTIFY and serve what we serve.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use hickory_proto::op::ResponseCode;
use portolan_dns::{Algorithm, Config, Key, Transfer};

use crate::node::{Client, MS, Node, PATIENCE};
use crate::zone_client::{APEX, asked, axfr, open_config, serial_of, transfer};

const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const KEY: &str = "transfer.example";

/// A secondary, configured as `docs/zone-transfer.md` has it; here is what the tests need besides. `{dir}` and
/// `{port}` are filled in.
struct Kind {
    program: &'static str,
    arguments: &'static [&'static str],
    /// The block of the document.
    block: &'static str,
    algorithm: Algorithm,
    /// Stands before the block.
    before: &'static str,
    /// Is changed in it: so that we may look at the zone.
    changes: &'static [(&'static str, &'static str)],
}

const KNOT: Kind = Kind {
    program: "knotd",
    arguments: &["-c", "{dir}/secondary.conf"],
    block: "knot",
    algorithm: Algorithm::HmacSha256,
    before: r#"
server:
    rundir: "{dir}"
    listen: 127.0.0.1@{port}
database:
    storage: "{dir}"
log:
  - target: stderr
    any: info
"#,
    changes: &[
        ("zone:\n", "  - id: looked_at\n    address: 127.0.0.1\n    action: transfer\n\nzone:\n"),
        ("acl: portolan_tells", "acl: [portolan_tells, looked_at]\n    storage: \"{dir}\""),
    ],
};

const NSD: Kind = Kind {
    program: "nsd",
    arguments: &["-d", "-c", "{dir}/secondary.conf"],
    block: "nsd",
    algorithm: Algorithm::HmacSha512,
    before: r#"
server:
    ip-address: 127.0.0.1@{port}
    username: ""
    zonesdir: "{dir}"
    zonelistfile: "{dir}/zone.list"
    xfrdfile: "{dir}/xfrd.state"
    xfrdir: "{dir}"
    pidfile: ""
    database: ""
    server-count: 1
    verbosity: 2
remote-control:
    control-enable: no
"#,
    changes: &[
        ("hmac-sha256", "hmac-sha512"),
        ("    allow-notify:", "    provide-xfr: 127.0.0.1 NOKEY\n    allow-notify:"),
    ],
};

const BIND: Kind = Kind {
    program: "named",
    arguments: &["-g", "-c", "{dir}/secondary.conf"],
    block: "bind",
    algorithm: Algorithm::HmacSha256,
    before: r#"
options {
    directory "{dir}";
    pid-file "{dir}/named.pid";
    session-keyfile "{dir}/session.key";
    managed-keys-directory "{dir}";
    listen-on port {port} { 127.0.0.1; };
    listen-on-v6 { none; };
    recursion no;
    dnssec-validation no;
    notify no;
    allow-transfer { 127.0.0.1; };
};
controls { };
"#,
    changes: &[],
};

impl Kind {
    fn configuration(&self) -> String {
        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/zone-transfer.md");
        let document = std::fs::read_to_string(document).unwrap();
        let (_, block) = document.split_once(&format!("```{}\n", self.block)).unwrap();
        let mut block = block.split("```").next().unwrap().to_owned();
        for (theirs, ours) in self.changes {
            assert!(block.contains(theirs), "{theirs:?} in the example of {}", self.block);
            block = block.replace(theirs, ours);
        }
        [self.before, &block].concat()
    }
}

/// Whether tests may use the servers of others. Only a person may say no; one that is missing is a failure.
pub(crate) fn with_real_programs() -> bool {
    std::env::var_os("PORTOLAN_TEST_SKIP_REAL").is_none()
}

/// A running secondary, killed when dropped.
struct Secondary {
    address: SocketAddr,
    child: Child,
}

impl Secondary {
    fn start(kind: &Kind, dir: &Path, address: SocketAddr, primary: SocketAddr) -> Self {
        let fill = |text: &str| {
            text.replace("{dir}", &dir.display().to_string())
                .replace("{port}", &address.port().to_string())
                .replace("192.0.2.1@53", &format!("127.0.0.1@{}", primary.port()))
                .replace("192.0.2.1 port 53", &format!("127.0.0.1 port {}", primary.port()))
                .replace("192.0.2.1", "127.0.0.1")
                .replace("SECRET", SECRET)
        };
        std::fs::write(dir.join("secondary.conf"), fill(&kind.configuration())).unwrap();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let child = Command::new(kind.program)
            .args(kind.arguments.iter().map(|argument| fill(argument)))
            .current_dir(dir)
            .env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{}: {error}: tests/run installs it; PORTOLAN_TEST_SKIP_REAL leaves it out",
                    kind.program
                )
            });
        Self { address, child }
    }

    /// Its zone, and the serial; `None` while it has none.
    fn zone(&self) -> Option<(BTreeSet<String>, u32)> {
        let stream = TcpStream::connect(self.address).ok()?;
        let got = transfer(&mut Client::new(stream), &axfr(APEX));
        let serial = got.records.first().and_then(serial_of);
        serial.filter(|_| got.code == ResponseCode::NoError).map(|serial| (got.content(), serial))
    }
}

impl Drop for Secondary {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that was free for UDP and TCP a moment ago.
fn free_address() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

struct Bench {
    node: Node,
    secondary: Secondary,
    dir: tempfile::TempDir,
    config: Config,
}

impl Bench {
    fn start(kind: &Kind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = free_address();
        let secret_file = dir.path().join("key");
        std::fs::write(&secret_file, SECRET).unwrap();
        let config = Config {
            keys: vec![Key { name: KEY.into(), algorithm: kind.algorithm, secret_file }],
            transfer: Transfer {
                keys: vec![KEY.into()],
                notify: vec![address],
                notify_delay: MS * 100,
                ..Transfer::default()
            },
            state_dir: Some(dir.path().to_owned()),
            ..open_config()
        };
        let mut node = Node::start(&config);
        node.publish(&[("web.shop", 3), ("db", 1), ("empty", 0), ("large", 300)]);
        let secondary = Secondary::start(kind, dir.path(), address, node.address);
        Self { node, secondary, dir, config }
    }

    /// Waits until the secondary serves what we serve.
    fn wait(&self, what: &str) {
        let start = Instant::now();
        let wanted = (asked(&self.node), self.node.zones().serial());
        loop {
            let zone = self.secondary.zone();
            if zone.as_ref() == Some(&wanted) {
                return;
            }
            if start.elapsed() > PATIENCE * 3 {
                let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                let serial = zone.map(|(_, serial)| serial);
                panic!("{what}: the secondary has {serial:?} and not {}:\n{log}", wanted.1);
            }
            std::thread::sleep(MS * 20);
        }
    }
}

fn follows(kind: &Kind) {
    if !with_real_programs() {
        return;
    }
    let mut bench = Bench::start(kind);
    bench.wait("the zone as it is first");
    // Word of the first version goes on until it is heard.
    bench.node.wait_for_metric("portolan_dns_notify_total", Some("answered"), 1.0);
    bench.node.publish(&[("web.shop", 4), ("new.one", 2)]);
    bench.wait("after a change");
    bench.node.remove(&["db", "large"]);
    bench.wait("after names went");
    for instances in 1..20 {
        bench.node.publish(&[("web.shop", instances)]);
    }
    bench.wait("after a storm");
    assert!(bench.node.metric("portolan_dns_transfers_total", Some("differences")) >= 3.0);
    assert_eq!(bench.node.metric("portolan_dns_transfers_total", Some("refused")), 0.0);
    assert!(bench.node.metric("portolan_dns_signatures_total", Some("good")) >= 4.0);
}

#[test]
fn knot_takes_the_zone_and_follows() {
    follows(&KNOT);
}

#[test]
fn nsd_takes_the_zone_and_follows() {
    follows(&NSD);
}

#[test]
fn bind_takes_the_zone_and_follows() {
    follows(&BIND);
}

#[test]
fn a_secondary_follows_a_primary_that_was_restarted() {
    if !with_real_programs() {
        return;
    }
    let mut bench = Bench::start(&KNOT);
    bench.wait("the zone as it is first");
    let (address, before) = (bench.node.address, bench.node.zones().serial());
    let config = bench.config.clone();
    // The journal is lost, the serial goes on.
    bench.node.restart(&config, address);
    bench.node.publish(&[("web.shop", 1), ("other", 5)]);
    assert!(bench.node.zones().serial() > before);
    bench.wait("after the restart");
}
