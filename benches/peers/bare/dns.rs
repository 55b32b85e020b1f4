//! A DNS responder: batches both ways, one look-up in a table of finished answers.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};

use crate::load::dns::wire;

/// Packets in a batch.
const BATCH: usize = 32;
/// The EDNS record of every answer: 1232 octets, no options.
const OPT: [u8; 11] = [0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0];

/// What stands behind the question, and the counts of its sections.
struct Answer {
    answers: u8,
    additional: u8,
    body: Box<[u8]>,
}

/// By lower-cased name in wire form with the type behind it.
type Table = HashMap<Box<[u8]>, Answer, foldhash::fast::FixedState>;

/// Serves the zone file at `path` (names, A and SRV records in the order of the benches' own generator).
pub(super) fn run(port: u16, path: &str) -> io::Result<()> {
    let responder = Responder { table: table(&std::fs::read_to_string(path)?), negative: negative() };
    let socket = UdpSocket::bind(("127.0.0.1", port))?;
    let (mut receive, mut send) =
        (MultiHeaders::<SockaddrIn>::preallocate(BATCH, None), MultiHeaders::preallocate(BATCH, None));
    let (mut input, mut output) = (Box::new([[0; 1280]; BATCH]), Box::new([[0; 2048]; BATCH]));
    loop {
        let mut packets = [(0, None); BATCH];
        let mut count = 0;
        {
            let mut slices = input.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
            let flags = MsgFlags::MSG_WAITFORONE;
            let received = recvmmsg(socket.as_raw_fd(), &mut receive, &mut slices, flags, None)?;
            for message in received {
                packets[count] = (message.bytes, message.address);
                count += 1;
            }
        }
        let (mut ends, mut clients, mut waiting) = ([0; BATCH], [None; BATCH], 0);
        for (query, (len, client)) in input.iter().zip(packets).take(count) {
            let written = responder.answer(&query[..len], &mut output[waiting]).unwrap_or(0);
            if written > 0 {
                (ends[waiting], clients[waiting]) = (written, client);
                waiting += 1;
            }
        }
        let mut slices = [[IoSlice::new(&[])]; BATCH];
        for (slice, (buffer, end)) in slices.iter_mut().zip(output.iter().zip(ends)) {
            *slice = [IoSlice::new(&buffer[..end])];
        }
        let mut from = 0;
        while from < waiting {
            let range = from..waiting;
            let flags = MsgFlags::empty();
            let sent =
                sendmmsg(socket.as_raw_fd(), &mut send, &slices[range.clone()], &clients[range], [], flags)?;
            from += sent.count().max(1);
        }
    }
}

struct Responder {
    table: Table,
    negative: Vec<u8>,
}

impl Responder {
    /// Writes the answer; nothing for what is no plain query.
    fn answer(&self, query: &[u8], out: &mut [u8]) -> Option<usize> {
        if query.len() < 17 || query[2] & 0x80 != 0 || query[4..6] != [0, 1] {
            return None;
        }
        let mut key = [0; 258];
        let mut at = 12;
        loop {
            let len = usize::from(query[at]);
            if len > 63 || at + len + 5 > query.len() || at + len > 255 {
                return None;
            }
            let label = at..=at + len;
            key[at - 12..=at - 12 + len].copy_from_slice(&query[label]);
            at += len + 1;
            if len == 0 {
                break;
            }
        }
        let end = at + 4;
        key[..at - 12].make_ascii_lowercase();
        key[at - 12..at - 10].copy_from_slice(&query[at..at + 2]);
        out[..end].copy_from_slice(&query[..end]);
        out[2] = 0x84 | query[2] & 1;
        let (counts, rcode, body): (_, _, &[u8]) = match self.table.get(&key[..at - 10]) {
            Some(answer) => ([answer.answers, 0, answer.additional], 0, &answer.body),
            None => ([0, 1, 0], 3, &self.negative),
        };
        out[3] = rcode;
        out[6..12].copy_from_slice(&[0, counts[0], 0, counts[1], 0, counts[2] + 1]);
        out[end..end + body.len()].copy_from_slice(body);
        let end = end + body.len();
        out[end..end + OPT.len()].copy_from_slice(&OPT);
        Some(end + OPT.len())
    }
}

/// Reads `NAME IN A ADDRESS` and `NAME IN SRV 0 1 PORT TARGET` lines below `svc.cluster`.
fn table(zone: &str) -> Table {
    let mut addresses: HashMap<&str, Vec<Ipv4Addr>> = HashMap::new();
    let mut targets: HashMap<&str, Vec<&str>> = HashMap::new();
    for line in zone.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            [name, "IN", "A", address] => {
                addresses.entry(name).or_default().extend(address.parse::<Ipv4Addr>());
            }
            [name, "IN", "SRV", .., target] => targets.entry(name).or_default().push(target),
            _ => {}
        }
    }
    let mut table = Table::default();
    for (name, addresses) in &addresses {
        let mut body = Vec::new();
        addresses.iter().for_each(|address| a(&mut body, 12, *address));
        insert(
            &mut table,
            name,
            1,
            Answer { answers: addresses.len() as u8, additional: 0, body: body.into() },
        );
    }
    for (name, targets) in &targets {
        let count = targets.len() as u8;
        let body = srv(12 + wire(&full(name)).len() + 4, targets, &addresses);
        insert(&mut table, name, 33, Answer { answers: count, additional: count, body: body.into() });
    }
    table
}

fn full(name: &str) -> String {
    format!("{name}.svc.cluster")
}

fn insert(table: &mut Table, name: &str, kind: u8, answer: Answer) {
    let mut key = wire(&full(name));
    key.extend([0, kind]);
    table.insert(key.into(), answer);
}

fn a(body: &mut Vec<u8>, owner: usize, address: Ipv4Addr) {
    body.extend((0xc000 | owner as u16).to_be_bytes());
    body.extend([0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
    body.extend(address.octets());
}

/// The SRV records of a name, then the addresses of their targets; `begin` is where they will stand.
fn srv(begin: usize, targets: &[&str], addresses: &HashMap<&str, Vec<Ipv4Addr>>) -> Vec<u8> {
    let (mut body, mut owners) = (Vec::new(), Vec::new());
    for target in targets {
        let name = wire(&full(target));
        body.extend([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 5]);
        body.extend((6 + name.len() as u16).to_be_bytes());
        body.extend([0, 0, 0, 1, 0x1f, 0x90]);
        owners.push(begin + body.len());
        body.extend(name);
    }
    for (target, owner) in targets.iter().zip(owners) {
        addresses[target].iter().for_each(|address| a(&mut body, owner, *address));
    }
    body
}

/// The SOA record of answers that say no.
fn negative() -> Vec<u8> {
    let mut record = wire("svc.cluster");
    record.extend([0, 6, 0, 1, 0, 0, 0, 5]);
    let mut data = [wire("ns.svc.cluster"), wire("root.svc.cluster")].concat();
    for number in [1_u32, 60, 60, 600, 5] {
        data.extend(number.to_be_bytes());
    }
    record.extend((data.len() as u16).to_be_bytes());
    record.extend(data);
    record
}
