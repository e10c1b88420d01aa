//! Going away: nothing is lost, and nothing is executed that is reported as not executed.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use getty_core::rpc::{Cancelled, Code, Config, Event, Executed, Frame, GoAway, GoAwayCode, Reply, Side};
use getty_core::{Close, SendError};
use testkit::Rng;
use testkit::rpc::Link;

use crate::calls::{call, events, taken};
use crate::solo::{MS, SEC, Solo, hello, one_way, reply, request};

fn bye() -> Frame {
    Frame::GoAway(GoAway { code: GoAwayCode::Shutdown, text: "bye".into() })
}

/// grpc/grpc-go#1387: a shutdown under thousands of calls. Each finishes or was not executed.
#[test]
fn a_shutdown_under_load_loses_nothing() {
    for seed in 0..20 {
        let mut random = Rng::new(seed);
        let config = Config::builder().max_waiting(10_000).build().unwrap();
        let mut link = Link::new(config.clone(), config, 20_000);
        let (mut made, mut ended, mut begun) = (Vec::new(), HashSet::new(), HashSet::new());
        let (mut drained, mut refused) = ([false; 2], 0);
        let mut running = Vec::new();
        for step in 0..4000 {
            let now = link.now();
            for _ in 0..random.below(8) {
                let body = Bytes::from(made.len().to_le_bytes().to_vec());
                let request = getty_core::rpc::Request::new("a/b", getty_core::rpc::CodecName::Raw, body);
                match link.ends[0].peer.call(now, request, None) {
                    Ok(id) => made.push(Some(id)),
                    Err(error) => {
                        assert_eq!(error.status.executed(), Executed::No);
                        refused += 1;
                        made.push(None);
                    }
                }
            }
            if step == 500 {
                link.ends[1].peer.go_away(now, GoAwayCode::Shutdown, "update");
            }
            link.step();
            for event in events(&mut link, 1) {
                match event {
                    Event::Request(id, request) => {
                        let n = usize::from_le_bytes(request.body.bytes[..].try_into().unwrap());
                        assert!(begun.insert(n), "executed twice");
                        running.push((id, request.body));
                    }
                    Event::Drained => drained[1] = true,
                    Event::Hello(_) | Event::GoAway(_) => {}
                    other => panic!("{other:?}"),
                }
            }
            for _ in 0..random.below(6) {
                if !running.is_empty() {
                    let (id, body) = running.swap_remove(random.below(running.len()));
                    link.ends[1].peer.respond(id, Ok(Reply { body, ..Reply::default() }));
                }
            }
            for event in events(&mut link, 0) {
                match event {
                    Event::Ended(id, result) => {
                        let n = made.iter().position(|made| *made == Some(id)).unwrap();
                        assert!(ended.insert(n), "ended twice");
                        match result {
                            Ok(reply) => assert_eq!(reply.body.bytes, n.to_le_bytes()[..]),
                            Err(status) => {
                                assert_eq!(
                                    (status.code(), status.executed()),
                                    (Code::Unavailable, Executed::No)
                                );
                                assert!(!begun.contains(&n), "executed");
                            }
                        }
                    }
                    Event::Drained => drained[0] = true,
                    _ => {}
                }
            }
            if drained == [true; 2] {
                break;
            }
        }
        assert_eq!(drained, [true; 2]);
        assert!(refused + ended.len() == made.len(), "{refused} + {} of {}", ended.len(), made.len());
        assert!(refused > 0 && !begun.is_empty());
        // The connection can be closed now, and nothing more happens.
        let now = link.now();
        link.ends[1].session.close(now, Close::graceful());
        link.settle();
        assert_eq!((events(&mut link, 0), events(&mut link, 1)), (vec![], vec![]));
    }
}

#[test]
fn both_may_go_away_at_once() {
    let mut link = Link::open();
    let a = call(&mut link, 0, request(1), None);
    link.settle();
    let (theirs, _) = taken(&mut link, 1);
    let now = link.now();
    for end in [0, 1] {
        link.ends[end].peer.go_away(now, GoAwayCode::Shutdown, "x");
        link.ends[end].peer.go_away(now, GoAwayCode::Shutdown, "again");
    }
    link.settle();
    assert!(matches!(events(&mut link, 0)[..], [Event::GoAway(_)]));
    assert!(matches!(events(&mut link, 1)[..], [Event::GoAway(_)]));
    assert_eq!(link.ends[0].peer.room_for_calls(), 0);
    link.ends[1].peer.respond(theirs, reply());
    link.settle();
    assert_eq!(events(&mut link, 0), [Event::Ended(a, reply()), Event::Drained]);
    assert_eq!(events(&mut link, 1), [Event::Drained]);
}

