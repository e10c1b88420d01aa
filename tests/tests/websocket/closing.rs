//! Every way in which a WebSocket session ends: what is sent, in which order, and the one `Closed`.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use getty_core::websocket::{CloseCode, CloseFrame, Message, ProtocolError, ServerOptions};
use getty_core::{Close, CloseReason, Deadline, Event, Idle, SendError};
use proptest::prelude::*;
use testkit::pair::{Split, Wire};
use testkit::websocket::peers::{Frame, Solo, accept, client_request, config, pair};

const NONE: [&str; 0] = [];
const NS: Duration = Duration::from_nanos(1);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn both() -> [Solo; 2] {
    Solo::opened_both(|c| c)
}

fn close(solo: &mut Solo, how: Close) {
    solo.session.close(solo.clock.now(), how);
}

fn frame(code: u16, reason: &str) -> CloseFrame {
    CloseFrame::new(CloseCode::new(code).unwrap(), reason)
}

/// Ends a session after both close frames: the server ends its stream first, and the client waits for that.
fn end(solo: &mut Solo) -> CloseReason {
    assert_eq!(solo.poll(), NONE);
    if solo.is_server() {
        solo.shut_down();
        assert_eq!(solo.poll(), NONE, "it waits for the peer's end");
        solo.eof();
    } else {
        assert!(!solo.session.wants_shutdown() && solo.session.wants_read(), "the server ends first");
        solo.eof();
        solo.shut_down();
    }
    let reason = solo.closed();
    assert_eq!((solo.sent(), solo.session.poll_timeout()), (vec![], None));
    reason
}

fn assert_peer(reason: CloseReason, code: Option<u16>, text: &str) {
    match reason {
        CloseReason::Peer(frame) => {
            assert_eq!((frame.code.map(CloseCode::get), &*frame.reason), (code, text));
        }
        other => panic!("not Peer: {other}"),
    }
}

#[test]
fn a_local_close_says_why_and_waits_for_the_answer() {
    let table = [
        (Close::graceful(), Frame::close(1000, "")),
        (Close::graceful().with_frame(frame(1001, "bye")), Frame::close(1001, "bye")),
        (Close::graceful().with_frame(frame(4999, "ä")), Frame::close(4999, "ä")),
        (Close::graceful().with_drain().with_frame(frame(3000, "")), Frame::close(3000, "")),
    ];
    for (how, said) in table {
        for mut solo in both() {
            solo.session.send(Message::text("before")).unwrap();
            close(&mut solo, how.clone());
            assert_eq!(solo.poll(), NONE);
            assert!(matches!(solo.session.send("after".into()), Err(SendError::Closed(_))));
            assert_eq!(solo.sent(), [Frame::text("before"), said.clone()]);
            assert!(
                !solo.session.wants_shutdown() && solo.session.wants_read(),
                "it waits for the peer's close frame"
            );
            solo.peer(said.clone());
            let reason = end(&mut solo);
            assert!(matches!(reason, CloseReason::Local { flushed: true }) && reason.is_clean());
        }
    }
}

#[test]
fn a_reason_that_does_not_fit_is_cut() {
    let [mut server, _] = both();
    close(&mut server, Close::graceful().with_frame(frame(1000, &"é".repeat(100))));
    assert_eq!(server.sent(), [Frame::close(1000, &"é".repeat(61))]);
}

#[test]
fn a_peers_close_is_answered_with_its_code() {
    for code in
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
    {
        for mut solo in both() {
            solo.peer(Frame::close(code, "why"));
            assert_eq!(solo.poll(), NONE);
            assert_eq!(solo.sent(), [Frame::close(code, "")]);
            let reason = end(&mut solo);
            assert_eq!(reason.is_clean(), code <= 1001);
            assert_peer(reason, Some(code), "why");
        }
    }
    for mut solo in both() {
        solo.peer(Frame::new(8, ""));
        assert_eq!(solo.poll(), NONE);
        assert_eq!(solo.sent(), [Frame::new(8, "")], "a close without a code gets one without a code");
        let reason = end(&mut solo);
        assert!(reason.is_clean());
        assert_peer(reason, None, "");
    }
}

