//! Promises of a datagram session for any order of calls.

use std::io;

use bytes::Bytes;
use getty_core::codec::{Decoded, Decoder, Encoder, Raw, Sink, Source};
use getty_core::datagram::{Outgoing, PacketOptions, RecvBatch};
use getty_core::{Close, SendError};

use crate::packets_common::{NONE, Solo, bytes, path, secs};

#[test]
fn between_a_message_and_its_reply_other_calls_change_nothing() {
    let mut solo = Solo::new();
    solo.receive(7, "a");
    assert_eq!(solo.next().as_deref(), Some("Message a"));
    let now = solo.clock.now();
    solo.packets.handle_timeout(now);
    let _ = solo.packets.outgoing(now);
    solo.packets.handle_sent(now, 0);
    assert_eq!(solo.packets.path(), Some(path(7)));
    solo.packets.reply(bytes("b")).unwrap();
    assert_eq!(solo.flush(), [(7, "b".to_owned())]);
    solo.packets.end_reply();
    assert_eq!(solo.packets.path(), None);
    assert!(matches!(solo.packets.reply(bytes("c")), Err(SendError::NoPeer(_))));
}

#[test]
fn the_message_at_which_a_session_is_closed_with_drain_is_answered() {
    let mut solo = Solo::new();
    solo.receive(7, "a");
    solo.receive(8, "b");
    assert_eq!(solo.next().as_deref(), Some("Message a"));
    solo.packets.close(solo.clock.now(), Close::graceful().with_drain());
    solo.packets.reply(bytes("A")).unwrap();
    assert_eq!(solo.echo(), ["Message b"]);
    assert_eq!(solo.flush(), [(7, "A".to_owned()), (8, "b".to_owned())]);
    assert_eq!(solo.poll(), ["Closed: closed by this end"]);
}

#[test]
fn a_reply_after_the_close_says_that_it_is_closed() {
    let mut solo = Solo::new();
    solo.receive(7, "a");
    assert_eq!(solo.next().as_deref(), Some("Message a"));
    solo.packets.close(solo.clock.now(), Close::graceful());
    assert!(matches!(solo.packets.reply(bytes("b")), Err(SendError::Closed(item)) if item == "b"));
    assert_eq!(solo.poll(), ["Closed: closed by this end"]);
    assert!(matches!(solo.packets.reply(bytes("c")), Err(SendError::Closed(_))));
    assert!(matches!(solo.packets.send_to(path(7), bytes("c")), Err(SendError::Closed(_))));
}

#[test]
fn nothing_is_wanted_after_the_end_though_a_report_was_not_told() {
    let mut solo = Solo::new();
    assert_eq!(solo.told(7, "").len(), 1);
    assert_eq!(solo.told(7, ""), NONE);
    assert_eq!(solo.packets.poll_timeout(), Some(solo.clock.at(secs(1))));
    solo.packets.close(solo.clock.now(), Close::abort());
    assert_eq!(solo.packets.poll_timeout(), None);
    assert_eq!(solo.poll().len(), 1);
    assert_eq!(solo.packets.poll_timeout(), None);
    assert_eq!(solo.at(secs(5)), NONE);
    assert_eq!(solo.packets.dropped().empty, 2);
}

#[test]
fn what_can_not_be_sent_is_reported_while_closing_too() {
    let mut solo = Solo::new();
    for text in ["a", "b"] {
        solo.packets.send_to(path(7), bytes(text)).unwrap();
    }
    solo.packets.close(solo.clock.now(), Close::graceful());
    assert_eq!(solo.poll(), NONE);
    solo.packets.handle_unsent(solo.clock.now(), io::ErrorKind::PermissionDenied);
    assert_eq!(solo.poll(), ["Dropped 1 unsent of 7: it did not arrive: permission denied"]);
    assert_eq!(solo.flush(), [(7, "b".to_owned())]);
    assert_eq!(solo.poll().len(), 1);
}

/// A driver that waits until the report is due, and then calls in, is not woken for it again.
#[test]
fn a_report_that_is_due_is_no_deadline_but_something_to_poll() {
    let mut solo = Solo::new();
    assert_eq!(solo.told(7, "").len(), 1);
    assert_eq!(solo.told(7, ""), NONE);
    let at = solo.packets.poll_timeout().unwrap();
    solo.packets.handle_timeout(solo.clock.jump(at));
    assert_eq!(solo.packets.poll_timeout(), None);
    assert_eq!(solo.poll(), ["Dropped 1 empty of 7: it was empty"]);
}

