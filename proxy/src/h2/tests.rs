//! Sessions by section of RFC 9113, fed with frames as a peer writes them.

use super::frame::{ACK, END_HEADERS, END_STREAM, HEADER, Header, Kind, push};
use super::session::PREFACE;
use super::*;

const BOUNDS: Bounds =
    Bounds { streams_max: 10, list_max: 2000, fields_max: 50, stream_window: 100_000, window: 1_000_000 };

/// A session, and what its peer sent and got.
struct End {
    session: Session,
    out: Vec<u8>,
}

impl End {
    fn server() -> Self {
        let mut end = Self { session: Session::server(BOUNDS), out: Vec::new() };
        end.session.start(&mut end.out);
        end.feed(PREFACE).unwrap();
        end.frame(Kind::Settings, 0, 0, &[]).unwrap();
        end.frames();
        end
    }

    fn client() -> Self {
        let mut end = Self { session: Session::client(BOUNDS), out: Vec::new() };
        end.session.start(&mut end.out);
        assert!(end.out.starts_with(PREFACE));
        end.frame(Kind::Settings, 0, 0, &[]).unwrap();
        end.out.clear();
        end
    }

    /// What the last of these octets meant.
    fn feed(&mut self, octets: &[u8]) -> Result<String, Reason> {
        let (mut at, mut last) = (0, String::new());
        while at < octets.len() {
            let (count, event) = self.session.receive(&octets[at..], &mut self.out).map_err(|b| b.0)?;
            assert!(count > 0, "whole frames are fed");
            last = format!("{event:?}");
            at += count;
        }
        Ok(last)
    }

    fn frame(&mut self, kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Result<String, Reason> {
        let mut octets = Vec::new();
        push(kind, flags, stream, payload, &mut octets);
        self.feed(&octets)
    }

    fn headers(&mut self, stream: u32, flags: u8, block: &[u8]) -> Result<String, Reason> {
        self.frame(Kind::Headers, flags | END_HEADERS, stream, block)
    }

    fn request(&mut self, stream: u32, flags: u8) -> Result<String, Reason> {
        self.headers(stream, flags, GET)
    }

    /// The frames that were sent since the last call.
    fn frames(&mut self) -> Vec<(Kind, u32, Vec<u8>)> {
        let (mut rest, mut frames) = (&self.out[..], Vec::new());
        while let Some((header, behind)) = rest.split_first_chunk::<HEADER>() {
            let header = Header::parse(*header);
            frames.push((header.kind, header.stream, behind[..header.length].to_vec()));
            rest = &behind[header.length..];
        }
        self.out.clear();
        frames
    }

    fn resets(&mut self) -> Vec<(u32, u32)> {
        let of = |(kind, stream, payload): (Kind, u32, Vec<u8>)| {
            (kind == Kind::Reset).then(|| (stream, u32::from_be_bytes(payload.try_into().unwrap())))
        };
        self.frames().into_iter().filter_map(of).collect()
    }

    fn respond(&mut self, index: usize, content: &[u8]) -> usize {
        let start = begin_block(&mut self.out);
        push_status(200, &mut self.out);
        self.session.end_headers(Key::of(index), start, false, &mut self.out);
        self.session.send_data(Key::of(index), content, true, &mut self.out)
    }
}

/// `:method GET`, `:scheme http`, `:path /`.
const GET: &[u8] = &[0x82, 0x86, 0x84];
/// `:method POST`, `:scheme http`, `:path /`.
const POST: &[u8] = &[0x83, 0x86, 0x84];

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        push_field(name.as_bytes(), value.as_bytes(), &mut block);
    }
    block
}

#[test]
fn section_3_4_the_preface_and_the_first_frame() {
    let mut session = Session::server(BOUNDS);
    let refused = session.receive(b"GET / HTTP/1.1\r\n", &mut Vec::new()).unwrap_err();
    assert_eq!(refused.0, Reason::Protocol);
    for role in [Session::client(BOUNDS), Session::server(BOUNDS)] {
        let mut end = End { session: role, out: Vec::new() };
        end.session.preface = PREFACE.len();
        assert_eq!(end.frame(Kind::Ping, 0, 0, &[0; 8]), Err(Reason::Protocol), "not SETTINGS");
    }
}

