//! Limits: what a peer can cause, and what waits for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use getty_core::rpc::{
    Body, CallId, Cancelled, Code, Config, Event, Executed, Frame, FrameFault, GoAwayCode, Hello, Invalid,
    ItemError, Peer, PeerFault, Reply, Request, Side, Status,
};
use testkit::alloc::measure;
use testkit::rpc::Link;

use crate::calls::{events, taken};
use crate::solo::{MS, SEC, Solo, hello, more, one_way, reply, request};

fn item(bytes: usize) -> Body {
    Bytes::from(vec![1; bytes]).into()
}

/// Answers every request that an end has reported with a body of `size`, and returns how its calls ended.
fn serve(link: &mut Link, end: usize, size: usize) -> Vec<Result<Reply, Status>> {
    let mut ended = Vec::new();
    for event in events(link, end) {
        match event {
            Event::Request(id, _) => {
                let body = Bytes::from(vec![9; size]).into();
                link.ends[end].peer.respond(id, Ok(Reply { body, ..Reply::default() }));
            }
            Event::Ended(_, result) => ended.push(result),
            _ => {}
        }
    }
    ended
}

/// scylladb/scylladb#811: both ends are full of answers, and neither reads.
#[test]
fn both_ends_full_of_calls_go_on_reading() {
    let mut link = Link::open();
    for end in [0, 1] {
        for _ in 0..300 {
            let now = link.now();
            link.ends[end].peer.call(now, request(16 * 1024), None).unwrap();
        }
    }
    let mut ended = [0, 0];
    let mut idle = 0;
    while idle < 2 {
        idle = if link.step() { 0 } else { idle + 1 };
        for (end, count) in ended.iter_mut().enumerate() {
            let results = serve(&mut link, end, 16 * 1024);
            assert!(results.iter().all(Result::is_ok));
            *count += results.len();
        }
    }
    assert_eq!(ended, [300, 300]);
    assert!(link.ends.iter().all(|end| end.always_read && end.fault.is_none()));
    assert_eq!(link.ends.each_ref().map(|end| end.peer.open_calls()), [0, 0]);
}

/// CVE-2023-44487, rapid reset: requests that are cancelled at once.
#[test]
fn requests_cancelled_at_once_begin_nothing_and_end_the_connection() {
    let mut solo = Solo::accepting();
    let (started, usage) = measure(|| {
        let mut started = 0;
        let mut fault = None;
        // A turn of the session takes this many frames; the cut may come between a request and its cancel.
        for turn in 0..2000u32 {
            for n in 0..100 {
                let nth = turn * 100 + n;
                let id = 3 + nth.div_ceil(2) % 200 * 2;
                let frame = if nth % 2 == 1 { Frame::Request(id, request(64)) } else { Frame::Cancel(id) };
                fault = fault.or(solo.hear(frame).err());
            }
            let events = solo.events();
            let requests = events.iter().filter(|event| matches!(event, Event::Request(..))).count();
            assert!(requests <= 1, "{requests} handlers began in one turn");
            started += requests;
            for event in events {
                if let Event::Cancelled(id, _) = event {
                    solo.peer.release(id);
                }
            }
            let frames = solo.frames();
            if let Some(Frame::GoAway(go_away)) = frames.last() {
                assert_eq!(
                    (fault, go_away.code),
                    (Some(PeerFault::EnhanceYourCalm), GoAwayCode::EnhanceYourCalm)
                );
            }
        }
        assert_eq!(fault, Some(PeerFault::EnhanceYourCalm));
        started
    });
    assert!(started <= 21, "{started} handlers began for a thousand tokens");
    assert!(usage.peak < 200 * 1024, "{usage:?}");
    let mut solo = Solo::accepting();
    let (_, usage) = measure(|| {
        let burst = (0..200_000).map(|n| match n % 2 {
            0 => Frame::Request(3, request(64)),
            _ => Frame::Cancel(3),
        });
        // The answer goes out at once, so that the id is free again.
        let fault = burst.into_iter().find_map(|frame| {
            let fault = solo.hear(frame).err();
            if fault.is_none() {
                solo.frames();
            }
            fault
        });
        assert_eq!(fault, Some(PeerFault::EnhanceYourCalm));
    });
    assert!(usage.peak < 64 * 1024, "{usage:?}");
    assert_eq!(solo.events(), []);
    assert!(matches!(&solo.frames()[..], [Frame::GoAway(g)] if g.code == GoAwayCode::EnhanceYourCalm));
}

