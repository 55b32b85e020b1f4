//! Packets that are not what they should be, and the reader's side of every packet.

use hickory_proto::op::Message;
use portolan_dns::answer::{Outcome, Terms, answer};
use portolan_dns::wire::{Rcode, Request, error_reply, name_to_text, text_to_name};
use proptest::prelude::*;

use crate::cluster::{Cluster, query, web};
use crate::guard;

const HEADER: [u8; 12] = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];

fn packet(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut packet = [&HEADER[..], b"\x03web\x03svc\x07cluster\0\0\x01\0\x01"].concat();
    change(&mut packet);
    packet
}

#[test]
fn malformed_packets_get_their_verdict() {
    let formerr = Some(Rcode::FormErr);
    let cases: Vec<(&str, Vec<u8>, Option<Rcode>)> = vec![
        ("nothing", vec![], None),
        ("half a header", HEADER[..11].to_vec(), None),
        ("a reply", packet(|p| p[2] |= 0x80), None),
        ("a header alone", HEADER.to_vec(), formerr),
        ("opcode STATUS", packet(|p| p[2] = 2 << 3), Some(Rcode::NotImp)),
        ("opcode NOTIFY", packet(|p| p[2] = 4 << 3), Some(Rcode::NotImp)),
        ("opcode UPDATE", packet(|p| p[2] = 5 << 3), Some(Rcode::NotImp)),
        ("no question", packet(|p| p[5] = 0), formerr),
        ("two questions announced", packet(|p| p[5] = 2), formerr),
        ("an answer announced", packet(|p| p[7] = 1), formerr),
        ("an authority announced", packet(|p| p[9] = 1), formerr),
        ("an additional record announced, none there", packet(|p| p[11] = 1), formerr),
        ("octets behind the end", packet(|p| p.push(0)), formerr),
        ("the name runs out", packet(|p| p.truncate(20)), formerr),
        ("the type is cut", packet(|p| p.truncate(p.len() - 3)), formerr),
        ("a label of 64", packet(|p| p[12] = 64), formerr),
        ("a pointer to itself", packet(|p| p.splice(12..14, [0xc0, 12]).for_each(drop)), formerr),
        ("a pointer into the header", packet(|p| p.splice(12..14, [0xc0, 0]).for_each(drop)), formerr),
        ("an extended label", packet(|p| p[12] = 0x41), formerr),
        ("type OPT as question", packet(|p| *p.iter_mut().rev().nth(2).unwrap() = 41), formerr),
        (
            "a record whose data is cut",
            packet(|p| {
                p[11] = 1;
                p.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 9, 1]);
            }),
            formerr,
        ),
        (
            "a record whose name is cut",
            packet(|p| {
                p[11] = 1;
                p.extend([5, b'a']);
            }),
            formerr,
        ),
        (
            "a name of 256",
            [&HEADER[..], &[1, b'a'].repeat(127)[..], &[1, 0, 0, 0, 1, 0, 1]].concat(),
            formerr,
        ),
    ];
    for (what, packet, verdict) in cases {
        let got = match Request::read(&packet) {
            Request::Malformed(rcode) => Some(rcode),
            Request::Ignore => None,
            Request::Question(query) => panic!("{what}: taken for {:?}", query.name()),
        };
        assert_eq!(got, verdict, "{what}");
        if let Some(rcode) = verdict {
            let mut out = [0; 64];
            assert_eq!(error_reply(&packet, rcode, &mut out), 12, "{what}");
            let reply = Message::from_vec(&out[..12]).unwrap();
            assert_eq!((reply.metadata.id, u16::from(reply.metadata.response_code)), (0x1234, rcode as u16));
        }
    }
}

#[test]
fn a_name_of_255_octets_is_read() {
    let name = [1, b'a'].repeat(127);
    let packet = [&HEADER[..], &name, &[0, 0, 1, 0, 1]].concat();
    let Request::Question(query) = Request::read(&packet) else { panic!("a query") };
    assert_eq!((query.name().octets().len(), query.name().labels()), (255, 127));
}

thread_local! {
    static CLUSTER: Cluster = Cluster::with(vec![web()]);
}

/// What every packet must survive: reading, and an answer that another library can read.
fn survive(packet: &[u8]) {
    guard::survive(packet);
    CLUSTER.with(|cluster| survive_in(cluster, packet));
}

