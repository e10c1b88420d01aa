//! WebSocket: RFC 6455, and permessage-deflate (RFC 7692) with the feature `deflate`.
//!
//! A [`WebSocket`] is a protocol for a [`Session`](crate::Session), as [`Framed`](crate::Framed) is. The same
//! calls drive it; it handles the opening and closing handshakes, pings and pongs itself. The differences:
//!
//! * A server gets an [`Event::Request`](crate::Event::Request) for each client before the session opens, and
//!   replies with [`Session::respond`](crate::Session::respond), at once or later.
//! * [`Event::Open`](crate::Event::Open) comes when the handshake is done. Nothing can be sent before.
//! * [`Event::Pong`](crate::Event::Pong) reports the round-trip time of a heartbeat.
//! * [`CloseReason::Peer`] holds the peer's close frame, and [`Close::with_frame`](crate::Close::with_frame)
//!   sets the one to send.
//!
//! The [`Form`] determines the messages: [`Whole`] messages, [`Parts`] of them as they arrive, or
//! [`Packages`] of a codec, one in each binary message, so that a listener for [`Framed`](crate::Framed)
//! serves them unchanged.
//!
//! ```
//! use bytes::Buf;
//! use getty_core::websocket::{Accept, ClientRequest, Message, ServerOptions, Verdict, WebSocket};
//! use getty_core::{Config, Event, Session, Timestamp};
//!
//! let now = Timestamp::ORIGIN;
//! let config = Config::builder().build()?;
//! let request = ClientRequest::new("ws://example.com/chat")?;
//! // A real client has a cryptographic source of randomness here.
//! let random = |bytes: &mut [u8]| bytes.fill(7);
//! let mut client = Session::new(WebSocket::client(request, random), config.clone(), now);
//! let mut server = Session::new(WebSocket::server(ServerOptions::new()), config, now);
//!
//! let mut heard = None;
//! for _ in 0..4 {
//!     while let Some(event) = client.poll_event() {
//!         if let Event::Open(_) = event {
//!             client.send(Message::text("hello"))?;
//!         }
//!     }
//!     while let Some(event) = server.poll_event() {
//!         match event {
//!             Event::Request(request) => {
//!                 assert_eq!(request.path(), "/chat");
//!                 server.respond(now, Verdict::Accept(Accept::new()))?;
//!             }
//!             Event::Message(message) => heard = Some(message),
//!             _ => {}
//!         }
//!     }
//!     pass(&mut client, &mut server, now);
//!     pass(&mut server, &mut client, now);
//! }
//! assert_eq!(heard, Some(Message::text("hello")));
//!
//! /// Moves the output of one session to the other.
//! fn pass(from: &mut Session<WebSocket>, to: &mut Session<WebSocket>, now: Timestamp) {
//!     let mut outbound = from.outbound(now);
//!     let wire = outbound.copy_to_bytes(outbound.remaining());
//!     to.handle_input(now, &wire);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod form;
mod frame;
mod mask;
mod message;
mod opening;
mod reader;
mod utf8;
mod writer;

pub use crate::close::{CloseCode, CloseFrame, ProtocolError};
pub use crate::codec::{MessageKind, Text};
pub use crate::http::{HeaderError, Headers, HttpError};
pub use crate::upgrade::{
    Accept, AcceptError, ClientRequest, HandshakeError, OriginPolicy, Request, RespondError, Response,
    StatusError, SubprotocolError, Upgrade, UrlError, Verdict, accept_key,
};
#[cfg(feature = "deflate")]
pub use crate::upgrade::{Deflate, NegotiationError, Params};
pub use form::Form;
pub use message::Message;
pub use opening::ServerOptions;

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;

use crate::close::CloseReason;
use crate::codec::{Sink, Source};
use crate::config::Config;
use crate::deadline::{Deadline, Idle};
#[cfg(feature = "deflate")]
use crate::deflate::{Compressor, Inflater};
use crate::event::Opened;
use crate::hidden::HiddenBytes;
use crate::layer::Layer;
use crate::layered::Layered;
use crate::session::{Due, Found, Host, In, Out, Protocol, Sealed, Unfinished};
use crate::time::Timestamp;
use frame::{Opcode, header_len};
use opening::{Opening, Step};
use reader::{Control, Reader};
use writer::Writer;

