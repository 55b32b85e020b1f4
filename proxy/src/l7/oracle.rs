//! What must hold of the decoders whatever comes in; for fuzzing, and for the tests that replay its corpora.

use core::net::{IpAddr, Ipv4Addr};

use super::chunked::ChunkScanner;
use super::head::{HeadEnd, slots};
use super::refusal::Refusal;
use super::request::{self, ClientFacts, Framing, RequestFacts, Verdict};
use super::response::{self, Downstream, ResponseFacts};
use crate::config::Limits;

/// Judges `octets` as they come in pieces of `step`.
fn judge_request(octets: &[u8], step: usize, limits: &Limits) -> Option<Result<RequestFacts, Refusal>> {
    let (mut end, mut upto) = (HeadEnd::default(), 0);
    while upto < octets.len() {
        upto = (upto + step).min(octets.len());
        match request::judge(&octets[..upto], &mut end, limits, &mut slots()) {
            Ok(Verdict::Incomplete) => {}
            Ok(Verdict::Complete(request)) => return Some(Ok(request.facts)),
            Err(refusal) => return Some(Err(refusal)),
        }
    }
    None
}

pub(crate) fn request_head(octets: &[u8], limits: &Limits) {
    let whole = judge_request(octets, octets.len().max(1), limits);
    let pieces = judge_request(octets, 1, limits);
    // A refusal may come earlier, and with another text, when the octets come one by one; not a request.
    assert_eq!(
        whole.and_then(Result::ok),
        pieces.and_then(Result::ok),
        "what is let through does not depend on how it was cut"
    );
    let mut slots = slots();
    let Ok(Verdict::Complete(request)) = request::judge(octets, &mut HeadEnd::default(), limits, &mut slots)
    else {
        return;
    };
    for (is_trusted, writes_forwarded) in [(false, false), (true, true)] {
        let client =
            ClientFacts::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 80, false, is_trusted, writes_forwarded);
        let mut out = Vec::new();
        request.rewrite(&client, None, &mut out);
        let wide = Limits { request_head_max: usize::MAX, request_headers_max: 256, ..limits.clone() };
        match judge_request(&out, out.len(), &wide) {
            Some(Ok(facts)) => {
                assert_eq!(facts.head_length, out.len(), "one head comes of one head");
                assert_eq!(facts.framing, request.facts.framing, "the end stays where it was");
                assert_eq!(facts.upgrade, request.facts.upgrade);
            }
            Some(Err(refusal)) => {
                assert_eq!(refusal.status, 431, "what is passed on is refused: {refusal}");
            }
            None => panic!("what is passed on has no end"),
        }
    }
}

fn judge_response(
    octets: &[u8],
    step: usize,
    request: &RequestFacts,
) -> Option<Result<ResponseFacts, Refusal>> {
    let (mut end, mut upto) = (HeadEnd::default(), 0);
    while upto < octets.len() {
        upto = (upto + step).min(octets.len());
        if let Some(judged) = response::judge(&octets[..upto], &mut end, 64 * 1024, request).transpose() {
            return Some(judged);
        }
    }
    None
}

pub(crate) fn response_head(octets: &[u8]) {
    for (is_http10, keep_alive) in [(false, true), (false, false), (true, true), (true, false)] {
        let request = RequestFacts {
            head_length: 0,
            framing: Framing::None,
            is_http10,
            keep_alive,
            is_head: false,
            is_idempotent: true,
            upgrade: true,
            expects_continue: false,
        };
        let whole = judge_response(octets, octets.len().max(1), &request);
        let pieces = judge_response(octets, 1, &request);
        assert_eq!(whole.and_then(Result::ok), pieces.and_then(Result::ok), "pieces make no difference");
        let Some(Ok(facts)) = whole else { continue };
        let mut out = Vec::new();
        let downstream = Downstream { is_http10, keep_alive };
        if !response::rewrite(&octets[..facts.head_length], &facts, downstream, &mut out) {
            continue;
        }
        let Some(Ok(again)) = judge_response(&out, out.len(), &request) else {
            panic!("what is passed on is no response: {:?}", String::from_utf8_lossy(&out));
        };
        assert_eq!(again.head_length, out.len(), "one head comes of one head");
        assert_eq!(again.status, facts.status);
        if !(is_http10 && facts.framing == Framing::Chunked) {
            assert_eq!(again.framing, facts.framing, "the end stays where it was");
        }
    }
}

pub(crate) fn chunked(octets: &[u8]) {
    let mut whole = ChunkScanner::new();
    let scanned = whole.scan(octets);
    let mut single = ChunkScanner::new();
    let mut length = 0;
    for octet in octets {
        if single.is_done() {
            break;
        }
        match single.next_run(core::slice::from_ref(octet)) {
            Ok(run) => length += run.length,
            Err(error) => {
                assert_eq!(scanned, Err(error), "the same is wrong whatever the pieces");
                return;
            }
        }
    }
    assert_eq!(scanned, Ok(length), "the end does not depend on how it was cut");
    assert_eq!(whole.is_done(), single.is_done());
    assert!(whole.content() <= octets.len() as u64);
}
