//! Replies in hickory's terms: made of what [`answer`] wrote or a resolver said, cut to size, composed.
//!
//! [`answer`]: crate::answer::answer

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use hickory_proto::op::{Edns, Message, Metadata, ResponseCode};
use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::NetError;
use hickory_server::server::{Request, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::{MessageResponse, MessageResponseBuilder, Queries};

use crate::wire::Rcode;

/// A reply in hickory's terms.
#[derive(Debug)]
pub(super) struct Parts {
    metadata: Metadata,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
    edns: Option<Edns>,
    /// The question stands in the reply; not in one to what cannot be read.
    pub(super) with_question: bool,
}

impl Parts {
    pub(super) fn empty(request: &Request, rcode: Rcode) -> Self {
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
    pub(super) fn read(packet: &[u8], request: &Request) -> Self {
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
    pub(super) fn forwarded(message: Message, request: &Request, udp_size: u16) -> Self {
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
    pub(super) fn fit(&mut self, request: &Request, size_max: usize) {
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

    pub(super) fn response<'a>(&'a self, queries: &'a Queries) -> Response<'a, 'a> {
        MessageResponseBuilder::new(queries, self.edns.as_ref()).build(
            self.metadata,
            &self.answers,
            &self.authorities,
            &[],
            &self.additionals,
        )
    }
}

pub(super) type Records<'a> = core::slice::Iter<'a, Record>;
pub(super) type Response<'q, 'a> =
    MessageResponse<'q, 'a, Records<'a>, Records<'a>, Records<'a>, Records<'a>>;

/// Where a composed reply is left for the one who asked the handler.
#[derive(Debug, Clone, Default)]
pub(super) struct Composed(Arc<Mutex<Option<Vec<u8>>>>);

impl Composed {
    pub(super) fn into_packet(self) -> Option<Vec<u8>> {
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