#[test]
fn what_is_queued_goes_out_before_the_answer() {
    for mut solo in both() {
        solo.session.send(Message::text("queued")).unwrap();
        solo.peer(Frame::close(1000, ""));
        assert_eq!(solo.poll(), NONE);
        assert!(matches!(solo.session.send("late".into()), Err(SendError::Closed(_))));
        assert_eq!(solo.sent(), [Frame::text("queued"), Frame::close(1000, "")]);
        assert_peer(end(&mut solo), Some(1000), "");
    }
}

#[test]
fn messages_before_the_close_frame_are_delivered_and_may_be_answered() {
    for mut solo in both() {
        let bytes = solo.peers([Frame::text("a"), Frame::text("b"), Frame::close(1000, "")]);
        solo.input(&bytes);
        for said in ["a", "b"] {
            let Some(Event::Message(message)) = solo.session.poll_event() else { panic!() };
            assert_eq!(message, Message::text(said));
            solo.session.send(message).unwrap();
        }
        assert_eq!(solo.poll(), NONE);
        assert_eq!(solo.sent(), [Frame::text("a"), Frame::text("b"), Frame::close(1000, "")]);
        assert_peer(end(&mut solo), Some(1000), "");
    }
}

#[test]
fn what_comes_after_the_peers_close_frame_is_ignored() {
    for mut solo in both() {
        let after =
            [Frame::text("a"), Frame::ping("b"), Frame::close(1001, ""), Frame::new(15, "bad").rsv(7)];
        let bytes = solo.peers([Frame::close(1000, "")].into_iter().chain(after.clone()));
        solo.input(&bytes);
        assert_eq!(solo.poll(), NONE);
        assert_eq!(solo.sent(), [Frame::close(1000, "")]);
        let bytes = solo.peers(after);
        solo.input(&bytes);
        assert_peer(end(&mut solo), Some(1000), "");
    }
}

/// Section 7.1.5: each close frame is the first of its side, and neither is a reply to the other.
#[test]
fn both_sides_may_close_at_once() {
    for mut solo in both() {
        close(&mut solo, Close::graceful().with_frame(frame(4000, "mine")));
        solo.peer(Frame::close(4001, "theirs"));
        assert_eq!(solo.sent(), [Frame::close(4000, "mine")]);
        assert!(matches!(end(&mut solo), CloseReason::Local { flushed: true }));
    }
    let wire = Wire { latency: Duration::from_millis(10), ..Wire::default() };
    let mut pair = pair(client_request(), ServerOptions::new(), config(|c| c)).wires(wire);
    pair.settle();
    let now = pair.clock.now();
    pair.a.session.close(now, Close::graceful());
    pair.b.session.close(now, Close::graceful());
    assert!(pair.run_until_closed(secs(1)));
    for reason in [pair.a.close_reason(), pair.b.close_reason()] {
        assert!(matches!(reason, Some(CloseReason::Local { flushed: true })), "{reason:?}");
    }
}

#[test]
fn two_sessions_close_with_each_other() {
    for client_closes in [true, false] {
        for split in [Split::Whole, Split::Every(1)] {
            let wire = Wire { latency: Duration::from_millis(10), split, ..Wire::default() };
            let mut pair = pair(client_request(), ServerOptions::new(), config(|c| c)).wires(wire);
            pair.settle();
            let from = pair.clock.elapsed();
            let how = Close::graceful().with_frame(frame(4000, "enough"));
            let session = if client_closes { &mut pair.a.session } else { &mut pair.b.session };
            session.close(pair.clock.now(), how);
            assert!(pair.run_until_closed(secs(10)));
            // The close frame, the reply to it, and the ends of both streams.
            let trips = if client_closes { 3 } else { 4 };
            assert!(
                pair.clock.elapsed() - from <= trips * Duration::from_millis(10),
                "{:?}",
                pair.clock.elapsed()
            );
            let (local, peer) = (pair.a.close_reason().unwrap(), pair.b.close_reason().unwrap());
            let (local, peer) = if client_closes { (local, peer) } else { (peer, local) };
            assert!(matches!(local, CloseReason::Local { flushed: true }));
            assert_peer(peer.clone(), Some(4000), "enough");
        }
    }
}

