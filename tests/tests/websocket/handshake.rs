//! The opening handshake as a machine: what happens when, in which pieces, and how it fails.

use std::io::ErrorKind;
use std::time::Duration;

use getty_core::websocket::{
    Accept, AcceptError, ClientRequest, CloseFrame, HandshakeError, HttpError, Message, OriginPolicy,
    RespondError, Response, ServerOptions, Verdict,
};
use getty_core::{Close, CloseReason, Deadline, Event, IoFailure, SendError};
use testkit::Rng;
use testkit::pair::{Split, Wire};
use testkit::websocket::peers::{Frame, REQUEST, Solo, answer_to, client_request, config, pair};

const NONE: [&str; 0] = [];
const NS: Duration = Duration::from_nanos(1);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn server() -> Solo {
    server_with(ServerOptions::new())
}

fn server_with(options: ServerOptions) -> Solo {
    Solo::server(options, config(|c| c))
}

fn client() -> Solo {
    Solo::client(client_request(), config(|c| c))
}

/// A client that has sent its request, and the response that it expects.
fn client_and_answer() -> (Solo, String) {
    let mut client = client();
    let answer = answer_to(&client.written(), "");
    (client, answer)
}

/// A server that has received a request for an upgrade. Each of `headers` ends with a line end.
fn asked_with(options: ServerOptions, headers: &str) -> Solo {
    let mut server = server_with(options);
    server.input(format!("{REQUEST}{headers}\r\n").as_bytes());
    assert_eq!(server.poll(), ["Request /chat"]);
    server
}

fn asked() -> Solo {
    asked_with(ServerOptions::new(), "")
}

fn accept(solo: &mut Solo) {
    solo.respond(Verdict::Accept(Accept::new()));
}

/// Checks that a server refuses with `status` and closes. Returns the response and the error.
fn refused(server: &mut Solo, status: u16) -> (String, HandshakeError) {
    assert_eq!(server.poll(), NONE);
    let response = String::from_utf8(server.written()).unwrap();
    assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
    assert!(response.contains("\r\nConnection: close\r\n") || status == 426, "{response}");
    server.shut_down();
    server.input(b"the rest of what the client had to say");
    assert_eq!((server.poll(), server.written()), (vec![], vec![]));
    server.eof();
    (response, handshake_error(server))
}

fn handshake_error(solo: &mut Solo) -> HandshakeError {
    match solo.closed() {
        CloseReason::Handshake(error) => (*error).clone(),
        other => panic!("not Handshake: {other}"),
    }
}

