//! tungstenite at the other end: a WebSocket implementation that shares no code with this one. It plays both
//! roles, over a pipe in memory and in virtual time.
#![expect(clippy::result_large_err, reason = "tungstenite's")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use getty_core::websocket::{
    Accept, ClientRequest, CloseCode, CloseFrame, HandshakeError, Message, MessageKind, Part, Parts,
    Response, ServerOptions, Upgrade, Verdict, WebSocket,
};
use getty_core::{Close, CloseReason, Config, Event, In, Protocol, Session};
use testkit::Rng;
use testkit::clock::Clock;
use testkit::websocket::{random, written};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::server::{Request, Response as Answer};
use tungstenite::http::{HeaderValue, StatusCode};
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame as TheirClose, Frame};
use tungstenite::{Error, HandshakeError as TheirHandshakeError, Message as Theirs};

/// The bytes on the way between the two ends.
#[derive(Clone, Default)]
struct Pipe(Rc<RefCell<Wires>>);

#[derive(Default)]
struct Wires {
    to_peer: VecDeque<u8>,
    from_peer: Vec<u8>,
    ended: bool,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wires = self.0.borrow_mut();
        match wires.to_peer.read(buffer)? {
            0 if !wires.ended => Err(io::ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().from_peer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A session of getty with tungstenite at the other end.
struct Talk<P: Protocol> {
    session: Session<P>,
    clock: Clock,
    pipe: Pipe,
    peer: Option<tungstenite::WebSocket<Pipe>>,
    /// The events of the session after `Open`.
    events: Vec<Event<In<P>>>,
    upgrade: Option<Upgrade>,
    /// The messages that tungstenite received.
    heard: Vec<Theirs>,
    end: Option<Error>,
    /// Whether tungstenite ended its stream before the session did.
    ended_first: bool,
    rng: Rng,
    /// The time from a write to a read.
    latency: Duration,
}

impl<P: Protocol> Talk<P> {
    fn new(protocol: P) -> Self {
        let config = Config::builder()
            .heartbeat_period(Duration::from_secs(30))
            .close_timeout(Duration::from_secs(5))
            .build()
            .unwrap();
        let clock = Clock::new();
        Talk {
            session: Session::new(protocol, config, clock.now()),
            clock,
            pipe: Pipe::default(),
            peer: None,
            events: Vec::new(),
            upgrade: None,
            heard: Vec::new(),
            end: None,
            ended_first: false,
            rng: Rng::new(7),
            latency: Duration::ZERO,
        }
    }

    fn with_server(client: P) -> Self {
        Talk::new(client).accepted_by(|_, answer| Ok(answer))
    }

    fn with_client(server: P) -> Self {
        Talk::new(server)
            .asked_by("ws://example.com/chat".into_client_request().unwrap(), Verdict::Accept(Accept::new()))
    }

    /// Makes tungstenite the server, which responds by `callback`.
    fn accepted_by(
        mut self,
        callback: impl FnOnce(&Request, Answer) -> Result<Answer, tungstenite::handshake::server::ErrorResponse>,
    ) -> Self {
        self.pass();
        let mut step = tungstenite::accept_hdr(self.pipe.clone(), callback);
        while let Err(TheirHandshakeError::Interrupted(middle)) = step {
            self.pass();
            step = middle.handshake();
        }
        match step {
            Ok(peer) => self.peer = Some(peer),
            Err(TheirHandshakeError::Failure(error)) => self.leave(error),
            Err(TheirHandshakeError::Interrupted(_)) => unreachable!(),
        }
        self.pass();
        self
    }

    /// Makes tungstenite the client with `request`. The session responds with `verdict`.
    fn asked_by(mut self, request: Request, verdict: Verdict) -> Self {
        let mut step = tungstenite::client(request, self.pipe.clone());
        let mut verdict = Some(verdict);
        for _ in 0..10 {
            let Err(TheirHandshakeError::Interrupted(middle)) = step else { break };
            self.pass();
            let asked = matches!(self.events.last(), Some(Event::Request(_)));
            if let Some(verdict) = verdict.take_if(|_| asked) {
                self.session.respond(self.clock.now(), verdict).unwrap();
                self.pass();
            }
            step = middle.handshake();
        }
        match step {
            Ok((peer, _)) => self.peer = Some(peer),
            Err(TheirHandshakeError::Failure(error)) => self.leave(error),
            Err(TheirHandshakeError::Interrupted(_)) => panic!("the handshake never ends"),
        }
        self
    }

    /// Lets both sides work until neither has anything left to do.
    fn settle(&mut self) {
        while self.listen() | self.pass() {}
    }

    /// Does everything possible on the session's side, with reads cut at random. Returns whether there was
    /// anything.
    fn pass(&mut self) -> bool {
        let mut busy = self.poll();
        let wire = written(&mut self.session, self.clock.now());
        if !wire.is_empty() {
            self.clock.advance(self.latency);
            self.pipe.0.borrow_mut().to_peer.extend(wire);
            busy = true;
        }
        if self.session.wants_shutdown() {
            self.pipe.0.borrow_mut().ended = true;
            self.session.handle_shutdown(self.clock.now());
            busy = true;
        }
        let incoming = std::mem::take(&mut self.pipe.0.borrow_mut().from_peer);
        if !incoming.is_empty() {
            self.clock.advance(self.latency);
        }
        let mut rest = &incoming[..];
        while !rest.is_empty() {
            let (piece, more) = rest.split_at((1 + self.rng.below(100_000)).min(rest.len()));
            self.session.handle_input(self.clock.now(), piece);
            self.poll();
            (rest, busy) = (more, true);
        }
        busy
    }

    fn poll(&mut self) -> bool {
        let mut told = false;
        while let Some(event) = self.session.poll_event() {
            told = true;
            match event {
                Event::Open(opened) => self.upgrade = opened.upgrade,
                event => self.events.push(event),
            }
        }
        told
    }

    /// Does everything possible on tungstenite's side, which ends its stream when tungstenite reports the
    /// end. Returns whether there was anything.
    fn listen(&mut self) -> bool {
        let Some(peer) = &mut self.peer else { return false };
        match peer.read() {
            Ok(message) => {
                self.heard.push(message);
                true
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => {
                self.leave(error);
                true
            }
        }
    }

    /// Drops tungstenite's connection, which is done.
    fn leave(&mut self, error: Error) {
        self.peer = None;
        self.end = Some(error);
        self.ended_first = !self.pipe.0.borrow().ended;
        self.pass();
        self.session.handle_eof(self.clock.now());
        self.settle();
    }

    fn peer(&mut self) -> &mut tungstenite::WebSocket<Pipe> {
        self.peer.as_mut().expect("tungstenite is open")
    }

    fn messages(&self) -> Vec<In<P>>
    where
        In<P>: Clone,
    {
        let message = |event: &Event<In<P>>| match event {
            Event::Message(message) => Some(message.clone()),
            _ => None,
        };
        self.events.iter().filter_map(message).collect()
    }

    fn close_reason(&self) -> &CloseReason {
        match self.events.last() {
            Some(Event::Closed(reason)) => reason,
            _ => panic!("the session is not closed: {:?}", self.session.stats()),
        }
    }
}

fn client() -> WebSocket {
    WebSocket::client(ClientRequest::new("ws://example.com/chat").unwrap(), random(1))
}

fn server() -> WebSocket {
    WebSocket::server(ServerOptions::new())
}

fn both_roles() -> [Talk<WebSocket>; 2] {
    [Talk::with_server(client()), Talk::with_client(server())]
}

#[test]
fn headers_and_a_sub_protocol_pass_to_a_server() {
    let request = ClientRequest::new("ws://example.com:8080/chat?room=1").unwrap();
    let request = request.protocol("mqtt").unwrap().protocol("chat").unwrap();
    let request = request.header("Authorization", "Bearer x").unwrap().origin("http://example.com").unwrap();
    let talk = Talk::new(WebSocket::client(request, random(1))).accepted_by(|request, mut answer| {
        assert_eq!(request.uri(), "/chat?room=1");
        for (name, value) in [
            ("Host", "example.com:8080"),
            ("Authorization", "Bearer x"),
            ("Origin", "http://example.com"),
            ("Sec-WebSocket-Protocol", "mqtt, chat"),
        ] {
            assert_eq!(request.headers()[name], value);
        }
        answer.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("chat"));
        answer.headers_mut().insert("X-Session", HeaderValue::from_static("42"));
        Ok(answer)
    });
    let upgrade = talk.upgrade.unwrap();
    assert_eq!(upgrade.protocol.as_deref(), Some("chat"));
    assert_eq!(upgrade.headers.unwrap().get("x-session"), Some("42"));
    assert!(talk.session.is_open());
}

#[test]
fn headers_and_a_sub_protocol_pass_to_a_client() {
    let mut request = "ws://example.com/chat".into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt, chat"));
    request.headers_mut().insert("X-Token", HeaderValue::from_static("42"));
    let accept = Accept::new().protocol("chat").header("X-Session", "7").unwrap();
    let talk = Talk::new(server()).asked_by(request, Verdict::Accept(accept));
    assert!(talk.peer.is_some(), "{:?}", talk.end);
    let upgrade = talk.upgrade.unwrap();
    assert_eq!(upgrade.protocol.as_deref(), Some("chat"));
    let asked = upgrade.request.unwrap();
    assert_eq!(asked.protocols().collect::<Vec<_>>(), ["mqtt", "chat"]);
    assert_eq!((asked.path(), asked.headers().get("x-token")), ("/chat", Some("42")));
}

#[test]
fn a_client_is_told_why_a_server_refuses() {
    let talk = Talk::new(client()).accepted_by(|_, _| {
        let mut refusal = tungstenite::handshake::server::ErrorResponse::new(Some("no".to_owned()));
        *refusal.status_mut() = StatusCode::FORBIDDEN;
        Err(refusal)
    });
    let CloseReason::Handshake(error) = talk.close_reason() else { panic!("{:?}", talk.close_reason()) };
    assert!(matches!(**error, HandshakeError::Status { status: 403, .. }), "{error}");

    let request = "ws://example.com/chat".into_client_request().unwrap();
    let talk = Talk::new(server()).asked_by(request, Verdict::Respond(Response::new(401).unwrap()));
    let Some(Error::Http(answer)) = talk.end else { panic!("{:?}", talk.end) };
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}

const SIZES: [usize; 12] =
    [0, 1, 124, 125, 126, 127, 65_535, 65_536, 65_537, 128 * 1024, (1 << 20) - 1, 1 << 20];

fn bytes(size: usize) -> Bytes {
    (0..size).map(|i| (i * 31 % 251) as u8).collect()
}

/// Text of `size` bytes, with characters of one to four bytes.
fn text(size: usize) -> String {
    let mut text = "aé€😀".repeat(size / 10);
    text.extend(std::iter::repeat_n('.', size - text.len()));
    text
}

#[test]
fn messages_of_every_size_pass_both_ways() {
    for mut talk in both_roles() {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for size in SIZES {
            ours.extend([Message::binary(bytes(size)), Message::text(text(size))]);
            theirs.extend([Theirs::binary(bytes(size)), Theirs::text(text(size))]);
        }
        for (mine, its) in ours.iter().zip(&theirs) {
            talk.session.send(mine.clone()).unwrap();
            talk.peer().send(its.clone()).unwrap();
            talk.settle();
        }
        assert!(talk.messages() == ours, "messages from tungstenite have changed");
        assert!(talk.heard == theirs, "messages from the session have changed");
    }
}

/// A fragment sent by tungstenite.
fn fragment(kind: Data, payload: impl Into<Bytes>, last: bool) -> Theirs {
    Theirs::Frame(Frame::message(payload, OpCode::Data(kind), last))
}

#[test]
fn fragments_become_one_message_whatever_comes_between_them() {
    for mut talk in both_roles() {
        let smile = "😀".as_bytes();
        for sent in [
            fragment(Data::Text, &b"a smile: "[..], false),
            fragment(Data::Continue, smile[..1].to_vec(), false),
            Theirs::Ping(Bytes::from_static(b"between")),
            fragment(Data::Continue, smile[1..3].to_vec(), false),
            fragment(Data::Continue, Bytes::new(), false),
            fragment(Data::Continue, smile[3..].to_vec(), true),
            fragment(Data::Binary, bytes(70_000), false),
            fragment(Data::Continue, bytes(3), true),
            Theirs::text("whole"),
        ] {
            talk.peer().write(sent).unwrap();
        }
        talk.peer().flush().unwrap();
        talk.settle();
        let joined = [bytes(70_000), bytes(3)].concat();
        assert_eq!(talk.messages(), ["a smile: 😀".into(), Message::binary(joined), "whole".into()]);
        assert_eq!(talk.heard, [Theirs::Pong(Bytes::from_static(b"between"))]);
    }
}

#[test]
fn parts_become_one_message() {
    let request = ClientRequest::new("ws://example.com/chat").unwrap();
    let client = WebSocket::client_of(Parts, request, random(1));
    let server = WebSocket::server_of(Parts, ServerOptions::new());
    for mut talk in [Talk::with_server(client), Talk::with_client(server)] {
        let smile = "😀".as_bytes();
        for (payload, first, last) in
            [(&b"a smile: "[..], true, false), (&smile[..2], false, false), (&smile[2..], false, true)]
        {
            talk.session.send(Part::new(MessageKind::Text, payload.to_vec(), first, last)).unwrap();
        }
        talk.session.send(Part::new(MessageKind::Binary, bytes(70_000), true, true)).unwrap();
        talk.settle();
        assert_eq!(talk.heard, [Theirs::text("a smile: 😀"), Theirs::Binary(bytes(70_000))]);

        talk.peer().send(Theirs::Binary(bytes(300_000))).unwrap();
        talk.settle();
        let parts = talk.messages();
        assert!(parts[0].first && parts.iter().rev().skip(1).all(|part| !part.last));
        assert!(parts.last().unwrap().last && parts.iter().skip(1).all(|part| !part.first));
        let payload: Vec<Bytes> = parts.into_iter().map(|part| part.payload).collect();
        assert!(payload.concat() == bytes(300_000), "the payload has changed");
    }
}

#[test]
fn pings_are_answered_both_ways() {
    for mut talk in both_roles() {
        talk.peer().send(Theirs::Ping(Bytes::from_static(&[7; 125]))).unwrap();
        talk.settle();
        assert_eq!(talk.heard, [Theirs::Pong(Bytes::from_static(&[7; 125]))]);

        talk.latency = Duration::from_millis(25);
        talk.clock.advance(Duration::from_secs(30));
        talk.session.handle_timeout(talk.clock.now());
        talk.settle();
        assert!(matches!(talk.heard[..], [_, Theirs::Ping(_)]), "{:?}", talk.heard);
        let Some(Event::Pong { rtt }) = talk.events.last() else { panic!("{:?}", talk.events) };
        assert_eq!(*rtt, Duration::from_millis(50), "25 ms to it and 25 ms back");
        talk.session.handle_timeout(talk.clock.now() + Duration::from_secs(29));
        assert!(talk.session.is_open());
    }
}

#[test]
fn a_close_of_the_session_is_heard_and_answered() {
    for (code, reason) in [(1000, ""), (1001, "bye"), (3000, "é"), (4999, &*"x".repeat(123))] {
        for (mut talk, is_client) in both_roles().into_iter().zip([true, false]) {
            talk.session.send(Message::text("last")).unwrap();
            let frame = CloseFrame::new(CloseCode::new(code).unwrap(), reason);
            talk.session.close(talk.clock.now(), Close::graceful().with_frame(frame));
            talk.settle();
            let close = TheirClose { code: code.into(), reason: reason.into() };
            assert_eq!(talk.heard, [Theirs::text("last"), Theirs::Close(Some(close))]);
            assert!(matches!(talk.end, Some(Error::ConnectionClosed)), "{:?}", talk.end);
            assert!(matches!(talk.close_reason(), CloseReason::Local { flushed: true }));
            assert_eq!(talk.ended_first, is_client, "the server ends the stream first");
            assert_eq!(talk.clock.elapsed(), Duration::ZERO, "neither end waited for a deadline");
        }
    }
}

#[test]
fn a_close_of_the_peer_is_heard_and_answered() {
    for (code, reason) in [(1000, ""), (1001, "bye"), (1011, "é"), (4000, &*"x".repeat(123))] {
        for (mut talk, is_client) in both_roles().into_iter().zip([true, false]) {
            talk.peer().send(Theirs::text("last")).unwrap();
            talk.peer().close(Some(TheirClose { code: code.into(), reason: reason.into() })).unwrap();
            talk.settle();
            let Theirs::Close(Some(answer)) = &talk.heard[0] else { panic!("{:?}", talk.heard) };
            assert_eq!(u16::from(answer.code), code, "the code is sent back");
            assert!(matches!(talk.end, Some(Error::ConnectionClosed)), "{:?}", talk.end);
            assert_eq!(talk.messages(), [Message::text("last")]);
            let CloseReason::Peer(frame) = talk.close_reason() else { panic!("{:?}", talk.close_reason()) };
            assert_eq!((frame.code.map(CloseCode::get), &*frame.reason), (Some(code), reason));
            assert_eq!(talk.ended_first, is_client, "the server ends the stream first");
            assert_eq!(talk.clock.elapsed(), Duration::ZERO, "neither end waited for a deadline");
        }
    }
}

#[test]
fn a_close_without_a_code_stays_without_one() {
    for mut talk in both_roles() {
        talk.peer().close(None).unwrap();
        talk.settle();
        assert_eq!(talk.heard, [Theirs::Close(None)]);
        assert!(matches!(talk.end, Some(Error::ConnectionClosed)), "{:?}", talk.end);
        let CloseReason::Peer(frame) = talk.close_reason() else { panic!("{:?}", talk.close_reason()) };
        assert_eq!((frame.code, &*frame.reason), (None, ""));
    }
}

#[test]
fn closes_that_cross_end_both_sides() {
    for mut talk in both_roles() {
        talk.peer().close(Some(TheirClose { code: 1001.into(), reason: "me".into() })).unwrap();
        talk.session.close(talk.clock.now(), Close::graceful());
        talk.settle();
        assert!(matches!(talk.end, Some(Error::ConnectionClosed)), "{:?}", talk.end);
        assert!(matches!(talk.close_reason(), CloseReason::Local { flushed: true }));
        assert_eq!(talk.clock.elapsed(), Duration::ZERO, "neither end waited for a deadline");
    }
}

/// tungstenite sends whatever the test wants, so it can break the protocol.
#[test]
fn a_broken_protocol_is_told_by_its_code() {
    type Breach = (Vec<Theirs>, u16);
    let breaches: [fn() -> Breach; 4] = [
        || (vec![fragment(Data::Continue, &b"of nothing"[..], true)], 1002),
        || (vec![fragment(Data::Text, &b"a"[..], false), Theirs::text("b")], 1002),
        || (vec![fragment(Data::Text, &b"\xff"[..], true)], 1007),
        || (vec![Theirs::binary(vec![0; (8 << 20) + 1])], 1009),
    ];
    for (mut talk, breach) in
        breaches.into_iter().flat_map(|breach| both_roles().map(|talk| (talk, breach())))
    {
        let (sent, code) = breach;
        for message in sent {
            talk.peer().send(message).unwrap();
        }
        talk.settle();
        let Some(Theirs::Close(Some(close))) = talk.heard.last() else { panic!("{:?}", talk.heard) };
        assert_eq!(u16::from(close.code), code);
        assert!(matches!(talk.close_reason(), CloseReason::Protocol(_)), "{:?}", talk.close_reason());
    }
}
