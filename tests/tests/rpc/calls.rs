//! Calls: answers, deadlines, cancels, and the outcome when a connection ends.

use std::sync::Arc;
use std::time::Duration;

use getty_core::rpc::{CallId, Cancelled, Code, CodecName, Event, Executed, Frame, Reply, Request, Status};
use testkit::rpc::Link;

use crate::solo::Solo;

const MS: Duration = Duration::from_millis(1);

pub fn request(body: &'static str) -> Request {
    Request::new("test.Echo/Echo", CodecName::Raw, body.as_bytes())
}

fn reply(body: &'static str) -> Result<Reply, Status> {
    Ok(Reply { body: body.as_bytes().into(), ..Reply::default() })
}

/// All events of an end.
pub fn events(link: &mut Link, end: usize) -> Vec<Event> {
    std::iter::from_fn(|| link.ends[end].peer.poll_event()).collect()
}

/// The one request that has come to an end.
#[track_caller]
pub fn taken(link: &mut Link, end: usize) -> (CallId, Request) {
    match <[Event; 1]>::try_from(events(link, end)) {
        Ok([Event::Request(id, request)]) => (id, request),
        other => panic!("not one request: {other:?}"),
    }
}

/// The status with which the one call that is over at an end has ended.
#[track_caller]
pub fn failed(link: &mut Link, end: usize) -> Status {
    match <[Event; 1]>::try_from(events(link, end)) {
        Ok([Event::Ended(_, Err(status))]) => status,
        other => panic!("not one failed call: {other:?}"),
    }
}

#[track_caller]
pub fn call(link: &mut Link, end: usize, request: Request, timeout: Option<Duration>) -> CallId {
    let now = link.now();
    link.ends[end].peer.call(now, request, timeout.map(|timeout| now + timeout)).unwrap()
}

#[test]
fn both_ends_call_and_are_called() {
    let mut link = Link::open();
    for (caller, callee) in [(0, 1), (1, 0)] {
        let id = call(&mut link, caller, request("ping"), None);
        link.settle();
        let (theirs, request) = taken(&mut link, callee);
        assert_eq!((request.method.as_str(), &request.body.bytes[..]), ("test.Echo/Echo", &b"ping"[..]));
        link.ends[callee].peer.respond(theirs, reply("pong"));
        link.settle();
        assert_eq!(events(&mut link, caller), [Event::Ended(id, reply("pong"))]);
        assert_eq!(link.ends.each_ref().map(|end| end.peer.open_calls()), [0, 0]);
    }
}

#[test]
fn a_failure_says_what_the_handler_said() {
    let mut link = Link::open();
    call(&mut link, 0, request("x"), None);
    link.settle();
    let (theirs, _) = taken(&mut link, 1);
    let status = Status::not_found("no such room").with_retry_after(5 * MS).with_details("typed".into());
    link.ends[1].peer.respond(theirs, Err(status));
    link.settle();
    let status = failed(&mut link, 0);
    assert_eq!(
        (status.code(), status.message(), status.executed()),
        (Code::NotFound, "no such room", Executed::Yes)
    );
    assert_eq!((status.retry_after(), &status.details()[..]), (Some(5 * MS), &b"typed"[..]));
}

#[test]
fn a_call_before_the_first_word_of_the_peer_needs_no_round_trip() {
    let mut link = Link::new(Arc::default(), Arc::default(), 1 << 20);
    call(&mut link, 0, request("early"), None);
    link.step();
    link.step();
    let events = events(&mut link, 1);
    assert!(matches!(&events[..], [Event::Hello(_), Event::Request(..)]), "{events:?}");
}

#[test]
fn the_time_left_goes_with_a_call_and_ends_it_on_both_ends() {
    let mut link = Link::open();
    call(&mut link, 0, request("slow"), Some(100 * MS));
    link.settle();
    let (theirs, request) = taken(&mut link, 1);
    assert_eq!(request.timeout, Some(100 * MS));
    link.run_for(99 * MS);
    assert_eq!((events(&mut link, 0), events(&mut link, 1)), (vec![], vec![]));
    link.run_for(2 * MS);
    assert_eq!(events(&mut link, 1), [Event::Cancelled(theirs, Cancelled::Deadline)]);
    let status = failed(&mut link, 0);
    assert_eq!((status.code(), status.executed()), (Code::DeadlineExceeded, Executed::Maybe));
    link.ends[1].peer.release(theirs);
    assert_eq!(link.ends.each_ref().map(|end| end.peer.open_calls()), [0, 0], "the slots are free again");
}