#[test]
fn a_drain_that_waits_for_room_wants_no_poll() {
    let mut solo = Solo::with(|c| c.watermarks(0, 2));
    for _ in 0..3 {
        solo.receive(7, "abc");
    }
    solo.packets.close(solo.clock.now(), Close::graceful().with_drain());
    // `poll_with` asserts that no poll is wanted after the last event.
    assert_eq!(solo.echo(), ["Message abc"]);
    solo.flush();
    assert_eq!(solo.echo(), ["Message abc"]);
    solo.packets.pause();
    assert!(solo.packets.wants_poll(), "pausing ends the drain");
    assert_eq!(solo.poll(), NONE);
    solo.flush();
    assert_eq!(solo.poll(), ["Closed: closed by this end"]);
}

#[test]
fn a_pause_is_no_sign_of_life() {
    let mut solo = Solo::new();
    solo.told(7, "a");
    solo.at(secs(5));
    solo.packets.pause();
    solo.packets.resume(solo.clock.now());
    assert_eq!(solo.packets.stats().received.last, Some(solo.clock.at(secs(0))));
}

/// If only bytes counted, they would never fill the queue.
#[test]
fn empty_datagrams_fill_the_queue_too() {
    const SMALL: usize = Outgoing::MIN_WEIGHT;
    let mut solo = Solo::with(|c| c.watermarks(2 * SMALL, 4 * SMALL).max_queued(8 * SMALL));
    let sent = (0..1000).take_while(|_| solo.packets.send_to(path(7), Bytes::new()).is_ok()).count();
    assert_eq!(sent, 8);
    solo.flush();
    assert_eq!(solo.poll(), ["Writable"]);
    for _ in 0..9 {
        solo.receive(7, "a");
    }
    let told = solo.poll_with(|packets, _| {
        packets.reply(Bytes::new()).unwrap();
    });
    assert_eq!(told.len(), 5, "more than four replies are waiting");
    assert!(!solo.packets.wants_read());
    solo.flush();
    assert_eq!(solo.poll().len(), 4);
}

#[test]
fn a_datagram_of_any_size_finds_room_or_is_dropped() {
    let mut solo = Solo::with(|c| c.max_datagram(100_000));
    let size = RecvBatch::SLOT_SIZE + 1;
    assert_eq!(solo.told(7, vec![0; size]), [format!("Message of {size}")]);
    let told = solo.told(7, vec![0; 100_001]);
    let why = "Dropped 1 oversized of 7: 100001 bytes, more than the limit of 100000 (Config::max_datagram)";
    assert_eq!(told, [why]);
}

#[test]
fn a_copy_never_goes_over_what_a_slot_holds() {
    let mut batch = RecvBatch::new();
    batch.slots().nth(1).unwrap()[..2].copy_from_slice(b"aa");
    batch.filled(1, path(7), 2, 2);
    assert!(batch.copy_from(path(7), b"bb"));
    let mut solo = Solo::new();
    solo.packets.handle_datagrams(solo.clock.now(), batch).unwrap();
    assert_eq!(solo.poll(), ["Message aa", "Message bb"]);
}

/// Returns its count at the end of the datagram without resetting it: over a stream, nothing follows the end.
#[derive(Debug, Default)]
struct Counting {
    seen: usize,
}

impl Decoder for Counting {
    type Item = Bytes;
    type Error = io::Error;

    fn decode(&mut self, src: &mut Source<'_>) -> io::Result<Decoded<Bytes>> {
        self.seen += src.len();
        src.advance(src.len() - 1);
        Ok(Decoded::Need(1))
    }

    fn decode_eof(&mut self, src: &mut Source<'_>) -> io::Result<Option<Bytes>> {
        src.advance(1);
        Ok(Some(bytes(&self.seen.to_string())))
    }

    fn reset(&mut self) {
        self.seen = 0;
    }
}

impl Encoder<Bytes> for Counting {
    type Error = io::Error;

    fn encode(&mut self, item: Bytes, dst: &mut Sink<'_>) -> io::Result<()> {
        Raw.encode(item, dst).map_err(io::Error::other)
    }
}

#[test]
fn a_decoder_that_gave_a_frame_at_the_end_begins_afresh() {
    let mut solo = Solo::of(Counting::default(), PacketOptions::unconnected(), |c| c);
    for _ in 0..2 {
        assert_eq!(solo.told(7, "abc"), ["Message 3"]);
    }
}

#[test]
fn a_peer_whose_first_datagram_was_no_good_has_sent_its_first() {
    let mut solo = Solo::of(Raw, PacketOptions::unconnected().getty_compat(true), |c| c);
    solo.told(7, "");
    assert_eq!(solo.told(7, "connect-ping"), ["Message connect-ping"]);
}

#[test]
fn a_message_weighs_what_it_took_of_its_datagram() {
    let mut solo = Solo::new();
    for (size, weight) in [(1, size_of::<Bytes>()), (100, 100), (1000, 1000)] {
        solo.receive(7, "x".repeat(size));
        assert!(solo.next().unwrap().starts_with("Message"));
        assert_eq!(solo.packets.last_weight(), weight);
    }
}
