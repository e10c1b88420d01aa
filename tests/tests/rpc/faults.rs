//! Rules that a peer breaks: what ends the connection, what ends a call, and what is forgiven.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use getty_core::Event as SessionEvent;
use getty_core::rpc::{
    Cancelled, Code, Config, Event, Executed, Frame, FrameFault, GoAway, GoAwayCode, Hello, Invalid,
    ItemError, Origin, PeerFault, Reply, Side, Status,
};

use crate::bytes::{PREFACE, encode};
use crate::solo::{MS, SEC, Solo, hello, more, one_way, reply, request};

fn item(bytes: usize) -> getty_core::rpc::Body {
    Bytes::from(vec![1; bytes]).into()
}

fn shutdown() -> Frame {
    Frame::GoAway(GoAway { code: GoAwayCode::Shutdown, text: "bye".into() })
}

/// Checks that a go-away for this fault is sent, and nothing else.
#[track_caller]
fn sent_away(solo: &mut Solo, fault: PeerFault, code: GoAwayCode) {
    assert!(solo.peer.wants_write());
    let text = fault.to_string().into();
    assert_eq!(solo.frames(), [Frame::GoAway(GoAway { code, text })]);
    assert!(!solo.peer.wants_write());
    assert_eq!(solo.hear(Frame::Request(3, request(1))), Ok(()), "ignored");
    assert_eq!(solo.events(), []);
    solo.run(1000 * SEC).unwrap();
    assert_eq!((solo.frames(), solo.events()), (vec![], vec![]));
    let refused = solo.peer.call(solo.now, request(1), None).unwrap_err();
    assert_eq!((refused.status.code(), refused.status.executed()), (Code::Unavailable, Executed::No));
}

#[track_caller]
fn breaks(mut solo: Solo, frame: Frame, fault: PeerFault) {
    assert_eq!(solo.hear(frame), Err(fault));
    sent_away(&mut solo, fault, GoAwayCode::Protocol);
}

#[test]
fn the_first_frame_is_hello() {
    let frames = [
        Frame::Request(3, request(1)),
        Frame::Reply(2, Reply::default()),
        Frame::Error(2, Status::internal("x")),
        Frame::Cancel(3),
        Frame::Item(3, item(1)),
        Frame::End(3),
        Frame::Window(3, 1),
        Frame::Ping(1),
        Frame::Pong(1),
        Frame::Calls(16),
        Frame::Skipped(200),
    ];
    for frame in frames {
        breaks(Solo::new(Arc::default(), Side::Accepting), frame, PeerFault::NoHello);
    }
    let fault = FrameFault::Version(1);
    let version = Frame::Invalid(Invalid { kind: 0, id: 0, fault });
    breaks(Solo::new(Arc::default(), Side::Accepting), version, PeerFault::Frame(fault));
}

#[test]
fn a_peer_of_an_earlier_version_gets_a_preface_and_a_go_away() {
    for begun in [false, true] {
        let side = if begun { Side::Connecting } else { Side::Accepting };
        let mut solo = Solo::new(Arc::default(), side);
        if begun {
            assert!(matches!(solo.frames()[..], [Frame::Hello(_)]));
        }
        solo.session.handle_input(solo.now, b"\xfagty\x01\0\0\0and what it says");
        let frame = std::iter::from_fn(|| solo.session.poll_event()).find_map(|event| match event {
            SessionEvent::Message(frame) => Some(frame),
            _ => None,
        });
        let fault = solo.hear(frame.unwrap()).unwrap_err();
        solo.session.send(solo.peer.poll_frame(solo.now).unwrap()).unwrap();
        assert_eq!(solo.peer.poll_frame(solo.now), None);
        let mut sent = solo.session.outbound(solo.now);
        let sent = sent.copy_to_bytes(sent.remaining());
        let go_away =
            encode(&Frame::GoAway(GoAway { code: GoAwayCode::Protocol, text: fault.to_string().into() }));
        let preface = if begun { b"" } else { PREFACE };
        assert_eq!(sent, [preface, &go_away[..]].concat());
    }
}

