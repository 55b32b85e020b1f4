//! A zone is a function of the table's content: what changes made of it equals what is built from scratch.

use std::collections::{BTreeMap, BTreeSet};

use portolan_dns::transfer::{Difference, records_of};
use portolan_table::{Admission, ChangeSet, Outside, Protocol, Service};
use proptest::prelude::*;

use crate::cluster::{Cluster, Task, config, query, service, text};

const NAMES: [&str; 8] = ["a", "b.a", "c.b.a", "x.prod", "prod", "y.x.prod", "odd.zone", "_tcp.a"];
const PORTS: [(&str, Protocol); 7] = [
    ("http", Protocol::Tcp),
    ("dns", Protocol::Udp),
    ("tcp", Protocol::Tcp),
    ("udp", Protocol::Tcp),
    ("tcp", Protocol::Udp),
    ("", Protocol::Tcp),
    ("any", Protocol::Udp),
];
const ADDRESSES: [&[&str]; 6] =
    [&["10.0.0.1"], &["10.0.0.2"], &["10.0.0.3", "2001:db8::3"], &["2001:db8::4"], &["192.0.2.1"], &[]];
const NODES: [&str; 5] = ["n-1", "N-1", "n.1", "edge-1", "edge.1"];
const ZONES: [&str; 3] = ["rack-1", "Rack-1", "Rack 1"];
const IDS: [&str; 4] = ["t1", "t2", "t3", "t4"];

#[derive(Debug, Clone)]
enum Step {
    Put(usize, Vec<Member>, Vec<usize>, bool),
    Remove(usize),
    Node(usize, usize),
}

#[derive(Debug, Clone)]
struct Member {
    source: u16,
    id: usize,
    addresses: usize,
    node: Option<usize>,
    zone: Option<usize>,
    admission: Admission,
}

fn member() -> impl Strategy<Value = Member> {
    let admission = prop_oneof![
        4 => Just(Admission::In),
        1 => Just(Admission::Out(Outside::Unhealthy)),
        1 => Just(Admission::Out(Outside::NotSelected)),
    ];
    (
        0..2u16,
        0..IDS.len(),
        0..ADDRESSES.len(),
        prop::option::of(0..NODES.len()),
        prop::option::of(0..ZONES.len()),
        admission,
    )
        .prop_map(|(source, id, addresses, node, zone, admission)| Member {
            source,
            id,
            addresses,
            node,
            zone,
            admission,
        })
}

fn ports() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..PORTS.len(), 0..4)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..NAMES.len(), prop::collection::vec(member(), 0..4), ports(), any::<bool>())
            .prop_map(|(name, members, ports, second)| Step::Put(name, members, ports, second)),
        2 => (0..NAMES.len()).prop_map(Step::Remove),
        1 => (0..NODES.len(), 0..ADDRESSES.len()).prop_map(|(node, addresses)| Step::Node(node, addresses)),
    ]
}

fn make(name: usize, members: &[Member], ports: &[usize], second: bool) -> Service {
    let mut maker = service(NAMES[name]).defined_by(0, &[]);
    if second {
        maker = maker.defined_by(1, &[("team", "x")]);
    }
    for port in ports {
        maker = maker.port(PORTS[*port].0, PORTS[*port].1, 80);
    }
    for member in members {
        maker = maker.member(Task {
            source: member.source,
            id: IDS[member.id],
            addresses: ADDRESSES[member.addresses],
            node: member.node.map(|node| NODES[node]),
            zone: member.zone.map(|zone| ZONES[zone]),
            admission: member.admission,
            weight: 1,
        });
    }
    maker.done()
}

