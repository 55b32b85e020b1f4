//! A reply of the slow path on its way out, and what is counted of it.

use core::net::IpAddr;

use hickory_proto::op::ResponseCode;

use crate::answer::Terms;
use crate::gate::{Entry, Gate};
use crate::metrics::Tally;
use crate::transfer::Messages;
use crate::wire::{self, HEADER_LEN, Query, Rcode, error_reply};

/// A reply and what is to be counted of it.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) packet: Vec<u8>,
    /// What follows it: the further messages of a transfer.
    pub(super) rest: Option<Messages>,
    tally: Tally,
    /// Proven to come from where it says: signed, or with a cookie.
    pub(super) known: bool,
}

impl Reply {
    /// The query's and the reply's counts.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    pub(super) fn error(packet: &[u8], rcode: Rcode, mut tally: Tally) -> Self {
        let mut out = vec![0; HEADER_LEN];
        let len = error_reply(packet, rcode, &mut out);
        out.truncate(len);
        tally.reply(rcode, false);
        Self::of(out, tally)
    }

    pub(super) fn of(packet: Vec<u8>, tally: Tally) -> Self {
        Self { packet, rest: None, tally, known: false }
    }

    /// With the messages that follow.
    pub(super) fn followed_by(self, rest: Messages) -> Self {
        Self { rest: Some(rest), ..self }
    }

    /// True for a query that is not answered, by policy.
    pub(super) fn is_silence(&self) -> bool {
        self.packet.is_empty()
    }

    /// Lets a reply over UDP out as [`Gate::limit`] says; false if it is to be dropped.
    pub(super) fn limit(
        &mut self,
        gate: &mut Gate,
        query: &Query<'_>,
        client: IpAddr,
        udp_size: u16,
    ) -> bool {
        if self.known || self.is_silence() {
            return !self.is_silence();
        }
        let rcode = counted(ResponseCode::from(0, self.packet.get(3).map_or(0, |codes| codes & 15)));
        let terms = Terms::udp(usize::from(udp_size), udp_size);
        let room = self.packet.len().max(HEADER_LEN + 255 + 4 + wire::OPT_LEN);
        let len = self.packet.len();
        self.packet.resize(room, 0);
        let entry = Entry::Pass { cookie: None, known: false };
        let outcome = (&mut self.packet[..], &mut self.tally);
        let len = gate.limit((rcode, len), client, Some(query), (&terms, &entry), outcome);
        self.packet.truncate(len);
        len > 0
    }
}

/// The response code as the metrics know it.
pub(super) fn counted(code: ResponseCode) -> Rcode {
    let number = u16::from(code);
    Rcode::ALL.into_iter().find(|rcode| *rcode as u16 == number).unwrap_or(Rcode::ServFail)
}
