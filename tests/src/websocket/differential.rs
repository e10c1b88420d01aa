//! Compares a session with tungstenite on the same bytes. They must agree on the messages and on the end,
//! unless the session is right for a reason documented here.

use std::io::{self, Cursor, Read, Write};

use getty_core::websocket::{CloseCode, Message, MessageKind, ProtocolError};
use getty_core::{CloseReason, Event};
use tungstenite::Error;
use tungstenite::protocol::{Role, WebSocketConfig};

use super::streams::{MAX_FRAME, MAX_MESSAGE, config, either};
use super::{frames, written};
use crate::clock::Clock;

/// The end of a stream of frames.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// A close frame, with its code and reason.
    Close(Option<(u16, String)>),
    /// The stream ended without one.
    CutOff,
    /// The stream was refused with this code.
    Refused(CloseCode),
}

/// Runs a fuzzer's input: the first byte of `data` chooses the receiver, and whether the others are frames or
/// describe them.
///
/// # Panics
/// If the session and tungstenite disagree.
pub fn run(data: &[u8]) {
    let Some((&how, data)) = data.split_first() else { return };
    let server = how & 1 == 0;
    check(server, &if how & 2 == 0 { frames::spell(data, server) } else { data.to_vec() });
}

/// Compares both on `wire`, as servers or as clients.
///
/// # Panics
/// If they disagree.
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

/// A difference that is allowed.
#[derive(Debug)]
enum Difference {
    /// In the end only, after the same messages.
    End,
    /// tungstenite accepts what RFC 6455 forbids, and goes on.
    TheyGoOn,
}

fn may_differ(error: ProtocolError, end: &End, their_end: &End, wire: &[u8]) -> Option<Difference> {
    let their_code = match their_end {
        End::Refused(code) => Some(*code),
        _ => None,
    };
    match error {
        // Section 5.2, "the minimal number of bytes MUST be used". tungstenite accepts any encoding, but
        // checks the size first, including the top bit.
        ProtocolError::LongLength { .. } => Some(Difference::TheyGoOn),
        // The same for control frames, whose length always fits seven bits (section 5.5).
        ProtocolError::LongControl if has_wide_control_frame(wire) => Some(Difference::TheyGoOn),
        // tungstenite joins any number of fragments, including empty ones.
        ProtocolError::Fragments { .. } => Some(Difference::TheyGoOn),
        // tungstenite answers 1002 like the session, but reports a close instead of an error. It checks the
        // reason first.
        ProtocolError::CloseCode { .. } => {
            let differs = *their_end == replaced() || their_code == Some(CloseCode::INVALID_DATA);
            differs.then_some(Difference::End)
        }
        // The session refuses a frame that can't become valid before it is complete; tungstenite waits for
        // the whole frame.
        _ if *their_end == End::CutOff && ends_within_a_frame(wire) => Some(Difference::End),
        // A frame with two errors, of which tungstenite checks the size first.
        _ if *end == End::Refused(CloseCode::PROTOCOL) && their_code == Some(CloseCode::TOO_BIG) => {
            Some(Difference::End)
        }
        _ => None,
    }
}

/// tungstenite's report for an unknown code.
fn replaced() -> End {
    End::Close(Some((1002, "Protocol violation".to_owned())))
}

/// Whether the length of a control frame uses more bytes than necessary.
fn has_wide_control_frame(mut wire: &[u8]) -> bool {
    std::iter::from_fn(|| frames::read(&mut wire))
        .any(|frame| frame.opcode() & 8 != 0 && frame.form != frames::Form::Shortest)
}

fn ends_within_a_frame(mut wire: &[u8]) -> bool {
    while frames::read(&mut wire).is_some() {}
    !wire.is_empty()
}

type Messages = Vec<(MessageKind, Vec<u8>)>;

fn getty(server: bool, wire: &[u8]) -> (Messages, End, Option<ProtocolError>) {
    let now = Clock::new().now();
    let mut session = either(server, &config());
    session.handle_input(now, wire);
    let (mut messages, mut closed) = (Vec::new(), None);
    for round in 0..4 {
        while let Some(event) = session.poll_event() {
            match event {
                Event::Message(Message::Text(text)) => {
                    messages.push((MessageKind::Text, text.into_bytes().into()))
                }
                Event::Message(Message::Binary(bytes)) => messages.push((MessageKind::Binary, bytes.into())),
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
        reason => panic!("unexpected {reason:?}"),
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
            Ok(tungstenite::Message::Text(text)) => {
                messages.push((MessageKind::Text, text.as_bytes().to_vec()))
            }
            Ok(tungstenite::Message::Binary(bytes)) => messages.push((MessageKind::Binary, bytes.into())),
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
            Err(error) => panic!("unexpected error of the in-memory stream: {error}"),
        }
    };
    (messages, end)
}

/// Yields its bytes and accepts any output.
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