#[test]
fn section_4_2_a_frame_larger_than_allowed() {
    let mut end = End::server();
    assert_eq!(end.frame(Kind::Data, 0, 1, &[0; 16_385]), Err(Reason::FrameSize));
}

#[test]
fn section_5_1_a_request_and_its_response() {
    let mut end = End::server();
    let event = end.request(1, END_STREAM).unwrap();
    assert_eq!(event, "Headers { key: Key(0), block: Head, is_end: true }");
    assert_eq!(end.respond(0, b"hello"), 5);
    assert_eq!(end.session.open_streams(), 0);
    let frames = end.frames();
    assert_eq!(frames[0], (Kind::Headers, 1, vec![0x88]));
    assert_eq!(frames[1], (Kind::Data, 1, b"hello".to_vec()));
    end.session.release(Key::of(0));
    assert!(end.request(3, END_STREAM).unwrap().contains("Key(0)"), "places are used again");
}

#[test]
fn section_5_1_frames_on_streams_that_were_never_opened() {
    for (kind, payload) in
        [(Kind::Data, &[0; 4][..]), (Kind::Reset, &[0; 4]), (Kind::WindowUpdate, &[0, 0, 0, 1])]
    {
        assert_eq!(End::server().frame(kind, 0, 1, payload), Err(Reason::Protocol), "{kind:?}");
    }
}

#[test]
fn section_5_1_frames_behind_the_end_of_a_stream() {
    let mut end = End::server();
    end.request(1, END_STREAM).unwrap();
    end.frame(Kind::Data, 0, 1, b"more").unwrap();
    assert_eq!(end.resets(), [(1, Reason::StreamClosed as u32)], "half-closed");
    let mut end = End::server();
    end.request(1, END_STREAM).unwrap();
    end.respond(0, b"");
    end.frame(Kind::WindowUpdate, 0, 1, &[0, 0, 0, 1]).unwrap();
    assert_eq!(end.request(1, END_STREAM), Err(Reason::StreamClosed), "closed");
}

#[test]
fn section_5_1_what_was_on_its_way_when_we_ended_a_stream_is_ignored() {
    let mut end = End::server();
    end.headers(1, 0, POST).unwrap();
    end.session.reset(Key::of(0), Reason::Cancel, &mut end.out);
    end.session.release(Key::of(0));
    end.frames();
    for _ in 0..100 {
        end.frame(Kind::Data, 0, 1, &[0; 10_000]).unwrap();
    }
    end.headers(1, END_STREAM, &block(&[("x", "1")])).unwrap();
    assert!(end.frames().iter().all(|(kind, stream, _)| (*kind, *stream) == (Kind::WindowUpdate, 0)));
}

#[test]
fn section_5_1_1_numbers_of_streams() {
    assert_eq!(End::server().request(2, END_STREAM), Err(Reason::Protocol), "even");
    let mut end = End::server();
    end.request(5, END_STREAM).unwrap();
    assert_eq!(end.request(3, END_STREAM), Err(Reason::StreamClosed), "smaller than one before");
}

#[test]
fn section_5_1_2_streams_beyond_the_limit_are_refused() {
    let mut end = End::server();
    for at in 0..11 {
        end.request(2 * at + 1, END_STREAM).unwrap();
    }
    assert_eq!(end.resets(), [(21, Reason::Refused as u32)]);
    assert_eq!(end.session.open_streams(), 10);
}

#[test]
fn section_6_1_and_6_9_more_than_the_window() {
    let mut end = End::server();
    end.headers(1, 0, POST).unwrap();
    for _ in 0..6 {
        end.frame(Kind::Data, 0, 1, &[0; 16_384]).unwrap();
    }
    assert_eq!(end.resets(), []);
    let event = end.frame(Kind::Data, 0, 1, &[0; 16_384]).unwrap();
    assert!(event.contains("Reset"), "{event}");
    assert_eq!(end.resets(), [(1, Reason::FlowControl as u32)]);
}