/// A source of random bytes for a client's masks and handshake key.
///
/// It must be cryptographically secure. A peer that could guess the masks could make a proxy between the two
/// read a request of the peer's choice (RFC 6455 section 10.3).
pub type Random = Box<dyn FnMut(&mut [u8]) + Send>;

/// The WebSocket protocol on a byte stream, as a server or as a client.
///
/// The limits come from the [`Config`]:
///
/// * `max_frame` and `max_message` limit payload. Beyond 1024 fragments in a message, each needs 32 bytes.
/// * `partial_frame_timeout` limits how long a message may stay unfinished.
/// * `max_head` and `handshake_timeout` limit the opening handshake, `close_timeout` the closing one.
/// * A ping is sent each `heartbeat_period`, or each `cron_period` if there is no heartbeat.
///
/// A peer's ping is answered at once while the send queue is at or below the low watermark. Above it, only
/// the latest ping is answered (RFC 6455 section 5.5.3), so a flood of pings does not use memory.
pub struct WebSocket<F = Whole> {
    form: F,
    reader: Reader,
    writer: Writer,
    /// Present until the session is open.
    opening: Option<Box<Opening>>,
    /// The result of the handshake, until it is reported.
    upgrade: Option<Box<Upgrade>>,
    /// The latest ping that could not be answered yet.
    pong: Option<Bytes>,
    /// The number of pings sent, and the number of those before the oldest unanswered one.
    pings: u32,
    answered: u32,
    /// The time when the oldest unanswered ping was sent.
    unanswered: Option<Timestamp>,
    /// The largest message to send, in bytes on the wire, once the session is open.
    max_sent: usize,
    close_sent: bool,
    close_received: bool,
}

/// Whole messages, as [`Message`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Whole;

/// Messages in pieces, as [`Part`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts;

/// A piece of a message, received as it arrived or sent as a fragment of its own.
///
/// Received pieces do not wait for the end of a frame, so a message may be longer than `max_message`, and one
/// frame of the peer may arrive as several parts. Text is checked as it arrives; a piece of it may begin or
/// end within a character.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Part {
    /// Whether the message is text, the same in all its parts. The parts of a text must be UTF-8 when joined.
    pub kind: MessageKind,
    /// The payload.
    pub payload: Bytes,
    /// Whether the message begins here.
    pub first: bool,
    /// Whether the message ends here.
    pub last: bool,
}

impl Part {
    /// Makes a part of these fields.
    pub fn new(kind: MessageKind, payload: impl Into<Bytes>, first: bool, last: bool) -> Self {
        Part { kind, payload: payload.into(), first, last }
    }
}

/// Codec frames, one in each message. The codec accepts or refuses each kind of message
/// ([`Decoder::accept_kind`](crate::codec::Decoder::accept_kind)) and chooses the kind to send
/// ([`Encoder::kind`](crate::codec::Encoder::kind)). By default both are binary only, as in Go getty: a text
/// message ends the session with 1003.
#[derive(Debug, Clone)]
pub struct Packages<C, O = <C as crate::codec::Decoder>::Item> {
    codec: C,
    out: PhantomData<fn(O)>,
}

/// Errors of sending a message or a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartError {
    /// A message in parts is unfinished.
    #[error("a message in parts is under way: send its last part first")]
    Unfinished,
    /// A part continues a message that was not begun.
    #[error("no message is under way: begin one with a first part")]
    NotBegun,
    /// A part is of another kind than the parts before it.
    #[error("the message under way is of the other kind: text or binary")]
    Kind,
}

impl<F: fmt::Debug> fmt::Debug for WebSocket<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket")
            .field("form", &self.form)
            .field("reader", &self.reader)
            .field("writer", &self.writer)
            .field("opening", &self.opening)
            .field("upgrade", &self.upgrade)
            .field("pong", &self.pong.as_ref().map(|payload| HiddenBytes(payload.len())))
            .field("close_sent", &self.close_sent)
            .field("close_received", &self.close_received)
            .finish_non_exhaustive()
    }
}

impl WebSocket<Whole> {
    /// Makes a server's side for whole messages. All sessions of an endpoint share the options.
    pub fn server(options: impl Into<Arc<ServerOptions>>) -> Self {
        Self::server_of(Whole, options)
    }

