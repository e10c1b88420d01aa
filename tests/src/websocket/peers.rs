//! WebSocket sessions with a hand-written peer, frame by frame, valid or not.
//!
//! [`Frame`] makes and reads frames independently of the library. [`Solo`] is one session that a test drives
//! call by call; [`pair`] makes two that talk to each other.
//!
//! ```
//! use testkit::websocket::peers::{Frame, Solo};
//!
//! let mut server = Solo::opened_server();
//! server.peer(Frame::ping("hi"));
//! assert_eq!(server.poll(), [""; 0]);
//! assert_eq!(server.sent(), [Frame::pong("hi")]);
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use getty_core::websocket::{
    Accept, ClientRequest, Form, ServerOptions, Verdict, WebSocket, Whole, accept_key,
};
use getty_core::{CloseReason, Config, ConfigBuilder, Event, In, Protocol, Session, Timestamp};

use crate::Rng;
use crate::clock::Clock;
use crate::pair::Pair;

/// An upgrade request as in RFC 6455 section 1.2, without the empty line at its end.
pub const REQUEST: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

/// A frame (RFC 6455 section 5.2), valid or not.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// Whether it is the last one of its message.
    pub fin: bool,
    /// The reserved bits: RSV1 is 4, RSV2 2, RSV3 1.
    pub rsv: u8,
    /// The opcode.
    pub opcode: u8,
    /// The masking key.
    pub key: Option<[u8; 4]>,
    /// The payload, unmasked.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Makes a final frame without a mask.
    pub fn new(opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        Frame { fin: true, rsv: 0, opcode, key: None, payload: payload.as_ref().to_vec() }
    }

    /// A text message in one frame.
    pub fn text(payload: impl AsRef<[u8]>) -> Self {
        Self::new(1, payload)
    }

    /// A binary message in one frame.
    pub fn binary(payload: impl AsRef<[u8]>) -> Self {
        Self::new(2, payload)
    }

    /// The last fragment of a message.
    pub fn continuation(payload: impl AsRef<[u8]>) -> Self {
        Self::new(0, payload)
    }

    /// A ping.
    pub fn ping(payload: impl AsRef<[u8]>) -> Self {
        Self::new(9, payload)
    }

    /// A pong.
    pub fn pong(payload: impl AsRef<[u8]>) -> Self {
        Self::new(10, payload)
    }

    /// A close frame.
    pub fn close(code: u16, reason: &str) -> Self {
        Self::new(8, [&code.to_be_bytes(), reason.as_bytes()].concat())
    }

    /// Clears FIN: more fragments follow.
    #[must_use]
    pub fn more(self) -> Self {
        Frame { fin: false, ..self }
    }

    /// Sets the reserved bits.
    #[must_use]
    pub fn rsv(self, rsv: u8) -> Self {
        Frame { rsv, ..self }
    }

    /// Sets a mask.
    #[must_use]
    pub fn masked(self, key: [u8; 4]) -> Self {
        Frame { key: Some(key), ..self }
    }

    /// The header, as if the payload had `len` bytes, in the shortest form.
    pub fn header(&self, len: u64) -> Vec<u8> {
        match len {
            0..=125 => self.header_with(len as u8, &[]),
            126..=0xffff => self.header_with(126, &(len as u16).to_be_bytes()),
            _ => self.header_with(127, &len.to_be_bytes()),
        }
    }

    /// A header with any length in its second byte and after it.
    pub fn header_with(&self, short: u8, extended: &[u8]) -> Vec<u8> {
        let first = u8::from(self.fin) << 7 | self.rsv << 4 | self.opcode;
        let second = u8::from(self.key.is_some()) << 7 | short;
        let mut header = vec![first, second];
        header.extend(extended);
        header.extend(self.key.iter().flatten());
        header
    }

    /// The whole frame.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header(self.payload.len() as u64);
        let key = self.key.unwrap_or_default();
        bytes.extend(self.payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        bytes
    }

    /// The code of a close frame.
    pub fn code(&self) -> Option<u16> {
        let code = self.payload.first_chunk().filter(|_| self.opcode == 8)?;
        Some(u16::from_be_bytes(*code))
    }

    /// Reads whole frames.
    ///
    /// # Panics
    /// If `bytes` ends within one, or a length is not in its shortest form.
    pub fn parse_all(bytes: &[u8]) -> Vec<Frame> {
        let (frames, rest) = Self::parse_whole(bytes);
        assert!(rest.is_empty(), "after {frames:?}, cut off: {rest:02x?}");
        frames
    }

    /// Reads complete frames. Returns them and the bytes left.
    ///
    /// # Panics
    /// If a length is not in its shortest form.
    pub fn parse_whole(mut bytes: &[u8]) -> (Vec<Frame>, &[u8]) {
        let mut frames = Vec::new();
        while let Some((frame, size)) = Self::parse(bytes) {
            bytes = &bytes[size..];
            frames.push(frame);
        }
        (frames, bytes)
    }

    fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
        let mut rest = bytes;
        let mut take = |n: usize| {
            let (taken, left) = rest.split_at_checked(n)?;
            rest = left;
            Some(taken)
        };
        let &[first, second] = take(2)? else { return None };
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, &byte| n << 8 | u64::from(byte));
        let len = match second & 0x7f {
            126 => number(take(2)?),
            127 => number(take(8)?),
            len => u64::from(len),
        };
        let key = if second & 0x80 != 0 { Some(take(4)?.try_into().ok()?) } else { None };
        let payload = take(len as usize)?.to_vec();
        let size = bytes.len() - rest.len();
        let mut frame =
            Frame { fin: first & 0x80 != 0, rsv: first >> 4 & 7, opcode: first & 15, key, payload };
        let masked = frame.bytes();
        frame.payload = masked[masked.len() - frame.payload.len()..].to_vec();
        assert_eq!(frame.bytes(), bytes[..size], "not in its shortest form");
        Some((frame, size))
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.opcode {
            0 => "continuation",
            1 => "text",
            2 => "binary",
            8 => "close",
            9 => "ping",
            10 => "pong",
            _ => "?",
        };
        write!(f, "{name}({})", self.opcode)?;
        if let Some(code) = self.code() {
            write!(f, " {code}")?;
        }
        write!(f, " {:?}", self.payload[..self.payload.len().min(80)].escape_ascii().to_string())?;
        write!(f, " of {}", self.payload.len())?;
        f.write_str(if self.fin { "" } else { ", more" })?;
        if self.rsv != 0 { write!(f, ", rsv {:03b}", self.rsv) } else { Ok(()) }
    }
}