/// CVE-2025-8671: refusals that the peer makes this side send, and does not read.
#[test]
fn answers_to_broken_requests_that_nobody_reads_are_bounded() {
    let mut solo = Solo::accepting();
    let (fault, usage) = measure(|| {
        (0..65_536u32).find_map(|n| {
            let id = 3 + n * 2;
            let fault = FrameFault::Field(1);
            solo.hear(Frame::Invalid(Invalid { kind: 1, id, fault })).err().map(|fault| (n, fault))
        })
    });
    assert_eq!(fault, Some((1000, PeerFault::EnhanceYourCalm)));
    assert!(usage.peak < 1 << 20, "{usage:?}");
    assert_eq!(solo.events(), []);
    assert!(matches!(&solo.frames()[..], [Frame::GoAway(_)]));
    solo.close();
    assert_eq!(solo.peer.open_calls(), 0);
}

/// Requests over the limit of calls cost tokens; an honest peer does not send them.
#[test]
fn requests_over_the_limit_of_calls_are_refused_and_cost_tokens() {
    let config = Config::builder().max_calls(16).resets(20, 0).build().unwrap();
    let mut solo = Solo::with(config, Side::Accepting);
    let ids: Vec<_> = (0..16).map(|n| solo.take(3 + n * 2, request(1))).collect();
    for n in 16..36 {
        solo.hear(Frame::Request(3 + n * 2, request(1))).unwrap();
        let frames = solo.frames();
        let [Frame::Error(_, status)] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!((status.code(), status.executed()), (Code::ResourceExhausted, Executed::No));
    }
    assert_eq!(solo.events(), []);
    // An answer brings a token and a place.
    solo.peer.respond(ids[0], reply());
    solo.frames();
    let again = solo.take(3, request(1));
    solo.peer.respond(again, reply());
    solo.frames();
    solo.take(3, request(1));
    for n in 16..18 {
        solo.hear(Frame::Request(3 + n * 2, request(1))).unwrap();
    }
    assert_eq!(solo.hear(Frame::Request(99, request(1))), Err(PeerFault::EnhanceYourCalm));
}

/// A handler that runs on after a cancel takes a place, and that is not the peer's fault.
#[test]
fn handlers_that_run_on_count_and_cost_the_peer_nothing() {
    let config = Config::builder().max_calls(16).resets(16, 0).build().unwrap();
    let mut solo = Solo::with(config, Side::Accepting);
    let mut run_on = Vec::new();
    for _ in 0..16 {
        let id = solo.take(3, request(1));
        solo.hear(Frame::Cancel(3)).unwrap();
        assert_eq!(solo.events(), [Event::Cancelled(id, Cancelled::ByCaller)]);
        assert!(matches!(solo.frames()[..], [Frame::Error(3, _)]));
        run_on.push(id);
    }
    // All tokens are spent: what comes now must not cost any.
    for _ in 0..1000 {
        solo.hear(Frame::Request(3, request(1))).unwrap();
        let frames = solo.frames();
        let [Frame::Error(3, status)] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!((status.code(), status.executed()), (Code::ResourceExhausted, Executed::No));
    }
    assert_eq!(solo.peer.open_calls(), 16);
    solo.peer.release(run_on[3]);
    solo.peer.release(run_on[3]);
    solo.take(3, request(1));
    solo.hear(Frame::Request(5, request(1))).unwrap();
    assert_eq!(solo.events(), []);
    assert_eq!(solo.peer.open_calls(), 17, "15 run on, one runs, one is refused");
}

