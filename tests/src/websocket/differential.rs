//! The same bytes to a session and to tungstenite: they must agree on the messages and on how it ends, or the session
//! must be right for a reason that is written here.

use std::io::{self, Cursor, Read, Write};

use getty_core::websocket::{CloseCode, Kind, Message, ProtocolError};
use getty_core::{CloseReason, Event};
use tungstenite::Error;
use tungstenite::protocol::{Role, WebSocketConfig};

use super::streams::{MAX_FRAME, MAX_MESSAGE, config, either};
use super::{frames, written};
use crate::clock::Clock;

/// How a stream of frames ends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// With a close frame: its code and reason.
    Close(Option<(u16, String)>),
    /// Nothing more came.
    CutOff,
    /// It was refused, with this code.
    Refused(CloseCode),
}

/// For fuzzers: the first byte of `data` says who receives what the others spell, or are.
///
/// # Panics
/// If the session and tungstenite don't agree.
pub fn run(data: &[u8]) {
    let Some((&how, data)) = data.split_first() else { return };
    let server = how & 1 == 0;
    check(server, &if how & 2 == 0 { frames::spell(data, server) } else { data.to_vec() });
}

/// Compares what the two make of `wire`, as servers or as clients.
///
/// # Panics
/// If they don't agree.
pub fn check(server: bool, wire: &[u8]) {
    let (ours, end, error) = getty(server, wire);
    let (theirs, their_end) = tungstenite(server, wire);
    let reason = match (error, &end) {
        (Some(error), _) => may_differ(error, &end, &their_end, wire),
        // Registered since (Bad Gateway), and unknown to tungstenite.
        (None, End::Close(Some((1014, _)))) => (their_end == replaced()).then_some(Difference::End),
        (None, _) => None,
    };
    if let Some(Difference::TheyGoOn) = reason {
        assert!(theirs.starts_with(&ours), "{ours:?}, then {end:?}; tungstenite: {theirs:?}");
        return;
    }
    assert_eq!(ours, theirs, "{end:?}; tungstenite: {their_end:?}");
    if reason.is_none() {
        assert_eq!(end, their_end, "after {ours:?}, for {error:?}");
    }
}

/// A difference that may be.
#[derive(Debug)]
enum Difference {
    /// In how it ends, after the same messages.
    End,
    /// tungstenite takes what RFC 6455 forbids, and goes on.
    TheyGoOn,
}

fn may_differ(error: ProtocolError, end: &End, their_end: &End, wire: &[u8]) -> Option<Difference> {
    let their_code = match their_end {
        End::Refused(code) => Some(*code),
        _ => None,
    };
    match error {
        // Section 5.2, "the minimal number of bytes MUST be used". tungstenite takes any; if it is too large it is too
        // large first of all, also with the top bit.
        ProtocolError::LongLength { .. } => Some(Difference::TheyGoOn),
        // The same of a control frame, whose length always fits in seven bits (section 5.5).
        ProtocolError::LongControl if has_wide_control_frame(wire) => Some(Difference::TheyGoOn),
        // tungstenite joins as many fragments as come, down to empty ones.
        ProtocolError::Fragments { .. } => Some(Difference::TheyGoOn),
        // tungstenite answers 1002 as the session does, but tells its application of a close and not of an error. It
        // looks at the reason first.
        ProtocolError::CloseCode { .. } => {
            let differs = *their_end == replaced() || their_code == Some(CloseCode::INVALID_DATA);
            differs.then_some(Difference::End)
        }
        // The session refuses what can't become right before it is all here; tungstenite waits for all of a frame.
        _ if *their_end == End::CutOff && ends_within_a_frame(wire) => Some(Difference::End),
        // A frame that is wrong in two ways, of which tungstenite looks at the size first.
        _ if *end == End::Refused(CloseCode::PROTOCOL) && their_code == Some(CloseCode::TOO_BIG) => {
            Some(Difference::End)
        }
        _ => None,
    }
}

/// What tungstenite tells of a code that it does not know.
fn replaced() -> End {
    End::Close(Some((1002, "Protocol violation".to_owned())))
}

/// Whether the length of a control frame is written in more bytes than it takes.
fn has_wide_control_frame(mut wire: &[u8]) -> bool {
    std::iter::from_fn(|| frames::read(&mut wire))
        .any(|frame| frame.opcode() & 8 != 0 && frame.form != frames::Form::Shortest)
}

fn ends_within_a_frame(mut wire: &[u8]) -> bool {
    while frames::read(&mut wire).is_some() {}
    !wire.is_empty()
}

type Messages = Vec<(Kind, Vec<u8>)>;

fn getty(server: bool, wire: &[u8]) -> (Messages, End, Option<ProtocolError>) {
    let now = Clock::new().now();
    let mut session = either(server, &config());
    session.handle_input(now, wire);
    let (mut messages, mut closed) = (Vec::new(), None);
    for round in 0..4 {
        while let Some(event) = session.poll_event() {
            match event {
                Event::Message(Message::Text(text)) => messages.push((Kind::Text, text.into_bytes().into())),
                Event::Message(Message::Binary(bytes)) => messages.push((Kind::Binary, bytes.into())),
                Event::Closed(reason) => closed = Some(*reason),
                _ => {}
            }
        }
        written(&mut session, now);
        if session.wants_shutdown() {
            session.handle_shutdown(now);
        }
        if round == 1 {
            session.handle_eof(now);
        }
    }
    match closed.expect("the stream has ended") {
        CloseReason::Peer(frame) => {
            let said = frame.code.map(|code| (code.get(), frame.reason.into()));
            (messages, End::Close(said), None)
        }
        CloseReason::Protocol(error) => (messages, End::Refused(error.code()), Some(error)),
        CloseReason::Eof { mid_frame: true } => (messages, End::CutOff, None),
        reason => panic!("nobody asked for {reason:?}"),
    }
}

fn tungstenite(server: bool, wire: &[u8]) -> (Messages, End) {
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_frame_size(Some(MAX_FRAME))
        .max_message_size(Some(MAX_MESSAGE));
    let role = if server { Role::Server } else { Role::Client };
    let mut socket = tungstenite::WebSocket::from_raw_socket(Wire(Cursor::new(wire)), role, Some(config));
    let mut messages = Vec::new();
    let end = loop {
        match socket.read() {
            Ok(tungstenite::Message::Text(text)) => messages.push((Kind::Text, text.as_bytes().to_vec())),
            Ok(tungstenite::Message::Binary(bytes)) => messages.push((Kind::Binary, bytes.into())),
            Ok(tungstenite::Message::Close(frame)) => {
                break End::Close(frame.map(|frame| (frame.code.into(), frame.reason.to_string())));
            }
            Ok(_) => {}
            Err(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
                break End::CutOff;
            }
            Err(Error::Protocol(_)) => break End::Refused(CloseCode::PROTOCOL),
            Err(Error::Utf8(_)) => break End::Refused(CloseCode::INVALID_DATA),
            Err(Error::Capacity(_)) => break End::Refused(CloseCode::TOO_BIG),
            Err(error) => panic!("the wire does not fail: {error}"),
        }
    };
    (messages, end)
}

/// Gives its bytes and takes any.
struct Wire<'a>(Cursor<&'a [u8]>);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
