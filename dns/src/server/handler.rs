//! The slow path's view of one query: let in, its signature checked, read by `hickory`, answered by [`answer`], the
//! forwarder or a transfer, composed by `hickory`, signed. Every transport but plain UDP ends here.
//!
//! ```text
//!  packet ─► wire::Request::read ─► Rules::enter ─► tsig::open ─┬► hickory Request ─┬► answer(&Zones)  ours
//!              │ malformed: error_reply │ denied                │                   └► Forwarder       others'
//!              └ no query: nothing      └ REFUSED, nothing      └► Transfers             zones whole
//!                                    packet ◄─ cookie, signature ◄─ hickory MessageResponse ◄─┘
//! ```

use core::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use hickory_proto::op::{Header, HeaderCounts, Metadata};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::serialize::binary::BinDecoder;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::Queries;
use portolan_table::{Table, ViewKey};
use prometheus::IntCounterVec;

use super::Limits;
use super::parts::{Composed, Parts};
use super::reply::{Reply, counted};
use crate::answer::{Outcome, Terms, answer, bare, is_followed};
use crate::forward::{Forwarded, Forwarder, LOOP_OPTION, Question};
use crate::gate::{Entry, Rules, unix_seconds};
use crate::metrics::Tally;
use crate::transfer::{self, Transfers};
use crate::tsig::{self, Keys, Opened, Signer};
use crate::wire::{self, HEADER_LEN, Query, Rcode};
use crate::zone::Zones;

/// Largest message of the stream transports (RFC 1035 §4.2.2).
const STREAM_SIZE_MAX: usize = 65_535;

/// Answers queries from the snapshot and through the forwarder. Clones share everything.
#[derive(Debug, Clone)]
pub(super) struct Handler {
    pub(super) table: Table,
    pub(super) key: ViewKey<Zones>,
    pub(super) forwarder: Arc<Forwarder>,
    pub(super) limits: Arc<ArcSwap<Limits>>,
    pub(super) rules: Arc<ArcSwap<Rules>>,
    pub(super) keys: Arc<ArcSwap<Keys>>,
    pub(super) transfers: Arc<Transfers>,
    /// Signed requests, by outcome.
    pub(super) signatures: IntCounterVec,
    /// Octets of the present reply that cookie and signature will take.
    pub(super) reserve: usize,
}

impl Handler {
    /// The reply to a packet; `None` if it must not be answered: it is no query, and who sent it would perhaps
    /// answer the answer.
    pub(super) async fn reply(&self, packet: &[u8], client: SocketAddr, protocol: Protocol) -> Option<Reply> {
        let mut tally = Tally::default();
        let over_udp = protocol == Protocol::Udp;
        let query = match wire::Request::read(packet) {
            wire::Request::Ignore => return None,
            wire::Request::Malformed(rcode) => return Some(Reply::error(packet, rcode, tally)),
            wire::Request::Question(query) => query,
        };
        // What comes over UDP was counted by the fast loop, and let in.
        if !over_udp {
            tally.query(query.qtype());
        }
        let rules = self.rules.load_full();
        let now = if rules.need_time() { unix_seconds() } else { 0 };
        let mut counts = if over_udp { Tally::default() } else { tally };
        let entry = rules.enter(&query, client.ip(), over_udp, now, &mut counts);
        if !over_udp {
            tally = counts;
        }
        let mut reply = match entry {
            Entry::Drop => return Some(Reply::of(Vec::new(), tally)),
            Entry::Refuse { rcode, .. } => self.bare(&query, rcode, client, tally),
            Entry::Pass { .. } if query.is_signed() => {
                return Some(self.signed(packet, client, protocol, (tally, &entry)).await);
            }
            Entry::Pass { .. } => self.unsigned(packet, client, protocol, (tally, &entry), None).await.0,
        };
        reply.known |= entry.is_known();
        if !reply.is_silence() {
            finish(&entry, &mut reply.packet);
        }
        Some(reply)
    }