/// So does the handler of a one-way call, which is answered before it runs.
#[test]
fn handlers_of_one_way_calls_count() {
    let config = Config::builder().max_calls(16).max_pending_bytes(1000).build().unwrap();
    let mut solo = Solo::with(config.clone(), Side::Accepting);
    let ids: Vec<_> = (0..16)
        .map(|_| {
            let id = solo.take(3, one_way());
            assert_eq!(solo.frames(), [Frame::Reply(3, Reply::default())]);
            id
        })
        .collect();
    solo.hear(Frame::Request(3, one_way())).unwrap();
    assert!(matches!(&solo.frames()[..], [Frame::Error(3, s)] if s.executed() == Executed::No));
    solo.peer.release(ids[0]);
    solo.take(3, one_way());

    // What they were called with counts as well, until they have ended.
    let mut solo = Solo::with(config, Side::Accepting);
    let first = solo.take(3, Request { one_way: true, ..request(600) });
    solo.frames();
    solo.hear(Frame::Request(3, request(600))).unwrap();
    assert!(matches!(&solo.frames()[..], [Frame::Error(3, s)] if s.code() == Code::ResourceExhausted));
    solo.peer.release(first);
    let second = solo.take(3, request(600));
    solo.hear(Frame::Cancel(3)).unwrap();
    assert_eq!(solo.events(), [Event::Cancelled(second, Cancelled::ByCaller)]);
    solo.frames();
    solo.hear(Frame::Request(3, request(600))).unwrap();
    assert!(matches!(&solo.frames()[..], [Frame::Error(3, s)] if s.code() == Code::ResourceExhausted));
    solo.peer.release(second);
    solo.take(3, request(600));
}

#[test]
fn a_one_way_call_that_was_taken_is_not_cancelled() {
    let mut solo = Solo::accepting();
    let id = solo.take(3, one_way());
    solo.hear(Frame::Cancel(3)).unwrap();
    assert_eq!((solo.events(), solo.frames()), (vec![], vec![Frame::Reply(3, Reply::default())]));
    solo.peer.release(id);
    solo.hear(Frame::Request(3, one_way())).unwrap();
    solo.hear(Frame::Cancel(3)).unwrap();
    assert_eq!(solo.events(), []);
    assert!(matches!(&solo.frames()[..], [Frame::Error(3, s)] if s.executed() == Executed::No));
    assert_eq!(solo.peer.open_calls(), 0);
}

#[test]
fn bytes_of_requests_and_items_are_bounded() {
    let config = Config::builder().max_pending_bytes(100_000).build().unwrap();
    let mut solo = Solo::with(config, Side::Accepting);
    let first = solo.take(3, request(60_000));
    solo.hear(Frame::Request(5, request(60_000))).unwrap();
    let frames = solo.frames();
    let [Frame::Error(5, status)] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!((status.code(), status.executed()), (Code::ResourceExhausted, Executed::No));
    solo.peer.respond(first, reply());
    solo.frames();
    let second = solo.take(3, more());
    let third = solo.take(5, more());
    solo.hear(Frame::Item(3, item(60_000))).unwrap();
    assert_eq!(solo.events(), [Event::Item(second, item(60_000))]);
    solo.hear(Frame::Item(5, item(60_000))).unwrap();
    assert_eq!(solo.events(), [Event::Cancelled(third, Cancelled::Fault)]);
    assert!(matches!(&solo.frames()[..], [Frame::Error(5, s)] if s.code() == Code::ResourceExhausted));
    solo.peer.release(third);
    solo.peer.consumed(second, 60_000);
    solo.take(5, request(99_000));
    // An answered call holds nothing of the peer.
    solo.hear(Frame::Item(3, item(400))).unwrap();
    solo.peer.respond(second, reply());
    solo.frames();
    assert_eq!(solo.events(), []);
    solo.take(3, request(500));
}

#[test]
fn answers_that_nobody_reads_hold_up_requests() {
    let config = Config::builder().max_pending_bytes(100_000).build().unwrap();
    let mut solo = Solo::with(config, Side::Accepting);
    for n in 0..3 {
        let id = solo.take(3 + n * 2, request(1));
        let body = Bytes::from(vec![1; 40_000]).into();
        solo.peer.respond(id, Ok(Reply { body, ..Reply::default() }));
    }
    solo.hear(Frame::Request(9, request(1))).unwrap();
    let frames = solo.frames();
    let [.., Frame::Error(9, status)] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!((status.code(), status.executed()), (Code::ResourceExhausted, Executed::No));
    assert_eq!(frames.len(), 4);
    solo.take(3, request(1));
}

