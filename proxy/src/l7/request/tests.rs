//! Request heads: what is refused and why, and what the upstream gets to see.

use proptest::prelude::*;

use super::super::head::slots;
use super::*;

fn judged(head: &str) -> Result<RequestFacts, u16> {
    let mut slots = slots();
    match judge(head.as_bytes(), &mut HeadEnd::default(), &Limits::default(), &mut slots) {
        Ok(Verdict::Complete(request)) => Ok(request.facts),
        Ok(Verdict::Incomplete) => Err(0),
        Err(refusal) => {
            assert!(refusal.close, "after {refusal} the next request can't be found");
            Err(refusal.status)
        }
    }
}

fn client(is_trusted: bool, writes_forwarded: bool) -> ClientFacts {
    ClientFacts::new("192.0.2.7".parse().unwrap(), 8080, false, is_trusted, writes_forwarded)
}

fn passed_on(head: &str, client: &ClientFacts) -> String {
    let mut slots = slots();
    let Ok(Verdict::Complete(request)) =
        judge(head.as_bytes(), &mut HeadEnd::default(), &Limits::default(), &mut slots)
    else {
        panic!("{head:?} is a good request");
    };
    let mut out = Vec::new();
    request.rewrite(client, Some(([10, 1, 2, 3], 8080).into()), &mut out);
    String::from_utf8(out).unwrap()
}

const OURS: &str = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: 8080\r\n";

#[test]
fn rfc9112_6_3_the_end_of_a_request() {
    for (fields, framing) in [
        ("", Framing::None),
        ("Content-Length: 0\r\n", Framing::None),
        ("Content-Length: 12\r\n", Framing::Length(12)),
        ("Content-Length:12\r\ncontent-length: 12\r\n", Framing::Length(12)),
        ("Transfer-Encoding: chunked\r\n", Framing::Chunked),
        ("tRANSFER-eNCODING:\tCHUNKED \r\n", Framing::Chunked),
    ] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        assert_eq!(judged(&head).map(|facts| facts.framing), Ok(framing), "{fields:?}");
    }
}

#[test]
fn rfc9112_11_2_framing_that_could_be_read_in_two_ways_is_refused() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5,6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5a\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length : 5\r\n",
        " Content-Length: 5\r\n",
        "Content-Length: \u{b}5\r\n",
        "Content-Length\u{0}: 5\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: ,chunked\r\n",
        "Transfer-Encoding: chunked,\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n",
        "Transfer-Encoding: chunked\u{0}\r\n",
        "Transfer-Encoding: chun\u{7f}ked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "X: y\rTransfer-Encoding: chunked\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
        "Foo\r\n",
        ": x\r\n",
        "X\u{a0}: y\r\n",
    ] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        assert_eq!(judged(&head), Err(400), "{fields:?}");
    }
    assert_eq!(judged("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(400));
}

#[test]
fn rfc9112_3_request_lines() {
    for (head, status) in [
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\r\n\r\n", 400),
        ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /ü HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/x.1\r\nHost: a\r\n\r\n", 400),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405),
    ] {
        assert_eq!(judged(head), Err(status), "{head:?}");
    }
}

#[test]
fn rfc9112_3_2_exactly_one_host() {
    for (head, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET http://a/ HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: é\r\n\r\n", 400),
    ] {
        assert_eq!(judged(head), Err(status), "{head:?}");
    }
    for head in [
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: A.example:8080\r\n\r\n",
    ] {
        assert!(judged(head).is_ok(), "{head:?}");
    }
}

#[test]
fn limits_have_statuses_of_their_own() {
    let line = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(40_000));
    assert_eq!(judged(&line[..35_000]), Err(414));
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    assert_eq!(judged(&long), Err(431));
    assert_eq!(judged(&long[..35_000]), Err(431));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100));
    assert_eq!(judged(&many), Err(431));
    assert_eq!(judged(&many[..many.len() - 2]), Err(431), "the end need not be waited for");
    let most = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(99));
    assert!(judged(&most).is_ok());
    let mut slots = slots();
    let limits = Limits { request_body_max: Some(10), ..Limits::default() };
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n";
    let refused = judge(head, &mut HeadEnd::default(), &limits, &mut slots).unwrap_err();
    assert_eq!(refused.status, 413);
}

