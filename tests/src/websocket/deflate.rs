//! Compressed messages: flate2 reads a session's output, a session reads flate2's output, and compressed
//! frames may contain any bytes.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use getty_core::Session;
use getty_core::websocket::{ClientRequest, Deflate, Message, ServerOptions, WebSocket};

use super::frames::{self, BINARY, CONTINUATION, FIN, Form, Frame, RSV1, TEXT};
use super::streams::{self, MAX_FRAME, MAX_MESSAGE};
use super::{open, random, written};
use crate::clock::Clock;
use crate::script::parts::Script;
use crate::split::cut;

/// The end of a compressed message, which is not sent (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Runs a fuzzer's input: the first byte of `data` chooses who compresses and how, and whether the others are
/// messages or frames.
///
/// # Panics
/// If a message is changed, if a session's output is malformed, if the result depends on how the stream is
/// split, or if a limit is exceeded.
pub fn run(data: &[u8]) {
    let Some((&how, data)) = data.split_first() else { return };
    let shape = Shape { server: how & 1 == 0, takeover: how & 2 != 0 };
    match how >> 2 & 3 {
        0 => check_sending(shape, messages(data)),
        1 => check_receiving(shape, messages(data), usize::from(how >> 4) + 1),
        _ => check_frames(shape, &frames(shape, data), u64::from(how)),
    }
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Whether the session under test is the server's.
    server: bool,
    takeover: bool,
}

fn session(shape: Shape) -> Session<WebSocket> {
    let deflate = Deflate::new()
        .client_no_context_takeover(!shape.takeover)
        .server_no_context_takeover(!shape.takeover)
        .min_size(8);
    let request = ClientRequest::new("ws://example.com/").expect("valid").deflate(deflate.clone());
    let server = WebSocket::server(ServerOptions::new().deflate(deflate));
    let client = WebSocket::client(request, random(1));
    let (client, server) = open(client, server, &streams::config(), Clock::new().now());
    if shape.server { server } else { client }
}

fn messages(data: &[u8]) -> Vec<Message> {
    let (mut script, mut messages) = (Script { data }, Vec::new());
    while let Some(what) = script.next() {
        let size = script.size().min(MAX_FRAME * 9 / 10);
        let bytes = match what % 4 {
            0 => vec![what; size],
            1 => (0..size).map(|i| (i * usize::from(what)) as u8).collect(),
            2 => b"the same words again, ".iter().copied().cycle().take(size).collect(),
            _ => std::iter::from_fn(|| script.next()).take(size).collect(),
        };
        messages.push(match String::from_utf8(bytes) {
            Ok(text) if what & 4 == 0 => Message::text(text),
            Ok(text) => Message::binary(text.into_bytes()),
            Err(error) => Message::binary(error.into_bytes()),
        });
    }
    messages
}

/// Checks that flate2 can read what a session compresses.
fn check_sending(shape: Shape, messages: Vec<Message>) {
    let mut session = session(shape);
    let (mut wire, mut taken) = (Vec::new(), Vec::new());
    for message in messages {
        if session.send(message.clone()).is_ok() {
            taken.push(message);
        }
        wire.extend(written(&mut session, Clock::new().now()));
    }
    let sent = frames::check(&wire, !shape.server, true).messages;
    assert_eq!(sent.len(), taken.len());
    let mut inflater = Decompress::new(false);
    for ((opcode, compressed, payload), message) in sent.into_iter().zip(taken) {
        assert_eq!(opcode == TEXT, matches!(message, Message::Text(_)));
        assert_eq!(compressed, message.len() >= 8, "messages below the minimum size are not compressed");
        let payload = if compressed { inflate(&mut inflater, &payload) } else { payload };
        assert_eq!(payload, message.as_bytes()[..]);
        if !shape.takeover {
            inflater.reset(false);
        }
    }
}

