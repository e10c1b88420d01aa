//! Frames that a session does not take, and calls that are too large for the other end.

use std::sync::Arc;

use bytes::Bytes;
use getty_core::SendError;
use getty_core::rpc::{
    Body, Cancelled, Code, Config, Event, Executed, Frame, Hello, ItemError, Reply, Request, Side, Status,
};
use testkit::rpc::Link;

use crate::calls::{call, events, failed, taken};
use crate::solo::{Solo, hello, more, reply, request};

type Refusal = fn(Frame) -> SendError<Frame>;

const FINAL: [Refusal; 3] = [
    |item| SendError::TooLarge { item, bytes: 100, limit: 10 },
    |_| SendError::Encode(Arc::new(getty_core::rpc::EncodeFrameError::OnlyReceived)),
    SendError::Closed,
];

fn item(bytes: usize) -> Body {
    Bytes::from(vec![1; bytes]).into()
}

#[track_caller]
fn refuse(solo: &mut Solo, refusal: Refusal) -> Frame {
    let frame = solo.peer.poll_frame(solo.now).expect("a frame");
    solo.peer.frame_refused(refusal(frame.clone()));
    frame
}

#[test]
fn what_finds_no_room_comes_again() {
    let frames = {
        let mut solo = Solo::connecting();
        let id = solo.peer.call(solo.now, more(), None).unwrap();
        solo.peer.send_item(id, item(1)).unwrap();
        solo.peer.finish(id);
        solo.hear(Frame::Ping(4)).unwrap();
        let mut frames = Vec::new();
        while solo.peer.wants_write() {
            for refusal in [SendError::Blocked, SendError::NotOpen, SendError::PeerWaits] {
                let first = refuse(&mut solo, refusal);
                assert!(solo.peer.wants_write());
                assert_eq!(refuse(&mut solo, refusal), first);
            }
            frames.extend(solo.frame());
        }
        frames
    };
    let kinds: Vec<_> = frames.iter().map(std::mem::discriminant).collect();
    let expected = [Frame::Pong(4), Frame::Request(3, more()), Frame::Item(3, item(1)), Frame::End(3)];
    assert_eq!(kinds, expected.each_ref().map(std::mem::discriminant));
}

#[test]
fn a_request_that_can_not_be_sent_was_not_executed() {
    for refusal in FINAL {
        let mut solo = Solo::connecting();
        let id = solo.peer.call(solo.now, more(), None).unwrap();
        solo.peer.send_item(id, item(1)).unwrap();
        refuse(&mut solo, refusal);
        let events = solo.events();
        let [Event::Ended(ended, Err(status))] = &events[..] else { panic!("{events:?}") };
        assert_eq!((*ended, status.executed()), (id, Executed::No));
        assert_eq!((solo.frames(), solo.peer.open_calls()), (vec![], 0));
        // The id is free.
        solo.call(request(1), None);

        // Given up between the two.
        let mut solo = Solo::connecting();
        let id = solo.peer.call(solo.now, request(1), None).unwrap();
        let frame = solo.peer.poll_frame(solo.now).unwrap();
        solo.peer.cancel(solo.now, id);
        solo.peer.frame_refused(refusal(frame));
        assert_eq!((solo.events(), solo.frames(), solo.peer.open_calls()), (vec![], vec![], 0));
    }
}

#[test]
fn an_answer_that_can_not_be_sent_becomes_a_failure() {
    for (n, refusal) in FINAL.into_iter().take(2).enumerate() {
        let mut solo = Solo::accepting();
        let id = solo.take(3, request(1));
        solo.peer.respond(id, reply());
        refuse(&mut solo, refusal);
        let frame = solo.frame();
        let Some(Frame::Error(3, status)) = frame else { panic!("{frame:?}") };
        let code = [Code::ResourceExhausted, Code::Internal][n];
        assert_eq!((status.code(), status.executed()), (code, Executed::Yes));
        assert_eq!((solo.frames(), solo.peer.open_calls()), (vec![], 0));

        let mut solo = Solo::accepting();
        let id = solo.take(3, request(1));
        solo.peer.respond(id, Err(Status::not_found("x").with_executed(Executed::No)));
        refuse(&mut solo, refusal);
        let frame = solo.frame();
        let Some(Frame::Error(3, status)) = frame else { panic!("{frame:?}") };
        assert_eq!(status.code(), code);
        assert_eq!(status.executed(), if n == 0 { Executed::No } else { Executed::Yes });
    }
    let mut solo = Solo::accepting();
    let id = solo.take(3, request(1));
    solo.peer.respond(id, reply());
    refuse(&mut solo, SendError::Closed);
    assert!(solo.peer.open_calls() == 0);
}