#[test]
fn a_late_call_is_not_sent() {
    let mut link = Link::open();
    call(&mut link, 0, request("late"), Some(Duration::ZERO));
    let status = failed(&mut link, 0);
    assert_eq!((status.code(), status.executed()), (Code::DeadlineExceeded, Executed::No));
    // The transport takes nothing for a while.
    link.ends[1].stalled = true;
    let big = Request::new("test.Echo/Echo", CodecName::Raw, vec![7; 300_000]);
    call(&mut link, 0, big, None);
    link.settle();
    for _ in 0..300 {
        call(&mut link, 0, request("waits"), Some(100 * MS));
    }
    link.run_for(101 * MS);
    let ended = events(&mut link, 0);
    assert_eq!(ended.len(), 300);
    for event in ended {
        let Event::Ended(_, Err(status)) = event else { panic!("{event:?}") };
        assert_eq!((status.code(), status.executed()), (Code::DeadlineExceeded, Executed::No));
    }
    link.ends[1].stalled = false;
    link.settle();
    taken(&mut link, 1);
}

#[test]
fn huge_and_tiny_deadlines() {
    let mut link = Link::open();
    call(&mut link, 0, request("a"), Some(Duration::MAX));
    call(&mut link, 0, request("b"), Some(Duration::from_nanos(1)));
    link.settle();
    let status = match &events(&mut link, 0)[..] {
        [] => None,
        [Event::Ended(_, Err(status))] => Some(status.clone()),
        other => panic!("{other:?}"),
    };
    assert!(status.is_none(), "the clock stands still: {status:?}");
    link.run_for(2 * MS);
    assert_eq!(failed(&mut link, 0).code(), Code::DeadlineExceeded);
    link.run_for(Duration::from_secs(3600));
    let others = events(&mut link, 0).into_iter().filter(|event| !matches!(event, Event::Rtt(_)));
    assert_eq!(others.count(), 0);
}

#[test]
fn a_call_given_up_before_it_is_sent_leaves_no_trace() {
    let mut link = Link::open();
    let id = call(&mut link, 0, request("never"), None);
    let now = link.now();
    link.ends[0].peer.cancel(now, id);
    link.settle();
    assert_eq!((events(&mut link, 0), events(&mut link, 1)), (vec![], vec![]));
    assert_eq!(link.ends[0].peer.open_calls(), 0);
}

#[test]
fn a_call_given_up_is_cancelled_at_the_other_end() {
    let mut link = Link::open();
    let id = call(&mut link, 0, request("x"), None);
    link.settle();
    let (theirs, _) = taken(&mut link, 1);
    let now = link.now();
    link.ends[0].peer.cancel(now, id);
    link.settle();
    assert_eq!(events(&mut link, 1), [Event::Cancelled(theirs, Cancelled::ByCaller)]);
    assert_eq!(events(&mut link, 0), []);
    assert_eq!(link.ends[0].peer.open_calls(), 0, "the answer has come");
    assert_eq!(link.ends[1].peer.open_calls(), 1, "the handler runs until it is released");
    link.ends[1].peer.respond(theirs, reply("too late"));
    link.settle();
    assert_eq!(link.ends[1].peer.open_calls(), 0);
    assert_eq!(events(&mut link, 0), []);
}

#[test]
fn the_id_of_a_call_given_up_is_free_once_its_answer_has_come() {
    let mut solo = Solo::connecting();
    let id = solo.call(request("x"), None);
    solo.peer.cancel(solo.now, id);
    assert_eq!(solo.frames(), [Frame::Cancel(3)]);
    for (free, cancelled) in [(5, true), (3, false)] {
        solo.peer.call(solo.now, request("y"), None).unwrap();
        let frames = solo.frames();
        assert!(matches!(frames[..], [Frame::Request(id, _)] if id == free), "{frames:?}");
        if cancelled {
            solo.hear(Frame::Error(3, Status::cancelled("x"))).unwrap();
        }
    }
}

#[test]
fn a_call_and_its_cancel_in_one_breath_never_begin() {
    let mut link = Link::open();
    let id = call(&mut link, 0, request("x"), None);
    let now = link.now();
    // The request is in the session, the cancel goes right behind it.
    let frame = link.ends[0].peer.poll_frame(now).unwrap();
    let accepted = link.ends[0].session.send(frame).unwrap();
    link.ends[0].peer.frame_sent(accepted);
    link.ends[0].peer.cancel(now, id);
    link.settle();
    assert_eq!(events(&mut link, 1), []);
    assert_eq!(link.ends.each_ref().map(|end| end.peer.open_calls()), [0, 0]);
}