/// Makes a configuration from the defaults, changed by `set`.
pub fn config(set: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Arc<Config> {
    set(Config::builder()).build().expect("valid")
}

/// The request of the tests' clients.
pub fn client_request() -> ClientRequest {
    ClientRequest::new("ws://server.example.com/chat").expect("valid")
}

/// Randomness for clients in tests only.
pub fn random(seed: u64) -> impl FnMut(&mut [u8]) + Send + 'static {
    let mut rng = Rng::new(seed);
    move |bytes| bytes.iter_mut().for_each(|byte| *byte = rng.below(256) as u8)
}

/// A session that a test drives call by call.
pub struct Solo<F: Form = Whole> {
    /// The session.
    pub session: Session<WebSocket<F>>,
    /// Its time.
    pub clock: Clock,
    is_server: bool,
    masks: Rng,
}

impl Solo {
    /// Makes an open server.
    pub fn opened_server() -> Self {
        Self::server(ServerOptions::new(), Arc::default()).opened()
    }

    /// Makes an open client.
    pub fn opened_client() -> Self {
        Self::client(client_request(), Arc::default()).opened()
    }

    /// Makes an open session of each role, with the default configuration changed by `set`.
    pub fn opened_both(set: impl Fn(ConfigBuilder) -> ConfigBuilder) -> [Self; 2] {
        [
            Self::server(ServerOptions::new(), config(&set)).opened(),
            Self::client(client_request(), config(&set)).opened(),
        ]
    }