#[test]
fn a_peer_with_nothing_in_common_may_say_good_bye_at_once() {
    let mut solo = Solo::new(Arc::default(), Side::Connecting);
    assert!(matches!(solo.frames()[..], [Frame::Hello(_)]));
    let id = solo.peer.call(solo.now, request(100_000), None).unwrap();
    assert_eq!(solo.frames(), [], "too large until the limits of the peer are known");
    solo.hear(shutdown()).unwrap();
    let events = solo.events();
    let [Event::GoAway(_), Event::Ended(ended, Err(status))] = &events[..] else { panic!("{events:?}") };
    assert_eq!((*ended, status.executed()), (id, Executed::No));
    assert!(matches!(solo.frames()[..], [Frame::GoAway(_)]));
}

/// The accepting side waits for the peer's first word with everything, also with calls.
#[test]
fn the_accepting_side_sends_nothing_before_hello() {
    let mut solo = Solo::new(Arc::default(), Side::Accepting);
    let id = solo.peer.call(solo.now, request(1), None).unwrap();
    assert_eq!((solo.peer.wants_write(), solo.frames()), (false, vec![]));
    solo.peer.go_away(solo.now, GoAwayCode::Shutdown, "bye");
    assert_eq!((solo.peer.wants_write(), solo.frames()), (false, vec![]));
    assert!(matches!(solo.events()[..], [Event::Ended(ended, Err(_))] if ended == id));
    solo.hear(Frame::Hello(hello())).unwrap();
    assert!(matches!(solo.frames()[..], [Frame::Hello(_), Frame::GoAway(_)]));

    let mut solo = Solo::new(Arc::default(), Side::Accepting);
    solo.peer.call(solo.now, request(1), None).unwrap();
    solo.hear(Frame::Hello(hello())).unwrap();
    assert!(matches!(solo.frames()[..], [Frame::Hello(_), Frame::Request(2, _)]));
}

#[test]
fn hello_comes_once_and_keeps_the_minimum() {
    breaks(Solo::accepting(), Frame::Hello(hello()), PeerFault::SecondHello);
    let low = [
        Hello { max_calls: 15, ..hello() },
        Hello { window: 16 * 1024 - 1, ..hello() },
        Hello { window: 1 << 31, ..hello() },
        Hello { max_frame: 64 * 1024 - 1, ..hello() },
    ];
    for low in low {
        breaks(Solo::new(Arc::default(), Side::Accepting), Frame::Hello(low), PeerFault::Limits);
    }
    breaks(Solo::accepting(), Frame::Calls(15), PeerFault::Limits);
    let least = Hello { max_calls: 16, window: 16 * 1024, max_frame: 64 * 1024, ..hello() };
    Solo::new(Arc::default(), Side::Accepting).hear(Frame::Hello(least)).unwrap();
}

#[test]
fn ids_are_those_of_their_side_and_kind() {
    let kind = |frame: &Frame| match frame {
        Frame::Request(..) => 1,
        Frame::Reply(..) => 2,
        Frame::Error(..) => 3,
        Frame::Cancel(_) => 4,
        _ => 6,
    };
    let frames: [fn(u32) -> Frame; 5] = [
        |id| Frame::Request(id, request(1)),
        |id| Frame::Reply(id, Reply::default()),
        |id| Frame::Error(id, Status::internal("x")),
        Frame::Cancel,
        Frame::End,
    ];
    for (n, frame) in frames.into_iter().enumerate() {
        let is_answer = n == 1 || n == 2;
        // 3 is the other end's, 2 this end's.
        let wrong: &[u32] = if is_answer { &[3, 131_073] } else { &[0, 1, 2, 131_072] };
        for &id in wrong {
            let frame = frame(id);
            let fault = PeerFault::Id { kind: kind(&frame), id };
            breaks(Solo::accepting(), frame, fault);
        }
        let beyond = if is_answer { 131_074 } else { 131_075 };
        let frame = frame(beyond);
        let fault = match is_answer {
            true => PeerFault::NotOpen(beyond),
            false => PeerFault::Id { kind: kind(&frame), id: beyond },
        };
        breaks(Solo::accepting(), frame, fault);
    }
    let mut solo = Solo::accepting();
    solo.hear(Frame::Request(131_073, request(1))).unwrap();
    assert!(matches!(solo.events()[..], [Event::Request(..)]));
}