#[test]
fn a_handler_that_runs_on_holds_up_the_drain() {
    let mut solo = Solo::accepting();
    let id = solo.take(3, one_way());
    solo.hear(bye()).unwrap();
    assert_eq!(solo.frames().len(), 2);
    assert!(matches!(solo.events()[..], [Event::GoAway(_)]));
    solo.peer.release(id);
    assert_eq!(solo.events(), [Event::Drained]);
}

/// Not before the last answer was given to the session.
#[test]
fn the_drain_waits_for_an_answer_that_found_no_room() {
    let mut solo = Solo::accepting();
    let id = solo.take(3, request(1));
    solo.hear(bye()).unwrap();
    assert!(matches!(solo.frames()[..], [Frame::GoAway(_)]));
    solo.events();
    solo.peer.respond(id, reply());
    let frame = solo.peer.poll_frame(solo.now).unwrap();
    solo.peer.frame_refused(SendError::Blocked(frame));
    assert_eq!(solo.events(), []);
    assert_eq!(solo.frames(), [Frame::Reply(3, Reply::default())]);
    assert_eq!(solo.events(), [Event::Drained]);
    assert_eq!(solo.events(), []);
    // Nor while the go-away itself found none.
    let mut solo = Solo::accepting();
    solo.hear(bye()).unwrap();
    let frame = solo.peer.poll_frame(solo.now).unwrap();
    solo.peer.frame_refused(SendError::Blocked(frame));
    assert!(matches!(solo.events()[..], [Event::GoAway(_)]));
    solo.frames();
    assert_eq!(solo.events(), [Event::Drained]);
}

#[test]
fn streams_go_on_after_a_go_away() {
    let mut link = Link::open();
    let id = call(&mut link, 0, crate::solo::more(), None);
    link.settle();
    let (theirs, _) = taken(&mut link, 1);
    let now = link.now();
    link.ends[1].peer.go_away(now, GoAwayCode::Shutdown, "x");
    link.settle();
    link.ends[0].peer.send_item(id, Bytes::from_static(b"in").into()).unwrap();
    link.ends[1].peer.send_item(theirs, Bytes::from_static(b"out").into()).unwrap();
    link.ends[0].peer.finish(id);
    link.settle();
    let item = |id, bytes| Event::Item(id, Bytes::from_static(bytes).into());
    assert_eq!(events(&mut link, 1)[1..], [item(theirs, b"in"), Event::End(theirs)]);
    assert_eq!(events(&mut link, 0)[1..], [item(id, b"out")]);
    link.ends[1].peer.respond(theirs, reply());
    link.settle();
    assert_eq!(events(&mut link, 0), [Event::Ended(id, reply()), Event::Drained]);
}

#[test]
fn a_command_after_the_end_does_nothing() {
    let mut solo = Solo::accepting();
    let theirs = solo.take(3, request(1));
    let ours = solo.call(request(1), Some(SEC));
    solo.close();
    assert_eq!(solo.events().len(), 2);
    solo.peer.go_away(solo.now, GoAwayCode::Shutdown, "x");
    solo.peer.cancel(solo.now, ours);
    solo.peer.respond(theirs, reply());
    solo.peer.respond(theirs, reply());
    solo.peer.consumed(theirs, 100);
    solo.peer.finish(ours);
    solo.hear(Frame::Hello(hello())).unwrap();
    solo.hear(Frame::Ping(1)).unwrap();
    solo.hear(bye()).unwrap();
    solo.close();
    assert_eq!((solo.peer.wants_write(), solo.frames(), solo.events()), (false, vec![], vec![]));
    assert_eq!((solo.peer.open_calls(), solo.peer.room_for_calls()), (0, 0));
    solo.run(1000 * SEC).unwrap();
    assert_eq!((solo.peer.wants_write(), solo.frames(), solo.events()), (false, vec![], vec![]));
}

