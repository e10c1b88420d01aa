//! Any bytes as an opening handshake, to a server and to a client.

use std::sync::Arc;

use bytes::Bytes;
use getty_core::websocket::{
    Accept, ClientRequest, Deflate, OriginPolicy, Response, ServerOptions, Verdict, WebSocket,
};
use getty_core::{Close, Config, Event, Session};
use tungstenite::handshake::client::Response as Parsed;
use tungstenite::handshake::derive_accept_key;
use tungstenite::handshake::machine::TryParse;

use super::{frames, random, written};
use crate::clock::Clock;
use crate::split::cut;

const MAX_HEAD: usize = 600;

/// The result of a handshake.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Outcome {
    /// The request, as the application saw it.
    asked: Option<String>,
    /// The agreed parameters.
    opened: Option<String>,
    protocol: Option<String>,
    reason: String,
    sent: Vec<u8>,
}

/// Runs a fuzzer's input: the first byte of `data` chooses the server's response, and whether the others are
/// the request or describe it.
///
/// # Panics
/// If the result depends on how the request is split, or if the response is wrong.
pub fn run_server(data: &[u8]) {
    let Some((&how, data)) = data.split_first() else { return };
    let wire = if how & 1 == 0 { spell(&REQUEST.map(str::to_owned), data) } else { data.to_vec() };
    let whole = serve(how, &[&wire]);
    for pieces in [wire.chunks(1).collect(), cut(&wire, 40, u64::from(how))] {
        assert_eq!(serve(how, &pieces), whole, "cut into {pieces:?}");
    }
    check_answer(how, &wire, &whole);
}

fn check_answer(how: u8, wire: &[u8], outcome: &Outcome) {
    if outcome.sent.is_empty() {
        assert!(outcome.asked.is_none() && outcome.opened.is_none(), "{outcome:?}");
        return;
    }
    let (size, answer) = Parsed::try_parse(&outcome.sent).expect("an answer").expect("all of it");
    let head = String::from_utf8_lossy(&outcome.sent[..size]);
    assert!(head.starts_with("HTTP/1.1 ") && head.ends_with("\r\n\r\n"), "{head}");
    if answer.status() == 101 {
        assert!(outcome.opened.is_some() && outcome.asked.is_some() && accepts(how), "{outcome:?}");
        let key = value(wire, "sec-websocket-key").expect("it was accepted");
        assert_eq!(answer.headers()["sec-websocket-accept"], derive_accept_key(key.as_bytes()));
        let line = wire.split(|&byte| byte == b'\r').next().expect("there is a first");
        assert!(line.starts_with(b"GET ") && line.ends_with(b" HTTP/1.1"), "{line:?}");
        frames::check(&outcome.sent[size..], false, false);
    } else {
        assert!(outcome.opened.is_none() && outcome.reason.starts_with("Handshake"), "{outcome:?}");
        let length: usize = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
        let length = if wire.starts_with(b"HEAD ") { 0 } else { length };
        assert_eq!(outcome.sent.len(), size + length, "one answer, and all of it");
    }
}

fn accepts(how: u8) -> bool {
    how & 0x06 != 0x06
}

/// Runs a server's side of a handshake.
fn serve(how: u8, pieces: &[&[u8]]) -> Outcome {
    let mut options = ServerOptions::new().protocol("chat").plain_requests(how & 8 != 0);
    if how & 16 != 0 {
        options = options.deflate(Deflate::new());
    }
    if how & 32 != 0 {
        options = options.origin(OriginPolicy::Any);
    }
    let protocol = WebSocket::server(options);
    shake_hands(protocol, pieces, |session, outcome| {
        let verdict = match how & 0x06 {
            0x06 => Verdict::Respond(Response::new(403).expect("a status").body(Bytes::from_static(b"no"))),
            0x04 => Verdict::Accept(Accept::new().header("X-Session", "1").expect("a header")),
            _ => Verdict::Accept(Accept::new()),
        };
        let now = Clock::new().now();
        session.respond(now, Verdict::Defer).expect("a request waits");
        if session.respond(now, verdict).is_err() {
            assert!(outcome.asked.is_some() && accepts(how), "only a plain request can't be accepted");
            session
                .respond(now, Verdict::Respond(Response::new(200).expect("a status")))
                .expect("any can be");
        }
        assert!(session.respond(now, Verdict::Defer).is_err(), "answered twice");
    })
}