#[test]
fn rfc9112_9_3_who_keeps_the_connection() {
    for (head, stays) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n", false),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
        ("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false),
    ] {
        assert_eq!(judged(head).unwrap().keep_alive, stays, "{head:?}");
    }
}

#[test]
fn rfc9110_7_6_1_fields_for_this_hop_are_taken_out() {
    let head = "GET /p?q HTTP/1.0\r\nA: 1\r\nConnection: keep-alive, x-secret, Host, content-length\r\n\
                X-Secret: 2\r\nHost: Shop.Example:80\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nContent-Length: 3\r\n\
                TE: trailers\r\nProxy-Authorization: x\r\nUpgrade: websocket\r\nB:  2 \r\n\r\n";
    assert_eq!(
        passed_on(head, &client(false, false)),
        format!(
            "GET /p?q HTTP/1.1\r\nA: 1\r\nHost: Shop.Example:80\r\nB:  2 \r\nContent-Length: 3\r\n{OURS}\
             X-Forwarded-Host: Shop.Example:80\r\n\r\n"
        )
    );
}

#[test]
fn rfc9112_3_2_2_the_absolute_targets_host_wins() {
    for (line, sent) in [
        ("GET http://b:81/x?y", "GET /x?y"),
        ("GET HTTP://b:81", "GET /"),
        ("GET http://b:81?y", "GET /?y"),
        ("OPTIONS http://b:81", "OPTIONS *"),
    ] {
        let text = passed_on(&format!("{line} HTTP/1.1\r\nHost: a\r\nA: 1\r\n\r\n"), &client(false, false));
        assert!(text.starts_with(&format!("{sent} HTTP/1.1\r\nHost: b:81\r\nA: 1\r\n")), "{text}");
        assert!(!text.contains("Host: a\r\n"), "{text}");
        assert!(text.contains("X-Forwarded-Host: b:81\r\n"), "{text}");
    }
    assert!(
        passed_on("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &client(false, false)).starts_with("OPTIONS * ")
    );
}

#[test]
fn rfc9110_7_8_an_upgrade_is_passed_on_but_not_to_h2c() {
    let upgrade = |to| format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {to}\r\n\r\n");
    let text = passed_on(&upgrade("websocket"), &client(false, false));
    assert!(text.contains("\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"), "{text}");
    assert!(judged(&upgrade("websocket")).unwrap().upgrade);
    let text = passed_on(&upgrade("h2c"), &client(false, false));
    assert!(!text.contains("h2c") && !text.contains("Upgrade"), "{text}");
    assert!(!judged("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n").unwrap().upgrade);
}

#[test]
fn rfc9110_7_8_the_upgrade_fields_are_one_list() {
    for fields in [
        "Upgrade: websocket\r\nUpgrade: h2c\r\n",
        "Upgrade: websocket, H2C\r\n",
        "Upgrade: h2c/1\r\nUpgrade: websocket\r\n",
        "Upgrade: websocket\r\nUpgrade: TLS/1.2, HTTP/1.1\r\n",
        "Upgrade: HTTP/2.0\r\n",
        "Upgrade: ,\r\n",
    ] {
        let head = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nHTTP2-Settings: AAMAAABk\r\n{fields}\r\n"
        );
        assert!(!judged(&head).unwrap().upgrade, "{fields:?}");
        let text = passed_on(&head, &client(true, false));
        assert!(!text.contains("pgrade") && !text.contains("HTTP2-Settings"), "{fields:?} became {text}");
    }
}

#[test]
fn rfc9112_3_2_a_request_without_host_gets_one() {
    let text = passed_on("GET / HTTP/1.0\r\nA: 1\r\n\r\n", &client(false, false));
    assert!(text.starts_with("GET / HTTP/1.1\r\nHost: 10.1.2.3:8080\r\nA: 1\r\n"), "{text}");
    assert!(!text.contains("X-Forwarded-Host"), "the client named none: {text}");
    let text = passed_on("GET / HTTP/1.0\r\nHost: a\r\n\r\n", &client(false, false));
    assert_eq!(text.matches("Host: ").count(), 2, "the client's, and X-Forwarded-Host: {text}");
}