/// A peer that grants much and reads nothing makes this side keep no more than its own window.
#[test]
fn items_that_the_transport_does_not_take_are_bounded() {
    let generous = Hello { window: Hello::MAX_WINDOW, ..hello() };
    let mut solo = Solo::new(Arc::default(), Side::Accepting);
    solo.hear(Frame::Hello(generous)).unwrap();
    solo.events();
    solo.frames();
    let id = solo.take(3, request(1));
    let sent = (0..).find(|_| solo.peer.send_item(id, item(1000)).is_err()).unwrap();
    assert_eq!(sent, 65_536usize.div_ceil(1032));
    assert_eq!(solo.peer.send_item(id, item(7)), Err(ItemError::Blocked(item(7))));
    assert_eq!(solo.events(), []);
    assert!(matches!(solo.frame(), Some(Frame::Item(3, _))));
    assert_eq!(solo.events(), [Event::Room(id)]);
    solo.peer.send_item(id, item(7)).unwrap();
    assert_eq!(solo.frames().len(), sent);
    assert_eq!(solo.events(), []);
}

/// hyperium/hyper#4003: places and credit go to calls that are open, not to those that wait.
#[test]
fn streams_over_the_limit_wait_for_those_that_are_open() {
    let few = Config::builder().max_calls(16).build().unwrap();
    let mut link = Link::new(Arc::default(), few, 64 * 1024);
    link.settle();
    events(&mut link, 1);
    let now = link.now();
    for _ in 0..200 {
        let id = link.ends[0].peer.call(now, more(), None).unwrap();
        while link.ends[0].peer.send_item(id, item(5000)).is_ok() {}
        link.ends[0].peer.finish(id);
    }
    let (mut most, mut open, mut ended) = (0, 0, 0);
    let mut idle = 0;
    while idle < 2 {
        idle = if link.step() { 0 } else { idle + 1 };
        for event in events(&mut link, 1) {
            match event {
                Event::Request(..) => open += 1,
                Event::Item(id, item) => link.ends[1].peer.consumed(id, item.bytes.len()),
                Event::End(id) => {
                    open -= 1;
                    link.ends[1].peer.respond(id, reply());
                }
                other => panic!("{other:?}"),
            }
            most = most.max(open);
        }
        ended += events(&mut link, 0).iter().filter(|event| matches!(event, Event::Ended(_, Ok(_)))).count();
    }
    assert_eq!((most, ended), (16, 200));
}

/// cloudwego/volo, anthropics/connect-rust#2: a caller that sends all of its items before it reads.
#[test]
fn a_caller_that_sends_everything_first_is_answered() {
    let mut link = Link::open();
    let now = link.now();
    let id = link.ends[0].peer.call(now, more(), None).unwrap();
    for _ in 0..50 {
        link.ends[0].peer.send_item(id, item(100)).unwrap();
    }
    link.ends[0].peer.finish(id);
    link.settle();
    let mut echoed = 0;
    for event in events(&mut link, 1) {
        match event {
            Event::Item(theirs, item) => {
                link.ends[1].peer.consumed(theirs, item.bytes.len());
                link.ends[1].peer.send_item(theirs, item).unwrap();
                echoed += 1;
            }
            Event::End(theirs) => link.ends[1].peer.respond(theirs, reply()),
            _ => {}
        }
    }
    link.settle();
    assert_eq!((echoed, events(&mut link, 0).len()), (50, 51));
}

/// A server that speaks only after the first item, to a caller that sends it before any word of the server.
#[test]
fn items_go_before_the_first_word_of_the_other_end() {
    let mut link = Link::new(Arc::default(), Arc::default(), 64 * 1024);
    let now = link.now();
    let id = link.ends[0].peer.call(now, more(), None).unwrap();
    link.ends[0].peer.send_item(id, item(9)).unwrap();
    // One way only.
    link.step();
    link.step();
    let seen = events(&mut link, 1);
    let [Event::Hello(_), Event::Request(theirs, _), Event::Item(_, _)] = seen[..] else {
        panic!("{seen:?}")
    };
    link.ends[1].peer.send_item(theirs, item(8)).unwrap();
    link.settle();
    assert_eq!(events(&mut link, 0)[1..], [Event::Item(id, item(8))]);
}