#[test]
fn each_side_has_its_own_ids() {
    for (side, ids) in [(Side::Connecting, [3, 5, 7]), (Side::Accepting, [2, 4, 6])] {
        let mut solo = Solo::with(Arc::default(), side);
        for id in ids {
            solo.peer.call(solo.now, request(1), None).unwrap();
            assert!(matches!(solo.frames()[..], [Frame::Request(sent, _)] if sent == id), "{id}");
        }
        for id in ids {
            let solo = Solo::with(Arc::default(), side);
            breaks(solo, Frame::Request(id, request(1)), PeerFault::Id { kind: 1, id });
        }
    }
}

#[test]
fn an_id_is_used_once_at_a_time() {
    let mut solo = Solo::accepting();
    solo.take(3, request(1));
    breaks(solo, Frame::Request(3, request(1)), PeerFault::RequestOpen(3));

    // A call is open until its answer is on its way, whatever became of its handler.
    let mut solo = Solo::accepting();
    let id = solo.take(3, request(1));
    solo.peer.respond(id, reply());
    breaks(solo, Frame::Request(3, request(1)), PeerFault::RequestOpen(3));

    let mut solo = Solo::accepting();
    let id = solo.take(3, request(1));
    solo.peer.respond(id, reply());
    assert!(matches!(solo.frames()[..], [Frame::Reply(3, _)]));
    solo.take(3, request(1));

    // One that is broken uses its id too.
    let mut solo = Solo::accepting();
    let broken = || Frame::Invalid(Invalid { kind: 1, id: 3, fault: FrameFault::Head });
    solo.hear(broken()).unwrap();
    breaks(solo, broken(), PeerFault::RequestOpen(3));
}

#[test]
fn an_answer_belongs_to_a_call_that_was_sent() {
    let answers = |id| [Frame::Reply(id, Reply::default()), Frame::Error(id, Status::internal("x"))];
    for answer in answers(2) {
        breaks(Solo::accepting(), answer.clone(), PeerFault::NotOpen(2));

        let mut solo = Solo::accepting();
        solo.peer.call(solo.now, request(1), None).unwrap();
        assert_eq!(solo.hear(answer.clone()), Err(PeerFault::NotOpen(2)), "it was not sent");

        let mut solo = Solo::accepting();
        solo.call(request(1), None);
        solo.hear(answer.clone()).unwrap();
        assert_eq!(solo.hear(answer.clone()), Err(PeerFault::NotOpen(2)), "answered");

        let mut solo = Solo::accepting();
        let id = solo.call(request(1), None);
        solo.peer.cancel(solo.now, id);
        assert_eq!(solo.frames(), [Frame::Cancel(2)]);
        solo.hear(answer.clone()).unwrap();
        assert_eq!(solo.hear(answer), Err(PeerFault::NotOpen(2)), "cancelled and answered");
        assert_eq!(solo.events(), []);
    }
}

/// A request that the session had no room for was not sent: it can't be answered.
#[test]
fn an_answer_to_a_request_that_found_no_room_is_a_fault() {
    let mut solo = Solo::accepting();
    let id = solo.peer.call(solo.now, request(1), None).unwrap();
    let frame = solo.peer.poll_frame(solo.now).unwrap();
    solo.peer.frame_refused(getty_core::SendError::Blocked(frame));
    assert_eq!(solo.hear(Frame::Reply(2, Reply::default())), Err(PeerFault::NotOpen(2)));
    solo.close();
    let events = solo.events();
    let [Event::Ended(ended, Err(status))] = &events[..] else { panic!("{events:?}") };
    assert_eq!((*ended, status.executed()), (id, Executed::No));
}

