//! Streams: items in both directions, credit, and their end.

use bytes::Bytes;
use getty_core::rpc::{Body, CallId, Code, Event, ItemError, Reply, Request};
use testkit::rpc::Link;

use crate::calls::{call, events, failed, request, taken};

fn streaming() -> Request {
    Request { more: true, ..request("stream") }
}

/// Calls with a stream; returns the call at both ends.
fn open(link: &mut Link) -> (CallId, CallId) {
    let id = call(link, 0, streaming(), None);
    link.settle();
    (id, taken(link, 1).0)
}

fn item(bytes: usize) -> Body {
    Bytes::from(vec![1; bytes]).into()
}

#[test]
fn items_go_both_ways_and_the_answer_comes_last() {
    let mut link = Link::open();
    let (id, theirs) = open(&mut link);
    link.ends[0].peer.send_item(id, item(3)).unwrap();
    link.ends[0].peer.finish(id);
    link.ends[1].peer.send_item(theirs, item(5)).unwrap();
    link.ends[1].peer.respond(theirs, Ok(Reply::default()));
    link.settle();
    let seen = events(&mut link, 0);
    assert_eq!(seen, [Event::Item(id, item(5)), Event::Ended(id, Ok(Reply::default()))]);
}

#[test]
fn the_callers_stream_ends_once() {
    let mut link = Link::open();
    let (id, theirs) = open(&mut link);
    link.ends[0].peer.send_item(id, item(3)).unwrap();
    link.ends[0].peer.finish(id);
    link.ends[0].peer.finish(id);
    assert_eq!(link.ends[0].peer.send_item(id, item(1)), Err(ItemError::Ended));
    link.settle();
    assert_eq!(events(&mut link, 1), [Event::Item(theirs, item(3)), Event::End(theirs)]);
}

#[test]
fn a_stream_without_credit_waits_until_items_are_consumed() {
    let mut link = Link::open();
    let (id, theirs) = open(&mut link);
    let mut sent = 0;
    let refused = loop {
        match link.ends[0].peer.send_item(id, item(1000)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        link.settle();
    };
    assert_eq!(refused, ItemError::Blocked(item(1000)));
    assert_eq!(sent, 65_536usize.div_ceil(1032), "an item costs 32 bytes more, the last one may exceed");
    let received = events(&mut link, 1);
    assert_eq!(received.len(), sent);
    link.settle();
    assert_eq!(events(&mut link, 0), []);
    for _ in 0..sent {
        link.ends[1].peer.consumed(theirs, 1000);
    }
    link.settle();
    assert_eq!(events(&mut link, 0), [Event::Room(id)]);
    link.ends[0].peer.send_item(id, item(1000)).unwrap();
}

#[test]
fn an_item_larger_than_the_window_goes_alone() {
    let mut link = Link::open();
    let (id, theirs) = open(&mut link);
    for _ in 0..3 {
        link.ends[0].peer.send_item(id, item(1 << 20)).unwrap();
        assert!(matches!(link.ends[0].peer.send_item(id, item(0)), Err(ItemError::Blocked(_))));
        link.settle();
        assert_eq!(events(&mut link, 1), [Event::Item(theirs, item(1 << 20))]);
        link.ends[1].peer.consumed(theirs, 1 << 20);
        link.settle();
        assert_eq!(events(&mut link, 0), [Event::Room(id)]);
    }
    let error = link.ends[0].peer.send_item(id, item((1 << 20) + 1)).unwrap_err();
    assert!(matches!(error, ItemError::TooLarge { limit: 0x10_0000, .. }), "{error:?}");
}

#[test]
fn a_method_without_a_request_stream_can_send_items() {
    let mut link = Link::open();
    let id = call(&mut link, 0, request("follow"), None);
    link.settle();
    let (theirs, _) = taken(&mut link, 1);
    assert_eq!(link.ends[0].peer.send_item(id, item(1)), Err(ItemError::Ended));
    link.ends[1].peer.send_item(theirs, item(1)).unwrap();
    link.settle();
    assert_eq!(events(&mut link, 0), [Event::Item(id, item(1))]);
}

#[test]
fn a_caller_that_sends_items_it_did_not_announce_loses_the_call() {
    use getty_core::rpc::Frame;
    let mut link = Link::open();
    call(&mut link, 0, request("x"), None);
    link.settle();
    let (theirs, _) = taken(&mut link, 1);
    let frame = Frame::Item(3, item(1));
    link.ends[0].session.send(frame).unwrap();
    link.settle();
    let seen = events(&mut link, 1);
    assert!(matches!(seen[..], [Event::Cancelled(id, _)] if id == theirs), "{seen:?}");
    assert_eq!(failed(&mut link, 0).code(), Code::InvalidArgument);
}

#[test]
fn a_slow_stream_does_not_hold_up_a_call() {
    let mut link = Link::open();
    let (id, _) = open(&mut link);
    while link.ends[0].peer.send_item(id, item(60_000)).is_ok() {}
    let unary = call(&mut link, 0, request("quick"), None);
    link.settle();
    let seen = events(&mut link, 1);
    assert!(seen.iter().any(|event| matches!(event, Event::Request(..))), "{seen:?}");
    let theirs = seen.iter().find_map(|event| match event {
        Event::Request(id, _) => Some(*id),
        _ => None,
    });
    link.ends[1].peer.respond(theirs.unwrap(), Ok(Reply::default()));
    link.settle();
    assert_eq!(events(&mut link, 0), [Event::Ended(unary, Ok(Reply::default()))]);
}