fn inflate(inflater: &mut Decompress, payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(MAX_MESSAGE * 2);
    for piece in [payload, &TAIL] {
        let before = inflater.total_in();
        inflater.decompress_vec(piece, &mut message, FlushDecompress::Sync).expect("it is compressed");
        assert_eq!(inflater.total_in() - before, piece.len() as u64, "all of it is read");
    }
    message
}

/// Checks that a session can read what flate2 compresses, in fragments of `size` bytes.
fn check_receiving(shape: Shape, messages: Vec<Message>, size: usize) {
    let mut deflater = Compress::new(Compression::default(), false);
    let mut wire = Vec::new();
    for message in &messages {
        let payload = deflate(&mut deflater, message.as_bytes());
        let pieces: Vec<&[u8]> = payload.chunks(size * 20).collect();
        for (n, piece) in pieces.iter().enumerate() {
            let opcode = if matches!(message, Message::Text(_)) { TEXT } else { BINARY };
            let first = if n == 0 { opcode | RSV1 } else { CONTINUATION };
            let last = if n + 1 == pieces.len() { FIN } else { 0 };
            frame(shape, first | last, piece).write(&mut wire);
        }
        if !shape.takeover {
            deflater.reset();
        }
    }
    let received = streams::receive_in(session(shape), &[&wire], false);
    let expected: Vec<Vec<u8>> = messages.into_iter().map(|message| message.into_bytes().into()).collect();
    let received: Vec<Vec<u8>> = received.messages.into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(received, expected);
}

fn deflate(deflater: &mut Compress, message: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(message.len() * 2 + 100);
    deflater.compress_vec(message, &mut payload, FlushCompress::Sync).expect("there is room");
    if message.is_empty() {
        return vec![0];
    }
    assert!(payload.ends_with(&TAIL));
    payload.truncate(payload.len() - TAIL.len());
    payload
}

fn frame(shape: Shape, first: u8, payload: &[u8]) -> Frame {
    let mask = shape.server.then_some([1, 2, 3, 4]);
    Frame { first, mask, payload: payload.to_vec(), form: Form::Shortest }
}

/// Makes frames from `data`: their first byte, the size of the payload, and the payload, which may be
/// compressed and then changed.
fn frames(shape: Shape, data: &[u8]) -> Vec<u8> {
    let (mut script, mut wire) = (Script { data }, Vec::new());
    let mut deflater = Compress::new(Compression::fast(), false);
    while let Some(what) = script.next() {
        let size = script.size();
        let first = match what % 8 {
            0..=2 => FIN | RSV1 | BINARY,
            3 => FIN | RSV1 | TEXT,
            4 => RSV1 | BINARY,
            5 => CONTINUATION,
            6 => FIN | CONTINUATION,
            _ => what,
        };
        let mut payload: Vec<u8> = match what >> 4 & 3 {
            0 => std::iter::from_fn(|| script.next()).take(size % 32).collect(),
            1 => deflate(&mut deflater, &vec![what; size * 20]),
            2 => deflate(&mut deflater, &b"text and ".repeat(size % 200)),
            _ => {
                let bytes: Vec<u8> = std::iter::from_fn(|| script.next()).take(size % 64).collect();
                deflate(&mut deflater, &bytes)
            }
        };
        if what & 0x40 != 0 && !payload.is_empty() {
            let at = script.byte() % payload.len();
            payload[at] ^= script.byte() as u8;
        }
        frame(shape, first, &payload).write(&mut wire);
    }
    wire
}

/// Checks that arbitrary frames give the same result however they are split, within the limits.
fn check_frames(shape: Shape, wire: &[u8], seed: u64) {
    let whole = streams::receive_in(session(shape), &[wire], false);
    for pieces in [wire.chunks(1).collect(), cut(wire, 30, seed)] {
        let parts = streams::receive_in(session(shape), &pieces, true);
        assert_eq!(parts, whole, "cut into {pieces:?}");
    }
    frames::check(&whole.sent, !shape.server, true);
    assert!(whole.messages.iter().all(|(_, payload)| payload.len() <= MAX_MESSAGE));
}