#[test]
fn a_broken_head_ends_its_call_alone() {
    let broken = |kind, id, fault| Frame::Invalid(Invalid { kind, id, fault });
    for fault in [FrameFault::Head, FrameFault::Missing(1), FrameFault::Field(2)] {
        let mut solo = Solo::accepting();
        solo.hear(broken(1, 3, fault)).unwrap();
        assert_eq!(solo.events(), []);
        let frames = solo.frames();
        let [Frame::Error(3, status)] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!((status.code(), status.executed()), (Code::InvalidArgument, Executed::No));
        assert_eq!(solo.peer.open_calls(), 0);

        for kind in [2, 3] {
            let mut solo = Solo::accepting();
            let id = solo.call(request(1), None);
            solo.hear(broken(kind, 2, fault)).unwrap();
            let events = solo.events();
            let [Event::Ended(ended, Err(status))] = &events[..] else { panic!("{events:?}") };
            assert_eq!((*ended, status.code(), status.origin()), (id, Code::Internal, Origin::Local));
            assert_eq!(status.executed(), Executed::Yes);
        }
        let mut solo = Solo::accepting();
        // A grant that is lost would stop its stream for good.
        let id = solo.call(more(), None);
        solo.hear(broken(7, 5, fault)).unwrap();
        assert_eq!(solo.events(), [], "not open");
        solo.hear(broken(7, 2, fault)).unwrap();
        let events = solo.events();
        let [Event::Ended(ended, Err(status))] = &events[..] else { panic!("{events:?}") };
        assert_eq!((*ended, status.code(), status.executed()), (id, Code::Internal, Executed::Maybe));
        assert_eq!(solo.frames(), [Frame::Cancel(2)]);
        breaks(Solo::accepting(), broken(0, 0, fault), PeerFault::Frame(fault));
        breaks(Solo::accepting(), broken(10, 0, fault), PeerFault::Frame(fault));
        breaks(Solo::accepting(), broken(1, 2, fault), PeerFault::Id { kind: 1, id: 2 });
        breaks(Solo::accepting(), broken(2, 2, fault), PeerFault::NotOpen(2));
    }
}

#[test]
fn a_broken_frame_ends_the_connection() {
    let faults = [
        (77, FrameFault::Kind(77)),
        (1, FrameFault::Flags { kind: 1, flags: 4 }),
        (1, FrameFault::Id(0)),
        (1, FrameFault::Id(1)),
        (5, FrameFault::HeadLength { head: 9, frame: 8 }),
        (4, FrameFault::Body(1)),
        (4, FrameFault::Head),
        (5, FrameFault::Head),
        (6, FrameFault::Head),
    ];
    for (kind, fault) in faults {
        let invalid = Frame::Invalid(Invalid { kind, id: 3, fault });
        breaks(Solo::accepting(), invalid, PeerFault::Frame(fault));
    }
}

/// A frame for a call that is over was sent before its sender knew.
#[test]
fn frames_for_the_dead_are_ignored() {
    let mut solo = Solo::accepting();
    let id = solo.take(3, more());
    solo.peer.respond(id, reply());
    solo.frames();
    let ours = solo.call(more(), None);
    solo.hear(Frame::Reply(2, Reply::default())).unwrap();
    assert_eq!(solo.events(), [Event::Ended(ours, reply())]);
    for id in [3, 2, 5, 4] {
        solo.hear(Frame::Item(id, item(2 << 20))).unwrap();
        solo.hear(Frame::Window(id, u32::MAX)).unwrap();
        solo.hear(Frame::Window(id, u32::MAX)).unwrap();
    }
    for _ in 0..10_000 {
        solo.hear(Frame::Cancel(3)).unwrap();
        solo.hear(Frame::End(3)).unwrap();
    }
    assert_eq!((solo.events(), solo.frames(), solo.peer.open_calls()), (vec![], vec![], 0));
}

