//! The slow path's view of one query: read by `hickory`, answered by [`answer`] or the forwarder, composed by
//! `hickory`. Every transport but plain UDP ends here.
//!
//! ```text
//!  packet ─► wire::Request::read ─► hickory Request ─► Handler ─┬► answer(&Zones)  ours
//!              │ malformed: error_reply                         └► Forwarder       others'
//!              └ no query at all: nothing                    ─► hickory MessageResponse ─► packet
//! ```

use core::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use hickory_proto::op::{Edns, Header, HeaderCounts, Message, Metadata, ResponseCode};
use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::serialize::binary::{BinDecoder, BinEncoder};
use hickory_server::net::NetError;
use hickory_server::net::runtime::{Time, TokioTime};
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::{MessageResponse, MessageResponseBuilder, Queries};
use portolan_table::{Table, ViewKey};

use super::Limits;
use crate::answer::{Outcome, Terms, answer, bare};
use crate::forward::{Forwarded, Forwarder, LOOP_OPTION, Question};
use crate::metrics::Tally;
use crate::wire::{self, HEADER_LEN, Query, Rcode, error_reply};
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
}

/// A reply and what is to be counted of it.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) packet: Vec<u8>,
    tally: Tally,
}

impl Reply {
    /// The query's and the reply's counts.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    fn error(packet: &[u8], rcode: Rcode, mut tally: Tally) -> Self {
        let mut out = vec![0; HEADER_LEN];
        let len = error_reply(packet, rcode, &mut out);
        out.truncate(len);
        tally.reply(rcode, false);
        Self { packet: out, tally }
    }
}

impl Handler {
    /// The reply to a packet; `None` if it must not be answered: it is no query, and who sent it would perhaps
    /// answer the answer.
    pub(super) async fn reply(&self, packet: &[u8], client: SocketAddr, protocol: Protocol) -> Option<Reply> {
        let mut tally = Tally::default();
        match wire::Request::read(packet) {
            wire::Request::Ignore => return None,
            wire::Request::Malformed(rcode) => return Some(Reply::error(packet, rcode, tally)),
            // What comes over UDP was counted by the fast loop.
            wire::Request::Question(query) if protocol != Protocol::Udp => tally.query(query.qtype()),
            wire::Request::Question(_) => {}
        }
        // Our reader skips what it doesn't need; hickory reads all, and may object to more.
        let Ok(request) = Request::from_bytes(packet.to_vec(), client, protocol) else {
            return Some(Reply::error(packet, Rcode::FormErr, tally));
        };
        let composed = Composed::default();
        let info = self.handle_request::<_, TokioTime>(&request, composed.clone()).await;
        let Some(composed) = composed.into_packet() else {
            return Some(Reply::error(packet, Rcode::ServFail, tally));
        };
        tally.reply(counted(info.response_code), info.truncation);
        Some(Reply { packet: composed, tally })
    }

    async fn parts(&self, request: &Request) -> Option<Parts> {
        let query = match wire::Request::read(request.as_slice()) {
            wire::Request::Question(query) => query,
            wire::Request::Malformed(rcode) => return Some(Parts::empty(request, rcode)),
            wire::Request::Ignore => return None,
        };
        let udp_size_max = self.limits.load().udp_size_max;
        let terms = Terms {
            size_max: if request.protocol() == Protocol::Udp {
                query.udp_limit(udp_size_max)
            } else {
                STREAM_SIZE_MAX
            },
            udp_size: udp_size_max,
            recursion_available: self.forwarder.access().load().allows(request.src().ip()),
        };
        let mut parts = match self.own(&query, request, &terms) {
            Some(parts) => parts,
            None => self.others(&query, request, &terms).await,
        };
        parts.fit(request, terms.size_max);
        Some(parts)
    }