/// Runs a fuzzer's input: the first byte of `data` chooses the client's request, and whether the others are
/// the response or describe it.
///
/// # Panics
/// If the result depends on how the response is split, or if the client accepts an invalid one.
pub fn run_client(data: &[u8]) {
    let Some((&how, data)) = data.split_first() else { return };
    let key = value(&connect(how, &[]).sent, "sec-websocket-key").expect("a key");
    let accept = derive_accept_key(key.as_bytes());
    let wire = if how & 1 == 0 {
        spell(&RESPONSE.map(|line| line.replace("{accept}", &accept)), data)
    } else {
        String::from_utf8_lossy(data).replace("{accept}", &accept).into_bytes()
    };
    let whole = connect(how, &[&wire]);
    for pieces in [wire.chunks(1).collect(), cut(&wire, 40, u64::from(how))] {
        assert_eq!(connect(how, &pieces), whole, "cut into {pieces:?}");
    }
    if whole.opened.is_some() {
        let wire = after_interim(&wire);
        assert!(wire.starts_with(b"HTTP/1.1 101"), "opened by a status other than 101");
        assert_eq!(value(wire, "sec-websocket-accept"), Some(accept), "opened without Sec-WebSocket-Accept");
        let offered = if how & 2 != 0 { &["chat", "mqtt"][..] } else { &[] };
        assert!(whole.protocol.as_deref().is_none_or(|protocol| offered.contains(&protocol)));
        let extensions = value(wire, "sec-websocket-extensions").unwrap_or_default();
        let is_empty = extensions.split(',').all(|element| element.trim().is_empty());
        assert!(how & 4 != 0 || is_empty, "none was offered");
    } else {
        assert!(whole.reason.starts_with("Handshake") || whole.reason.starts_with("Eof"), "{whole:?}");
    }
}

/// The bytes after the interim responses, which a client skips.
fn after_interim(mut wire: &[u8]) -> &[u8] {
    for _ in 0..8 {
        let is_interim = wire.starts_with(b"HTTP/1.1 1") && !wire.starts_with(b"HTTP/1.1 101");
        match wire.windows(4).position(|end| end == b"\r\n\r\n").filter(|_| is_interim) {
            Some(end) => wire = &wire[end + 4..],
            None => break,
        }
    }
    wire
}

fn connect(how: u8, pieces: &[&[u8]]) -> Outcome {
    let mut request = ClientRequest::new("ws://example.com/chat").expect("valid");
    if how & 2 != 0 {
        request = request.protocol("chat").and_then(|request| request.protocol("mqtt")).expect("valid");
    }
    if how & 4 != 0 {
        request = request.deflate(Deflate::new());
    }
    shake_hands(WebSocket::client(request, random(3)), pieces, |_, _| panic!("a request to a client"))
}

fn shake_hands(
    protocol: WebSocket,
    pieces: &[&[u8]],
    mut answer: impl FnMut(&mut Session<WebSocket>, &Outcome),
) -> Outcome {
    let config: Arc<Config> = Config::builder().max_head(MAX_HEAD).max_frame(100).build().expect("valid");
    let now = Clock::new().now();
    let mut session = Session::new(protocol, config, now);
    let mut outcome = Outcome::default();
    let mut work = |session: &mut Session<WebSocket>| {
        while let Some(event) = session.poll_event() {
            assert!(outcome.reason.is_empty(), "an event after Closed");
            match event {
                Event::Request(request) => {
                    assert!(outcome.asked.is_none() && outcome.opened.is_none());
                    outcome.asked = Some(format!("{request:?}"));
                    answer(session, &outcome);
                }
                Event::Open(opened) => {
                    assert!(outcome.opened.is_none());
                    let upgrade = opened.upgrade.expect("a WebSocket");
                    outcome.protocol = upgrade.protocol.clone();
                    outcome.opened = Some(format!("{upgrade:?}"));
                }
                Event::Closed(reason) => outcome.reason = format!("{reason:?}"),
                Event::Message(_) => assert!(outcome.opened.is_some(), "a message before Open"),
                _ => {}
            }
        }
        outcome.sent.extend(written(session, now));
        if session.wants_shutdown() {
            session.handle_shutdown(now);
        }
    };
    work(&mut session);
    for piece in pieces {
        session.handle_input(now, piece);
        work(&mut session);
        let buffered = session.stats().buffered;
        assert!(buffered <= MAX_HEAD + piece.len(), "{buffered} bytes are held");
    }
    session.handle_eof(now);
    (0..3).for_each(|_| work(&mut session));
    session.close(now, Close::graceful());
    (0..3).for_each(|_| work(&mut session));
    assert!(session.is_closed(), "not closed after its end: {outcome:?}");
    outcome
}

