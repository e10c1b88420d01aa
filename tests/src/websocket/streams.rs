//! Any bytes after an opening handshake: to a session of either role, in pieces of any size.

use std::sync::Arc;

use getty_core::websocket::{ClientRequest, Message, MessageKind, Part, Parts, ServerOptions, WebSocket};
use getty_core::{Close, Config, Event, In, Memory, Protocol, Session};

use super::{frames, open, random, written};
use crate::clock::Clock;
use crate::split::cut;

/// The limits of these sessions.
pub const MAX_FRAME: usize = 1000;
/// See [`MAX_FRAME`].
pub const MAX_MESSAGE: usize = 2000;

/// The events of a session for a stream of frames, and its output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// The messages.
    pub messages: Vec<(MessageKind, Vec<u8>)>,
    /// The reason of the close.
    pub reason: String,
    /// The output.
    pub sent: Vec<u8>,
}

/// Runs a fuzzer's input: the first byte of `data` chooses the receiver, and whether the others are frames or
/// describe them.
///
/// # Panics
/// If the result depends on how the stream is split, or on whether messages are received whole or in parts;
/// if the output is malformed; if a limit is exceeded.
pub fn run(data: &[u8]) {
    let Some((&how, data)) = data.split_first() else { return };
    let server = how & 1 == 0;
    let wire = if how & 2 == 0 { frames::spell(data, server) } else { data.to_vec() };
    check(server, &wire, u64::from(how));
}

/// Checks a stream of frames, as [`run`] does.
pub fn check(server: bool, wire: &[u8], seed: u64) {
    let whole = receive(server, &[wire], false);
    let tiny = wire.chunks(1 + wire.len() / 1000).collect();
    let cuts = [(tiny, false), (cut(wire, 5, seed), true), (cut(wire, 300, seed), true)];
    for (pieces, lends) in cuts {
        let parts = receive(server, &pieces, lends);
        assert_eq!(parts, whole, "cut into {pieces:?}, lent memory: {lends}");
    }
    let sent = frames::check(&whole.sent, !server, false);
    assert_eq!(sent.cut_off, 0);
    assert!(whole.messages.iter().all(|(_, payload)| payload.len() <= MAX_MESSAGE));

    // A message in parts may exceed the limits of one that is held, and so may its frames.
    if !whole.reason.contains("Config::max_message") && !whole.reason.contains("Config::max_frame") {
        for pieces in [vec![wire], cut(wire, 30, seed)] {
            let joined = receive_parts(server, &pieces);
            assert_eq!(joined, whole, "in parts, cut into {pieces:?}");
        }
    }
}

fn receive(server: bool, pieces: &[&[u8]], lends: bool) -> Transcript {
    receive_in(either(server, &config()), pieces, lends)
}

/// Feeds a stream to the open `session`. Returns its events.
pub(super) fn receive_in(mut session: Session<WebSocket>, pieces: &[&[u8]], lends: bool) -> Transcript {
    let mut messages = Vec::new();
    let (reason, sent) = receive_all(&mut session, pieces, lends, |message| {
        messages.push(match message {
            Message::Text(text) => {
                assert!(std::str::from_utf8(text.as_bytes()).is_ok());
                (MessageKind::Text, text.into_bytes().into())
            }
            Message::Binary(bytes) => (MessageKind::Binary, bytes.into()),
        });
    });
    Transcript { messages, reason, sent }
}

/// Receives in parts, and joins them.
fn receive_parts(server: bool, pieces: &[&[u8]]) -> Transcript {
    let (config, now) = (config(), Clock::new().now());
    let request = ClientRequest::new("ws://example.com/").expect("valid");
    let client = WebSocket::client_of(Parts, request, random(1));
    let acceptor = WebSocket::server_of(Parts, ServerOptions::new());
    let (client, acceptor) = open(client, acceptor, &config, now);
    let mut session = if server { acceptor } else { client };
    let (mut messages, mut under_way) = (Vec::new(), None);
    let (reason, sent) = receive_all(&mut session, pieces, false, |part: Part| {
        assert_eq!(part.first, under_way.is_none(), "{part:?}");
        let (kind, payload) = under_way.get_or_insert((part.kind, Vec::new()));
        assert_eq!(part.kind, *kind);
        payload.extend(part.payload);
        if part.last {
            messages.extend(under_way.take());
        }
    });
    Transcript { messages, reason, sent }
}

/// Feeds all pieces, then the end of the stream. Returns the reason of the close and the output.
fn receive_all<P: Protocol>(
    session: &mut Session<P>,
    pieces: &[&[u8]],
    lends: bool,
    mut receive: impl FnMut(In<P>),
) -> (String, Vec<u8>) {
    let now = Clock::new().now();
    let (mut reason, mut sent) = (None, Vec::new());
    let most = pieces.iter().map(|piece| piece.len()).sum::<usize>() + 10;
    let mut memory = lends.then(Memory::new);
    let mut poll = |session: &mut Session<P>| {
        for n in 0.. {
            assert!(n < most, "more events than bytes");
            let Some(event) = session.poll_event() else { break };
            assert!(reason.is_none(), "an event after Closed");
            match event {
                Event::Message(message) => receive(message),
                Event::Closed(why) => reason = Some(format!("{why:?}: {why}")),
                _ => {}
            }
        }
        sent.extend(written(session, now));
        if session.wants_shutdown() {
            session.handle_shutdown(now);
        }
    };
    for piece in pieces {
        if let Some(memory) = memory.take() {
            session.lend(memory);
        }
        session.handle_input(now, piece);
        poll(session);
        let stats = session.stats();
        assert!(stats.buffered <= MAX_FRAME + 14 + piece.len(), "{} bytes are held", stats.buffered);
        if lends {
            memory = Some(session.take_back());
        }
    }
    session.handle_eof(now);
    (0..3).for_each(|_| poll(session));
    session.close(now, Close::graceful());
    (0..3).for_each(|_| poll(session));
    assert!(session.is_closed(), "not closed after its end: {:?}", session.stats());
    (reason.unwrap_or_default(), sent)
}

pub(super) fn config() -> Arc<Config> {
    Config::builder().max_frame(MAX_FRAME).max_message(MAX_MESSAGE).build().expect("valid")
}

/// Returns the server or the client of two open sessions.
pub(super) fn either(server: bool, config: &Arc<Config>) -> Session<WebSocket> {
    let (client, acceptor) = super::opened(config, Clock::new().now());
    if server { acceptor } else { client }
}