#[test]
fn section_6_9_what_was_used_may_come_again_padding_included() {
    let mut end = End::server();
    end.headers(1, 0, POST).unwrap();
    for _ in 0..1000 {
        let mut padded = vec![255];
        padded.extend_from_slice(&[0; 1255]);
        end.frame(Kind::Data, 0x8, 1, &padded).unwrap();
        end.session.used(Key::of(0), 1000, &mut end.out);
    }
    let frames = end.frames();
    assert!(frames.iter().all(|(kind, ..)| *kind == Kind::WindowUpdate));
    assert!((20..100).contains(&frames.len()), "in large pieces: {}", frames.len());
}

#[test]
fn section_6_9_streams_that_are_not_read_take_no_window_of_the_others() {
    let mut end = End::server();
    let window = i64::from(BOUNDS.window);
    let mut left = window;
    for round in 0..20 {
        for at in 0..10 {
            let stream = 20 * round + 2 * at + 1;
            end.headers(stream, 0, POST).unwrap();
            for _ in 0..6 {
                end.frame(Kind::Data, 0, stream, &[0; 16_384]).unwrap();
                left -= 16_384;
            }
        }
        // Half of them are given up by us, half by the client; none was read.
        for at in 0..10 {
            let stream = 20 * round + 2 * at + 1;
            if at % 2 == 0 {
                end.session.reset(Key::of(at as usize), Reason::No, &mut end.out);
            } else {
                end.frame(Kind::Reset, 0, stream, &[0; 4]).unwrap();
            }
        }
        // So that keys come in the same order again.
        (0..10).rev().for_each(|at| end.session.release(Key::of(at)));
        for (kind, stream, payload) in end.frames() {
            if (kind, stream) == (Kind::WindowUpdate, 0) {
                left += i64::from(u32::from_be_bytes(payload.try_into().unwrap()));
            }
        }
        assert!(left > window / 2, "{left} left in round {round}");
    }
}

#[test]
fn section_6_9_content_waits_for_the_window() {
    let mut end = End::server();
    end.request(1, END_STREAM).unwrap();
    assert_eq!(end.respond(0, &[7; 100_000]), 65_535);
    assert_eq!(end.frames().iter().filter(|(kind, ..)| *kind == Kind::Data).count(), 4);
    let event = end.frame(Kind::WindowUpdate, 0, 1, &[0, 0, 255, 0]).unwrap();
    assert_eq!(event, "Window(Some(Key(0)))");
    assert_eq!(end.session.room(Key::of(0)), 0, "the connection's window is empty");
    assert_eq!(end.frame(Kind::WindowUpdate, 0, 0, &[0, 0, 1, 0]).unwrap(), "Window(None)");
    assert_eq!(end.session.room(Key::of(0)), 256);
}

#[test]
fn section_6_9_1_windows_that_are_too_large_or_opened_by_nothing() {
    let most = [0x7f, 0xff, 0xff, 0xff];
    assert_eq!(End::server().frame(Kind::WindowUpdate, 0, 0, &most), Err(Reason::FlowControl));
    assert_eq!(End::server().frame(Kind::WindowUpdate, 0, 0, &[0; 4]), Err(Reason::Protocol));
    let mut end = End::server();
    end.request(1, END_STREAM).unwrap();
    end.request(3, END_STREAM).unwrap();
    end.frame(Kind::WindowUpdate, 0, 1, &most).unwrap();
    end.frame(Kind::WindowUpdate, 0, 3, &[0; 4]).unwrap();
    assert_eq!(end.resets(), [(1, Reason::FlowControl as u32), (3, Reason::Protocol as u32)]);
}

#[test]
fn section_6_9_2_a_smaller_initial_window_makes_windows_negative() {
    let mut end = End::server();
    end.request(1, END_STREAM).unwrap();
    assert_eq!(end.respond(0, &[7; 70_000]), 65_535);
    end.frame(Kind::Settings, 0, 0, &[0, 4, 0, 0, 0, 100]).unwrap();
    end.frame(Kind::WindowUpdate, 0, 0, &[0, 1, 0, 0]).unwrap();
    assert_eq!(end.session.room(Key::of(0)), 0);
    end.frame(Kind::Settings, 0, 0, &[0, 4, 0, 1, 0, 0]).unwrap();
    assert_eq!(end.session.room(Key::of(0)), 1);
}

