//! Limits of a datagram session's queue, and what happens when it is full.

use getty_core::SendError;
use getty_core::datagram::Outgoing;

use crate::packets_common::{NONE, Solo, bytes, peer};

/// The weight of a small datagram.
const SMALL: usize = Outgoing::MIN_WEIGHT;

#[test]
fn beyond_the_watermark_and_the_hard_limit_nothing_is_taken() {
    let mut solo = Solo::with(|c| c.watermarks(SMALL, 2 * SMALL).max_queued(5 * SMALL));
    let sent = (0..100).take_while(|_| solo.packets.send_to(peer(7), bytes("123")).is_ok()).count();
    assert_eq!(sent, 5);
    assert!(!solo.packets.is_writable() && solo.packets.is_open());
    let refused = solo.packets.send_to(peer(7), bytes("123")).unwrap_err();
    assert!(matches!(refused, SendError::Blocked(_)));
    assert_eq!(refused.into_item(), Some(bytes("123")));
    assert_eq!(solo.packets.stats().queued, 15);
    assert_eq!(solo.packets.stats().refused, 0);
}

#[test]
fn a_datagram_over_the_hard_limit_goes_through_a_queue_that_is_nearly_empty() {
    let mut solo = Solo::with(|c| c.watermarks(SMALL, 2 * SMALL).max_queued(5 * SMALL));
    let large = bytes(&"x".repeat(10 * SMALL));
    solo.packets.send_to(peer(7), bytes("12345678")).unwrap();
    solo.packets.send_to(peer(7), large.clone()).unwrap();
    assert!(matches!(solo.packets.send_to(peer(7), large), Err(SendError::Blocked(_))));
}

#[test]
fn writable_comes_once_and_only_to_those_who_were_refused() {
    let mut solo = Solo::with(|c| c.watermarks(SMALL, 2 * SMALL).max_queued(5 * SMALL));
    for _ in 0..2 {
        while solo.packets.send_to(peer(7), bytes("1234")).is_ok() {}
        for left in [4, 3, 2] {
            solo.packets.handle_sent(solo.clock.now(), 1);
            assert_eq!(solo.packets.outgoing(solo.clock.now()).len(), left);
            assert_eq!(solo.poll(), NONE, "still above the low watermark");
        }
        solo.packets.handle_sent(solo.clock.now(), 1);
        assert_eq!(solo.poll(), ["Writable"]);
        solo.flush();
        assert_eq!(solo.poll(), NONE);
    }
    for _ in 0..4 {
        solo.packets.send_to(peer(7), bytes("1234")).unwrap();
    }
    solo.flush();
    assert_eq!(solo.poll(), NONE, "nothing was refused");
}

#[test]
fn answers_over_the_watermark_stop_delivery_until_they_are_down_to_the_low_one() {
    let mut solo = Solo::with(|c| c.watermarks(2 * SMALL, 4 * SMALL));
    for text in ["a", "b", "c", "d", "e", "f", "g"] {
        solo.receive(7, text);
    }
    assert_eq!(solo.echo().len(), 5, "more than 4 replies");
    assert!(!solo.packets.wants_read());
    for _ in 0..2 {
        solo.packets.handle_sent(solo.clock.now(), 1);
        assert_eq!(solo.echo(), NONE, "still above the low watermark");
    }
    solo.packets.handle_unsent(solo.clock.now(), std::io::ErrorKind::Other); // makes room as well
    assert_eq!(solo.echo()[..2], ["Message f", "Message g"]);
    assert!(solo.packets.wants_read());
}

#[test]
fn what_is_sent_unasked_does_not_stop_the_reading_and_leaves_room_for_answers() {
    let mut solo = Solo::with(|c| c.watermarks(2 * SMALL, 4 * SMALL).max_queued(8 * SMALL));
    while solo.packets.send_to(peer(9), bytes("12")).is_ok() {}
    solo.receive(7, "a");
    assert_eq!(solo.echo(), ["Message a"]);
    assert!(solo.packets.wants_read());
    solo.receive(7, "b");
    assert_eq!(solo.next().as_deref(), Some("Message b"));
    solo.packets.end_reply();
    let refused = solo.packets.send_to(peer(7), bytes("12"));
    assert!(matches!(refused, Err(SendError::Blocked(_))), "not a reply");
}

#[test]
fn nothing_is_delivered_while_paused_but_other_events_are() {
    let mut solo = Solo::new();
    solo.receive(7, "a");
    solo.receive(7, "b");
    assert_eq!(solo.next().as_deref(), Some("Message a"));
    solo.packets.pause();
    assert!(!solo.packets.wants_read());
    solo.packets.send_to(peer(7), bytes("c")).unwrap();
    solo.packets.notify_flushed();
    solo.flush();
    assert_eq!(solo.poll(), ["Flushed 1"]);
    solo.packets.resume(solo.clock.now());
    assert_eq!(solo.poll(), ["Message b"]);
    assert!(solo.packets.wants_read());
}
