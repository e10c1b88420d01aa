//! How datagram sessions end.

use std::io;

use bytes::Bytes;
use getty_core::codec::{LengthDelimited, Raw};
use getty_core::datagram::{PacketOptions, RecvBatch};
use getty_core::{Close, Idle, SendError};

use crate::packets_common::{NONE, NS, Solo, batch, bytes, peer, secs};

/// Checks that nothing more is reported, wanted or accepted, whatever happens.
fn assert_over(solo: &mut Solo) {
    let now = solo.clock.advance(secs(1));
    let packets = &mut solo.packets;
    assert!(packets.is_closed() && packets.is_over() && !packets.is_open());
    assert!(packets.handle_datagram(now, peer(7).into(), b"late"), "taken and dropped");
    assert!(packets.handle_datagrams(now, RecvBatch::new()).is_err());
    packets.handle_sent(now, 5);
    packets.handle_unsent(now, io::ErrorKind::Other);
    packets.handle_unreachable(now, None, io::ErrorKind::Other);
    packets.handle_io_error(now, io::ErrorKind::Other);
    packets.pause();
    packets.resume(now);
    packets.close(now, Close::graceful().with_drain());
    packets.close(now, Close::abort());
    packets.notify_flushed();
    packets.update_active(now);
    packets.handle_timeout(now + secs(1_000_000));
    assert!(matches!(packets.send_to(peer(7), Bytes::new()), Err(SendError::Closed(_))));
    assert!(packets.outgoing(now).is_empty());
    assert_eq!(packets.poll_timeout(), None);
    assert!(!packets.wants_read() && !packets.wants_write() && !packets.wants_poll());
    assert_eq!(solo.poll(), NONE);
}

#[test]
fn a_graceful_close_sends_what_was_accepted_and_nothing_more() {
    let mut solo = Solo::new();
    for text in ["a", "b"] {
        solo.packets.send_to(peer(7), bytes(text)).unwrap();
    }
    solo.receive(7, "not wanted any more");
    solo.packets.close(solo.clock.now(), Close::graceful());
    assert!(!solo.packets.wants_read());
    assert_eq!(solo.poll(), NONE);
    let refused = solo.packets.send_to(peer(7), bytes("c")).unwrap_err();
    assert!(matches!(refused, SendError::Closed(_)));
    assert_eq!(refused.into_item(), Some(bytes("c")));
    solo.packets.handle_sent(solo.clock.now(), 1);
    assert_eq!(solo.poll(), NONE);
    assert_eq!(solo.flush(), [(7, "b".to_owned())]);
    assert_eq!(solo.poll(), ["Closed: closed by this end"]);
    assert_over(&mut solo);
}

#[test]
fn with_nothing_to_send_it_is_over_at_once() {
    let mut solo = Solo::new();
    solo.packets.close(solo.clock.now(), Close::graceful());
    assert!(solo.packets.is_over() && !solo.packets.is_closed());
    assert_eq!(solo.poll(), ["Closed: closed by this end"]);
    assert_over(&mut solo);
}

#[test]
fn a_session_that_was_never_polled_opens_and_closes() {
    let mut solo = Solo::unpolled(Raw, PacketOptions::unconnected(), |c| c.cron_period(secs(1)));
    solo.packets.handle_timeout(solo.clock.at(secs(1)));
    solo.packets.close(solo.clock.now(), Close::abort());
    assert_eq!(solo.poll(), ["Open", "Closed: closed by this end, not everything was sent"]);
    assert_over(&mut solo);
}

#[test]
fn a_close_that_takes_too_long_is_over_at_its_deadline() {
    let mut solo = Solo::with(|c| c.close_timeout(secs(5)).cron_period(secs(60)));
    solo.packets.send_to(peer(7), bytes("a")).unwrap();
    solo.packets.close(solo.clock.now(), Close::graceful());
    assert_eq!(solo.packets.poll_timeout(), Some(solo.clock.at(secs(5))));
    assert_eq!(solo.at(secs(5) - NS), NONE);
    let told = solo.at(secs(5));
    assert!(told.len() == 1 && told[0].starts_with("Closed: timed out: "), "{told:?}");
    assert_over(&mut solo);
}

#[test]
fn the_reason_that_was_given_is_the_one_that_is_told() {
    for late in [false, true] {
        let mut solo = Solo::with(|c| c.close_timeout(secs(5)));
        solo.packets.send_to(peer(7), bytes("a")).unwrap();
        solo.packets.close(solo.clock.now(), Close::idle(Idle::Read));
        if late {
            solo.packets.handle_timeout(solo.clock.at(secs(5)));
        }
        solo.flush();
        let told = solo.poll();
        assert!(told.len() == 1 && !told[0].contains("closed by this end"), "{told:?}");
        assert_over(&mut solo);
    }
}