#[test]
fn section_6_5_3_and_6_7_settings_and_pings_are_answered() {
    let mut end = End::server();
    end.frame(Kind::Settings, 0, 0, &[0, 3, 0, 0, 0, 9]).unwrap();
    end.frame(Kind::Ping, 0, 0, b"12345678").unwrap();
    assert_eq!(end.frames(), [(Kind::Settings, 0, vec![]), (Kind::Ping, 0, b"12345678".to_vec())]);
    end.frame(Kind::Settings, ACK, 0, &[]).unwrap();
    assert_eq!(end.frame(Kind::Ping, ACK, 0, &[0; 8]).unwrap(), "Pong");
    assert!(end.frames().is_empty());
}

#[test]
fn section_6_8_draining_names_the_last_stream_later() {
    let mut end = End::server();
    end.request(1, 0).unwrap();
    end.session.drain(&mut end.out);
    end.request(3, END_STREAM).unwrap();
    assert_eq!(end.session.open_streams(), 2, "what was on its way is carried out");
    end.session.finish(&mut end.out);
    let last: Vec<_> =
        end.frames().into_iter().filter(|f| f.0 == Kind::GoAway).map(|f| f.2[..4].to_vec()).collect();
    assert_eq!(last, [[0x7f, 0xff, 0xff, 0xff], [0, 0, 0, 3]]);
    assert_eq!(end.request(5, 0).unwrap(), "None");
    end.frame(Kind::Data, END_STREAM, 5, b"ignored").unwrap();
    assert!(end.frames().is_empty());
    assert!(end.frame(Kind::Data, END_STREAM, 1, b"").unwrap().contains("is_end: true"));
}

#[test]
fn section_6_10_a_header_block_is_in_one_piece_on_the_wire() {
    let mut end = End::server();
    end.frame(Kind::Headers, END_STREAM, 1, &GET[..1]).unwrap();
    assert_eq!(
        end.frame(Kind::Continuation, END_HEADERS, 1, &GET[1..]).unwrap(),
        "Headers { key: Key(0), block: Head, is_end: true }"
    );
    assert_eq!(
        end.frame(Kind::Continuation, END_HEADERS, 1, &[]),
        Err(Reason::Protocol),
        "without beginning"
    );
    for (kind, stream) in [(Kind::Ping, 0), (Kind::Continuation, 3), (Kind::Headers, 1)] {
        let mut end = End::server();
        end.frame(Kind::Headers, 0, 1, GET).unwrap();
        assert_eq!(end.frame(kind, 0, stream, &[0; 8]), Err(Reason::Protocol), "{kind:?}");
    }
}

#[test]
fn section_8_1_1_malformed_requests_end_their_stream_alone() {
    let mut end = End::server();
    assert_eq!(end.headers(1, END_STREAM, &GET[..2]).unwrap(), "Malformed");
    let promised = [POST, &block(&[("content-length", "5")])].concat();
    assert_eq!(end.headers(3, END_STREAM, &promised).unwrap(), "Malformed");
    for (stream, data) in [(5, &b"123456"[..]), (7, b"1234")] {
        end.headers(stream, 0, &promised).unwrap();
        assert!(end.frame(Kind::Data, END_STREAM, stream, data).unwrap().contains("Reset"));
    }
    end.headers(9, 0, &promised).unwrap();
    assert!(end.headers(9, 0, &block(&[("x", "1")])).unwrap().contains("Reset"), "trailers without end");
    let protocol = Reason::Protocol as u32;
    assert_eq!(end.resets(), [1, 3, 5, 7, 9].map(|stream| (stream, protocol)));
    end.headers(11, 0, &promised).unwrap();
    assert!(end.frame(Kind::Data, END_STREAM, 11, b"12345").unwrap().contains("Data"));
}

#[test]
fn section_8_4_nobody_pushes() {
    assert_eq!(End::server().frame(Kind::PushPromise, 0, 1, &[0; 8]), Err(Reason::Protocol));
    assert_eq!(End::client().frame(Kind::PushPromise, 0, 1, &[0; 8]), Err(Reason::Protocol));
}