/// Data that crosses a close frame is dropped, pings are no longer answered, and the peer's close frame is
/// found.
#[test]
fn data_that_crosses_a_close_is_dropped() {
    for cut in 0..60 {
        for mut solo in both() {
            let frames = [
                Frame::text("crosses"),
                Frame::ping("?"),
                Frame::binary([7; 10]).more(),
                Frame::continuation([7; 10]),
                Frame::close(1000, ""),
            ];
            let bytes = solo.peers(frames);
            let (before, after) = bytes.split_at(cut.min(bytes.len() - 1));
            close(&mut solo, Close::graceful());
            solo.input(before);
            assert_eq!(solo.poll(), NONE);
            assert_eq!(solo.sent(), [Frame::close(1000, "")]);
            solo.input(after);
            assert!(matches!(end(&mut solo), CloseReason::Local { flushed: true }), "cut at {cut}");
        }
    }
}

/// The same if the frames have begun to arrive before the close.
#[test]
fn a_close_within_a_frame_still_finds_the_peers_close_frame() {
    for at_once in [1, 7, usize::MAX] {
        for cut in 0..100 {
            for mut solo in both() {
                let frames = [
                    Frame::text("κόσμε").more(),
                    Frame::continuation([b'x'; 60]),
                    Frame::text([b'y'; 10]).more(),
                    Frame::close(1000, ""),
                ];
                let bytes = solo.peers(frames);
                let (before, after) = bytes.split_at(cut.min(bytes.len() - 1));
                solo.input(before);
                solo.events();
                close(&mut solo, Close::graceful());
                assert_eq!(solo.sent(), [Frame::close(1000, "")]);
                for piece in after.chunks(at_once.min(after.len())) {
                    solo.input(piece);
                    assert_eq!(solo.poll(), NONE);
                }
                assert!(matches!(end(&mut solo), CloseReason::Local { flushed: true }), "cut at {cut}");
            }
        }
    }
}

/// If the peer breaks the protocol after this end's close frame, the wait is over, and nothing more is read.
#[test]
fn a_fault_while_closing_ends_the_wait() {
    for fault in [Frame::new(3, ""), Frame::text([0xff]), Frame::close(1005, ""), Frame::continuation("a")] {
        for mut solo in both() {
            close(&mut solo, Close::graceful());
            assert_eq!(solo.sent(), [Frame::close(1000, "")]);
            solo.peer(fault.clone());
            assert_eq!((solo.poll(), solo.sent()), (vec![], vec![]));
            let garbage = solo.peers([Frame::text([b'a'; 100]), Frame::close(1000, "")]);
            for byte in &garbage[3..] {
                solo.input(&[*byte]);
                assert_eq!(solo.poll(), NONE);
            }
            solo.shut_down();
            solo.eof();
            assert!(matches!(solo.closed(), CloseReason::Local { .. }), "{fault:?}");
        }
    }
}

#[test]
fn a_peer_that_never_answers_is_given_five_seconds() {
    for mut solo in both() {
        close(&mut solo, Close::graceful());
        assert_eq!(solo.sent(), [Frame::close(1000, "")]);
        solo.peer(Frame::text("still talking"));
        assert_eq!(solo.session.poll_timeout(), Some(solo.clock.at(secs(5))));
        assert_eq!(solo.at(secs(5) - NS), NONE);
        solo.session.handle_timeout(solo.clock.at(secs(5)));
        assert!(matches!(solo.closed(), CloseReason::Timeout(Deadline::Close)));
    }
}

#[test]
fn a_peer_that_does_not_take_the_close_frame_is_given_five_seconds() {
    for mut solo in both() {
        solo.peer(Frame::close(1000, ""));
        assert_eq!(solo.poll(), NONE);
        assert_eq!(solo.at(secs(5) - NS), NONE);
        solo.session.handle_timeout(solo.clock.at(secs(5)));
        assert!(matches!(solo.closed(), CloseReason::Timeout(Deadline::Close)));
    }
}