#[test]
fn rfc9112_6_framing_is_said_in_our_own_words() {
    for (fields, ours) in [
        ("tRANSFER-eNCODING:\tCHUNKED \r\n", "Transfer-Encoding: chunked\r\n"),
        ("CONTENT-LENGTH:  0012 \r\nContent-Length: 0012\r\n", "Content-Length: 12\r\n"),
        ("content-length: 00\r\n", "Content-Length: 0\r\n"),
        ("", ""),
    ] {
        let text = passed_on(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), &client(false, false));
        assert!(
            text.starts_with(&format!("POST / HTTP/1.1\r\nHost: a\r\n{ours}X-Forwarded-For")),
            "{fields:?} became {text}"
        );
    }
}

#[test]
fn no_other_word_about_the_client_is_passed_on_but_a_trusted_proxys() {
    let others = "X-Forwarded-Server: x\r\nx-forwarded-ssl: on\r\nX-Forwarded-Prefix: /\r\nX-Real-IP: 10.0.0.1\r\n\
                  X-Forwarded-Client-Cert: x\r\n";
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{others}X-Forwarde: y\r\n\r\n");
    assert_eq!(
        passed_on(&head, &client(false, false)),
        format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarde: y\r\n{OURS}X-Forwarded-Host: a\r\n\r\n")
    );
    assert!(passed_on(&head, &client(true, false)).contains(others));
}

#[test]
fn rfc9110_10_1_1_expectations() {
    let expect = |version, what| {
        format!("POST / HTTP/{version}\r\nHost: a\r\nContent-Length: 1\r\nExpect: {what}\r\n\r\n")
    };
    assert!(judged(&expect("1.1", "100-Continue")).unwrap().expects_continue);
    assert!(
        passed_on(&expect("1.1", "100-continue"), &client(false, false)).contains("Expect: 100-continue")
    );
    assert!(!judged(&expect("1.0", "100-continue")).unwrap().expects_continue);
    assert!(!passed_on(&expect("1.0", "100-continue"), &client(false, false)).contains("Expect"));
    assert_eq!(judged(&expect("1.1", "magic")), Err(417));
}

#[test]
fn rfc7239_a_trusted_proxys_word_is_extended_and_anyone_elses_replaced() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\nx-forwarded-for: 10.0.0.2\r\n\
                X-Forwarded-Proto: https\r\nX-Forwarded-Host: h\r\nX-Forwarded-Port: 443\r\nForwarded: for=x\r\n\r\n";
    assert_eq!(
        passed_on(head, &client(false, false)),
        format!("GET / HTTP/1.1\r\nHost: a\r\n{OURS}X-Forwarded-Host: a\r\n\r\n")
    );
    assert_eq!(
        passed_on(head, &client(true, false)),
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: h\r\nX-Forwarded-Port: 443\r\n\
         Forwarded: for=x\r\nX-Forwarded-For: 10.0.0.1, 10.0.0.2, 192.0.2.7\r\n\r\n"
    );
    let ours = "Forwarded: for=192.0.2.7;proto=http;host=\"a\"\r\n\r\n";
    assert!(passed_on(head, &client(false, true)).ends_with(ours));
    assert!(
        passed_on(head, &client(true, true))
            .ends_with("Forwarded: for=x, for=192.0.2.7;proto=http;host=\"a\"\r\n\r\n")
    );
    let v6 = ClientFacts::new("2001:db8::1".parse().unwrap(), 80, true, false, true);
    assert!(passed_on(head, &v6).contains("Forwarded: for=\"[2001:db8::1]\";proto=https"));
}

proptest! {
    /// Octets of all kinds never panic the judge, and what it lets through it can read again.
    #[test]
    fn arbitrary_heads_are_judged(
        fields in prop::collection::vec(("[ -~\t]{0,12}", "[\\x00-\\xff]{0,12}"), 0..5),
        target in "[ -~]{0,12}",
    ) {
        let mut head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n");
        for (name, value) in &fields {
            head.push_str(&format!("{name}:{value}\r\n"));
        }
        head.push_str("\r\n");
        if judged(&head).is_ok() {
            let again = passed_on(&head, &client(false, false));
            prop_assert!(judged(&again).is_ok(), "{head:?} became {again:?}");
        }
    }
}