    /// The reply to a query whose signature is none of our business any more; with the signer, unless its messages
    /// are signed already.
    async fn unsigned(
        &self,
        packet: &[u8],
        client: SocketAddr,
        protocol: Protocol,
        (mut tally, entry): (Tally, &Entry),
        signer: Option<Signer>,
    ) -> (Reply, Option<Signer>) {
        let over_udp = protocol == Protocol::Udp;
        let reserve = entry.reserve() + signer.as_ref().map_or(0, Signer::reserve);
        let wire::Request::Question(query) = wire::Request::read(packet) else {
            return (Reply::error(packet, Rcode::FormErr, tally), signer);
        };
        let wanted = query.verdict() == Some(Rcode::Refused) && transfer::is_wanted(&query, over_udp);
        // A program that knows of no transfers is followed in that too.
        if wanted && !is_followed(self.table.load().view(self.key), &query) {
            return self.transfer(&query, client, over_udp.then_some(reserve), (tally, signer)).await;
        }
        // Our reader skips what it doesn't need; hickory reads all, and may object to more.
        let Ok(request) = Request::from_bytes(packet.to_vec(), client, protocol) else {
            return (Reply::error(packet, Rcode::FormErr, tally), signer);
        };
        let composed = Composed::default();
        let handler = Self { reserve, ..self.clone() };
        let Some(parts) = handler.parts(&request).await else {
            // No reply must be sent.
            return (Reply::of(Vec::new(), tally), signer);
        };
        let info = send(&parts, &request, composed.clone()).await;
        let Some(composed) = composed.into_packet() else {
            return (Reply::error(packet, Rcode::ServFail, tally), signer);
        };
        tally.reply(counted(info.response_code), info.truncation);
        (Reply::of(composed, tally), signer)
    }

    /// The reply to a signed query: signed too, if the signature is good.
    async fn signed(
        &self,
        packet: &[u8],
        client: SocketAddr,
        protocol: Protocol,
        (mut tally, entry): (Tally, &Entry),
    ) -> Reply {
        let now = u64::from(unix_seconds());
        let opened = tsig::open(packet, &self.keys.load(), now);
        let count = |outcome| self.signatures.with_label_values(&[outcome]).inc();
        match opened {
            Opened::Good(message, signer) => {
                count("good");
                let answered = self.unsigned(&message, client, protocol, (tally, entry), Some(signer)).await;
                let (mut reply, signer) = answered;
                reply.known = true;
                if let Some(mut signer) = signer.filter(|_| !reply.is_silence()) {
                    finish(entry, &mut reply.packet);
                    // The query may have come under another id than it was signed with.
                    reply.packet[..2].copy_from_slice(&packet[..2]);
                    signer.sign(&mut reply.packet, now);
                }
                reply
            }
            Opened::Bad(reply, outcome) => {
                count(outcome);
                tracing::debug!(%client, outcome, "signature refused");
                tally.reply(Rcode::NotAuth, false);
                Reply::of(reply, tally)
            }
            Opened::Malformed | Opened::Unsigned => {
                count("malformed");
                Reply::error(packet, Rcode::FormErr, tally)
            }
        }
    }

    /// The first message of a transfer, and with it those that follow; `datagram` is what else goes into the one
    /// message that there may be.
    async fn transfer(
        &self,
        query: &Query<'_>,
        client: SocketAddr,
        datagram: Option<usize>,
        (mut tally, signer): (Tally, Option<Signer>),
    ) -> (Reply, Option<Signer>) {
        let udp_size_max = self.limits.load().udp_size_max;
        let request = transfer::Request {
            packet: query.packet().to_vec(),
            client: client.ip(),
            signer,
            datagram: datagram.map(|reserve| query.udp_limit(udp_size_max).saturating_sub(reserve)),
        };
        match self.transfers.begin(request).await {
            Ok(mut messages) => match messages.recv().await {
                Some(packet) => {
                    tally.reply(Rcode::NoError, false);
                    (Reply::of(packet, tally).followed_by(messages), None)
                }
                None => (self.bare(query, Rcode::ServFail, client, tally), None),
            },
            Err((rcode, signer)) => (self.bare(query, rcode, client, tally), signer),
        }
    }

    /// A reply without records.
    fn bare(&self, query: &Query<'_>, rcode: Rcode, client: SocketAddr, mut tally: Tally) -> Reply {
        let mut out = vec![0; HEADER_LEN + 255 + 4 + wire::OPT_LEN];
        let terms = Terms {
            size_max: out.len(),
            udp_size: self.limits.load().udp_size_max,
            recursion_available: self.forwarder.access().load().allows(client.ip()),
            stream: true,
            client: Some(client.ip()),
        };
        let written = bare(query, rcode, &terms, &mut out);
        out.truncate(written.len);
        tally.reply(rcode, false);
        Reply::of(out, tally)
    }