/// Both ends have sent their close frames. A peer that leaves its stream open changes nothing about that.
#[test]
fn a_peer_that_leaves_its_stream_open_is_given_five_seconds_and_blamed_for_nothing() {
    for mut solo in both() {
        solo.peer(Frame::close(1000, "done"));
        assert_eq!(solo.poll(), NONE);
        assert_eq!(solo.sent(), [Frame::close(1000, "")]);
        if solo.is_server() {
            solo.shut_down();
        }
        assert_eq!(solo.at(secs(5) - NS), NONE);
        solo.session.handle_timeout(solo.clock.at(secs(5)));
        assert_peer(solo.closed(), Some(1000), "done");
    }
    for mut solo in both() {
        close(&mut solo, Close::graceful());
        solo.sent();
        solo.peer(Frame::close(1000, ""));
        assert_eq!(solo.poll(), NONE);
        solo.session.handle_timeout(solo.clock.at(secs(5)));
        assert!(matches!(solo.closed(), CloseReason::Local { flushed: true }));
    }
}

#[test]
fn the_end_of_the_stream_without_a_close_frame_is_an_error() {
    let frames = [vec![], Frame::text("a").bytes(), Frame::text("abc").bytes()[..3].to_vec()];
    for before in frames {
        let mut client = Solo::opened_client();
        client.input(&before);
        client.events();
        client.eof();
        assert_eq!(client.poll(), NONE);
        assert_eq!(client.sent(), [], "the peer would not read it");
        client.shut_down();
        let reason = client.closed();
        assert!(matches!(reason, CloseReason::Eof { mid_frame: true }) && !reason.is_clean());
    }
    // Messages that came before the end are delivered.
    for mut solo in both() {
        solo.peer(Frame::text("a"));
        solo.eof();
        assert_eq!(solo.poll(), ["Text(\"a\")"]);
        solo.shut_down();
        assert!(matches!(solo.closed(), CloseReason::Eof { mid_frame: true }));
    }
}

/// A peer may end its stream right after its close frame and still read, so it gets a reply.
#[test]
fn a_close_frame_and_the_end_of_the_stream_may_come_together() {
    for mut solo in both() {
        solo.peer(Frame::close(1000, ""));
        solo.eof();
        assert_eq!(solo.poll(), NONE);
        assert_eq!(solo.sent(), [Frame::close(1000, "")]);
        solo.shut_down();
        assert_peer(solo.closed(), Some(1000), "");
    }
}

#[test]
fn the_end_of_the_stream_ends_the_wait_for_an_answer() {
    for mut solo in both() {
        close(&mut solo, Close::graceful());
        assert_eq!(solo.sent(), [Frame::close(1000, "")]);
        solo.eof();
        assert_eq!(solo.poll(), NONE);
        solo.shut_down();
        assert!(matches!(solo.closed(), CloseReason::Local { flushed: true }));
    }
}

#[test]
fn a_failed_transport_ends_everything_at_once() {
    for mut solo in both() {
        solo.peer(Frame::text("a"));
        solo.session.handle_io_error(solo.clock.now(), ErrorKind::ConnectionReset);
        assert_eq!(solo.sent(), []);
        assert_eq!(solo.poll(), ["Text(\"a\")".to_owned(), "Closed: transport: connection reset".to_owned()]);
    }
    for mut solo in both() {
        close(&mut solo, Close::graceful());
        assert_eq!(solo.sent().len(), 1);
        solo.session.handle_io_error(solo.clock.now(), ErrorKind::ConnectionReset);
        assert!(matches!(solo.closed(), CloseReason::Local { .. }));
    }
    for mut solo in both() {
        solo.peer(Frame::close(1000, ""));
        solo.events();
        solo.session.handle_io_error(solo.clock.now(), ErrorKind::ConnectionReset);
        assert_peer(solo.closed(), Some(1000), "");
    }
}

#[test]
fn the_code_tells_why_a_session_is_closed() {
    let refusal: Arc<dyn std::error::Error + Send + Sync> =
        Arc::from(Box::<dyn std::error::Error + Send + Sync>::from("not today"));
    let table = [
        (Close::refuse(refusal), 1008, "not today"),
        (Close::idle(Idle::Read), 1001, "nothing was received"),
        (Close::idle(Idle::Write), 1001, "nothing was sent"),
        (Close::idle(Idle::Both), 1001, "nothing was received or sent"),
    ];
    for (how, code, reason) in table {
        for mut solo in both() {
            close(&mut solo, how.clone());
            assert_eq!(solo.sent(), [Frame::close(code, reason)]);
            solo.peer(Frame::close(code, ""));
            assert!(!matches!(end(&mut solo), CloseReason::Local { .. }));
        }
    }
}