/// An item that is lost must not be followed by the answer that says that all is well.
#[test]
fn an_item_that_can_not_be_sent_ends_its_call() {
    for refusal in FINAL {
        for answered in [false, true] {
            let mut solo = Solo::accepting();
            let id = solo.take(3, request(1));
            solo.peer.send_item(id, item(1)).unwrap();
            solo.peer.send_item(id, item(2)).unwrap();
            if answered {
                solo.peer.respond(id, reply());
            }
            refuse(&mut solo, refusal);
            let frames = solo.frames();
            let [Frame::Error(3, status)] = &frames[..] else { panic!("{frames:?}") };
            assert_eq!(status.executed(), Executed::Yes);
            let expected = if answered { vec![] } else { vec![Event::Cancelled(id, Cancelled::Fault)] };
            assert_eq!(solo.events(), expected);
            solo.peer.release(id);
            assert_eq!(solo.peer.open_calls(), 0);
        }
        let mut solo = Solo::connecting();
        let id = solo.call(more(), None);
        solo.peer.send_item(id, item(1)).unwrap();
        refuse(&mut solo, refusal);
        let events = solo.events();
        let [Event::Ended(ended, Err(status))] = &events[..] else { panic!("{events:?}") };
        assert_eq!((*ended, status.executed()), (id, Executed::Maybe));
        assert_eq!(solo.frames(), [Frame::Cancel(3)]);
    }
    // Another call has its place already.
    let mut solo = Solo::connecting();
    let id = solo.call(more(), None);
    solo.peer.send_item(id, item(1)).unwrap();
    refuse(&mut solo, SendError::Blocked);
    solo.hear(Frame::Reply(3, Reply::default())).unwrap();
    assert_eq!(solo.events(), [Event::Ended(id, reply())]);
    let next = solo.peer.call(solo.now, more(), None).unwrap();
    refuse(&mut solo, FINAL[0]);
    assert_eq!(solo.events(), []);
    assert!(matches!(solo.frames()[..], [Frame::Request(3, _)]));
    solo.hear(Frame::Reply(3, Reply::default())).unwrap();
    assert_eq!(solo.events(), [Event::Ended(next, reply())]);
}

#[test]
fn a_frame_that_finds_no_room_at_the_end_is_gone() {
    let mut solo = Solo::connecting();
    let id = solo.peer.call(solo.now, request(1), None).unwrap();
    let frame = solo.peer.poll_frame(solo.now).unwrap();
    solo.close();
    solo.peer.frame_refused(SendError::Blocked(frame));
    assert!(matches!(solo.events()[..], [Event::Ended(ended, Err(_))] if ended == id));
    assert_eq!((solo.peer.wants_write(), solo.frames()), (false, vec![]));
}

#[test]
fn large_requests_wait_for_the_limits_of_the_peer() {
    let mut solo = Solo::new(Arc::default(), Side::Connecting);
    let overhead = 64 * 1024 - 20_000;
    let small = solo.peer.call(solo.now, request(overhead), None).unwrap();
    let large = solo.peer.call(solo.now, request(100_000), None).unwrap();
    let huge = solo.peer.call(solo.now, request(1_000_000), None).unwrap();
    assert!(matches!(solo.frames()[..], [Frame::Hello(_), Frame::Request(3, _)]));
    solo.hear(Frame::Hello(Hello { max_frame: 200_000, ..hello() })).unwrap();
    let frames = solo.frames();
    assert!(matches!(&frames[..], [Frame::Request(5, r)] if r.body.bytes.len() == 100_000), "{frames:?}");
    let events = solo.events();
    let [Event::Hello(_), Event::Ended(ended, Err(status))] = &events[..] else { panic!("{events:?}") };
    assert_eq!((*ended, status.code(), status.executed()), (huge, Code::ResourceExhausted, Executed::No));
    let refused = solo.peer.call(solo.now, request(1_000_000), None).unwrap_err();
    assert_eq!((refused.status.code(), refused.status.executed()), (Code::ResourceExhausted, Executed::No));
    assert_eq!(refused.request.body.bytes.len(), 1_000_000);
    let _ = (small, large);
    // Exactly as large as it may be.
    let head = 2 + "test.Echo/Echo".len() + 2 + "raw".len();
    solo.peer.call(solo.now, request(200_000 - head), None).unwrap();
    assert!(solo.peer.call(solo.now, request(200_000 - head + 1), None).is_err());
}