    async fn parts(&self, request: &Request) -> Option<Parts> {
        let query = match wire::Request::read(request.as_slice()) {
            wire::Request::Question(query) => query,
            wire::Request::Malformed(rcode) => return Some(Parts::empty(request, rcode)),
            wire::Request::Ignore => return None,
        };
        let udp_size_max = self.limits.load().udp_size_max;
        let size_max = match request.protocol() {
            Protocol::Udp => query.udp_limit(udp_size_max),
            _ => STREAM_SIZE_MAX,
        };
        let terms = Terms {
            size_max: size_max - self.reserve,
            udp_size: udp_size_max,
            recursion_available: self.forwarder.access().load().allows(request.src().ip()),
            stream: request.protocol() != Protocol::Udp,
            client: Some(request.src().ip()),
        };
        let mut parts = match self.own(&query, request, &terms) {
            Own::Answer(parts) => parts,
            Own::Silence => return None,
            Own::No => self.others(&query, request, &terms).await,
        };
        parts.fit(request, terms.size_max);
        Some(parts)
    }

    /// The answer from our zones, in hickory's terms.
    fn own(&self, query: &Query<'_>, request: &Request, terms: &Terms) -> Own {
        let mut out = vec![0; terms.size_max];
        let outcome = {
            let snapshot = self.table.load();
            answer(snapshot.view(self.key), query, terms, fastrand::u32(..), &mut out)
        };
        match outcome {
            Outcome::Reply(written) => Own::Answer(Parts::read(&out[..written.len], request)),
            Outcome::Silence => Own::Silence,
            Outcome::NotOurs => Own::No,
        }
    }

    /// The answer from the resolvers.
    async fn others(&self, query: &Query<'_>, request: &Request, terms: &Terms) -> Parts {
        let refused = |rcode| {
            let mut out = [0; HEADER_LEN + 255 + 4 + wire::OPT_LEN];
            let written = bare(query, rcode, &Terms { size_max: out.len(), ..*terms }, &mut out);
            Parts::read(&out[..written.len], request)
        };
        // Who does not ask for recursion gets none (RFC 1035 §4.1.1), which also ends most loops.
        if !query.recursion_desired() {
            return refused(Rcode::Refused);
        }
        let asked = query.question();
        let dnssec_ok = query.edns().is_some_and(|edns| edns.dnssec_ok);
        let metadata = &request.metadata;
        let name = &asked[..asked.len() - 4];
        let mut question = Question::new(name, query.qtype(), dnssec_ok, metadata.checking_disabled);
        if let Some(EdnsOption::Unknown(_, trail)) =
            request.edns.as_ref().and_then(|edns| edns.option(EdnsCode::from(LOOP_OPTION)))
        {
            question.set_trail(trail);
        }
        match self.forwarder.resolve(&question, request.src().ip()).await {
            Forwarded::Answer(message) => Parts::forwarded(*message, request, terms.udp_size),
            Forwarded::Refused => refused(Rcode::Refused),
            Forwarded::Failed => refused(Rcode::ServFail),
        }
    }
}

/// Puts the client's cookie into a reply.
fn finish(entry: &Entry, packet: &mut Vec<u8>) {
    let len = packet.len();
    packet.resize(len + entry.reserve(), 0);
    let len = entry.finish(packet, len);
    packet.truncate(len);
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        response_handle: R,
    ) -> ResponseInfo {
        match self.parts(request).await {
            Some(parts) => send(&parts, request, response_handle).await,
            None => nothing(request),
        }
    }
}

/// What our zones say.
enum Own {
    Answer(Parts),
    /// Nothing is to be sent.
    Silence,
    /// The name is in none of them.
    No,
}

async fn send(parts: &Parts, request: &Request, mut response_handle: impl ResponseHandler) -> ResponseInfo {
    let none = no_queries();
    let queries = if parts.with_question { &request.queries } else { &none };
    let sent = response_handle.send_response(parts.response(queries)).await;
    sent.unwrap_or_else(|error| {
        tracing::debug!(%error, "reply not sent");
        nothing(request)
    })
}

/// What hickory logs in place of a reply that was not sent.
fn nothing(request: &Request) -> ResponseInfo {
    let metadata = Metadata::response_from_request(&request.metadata);
    Header { metadata, counts: HeaderCounts::default() }.into()
}

fn no_queries() -> Queries {
    Queries::read(&mut BinDecoder::new(&[]), 0).expect("reading no queries reads nothing")
}