/// jsonrpsee#798: one consumer takes nothing. Its sender waits, the others go on, and nothing is dropped.
#[test]
fn a_slow_consumer_stops_its_sender_alone() {
    let mut link = Link::open();
    let now = link.now();
    let mut pairs: Vec<(CallId, CallId)> = Vec::new();
    for _ in 0..3 {
        let id = link.ends[0].peer.call(now, request(1), None).unwrap();
        link.settle();
        pairs.push((id, taken(&mut link, 1).0));
    }
    let mut received = [0; 3];
    let mut sent = [0; 3];
    for _ in 0..200 {
        for (n, (_, theirs)) in pairs.iter().enumerate() {
            while link.ends[1].peer.send_item(*theirs, item(10_000)).is_ok() {
                sent[n] += 1;
            }
        }
        link.settle();
        for event in events(&mut link, 0) {
            let Event::Item(id, item) = event else { continue };
            let n = pairs.iter().position(|(ours, _)| *ours == id).unwrap();
            received[n] += 1;
            if n != 1 {
                link.ends[0].peer.consumed(id, item.bytes.len());
            }
        }
    }
    assert_eq!((sent[1], received[1]), (7, 7), "a window, and the item that exceeds it");
    assert!(received[0] > 500 && received[2] > 500, "{received:?}");
    for _ in 0..7 {
        link.ends[0].peer.consumed(pairs[1].0, 10_000);
    }
    link.settle();
    assert!(events(&mut link, 1).contains(&Event::Room(pairs[1].1)));
    assert_eq!(received, sent);
}