#[test]
fn requests_that_break_the_rules_are_refused_at_once() {
    let mut solo = Solo::connecting();
    let broken = [
        Request { one_way: true, ..more() },
        Request { method: "".into(), ..request(1) },
        Request { method: "m".repeat(1025).into(), ..request(1) },
    ];
    for broken in broken {
        let refused = solo.peer.call(solo.now, broken.clone(), None).unwrap_err();
        assert_eq!((refused.status.code(), refused.status.executed()), (Code::InvalidArgument, Executed::No));
        assert_eq!(*refused.request, broken);
    }
    assert_eq!(solo.frames(), []);
}

#[test]
fn answers_larger_than_the_callers_frames_become_failures() {
    let small = Config::builder().max_frame(64 * 1024).build().unwrap();
    let mut link = Link::new(small, Arc::default(), 64 * 1024);
    link.settle();
    events(&mut link, 0);
    events(&mut link, 1);
    for fits in [true, false] {
        call(&mut link, 0, request(1), None);
        link.settle();
        let (theirs, _) = taken(&mut link, 1);
        let body = Bytes::from(vec![1; 64 * 1024 + usize::from(!fits)]).into();
        link.ends[1].peer.respond(theirs, Ok(Reply { body, ..Reply::default() }));
        link.settle();
        if fits {
            assert!(matches!(events(&mut link, 0)[..], [Event::Ended(_, Ok(_))]));
        } else {
            let status = failed(&mut link, 0);
            assert_eq!((status.code(), status.executed()), (Code::ResourceExhausted, Executed::Yes));
        }
    }
    for executed in [Executed::No, Executed::Yes] {
        call(&mut link, 0, request(1), None);
        link.settle();
        let (theirs, _) = taken(&mut link, 1);
        let status = Status::not_found("x").with_details(vec![1; 64 * 1024].into()).with_executed(executed);
        link.ends[1].peer.respond(theirs, Err(status));
        link.settle();
        let status = failed(&mut link, 0);
        assert_eq!((status.code(), status.executed()), (Code::ResourceExhausted, executed));
    }
    let id = call(&mut link, 0, request(1), None);
    link.settle();
    let (theirs, _) = taken(&mut link, 1);
    let error = link.ends[1].peer.send_item(theirs, item(64 * 1024 + 1)).unwrap_err();
    assert_eq!(error, ItemError::TooLarge { bytes: 64 * 1024 + 1, limit: 64 * 1024 });
    link.ends[1].peer.send_item(theirs, item(64 * 1024)).unwrap();
    link.settle();
    assert_eq!(events(&mut link, 0), [Event::Item(id, item(64 * 1024))]);
}

/// hyperium/tonic#1834: a long text of an error hangs its stream.
#[test]
fn a_long_text_is_cut() {
    let mut link = Link::open();
    call(&mut link, 0, request(1), None);
    link.settle();
    let (theirs, _) = taken(&mut link, 1);
    link.ends[1].peer.respond(theirs, Err(Status::internal("e".repeat(100_000))));
    link.settle();
    let status = failed(&mut link, 0);
    assert_eq!(status.code(), Code::Internal);
    assert_eq!(status.message(), "e".repeat(4096 - 3) + "...");
    let now = link.now();
    link.ends[0].peer.go_away(now, getty_core::rpc::GoAwayCode::Shutdown, "g".repeat(100_000));
    link.settle();
    let seen = events(&mut link, 1);
    assert!(matches!(&seen[0], Event::GoAway(g) if g.text.as_str().len() == 1024), "{seen:?}");
}

/// An answer comes after the items that were accepted before it, and items of the caller are no longer
/// reported.
#[test]
fn nothing_is_reported_about_a_call_that_was_answered() {
    let mut solo = Solo::accepting();
    let id = solo.take(3, more());
    solo.hear(Frame::Item(3, item(1))).unwrap();
    solo.hear(Frame::End(3)).unwrap();
    solo.peer.send_item(id, item(5)).unwrap();
    solo.peer.respond(id, reply());
    assert_eq!(solo.events(), []);
    assert_eq!(solo.frames(), [Frame::Item(3, item(5)), Frame::Reply(3, Reply::default())]);
    assert_eq!(solo.events(), []);
    assert_eq!(solo.peer.open_calls(), 0);
}