/// Commands about calls that are over, in every phase, do nothing, also once others have their places.
#[test]
fn stale_ids_do_nothing() {
    let mut solo = Solo::connecting();
    let mut stale = Vec::new();
    let cancelled = solo.peer.call(solo.now, request(1), Some(solo.now + MS)).unwrap();
    solo.peer.cancel(solo.now, cancelled);
    stale.push(cancelled);
    stale.push(solo.call(request(1), None));
    solo.hear(Frame::Reply(3, Reply::default())).unwrap();
    solo.events();
    let given_up = solo.call(request(1), None);
    solo.peer.cancel(solo.now, given_up);
    solo.peer.cancel(solo.now, given_up);
    assert_eq!(solo.frames(), [Frame::Cancel(3)]);
    solo.hear(Frame::Reply(3, Reply::default())).unwrap();
    stale.push(given_up);
    let answered = solo.take(2, request(1));
    solo.peer.respond(answered, reply());
    solo.frames();
    stale.push(answered);
    let one = solo.take(2, one_way());
    solo.frames();
    solo.peer.release(one);
    stale.push(one);
    let dropped = solo.take(2, request(1));
    solo.hear(Frame::Cancel(2)).unwrap();
    assert_eq!(solo.events(), [Event::Cancelled(dropped, Cancelled::ByCaller)]);
    solo.peer.respond(dropped, reply());
    solo.frames();
    stale.push(dropped);
    assert_eq!(solo.peer.open_calls(), 0);

    let poke = |solo: &mut Solo| {
        for &id in &stale {
            solo.peer.cancel(solo.now, id);
            solo.peer.respond(id, reply());
            solo.peer.release(id);
            solo.peer.finish(id);
            solo.peer.consumed(id, 1000);
            solo.peer.send_item(id, Bytes::new().into()).unwrap_err();
        }
    };
    poke(&mut solo);
    let ours = solo.call(crate::solo::more(), None);
    let theirs = solo.take(2, crate::solo::more());
    poke(&mut solo);
    assert_eq!((solo.frames(), solo.events()), (vec![], vec![]));
    // Commands that are not for this kind of call.
    solo.peer.respond(ours, reply());
    solo.peer.release(ours);
    solo.peer.cancel(solo.now, theirs);
    solo.peer.finish(theirs);
    assert_eq!((solo.frames(), solo.events()), (vec![], vec![]));
    assert_eq!(solo.peer.open_calls(), 2);
    solo.run(2 * SEC).unwrap();
    poke(&mut solo);
    solo.peer.respond(theirs, reply());
    assert_eq!(solo.frames(), [Frame::Reply(2, Reply::default())]);
    solo.hear(Frame::Reply(3, Reply::default())).unwrap();
    assert_eq!(solo.events(), [Event::Ended(ours, reply())]);
}

/// Whatever is released or answered in whatever phase, the slot is free in the end.
#[test]
fn every_phase_of_a_handler_can_be_released_or_answered() {
    for answers in [false, true] {
        let over = |solo: &mut Solo, id| {
            if answers { solo.peer.respond(id, reply()) } else { solo.peer.release(id) }
        };
        // Running.
        let mut solo = Solo::accepting();
        let id = solo.take(3, request(1));
        over(&mut solo, id);
        let frames = solo.frames();
        match &frames[..] {
            [Frame::Reply(3, _)] => assert!(answers),
            [Frame::Error(3, status)] => {
                assert!(!answers);
                assert_eq!((status.code(), status.executed()), (Code::Internal, Executed::Yes));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(solo.peer.open_calls(), 0);
        // Cancelled, before and after its answer was sent and the cancel was reported.
        for order in 0..4 {
            let mut solo = Solo::accepting();
            let id = solo.take(3, request(1));
            solo.hear(Frame::Cancel(3)).unwrap();
            if order & 1 > 0 {
                assert_eq!(solo.events(), [Event::Cancelled(id, Cancelled::ByCaller)]);
            }
            if order & 2 > 0 {
                assert!(matches!(&solo.frames()[..], [Frame::Error(3, s)] if s.code() == Code::Cancelled));
            }
            over(&mut solo, id);
            assert_eq!(solo.events(), [], "released");
            assert_eq!(solo.frames().len(), usize::from(order & 2 == 0));
            assert_eq!(solo.peer.open_calls(), 0);
            over(&mut solo, id);
            solo.take(3, request(1));
        }
        // One-way, before and after the answer.
        for sent in [false, true] {
            let mut solo = Solo::accepting();
            let id = solo.take(3, one_way());
            if sent {
                assert_eq!(solo.frames(), [Frame::Reply(3, Reply::default())]);
            }
            over(&mut solo, id);
            assert_eq!(solo.frames().len(), usize::from(!sent));
            assert_eq!(solo.peer.open_calls(), 0);
        }
        // At the end of the connection.
        let mut solo = Solo::accepting();
        let id = solo.take(3, request(1));
        solo.close();
        assert_eq!(solo.events(), [Event::Cancelled(id, Cancelled::Closed)]);
        over(&mut solo, id);
        assert_eq!(solo.peer.open_calls(), 0);
    }
}

#[test]
fn a_peer_opened_in_the_middle_of_a_go_away_drains() {
    let mut solo = Solo::new(Arc::default(), Side::Connecting);
    solo.peer.go_away(solo.now, GoAwayCode::Shutdown, "x");
    assert!(matches!(solo.frames()[..], [Frame::Hello(_), Frame::GoAway(_)]));
    solo.hear(Frame::Hello(hello())).unwrap();
    solo.hear(bye()).unwrap();
    assert!(matches!(solo.events()[..], [Event::Hello(_), Event::GoAway(_), Event::Drained]));
}
