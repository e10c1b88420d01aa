//! Bytes written by others: the examples of RFC 6455, and recordings of Go getty.

use getty_core::codec::Raw;
use getty_core::websocket::{
    Accept, Deflate, Message, Packages, ProtocolError, ServerOptions, Verdict, WebSocket,
};
use getty_core::{Close, CloseReason, Config, Event};
use testkit::websocket::peers::{Frame, REQUEST, Solo, client_request, config};

const NONE: [&str; 0] = [];

/// Sections 1.2 and 1.3: the handshake.
#[test]
fn the_handshake_of_the_rfc() {
    let mut server = Solo::server(ServerOptions::new().protocol("superchat").protocol("chat"), config(|c| c));
    let offers = "Origin: http://server.example.com\r\nSec-WebSocket-Protocol: chat, superchat\r\n\r\n";
    server.input(format!("{REQUEST}{offers}").as_bytes());
    assert_eq!(server.poll(), ["Request /chat"]);
    server.respond(Verdict::Accept(Accept::new().protocol("chat")));
    assert_eq!(
        server.written().escape_ascii().to_string(),
        "HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\\r\\nSec-WebSocket-Protocol: chat\\r\\n\\r\\n"
    );
    assert_eq!(server.poll(), ["Open"]);
}

/// Section 5.7: the frames as received from either side.
#[test]
fn the_frames_of_the_rfc() {
    let mut client = Solo::opened_client();
    client.input(&[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    client.input(&[0x01, 0x03, 0x48, 0x65, 0x6c]);
    client.input(&[0x80, 0x02, 0x6c, 0x6f]);
    assert_eq!(client.poll(), [r#"Text("Hello")"#; 2]);
    client.input(&[0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    assert_eq!(client.poll(), NONE);
    assert_eq!(client.sent(), [Frame::pong("Hello")]);
    for (header, len) in
        [(&[0x82, 0x7e, 0x01, 0x00][..], 256), (&[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0], 65_536)]
    {
        client.input(header);
        client.input(&vec![7; len]);
        assert_eq!(client.messages(), [Message::binary(vec![7; len])]);
    }

    let mut server = Solo::opened_server();
    server.input(&[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    assert_eq!(server.poll(), [r#"Text("Hello")"#]);
    server.input(&[0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    assert_eq!(server.poll(), NONE, "an unasked pong is ignored");
    assert_eq!(server.sent(), []);
}

/// Section 5.7: the frames as written by this library.
#[test]
fn frames_are_written_as_in_the_rfc() {
    let mut server = Solo::opened_server();
    server.session.send(Message::text("Hello")).unwrap();
    assert_eq!(server.written(), [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    server.session.send(Message::binary(vec![7; 256])).unwrap();
    assert_eq!(server.written()[..4], [0x82, 0x7e, 0x01, 0x00]);
    server.session.send(Message::binary(vec![7; 65_536])).unwrap();
    assert_eq!(server.written()[..10], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);

    let key = |bytes: &mut [u8]| bytes.iter_mut().zip([0x37, 0xfa, 0x21, 0x3d]).for_each(|(b, k)| *b = k);
    let mut client = Solo::new(WebSocket::client(client_request(), key), config(|c| c), false).opened();
    client.session.send(Message::text("Hello")).unwrap();
    assert_eq!(client.written(), [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
}

/// One entry of a file in `vectors/getty`.
struct Entry {
    /// The direction, or the step.
    what: String,
    bytes: Vec<u8>,
    /// The payload, inflated.
    payload: Vec<u8>,
}

/// Reads the entries of a recording, whose file has one field on each line.
fn entries(recording: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in recording.lines() {
        let field = line.trim().trim_end_matches(',').split_once(": ");
        let Some((name, value)) = field else { continue };
        let value = value.trim_matches('"');
        match (name.trim_matches('"'), entries.last_mut()) {
            ("dir" | "step", _) => {
                entries.push(Entry { what: value.to_owned(), bytes: vec![], payload: vec![] })
            }
            ("hex", Some(entry)) => entry.bytes = hex(value),
            ("inflated_hex", Some(entry)) => entry.payload = hex(value),
            ("payload_hex", Some(entry)) if entry.payload.is_empty() => entry.payload = hex(value),
            _ => {}
        }
    }
    assert!(entries.len() > 5, "not a recording");
    entries
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().map(|c| c.to_digit(16).expect("a digit") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

const EXCHANGES: [&str; 2] = [
    include_str!("../../vectors/getty/ws-echo.json"),
    include_str!("../../vectors/getty/ws-echo-deflate.json"),
];

/// Options of a server that agrees on compression, as Go getty's does.
fn compressing() -> ServerOptions {
    ServerOptions::new().deflate(Deflate::new())
}

/// Our server understands what a Go client sent, and replies as the Go server did. Only the bytes of DEFLATE
/// may differ.
#[test]
fn a_go_client_is_served() {
    for recording in EXCHANGES {
        let mut server = Solo::server(compressing(), config(|c| c));
        let mut due = Vec::new();
        let mut echoed = 0;
        let (mut messages, mut payloads) = (Vec::new(), Vec::new());
        for entry in entries(recording) {
            if entry.what == "server->client" {
                // The Go server's own pings and its close frame are not replies.
                if entry.bytes.starts_with(b"HTTP") {
                    assert_eq!(
                        entry.bytes.escape_ascii().to_string(),
                        server.written().escape_ascii().to_string()
                    );
                } else if entry.bytes.first() == Some(&0x8a) {
                    assert_eq!(due.pop(), Some(Frame::pong("")));
                }
                continue;
            }
            if entry.bytes.is_empty() {
                server.eof();
                continue;
            }
            server.input(&entry.bytes);
            for event in server.events() {
                match event {
                    Event::Request(_) => server.respond(Verdict::Accept(Accept::new())),
                    Event::Message(message) => {
                        server.session.send(message.clone()).unwrap();
                        messages.push(message.into_bytes());
                        payloads.push(entry.payload.clone());
                        echoed += server.sent().len();
                    }
                    Event::Open(_) => {}
                    other => panic!("{other:?}"),
                }
            }
            if !entry.bytes.starts_with(b"GET") {
                due.extend(server.sent());
            }
        }
        assert_eq!((messages.len(), echoed), (3, 3));
        assert_eq!(messages, payloads);
        // The Go client ends without a close frame.
        assert_eq!(server.poll(), NONE);
        server.shut_down();
        assert!(matches!(server.closed(), CloseReason::Eof { mid_frame: true }));
    }
}

/// Our client with the key of Go getty's client, for which the recorded response is right.
fn client_with_the_key_of(recording: &str, config: std::sync::Arc<Config>) -> Solo {
    let entries = entries(recording);
    let request = String::from_utf8(entries[0].bytes.clone()).unwrap();
    let key = match request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")) {
        Some(key) => base64(key),
        None => base64("dGhlIHNhbXBsZSBub25jZQ=="), // the key of all `ws-server-*` recordings
    };
    let offers = recording.contains("permessage-deflate");
    let request = if offers { client_request().deflate(Deflate::new()) } else { client_request() };
    let random = move |bytes: &mut [u8]| bytes.iter_mut().zip(&key).for_each(|(byte, key)| *byte = *key);
    Solo::new(WebSocket::client(request, random), config, false)
}

fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = text.trim_end_matches('=').chars().map(|c| ALPHABET.find(c).expect("base64") as u32);
    let mut bytes = Vec::new();
    let (mut held, mut count) = (0, 0);
    for six in bits {
        (held, count) = (held << 6 | six, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((held >> count) as u8);
        }
    }
    bytes
}

/// Our client understands what a Go server sent. v1.2.6 closes with the text "bye-bye!!!" where a code should
/// be: "by" is 25209, which is not allowed in a frame.
#[test]
fn a_go_server_is_understood_until_its_malformed_close_frame() {
    for recording in EXCHANGES {
        let mut client = client_with_the_key_of(recording, config(|c| c));
        client.written();
        let mut expected = Vec::new();
        let mut messages = Vec::new();
        let mut pongs = 0;
        for entry in entries(recording).iter().filter(|entry| entry.what == "server->client") {
            client.input(&entry.bytes);
            if entry.bytes.first().is_some_and(|first| first & 0x0f == 2) {
                expected.push(entry.payload.clone());
            }
            messages.extend(client.messages());
            if entry.bytes == [0x89, 0] {
                assert_eq!(client.sent(), [Frame::pong("")]);
                pongs += 1;
            }
        }
        assert_eq!((expected.len(), pongs), (3, 2));
        assert_eq!(messages.into_iter().map(Message::into_bytes).collect::<Vec<_>>(), expected);
        let reason = client.failed_with(1002);
        assert!(
            matches!(reason, CloseReason::Protocol(ProtocolError::CloseCode { code: 25_209 })),
            "{reason}"
        );
    }
}

const SERVERS: [(&str, bool); 4] = [
    (include_str!("../../vectors/getty/ws-server-unset.json"), false),
    (include_str!("../../vectors/getty/ws-server-zip.json"), false),
    (include_str!("../../vectors/getty/ws-server-unset-deflate-negotiated.json"), true),
    (include_str!("../../vectors/getty/ws-server-zip-deflate-negotiated.json"), true),
];

/// Everything that a session of a Go server writes, including the well-formed close frame of later versions.
#[test]
fn everything_that_a_go_server_writes_is_understood() {
    let bytes: Vec<u8> = (0..=255).chain(0..=255).collect();
    let said = [&b"hello"[..], &[b'a'; 1000], b"hello", &bytes, b"bye"];
    for (recording, agreed) in SERVERS {
        for at_once in [1, 3, usize::MAX] {
            let mut client = client_with_the_key_of(recording, config(|c| c));
            client.written();
            let stream: Vec<u8> = entries(recording).into_iter().flat_map(|entry| entry.bytes).collect();
            let mut events = Vec::new();
            for piece in stream.chunks(at_once.min(stream.len())) {
                client.input(piece);
                events.extend(client.events());
            }
            let mut messages = Vec::new();
            for event in events {
                match event {
                    Event::Open(opened) => {
                        let agreement = opened.upgrade.unwrap().deflate().copied();
                        assert_eq!(agreement.is_some(), agreed);
                        assert!(
                            agreement
                                .is_none_or(|p| p.server_no_context_takeover && p.client_no_context_takeover)
                        );
                    }
                    Event::Message(Message::Binary(message)) => messages.push(message),
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(messages, said);
            assert_eq!(client.sent(), [Frame::pong(""), Frame::close(1000, "")], "no reply to the pong");
            client.eof();
            client.shut_down();
            let reason = client.closed();
            assert!(reason.is_clean());
            let CloseReason::Peer(frame) = reason else { panic!("{reason}") };
            assert_eq!((frame.code.unwrap().get(), &*frame.reason), (1000, "bye-bye!!!"));
        }
    }
}

/// Without compression, our server writes the same bytes as Go getty's.
#[test]
fn a_server_writes_what_a_go_server_writes() {
    for (recording, _) in &SERVERS[..2] {
        let entries = entries(recording);
        let mut server = Solo::server(ServerOptions::new(), config(|c| c));
        server.input(format!("{REQUEST}\r\n").as_bytes());
        server.poll();
        server.respond(Verdict::Accept(Accept::new()));
        assert_eq!(server.written(), entries[0].bytes);
        server.poll();
        let bytes: Vec<u8> = (0..=255).chain(0..=255).collect();
        for (at, said) in [&b"hello"[..], &[b'a'; 1000], b"hello", &bytes, b"bye"].into_iter().enumerate() {
            server.session.send(Message::binary(said.to_vec())).unwrap();
            assert_eq!(server.written(), entries[at + 1].bytes, "{}", entries[at + 1].what);
        }
        server.peer(Frame::ping("hi"));
        server.poll();
        assert_eq!(server.written(), entries[7].bytes);
        let bye =
            getty_core::websocket::CloseFrame::new(getty_core::websocket::CloseCode::NORMAL, "bye-bye!!!");
        server.session.close(server.clock.now(), Close::graceful().with_frame(bye));
        assert_eq!(server.written(), entries[8].bytes);
    }
}

/// A listener of packages serves a Go client as it would over TCP.
#[test]
fn the_packages_of_a_go_client_are_one_in_each_message() {
    let recording = EXCHANGES[1];
    let packages = WebSocket::server_of(Packages::new(Raw), compressing());
    let mut server = Solo::new(packages, config(|c| c), true);
    let mut packages = Vec::new();
    let mut expected = Vec::new();
    for entry in entries(recording) {
        if entry.what == "client->server" && entry.bytes.len() > 6 {
            server.input(&entry.bytes);
            for event in server.events() {
                match event {
                    Event::Request(_) => server.respond(Verdict::Accept(Accept::new())),
                    Event::Message(package) => packages.push(package),
                    _ => {}
                }
            }
            expected.extend(Some(entry.payload).filter(|payload| !payload.is_empty()));
        }
    }
    assert_eq!(packages.len(), 3);
    assert_eq!(packages, expected);
}