    /// Makes a server that waits for a request.
    pub fn server(options: ServerOptions, config: Arc<Config>) -> Self {
        Self::new(WebSocket::server(options), config, true)
    }

    /// Makes a client that has not sent its request.
    pub fn client(request: ClientRequest, config: Arc<Config>) -> Self {
        Self::new(WebSocket::client(request, random(1)), config, false)
    }
}

impl<F: Form> Solo<F>
where
    In<WebSocket<F>>: fmt::Debug,
{
    /// Makes any WebSocket session before its handshake.
    pub fn new(protocol: WebSocket<F>, config: Arc<Config>, is_server: bool) -> Self {
        let clock = Clock::new();
        let session = Session::new(protocol, config, clock.now());
        Solo { session, clock, is_server, masks: Rng::new(7) }
    }

    /// Whether it is the server.
    pub fn is_server(&self) -> bool {
        self.is_server
    }

    /// Opens it, with a peer that supports no extension.
    pub fn opened(self) -> Self {
        self.opened_with("")
    }

    /// Opens it. `headers` are added to the peer's head, each with its line end.
    pub fn opened_with(mut self, headers: &str) -> Self {
        if self.is_server {
            self.input(format!("{REQUEST}{headers}\r\n").as_bytes());
            assert_eq!(self.poll(), ["Request /chat"]);
            self.respond(Verdict::Accept(Accept::new()));
            let answer = self.written();
            assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", answer.escape_ascii());
        } else {
            let answer = answer_to(&self.written(), headers);
            self.input(answer.as_bytes());
        }
        assert_eq!(self.poll(), ["Open"]);
        self
    }

    /// Answers the waiting request.
    pub fn respond(&mut self, verdict: Verdict) {
        self.session.respond(self.clock.now(), verdict).expect("a request waits");
    }

    /// Moves to `elapsed` after the start, handles what is due, and returns the events.
    pub fn at(&mut self, elapsed: Duration) -> Vec<String> {
        let now = self.clock.jump(self.clock.at(elapsed));
        self.session.handle_timeout(now);
        self.poll()
    }

    /// Hands in bytes from the peer.
    pub fn input(&mut self, bytes: &[u8]) {
        self.session.handle_input(self.clock.now(), bytes);
    }

    /// Hands in a frame from the peer, masked if the peer is a client.
    pub fn peer(&mut self, frame: Frame) {
        let bytes = self.as_peer(frame).bytes();
        self.input(&bytes);
    }

    /// Makes `frame` the peer's: masked if the peer is a client.
    pub fn as_peer(&mut self, frame: Frame) -> Frame {
        if !self.is_server {
            return frame;
        }
        frame.masked((self.masks.next_u64() as u32).to_be_bytes())
    }

    /// Encodes several frames of the peer.
    pub fn peers(&mut self, frames: impl IntoIterator<Item = Frame>) -> Vec<u8> {
        frames.into_iter().flat_map(|frame| self.as_peer(frame).bytes()).collect()
    }

    /// Polls all events.
    ///
    /// # Panics
    /// If there is no end of them.
    pub fn events(&mut self) -> Vec<Event<In<WebSocket<F>>>> {
        let told: Vec<_> = std::iter::from_fn(|| self.session.poll_event()).take(100_000).collect();
        assert!(told.len() < 100_000, "the session reports events without end, such as {:?}", told.last());
        told
    }

    /// Polls all events, in words.
    pub fn poll(&mut self) -> Vec<String> {
        self.events().iter().map(words).collect()
    }

    /// Polls all messages; other events are lost.
    pub fn messages(&mut self) -> Vec<In<WebSocket<F>>> {
        let message = |event| match event {
            Event::Message(message) => Some(message),
            _ => None,
        };
        self.events().into_iter().filter_map(message).collect()
    }

    /// Takes all output.
    pub fn written(&mut self) -> Vec<u8> {
        let mut outbound = self.session.outbound(self.clock.now());
        outbound.copy_to_bytes(outbound.remaining()).to_vec()
    }

    /// Takes all output as frames. Checks their masks for this role, and removes them.
    pub fn sent(&mut self) -> Vec<Frame> {
        let mut frames = Frame::parse_all(&self.written());
        for frame in &mut frames {
            assert_eq!(frame.key.take().is_none(), self.is_server, "only clients mask: {frame:?}");
        }
        frames
    }

    /// Shuts the sending side down, if wanted.
    pub fn shut_down(&mut self) {
        assert!(self.session.wants_shutdown());
        self.session.handle_shutdown(self.clock.now());
        assert!(!self.session.wants_shutdown());
    }

    /// Ends the peer's stream.
    pub fn eof(&mut self) {
        self.session.handle_eof(self.clock.now());
    }

    /// Polls `Closed`, which must be the only event left. Returns its reason.
    pub fn closed(&mut self) -> CloseReason {
        match self.session.poll_event() {
            Some(Event::Closed(reason)) => {
                assert!(self.session.poll_event().is_none(), "Closed is the last");
                *reason
            }
            other => panic!("not Closed: {other:?}"),
        }
    }

    /// Checks the reaction to a violation by the peer: this end sends `code` and nothing more, accepts
    /// nothing more, and has ended when the peer ends its stream. Returns the reason.
    pub fn failed_with(&mut self, code: u16) -> CloseReason {
        assert_eq!(self.poll(), [""; 0], "before Closed");
        let sent = self.sent();
        assert_eq!(sent.last().and_then(Frame::code), Some(code), "{sent:?}");
        self.peer(Frame::text("ignored"));
        self.peer(Frame::ping("ignored"));
        assert_eq!((self.poll(), self.sent()), (vec![], vec![]), "after the close frame");
        self.shut_down();
        self.eof();
        self.closed()
    }
}