    /// Makes the server's side of each session of whole messages, as servers take it.
    pub fn serving(options: impl Into<Arc<ServerOptions>>) -> impl Fn() -> Self + Clone {
        Self::serving_of(|| Whole, options)
    }

    /// Makes a client's side for whole messages, which begins with `request`.
    pub fn client(request: ClientRequest, random: impl FnMut(&mut [u8]) + Send + 'static) -> Self {
        Self::client_of(Whole, request, random)
    }
}

impl<F: Form> WebSocket<F> {
    /// Makes a server's side for messages of `form`.
    pub fn server_of(form: F, options: impl Into<Arc<ServerOptions>>) -> Self {
        Self::new(form, Writer::new(None), Opening::server(options.into()))
    }

    /// Makes the server's side of each session, in the form that the function makes.
    pub fn serving_of(
        form: impl Fn() -> F + Clone,
        options: impl Into<Arc<ServerOptions>>,
    ) -> impl Fn() -> Self + Clone {
        let options = options.into();
        move || Self::server_of(form(), options.clone())
    }

    /// Makes a client's side for messages of `form`, which begins with `request`. `random` must be secure;
    /// see [`Random`].
    pub fn client_of(
        form: F,
        request: ClientRequest,
        random: impl FnMut(&mut [u8]) + Send + 'static,
    ) -> Self {
        let mut writer = Writer::new(Some(Box::new(random)));
        let key = writer.handshake_key();
        Self::new(form, writer, Opening::client(request, key))
    }

    fn new(form: F, writer: Writer, opening: Opening) -> Self {
        WebSocket {
            form,
            reader: Reader::new(!writer.is_client()),
            writer,
            opening: Some(Box::new(opening)),
            upgrade: None,
            pong: None,
            pings: 0,
            answered: 0,
            unanswered: None,
            max_sent: 0,
            close_sent: false,
            close_received: false,
        }
    }

    /// Completes the opening handshake.
    fn open(&mut self, host: &mut Host<'_>, upgrade: Upgrade) {
        self.opening = None;
        #[cfg(feature = "deflate")]
        if let Some((params, options)) = &upgrade.deflate {
            let client = (params.client_no_context_takeover, params.client_max_window_bits);
            let server = (params.server_no_context_takeover, params.server_max_window_bits);
            let (mine, peers) = if self.writer.is_client() { (client, server) } else { (server, client) };
            self.writer.set_compressor(Compressor::new(mine.0, mine.1, options.level), options.min_size);
            self.reader.set_inflater(Inflater::new(peers.0));
        }
        self.max_sent = self.wire_len(self.writer.limit()); // compression may enlarge a part
        self.upgrade = Some(Box::new(upgrade));
        host.opened();
    }

    fn write(&mut self, host: &mut Host<'_>, opcode: Opcode, payload: &[u8]) {
        host.write(|dst| self.writer.control(opcode, payload, dst));
    }

    /// Answers a ping, or keeps it for later. Either way it replaces an earlier one that waits.
    fn answer_ping(&mut self, host: &mut Host<'_>, payload: Bytes) {
        self.pong = None;
        if host.has_room() {
            self.write(host, Opcode::Pong, &payload);
        } else {
            self.pong = Some(payload);
            host.defer_pong();
        }
    }

    fn ping(&mut self, host: &mut Host<'_>) {
        if !host.has_room() {
            return; // queued bytes have a deadline already
        }
        self.pings = self.pings.wrapping_add(1);
        self.unanswered.get_or_insert(host.now());
        self.write(host, Opcode::Ping, &u64::from(self.pings).to_be_bytes());
        host.ping_sent();
    }

    fn take_pong(&mut self, host: &mut Host<'_>, payload: &[u8]) {
        // A peer may answer only the latest ping. An unsolicited pong is ignored (RFC 6455 section 5.5.3).
        let Ok(number) = payload.try_into().map(u64::from_be_bytes) else { return };
        let open = u64::from(self.answered) + 1..=u64::from(self.pings);
        if let Some(at) = self.unanswered.take_if(|_| open.contains(&number)) {
            self.answered = self.pings;
            host.pong_received(at);
        }
    }

