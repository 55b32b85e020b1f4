//! One stream: a request whose client speaks HTTP/2 and whose endpoint speaks HTTP/1.1.
//!
//! ```text
//!  fields ─► head (HTTP/1.1) ─► judge ─► plan ─► endpoint ─► head of the response ─► fields
//!  DATA, trailers ─► Upload ───────────────────► endpoint ─► Reply ─► DATA, trailers
//! ```
//! The upload goes on while the reply is polled, so both directions stream.

use core::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper::body::{Body as _, Incoming};

use super::head;
use super::obtain::Upstream;
use super::open::{Ending, OpenStream, Waits};
use super::reply::{Relay, Reply};
use super::upload::Upload;
use crate::l7::buffer::Buffer;
use crate::l7::head::{HeadEnd, slots};
use crate::l7::origin::{Origin, Outcome, Plan};
use crate::l7::refusal::{self, Refusal};
use crate::l7::request::{RequestFacts, Verdict, judge};
use crate::l7::response::{self, Downstream, ResponseFacts};
use crate::upstream::Attempts;

/// Carries the request of one stream out.
pub(super) async fn serve(open: Rc<OpenStream>, request: hyper::Request<Incoming>) -> Response<Reply> {
    let (parts, content) = request.into_parts();
    let stock = &open.origin.worker.stock;
    let mut text = stock.take_head();
    let kind = head::write_down(&parts, !content.is_end_stream(), &mut text);
    let planned = plan(&open.origin, &text);
    stock.put_head(text);
    let plan = match planned {
        Ok(plan) => plan,
        Err(refusal) => return turn_down(&open, &refusal),
    };
    let most = open.origin.worker.config().limits.request_body_max;
    let mut exchange = Exchange {
        open,
        facts: plan.facts,
        upload: Upload::new(content, kind, plan.out, &plan.facts, most),
        reply: Buffer::default(),
        started: plan.started,
        attempts: plan.attempts,
        endpoint: None,
        status: 0,
        octets: 0,
        refusal: None,
    };
    match exchange.obtain().await {
        Ok((upstream, response)) => exchange.respond(upstream, &response),
        Err(refusal) => exchange.refuse(&refusal),
    }
}

fn plan(origin: &Origin, text: &[u8]) -> Result<Plan, Refusal> {
    let config = origin.worker.config();
    let mut slots = slots();
    match judge(text, &mut HeadEnd::default(), &config.limits, &mut slots)? {
        // A host there is: the head is one of HTTP/1.1.
        Verdict::Complete(request) => Ok(origin.plan(&request, None)),
        Verdict::Incomplete => Err(Refusal::bad(400, "malformed request")),
    }
}

/// Answers a request that is none.
fn turn_down(open: &OpenStream, refusal: &Refusal) -> Response<Reply> {
    let outcome = Outcome { status: refusal.status, refusal: Some(refusal.text), ..Outcome::default() };
    open.origin.ended(&outcome);
    answer(open, refusal, false)
}

/// An answer of ours.
fn answer(open: &OpenStream, refusal: &Refusal, is_head: bool) -> Response<Reply> {
    open.origin.worker.cells.answered(refusal);
    open.enter(Waits::Client);
    let text = (!is_head).then(|| Bytes::from(format!("{}\n", refusal.text)));
    let mut response = Response::new(Reply::Text(text));
    *response.status_mut() =
        http::StatusCode::from_u16(refusal.status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

/// A request and its response. Counted and logged when dropped, however it ended.
pub(super) struct Exchange {
    pub(super) open: Rc<OpenStream>,
    pub(super) facts: RequestFacts,
    pub(super) upload: Upload,
    pub(super) reply: Buffer,
    pub(super) started: Instant,
    pub(super) attempts: Result<Attempts, Refusal>,
    pub(super) endpoint: Option<SocketAddr>,
    /// What the client gets, unless it gives up before.
    status: u16,
    /// Octets of content sent to the client.
    pub(super) octets: u64,
    refusal: Option<&'static str>,
}

impl Exchange {
    /// Answers in the place of an endpoint.
    fn refuse(mut self, refusal: &Refusal) -> Response<Reply> {
        self.status = refusal.status;
        self.refusal = Some(refusal.text);
        self.open.end(Ending::Whole);
        answer(&self.open, refusal, self.facts.is_head)
    }

    fn respond(mut self, upstream: Upstream, facts: &ResponseFacts) -> Response<Reply> {
        let now = Instant::now();
        let Some(fields) = self.read_fields(facts) else {
            upstream.picked.failed(now);
            return self.refuse(&refusal::UPSTREAM_MALFORMED);
        };
        match facts.status {
            502..=504 => upstream.picked.failed(now),
            _ => upstream.picked.answered(now),
        }
        self.status = facts.status;
        self.reply.consume(facts.head_length);
        let relay = Relay::new(self, upstream, facts, now);
        let mut response = Response::new(Reply::Relay(Box::new(relay)));
        *response.status_mut() =
            http::StatusCode::from_u16(facts.status).unwrap_or(http::StatusCode::BAD_GATEWAY);
        *response.headers_mut() = fields;
        response
    }

    fn read_fields(&self, facts: &ResponseFacts) -> Option<HeaderMap> {
        let as_it_came = &self.reply.filled()[..facts.head_length];
        let stock = &self.open.origin.worker.stock;
        let mut rewritten = stock.take_head();
        let downstream = Downstream { is_http10: false, keep_alive: true };
        let fields = if response::rewrite(as_it_came, facts, downstream, &mut rewritten) {
            head::read_response(&rewritten)
        } else {
            head::read_response(as_it_came)
        };
        stock.put_head(rewritten);
        fields
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let status = if self.open.ending() == Ending::GivenUp { 499 } else { self.status };
        let origin = &self.open.origin;
        origin.ended(&Outcome {
            head: &self.upload.head,
            status,
            took: self.started.elapsed(),
            octets: self.octets,
            attempts: self.attempts.as_ref().ok(),
            endpoint: self.endpoint,
            refusal: self.refusal,
        });
        self.reply.discard(&origin.worker.stock);
        origin.worker.stock.put_head(core::mem::take(&mut self.upload.head));
    }
}