#[test]
fn a_panic_of_the_listener_is_told_as_1011() {
    for mut solo in both() {
        solo.peer(Frame::text("poison"));
        assert_eq!(solo.poll().len(), 1);
        close(&mut solo, Close::panicked());
        assert_eq!(solo.sent(), [Frame::close(1011, "")]);
        solo.shut_down();
        solo.eof();
        assert!(matches!(solo.closed(), CloseReason::Panicked));
    }
    // The transport takes nothing, and the panic is still the reason.
    for mut solo in both() {
        close(&mut solo, Close::panicked());
        solo.session.handle_timeout(solo.clock.at(secs(5)));
        assert!(matches!(solo.closed(), CloseReason::Panicked));
    }
}

#[test]
fn an_abort_says_nothing() {
    for mut solo in both() {
        solo.session.send(Message::text("lost")).unwrap();
        close(&mut solo, Close::abort());
        assert_eq!(solo.sent(), []);
        assert!(matches!(solo.closed(), CloseReason::Local { flushed: false }));
    }
    for mut solo in both() {
        close(&mut solo, Close::graceful());
        solo.sent();
        close(&mut solo, Close::abort());
        assert!(matches!(solo.closed(), CloseReason::Local { flushed: true }));
    }
}

#[test]
fn a_drain_delivers_what_has_come_before_the_close_frame_goes_out() {
    for mut solo in both() {
        let mut bytes = solo.peers([Frame::text("a"), Frame::ping("?"), Frame::text("b")]);
        let half = solo.peers([Frame::text("cut off"), Frame::close(1000, "")]);
        bytes.extend(&half[..4]);
        solo.input(&bytes);
        close(&mut solo, Close::graceful().with_drain().with_frame(frame(1001, "")));
        assert!(!solo.session.wants_read());
        let Some(Event::Message(a)) = solo.session.poll_event() else { panic!() };
        solo.session.send(a).unwrap();
        assert_eq!(solo.poll(), ["Text(\"b\")"]);
        assert!(matches!(solo.session.send("late".into()), Err(SendError::Closed(_))));
        assert_eq!(solo.sent(), [Frame::text("a"), Frame::pong("?"), Frame::close(1001, "")]);
        solo.input(&half[4..]);
        assert!(matches!(end(&mut solo), CloseReason::Local { flushed: true }));
    }
}

/// The peer's close frame may be among the drained frames.
#[test]
fn a_drain_ends_with_the_peers_close_frame() {
    for mut solo in both() {
        let bytes = solo.peers([Frame::text("a"), Frame::close(4000, ""), Frame::text("b")]);
        solo.input(&bytes);
        close(&mut solo, Close::graceful().with_drain());
        assert_eq!(solo.poll(), ["Text(\"a\")"]);
        assert_eq!(solo.sent(), [Frame::close(1000, "")]);
        assert!(matches!(end(&mut solo), CloseReason::Local { flushed: true }));
    }
}

#[test]
fn a_fault_in_what_is_drained_is_told() {
    for mut solo in both() {
        let bytes = solo.peers([Frame::text("a"), Frame::new(3, "")]);
        solo.input(&bytes);
        close(&mut solo, Close::graceful().with_drain());
        assert_eq!(solo.poll(), ["Text(\"a\")"]);
        assert!(matches!(solo.failed_with(1002), CloseReason::Protocol(ProtocolError::Opcode { opcode: 3 })));
    }
}

#[test]
fn a_paused_session_closes_too() {
    for mut solo in both() {
        solo.session.pause();
        solo.peer(Frame::text("dropped"));
        close(&mut solo, Close::graceful());
        assert_eq!(solo.sent(), [Frame::close(1000, "")]);
        solo.peer(Frame::close(1000, ""));
        assert!(matches!(end(&mut solo), CloseReason::Local { flushed: true }));
    }
}