#[test]
fn an_abort_drops_everything() {
    let mut solo = Solo::new();
    solo.packets.send_to(peer(7), bytes("a")).unwrap();
    solo.packets.notify_flushed();
    solo.receive(7, "b");
    solo.packets.close(solo.clock.now(), Close::abort());
    assert!(!solo.packets.wants_write());
    assert_eq!(solo.poll(), ["Closed: closed by this end, not everything was sent"]);
    assert_over(&mut solo);
}

#[test]
fn an_abort_ends_a_close_that_waits() {
    for close in [Close::graceful(), Close::graceful().with_drain()] {
        let mut solo = Solo::new();
        solo.packets.send_to(peer(7), bytes("a")).unwrap();
        solo.receive(7, "b");
        solo.packets.close(solo.clock.now(), close);
        solo.packets.close(solo.clock.now(), Close::abort());
        assert_eq!(solo.poll(), ["Closed: closed by this end, not everything was sent"]);
        assert_over(&mut solo);
    }
}

#[test]
fn a_drain_delivers_what_was_received_and_sends_the_answers() {
    let mut solo = Solo::new();
    solo.packets.handle_datagrams(solo.clock.now(), batch([(7, &b"a"[..]), (8, b""), (9, b"b")])).unwrap();
    solo.packets.close(solo.clock.now(), Close::graceful().with_drain());
    assert!(solo.packets.is_open() && !solo.packets.wants_read());
    assert!(solo.packets.handle_datagram(solo.clock.now(), peer(7).into(), b"too late"));
    let told = solo.echo();
    assert_eq!(told, ["Message a", "Message b", "Dropped 1 empty of 8: it was empty"]);
    assert!(!solo.packets.is_open(), "nothing can be answered any longer");
    assert_eq!(solo.flush(), [(7, "a".to_owned()), (9, "b".to_owned())]);
    assert_eq!(solo.poll(), ["Closed: closed by this end"]);
    assert_over(&mut solo);
}

#[test]
fn a_drain_goes_through_what_is_left_of_a_datagram() {
    let options = PacketOptions::unconnected().several_frames(true);
    let mut solo = Solo::of(LengthDelimited::new(), options, |c| c);
    solo.receive(7, b"\0\0\0\x01a\0\0\0\x01b");
    assert_eq!(solo.next().as_deref(), Some("Message a"));
    solo.packets.close(solo.clock.now(), Close::graceful().with_drain());
    assert_eq!(solo.poll(), ["Message b", "Closed: closed by this end"]);
}

#[test]
fn a_close_without_drain_ends_one_with_it() {
    let mut solo = Solo::new();
    solo.receive(7, "a");
    solo.packets.close(solo.clock.now(), Close::graceful().with_drain());
    solo.packets.close(solo.clock.now(), Close::graceful());
    assert_eq!(solo.poll(), ["Closed: closed by this end"]);
}

#[test]
fn a_drain_while_paused_delivers_nothing() {
    let mut solo = Solo::new();
    solo.receive(7, "a");
    solo.packets.pause();
    solo.packets.close(solo.clock.now(), Close::graceful().with_drain());
    assert_eq!(solo.poll(), ["Closed: closed by this end"]);
    assert_over(&mut solo);
}

#[test]
fn a_drain_that_is_not_polled_ends_at_the_deadline() {
    let mut solo = Solo::with(|c| c.close_timeout(secs(5)));
    solo.receive(7, "a");
    solo.packets.close(solo.clock.now(), Close::graceful().with_drain());
    let told = solo.at(secs(5));
    assert!(told.len() == 1 && told[0].starts_with("Closed: timed out: "), "{told:?}");
    assert_over(&mut solo);
}

#[test]
fn what_was_asked_before_the_close_is_told_before_it_is_over() {
    let mut solo = Solo::new();
    solo.packets.send_to(peer(7), bytes("a")).unwrap();
    solo.packets.notify_flushed();
    solo.packets.close(solo.clock.now(), Close::graceful());
    solo.flush();
    assert_eq!(solo.poll(), ["Flushed 1", "Closed: closed by this end"]);
}

#[test]
fn a_socket_that_fails_ends_the_session() {
    let mut solo = Solo::new();
    solo.packets.send_to(peer(7), bytes("a")).unwrap();
    solo.receive(7, "b");
    solo.packets.handle_io_error(solo.clock.now(), io::ErrorKind::NotConnected);
    solo.packets.close(solo.clock.now(), Close::graceful()); // changes nothing
    assert_eq!(solo.poll(), ["Closed: transport: not connected"]);
    assert_over(&mut solo);
}

#[test]
fn the_batch_comes_back_from_a_session_that_is_over() {
    let mut solo = Solo::new();
    solo.packets.handle_datagrams(solo.clock.now(), batch([(7, &b"a"[..])])).unwrap();
    solo.packets.close(solo.clock.now(), Close::abort());
    assert!(solo.packets.take_batch().unwrap().is_empty());
}
