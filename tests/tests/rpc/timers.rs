//! Deadlines, heartbeats and the other times of a peer.

use std::sync::Arc;
use std::time::Duration;

use getty_core::Timestamp;
use getty_core::rpc::{
    Cancelled, Code, Config, Event, Executed, Frame, PeerFault, Reply, Request, Side, Status,
};
use testkit::alloc::measure;
use testkit::rpc::Link;

use crate::calls::events;
use crate::solo::{MS, SEC, Solo, reply, request};

fn timed(timeout: Duration) -> Request {
    Request { timeout: Some(timeout), ..request(1) }
}

/// The time until the deadline of a call with this timeout, or `None` within an hour.
fn lasts(config: &Arc<Config>, timeout: Option<Duration>) -> Option<Duration> {
    let mut solo = Solo::with(config.clone(), Side::Accepting);
    solo.hear(Frame::Request(3, Request { timeout, ..request(1) })).unwrap();
    let [Event::Request(id, _)] = solo.events()[..] else { panic!("it did not begin") };
    let start = solo.now;
    while solo.now < start + 3600 * SEC {
        let next = solo.peer.poll_timeout().unwrap();
        solo.now = next;
        solo.peer.handle_timeout(next).unwrap();
        solo.peer.handle_alive(next);
        match solo.events()[..] {
            [] => {}
            [Event::Cancelled(cancelled, Cancelled::Deadline)] => {
                assert_eq!(cancelled, id);
                let frames = solo.frames();
                let Some(Frame::Error(3, status)) = frames.last() else { panic!("{frames:?}") };
                assert_eq!((status.code(), status.executed()), (Code::DeadlineExceeded, Executed::Yes));
                return Some(solo.now.saturating_duration_since(start));
            }
            ref other => panic!("{other:?}"),
        }
    }
    None
}

#[test]
fn a_server_sets_limits_to_the_time_of_calls() {
    let none = Arc::default();
    assert_eq!(lasts(&none, None), None);
    assert_eq!(lasts(&none, Some(Duration::MAX)), None);
    assert_eq!(lasts(&none, Some(Duration::from_micros(u64::MAX))), None);
    let near = |time: Option<Duration>, wanted: Duration| {
        let time = time.unwrap();
        assert!(time >= wanted && time <= wanted + 2 * MS, "{time:?} instead of {wanted:?}");
    };
    near(lasts(&none, Some(Duration::from_nanos(1))), Duration::ZERO);
    near(lasts(&none, Some(SEC)), SEC);
    near(lasts(&none, Some(1000 * SEC)), 1000 * SEC);
    let config = Config::builder().deadlines(100 * MS, 10 * SEC, SEC).build().unwrap();
    near(lasts(&config, Some(MS)), 100 * MS);
    near(lasts(&config, Some(24 * 3600 * SEC)), 10 * SEC);
    near(lasts(&config, Some(5 * SEC)), 5 * SEC);
    near(lasts(&config, None), SEC);
    for (min, max, default) in [(2 * SEC, SEC, SEC), (SEC, 2 * SEC, 3 * SEC), (SEC, 2 * SEC, 500 * MS)] {
        assert!(Config::builder().deadlines(min, max, default).build().is_err());
    }
    assert!(Config::builder().deadlines(Duration::ZERO, Duration::ZERO, Duration::ZERO).build().is_err());
}

#[test]
fn a_request_that_comes_late_does_not_begin() {
    let mut solo = Solo::accepting();
    solo.hear(Frame::Request(3, timed(Duration::ZERO))).unwrap();
    assert_eq!(solo.events(), []);
    let frames = solo.frames();
    let [Frame::Error(3, status)] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!((status.code(), status.executed()), (Code::DeadlineExceeded, Executed::No));
    // Nor one whose deadline passes before it is reported.
    solo.hear(Frame::Request(3, timed(MS))).unwrap();
    solo.wait(5 * MS).unwrap();
    assert_eq!(solo.events(), []);
    let frames = solo.frames();
    let [Frame::Error(3, status)] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!((status.code(), status.executed()), (Code::DeadlineExceeded, Executed::No));
    assert_eq!(solo.peer.open_calls(), 0);
}