/// A close frame may come between the fragments of a message, which is then dropped.
#[test]
fn a_close_frame_may_come_within_a_message() {
    for mut solo in both() {
        let bytes = solo.peers([Frame::text("a").more(), Frame::close(1001, "")]);
        solo.input(&bytes);
        assert_eq!(solo.poll(), NONE);
        assert_eq!(solo.sent(), [Frame::close(1001, "")]);
        assert_peer(end(&mut solo), Some(1001), "");
    }
}

#[test]
fn closing_again_changes_nothing() {
    for mut solo in both() {
        close(&mut solo, Close::graceful().with_frame(frame(4000, "first")));
        close(&mut solo, Close::graceful().with_frame(frame(4001, "second")));
        assert_eq!(solo.sent(), [Frame::close(4000, "first")]);
        close(&mut solo, Close::graceful().with_frame(frame(4002, "third")));
        assert_eq!(solo.sent(), []);
        solo.peer(Frame::close(4000, ""));
        assert!(matches!(end(&mut solo), CloseReason::Local { flushed: true }));
    }
    for mut solo in both() {
        solo.peer(Frame::close(1000, ""));
        assert_eq!(solo.poll(), NONE);
        close(&mut solo, Close::graceful().with_frame(frame(4000, "too late")));
        assert_eq!(solo.sent(), [Frame::close(1000, "")]);
        assert_peer(end(&mut solo), Some(1000), "");
    }
}

/// One thing that may happen to a session.
#[derive(Debug, Clone)]
enum Op {
    Peer(Frame),
    /// Hands in the next bytes from the peer, up to a number.
    HandIn(usize),
    Garbage(Vec<u8>),
    Send(usize),
    Poll,
    Write(usize),
    Tick(u64),
    Pause,
    Resume,
    Close(u16),
    Drain,
    Panic,
    Abort,
    Eof,
    Fail,
}

fn op() -> impl Strategy<Value = Op> {
    let text = prop_oneof!["[a-zä]{0,40}", Just("κόσμε".repeat(40))];
    let frame = prop_oneof![
        5 => text.clone().prop_map(Frame::text),
        2 => text.clone().prop_map(|text| Frame::text(text).more()),
        2 => text.clone().prop_map(Frame::continuation),
        2 => "[a-z]{0,20}".prop_map(Frame::ping),
        1 => Just(Frame::pong("")),
        2 => (1000..1004u16).prop_map(|code| Frame::close(code, "bye")),
        1 => Just(Frame::new(8, [3])),
        1 => Just(Frame::text([b'a', 0xff])),
        1 => Just(Frame::new(3, "")),
    ];
    prop_oneof![
        8 => frame.prop_map(Op::Peer),
        8 => prop_oneof![1..12usize, 1..200usize].prop_map(Op::HandIn),
        1 => prop::collection::vec(any::<u8>(), 1..20).prop_map(Op::Garbage),
        3 => (0..300usize).prop_map(Op::Send),
        6 => Just(Op::Poll),
        5 => (0..300usize).prop_map(Op::Write),
        2 => (0..4000u64).prop_map(Op::Tick),
        1 => Just(Op::Pause),
        2 => Just(Op::Resume),
        2 => (1000..1004u16).prop_map(Op::Close),
        1 => Just(Op::Drain),
        1 => Just(Op::Panic),
        1 => Just(Op::Abort),
        1 => Just(Op::Eof),
        1 => Just(Op::Fail),
    ]
}

/// A session under a random script, with its events and its output.
struct Run {
    solo: Solo,
    wire: Vec<u8>,
    written: Vec<u8>,
    events: Vec<String>,
    /// Closed without a drain, so that no message may follow.
    deaf: bool,
}

impl Run {
    fn new(is_server: bool) -> Self {
        let [server, client] = Solo::opened_both(|c| {
            c.watermarks(100, 200).heartbeat_period(secs(2)).partial_frame_timeout(secs(3))
        });
        let solo = if is_server { server } else { client };
        Run { solo, wire: vec![], written: vec![], events: vec![], deaf: false }
    }

