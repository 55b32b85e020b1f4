//! Where the messages of a transfer leave: filled, signed, handed to the connection.

use core::ops::ControlFlow;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::journal::Difference;
use super::message::Message;
use super::records::{Lookup, Record};
use crate::tsig::Signer;
use crate::wire::Query;
use crate::zone::Zones;

/// Messages are filled up to this; what is larger gains nothing and delays whoever shares the connection.
const MESSAGE_LEN: usize = 32 << 10;
/// A message that one record fills may be longer (RFC 1035 §4.2.2).
const MESSAGE_LEN_MAX: usize = 65_535;

/// Nobody takes the messages any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// Makes the messages of one reply. Blocks while the connection has enough of them.
pub(super) struct Outlet {
    sink: mpsc::Sender<Vec<u8>>,
    signer: Option<Signer>,
    /// Over UDP: the most that one message may have, the signature not counted.
    datagram: Option<usize>,
    octets: u64,
}

impl Outlet {
    pub(super) fn new(sink: mpsc::Sender<Vec<u8>>, signer: Option<Signer>, datagram: Option<usize>) -> Self {
        Self { sink, signer, datagram, octets: 0 }
    }

    /// Octets sent.
    pub(super) fn octets(&self) -> u64 {
        self.octets
    }

    /// The client has what there is (RFC 1995 §2).
    pub(super) fn current(&mut self, query: &Query<'_>, soa: &Record) -> Result<(), Broken> {
        let mut message = Message::new(query);
        message.push(soa, MESSAGE_LEN);
        self.send(message.take())
    }

    /// Each difference between its SOA records (RFC 1995 §4). Over UDP the new SOA alone if they don't fit (§2).
    pub(super) fn differences(
        &mut self,
        query: &Query<'_>,
        soa: &Record,
        differences: &[Arc<Difference>],
    ) -> Result<(), Broken> {
        let steps = differences.iter().flat_map(|step| {
            let removed = core::iter::once(&step.from).chain(&step.removed);
            removed.chain(core::iter::once(&step.to)).chain(&step.added)
        });
        let mut records = core::iter::once(soa).chain(steps).chain(core::iter::once(soa));
        let mut message = Message::new(query);
        if let Some(limit) = self.datagram {
            return match records.all(|record| message.push(record, limit)) {
                true => self.send(message.take()),
                false => self.current(query, soa),
            };
        }
        for record in records {
            self.put(&mut message, record)?;
        }
        self.send(message.take())
    }

    /// The zone between its SOA record and its SOA record (RFC 5936 §2.2). Over UDP there is no more than the first.
    pub(super) fn whole(&mut self, query: &Query<'_>, soa: &Record, zones: &Zones) -> Result<(), Broken> {
        let apex = query.name().octets();
        let Some(zone) = zones.zones().iter().find(|zone| zone.apex() == apex && self.datagram.is_none())
        else {
            return self.current(query, soa);
        };
        let (mut message, mut lookup) = (Message::new(query), Lookup::new(zones));
        self.put(&mut message, soa)?;
        let mut outcome = Ok(());
        let mut owner = |name: &[u8]| {
            lookup.records(name, &mut |record| {
                if outcome.is_ok() {
                    outcome = self.put(&mut message, &record);
                }
            });
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        if owner(apex).is_continue() {
            zone.each_owner(owner);
        }
        outcome?;
        self.put(&mut message, soa)?;
        self.send(message.take())
    }

    fn put(&mut self, message: &mut Message, record: &Record) -> Result<(), Broken> {
        if message.push(record, MESSAGE_LEN) {
            return Ok(());
        }
        if !message.is_empty() {
            self.send(message.take())?;
        }
        if !message.push(record, MESSAGE_LEN_MAX - self.reserve()) {
            let name = crate::wire::name_to_text(&record.owner);
            tracing::error!(name, rtype = record.rtype, "record too large for any message; left out");
        }
        Ok(())
    }

    fn reserve(&self) -> usize {
        self.signer.as_ref().map_or(0, Signer::reserve)
    }

    fn send(&mut self, mut packet: Vec<u8>) -> Result<(), Broken> {
        if let Some(signer) = &mut self.signer {
            signer.sign(&mut packet, super::follow::unix_seconds());
        }
        self.octets += packet.len() as u64;
        self.sink.blocking_send(packet).map_err(|_| Broken)
    }
}