/// The deadline of a call that was taken back is not that of the next call in its place.
#[test]
fn a_deadline_ends_with_its_call() {
    for timeout in [None, Some(10 * SEC)] {
        let mut solo = Solo::connecting();
        let id = solo.peer.call(solo.now, request(1), Some(solo.now + 10 * MS)).unwrap();
        solo.peer.cancel(solo.now, id);
        let next = solo.call(request(1), timeout);
        solo.run(100 * MS).unwrap();
        assert_eq!(solo.events(), []);
        solo.hear(Frame::Reply(3, Reply::default())).unwrap();
        assert_eq!(solo.events(), [Event::Ended(next, reply())]);
    }
    // Nor any other kind of end.
    let ends: [fn(&mut Solo); 4] = [
        |solo| {
            let id = solo.take(2, timed(10 * MS));
            solo.peer.respond(id, reply());
        },
        |solo| {
            let id = solo.take(2, timed(10 * MS));
            solo.hear(Frame::Cancel(2)).unwrap();
            solo.peer.release(id);
        },
        |solo| {
            solo.call(request(1), Some(10 * MS));
            solo.hear(Frame::Error(3, Status::internal("x"))).unwrap();
        },
        |solo| {
            let id = solo.call(request(1), Some(10 * MS));
            solo.peer.cancel(solo.now, id);
            solo.frames();
            solo.hear(Frame::Reply(3, Reply::default())).unwrap();
        },
    ];
    for end in ends {
        let mut solo = Solo::connecting();
        end(&mut solo);
        solo.frames();
        solo.events();
        assert_eq!(solo.peer.open_calls(), 0);
        let ours = solo.call(request(1), None);
        let theirs = solo.take(2, request(1));
        solo.run(100 * MS).unwrap();
        assert_eq!(solo.events(), []);
        solo.hear(Frame::Reply(3, Reply::default())).unwrap();
        solo.peer.respond(theirs, reply());
        assert_eq!(solo.events(), [Event::Ended(ours, reply())]);
    }
}

/// containerd/ttrpc-rust#317: the time counts from the call, whatever holds it up.
#[test]
fn calls_to_a_peer_that_reads_nothing_end_in_time() {
    let mut link = Link::open();
    link.ends[1].stalled = true;
    let now = link.now();
    for _ in 0..300 {
        link.ends[0].peer.call(now, request(2000), Some(now + 100 * MS)).unwrap();
    }
    link.run_for(100 * MS - Duration::from_nanos(1));
    assert_eq!(events(&mut link, 0), []);
    link.run_for(2 * MS);
    let ended = events(&mut link, 0);
    assert_eq!(ended.len(), 300);
    let count = |executed| {
        let late = (Code::DeadlineExceeded, executed);
        let of =
            |event: &&Event| matches!(event, Event::Ended(_, Err(s)) if (s.code(), s.executed()) == late);
        ended.iter().filter(of).count()
    };
    let (no, maybe) = (count(Executed::No), count(Executed::Maybe));
    assert_eq!(no + maybe, 300);
    assert!(no > 40, "some were not sent: {no}");
    // What was sent is answered once the peer reads.
    link.ends[1].stalled = false;
    link.settle();
    events(&mut link, 1);
    link.run_for(2 * MS);
    assert_eq!(link.ends[0].peer.open_calls(), maybe);
    link.run_for(SEC);
    link.settle();
    for event in events(&mut link, 1) {
        if let Event::Cancelled(id, Cancelled::Deadline) = event {
            link.ends[1].peer.release(id);
        }
    }
    link.settle();
    assert_eq!(link.ends.each_ref().map(|end| end.peer.open_calls()), [0, 0]);
}

#[test]
fn a_clock_that_goes_back_does_no_harm() {
    let mut solo = Solo::accepting();
    let id = solo.call(request(1), Some(SEC));
    let theirs = solo.take(3, timed(SEC));
    solo.wait(900 * MS).unwrap();
    solo.now = Timestamp::ORIGIN;
    solo.wait(MS).unwrap();
    solo.hear(Frame::Ping(7)).unwrap();
    let late = solo.peer.call(solo.now, request(1), Some(solo.now + SEC)).unwrap();
    let events = solo.events();
    assert!(
        matches!(&events[..], [Event::Ended(ended, Err(s))] if *ended == late && s.executed() == Executed::No)
    );
    assert_eq!(solo.frames(), [Frame::Pong(7)]);
    solo.wait(3600 * SEC).unwrap();
    assert_eq!(solo.events(), []);
    solo.wait(SEC).unwrap();
    let events = solo.events();
    assert!(events.contains(&Event::Cancelled(theirs, Cancelled::Deadline)), "{events:?}");
    assert!(events.iter().any(|event| matches!(event, Event::Ended(ended, Err(_)) if *ended == id)));
}