/// Repeats what a client does until its server has had enough; why it had.
fn flood(mut act: impl FnMut(&mut End, u32) -> Result<String, Reason>) -> Option<Reason> {
    let mut end = End::server();
    (0..100_000_u32).find_map(|at| act(&mut end, 2 * at + 1).err())
}

#[test]
fn rfc7541_4_2_a_peer_that_allows_a_smaller_table_is_told_that_ours_is_empty() {
    let mut end = End::server();
    let respond = |end: &mut End, stream| {
        end.request(stream, END_STREAM).unwrap();
        end.respond(0, b"x");
        end.session.release(Key::of(0));
        end.frames().into_iter().find(|(kind, ..)| *kind == Kind::Headers).unwrap().2
    };
    assert_eq!(respond(&mut end, 1), [0x88]);
    end.frame(Kind::Settings, 0, 0, &[0, 1, 0, 0, 0x20, 0]).unwrap();
    assert_eq!(respond(&mut end, 3), [0x88], "a larger one is nothing to answer");
    for size in [100, 10] {
        end.frame(Kind::Settings, 0, 0, &[0, 1, 0, 0, 0, size]).unwrap();
    }
    assert_eq!(respond(&mut end, 5), [0x20, 0x88]);
    assert_eq!(respond(&mut end, 7), [0x88]);
    end.frame(Kind::Settings, 0, 0, &[0, 1, 0, 0, 0, 0]).unwrap();
    assert_eq!(respond(&mut end, 9), [0x88], "smaller than nothing it can't become");
}

#[test]
fn section_10_5_floods_end_the_connection() {
    let calm = Some(Reason::EnhanceYourCalm);
    assert_eq!(flood(|end, _| end.frame(Kind::Ping, 0, 0, &[0; 8])), calm);
    assert_eq!(flood(|end, _| end.frame(Kind::Settings, 0, 0, &[])), calm);
    for kind in [Kind::Ping, Kind::Settings] {
        let payload = if kind == Kind::Ping { &[0; 8][..] } else { &[] };
        assert_eq!(flood(|end, _| end.frame(kind, ACK, 0, payload)), calm, "answers to nothing");
    }
    assert_eq!(flood(|end, _| end.frame(Kind::Priority, 0, 1, &[0; 5])), calm);
    assert_eq!(flood(|end, _| end.frame(Kind::Unknown(99), 0, 1, &[])), calm);
    assert_eq!(flood(|end, stream| end.headers(stream, END_STREAM, &GET[..1])), calm);
    let rapid_reset = |end: &mut End, stream| {
        end.request(stream, END_STREAM)?;
        let ended = end.frame(Kind::Reset, 0, stream, &[0, 0, 0, 8]);
        end.session.release(Key::of(0));
        ended
    };
    assert_eq!(flood(rapid_reset), calm);
    let empty_data = |end: &mut End, stream| {
        if stream == 1 {
            end.headers(1, 0, POST)?;
        }
        end.frame(Kind::Data, 0, 1, &[])
    };
    assert_eq!(flood(empty_data), calm);
    let continuation = |end: &mut End, stream| match stream {
        1 => end.frame(Kind::Headers, 0, 1, GET),
        _ => end.frame(Kind::Continuation, 0, 1, &[]),
    };
    assert_eq!(flood(continuation), calm);
    let dribble = |end: &mut End, stream| {
        if stream == 1 {
            end.request(1, END_STREAM)?;
            end.respond(0, &[7; 65_536]);
        }
        end.frame(Kind::WindowUpdate, 0, 0, &[0, 0, 0, 1])?;
        end.frame(Kind::WindowUpdate, 0, 1, &[0, 0, 0, 1])?;
        end.session.send_data(Key::of(0), &[7; 10], true, &mut end.out);
        Ok(String::new())
    };
    assert_eq!(flood(dribble), calm);
}

#[test]
fn a_busy_client_is_no_flood() {
    let mut end = End::server();
    for at in 0..20_000 {
        end.frame(Kind::Priority, 0, 2 * at + 1, &[0; 5]).unwrap();
        end.request(2 * at + 1, END_STREAM).unwrap();
        end.frame(Kind::WindowUpdate, 0, 0, &[0, 0, 0, 5]).unwrap();
        assert_eq!(end.respond(0, b"hello"), 5);
        end.session.release(Key::of(0));
        end.out.clear();
    }
}