fn survive_in(cluster: &Cluster, packet: &[u8]) {
    let mut out = [0; 1232];
    let len = match Request::read(packet) {
        Request::Ignore => return,
        Request::Malformed(rcode) => error_reply(packet, rcode, &mut out),
        Request::Question(query) => {
            let terms = Terms::udp(query.udp_limit(1232), 1232);
            let outcome = cluster.zones(|zones| answer(zones, &query, &terms, 1, &mut out));
            let Outcome::Reply(written) = outcome else { return };
            assert!(written.len <= terms.size_max);
            written.len
        }
    };
    let reply = Message::from_vec(&out[..len]).expect("every reply can be read");
    assert_eq!(reply.metadata.id.to_be_bytes(), packet[..2]);
}

#[test]
fn the_corpus_of_the_fuzzer_is_survived() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/query");
    let mut seen = 0;
    for file in std::fs::read_dir(corpus).unwrap() {
        survive(&std::fs::read(file.unwrap().path()).unwrap());
        seen += 1;
    }
    assert!(seen >= 10, "{seen} files in {corpus}");
}

#[test]
fn the_guards_survive_the_corpora_of_the_fuzzer() {
    for (name, least) in [("query", 10), ("guard", 8)] {
        let corpus = format!("{}/fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
        let files = std::fs::read_dir(&corpus).unwrap().map(|file| file.unwrap().path());
        let seen = files.map(|file| guard::survive(&std::fs::read(file).unwrap())).count();
        assert!(seen >= least, "{seen} files in {corpus}");
    }
}

fn label() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 1..=63),
        prop::sample::select(vec![
            &b"web"[..],
            b"WEB",
            b"inst",
            b"_tcp",
            b"_http",
            b"svc",
            b"cluster",
            b"src"
        ])
        .prop_map(<[u8]>::to_vec),
    ]
}

fn wire_name() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(label(), 0..6).prop_filter_map("at most 255 octets", |labels| {
        let mut name: Vec<u8> =
            labels.iter().flat_map(|label| [vec![label.len() as u8], label.clone()].concat()).collect();
        name.push(0);
        (name.len() <= 255).then_some(name)
    })
}

proptest! {
    #[test]
    fn any_octets_are_survived(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        survive(&octets);
    }

    #[test]
    fn broken_queries_are_survived(
        at in 0usize..60,
        with in any::<u8>(),
        cut in 0usize..70,
        name in prop::sample::select(vec!["web.shop.prod.svc.cluster", "_http._tcp.web.shop.prod.svc.cluster"]),
    ) {
        let mut packet = query(name, "SRV", Some(1232));
        let at = at % packet.len();
        packet[at] = with;
        packet.truncate(packet.len().max(cut + 12).min(packet.len()));
        survive(&packet);
        packet.truncate(cut);
        survive(&packet);
    }

    #[test]
    fn a_query_is_read_as_it_was_written(name in wire_name(), qtype in any::<u16>(), id in any::<u16>(), size in any::<u16>()) {
        prop_assume!(qtype != 41);
        let mut packet = HEADER.to_vec();
        packet[..2].copy_from_slice(&id.to_be_bytes());
        packet[11] = 1;
        packet.extend(&name);
        packet.extend(qtype.to_be_bytes());
        packet.extend([0, 1, 0, 0, 41]);
        packet.extend(size.to_be_bytes());
        packet.extend([0; 6]);
        let Request::Question(query) = Request::read(&packet) else { panic!("a query") };
        prop_assert_eq!((query.id(), query.qtype()), (id, qtype));
        prop_assert_eq!(query.name().octets(), name.to_ascii_lowercase());
        prop_assert_eq!(query.question(), &packet[12..12 + name.len() + 4]);
        prop_assert_eq!(query.edns().unwrap().udp_size, size.max(512));
        let labels: Vec<&[u8]> = (0..query.name().labels()).map(|index| query.name().label(index)).collect();
        let rebuilt: Vec<u8> = labels.iter().flat_map(|l| [&[l.len() as u8], *l].concat()).chain([0]).collect();
        prop_assert_eq!(rebuilt, query.name().octets());
    }

    #[test]
    fn a_name_survives_the_way_through_text(name in wire_name()) {
        prop_assert_eq!(text_to_name(&name_to_text(&name)), Some(name));
    }

    #[test]
    fn an_address_survives_the_way_through_its_reverse_name(address in any::<std::net::IpAddr>()) {
        let name = portolan_dns::wire::reverse_name(address);
        prop_assert_eq!(portolan_dns::wire::address_of(&name), Some(address));
    }
}