#[test]
fn a_peer_that_is_silent_is_asked_and_its_word_counts() {
    let mut solo = Solo::accepting();
    solo.run(30 * SEC - MS).unwrap();
    assert_eq!(solo.frames(), []);
    solo.run(MS).unwrap();
    assert_eq!(solo.frames(), [Frame::Ping(1)]);
    solo.run(3 * MS).unwrap();
    solo.hear(Frame::Pong(1)).unwrap();
    assert_eq!(solo.events(), [Event::Rtt(3 * MS)]);
    // A frame counts as well, and so does a part of one.
    solo.run(29 * SEC).unwrap();
    solo.hear(Frame::Calls(100)).unwrap();
    solo.run(29 * SEC).unwrap();
    solo.peer.handle_alive(solo.now);
    solo.run(29 * SEC).unwrap();
    assert_eq!(solo.frames(), []);
    solo.run(SEC).unwrap();
    assert_eq!(solo.frames(), [Frame::Ping(2)]);
    // A word after the ping, though no pong.
    solo.run(10 * SEC).unwrap();
    solo.peer.handle_alive(solo.now);
    solo.run(29 * SEC).unwrap();
    assert_eq!(solo.frames(), []);
    solo.run(SEC).unwrap();
    assert_eq!(solo.frames(), [Frame::Ping(3)]);
    // Pongs of other pings count as a word only.
    solo.run(SEC).unwrap();
    solo.hear(Frame::Pong(2)).unwrap();
    assert_eq!(solo.events(), []);
    solo.run(30 * SEC).unwrap();
    assert_eq!(solo.frames(), [Frame::Ping(4)]);
    solo.run(20 * SEC - MS).unwrap();
    assert_eq!(solo.run(MS), Err(PeerFault::Silent));
}

#[test]
fn without_a_heartbeat_silence_is_allowed() {
    let config = Config::builder().heartbeat(None).build().unwrap();
    let mut solo = Solo::with(config, Side::Accepting);
    solo.run(100_000 * SEC).unwrap();
    assert_eq!(solo.frames(), []);
    assert_eq!(solo.peer.poll_timeout(), None);
}

#[test]
fn a_cancelled_call_may_wait_for_its_answer_while_frames_come() {
    let config = Config::builder().heartbeat(None).build().unwrap();
    let mut solo = Solo::with(config, Side::Accepting);
    // Another call keeps the tables.
    solo.take(3, request(1));
    let id = solo.call(request(1), None);
    solo.peer.cancel(solo.now, id);
    assert_eq!(solo.frames(), [Frame::Cancel(4)]);
    for _ in 0..5 {
        solo.run(59 * SEC).unwrap();
        solo.hear(Frame::Skipped(200)).unwrap();
    }
    solo.hear(Frame::Reply(4, Reply::default())).unwrap();
    // The time of the next one begins with it, not with that of the call before.
    solo.run(59 * SEC).unwrap();
    let id = solo.call(request(1), None);
    solo.peer.cancel(solo.now, id);
    solo.frames();
    solo.run(59 * SEC).unwrap();
    assert_eq!(solo.run(SEC), Err(PeerFault::CancelIgnored));
}

#[test]
fn a_call_whose_deadline_has_passed_owes_an_answer_too() {
    let config = Config::builder().heartbeat(None).build().unwrap();
    let mut solo = Solo::with(config, Side::Accepting);
    solo.call(request(1), Some(SEC));
    solo.run(2 * SEC).unwrap();
    assert_eq!(solo.events().len(), 1);
    assert_eq!(
        (solo.frames(), solo.peer.open_calls()),
        (vec![], 1),
        "no cancel: the peer knows the deadline"
    );
    assert_eq!(solo.run(60 * SEC), Err(PeerFault::CancelIgnored));
}