    fn take_close(&mut self, host: &mut Host<'_>, frame: CloseFrame) {
        self.close_received = true;
        let waits = self.waits_for_server(host);
        host.closed_by_peer(CloseReason::Peer(frame), waits);
    }

    /// Writes the close frame (RFC 6455 section 7.1.2) unless the peer can't read it, and waits for the
    /// peer's.
    fn write_close(&mut self, host: &mut Host<'_>) {
        if self.close_sent {
            return;
        }
        let cut_off = host.read_ended() && !self.close_received;
        if cut_off || self.opening.is_some() {
            return host.wait_for_peer(false);
        }
        self.close_sent = true;
        let (frame, failed) = close_frame(host);
        let mut payload = Vec::new();
        frame.write(&mut payload);
        self.write(host, Opcode::Close, &payload);
        let waits = if self.close_received { self.waits_for_server(host) } else { !failed };
        host.wait_for_peer(waits);
    }

    /// The largest size on the wire of a message with `payload` bytes.
    #[inline]
    fn wire_len(&self, payload: usize) -> usize {
        let header = header_len(payload, self.writer.is_client());
        // Compression may enlarge a part (level 1 by 6 %). Whole messages stay within their limit.
        let grown = if F::IN_PARTS && self.writer.compresses() { payload / 8 + 64 } else { 0 };
        payload.saturating_add(header + grown)
    }

    /// Whether to wait for the server to end the stream first, as a client does (RFC 6455 section 7.1.1).
    fn waits_for_server(&self, host: &Host<'_>) -> bool {
        self.writer.is_client() && !host.read_ended()
    }
}

/// The close frame to send, and whether the peer broke the protocol or a codec failed.
fn close_frame(host: &mut Host<'_>) -> (CloseFrame, bool) {
    let say = |code, reason: &str| CloseFrame::new(code, reason);
    let asked = host.take_close_frame();
    let (frame, failed) = match host.reason() {
        Some(CloseReason::Peer(frame)) => match frame.code {
            Some(code) => (say(code, ""), false),
            None => (frame.clone(), false),
        },
        Some(CloseReason::Protocol(error)) => (say(error.code(), &error.to_string()), true),
        Some(CloseReason::Codec(error)) => (say(CloseCode::INVALID_DATA, &error.to_string()), true),
        Some(CloseReason::Decoder(error)) => (say(CloseCode::PROTOCOL, &error.to_string()), true),
        Some(CloseReason::Panicked) => (say(CloseCode::INTERNAL, ""), true),
        Some(CloseReason::Refused(error)) => (say(CloseCode::POLICY, &error.to_string()), false),
        Some(CloseReason::Timeout(Deadline::IdleRead)) => (idle(Idle::Read), false),
        Some(CloseReason::Timeout(Deadline::IdleWrite)) => (idle(Idle::Write), false),
        Some(CloseReason::Timeout(Deadline::IdleBoth | Deadline::Idle)) => (idle(Idle::Both), false),
        _ => (say(CloseCode::NORMAL, ""), false),
    };
    // A fault takes precedence: the application did not know of it when it chose a frame.
    (if failed { frame } else { asked.map_or(frame, |asked| *asked) }, failed)
}

fn idle(idle: Idle) -> CloseFrame {
    CloseFrame::new(CloseCode::GOING_AWAY, &idle.to_string())
}

impl<F: Form> Sealed for WebSocket<F> {}

impl<F: Form> Protocol for WebSocket<F> {
    type Messages = F::Messages;
    type Under<L: Layer> = Layered<L, Self>;

    fn under<L: Layer>(self, layer: L) -> Layered<L, Self> {
        Layered::new(layer, self)
    }

    #[inline(always)]
    #[expect(clippy::needless_question_mark, reason = "as in `Reader::read`")]
    fn decode(&mut self, src: &mut Source<'_>) -> Result<Found<In<Self>>, Box<CloseReason>> {
        if let Some(opening) = &mut self.opening {
            return Ok(opening.decode(src)?);
        }
        self.reader.read(src, &mut self.form)
    }

    fn decode_eof(&mut self, _: &mut Source<'_>) -> Result<Option<In<Self>>, Box<CloseReason>> {
        Ok(None) // a stream without a close frame was cut off
    }