    fn step(&mut self, op: Op) {
        let now = self.solo.clock.now();
        let session = &mut self.solo.session;
        self.deaf |= matches!(op, Op::Close(_) | Op::Panic | Op::Abort);
        match op {
            Op::Peer(frame) => self.wire.extend(self.solo.as_peer(frame).bytes()),
            Op::HandIn(n) => {
                let piece: Vec<u8> = self.wire.drain(..n.min(self.wire.len())).collect();
                self.solo.input(&piece);
            }
            Op::Garbage(bytes) => self.wire.extend(bytes),
            Op::Send(n) => drop(session.send(Message::binary(vec![b'x'; n]))),
            Op::Poll => {
                let told = self.solo.poll();
                let message = |event: &String| event.starts_with("Text") || event.starts_with("Binary");
                assert!(!self.deaf || !told.iter().any(message), "after a close: {told:?}");
                self.events.extend(told);
            }
            Op::Write(n) => {
                let mut out = session.outbound(now);
                let n = n.min(bytes::Buf::remaining(&out));
                self.written.extend(bytes::Buf::copy_to_bytes(&mut out, n));
                drop(out);
                if session.wants_shutdown() {
                    session.handle_shutdown(now);
                }
            }
            Op::Tick(ms) => {
                let now = self.solo.clock.advance(Duration::from_millis(ms));
                session.handle_timeout(now);
            }
            Op::Pause => session.pause(),
            Op::Resume => session.resume(now),
            Op::Close(code) => session.close(now, Close::graceful().with_frame(frame(code, "x"))),
            Op::Drain => session.close(now, Close::graceful().with_drain()),
            Op::Panic => session.close(now, Close::panicked()),
            Op::Abort => session.close(now, Close::abort()),
            Op::Eof => self.solo.eof(),
            Op::Fail => session.handle_io_error(now, ErrorKind::ConnectionReset),
        }
    }

    /// Brings the session to its end, whatever has happened.
    fn finish(&mut self) {
        self.step(Op::Resume);
        self.step(Op::Close(1000));
        for _ in 0..20 {
            self.step(Op::Poll);
            self.step(Op::Write(usize::MAX));
            self.step(Op::Tick(2000));
        }
        self.step(Op::Poll);
    }

    /// Checks that there is one `Closed`, at the end, and that nothing was written after the close frame. The
    /// last frame may be cut.
    fn check(&self) {
        let closed = self.events.iter().filter(|event| event.starts_with("Closed: ")).count();
        assert_eq!(closed, 1, "{:?}", self.events);
        assert!(self.events.last().is_some_and(|last| last.starts_with("Closed: ")));
        assert!(self.solo.session.is_closed() && self.solo.session.poll_timeout().is_none());
        let (frames, rest) = Frame::parse_whole(&self.written);
        if let Some(close) = frames.iter().position(|frame| frame.opcode == 8) {
            assert_eq!((close, rest), (frames.len() - 1, &[][..]), "{frames:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_session_closes_once_and_says_nothing_after_its_close_frame(
        is_server: bool,
        ops in prop::collection::vec(op(), 0..60),
    ) {
        let mut run = Run::new(is_server);
        for op in ops {
            run.step(op);
        }
        run.finish();
        run.check();
    }
}

#[test]
fn messages_cross_a_close_without_harm() {
    for seed in 0..50 {
        let wire = Wire {
            latency: Duration::from_millis(5),
            split: Split::Random(testkit::Rng::new(seed), 40),
            ..Wire::default()
        };
        let mut pair = pair(client_request(), ServerOptions::new(), config(|c| c)).wires(wire);
        pair.b.on_event(|session, now, event| {
            accept(session, now, event);
            if let Event::Message(message) = event {
                let _ = session.send(message.clone());
            }
        });
        pair.settle();
        for _ in 0..20 {
            pair.a.session.send(Message::text("x".repeat(100))).unwrap();
        }
        pair.run_for(Duration::from_millis(seed % 12));
        let now = pair.clock.now();
        let session = if seed % 2 == 0 { &mut pair.a.session } else { &mut pair.b.session };
        session.close(now, Close::graceful());
        assert!(pair.run_until_closed(secs(1)), "seed {seed}");
        for reason in [pair.a.close_reason(), pair.b.close_reason()] {
            assert!(reason.is_some_and(CloseReason::is_clean), "seed {seed}: {reason:?}");
        }
    }
}