/// No deadline stays due once the connection has ended, by a fault or otherwise.
#[test]
fn nothing_is_due_for_long_after_the_end() {
    for failed in [false, true] {
        let mut solo = Solo::accepting();
        solo.take(3, timed(SEC));
        let id = solo.call(request(1), Some(SEC));
        solo.peer.cancel(solo.now, id);
        assert_eq!(solo.frames(), [Frame::Cancel(4)]);
        solo.call(request(1), Some(SEC));
        if failed {
            solo.hear(Frame::Cancel(2)).unwrap_err();
        }
        solo.close();
        solo.events();
        solo.run(3600 * SEC).unwrap();
        assert_eq!(solo.peer.poll_timeout(), None);
        assert_eq!((solo.frames(), solo.peer.wants_write()), (vec![], false));
    }
    let mut solo = Solo::new(Arc::default(), Side::Accepting);
    solo.close();
    solo.run(3600 * SEC).unwrap();
    assert_eq!(solo.peer.poll_timeout(), None);
}

/// Calls one at a time do not move the runtime's timer.
#[test]
fn a_call_moves_no_timer() {
    let mut solo = Solo::connecting();
    let mut moved = 0;
    let mut last = solo.peer.poll_timeout();
    let mut look = |solo: &Solo| {
        let next = solo.peer.poll_timeout();
        moved += usize::from(next != last);
        last = next;
    };
    for _ in 0..10_000 {
        let id = solo.call(request(1), Some(SEC));
        look(&solo);
        solo.wait(MS).unwrap();
        look(&solo);
        solo.hear(Frame::Reply(3, Reply::default())).unwrap();
        assert_eq!(solo.events(), [Event::Ended(id, reply())]);
        look(&solo);
        let theirs = solo.take(2, timed(SEC));
        look(&solo);
        solo.peer.respond(theirs, reply());
        solo.frames();
        look(&solo);
    }
    assert!(moved <= 30, "in 10 s the timer moved {moved} times");
}

/// The cost of a deadline does not grow with the number of those that are pending.
#[test]
fn many_deadlines_cost_no_more_each() {
    let config = Config::builder().max_waiting(30_000).build().unwrap();
    let mut peers: Vec<_> = (0..4).map(|_| Solo::with(config.clone(), Side::Connecting)).collect();
    let mut random = testkit::Rng::new(1);
    for solo in &mut peers {
        for _ in 0..25_000 {
            let timeout = MS * (1 + random.below(10_000) as u32);
            solo.peer.call(solo.now, request(0), Some(solo.now + timeout)).unwrap();
        }
        // A further call allocates no more than the first did.
        let (_, usage) = measure(|| {
            for _ in 0..1000 {
                let id = solo.peer.call(solo.now, request(0), Some(solo.now + 5 * SEC)).unwrap();
                solo.peer.cancel(solo.now, id);
            }
        });
        assert!(usage.allocations <= 3010, "{usage:?}");
        let (start, mut ended, mut looks) = (solo.now, 0, 0);
        while ended < 25_000 {
            let at = solo.peer.poll_timeout().unwrap();
            solo.now = at;
            solo.peer.handle_timeout(at).unwrap();
            looks += 1;
            ended += solo.events().len();
        }
        let passed = solo.now.saturating_duration_since(start);
        assert!(passed <= 10 * SEC + 2 * MS, "{passed:?}");
        assert!(looks <= 10_050, "{looks} looks at the clock in 10 s");
    }
}

/// A stream that is open for a day costs few looks at the clock.
#[test]
fn distant_deadlines_cost_few_looks() {
    let config = Config::builder().max_calls(2048).heartbeat(None).build().unwrap();
    let mut solo = Solo::with(config, Side::Accepting);
    for n in 0..1000 {
        solo.take(3 + n * 2, timed(3600 * SEC + n * 7 * MS));
    }
    // The clock is looked at again once a short one has passed.
    let short = solo.peer.call(solo.now, request(1), Some(solo.now + 10 * MS)).unwrap();
    solo.run(20 * MS).unwrap();
    assert!(matches!(solo.events()[..], [Event::Ended(id, Err(_))] if id == short));
    let (end, mut looks) = (solo.now + 100 * SEC, 0);
    while let Some(at) = solo.peer.poll_timeout().filter(|&at| at < end) {
        solo.now = at;
        solo.peer.handle_timeout(at).unwrap();
        looks += 1;
    }
    assert!(looks <= 500, "{looks} looks at the clock in 100 s");
}