/// The value of a header that occurs once.
fn value(wire: &[u8], name: &str) -> Option<String> {
    let head = String::from_utf8_lossy(wire);
    let (head, _) = head.split_once("\r\n\r\n").unwrap_or((&head, ""));
    let mut values = head.split("\r\n").filter_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim_matches([' ', '\t']).to_owned())
    });
    values.next().filter(|_| values.next().is_none())
}

const REQUEST: [&str; 6] = [
    "GET /chat HTTP/1.1",
    "Host: example.com",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
];

const RESPONSE: [&str; 4] = [
    "HTTP/1.1 101 Switching Protocols",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Accept: {accept}",
];

/// Lines that belong in handshakes, or nearly do.
const LINES: [&str; 56] = [
    "GET /chat?room=1 HTTP/1.1",
    "GET ws://example.com/chat HTTP/1.1",
    "GET http://example.com/ HTTP/1.1",
    "GET /#fragment HTTP/1.1",
    "GET * HTTP/1.1",
    "POST /chat HTTP/1.1",
    "GET /chat HTTP/1.0",
    "GET /chat HTTP/2.0",
    "GET  /chat HTTP/1.1",
    "HTTP/1.1 101",
    "HTTP/1.1 101 ",
    "HTTP/1.0 101 Switching Protocols",
    "HTTP/1.1 200 OK",
    "HTTP/1.1 301 Moved",
    "HTTP/1.1 401 Unauthorized",
    "HTTP/1.1 999 x",
    "Host: example.com:80",
    "Host:",
    "Host: a b",
    "Host: [::1]:8080",
    "host: EXAMPLE.com",
    "Upgrade: WebSocket",
    "Upgrade: h2c, websocket",
    "Upgrade: websocket2",
    "Connection: keep-alive, Upgrade",
    "Connection: close",
    "Connection: upgrade,",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Key: AAAA",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==",
    "Sec-WebSocket-Key:  dGhlIHNhbXBsZSBub25jZQ== \t",
    "Sec-WebSocket-Version: 8",
    "Sec-WebSocket-Version: 13, 8",
    "Sec-WebSocket-Protocol: chat",
    "Sec-WebSocket-Protocol: mqtt, chat",
    "Sec-WebSocket-Protocol: a b",
    "Sec-WebSocket-Protocol:",
    "Sec-WebSocket-Extensions: permessage-deflate",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits; server_max_window_bits=10",
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=\"9\", x-other; a=\"\\\"\"",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99",
    "Sec-WebSocket-Extensions: ;=",
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    "Origin: http://example.com",
    "Origin: https://evil.example",
    "Origin: null",
    "Content-Length: 0",
    "Content-Length: 5",
    "Transfer-Encoding: chunked",
    "Cookie: a=b; c=\u{e9}",
    " folded: line",
    "X-Empty:",
    "X : space before the colon",
    "no colon",
    "X-Nul: \0",
];

/// Applies the changes in `data` to a head, three bytes each, and appends everything after a 0xff.
fn spell(lines: &[String], data: &[u8]) -> Vec<u8> {
    let (mut lines, mut end, mut flips) = (lines.to_vec(), "\r\n", Vec::new());
    let mut rest = data;
    while let Some((&[what, line, which], more)) = rest.split_first_chunk::<3>() {
        if what == 0xff {
            break;
        }
        rest = more;
        let (line, spare) = (usize::from(line) % lines.len(), LINES[usize::from(which) % LINES.len()]);
        match what % 9 {
            0 | 1 => lines[line] = spare.to_owned(),
            2 | 3 => lines.insert(line + 1, spare.to_owned()),
            4 if lines.len() > 1 => drop(lines.remove(line)),
            5 => lines.insert(line, lines[line].clone()),
            6 => lines[line].extend(std::iter::repeat_n('x', usize::from(which))),
            7 => flips.push((usize::from(line as u8) * 31 + usize::from(what), which)),
            8 if which < 32 => end = "\n",
            _ => lines[line] = lines[line].to_ascii_uppercase(),
        }
    }
    let mut wire: Vec<u8> =
        lines.iter().flat_map(|line| [line.as_bytes(), end.as_bytes()].concat()).collect();
    wire.extend(end.as_bytes());
    for (at, flip) in flips {
        let at = at % wire.len();
        wire[at] ^= flip;
    }
    wire.extend(rest.iter().skip(1));
    wire
}