/// Makes a server's response to the upgrade request `head`, with more `headers`.
pub fn answer_to(head: &[u8], headers: &str) -> String {
    let head = std::str::from_utf8(head).expect("a request is text");
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("has a key");
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: {}\r\n{headers}\r\n",
        accept_key(key)
    )
}

/// Describes an event in a few words.
pub fn words<T: fmt::Debug>(event: &Event<T>) -> String {
    match event {
        Event::Open(_) => "Open".to_owned(),
        Event::Request(request) => format!("Request {}", request.target()),
        Event::Message(message) => format!("{message:?}"),
        Event::Pong { rtt } => format!("Pong {rtt:?}"),
        Event::Idle(idle) => format!("Idle::{idle:?}"),
        Event::Flushed(seq) => format!("Flushed {seq}"),
        Event::Closed(reason) => format!("Closed: {reason}"),
        other => format!("{other:?}"),
    }
}

/// Makes a client, `a`, and a server, `b`, that accepts it.
pub fn pair(request: ClientRequest, options: ServerOptions, config: Arc<Config>) -> Pair<WebSocket> {
    let client = WebSocket::client(request, random(1));
    let mut pair = Pair::new(client, WebSocket::server(options), config);
    pair.b.on_event(accept);
    pair
}

/// Accepts every request; for [`End::on_event`](crate::pair::End::on_event).
pub fn accept<P: Protocol>(session: &mut Session<P>, now: Timestamp, event: &Event<In<P>>) {
    if let Event::Request(_) = event {
        session.respond(now, Verdict::Accept(Accept::new())).expect("a request waits");
    }
}
