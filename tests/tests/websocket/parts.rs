//! Messages in parts: received as they arrive, and sent as they are made.

use std::time::Duration;

use bytes::Bytes;
use getty_core::websocket::{MessageKind, Part, PartError, Parts, ProtocolError, ServerOptions, WebSocket};
use getty_core::{Close, CloseReason, SendError};
use testkit::websocket::peers::{Frame, Solo, client_request, config, random};

const NONE: [&str; 0] = [];

fn server() -> Solo<Parts> {
    let protocol = WebSocket::server_of(Parts, ServerOptions::new());
    Solo::new(protocol, config(|c| c.max_message(1 << 20)), true).opened()
}

fn client() -> Solo<Parts> {
    let protocol = WebSocket::client_of(Parts, client_request(), random(1));
    Solo::new(protocol, config(|c| c.max_message(1 << 20)), false).opened()
}

fn text(payload: &'static str, first: bool, last: bool) -> Part {
    Part::new(MessageKind::Text, payload, first, last)
}

fn binary(payload: impl Into<Bytes>, first: bool, last: bool) -> Part {
    Part::new(MessageKind::Binary, payload, first, last)
}

/// Checks that the parts are those of one message of this kind, with one beginning and one end. Returns their
/// payload.
fn joined(parts: &[Part], kind: MessageKind) -> Vec<u8> {
    for (at, part) in parts.iter().enumerate() {
        assert_eq!((part.kind, part.first, part.last), (kind, at == 0, at == parts.len() - 1), "part {at}");
    }
    parts.iter().flat_map(|part| part.payload.clone()).collect()
}

#[test]
fn a_small_message_is_one_part() {
    for mut solo in [server(), client()] {
        let bytes = solo.peers([Frame::text("a"), Frame::binary("bc"), Frame::text(""), Frame::binary("")]);
        solo.input(&bytes);
        let whole =
            [text("a", true, true), binary("bc", true, true), text("", true, true), binary("", true, true)];
        assert_eq!(solo.messages(), whole);
    }
}

#[test]
fn fragments_are_parts() {
    for mut solo in [server(), client()] {
        let frames = [
            Frame::text("a").more(),
            Frame::ping("between"),
            Frame::continuation("").more(),
            Frame::continuation("b"),
            Frame::binary("c"),
        ];
        let bytes = solo.peers(frames);
        solo.input(&bytes);
        let parts =
            [text("a", true, false), text("", false, false), text("b", false, true), binary("c", true, true)];
        assert_eq!(solo.messages(), parts);
        assert_eq!(solo.sent(), [Frame::pong("between")]);
    }
}

/// A message of 16 MiB in one frame, with a limit of 1 MiB for what is held.
#[test]
fn a_large_message_comes_as_it_arrives() {
    let protocol = || WebSocket::server_of(Parts, ServerOptions::new());
    let limits = config(|c| c.max_message(16 << 20).max_frame(16 << 20).max_buffered(1 << 20));
    let mut server = Solo::new(protocol(), limits, true).opened();
    let payload: Vec<u8> = (0..16 << 20).map(|n| (n % 251) as u8).collect();
    let frame = server.as_peer(Frame::binary(&payload)).bytes();
    let mut parts = Vec::new();
    for piece in frame.chunks(100_003) {
        server.input(piece);
        let come = server.messages();
        assert_eq!(come.len(), 1, "each read is a part");
        assert_eq!(server.session.stats().buffered, 0, "nothing is held back");
        parts.extend(come);
    }
    assert!(joined(&parts, MessageKind::Binary) == payload);
}

/// Reads may cut a frame anywhere, even in its header.
#[test]
fn parts_join_to_the_message_wherever_reads_end() {
    let said = "κόσμε and the rest";
    for is_server in [true, false] {
        let make = || if is_server { server() } else { client() };
        let frames = || [Frame::text(&said[..6]).more(), Frame::ping("?"), Frame::continuation(&said[6..])];
        let bytes = make().peers(frames());
        for cut in 1..bytes.len() {
            for at_once in [1, bytes.len()] {
                let mut solo = make();
                let mut parts = Vec::new();
                for piece in bytes[..cut].chunks(at_once).chain(bytes[cut..].chunks(at_once)) {
                    solo.input(piece);
                    parts.extend(solo.messages());
                }
                assert_eq!(joined(&parts, MessageKind::Text), said.as_bytes(), "cut at {cut}");
                assert_eq!(solo.sent(), [Frame::pong("?")]);
            }
        }
    }
}

/// Both may be longer than the limit for what is held, since no more is held than was read.
#[test]
fn messages_and_their_frames_have_no_end() {
    for mut solo in [server(), client()] {
        solo.peer(Frame::binary(vec![1; 1 << 20]).more());
        for _ in 0..4 {
            assert_eq!(solo.messages().len(), 1);
            solo.peer(Frame::continuation(vec![1; 1 << 20]).more());
        }
        assert_eq!(solo.messages().len(), 1);
        let header = solo.as_peer(Frame::continuation("")).header(1 << 40);
        solo.input(&header);
        for _ in 0..4 {
            solo.input(&[1; 1 << 20]);
            assert_eq!(solo.messages().iter().map(|part| part.payload.len()).sum::<usize>(), 1 << 20);
        }
    }
}