#[test]
fn two_sessions_open_however_the_bytes_are_cut() {
    for split in [Split::Whole, Split::Every(1), Split::Random(Rng::new(3), 7)] {
        let mut pair = pair(client_request(), ServerOptions::new(), config(|c| c)).wires(Wire {
            split,
            latency: Duration::from_millis(10),
            ..Wire::default()
        });
        pair.settle();
        assert!(matches!(pair.a.events[..], [(_, Event::Open(_))]), "{:?}", pair.a.events);
        assert!(matches!(pair.b.events[..], [(_, Event::Request(_)), (_, Event::Open(_))]));
        assert_eq!(pair.clock.elapsed(), Duration::from_millis(20));
        assert!(pair.a.session.send(Message::text("in")).is_ok());
        assert!(pair.b.session.send(Message::text("out")).is_ok());
        pair.settle();
        assert_eq!((pair.a.messages(), pair.b.messages()), (vec!["out".into()], vec!["in".into()]));
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_is_one_request() {
    let mut server = server();
    let head = format!("{REQUEST}\r\n");
    for byte in &head.as_bytes()[..head.len() - 1] {
        server.input(&[*byte]);
        assert_eq!((server.poll(), server.session.wants_read()), (vec![], true));
    }
    server.input(b"\n");
    assert_eq!(server.poll(), ["Request /chat"]);

    let (mut client, answer) = client_and_answer();
    let (last, others) = answer.as_bytes().split_last().unwrap();
    for byte in others {
        client.input(&[*byte]);
        assert_eq!((client.poll(), client.session.wants_read()), (vec![], true));
    }
    client.input(&[*last]);
    assert_eq!(client.poll(), ["Open"]);
}

/// Each side learns from the opening what was agreed on.
#[test]
fn the_opening_tells_what_was_agreed_on() {
    let request = client_request().protocol("b").unwrap().protocol("a").unwrap();
    let options = ServerOptions::new().protocol("a").protocol("b");
    let mut pair = pair(request, options, config(|c| c));
    pair.settle();
    let upgrade = |event: &Event<Message>| match event {
        Event::Open(opened) => opened.upgrade.clone(),
        _ => None,
    };
    let client = pair.a.events.iter().find_map(|(_, event)| upgrade(event)).unwrap();
    let server = pair.b.events.iter().find_map(|(_, event)| upgrade(event)).unwrap();
    assert_eq!(server.protocol.as_deref(), Some("a"), "the server's preference decides among the offers");
    assert_eq!(client.protocol, server.protocol);
    assert_eq!(server.request.unwrap().path(), "/chat");
    assert!(client.request.is_none() && server.headers.is_none());
    assert!(client.deflate().is_none());
    assert_eq!(client.headers.unwrap().get("sec-websocket-protocol"), Some("a"));
}

#[test]
fn sub_protocols_are_chosen_from_what_is_offered() {
    let offers = "Sec-WebSocket-Protocol: x, y\r\n";
    let options = || ServerOptions::new().protocol("a").protocol("y");
    let chosen = |accept: Accept, offers: &str| {
        let mut server = asked_with(options(), offers);
        server.respond(Verdict::Accept(accept));
        let answer = String::from_utf8(server.written()).unwrap();
        answer.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: ")).map(str::to_owned)
    };
    assert_eq!(chosen(Accept::new(), offers).as_deref(), Some("y"));
    assert_eq!(chosen(Accept::new().protocol("x"), offers).as_deref(), Some("x"), "the verdict decides");
    assert_eq!(
        chosen(Accept::new(), "Sec-WebSocket-Protocol: z\r\n"),
        None,
        "no protocol in common is not an error"
    );
    assert_eq!(chosen(Accept::new(), ""), None);

    let mut server = asked_with(options(), offers);
    let error = server.session.respond(server.clock.now(), Verdict::Accept(Accept::new().protocol("a")));
    assert_eq!(error, Err(RespondError::Accept(AcceptError::Protocol { name: "a".to_owned() })));
    assert_eq!(server.written(), b"", "an error changes nothing");
    accept(&mut server);
    assert_eq!(server.poll(), ["Open"]);
}

#[test]
fn a_client_does_not_take_a_sub_protocol_or_an_extension_that_it_did_not_offer() {
    let answered = |headers: &str| {
        let mut client = client();
        let answer = answer_to(&client.written(), headers);
        client.input(answer.as_bytes());
        assert_eq!(client.poll(), NONE);
        assert_eq!(client.written(), b"");
        client.shut_down();
        client.eof();
        handshake_error(&mut client)
    };
    assert!(matches!(answered("Sec-WebSocket-Protocol: a\r\n"), HandshakeError::Protocol { .. }));
    assert!(matches!(
        answered("Sec-WebSocket-Extensions: permessage-deflate\r\n"),
        HandshakeError::Extension { .. }
    ));
}

/// RFC 9110 section 5.6.1.2: empty elements do not count, and a header with no others is no offer.
#[test]
fn empty_elements_of_lists_are_ignored() {
    let chosen = |offers: &str| {
        let mut server = asked_with(ServerOptions::new().protocol("a").protocol("b"), offers);
        accept(&mut server);
        let answer = String::from_utf8(server.written()).unwrap();
        assert_eq!(server.poll(), ["Open"]);
        answer.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: ")).map(str::to_owned)
    };
    for offers in ["x,,b", ",b", "b,", " , ,\tb\t,,", "x, b, ,", "\r\nSec-WebSocket-Protocol: b"] {
        assert_eq!(
            chosen(&format!("Sec-WebSocket-Protocol: {offers}\r\n")).as_deref(),
            Some("b"),
            "{offers}"
        );
    }
    for offers in ["", ",", " ,\t, ", "\r\nSec-WebSocket-Protocol:", "\r\nSec-WebSocket-Extensions: ,,"] {
        assert_eq!(chosen(&format!("Sec-WebSocket-Protocol: {offers}\r\n")), None, "{offers:?}");
    }

    let answered = |headers: &str| {
        let mut client = Solo::client(client_request().protocol("chat").unwrap(), config(|c| c));
        let answer = answer_to(&client.written(), headers);
        client.input(answer.as_bytes());
        match client.events().pop() {
            Some(Event::Open(opened)) => Ok(opened.upgrade.unwrap().protocol),
            other => Err(other),
        }
    };
    for protocol in ["", ",", " , ", "\r\nSec-WebSocket-Protocol:", "\r\nSec-WebSocket-Extensions: , ,"] {
        let told = answered(&format!("Sec-WebSocket-Protocol: {protocol}\r\n"));
        assert!(matches!(told, Ok(None)), "{protocol:?}: {told:?}");
    }
    for protocol in [
        "chat,",
        ",chat",
        " , chat ,,",
        "\r\nSec-WebSocket-Protocol: chat",
        "chat\r\nSec-WebSocket-Protocol:",
    ] {
        let told = answered(&format!("Sec-WebSocket-Protocol: {protocol}\r\n"));
        assert!(matches!(&told, Ok(Some(chat)) if chat == "chat"), "{protocol:?}: {told:?}");
    }
    // Two protocols are too many, and a protocol that was not offered is refused.
    for headers in [
        "Sec-WebSocket-Protocol: chat, chat\r\n",
        "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: chat\r\n",
        "Sec-WebSocket-Protocol: ,Chat\r\n",
        "Sec-WebSocket-Extensions:\r\nSec-WebSocket-Extensions: ,permessage-deflate\r\n",
    ] {
        assert!(answered(headers).is_err(), "{headers}");
    }
}

/// RFC 9112 section 6.3: a 101 ends at its empty line, whatever its headers say about a body.
#[test]
fn an_answer_101_has_no_body_whatever_it_says() {
    for headers in [
        "Content-Length: 0\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: many\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\nContent-Length: 5\r\nTrailer: a\r\nContent-Type: text/plain\r\n",
    ] {
        let (mut client, _) = client_and_answer();
        let mut asking = self::client();
        let answer = answer_to(&asking.written(), headers);
        client.input(&[answer.as_bytes(), &Frame::text("first").bytes()].concat());
        let told = client.poll();
        assert_eq!(told, ["Open", "Text(\"first\")"], "{headers}");
    }
}

/// RFC 9110 section 15.2: a client accepts a reasonable number of other 1xx responses before the final one.
#[test]
fn interim_answers_before_the_101_are_skipped() {
    let interim = [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 102\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nContent-Length: 3\r\n\r\n",
        "HTTP/1.1 199 \r\nUpgrade: websocket\r\n\r\n",
    ];
    for before in 0..=8 {
        for at_once in [1, 7, usize::MAX] {
            let (mut client, answer) = client_and_answer();
            let heads: String = interim.iter().cycle().take(before).copied().collect();
            let bytes = [heads.as_bytes(), answer.as_bytes(), &Frame::text("first").bytes()].concat();
            let mut told = Vec::new();
            for piece in bytes.chunks(at_once.min(bytes.len())) {
                client.input(piece);
                told.extend(client.poll());
            }
            assert_eq!(told, ["Open", "Text(\"first\")"], "{before} before, {at_once} at once");
        }
    }
    let refused = |bytes: &str, limit: usize| {
        let mut client = Solo::client(client_request(), config(|c| c.max_head(limit)));
        client.written();
        client.input(bytes.as_bytes());
        assert_eq!((client.poll(), client.written()), (vec![], vec![]));
        client.shut_down();
        client.eof();
        handshake_error(&mut client)
    };
    // One response too many; several that together exceed the limit of a head; and faults that a final
    // response could have too.
    let nine = interim[0].repeat(9);
    assert!(refused(&nine, 1000).to_string().contains("8"), "{}", refused(&nine, 1000));
    let long = format!("HTTP/1.1 103 x\r\nX: {}\r\n\r\n", "x".repeat(480));
    assert_eq!(refused(&long.repeat(3), 1000), HttpError::HeadTooLong { limit: 1000 }.into());
    let then = format!("{}HTTP/1.1 403 No\r\n\r\n", interim[0]);
    assert!(matches!(refused(&then, 1000), HandshakeError::Status { status: 403, .. }));
    let malformed = "HTTP/1.1 100 Continue\r\nX : y\r\n\r\n";
    assert!(matches!(refused(malformed, 1000), HandshakeError::Http(HttpError::Malformed { .. })));
    let old = "HTTP/1.0 100 Continue\r\n\r\n";
    assert!(matches!(refused(old, 1000), HandshakeError::Status { status: 100, .. }));
}

/// They are part of the handshake, which has one deadline.
#[test]
fn interim_answers_do_not_put_the_timeout_off() {
    let mut client = client();
    client.written();
    for second in 1..8 {
        assert_eq!(client.at(secs(second)), NONE);
        client.input(b"HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(client.poll(), NONE);
    }
    assert_eq!(client.at(secs(10) - NS), NONE);
    assert_eq!(client.at(secs(10)).len(), 1);
    assert!(client.session.is_closed());
}

#[test]
fn a_head_past_the_limit_is_answered_with_431() {
    let long =
        format!("{REQUEST}Cookie: {}", "x".repeat(16 * 1024 - REQUEST.len() - "Cookie: \r\n\r\n".len()));
    let mut fits = server();
    fits.input(format!("{long}\r\n\r\n").as_bytes());
    assert_eq!(fits.poll(), ["Request /chat"], "16 KiB fit");

    for at_once in [1, 1000, usize::MAX] {
        let mut server = server();
        let head = format!("{long}y\r\n\r\n");
        for piece in head.as_bytes().chunks(at_once.min(head.len())) {
            server.input(piece);
            if !server.session.wants_poll() {
                continue;
            }
            assert_eq!(server.poll(), NONE);
        }
        let (_, error) = refused(&mut server, 431);
        assert_eq!(error, HttpError::HeadTooLong { limit: 16 * 1024 }.into());
    }

    let mut endless = server();
    endless.input(&[b'G'; 16 * 1024 - 1]);
    assert_eq!((endless.poll(), endless.written()), (vec![], vec![]));
    endless.input(b"G");
    refused(&mut endless, 431);

    let mut small = Solo::server(ServerOptions::new(), config(|c| c.max_head(100)));
    small.input(format!("{REQUEST}\r\n").as_bytes());
    refused(&mut small, 431);
}

#[test]
fn a_client_gives_up_on_an_answer_past_the_limit() {
    let mut client = client();
    client.written();
    client.input(b"HTTP/1.1 101 Switching Protocols\r\nX: ");
    client.input(&[b'x'; 16 * 1024]);
    assert_eq!((client.poll(), client.written()), (vec![], vec![]));
    client.shut_down();
    client.eof();
    assert_eq!(handshake_error(&mut client), HttpError::HeadTooLong { limit: 16 * 1024 }.into());
}

#[test]
fn more_than_a_hundred_headers_are_answered_with_431() {
    let more = |n: usize| (0..n).map(|n| format!("X-{n}: {n}\r\n")).collect::<String>();
    let own = REQUEST.lines().count() - 1;
    asked_with(ServerOptions::new(), &more(100 - own));
    let mut server = server();
    server.input(format!("{REQUEST}{}\r\n", more(101 - own)).as_bytes());
    let (_, error) = refused(&mut server, 431);
    assert_eq!(error, HttpError::TooManyHeaders { limit: 100 }.into());
}

#[test]
fn what_is_no_upgrade_is_refused_with_a_reason() {
    let table = [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 426),
        (format!("{}\r\n", REQUEST.replace("GET", "POST")), 405),
        (format!("{}\r\n", REQUEST.replace("HTTP/1.1", "HTTP/1.0")), 505),
        (format!("{}\r\n", REQUEST.replace("Version: 13", "Version: 8")), 426),
        (format!("{}\r\n", REQUEST.replace("Upgrade: websocket\r\n", "")), 400),
        (format!("{}\r\n", REQUEST.replace("Connection: Upgrade\r\n", "")), 400),
        (format!("{}\r\n", REQUEST.replace("Host: server.example.com\r\n", "")), 400),
        (format!("{}\r\n", REQUEST.replace("ZQ==", "")), 400),
        (format!("{REQUEST}Content-Length: 5\r\n\r\nhello"), 400),
        (format!("{REQUEST}Transfer-Encoding: chunked\r\n\r\n"), 400),
        (REQUEST.replace("\r\n", "\n"), 400),
        (format!("\r\n{REQUEST}\r\n"), 400),
        ("\u{16}\u{3}\u{1}".to_owned(), 400),
    ];
    for (request, status) in table {
        for at_once in [1, usize::MAX] {
            let mut server = server();
            request.as_bytes().chunks(at_once.min(request.len())).for_each(|piece| server.input(piece));
            let (response, _) = refused(&mut server, status);
            let has_version = response.contains("\r\nSec-WebSocket-Version: 13\r\n");
            assert_eq!(has_version, status == 426, "{response}");
        }
    }
}

#[test]
fn a_slow_handshake_times_out_after_exactly_ten_seconds() {
    for says in ["", "G", REQUEST] {
        let mut server = server();
        server.input(says.as_bytes());
        assert_eq!(server.session.timeout_reason(), Some(Deadline::Handshake));
        assert_eq!(server.session.poll_timeout(), Some(server.clock.at(secs(10))));
        assert_eq!(server.at(secs(10) - NS), NONE);
        let [closed] = &server.at(secs(10))[..] else { panic!() };
        assert!(closed.starts_with("Closed: timed out: the handshake"), "{closed}");
        assert_eq!(server.written(), b"");
        assert_eq!(server.session.poll_timeout(), None);
    }
    let (mut client, answer) = client_and_answer();
    client.input(&answer.as_bytes()[..answer.len() - 1]);
    assert_eq!(client.at(secs(10) - NS), NONE);
    client.session.handle_timeout(client.clock.at(secs(10)));
    assert!(matches!(client.closed(), CloseReason::Timeout(Deadline::Handshake)));
}

#[test]
fn a_byte_each_second_does_not_put_the_timeout_off() {
    let mut server = server();
    for (second, byte) in (1..10).zip(REQUEST.bytes()) {
        assert_eq!(server.at(secs(second)), NONE);
        server.input(&[byte]);
    }
    server.session.handle_timeout(server.clock.at(secs(10)));
    assert!(matches!(server.closed(), CloseReason::Timeout(Deadline::Handshake)));
}

#[test]
fn once_open_the_handshake_has_no_deadline_any_more() {
    for mut open in Solo::opened_both(|c| c) {
        assert_eq!(open.session.poll_timeout(), None);
        assert_eq!(open.at(secs(1000)), NONE);
    }
}

/// An attack like CVE-2026-100658: bytes that are pipelined before the upgrade must not grow anything.
#[test]
fn nothing_is_read_while_a_verdict_is_due() {
    let mut server = server();
    let frames: Vec<u8> = server.peers((0..100).map(|n| Frame::text(format!("{n}"))));
    server.input(&[format!("{REQUEST}\r\n").as_bytes(), &frames[..]].concat());
    assert_eq!(server.poll(), ["Request /chat"]);
    for _ in 0..3 {
        assert!(!server.session.wants_read() && !server.session.wants_poll());
        assert_eq!((server.poll(), server.session.stats().buffered), (vec![], frames.len()));
    }
    accept(&mut server);
    let told = server.poll();
    assert_eq!(told[0], "Open");
    assert_eq!(told[1..], (0..100).map(|n| format!("Text(\"{n}\")")).collect::<Vec<_>>());
    assert!(server.session.wants_read());
}

/// Bytes after the head reach the reader once and in order, wherever the read ended.
#[test]
fn frames_behind_the_head_are_messages() {
    let head = format!("{REQUEST}\r\n");
    let behind = |solo: &mut Solo| {
        let frames = [Frame::text("a"), Frame::ping("?"), Frame::binary([7; 300]), Frame::text("b").more()];
        [solo.peers(frames), solo.peers([Frame::continuation("c")])].concat()
    };
    let told = [
        "Text(\"a\")".to_owned(),
        format!("Binary({:?})", bytes::Bytes::from([7; 300].to_vec())),
        "Text(\"bc\")".into(),
    ];
    let frames_len = behind(&mut server()).len();
    for cut in 0..=frames_len {
        let mut server = server();
        let frames = behind(&mut server);
        server.input(&[head.as_bytes(), &frames[..cut]].concat());
        assert_eq!(server.poll(), ["Request /chat"]);
        accept(&mut server);
        let mut events = server.poll();
        server.input(&frames[cut..]);
        events.extend(server.poll());
        assert_eq!((&events[0][..], &events[1..]), ("Open", &told[..]), "cut at {cut}");
        let written = server.written();
        let end = written.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(Frame::parse_all(&written[end..]), [Frame::pong("?")]);
    }
    let (mut client, answer) = client_and_answer();
    let frames = behind(&mut client);
    client.input(&[answer.as_bytes(), &frames[..]].concat());
    let events = client.poll();
    assert_eq!((&events[0][..], &events[1..]), ("Open", &told[..]));
}

#[test]
fn a_verdict_may_come_later() {
    let mut server = asked();
    server.respond(Verdict::Defer);
    assert_eq!(server.written(), b"");
    assert_eq!(server.at(secs(5)), NONE);
    server.respond(Verdict::Defer);
    accept(&mut server);
    assert_eq!(server.poll(), ["Open"]);
    assert!(server.written().starts_with(b"HTTP/1.1 101 "));
    assert_eq!(server.at(secs(20)), NONE, "the deadline of the handshake is gone");
}

#[test]
fn a_verdict_that_never_comes_ends_in_a_timeout() {
    let mut server = asked();
    server.respond(Verdict::Defer);
    assert_eq!(server.at(secs(10) - NS), NONE);
    server.session.handle_timeout(server.clock.at(secs(10)));
    assert!(matches!(server.closed(), CloseReason::Timeout(Deadline::Handshake)));
    assert_eq!(server.written(), b"");
}

#[test]
fn a_verdict_after_the_end_changes_nothing() {
    type End = fn(&mut Solo);
    let ways: [(&str, End); 5] = [
        ("timeout", |server| server.session.handle_timeout(server.clock.at(secs(10)))),
        ("abort", |server| server.session.close(server.clock.now(), Close::abort())),
        ("panic", |server| server.session.close(server.clock.now(), Close::panicked())),
        ("failure", |server| server.session.handle_io_error(server.clock.now(), ErrorKind::ConnectionReset)),
        ("close", |server| server.session.close(server.clock.now(), Close::graceful())),
    ];
    for (way, end) in ways {
        for polled in [false, true] {
            let mut server = asked();
            end(&mut server);
            let mut told = if polled { server.poll() } else { vec![] };
            assert_not_asked(&mut server);
            let said = server.written();
            assert_eq!(said.starts_with(b"HTTP/1.1 503 "), way == "close", "{way}");
            assert!(way == "close" || said.is_empty(), "{way}");
            if way == "close" {
                server.shut_down();
                server.eof();
            }
            told.extend(server.poll());
            assert!(matches!(&told[..], [closed] if closed.starts_with("Closed: ")), "{way}: {told:?}");
            assert!(server.session.is_closed());
        }
    }
    let mut server = asked();
    server.eof();
    assert!(matches!(server.closed(), CloseReason::Eof { mid_frame: true }));
    assert_not_asked(&mut server);
}

fn assert_not_asked(solo: &mut Solo) {
    for verdict in
        [Verdict::Defer, Verdict::Accept(Accept::new()), Verdict::Respond(Response::new(404).unwrap())]
    {
        let answered = solo.session.respond(solo.clock.now(), verdict);
        assert_eq!(answered, Err(RespondError::NotAsked));
    }
}

#[test]
fn only_a_request_that_waits_can_be_answered() {
    for mut unasked in [server(), client(), Solo::opened_server(), Solo::opened_client()] {
        assert_not_asked(&mut unasked);
    }
    let mut server = asked();
    accept(&mut server);
    assert_not_asked(&mut server);
    assert_eq!(server.poll(), ["Open"]);
}

#[test]
fn a_refusal_has_a_status_and_a_body() {
    let mut server = asked();
    let response = Response::new(403).unwrap().header("X-Why", "no").unwrap().body("not you\n");
    server.respond(Verdict::Respond(response));
    let (response, error) = refused(&mut server, 403);
    assert_eq!(
        response,
        "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 8\r\nX-Why: no\r\n\r\nnot you\n"
    );
    assert_eq!(error, HandshakeError::Refused { status: 403 });
}

#[test]
fn a_plain_request_is_for_the_application_where_it_wants_that() {
    let plain = b"GET /health?x=1 HTTP/1.1\r\nHost: a\r\nOrigin: http://else.where\r\n\r\n";
    let mut server = server_with(ServerOptions::new().plain_requests(true));
    server.input(plain);
    let events = server.events();
    let [Event::Request(request)] = &events[..] else { panic!("{events:?}") };
    assert!(!request.is_upgrade());
    assert_eq!((request.path(), request.query()), ("/health", Some("x=1")));
    let refused_accept = server.session.respond(server.clock.now(), Verdict::Accept(Accept::new()));
    assert_eq!(refused_accept, Err(RespondError::Accept(AcceptError::NotUpgrade)));
    assert_eq!(server.written(), b"");
    server.respond(Verdict::Respond(Response::new(200).unwrap().body("fine")));
    let (response, error) = refused(&mut server, 200);
    assert!(response.ends_with("\r\n\r\nfine"));
    assert_eq!(error, HandshakeError::Refused { status: 200 });

    let asks = asked_with(ServerOptions::new().plain_requests(true), "");
    assert!(!asks.session.wants_read(), "an upgrade still waits for a verdict");

    let mut usual = self::server();
    usual.input(plain);
    let (_, error) = refused(&mut usual, 426);
    assert_eq!(error, HandshakeError::NotUpgrade);
}

/// Any method, and HTTP/1.0 as well as 1.1, as long as the request is well-formed, has no body and asks for
/// no upgrade.
#[test]
fn plain_requests_of_any_method_are_for_the_application() {
    let table = [
        ("HEAD /health?x=1 HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD", "/health?x=1"),
        ("OPTIONS / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "OPTIONS", "/"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS", "*"),
        ("DELETE /a HTTP/1.1\r\nHost: a\r\n\r\n", "DELETE", "/a"),
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", "get", "/"),
        ("GET /old HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", "GET", "/old"),
        ("GET / HTTP/1.0\r\n\r\n", "GET", "/"),
        ("HEAD / HTTP/1.0\r\nUser-Agent: a\r\n\r\n", "HEAD", "/"),
        ("OPTIONS / HTTP/1.0\r\n\r\n", "OPTIONS", "/"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "POST", "/"),
    ];
    for (head, method, target) in table {
        for at_once in [1, usize::MAX] {
            let mut server = server_with(ServerOptions::new().plain_requests(true));
            head.as_bytes().chunks(at_once.min(head.len())).for_each(|piece| server.input(piece));
            let events = server.events();
            let [Event::Request(request)] = &events[..] else { panic!("{head}: {events:?}") };
            assert!(!request.is_upgrade());
            assert_eq!((request.method(), request.target()), (method, target));
            let refused_accept = server.session.respond(server.clock.now(), Verdict::Accept(Accept::new()));
            assert_eq!(refused_accept, Err(RespondError::Accept(AcceptError::NotUpgrade)), "{head}");
            server.respond(Verdict::Respond(
                Response::new(200).unwrap().header("X-A", "b").unwrap().body("fine"),
            ));
            let (response, _) = refused(&mut server, 200);
            let expected = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\nX-A: b\r\n\r\n";
            // The length is the one for a GET (RFC 9110 section 9.3.2).
            let body = if method == "HEAD" { "" } else { "fine" };
            assert_eq!(response, format!("{expected}{body}"), "{head}");
        }
    }
    let upgrade = format!("{REQUEST}\r\n");
    let refused_are = [
        // An upgrade needs GET and HTTP/1.1, and anything that looks like part of one counts as one.
        (upgrade.replace("GET", "HEAD"), 405),
        (upgrade.replace("GET", "OPTIONS"), 405),
        (upgrade.replace("HTTP/1.1", "HTTP/1.0"), 505),
        ("GET / HTTP/1.0\r\nHost: a\r\nUpgrade: websocket\r\n\r\n".to_owned(), 505),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Version: 13\r\n\r\n".to_owned(), 405),
        // This server does not read bodies or look for their ends.
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_owned(), 405),
        ("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), 405),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_owned(), 400),
        ("GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), 400),
        ("OPTIONS / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n".to_owned(), 405),
        // No response makes sense for a tunnel.
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n".to_owned(), 405),
        ("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 405),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("HEAD / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("HEAD / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("GET http://a/ HTTP/1.0\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n".to_owned(), 505),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), 505),
        ("GET /\r\n\r\n".to_owned(), 400),
    ];
    for (head, status) in refused_are {
        let mut server = server_with(ServerOptions::new().plain_requests(true));
        server.input(head.as_bytes());
        let (response, _) = refused(&mut server, status);
        let (_, body) = response.split_once("\r\n\r\n").unwrap();
        assert_eq!(body.is_empty(), head.starts_with("HEAD"), "{head}: {response}");
    }
    // Without that option, plain requests are refused as usual.
    for (head, status) in [(table[0].0, 405), (table[1].0, 405), (table[5].0, 505), (table[6].0, 505)] {
        let mut server = server();
        server.input(head.as_bytes());
        refused(&mut server, status);
    }
}

#[test]
fn pages_of_other_origins_are_not_let_in_unless_the_server_says_so() {
    let evil = "Origin: https://evil.example\r\n";
    let mut server = server();
    server.input(format!("{REQUEST}{evil}\r\n").as_bytes());
    let (_, error) = refused(&mut server, 403);
    assert!(matches!(error, HandshakeError::Origin { .. }));

    asked_with(ServerOptions::new(), "Origin: https://server.example.com\r\n");
    asked_with(ServerOptions::new().origin(OriginPolicy::Any), evil);
    asked_with(ServerOptions::new().origin(OriginPolicy::List(vec!["https://evil.example".into()])), evil);
    let mut server = server_with(ServerOptions::new().origin(OriginPolicy::List(vec![])));
    server.input(format!("{REQUEST}Origin: http://server.example.com\r\n\r\n").as_bytes());
    refused(&mut server, 403);
}

#[test]
fn a_client_takes_no_answer_but_that_to_its_key() {
    let mut client = client();
    client.written();
    let other = answer_to(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "");
    client.input(other.as_bytes());
    assert_eq!((client.poll(), client.written()), (vec![], vec![]));
    client.shut_down();
    client.eof();
    assert!(matches!(handshake_error(&mut client), HandshakeError::AcceptKey { .. }));
}

#[test]
fn a_client_fails_on_answers_that_are_no_upgrade() {
    type Change = fn(&str) -> String;
    let table: [(&str, Change); 6] = [
        ("no Upgrade", |answer| answer.replace("Upgrade: websocket\r\n", "")),
        ("another Upgrade", |answer| answer.replace("websocket", "h2c")),
        ("no Connection", |answer| answer.replace("Connection: Upgrade\r\n", "")),
        ("no key", |answer| answer.replace("Sec-WebSocket-Accept", "X-Accept")),
        ("HTTP/1.0", |answer| answer.replace("HTTP/1.1", "HTTP/1.0")),
        ("no HTTP", |_| "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned()),
    ];
    for (what, change) in table {
        let (mut client, answer) = client_and_answer();
        client.input(change(&answer).as_bytes());
        assert_eq!((client.poll(), client.written()), (vec![], vec![]), "{what}");
        client.shut_down();
        client.eof();
        handshake_error(&mut client);
    }
}

#[test]
fn a_client_is_told_the_status_of_a_refusal() {
    let mut client = client();
    client.written();
    client.input(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 8\r\n\r\nnot you\n");
    assert_eq!((client.poll(), client.written()), (vec![], vec![]));
    client.shut_down();
    client.eof();
    let error = handshake_error(&mut client);
    let HandshakeError::Status { status: 403, reason, headers } = error else { panic!("{error}") };
    assert_eq!((reason.as_str(), headers.get("content-length")), ("Forbidden", Some("8")));
}

#[test]
fn a_refused_client_ends_within_the_close_timeout() {
    let mut client = client();
    client.written();
    client.input(b"HTTP/1.1 503 Busy\r\n\r\n");
    assert_eq!(client.poll(), NONE);
    client.shut_down();
    assert_eq!(client.at(secs(5) - NS), NONE);
    client.session.handle_timeout(client.clock.at(secs(5)));
    assert!(matches!(handshake_error(&mut client), HandshakeError::Status { status: 503, .. }));
}

#[test]
fn nothing_is_taken_to_send_before_the_session_is_open() {
    for mut solo in [server(), asked(), client()] {
        assert!(!solo.session.is_open() && !solo.session.is_writable());
        match solo.session.send(Message::text("early")) {
            Err(SendError::NotOpen(item)) => assert_eq!(item, Message::text("early")),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_close_during_the_handshake_ends_it() {
    for mut solo in [server(), asked(), client(), client_and_answer().0] {
        solo.session.close(solo.clock.now(), Close::graceful());
        assert_eq!(solo.poll(), NONE);
        let written = solo.written();
        assert!(!written.contains(&0x88), "no close frame before the session is open: {written:x?}");
        solo.shut_down();
        solo.input(b"too late\r\n\r\n");
        assert_eq!(solo.poll(), NONE);
        solo.eof();
        assert!(matches!(solo.closed(), CloseReason::Local { flushed: true }));
        assert!(matches!(solo.session.send("a".into()), Err(SendError::Closed(_))));
    }
    for mut solo in [server(), asked(), client()] {
        solo.session.close(solo.clock.now(), Close::abort());
        assert!(matches!(solo.closed(), CloseReason::Local { .. }));
        assert_eq!(solo.written(), b"");
    }
}

/// The peer's head may arrive before the close is carried out.
#[test]
fn a_head_that_comes_after_a_close_opens_nothing() {
    let (mut client, answer) = client_and_answer();
    client.session.close(client.clock.now(), Close::graceful());
    client.input(answer.as_bytes());
    assert_eq!(client.poll(), NONE);
    client.shut_down();
    client.eof();
    assert!(matches!(client.closed(), CloseReason::Local { .. }));

    let mut server = server();
    server.session.close(server.clock.now(), Close::graceful());
    server.input(format!("{REQUEST}\r\n").as_bytes());
    assert_eq!((server.poll(), server.written()), (vec![], vec![]));
    server.shut_down();
    server.eof();
    assert!(matches!(server.closed(), CloseReason::Local { .. }));
}

#[test]
fn the_peers_end_during_the_handshake_cuts_it_off() {
    type Make = fn() -> Solo;
    let heads: [(Make, &str); 4] =
        [(server, ""), (server, REQUEST), (client, ""), (client, "HTTP/1.1 101 Switching Protocols\r\n")];
    for (make, head) in heads {
        let mut solo = make();
        solo.written();
        solo.input(head.as_bytes());
        solo.eof();
        assert!(matches!(solo.closed(), CloseReason::Eof { mid_frame: true }), "{head}");
        assert_eq!(solo.written(), b"");
    }
    let mut server = asked();
    server.eof();
    assert!(matches!(server.closed(), CloseReason::Eof { mid_frame: true }));
}

/// The whole head and the end of the stream may come together.
#[test]
fn a_head_before_the_peers_end_still_counts() {
    let (mut client, answer) = client_and_answer();
    client.input(&[answer.as_bytes(), &Frame::text("a").bytes(), &Frame::close(1000, "").bytes()].concat());
    client.eof();
    let told = client.poll();
    assert_eq!(told[..2], ["Open".to_owned(), "Text(\"a\")".to_owned()]);
    client.written();
    client.shut_down();
    assert!(matches!(client.closed(), CloseReason::Peer(CloseFrame { .. })));
}

#[test]
fn a_failure_of_the_transport_ends_the_handshake() {
    for mut solo in [server(), asked(), client(), client_and_answer().0] {
        solo.session.handle_io_error(solo.clock.now(), ErrorKind::ConnectionRefused);
        assert!(matches!(
            solo.closed(),
            CloseReason::Io(IoFailure { kind: ErrorKind::ConnectionRefused, .. })
        ));
        assert_eq!((solo.written(), solo.session.poll_timeout()), (vec![], None));
    }
}

#[test]
fn every_connection_has_a_key_of_its_own() {
    let request = |seed| {
        let socket = getty_core::websocket::WebSocket::client(
            ClientRequest::new("ws://a/").unwrap(),
            testkit::websocket::peers::random(seed),
        );
        String::from_utf8(Solo::new(socket, config(|c| c), false).written()).unwrap()
    };
    let key = |request: &str| {
        request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ").map(str::to_owned)).unwrap()
    };
    assert_ne!(key(&request(1)), key(&request(2)));
    assert_eq!(key(&request(1)).len(), 24);
}
