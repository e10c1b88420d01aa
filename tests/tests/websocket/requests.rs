//! Requests of WebSocket clients, and how logs show them and sessions.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use getty_core::codec::{LengthDelimited, Raw, Sink, Source};
use getty_core::datagram::{PacketOptions, Packets, RecvBatch};
use getty_core::layer::{Layer, Plain, WireBuffers};
use getty_core::websocket::{
    Accept, ClientRequest, Deflate, Message, Part, Parts, Response, ServerOptions, Verdict, WebSocket,
};
use getty_core::{Config, Event, Framed, Memory, Protocol, Session, Timestamp};
use testkit::clock::Clock;
use testkit::websocket::peers::{Frame, Solo, client_request, config, random};
use testkit::websocket::written;

/// Otherwise, the refusal would depend on how the head is cut.
#[test]
fn nothing_is_looked_at_beyond_the_limit_of_a_head() {
    let head = [&b"GET / HTTP/1.1\r\nX: "[..], &[b'x'; 600], b"\nX: bare line feed\r\n\r\n"].concat();
    for piece in [head.len(), 1] {
        let (config, now) = (Config::builder().max_head(600).build().unwrap(), Clock::new().now());
        let mut server = Session::new(WebSocket::server(ServerOptions::new()), config, now);
        for bytes in head.chunks(piece) {
            server.handle_input(now, bytes);
            assert!(server.poll_event().is_none());
        }
        let answer = written(&mut server, now);
        assert!(answer.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
    }
}

/// A secret that must not appear in any header for secrets, in a query, or as payload.
const SECRET: &str = "hunter2hunter2";
const SECRET_HEADERS: [&str; 10] = [
    "Authorization",
    "proxy-authorization",
    "Cookie",
    "Set-Cookie",
    "X-Api-Key",
    "X-CSRF-Token",
    "X-Amz-Security-Token",
    "Client-Secret",
    "X-Password",
    "Authentication-Info",
];

/// Checks that `Debug` of `value` shows `shown`, but neither the secret nor its bytes.
#[track_caller]
fn assert_hides(value: &impl Debug, shown: &str) {
    for text in [format!("{value:?}"), format!("{value:#?}")] {
        let packed: String = text.split_whitespace().collect();
        let bytes = format!("{:?}", SECRET.as_bytes()).replace(' ', "");
        assert!(!text.contains(SECRET), "{text}");
        assert!(!packed.contains(bytes.trim_matches(['[', ']'])), "{text}");
        assert!(text.contains(shown), "{shown:?} is not in {text}");
    }
}

fn secret_request() -> ClientRequest {
    let request = ClientRequest::new(&format!("ws://server.example.com/chat?token={SECRET}")).unwrap();
    // A browser can send a token in no other header than this one.
    let request =
        request.protocol("chat").and_then(|request| request.protocol(&format!("bearer.{SECRET}"))).unwrap();
    SECRET_HEADERS.iter().fold(request.header("X-Plain", "plainly").unwrap(), |request, name| {
        request.header(name, &format!("a={SECRET}; b")).unwrap()
    })
}

#[test]
fn debug_shows_no_secret_of_a_handshake() {
    let now = Clock::new().now();
    assert_hides(&secret_request(), "plainly");
    let mut client = Session::new(WebSocket::client(secret_request(), random(1)), Arc::default(), now);
    assert_hides(&client, "/chat");
    let head = written(&mut client, now);
    let key = std::str::from_utf8(&head).unwrap().split("Key: ").nth(1).unwrap().lines().next().unwrap();
    assert!(!format!("{client:?}").contains(key));

    let mut server = Session::new(WebSocket::server(ServerOptions::new()), Arc::default(), now);
    server.handle_input(now, &head[..head.len() - 2]);
    assert!(server.poll_event().is_none());
    assert_hides(&server, "Opening");
    server.handle_input(now, &head[head.len() - 2..]);
    let Some(Event::Request(request)) = server.poll_event() else { panic!("no request") };
    assert_eq!(request.query(), Some(&*format!("token={SECRET}")), "the request still has it");
    assert_eq!(request.headers().get("cookie"), Some(&*format!("a={SECRET}; b")));
    for shown in ["plainly", "/chat", "X-Api-Key", "server.example.com"] {
        assert_hides(&request, shown);
        assert_hides(&Event::<Message>::Request(request.clone()), shown);
    }
    assert_hides(&request.headers(), "plainly");
    assert_hides(&server, "/chat");
    assert!(!format!("{request:?}{server:?}").contains(key), "the key is hidden");

    let response = Response::new(401).unwrap().header("Set-Cookie", SECRET).unwrap().body(SECRET);
    assert_hides(&response, "401");
    assert_hides(&Verdict::Respond(response), "14 bytes");
    let accept = Accept::new().header("Set-Cookie", SECRET).unwrap().header("X-Plain", "plainly").unwrap();
    assert_hides(&accept, "plainly");
    server.respond(now, Verdict::Accept(accept)).unwrap();
    assert_hides(&server, "Open");
    let answer = written(&mut server, now);
    client.handle_input(now, &answer[..answer.len() - 1]);
    assert!(client.poll_event().is_none());
    assert_hides(&client, "Opening");
    client.handle_input(now, &answer[answer.len() - 1..]);
    for session in [&mut client, &mut server] {
        let Some(Event::Open(opened)) = session.poll_event() else { panic!("not open") };
        assert_hides(&opened, "plainly");
        assert_hides(&Event::<Message>::Open(opened), "plainly");
        assert_hides(session, "WebSocket");
    }

    let mut refused = Session::new(WebSocket::client(secret_request(), random(1)), Arc::default(), now);
    refused.handle_input(
        now,
        format!("HTTP/1.1 403 No\r\nSet-Cookie: {SECRET}\r\nX-Plain: plainly\r\n\r\n").as_bytes(),
    );
    refused.handle_eof(now);
    let _ = (refused.poll_event(), written(&mut refused, now));
    assert_hides(&refused.close_reason(), "plainly");
}

/// Sessions show how many bytes of messages they hold, but not which. Messages themselves are shown.
#[test]
fn debug_of_a_session_shows_no_payload() {
    fn check<P: Protocol<Messages: getty_core::Messages<Out = O>> + Debug, O>(
        session: &mut Session<P>,
        received: &[u8],
        sent: O,
    ) {
        let now = Clock::new().now();
        session.lend(Memory::new());
        session.handle_input(now, received);
        assert_hides(session, "Session");
        while session.poll_event().is_some() {}
        session.send(sent).unwrap();
        assert_hides(session, "Session");
        assert_hides(&session.outbound(now), "Outbound");
        assert_hides(&session.take_back(), "Memory");
        assert_hides(session, "Session");
    }
    let long = SECRET.repeat(1000);
    let frame = [&(long.len() as u32 + 1).to_be_bytes()[..], long.as_bytes()].concat();
    for zero_copy_from in [0, 1 << 20] {
        let config = config(|c| c.zero_copy_from(zero_copy_from));
        let mut framed = Session::new(Framed::new(LengthDelimited::new()), config.clone(), Timestamp::ORIGIN);
        check(&mut framed, &frame, Bytes::from(long.clone()));

        let options = || ServerOptions::new().deflate(Deflate::new());
        let extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        let mut whole = Solo::server(options(), config.clone()).opened_with(extension);
        let frames = [
            Frame::ping(SECRET),
            Frame::ping(SECRET),
            Frame::text(SECRET).more(),
            Frame::continuation(SECRET.repeat(2)).more(),
            Frame::continuation(&long),
        ];
        let bytes = whole.peers(frames.map(|frame| frame.masked([0; 4])));
        check(&mut whole.session, &bytes[..bytes.len() - 1], Message::text(long.clone()));

        let parts = WebSocket::server_of(Parts, ServerOptions::new());
        let mut parts = Solo::new(parts, config, true).opened();
        let bytes = parts.peers([Frame::text(&long).masked([0; 4])]);
        check(
            &mut parts.session,
            &bytes[..5000],
            Part::new(getty_core::websocket::MessageKind::Text, SECRET, true, true),
        );
    }
    // A pong that waits to be sent.
    let mut stuck = Solo::client(client_request(), config(|c| c.watermarks(0, 64 * 1024))).opened();
    stuck.session.send(Message::text("in the way")).unwrap();
    stuck.peer(Frame::ping(SECRET));
    assert_eq!(stuck.poll(), [""; 0]);
    assert_hides(&stuck.session, "14 bytes");

    let mut packets = Packets::new(Raw, PacketOptions::unconnected(), Arc::default(), Timestamp::ORIGIN);
    let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let mut batch = RecvBatch::new();
    assert!(batch.copy_from(peer.into(), SECRET.as_bytes()));
    assert_hides(&batch, "127.0.0.1");
    packets.handle_datagrams(Timestamp::ORIGIN, batch).unwrap();
    assert!(packets.handle_datagram(Timestamp::ORIGIN, peer.into(), SECRET.as_bytes()));
    assert_hides(&packets, "Packets");
    while packets.poll_event().is_some() {}
    packets.send_to(peer, Bytes::from(SECRET)).unwrap();
    assert_hides(&packets, "Packets");
    assert_hides(packets.outgoing(Timestamp::ORIGIN), "Outgoing");
    assert_hides(&packets.outgoing(Timestamp::ORIGIN).transmits().next(), "Transmit");

    let mut buffer = BytesMut::from(SECRET);
    assert_hides(&Source::new(&mut buffer), "14 bytes");
    assert_hides(&Sink::new(&mut buffer), "Sink");
    #[derive(Default)]
    struct Peeks(String);
    impl Layer for Peeks {
        fn unseal(
            &mut self,
            wire: &mut WireBuffers,
            plain: &mut Plain<'_>,
        ) -> Result<bool, getty_core::layer::LayerError> {
            plain.put_slice(&wire.received);
            wire.sealed.put_slice(&wire.received);
            self.0 = format!("{wire:?} {wire:#?} {plain:?} {plain:#?}");
            Ok(false)
        }
        fn is_handshaking(&self) -> bool {
            false
        }
        fn seal(&mut self, _: &[u8], _: &mut WireBuffers) -> Result<(), getty_core::layer::LayerError> {
            Ok(())
        }
        fn close(&mut self, _: &mut WireBuffers) {}
        fn handle_eof(&mut self) -> Result<(), getty_core::layer::LayerError> {
            Ok(())
        }
        fn describe(&mut self, _: &mut getty_core::Opened) {}
    }
    let layered = Framed::new(LengthDelimited::new()).under(Peeks::default());
    let mut layered = Session::new(layered, Arc::default(), Timestamp::ORIGIN);
    layered.handle_input(Timestamp::ORIGIN, format!("\0\0\0\u{20}{SECRET}").as_bytes());
    let seen = &layered.protocol().layer().0;
    assert!(!seen.is_empty() && !seen.contains(SECRET), "{seen}");

    assert!(format!("{:?}", Message::text(SECRET)).contains(SECRET));
}