#[test]
fn a_flood_of_empty_parts_ends_too() {
    let mut server = server();
    server.peer(Frame::text("").more());
    for _ in 1..1024 {
        server.peer(Frame::continuation("").more());
    }
    assert_eq!(server.messages().len(), 1024);
    server.peer(Frame::continuation("").more());
    assert!(matches!(server.failed_with(1008), CloseReason::Protocol(ProtocolError::Fragments { .. })));
}

/// Text is checked as it arrives: valid text is delivered, and the first bad byte ends the session.
#[test]
fn text_is_checked_part_by_part() {
    for mut solo in [server(), client()] {
        let frame = solo.as_peer(Frame::text([b"ab\xce", &[b'x'; 100][..]].concat())).bytes();
        let payload = frame.len() - 103;
        solo.input(&frame[..payload + 3]);
        let parts = solo.messages();
        assert_eq!(
            parts,
            [Part::new(MessageKind::Text, &b"ab\xce"[..], true, false)],
            "a character may be cut"
        );
        solo.input(&frame[payload + 3..payload + 4]);
        assert!(matches!(solo.failed_with(1007), CloseReason::Protocol(ProtocolError::Utf8)));
    }
    let mut server = server();
    server.peer(Frame::text(b"ab\xce").more());
    assert_eq!(server.messages().len(), 1);
    server.peer(Frame::continuation(""));
    assert!(matches!(server.failed_with(1007), CloseReason::Protocol(ProtocolError::Utf8)));
}

#[test]
fn what_is_sent_in_parts_is_one_message_in_fragments() {
    for mut solo in [server(), client()] {
        for part in
            [text("a", true, false), text("", false, false), text("b", false, true), binary("c", true, true)]
        {
            solo.session.send(part).unwrap();
        }
        let frames = [
            Frame::text("a").more(),
            Frame::continuation("").more(),
            Frame::continuation("b"),
            Frame::binary("c"),
        ];
        assert_eq!(solo.sent(), frames);
    }
}

/// Pings and pongs go between the parts.
#[test]
fn control_frames_go_between_sent_parts() {
    let limits = config(|c| c.heartbeat_period(Duration::from_secs(1)));
    let protocol = WebSocket::server_of(Parts, ServerOptions::new());
    let mut server = Solo::new(protocol, limits, true).opened();
    server.session.send(text("a", true, false)).unwrap();
    server.peer(Frame::ping("?"));
    assert_eq!(server.poll(), NONE);
    server.session.send(text("b", false, false)).unwrap();
    assert_eq!(server.at(Duration::from_secs(1)), NONE);
    server.session.send(text("c", false, true)).unwrap();
    let sent = server.sent();
    assert_eq!(sent[..3], [Frame::text("a").more(), Frame::pong("?"), Frame::continuation("b").more()]);
    assert_eq!((sent[3].opcode, sent[3].fin), (9, true));
    assert_eq!(sent[4..], [Frame::continuation("c")]);
}

#[test]
fn parts_out_of_order_are_refused_and_change_nothing() {
    fn refused(solo: &mut Solo<Parts>, part: Part) -> PartError {
        match solo.session.send(part) {
            Err(SendError::Encode(error)) => *error.downcast_ref().expect("a PartError"),
            other => panic!("{other:?}"),
        }
    }
    for mut solo in [server(), client()] {
        assert_eq!(refused(&mut solo, text("a", false, false)), PartError::NotBegun);
        assert_eq!(refused(&mut solo, text("a", false, true)), PartError::NotBegun);
        solo.session.send(text("a", true, false)).unwrap();
        assert_eq!(refused(&mut solo, text("b", true, false)), PartError::Unfinished);
        assert_eq!(refused(&mut solo, binary("b", true, true)), PartError::Unfinished);
        assert_eq!(refused(&mut solo, binary("b", false, true)), PartError::Kind);
        solo.session.send(text("c", false, true)).unwrap();
        assert_eq!(refused(&mut solo, text("d", false, true)), PartError::NotBegun);
        assert_eq!(solo.sent(), [Frame::text("a").more(), Frame::continuation("c")]);
        assert_eq!(solo.session.stats().refused, 6);
    }
}

/// A close within a message that is being sent cuts it off, and nothing can be added.
#[test]
fn a_close_cuts_off_the_message_that_is_being_sent() {
    for mut solo in [server(), client()] {
        solo.session.send(text("a", true, false)).unwrap();
        solo.session.close(solo.clock.now(), Close::graceful());
        assert!(matches!(solo.session.send(text("b", false, true)), Err(SendError::Closed(_))));
        assert_eq!(solo.sent(), [Frame::text("a").more(), Frame::close(1000, "")]);
    }
}

/// After a close within a frame that is being received, the rest of the frame is dropped, and the peer's
/// close frame is found behind it.
#[test]
fn a_close_while_a_part_is_coming_finds_the_peers_close_frame_behind_it() {
    for mut solo in [server(), client()] {
        let frame = solo.as_peer(Frame::text([b'a'; 50])).bytes();
        solo.input(&frame[..20]);
        assert_eq!(solo.messages().len(), 1);
        solo.session.close(solo.clock.now(), Close::graceful());
        assert_eq!(solo.sent(), [Frame::close(1000, "")]);
        solo.input(&frame[20..]);
        solo.peer(Frame::close(1000, ""));
        assert_eq!(solo.poll(), NONE);
        if !solo.is_server() {
            solo.eof();
        }
        solo.shut_down();
        if solo.is_server() {
            solo.eof();
        }
        assert!(matches!(solo.closed(), CloseReason::Local { flushed: true }));
    }
}