/// CVE-2026-32314 of yamux: an item larger than the window, right at the start.
#[test]
fn items_over_the_limits_end_their_call_alone() {
    let config = Config::builder().max_item(100_000).build().unwrap();
    let sizes = [
        (65_537, None),
        (100_000, None),
        (100_001, Some(Code::ResourceExhausted)),
        (8 << 20, Some(Code::ResourceExhausted)),
    ];
    for (size, code) in sizes {
        let mut solo = Solo::with(config.clone(), Side::Accepting);
        let other = solo.take(5, request(1));
        let id = solo.take(3, more());
        solo.hear(Frame::Item(3, item(size))).unwrap();
        let events = solo.events();
        match code {
            None => assert_eq!(events, [Event::Item(id, item(size))]),
            Some(code) => {
                assert_eq!(events, [Event::Cancelled(id, Cancelled::Fault)]);
                let frames = solo.frames();
                let [Frame::Error(3, status)] = &frames[..] else { panic!("{frames:?}") };
                assert_eq!((status.code(), status.executed()), (code, Executed::Yes));
                // What comes now is for a call that is over.
                solo.hear(Frame::Item(3, item(size))).unwrap();
            }
        }
        solo.peer.respond(other, reply());
        assert_eq!(solo.frames(), [Frame::Reply(5, Reply::default())]);
    }
    // The same for a call of this side.
    let mut solo = Solo::with(config, Side::Accepting);
    let id = solo.call(request(1), None);
    solo.hear(Frame::Item(2, item(100_001))).unwrap();
    let events = solo.events();
    let [Event::Ended(ended, Err(status))] = &events[..] else { panic!("{events:?}") };
    assert_eq!((*ended, status.code(), status.executed()), (id, Code::ResourceExhausted, Executed::Maybe));
    assert_eq!(solo.frames(), [Frame::Cancel(2)]);
    solo.hear(Frame::Item(2, item(100_001))).unwrap();
    solo.hear(Frame::Error(2, Status::cancelled("x"))).unwrap();
    assert_eq!((solo.events(), solo.peer.open_calls()), (vec![], 0));
}

#[test]
fn an_item_without_credit_or_after_the_end_ends_its_call() {
    let mut solo = Solo::accepting();
    let id = solo.take(3, more());
    solo.hear(Frame::Item(3, item(65_536))).unwrap();
    assert_eq!(solo.events(), [Event::Item(id, item(65_536))]);
    solo.hear(Frame::Item(3, item(0))).unwrap();
    assert_eq!(solo.events(), [Event::Cancelled(id, Cancelled::Fault)]);

    for late in [Frame::Item(3, item(0)), Frame::End(3)] {
        let mut solo = Solo::accepting();
        let id = solo.take(3, more());
        solo.hear(Frame::End(3)).unwrap();
        assert_eq!(solo.events(), [Event::End(id)]);
        solo.hear(late).unwrap();
        assert_eq!(solo.events(), [Event::Cancelled(id, Cancelled::Fault)]);
        let frames = solo.frames();
        assert!(
            matches!(&frames[..], [Frame::Error(3, s)] if s.code() == Code::InvalidArgument),
            "{frames:?}"
        );
    }
    // The callee breaks the rule.
    let mut solo = Solo::accepting();
    let id = solo.call(request(1), None);
    solo.hear(Frame::Item(2, item(65_536))).unwrap();
    assert_eq!(solo.events(), [Event::Item(id, item(65_536))]);
    solo.hear(Frame::Item(2, item(0))).unwrap();
    let events = solo.events();
    let [Event::Ended(ended, Err(status))] = &events[..] else { panic!("{events:?}") };
    assert_eq!((*ended, status.code(), status.executed()), (id, Code::Internal, Executed::Maybe));
    assert_eq!(solo.frames(), [Frame::Cancel(2)]);
    // Before it was reported: no handler begins.
    let mut solo = Solo::accepting();
    solo.hear(Frame::Request(3, request(1))).unwrap();
    solo.hear(Frame::End(3)).unwrap();
    assert_eq!(solo.events(), []);
    let frames = solo.frames();
    assert!(matches!(&frames[..], [Frame::Error(3, s)] if s.executed() == Executed::No), "{frames:?}");
    // A one-way call that was taken is over.
    let mut solo = Solo::accepting();
    solo.take(3, one_way());
    solo.hear(Frame::Item(3, item(0))).unwrap();
    assert_eq!((solo.events(), solo.frames()), (vec![], vec![Frame::Reply(3, Reply::default())]));
}

