//! What must hold of a session whatever comes in; for fuzzing, and for the tests that replay its corpus.

use super::{Block, Bounds, Event, Key, Session, begin_block, push_indexed, push_status};

const BOUNDS: Bounds =
    Bounds { streams_max: 4, list_max: 4096, fields_max: 32, stream_window: 20_000, window: 70_000 };

/// What came of it: events, and octets to send.
type Told = (Vec<String>, Vec<u8>);

/// Feeds a session with octets in pieces of `step`, answers what comes, and tells what happened.
fn feed(
    (session, out): (&mut Session, &mut Vec<u8>),
    octets: &[u8],
    step: usize,
    answer: fn(&mut Session, &Event<'_>, &mut Vec<u8>),
) -> Vec<String> {
    let mut told = Vec::new();
    let (mut at, mut upto) = (0, 0);
    while upto < octets.len() {
        upto = (upto + step).min(octets.len());
        loop {
            match session.receive(&octets[at..upto], out) {
                Ok((0, _)) => break,
                Ok((count, event)) => {
                    at += count;
                    assert!(at <= upto, "no more is taken than there is");
                    if event != Event::None {
                        told.push(format!("{event:?}"));
                    }
                    answer(session, &event, out);
                    assert!(session.open_streams() <= BOUNDS.streams_max as usize);
                }
                Err(broken) => {
                    told.push(broken.to_string());
                    return told;
                }
            }
        }
    }
    told
}

fn serve(octets: &[u8], step: usize) -> Told {
    let (mut session, mut out) = (Session::server(BOUNDS), Vec::new());
    session.start(&mut out);
    let told = feed((&mut session, &mut out), octets, step, answer);
    (told, out)
}

/// A client whose streams are all open already.
fn ask(octets: &[u8], step: usize) -> Told {
    let (mut session, mut out) = (Session::client(BOUNDS), Vec::new());
    session.start(&mut out);
    for at in 0..BOUNDS.streams_max {
        let start = begin_block(&mut out);
        push_indexed(2, &mut out);
        assert!(session.open(start, true, at == 0, &mut out).is_some(), "an endpoint has said nothing yet");
    }
    let told = feed((&mut session, &mut out), octets, step, take_in);
    (told, out)
}

/// A client that takes content in, and asks for nothing more.
fn take_in(session: &mut Session, event: &Event<'_>, out: &mut Vec<u8>) {
    match *event {
        Event::Data { key, data, .. } => session.used(key, data.len(), out),
        Event::Reset { key, .. } => session.release(key),
        Event::GoAway { last } => {
            let refused: Vec<Key> = session.above(last).collect();
            refused.into_iter().for_each(|key| session.forget(key));
        }
        _ => {}
    }
}

/// A server that says 200 and a few octets once the request has ended.
fn answer(session: &mut Session, event: &Event<'_>, out: &mut Vec<u8>) {
    match *event {
        Event::Data { key, data, is_end } => {
            session.used(key, data.len(), out);
            respond_if(is_end, session, key, out);
        }
        Event::Headers { key, is_end, block: Block::Head | Block::Trailers } => {
            for (name, value) in session.fields().iter() {
                assert!(!name.is_empty() && !value.contains(&b'\n'), "fields can be written down");
            }
            respond_if(is_end, session, key, out);
        }
        Event::Reset { key, .. } => session.release(key),
        _ => {}
    }
}

fn respond_if(is_end: bool, session: &mut Session, key: Key, out: &mut Vec<u8>) {
    if !is_end {
        return;
    }
    let start = begin_block(out);
    push_status(200, out);
    session.end_headers(key, start, false, out);
    if session.send_data(key, b"hello", true, out) < 5 {
        session.reset(key, super::Reason::Cancel, out);
    }
    session.release(key);
}

/// What a client sends.
pub(crate) fn server(octets: &[u8]) {
    holds(octets, serve);
}

/// What an endpoint sends.
pub(crate) fn client(octets: &[u8]) {
    holds(octets, ask);
}

fn holds(octets: &[u8], run: fn(&[u8], usize) -> Told) {
    let whole = run(octets, octets.len().max(1));
    assert_eq!(whole, run(octets, 1), "what happens does not depend on how the octets were cut");
    assert!(whole.1.len() < 200 + octets.len() * 64, "answers are in proportion");
}