    /// The answer from our zones, in hickory's terms; `None` if the name is in none of them.
    fn own(&self, query: &Query<'_>, request: &Request, terms: &Terms) -> Option<Parts> {
        let mut out = vec![0; terms.size_max];
        let outcome = {
            let snapshot = self.table.load();
            answer(snapshot.view(self.key), query, terms, fastrand::u32(..), &mut out)
        };
        match outcome {
            Outcome::Reply(written) => Some(Parts::read(&out[..written.len], request)),
            Outcome::NotOurs => None,
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

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let Some(parts) = self.parts(request).await else { return nothing(request) };
        let none = no_queries();
        let queries = if parts.with_question { &request.queries } else { &none };
        let sent = response_handle.send_response(parts.response(queries)).await;
        sent.unwrap_or_else(|error| {
            tracing::debug!(%error, "reply not sent");
            nothing(request)
        })
    }
}

/// What hickory logs in place of a reply that was not sent.
fn nothing(request: &Request) -> ResponseInfo {
    let metadata = Metadata::response_from_request(&request.metadata);
    Header { metadata, counts: HeaderCounts::default() }.into()
}

fn no_queries() -> Queries {
    Queries::read(&mut BinDecoder::new(&[]), 0).expect("reading no queries reads nothing")
}

/// The response code as the metrics know it.
fn counted(code: ResponseCode) -> Rcode {
    let number = u16::from(code);
    Rcode::ALL.into_iter().find(|rcode| *rcode as u16 == number).unwrap_or(Rcode::ServFail)
}

/// A reply in hickory's terms.
#[derive(Debug)]
struct Parts {
    metadata: Metadata,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
    edns: Option<Edns>,
    /// The question stands in the reply; not in one to what cannot be read.
    with_question: bool,
}

impl Parts {
    fn empty(request: &Request, rcode: Rcode) -> Self {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let code = rcode as u16;
        metadata.response_code = ResponseCode::from((code >> 4) as u8, (code & 15) as u8);
        Self {
            metadata,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            edns: None,
            with_question: false,
        }
    }

    /// What [`answer`] or [`bare`] wrote.
    fn read(packet: &[u8], request: &Request) -> Self {
        match Message::from_vec(packet) {
            Ok(message) => Self {
                metadata: message.metadata,
                answers: message.answers,
                authorities: message.authorities,
                additionals: message.additionals,
                edns: message.edns,
                with_question: true,
            },
            Err(error) => {
                tracing::error!(%error, "an answer of our own cannot be read");
                Self::empty(request, Rcode::ServFail)
            }
        }
    }

    /// What the resolvers said, with our flags and our EDNS.
    fn forwarded(message: Message, request: &Request, udp_size: u16) -> Self {
        let dnssec_ok = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = true;
        metadata.response_code = message.metadata.response_code;
        // RFC 6840 §5.8: AD only for who can understand it.
        metadata.authentic_data =
            message.metadata.authentic_data && (dnssec_ok || request.metadata.authentic_data);
        let edns = request.edns.as_ref().map(|_| {
            let mut edns = Edns::new();
            edns.set_max_payload(udp_size).set_dnssec_ok(dnssec_ok);
            edns
        });
        Self {
            metadata,
            answers: message.answers,
            authorities: message.authorities,
            additionals: message.additionals,
            edns,
            with_question: true,
        }
    }

    /// Makes the reply fit: without additional records (RFC 2181 §9 wants no TC for those), else without any and
    /// with TC. Left to itself, hickory would cut the OPT record off first.
    fn fit(&mut self, request: &Request, size_max: usize) {
        if self.fits(request, size_max) {
            return;
        }
        self.additionals.clear();
        if self.fits(request, size_max) {
            return;
        }
        self.answers.clear();
        self.authorities.clear();
        self.metadata.truncation = true;
    }

    fn fits(&self, request: &Request, size_max: usize) -> bool {
        let mut packet = Vec::with_capacity(size_max);
        let written = self.response(&request.queries).destructive_emit(&mut BinEncoder::new(&mut packet));
        written.is_ok() && packet.len() <= size_max
    }

    fn response<'a>(&'a self, queries: &'a Queries) -> Response<'a, 'a> {
        MessageResponseBuilder::new(queries, self.edns.as_ref()).build(
            self.metadata,
            &self.answers,
            &self.authorities,
            &[],
            &self.additionals,
        )
    }
}

type Records<'a> = core::slice::Iter<'a, Record>;
type Response<'q, 'a> = MessageResponse<'q, 'a, Records<'a>, Records<'a>, Records<'a>, Records<'a>>;

/// Where a composed reply is left for the one who asked the handler.
#[derive(Debug, Clone, Default)]
struct Composed(Arc<Mutex<Option<Vec<u8>>>>);

impl Composed {
    fn into_packet(self) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl ResponseHandler for Composed {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut packet = Vec::with_capacity(512);
        let info = response.destructive_emit(&mut BinEncoder::new(&mut packet))?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(packet);
        Ok(info)
    }
}