#[test]
fn too_much_credit_ends_its_call() {
    let mut solo = Solo::accepting();
    let id = solo.take(3, more());
    solo.hear(Frame::Window(3, i32::MAX as u32 - 65_536)).unwrap();
    assert_eq!(solo.events(), [], "the most that there may be");
    solo.hear(Frame::Window(3, 1)).unwrap();
    assert_eq!(solo.events(), [Event::Cancelled(id, Cancelled::Fault)]);
    assert_eq!(solo.peer.send_item(id, item(1)), Err(ItemError::Ended));

    solo.frames();
    let ours = solo.call(more(), None);
    solo.hear(Frame::Window(4, u32::MAX)).unwrap();
    solo.hear(Frame::Window(4, u32::MAX)).unwrap();
    let events = solo.events();
    let [Event::Ended(ended, Err(status))] = &events[..] else { panic!("{events:?}") };
    assert_eq!((*ended, status.code(), status.origin()), (ours, Code::Internal, Origin::Local));
}

#[test]
fn faults_of_time_say_so() {
    let mut solo = Solo::new(Arc::default(), Side::Accepting);
    solo.wait(10 * SEC - MS).unwrap();
    assert_eq!(solo.wait(MS), Err(PeerFault::HelloTimeout));
    sent_away(&mut solo, PeerFault::HelloTimeout, GoAwayCode::Timeout);

    let mut solo = Solo::accepting();
    solo.run(50 * SEC - MS).unwrap();
    assert_eq!(solo.frames(), [Frame::Ping(1)]);
    assert_eq!(solo.run(SEC), Err(PeerFault::Silent));
    sent_away(&mut solo, PeerFault::Silent, GoAwayCode::Timeout);

    let mut solo = Solo::with(Config::builder().heartbeat(None).build().unwrap(), Side::Accepting);
    let id = solo.call(request(1), None);
    solo.peer.cancel(solo.now, id);
    solo.frames();
    solo.run(60 * SEC - MS).unwrap();
    assert_eq!(solo.run(MS), Err(PeerFault::CancelIgnored));
    sent_away(&mut solo, PeerFault::CancelIgnored, GoAwayCode::Timeout);
    solo.close();
    assert_eq!((solo.events(), solo.peer.open_calls()), (vec![], 0));
}

/// Requests that came just before the fault don't begin: their answers could not be sent.
#[test]
fn no_handler_begins_after_a_fault() {
    let mut solo = Solo::accepting();
    solo.hear(Frame::Request(3, request(1))).unwrap();
    let ours = solo.call(request(1), None);
    solo.hear(Frame::Hello(hello())).unwrap_err();
    assert_eq!(solo.events(), []);
    solo.close();
    let events = solo.events();
    let [Event::Ended(ended, Err(status))] = &events[..] else { panic!("{events:?}") };
    assert_eq!((*ended, status.executed()), (ours, Executed::Maybe));
    assert!(status.message().contains("sent Hello twice"), "{status}");
    assert_eq!(solo.peer.open_calls(), 0);
}