#[test]
fn a_block_that_does_not_decode_ends_the_connection() {
    assert_eq!(End::server().headers(1, END_STREAM, &[0x80]), Err(Reason::Compression));
    let mut end = End::server();
    assert!(end.headers(1, END_STREAM, &[GET, &block(&[("x", &"v".repeat(2000))])].concat()).is_ok());
    assert!(end.session.fields().is_too_large(), "whoever carries requests out refuses it");
}

fn open(end: &mut End, is_end: bool, is_bodiless: bool) -> Option<Key> {
    let start = begin_block(&mut end.out);
    end.out.extend_from_slice(GET);
    end.session.open(start, is_end, is_bodiless, &mut end.out)
}

#[test]
fn a_client_gets_its_response_with_interims_and_trailers() {
    let mut end = End::client();
    let key = open(&mut end, true, false).unwrap();
    assert_eq!(end.frames(), [(Kind::Headers, 1, GET.to_vec())]);
    let interim = end.headers(1, 0, &block_of_status(103)).unwrap();
    assert_eq!(interim, "Headers { key: Key(0), block: Interim(103), is_end: false }");
    assert!(end.headers(1, 0, &[0x88]).unwrap().contains("Head,"));
    assert!(end.frame(Kind::Data, 0, 1, b"hello").unwrap().starts_with("Data"));
    let trailers = end.headers(1, END_STREAM, &block(&[("grpc-status", "0")])).unwrap();
    assert_eq!(trailers, "Headers { key: Key(0), block: Trailers, is_end: true }");
    assert_eq!((end.session.open_streams(), key.index()), (0, 0));
}

fn block_of_status(status: u16) -> Vec<u8> {
    let mut block = Vec::new();
    push_status(status, &mut block);
    block
}

#[test]
fn a_client_refuses_responses_that_are_none() {
    for (blocks, why) in [
        (&[(0, &block(&[("x", "1")]))][..], "no status"),
        (&[(0, &block_of_status(101))], "101 is not for HTTP/2"),
        (&[(END_STREAM, &block_of_status(100))], "an interim response that ends"),
        (&[(0, &vec![0x88]), (0, &vec![0x88])], "two heads"),
    ] {
        let mut end = End::client();
        open(&mut end, true, false).unwrap();
        let events: Vec<_> = blocks.iter().map(|(flags, block)| end.headers(1, *flags, block)).collect();
        assert!(events.last().unwrap().as_ref().unwrap().contains("Reset"), "{why}");
    }
    let mut end = End::client();
    open(&mut end, true, true).unwrap();
    end.headers(1, 0, &[&[0x88][..], &block(&[("content-length", "5")])].concat()).unwrap();
    assert!(end.frame(Kind::Data, END_STREAM, 1, b"hello").unwrap().contains("Reset"), "content for HEAD");
    assert_eq!(End::client().headers(2, 0, &[0x88]), Err(Reason::Protocol), "a stream of the server's");
    assert_eq!(End::client().headers(1, 0, &[0x88]), Err(Reason::Protocol), "a stream nobody opened");
}

#[test]
fn a_client_keeps_to_the_limits_of_its_server() {
    let mut end = End::client();
    end.frame(Kind::Settings, 0, 0, &[0, 3, 0, 0, 0, 1]).unwrap();
    end.frames();
    assert!(open(&mut end, true, false).is_some());
    assert!(open(&mut end, true, false).is_none());
    assert_eq!(end.frames().len(), 1, "what could not be opened leaves nothing");
    end.frame(Kind::Settings, 0, 0, &[0, 3, 0, 0, 0, 9]).unwrap();
    assert!(open(&mut end, true, false).is_some());
    let event = end.frame(Kind::GoAway, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]).unwrap();
    assert_eq!(event, "GoAway { last: 1 }");
    assert_eq!(end.session.above(1).map(Key::index).collect::<Vec<_>>(), [1]);
}