fn everything(cluster: &Cluster) -> BTreeMap<String, String> {
    let names = cluster.zones(|zones| {
        let zone = &zones.zones()[0];
        let reverse = zone.reverse_addresses().into_iter().map(portolan_dns::wire::reverse_name);
        let reverse = reverse.map(|name| portolan_dns::wire::name_to_text(&name));
        zone.owner_names().into_iter().chain(reverse).collect::<Vec<_>>()
    });
    let mut all = BTreeMap::new();
    for name in names {
        for rtype in ["A", "AAAA", "SRV", "TXT", "PTR", "SOA"] {
            let packet = query(&name, rtype, Some(1232));
            let reply = cluster
                .reply(&packet, 0)
                .map_or("not ours".to_owned(), |reply| cluster.without_serial(&text(&reply)));
            assert!(!reply.starts_with("NXDOMAIN"), "{name} is listed and does not exist");
            all.insert(format!("{name} {rtype}"), reply);
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn changes_add_up_to_what_is_built_from_scratch(steps in prop::collection::vec(step(), 1..14)) {
        let mut changed = Cluster::new(&config());
        let mut services = BTreeMap::new();
        let mut nodes = BTreeMap::new();
        for step in steps {
            match step {
                Step::Put(name, members, ports, second) => {
                    let service = make(name, &members, &ports, second);
                    services.insert(name, service.clone());
                    changed.put(vec![service]);
                }
                Step::Remove(name) => {
                    services.remove(&name);
                    changed.remove(NAMES[name]);
                }
                Step::Node(node, addresses) => {
                    nodes.insert(NODES[node], ADDRESSES[addresses]);
                    changed.node(NODES[node], ADDRESSES[addresses]);
                }
            }
        }
        let mut scratch = Cluster::new(&config());
        for (name, addresses) in nodes {
            scratch.node(name, addresses);
        }
        scratch.put(services.into_values().rev().collect());
        prop_assert_eq!(everything(&changed), everything(&scratch));
        let problems = |cluster: &Cluster| cluster.zones(|zones| zones.problems().to_vec());
        prop_assert_eq!(problems(&changed), problems(&scratch));
    }

    /// What secondaries are given: no record twice, and the differences of every step lead to what is there then.
    #[test]
    fn differences_lead_from_each_state_to_the_next(steps in prop::collection::vec(step(), 1..14)) {
        const APEX: &[u8] = b"\x03svc\x07cluster\0";
        let mut cluster = Cluster::new(&config());
        let mut have = BTreeSet::from_iter(cluster.zones(|zones| records_of(zones, APEX)));
        for step in steps {
            let before = cluster.zones(Clone::clone);
            match step {
                Step::Put(name, members, ports, second) => {
                    cluster.put(vec![make(name, &members, &ports, second)]);
                }
                Step::Remove(name) => cluster.remove(NAMES[name]),
                Step::Node(node, addresses) => cluster.node(NODES[node], ADDRESSES[addresses]),
            }
            let difference = cluster.zones(|zones| Difference::between(&before, zones, APEX)).unwrap();
            let (removed, added) = difference.records();
            for record in removed {
                prop_assert!(have.remove(record), "{:?} goes and was not there", record);
            }
            for record in added {
                prop_assert!(have.insert(record.clone()), "{:?} comes and was there", record);
            }
            let records = cluster.zones(|zones| records_of(zones, APEX));
            prop_assert_eq!(records.len(), have.len(), "no record twice");
            prop_assert_eq!(BTreeSet::from_iter(records), have.clone());
        }
    }
}

/// A secondary need not be told, and a reader finds the version it had.
#[test]
fn one_more_reason_for_a_name_makes_no_version_of_the_zone() {
    let task = Task {
        source: 0,
        id: "t1",
        addresses: &["10.0.0.1"],
        node: Some("n-1"),
        zone: None,
        admission: Admission::In,
        weight: 1,
    };
    let mut cluster = Cluster::with(vec![service("a").defined_by(0, &[]).member(task).done()]);
    let serial = cluster.zones(|zones| zones.serial());
    let stands = everything(&cluster);
    cluster.node("n-1", &["10.0.0.1"]);
    assert_eq!((cluster.zones(|zones| zones.serial()), everything(&cluster)), (serial, stands));
    cluster.remove("a");
    cluster.expect("n-1.node.svc.cluster A", &["NOERROR aa", "n-1.node.svc.cluster. 5 A 10.0.0.1"]);
    let mut change = ChangeSet::default();
    change.remove_node("n-1".into());
    cluster.publisher.apply(change);
    assert!(cluster.ask("n-1.node.svc.cluster A").starts_with("NXDOMAIN"));
    assert!(cluster.ask("1.0.0.10.in-addr.arpa PTR").starts_with("not ours"));
}