/// A peer that calls again with every answer stops neither the streams nor the calls of this side.
#[test]
fn answers_without_a_pause_leave_room_for_the_others() {
    let mut solo = Solo::accepting();
    let stream = solo.take(3, request(1));
    let mut open: Vec<_> = (2..102).map(|n| (1 + n * 2, solo.take(1 + n * 2, request(1)))).collect();
    for _ in 0..10 {
        solo.peer.send_item(stream, item(1)).unwrap();
        solo.peer.call(solo.now, request(1), None).unwrap();
    }
    let (mut others, mut answers) = (0, 0);
    while others < 20 {
        for (_, id) in open.drain(..) {
            solo.peer.respond(id, reply());
        }
        for _ in 0..10 {
            match solo.frame() {
                Some(Frame::Reply(id, _)) => {
                    open.push((id, solo.take(id, request(1))));
                    answers += 1;
                }
                Some(Frame::Item(..) | Frame::Request(..)) => others += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(answers <= 400, "{others} others after {answers} answers");
    }
    assert!(answers >= 300, "answers come first: {answers}");
}

#[test]
fn calls_that_wait_are_bounded() {
    let config = Config::builder().max_waiting(10).max_waiting_bytes(100_000).build().unwrap();
    let mut solo = Solo::with(config, Side::Connecting);
    let ids: Vec<_> = (0..10).map(|_| solo.peer.call(solo.now, request(1), None).unwrap()).collect();
    let refused = solo.peer.call(solo.now, request(1), None).unwrap_err();
    assert_eq!((refused.status.code(), refused.status.executed()), (Code::ResourceExhausted, Executed::No));
    assert_eq!(*refused.request, request(1));
    solo.peer.cancel(solo.now, ids[4]);
    solo.peer.call(solo.now, request(1), None).unwrap();
    assert_eq!(solo.frames().len(), 10);
    for _ in 0..2 {
        solo.peer.call(solo.now, request(60_000), None).unwrap();
    }
    assert!(solo.peer.call(solo.now, request(1), None).is_err());
    assert_eq!(solo.frames().len(), 2);
    assert_eq!(solo.peer.room_for_calls(), 256 - 12);
    solo.peer.call(solo.now, request(1), None).unwrap();
    assert_eq!(solo.peer.room_for_calls(), 256 - 13);
}

#[test]
fn the_peer_may_change_how_many_calls_it_takes() {
    let mut solo = Solo::connecting();
    for _ in 0..100 {
        solo.peer.call(solo.now, request(1), None).unwrap();
    }
    solo.hear(Frame::Calls(16)).unwrap();
    assert_eq!((solo.frames().len(), solo.peer.room_for_calls()), (16, 0));
    assert!(!solo.peer.wants_write());
    solo.hear(Frame::Reply(3, Reply::default())).unwrap();
    assert_eq!(solo.frames().len(), 1);
    solo.hear(Frame::Calls(50)).unwrap();
    assert_eq!(solo.frames().len(), 34);
    // Fewer than are open.
    solo.hear(Frame::Calls(16)).unwrap();
    for id in (5..5 + 2 * 34).step_by(2) {
        solo.hear(Frame::Reply(id, Reply::default())).unwrap();
        assert_eq!(solo.frames(), []);
    }
    solo.hear(Frame::Reply(5 + 2 * 34, Reply::default())).unwrap();
    assert_eq!(solo.frames().len(), 1);
    solo.hear(Frame::Calls(u32::MAX)).unwrap();
    assert_eq!(solo.frames().len(), 48);
}

#[test]
fn few_calls_go_before_the_limits_of_the_peer_have_come() {
    let mut solo = Solo::new(Arc::default(), Side::Connecting);
    for _ in 0..20 {
        solo.peer.call(solo.now, request(1), None).unwrap();
    }
    assert_eq!((solo.frames().len(), solo.peer.wants_write()), (1 + 16, false));
    solo.hear(Frame::Hello(Hello { max_calls: 18, ..hello() })).unwrap();
    assert_eq!((solo.frames().len(), solo.peer.wants_write()), (2, false));
}

#[test]
fn a_stream_has_16_kib_before_the_limits_of_the_peer_have_come() {
    let mut solo = Solo::new(Arc::default(), Side::Connecting);
    let id = solo.peer.call(solo.now, more(), None).unwrap();
    let fill = |solo: &mut Solo| {
        let sent = (0..).find(|_| solo.peer.send_item(id, item(1000)).is_err()).unwrap();
        solo.frames();
        sent
    };
    let before = fill(&mut solo);
    assert_eq!(before, 16_384usize.div_ceil(1032));
    solo.hear(Frame::Hello(Hello { window: 50_000, ..hello() })).unwrap();
    assert!(matches!(solo.events()[..], [Event::Hello(_), Event::Room(room)] if room == id));
    assert_eq!(before + fill(&mut solo), 50_000usize.div_ceil(1032), "the difference was added");
}

#[test]
fn the_highest_id_reserves_no_memory_for_those_below() {
    let mut solo = Solo::accepting();
    let (_, usage) = measure(|| solo.take(131_073, request(1)));
    assert!(usage.peak < 8 * 1024, "{usage:?}");
}

#[test]
fn a_peer_takes_compressed_bodies_only_if_it_says_so() {
    for deflate in [false, true] {
        let mut solo = Solo::new(Arc::default(), Side::Connecting);
        assert!(!solo.peer.may_deflate(), "it has said nothing");
        solo.hear(Frame::Hello(Hello { deflate, ..hello() })).unwrap();
        assert_eq!(solo.peer.may_deflate(), deflate);
    }
}

#[test]
fn pings_and_unknown_frames_in_a_flood_cost_one_answer() {
    let mut solo = Solo::accepting();
    let (_, usage) = measure(|| {
        for n in 0..100_000 {
            solo.hear(Frame::Ping(n)).unwrap();
            solo.hear(Frame::Pong(n)).unwrap();
            solo.hear(Frame::Skipped(200)).unwrap();
            solo.hear(Frame::Calls(100)).unwrap();
        }
    });
    assert_eq!(usage.peak, 0);
    assert_eq!(solo.frames(), [Frame::Pong(99_999)]);
    assert_eq!(solo.events(), []);
}

#[test]
fn the_memory_of_calls_is_given_up_after_a_second_without_any() {
    let config = Arc::default();
    let mut solo = Solo::with(Arc::clone(&config), Side::Accepting);
    let mut busy = || {
        for _ in 0..3 {
            let ids: Vec<_> = (0..200).map(|n| solo.take(3 + n * 2, more())).collect();
            for (n, id) in (0..).zip(ids) {
                solo.hear(Frame::Item(3 + n * 2, item(100))).unwrap();
                solo.peer.send_item(id, item(100)).unwrap();
                solo.peer.respond(id, reply());
            }
            solo.frames();
            for _ in 0..200 {
                solo.peer.call(solo.now, request(100), Some(solo.now + SEC)).unwrap();
            }
            solo.frames();
            for n in 0..200 {
                solo.hear(Frame::Reply(2 + n * 2, Reply::default())).unwrap();
            }
            assert_eq!(solo.events().len(), 200);
            solo.run(900 * MS).unwrap();
        }
        solo.run(200 * MS).unwrap();
        assert_eq!(solo.peer.open_calls(), 0);
    };
    busy(); // what is made once in a process is not counted
    let (_, usage) = measure(busy);
    assert!(usage.live <= 100, "{usage:?}");
    let stale = solo.take(3, request(1));
    solo.peer.respond(stale, reply());
    solo.frames();
    solo.run(2 * SEC).unwrap();
    let fresh = solo.take(3, request(1));
    assert_ne!(stale, fresh, "names of calls are not given out again");
    solo.peer.respond(fresh, reply());
    solo.frames();
    solo.run(2 * SEC).unwrap();
    let Solo { peer, .. } = solo;
    let (_, freed) = measure(|| drop(peer));
    let bytes = size_of::<Peer>() as i64 - freed.live;
    assert!(bytes <= 480, "{bytes} bytes without calls");
}

#[test]
fn the_settled_state_allocates_nothing_for_a_call() {
    let mut solo = Solo::connecting();
    let mut round = || {
        for _ in 0..10 {
            let at = solo.now + SEC;
            solo.peer
                .call(solo.now, Request::new("a/b", getty_core::rpc::CodecName::Raw, Bytes::new()), Some(at))
                .unwrap();
        }
        for n in 0..10 {
            let frame = solo.peer.poll_frame(solo.now).unwrap();
            assert!(matches!(frame, Frame::Request(..)));
            drop(frame);
            assert!(n < 10);
        }
        for n in 0..10 {
            solo.hear(Frame::Reply(3 + n * 2, Reply::default())).unwrap();
            assert!(matches!(solo.peer.poll_event(), Some(Event::Ended(_, Ok(_)))));
        }
        for n in 0..10 {
            solo.hear(Frame::Request(
                2 + n * 2,
                Request::new("a/b", getty_core::rpc::CodecName::Raw, Bytes::new()),
            ))
            .unwrap();
            let Some(Event::Request(id, _)) = solo.peer.poll_event() else { panic!() };
            solo.peer.respond(id, reply());
            assert!(matches!(solo.peer.poll_frame(solo.now), Some(Frame::Reply(..))));
        }
    };
    round();
    let (_, usage) = measure(|| (0..1000).for_each(|_| round()));
    assert_eq!(usage.allocations, 0);
}

/// Refusals for other reasons than the peer's conduct cost it no tokens.
#[test]
fn an_honest_peer_of_a_busy_server_is_not_sent_away() {
    let config = Config::builder().resets(1, 0).max_pending_bytes(10).build().unwrap();
    let mut solo = Solo::with(config, Side::Accepting);
    for _ in 0..100 {
        solo.hear(Frame::Request(3, request(100))).unwrap();
        let late = Request { timeout: Some(Duration::ZERO), ..request(1) };
        solo.hear(Frame::Request(5, late)).unwrap();
        assert_eq!(solo.frames().len(), 2);
    }
    solo.peer.go_away(solo.now, GoAwayCode::Shutdown, "x");
    for _ in 0..100 {
        solo.hear(Frame::Request(3, request(1))).unwrap();
        assert!(matches!(solo.frames().last(), Some(Frame::Error(3, s)) if s.executed() == Executed::No));
    }
}