    #[inline(always)]
    fn encode(&mut self, item: Out<Self>, dst: &mut Sink<'_>) -> Result<(), Arc<dyn Error + Send + Sync>> {
        self.form.send(item, &mut self.writer, dst)
    }

    #[inline]
    fn encoded_len(&self, item: &Out<Self>) -> Option<usize> {
        Some(self.wire_len(self.form.payload_len(item)?))
    }

    #[inline]
    fn max_sent(&self, _: &Config) -> usize {
        self.max_sent
    }

    fn begin(&mut self, host: &mut Host<'_>) {
        let config = host.config();
        self.reader.set_limits::<F>(config.max_frame(), config.max_message());
        self.writer.set_limit(config.max_frame().min(config.max_message()));
        if let Some(opening) = &mut self.opening {
            opening.set_limit(config.max_head());
        }
        host.opens(self.writer.is_client());
        host.pings();
        host.closes();
    }

    #[inline]
    fn encoding(&self) -> Option<usize> {
        self.writer.compressing().map(|payload| self.wire_len(payload))
    }

    #[cfg(feature = "deflate")]
    fn continue_encoding(&mut self, dst: &mut Sink<'_>) {
        self.writer.continue_large(dst);
    }

    #[cfg(feature = "deflate")]
    fn drop_encoding(&mut self) {
        self.writer.drop_large();
    }

    const HAS_UNFINISHED: bool = true;
    const IN_PARTS: bool = F::IN_PARTS;

    fn unfinished(&mut self) -> Option<Unfinished> {
        self.reader.unfinished()
    }

    #[inline]
    fn worked(&self) -> u64 {
        self.reader.worked() + self.writer.worked()
    }

    fn handle_control(&mut self, host: &mut Host<'_>) {
        match self.reader.take_control() {
            Some(Control::Ping(payload)) if !self.close_sent => self.answer_ping(host, payload),
            Some(Control::Ping(_)) => {}
            Some(Control::Pong(payload)) => self.take_pong(host, &payload),
            Some(Control::Close(frame)) => self.take_close(host, frame),
            None => self.step(host),
        }
    }

    fn write_due(&mut self, host: &mut Host<'_>, due: Due) {
        match (due, &mut self.opening) {
            (Due::Handshake, Some(opening)) => host.write(|dst| opening.write(dst)),
            (Due::Refuse, Some(opening)) => {
                opening.give_up();
                host.write(|dst| opening.write(dst));
            }
            (Due::Handshake | Due::Refuse, None) => {}
            (Due::Pong, _) => {
                if let Some(payload) = self.pong.take() {
                    self.answer_ping(host, payload);
                }
            }
            (Due::Ping, _) => self.ping(host),
            (Due::Close, _) => self.write_close(host),
        }
    }

    fn opened(&mut self) -> Box<Opened> {
        let mut opened = Box::<Opened>::default();
        opened.upgrade = self.upgrade.take().map(|upgrade| *upgrade);
        opened
    }

    fn request(&mut self) -> Option<Arc<Request>> {
        self.opening.as_ref()?.request()
    }

    fn respond(&mut self, host: &mut Host<'_>, verdict: Verdict) -> Result<(), RespondError> {
        let opening = self.opening.as_mut().ok_or(RespondError::NotAsked)?;
        let Some(step) = opening.respond(verdict)? else { return Ok(()) };
        host.responded();
        host.write(|dst| opening.write(dst));
        match step {
            Step::Open(upgrade) => self.open(host, *upgrade),
            Step::Fail(error) => host.fail(CloseReason::Handshake(error)),
            Step::Ask => {}
        }
        Ok(())
    }
}

impl<F: Form> WebSocket<F> {
    /// Acts on the next step of the opening handshake.
    fn step(&mut self, host: &mut Host<'_>) {
        let Some(opening) = &mut self.opening else { return };
        match opening.take_step() {
            Some(Step::Ask) => host.ask(),
            Some(Step::Open(upgrade)) => self.open(host, *upgrade),
            Some(Step::Fail(error)) => {
                host.write(|dst| opening.write(dst));
                host.fail(CloseReason::Handshake(error));
            }
            None => {}
        }
    }
}
