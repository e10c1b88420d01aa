//! Back-pressure: one side does not take what the other sends.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use getty_core::{Close, CloseReason, Config, Deadline, Event, SendError, Session, Timestamp};
use testkit::pair::{Pair, Wire};

use crate::common::{Plain, Solo, frame, plain, secs};

const NONE: [&str; 0] = [];

/// Echoes, and counts refused messages.
fn echo(refused: &Rc<Cell<usize>>) -> impl FnMut(&mut Session<Plain>, Timestamp, &Event<Bytes>) + use<> {
    let refused = refused.clone();
    move |session: &mut Session<Plain>, _, event: &Event<Bytes>| {
        if let Event::Message(message) = event
            && session.send(message.clone()).is_err()
        {
            refused.set(refused.get() + 1);
        }
    }
}

#[test]
fn an_echo_listener_is_never_refused_and_its_session_stops_reading() {
    let high = 64 * 1024;
    for size in [16, 1000, 30_000, 900_000] {
        let config = || Config::builder().max_frame(1 << 20).write_stall_timeout(None);
        let sender = config().max_queued(1 << 30).watermarks(1 << 29, 1 << 29).build().unwrap();
        let wire = Wire { capacity: 128 * 1024, ..Wire::default() };
        let mut pair = Pair::with_configs(plain(), sender, plain(), config().build().unwrap()).wires(wire);
        let refused = Rc::default();
        pair.b.on_event(echo(&refused));
        pair.b.records = false;
        pair.a.session.pause(); // so that it sends and never reads
        let item = Bytes::from(vec![7; size]);
        let mut sent = 0;
        while pair.a.session.queued() < 1 << 20 {
            pair.a.session.send(item.clone()).unwrap();
            sent += 1;
            pair.settle();
            assert!(
                pair.b.session.queued() <= high + size + 4,
                "{} bytes are queued",
                pair.b.session.queued()
            );
        }
        assert!(!pair.b.session.wants_read());
        assert_eq!(refused.get(), 0);

        pair.a.session.resume(pair.clock.now());
        pair.settle();
        assert_eq!(pair.a.messages().len(), sent, "everything comes once the jam is over");
        assert_eq!((refused.get(), pair.b.session.queued()), (0, 0));
    }
}

#[test]
fn delivery_stops_between_two_messages_of_a_batch() {
    let mut solo = Solo::with(|c| c.watermarks(0, 0));
    solo.input(&[frame(b"a"), frame(b"b")].concat());
    let mut batch = Vec::new();
    assert_eq!(solo.session.poll_messages(&mut batch, 1), 1);
    solo.send(1);
    assert_eq!(solo.session.poll_messages(&mut batch, 10), 0);
    assert_eq!(solo.poll(), NONE);
    solo.write(4);
    assert_eq!(solo.poll(), NONE);
    solo.write(1);
    assert_eq!(solo.session.poll_messages(&mut batch, 10), 1);
    assert_eq!(batch, ["a", "b"]);
}

/// Handles the message in `wire` by sending `len` bytes and a header.
fn answer(solo: &mut Solo, wire: &[u8], len: usize) {
    solo.input(wire);
    assert_eq!(solo.session.poll_messages(&mut Vec::new(), 1), 1);
    solo.send(len);
}

#[test]
fn delivery_stops_above_the_high_watermark_and_goes_on_at_the_low_one() {
    let mut solo = Solo::with(|c| c.watermarks(10, 20));
    answer(&mut solo, &frame(b"first"), 16);
    solo.input(&frame(b"at high"));
    assert_eq!(solo.session.poll_messages(&mut Vec::new(), 1), 1);
    assert!(solo.session.is_writable());
    solo.send(0);
    solo.input(&frame(b"above"));
    assert_eq!(solo.poll(), NONE);
    assert!(!solo.session.is_writable() && !solo.session.wants_read());
    solo.write(13);
    assert_eq!(solo.poll(), NONE, "a reply counts until all of it is written");
    assert!(!solo.session.wants_read());
    solo.write(7);
    assert_eq!(solo.poll(), ["Message above"]);
    assert!(solo.session.wants_read());
}

#[test]
fn other_events_come_while_delivery_is_held_back() {
    let mut solo = Solo::with(|c| c.watermarks(0, 0).cron_period(secs(1)));
    answer(&mut solo, &frame(b"a"), 1);
    solo.input(&frame(b"b"));
    assert_eq!(solo.at(secs(1)), ["Cron"]);
}

#[test]
fn what_is_sent_unasked_does_not_stop_delivery() {
    let mut solo = Solo::with(|c| c.watermarks(10, 20).max_queued(200));
    solo.send(100);
    assert!(!solo.session.is_writable());
    assert!(solo.session.wants_read());
    solo.input(&[frame(b"a"), frame(b"b")].concat());
    assert_eq!(solo.poll(), ["Message a", "Message b"]);
}

#[test]
fn an_answer_is_not_refused_because_of_what_was_sent_unasked() {
    let mut solo = Solo::with(|c| c.watermarks(10, 20).max_queued(200));
    solo.send(196);
    assert!(matches!(solo.session.send(Bytes::from("x")), Err(SendError::Blocked(_))));
    answer(&mut solo, &frame(b"a"), 50);
    assert!(solo.session.stats().queued > 200);
}