#[test]
fn a_one_way_call_is_answered_when_it_is_taken() {
    let mut link = Link::open();
    let id = call(&mut link, 0, Request { one_way: true, ..request("log") }, None);
    link.settle();
    assert_eq!(events(&mut link, 0), [], "not before it is taken");
    let (theirs, request) = taken(&mut link, 1);
    assert!(request.one_way);
    link.settle();
    assert_eq!(events(&mut link, 0), [Event::Ended(id, Ok(Reply::default()))]);
    assert_eq!(link.ends[1].peer.open_calls(), 1, "its handler runs");
    link.ends[1].peer.release(theirs);
    assert_eq!(link.ends[1].peer.open_calls(), 0);
}

#[test]
fn the_outcome_is_known_when_the_connection_ends() {
    let mut link = Link::open();
    let sent = call(&mut link, 0, request("sent"), None);
    link.settle();
    let (theirs, _) = taken(&mut link, 1);
    link.ends[1].stalled = true;
    let stuck = call(&mut link, 0, Request::new("test.Echo/Echo", CodecName::Raw, vec![7; 300_000]), None);
    link.settle();
    let waiting = call(&mut link, 0, request("waits"), None);
    link.settle();
    link.cut();
    let outcome: Vec<_> = events(&mut link, 0)
        .into_iter()
        .map(|event| match event {
            Event::Ended(id, Err(status)) => (id, status.code(), status.executed()),
            other => panic!("{other:?}"),
        })
        .collect();
    let unavailable = |id, executed| (id, Code::Unavailable, executed);
    assert_eq!(
        outcome,
        [
            unavailable(sent, Executed::Maybe),
            unavailable(stuck, Executed::No),
            unavailable(waiting, Executed::No),
        ]
    );
    assert_eq!(events(&mut link, 1), [Event::Cancelled(theirs, Cancelled::Closed)]);
    let now = link.now();
    let refused = link.ends[0].peer.call(now, request("more"), None).unwrap_err();
    assert_eq!(refused.status.executed(), Executed::No);
}

#[test]
fn going_away_lets_calls_finish_and_refuses_others() {
    let mut link = Link::open();
    let open = call(&mut link, 0, request("open"), None);
    link.settle();
    let (theirs, _) = taken(&mut link, 1);
    let crossing = call(&mut link, 0, request("crossing"), None);
    let now = link.now();
    link.ends[1].peer.go_away(now, getty_core::rpc::GoAwayCode::Shutdown, "update");
    link.settle();
    let seen = events(&mut link, 0);
    let [Event::GoAway(go_away), Event::Ended(id, Err(status))] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((go_away.text.as_str(), *id), ("update", crossing));
    assert_eq!((status.code(), status.executed()), (Code::Unavailable, Executed::No));
    assert!(link.ends[0].peer.call(now, request("more"), None).is_err());
    assert!(events(&mut link, 1).iter().all(|event| *event != Event::Drained));
    link.ends[1].peer.respond(theirs, reply("done"));
    link.settle();
    assert_eq!(events(&mut link, 0), [Event::Ended(open, reply("done")), Event::Drained]);
    assert_eq!(events(&mut link, 1), [Event::Drained]);
}

#[test]
fn the_handler_of_a_one_way_call_has_its_time_too() {
    let mut link = Link::open();
    let id = call(&mut link, 0, Request { one_way: true, ..request("log") }, Some(100 * MS));
    link.settle();
    let (theirs, _) = taken(&mut link, 1);
    link.settle();
    assert_eq!(events(&mut link, 0), [Event::Ended(id, Ok(Reply::default()))]);
    link.run_for(99 * MS);
    assert_eq!(events(&mut link, 1), []);
    link.run_for(2 * MS);
    assert_eq!(events(&mut link, 1), [Event::Cancelled(theirs, Cancelled::Deadline)]);
    link.ends[1].peer.release(theirs);
    assert_eq!(link.ends[1].peer.open_calls(), 0);
    // One that ends in time leaves nothing behind.
    call(&mut link, 0, Request { one_way: true, ..request("log") }, Some(100 * MS));
    link.settle();
    let (theirs, _) = taken(&mut link, 1);
    link.ends[1].peer.release(theirs);
    link.run_for(200 * MS);
    assert_eq!(events(&mut link, 1), []);
}