/// If a client's own messages stopped it from reading, the server could not write its echoes. It would stop
/// reading too, and both would wait forever.
#[test]
fn a_client_that_streams_to_an_echo_server_does_not_jam() {
    for size in [100, 1000, 100_000, 1_000_000] {
        let config = || Config::builder().write_stall_timeout(None).build().unwrap();
        let wire = Wire { capacity: 64 * 1024, ..Wire::default() };
        let mut pair = Pair::new(plain(), plain(), config()).wires(wire);
        let refused = Rc::default();
        pair.b.on_event(echo(&refused));
        pair.b.records = false;
        let item = Bytes::from(vec![7; size]);
        let messages = (8 << 20) / size;
        let mut sent = 0;
        while sent < messages {
            let before = sent;
            while sent < messages && pair.a.session.is_writable() {
                pair.a.session.send(item.clone()).unwrap();
                sent += 1;
            }
            pair.settle();
            assert!(sent > before, "jammed after {sent} messages of {size} bytes");
        }
        pair.settle();
        assert_eq!((pair.a.messages().len(), refused.get()), (messages, 0));
    }
}

#[test]
fn large_messages_may_cross() {
    let wire = Wire { capacity: 64 * 1024, ..Wire::default() };
    let mut pair = Pair::new(plain(), plain(), Config::builder().build().unwrap()).wires(wire);
    let item = Bytes::from(vec![7; 7 << 20]);
    pair.a.session.send(item.clone()).unwrap();
    pair.b.session.send(item).unwrap();
    pair.settle();
    assert_eq!((pair.a.messages().len(), pair.b.messages().len()), (1, 1));
}

#[test]
fn the_item_comes_back_at_the_hard_limit_and_one_writable_follows() {
    let mut solo = Solo::with(|c| c.watermarks(100, 200).max_queued(1000));
    for _ in 0..10 {
        solo.send(96);
    }
    assert_eq!(solo.session.queued(), 1000);
    for _ in 0..3 {
        let refused = solo.session.send(Bytes::from("item")).unwrap_err();
        assert!(matches!(&refused, SendError::Blocked(_)));
        assert_eq!(refused.into_item().unwrap(), "item");
    }
    assert_eq!(solo.session.stats().progress.accepted.unwrap().get(), 10);
    assert_eq!(solo.write(899).len(), 899);
    assert_eq!(solo.poll(), NONE, "101 bytes are queued");
    solo.write(1);
    solo.write(1);
    assert_eq!(solo.poll(), ["Writable"]);
    solo.write_all();
    assert_eq!(solo.poll(), NONE);
    solo.send(96);
    solo.write_all();
    assert_eq!(solo.poll(), NONE, "nothing was refused since");
}

#[test]
fn the_hard_limit_holds_to_the_byte() {
    for (more, fits) in [(96, true), (97, false)] {
        let mut solo = Solo::with(|c| c.watermarks(100, 200).max_queued(1000));
        solo.send(896);
        assert_eq!(solo.session.send(Bytes::from(vec![0; more])).is_ok(), fits);
    }
}

#[test]
fn an_item_over_the_hard_limit_goes_through_a_queue_below_the_watermark() {
    let mut solo = Solo::with(|c| c.watermarks(100, 200).max_queued(1000));
    solo.send(196);
    solo.send(5000);
    assert!(matches!(solo.session.send(Bytes::new()), Err(SendError::Blocked(_))));
}

#[test]
fn a_peer_that_reads_nothing_is_let_go_after_the_write_stall() {
    let wire = Wire { capacity: 10_000, ..Wire::default() };
    let mut pair = Pair::new(plain(), plain(), Config::builder().build().unwrap()).wires(wire);
    pair.b.session.pause();
    pair.a.session.send(Bytes::from(vec![0; 50_000])).unwrap();
    pair.run_for(secs(29));
    assert!(pair.a.close_reason().is_none());
    pair.run_for(secs(1));
    assert!(matches!(pair.a.close_reason(), Some(CloseReason::Timeout(Deadline::WriteStall))));
}

#[test]
fn pausing_holds_the_sender_back_and_nothing_is_lost() {
    let config = Config::builder().write_stall_timeout(None).build().unwrap();
    let mut pair =
        Pair::new(plain(), plain(), config).wires(Wire { capacity: 1000, ..Wire::default() }).lending();
    pair.b.session.pause();
    let items: Vec<Bytes> = (0..100u8).map(|n| Bytes::from(vec![n; 100])).collect();
    for item in &items {
        pair.a.session.send(item.clone()).unwrap();
    }
    pair.run_for(secs(1000));
    assert_eq!((pair.in_flight().0, pair.b.session.stats().received.bytes), (1000, 0));
    pair.b.session.resume(pair.clock.now());
    pair.settle();
    assert_eq!(pair.b.messages(), items);
    pair.a.session.close(pair.clock.now(), Close::graceful());
    pair.b.session.close(pair.clock.now(), Close::graceful());
    assert!(pair.run_until_closed(secs(1)));
    for reason in [pair.a.close_reason(), pair.b.close_reason()] {
        assert!(reason.unwrap().is_clean(), "both sides closed at once: {reason:?}");
    }
}
