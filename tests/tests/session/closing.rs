//! Every way in which a session ends: one `Closed`, last, with the reason.

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use getty_core::{Close, CloseReason, Deadline, Event, Idle, IoFailure, SendError, Timestamp};

use crate::common::{Solo, frame, secs};

const NONE: [&str; 0] = [];

fn closed(solo: &mut Solo) -> CloseReason {
    match solo.session.poll_event() {
        Some(Event::Closed(reason)) => *reason,
        other => panic!("not Closed: {other:?}"),
    }
}

fn close(solo: &mut Solo, how: Close) {
    solo.session.close(solo.clock.now(), how);
}

#[test]
fn graceful_flushes_half_closes_discards_and_waits_for_the_peers_end() {
    let mut solo = Solo::new();
    solo.send(1);
    close(&mut solo, Close::graceful());
    assert!(matches!(solo.session.send(Bytes::from("b")), Err(SendError::Closed(b)) if b == "b"));
    assert!(!solo.session.wants_shutdown(), "not before everything is written");
    assert_eq!(solo.write_all(), frame(b"x"));
    solo.shut_down();
    assert!(solo.session.wants_read());
    solo.input(&frame(b"dropped"));
    assert_eq!(solo.session.stats().buffered, 0);
    assert_eq!(solo.poll(), NONE);
    solo.eof();
    let reason = closed(&mut solo);
    assert!(matches!(reason, CloseReason::Local { flushed: true }) && reason.is_clean());
    solo.assert_over();
}

#[test]
fn what_was_received_and_not_polled_is_dropped_without_drain() {
    let mut solo = Solo::new();
    solo.input(&[frame(b"a"), frame(b"b")].concat());
    assert!(solo.session.poll_event().is_some());
    close(&mut solo, Close::graceful());
    assert_eq!(solo.poll(), NONE);
    assert_eq!(solo.session.stats().buffered, 0);
}

#[test]
fn drain_delivers_whole_messages_first_which_may_be_answered() {
    let mut solo = Solo::new();
    solo.input(&[&frame(b"a")[..], &frame(b"b"), b"\0\0"].concat());
    close(&mut solo, Close::graceful().with_drain());
    assert!(!solo.session.wants_read() && !solo.session.wants_shutdown());
    let Some(Event::Message(a)) = solo.session.poll_event() else { panic!() };
    solo.session.send(a).unwrap();
    assert_eq!(solo.poll(), ["Message b"]);
    assert!(matches!(solo.session.send(Bytes::new()), Err(SendError::Closed(_))));
    assert_eq!(solo.write_all(), frame(b"a"));
    solo.shut_down();
    solo.eof();
    assert_eq!(solo.poll(), ["Closed: closed by this end"]);
    solo.assert_over();
}

#[test]
fn a_close_without_drain_ends_a_drain() {
    let mut solo = Solo::new();
    solo.input(&[frame(b"quit"), frame(b"b")].concat());
    close(&mut solo, Close::graceful().with_drain());
    assert!(matches!(solo.session.poll_event(), Some(Event::Message(_))));
    close(&mut solo, Close::graceful());
    assert_eq!(solo.poll(), NONE, "no message follows a close without drain");
    solo.shut_down();

    let mut solo = Solo::new();
    solo.input(&[frame(b"quit"), frame(b"b")].concat());
    solo.session.handle_io_error(solo.clock.now(), ErrorKind::ConnectionReset);
    assert!(matches!(solo.session.poll_event(), Some(Event::Message(_))));
    close(&mut solo, Close::graceful());
    assert!(matches!(closed(&mut solo), CloseReason::Io(IoFailure { kind: ErrorKind::ConnectionReset, .. })));
}

#[test]
fn abort_ends_at_once_and_says_whether_all_was_written() {
    for written in [104, 50] {
        let mut solo = Solo::new();
        solo.send(100);
        solo.write(written);
        solo.input(&frame(b"dropped"));
        close(&mut solo, Close::abort());
        assert_eq!(solo.write_all(), b"");
        let CloseReason::Local { flushed } = closed(&mut solo) else { panic!() };
        assert_eq!(flushed, written == 104);
        assert_eq!(solo.session.stats().progress.partly_written, written == 50);
        solo.assert_over();
    }
}

#[test]
fn the_peers_end_between_frames_leaves_this_side_open() {
    let mut solo = Solo::new();
    solo.input(&[frame(b"a"), frame(b"b")].concat());
    solo.eof();
    assert!(!solo.session.wants_read());
    assert_eq!(solo.poll(), ["Message a", "Message b", "Eof"]);
    solo.input(&frame(b"after the end"));
    assert_eq!(solo.poll(), NONE);
    solo.send(1);
    assert_eq!(solo.write_all(), frame(b"x"));
    solo.send(1);
    close(&mut solo, Close::graceful());
    assert_eq!(solo.write_all(), frame(b"x"));
    solo.shut_down();
    let reason = closed(&mut solo);
    assert!(matches!(reason, CloseReason::Eof { mid_frame: false }) && reason.is_clean());
    solo.assert_over();
}

#[test]
fn the_peers_end_in_a_frame_is_an_error_after_the_answers_are_sent() {
    for cut in 1..7 {
        let mut solo = Solo::new();
        solo.input(&frame(b"a"));
        assert_eq!(solo.poll(), ["Message a"]);
        solo.send(1);
        solo.input(&frame(b"bcd")[..cut]);
        solo.eof();
        assert_eq!(solo.poll(), NONE);
        assert_eq!(solo.write_all(), frame(b"x"));
        solo.shut_down();
        let reason = closed(&mut solo);
        assert!(matches!(reason, CloseReason::Eof { mid_frame: true }) && !reason.is_clean());
        solo.assert_over();
    }
}

#[test]
fn an_io_error_comes_after_whole_messages_and_tells_what_was_sent() {
    let mut solo = Solo::new();
    for _ in 0..4 {
        solo.send(6);
    }
    solo.write(25);
    solo.input(&[&frame(b"a")[..], &frame(b"b"), b"\0"].concat());
    solo.session.handle_io_error(solo.clock.now(), ErrorKind::ConnectionReset);
    assert!(!solo.session.wants_read() && !solo.session.is_open());
    assert_eq!(solo.session.poll_timeout(), None);
    assert!(matches!(solo.session.send(Bytes::new()), Err(SendError::Closed(_))));
    assert_eq!(solo.write_all(), b"");
    assert_eq!(solo.poll(), ["Message a", "Message b", "Closed: transport: connection reset"]);
    let progress = solo.session.stats().progress;
    assert_eq!((progress.accepted.unwrap().get(), progress.flushed.unwrap().get()), (4, 2));
    assert!(progress.partly_written);
    solo.assert_over();
}

#[test]
fn an_abort_after_an_io_error_does_not_hide_it() {
    let mut solo = Solo::new();
    solo.send(100);
    solo.input(&frame(b"a"));
    solo.session.handle_io_error(solo.clock.now(), ErrorKind::ConnectionReset);
    close(&mut solo, Close::abort());
    let reason = closed(&mut solo);
    assert!(
        matches!(reason, CloseReason::Io(IoFailure { kind: ErrorKind::ConnectionReset, .. })),
        "{reason}"
    );
}

#[test]
fn an_io_error_during_our_close_says_whether_all_was_written() {
    for all in [true, false] {
        for after_read_end in [true, false] {
            let mut solo = Solo::new();
            if after_read_end {
                solo.eof();
                assert_eq!(solo.poll(), ["Eof"]);
            }
            solo.send(100);
            close(&mut solo, Close::graceful());
            if all {
                solo.write_all();
            }
            solo.session.handle_io_error(solo.clock.now(), ErrorKind::BrokenPipe);
            let reason = closed(&mut solo);
            assert_eq!(reason.is_clean(), all, "after_read_end {after_read_end}: {reason}");
            solo.assert_over();
        }
    }
}

#[test]
fn an_io_error_while_paused_ends_at_once() {
    let mut solo = Solo::new();
    solo.session.pause();
    solo.input(&frame(b"a"));
    solo.session.handle_io_error(solo.clock.now(), ErrorKind::ConnectionReset);
    assert_eq!(solo.poll(), ["Closed: transport: connection reset"]);
    solo.assert_over();
}

#[test]
fn closing_twice_changes_nothing_and_an_abort_cuts_short() {
    let mut solo = Solo::new();
    solo.send(1);
    close(&mut solo, Close::refuse(Arc::new(std::fmt::Error)));
    let deadline = solo.session.poll_timeout();
    solo.clock.advance(secs(1));
    close(&mut solo, Close::graceful().with_drain());
    close(&mut solo, Close::idle(Idle::Read));
    assert_eq!(solo.session.poll_timeout(), deadline);
    close(&mut solo, Close::abort());
    close(&mut solo, Close::graceful());
    let reason = closed(&mut solo);
    assert!(matches!(reason, CloseReason::Refused(_)), "{reason}");
    solo.assert_over();
}

#[test]
fn an_abort_of_a_close_says_that_not_all_was_written() {
    for after_read_end in [true, false] {
        let mut solo = Solo::new();
        if after_read_end {
            solo.eof();
            assert_eq!(solo.poll(), ["Eof"]);
        }
        solo.send(100);
        close(&mut solo, Close::graceful());
        solo.write(50);
        close(&mut solo, Close::abort());
        assert!(matches!(closed(&mut solo), CloseReason::Local { flushed: false }));
    }
}

#[test]
fn closing_while_paused_drops_what_waits_also_with_drain() {
    for how in [Close::graceful(), Close::graceful().with_drain()] {
        let mut solo = Solo::new();
        solo.session.pause();
        solo.input(&frame(b"a"));
        close(&mut solo, how);
        assert!(solo.session.wants_read(), "it waits for the peer's end, paused or not");
        solo.session.resume(solo.clock.now());
        assert_eq!(solo.poll(), NONE);
        solo.shut_down();
        solo.eof();
        assert_eq!(solo.poll(), ["Closed: closed by this end"]);
        solo.assert_over();
    }
}

#[test]
fn closing_before_the_first_poll() {
    let mut solo = Solo::unpolled(|c| c);
    solo.input(&frame(b"a"));
    close(&mut solo, Close::graceful());
    assert_eq!(solo.poll(), ["Open"]);
    solo.shut_down();
    solo.eof();
    assert_eq!(solo.poll(), ["Closed: closed by this end"]);
    solo.assert_over();

    let mut solo = Solo::unpolled(|c| c);
    close(&mut solo, Close::abort());
    assert_eq!(solo.poll(), ["Closed: closed by this end"]);
    solo.assert_over();

    let mut solo = Solo::unpolled(|c| c);
    solo.input(&frame(b"a"));
    solo.eof();
    assert_eq!(solo.poll(), ["Open", "Message a", "Eof"]);
}

#[test]
fn the_peers_end_while_paused_waits_for_the_resume() {
    let mut solo = Solo::new();
    solo.session.pause();
    solo.input(&frame(b"a"));
    solo.eof();
    assert_eq!(solo.poll(), NONE);
    assert_eq!(solo.session.poll_timeout(), None);
    solo.session.resume(solo.clock.now());
    assert_eq!(solo.poll(), ["Message a", "Eof"]);
}

#[test]
fn a_codec_error_lets_earlier_answers_out_and_is_the_reason() {
    let mut solo = Solo::with(|c| c.max_frame(1000));
    solo.input(&[&frame(b"a")[..], &u32::MAX.to_be_bytes(), &frame(b"b")].concat());
    let Some(Event::Message(a)) = solo.session.poll_event() else { panic!() };
    solo.session.send(a).unwrap();
    assert_eq!(solo.poll(), NONE);
    assert!(!solo.session.is_open());
    assert_eq!(solo.write_all(), frame(b"a"));
    solo.shut_down();
    solo.input(&frame(b"dropped"));
    solo.eof();
    let CloseReason::Codec(error) = closed(&mut solo) else { panic!() };
    assert!(error.to_string().contains("limit of 1000"), "{error}");
    solo.assert_over();
}

#[test]
fn an_abort_after_a_codec_error_does_not_hide_it() {
    let mut solo = Solo::with(|c| c.max_frame(1000));
    solo.input(&u32::MAX.to_be_bytes());
    assert_eq!(solo.poll(), NONE);
    close(&mut solo, Close::abort());
    let reason = closed(&mut solo);
    assert!(matches!(reason, CloseReason::Codec(_)), "{reason}");
}

#[test]
fn the_deadline_ends_a_close_that_hangs_and_peer_faults_stay_the_reason() {
    let expire = |solo: &mut Solo| {
        solo.session.handle_timeout(solo.clock.advance(secs(5)));
        closed(solo)
    };
    let mut solo = Solo::new();
    close(&mut solo, Close::graceful());
    solo.shut_down();
    assert!(matches!(expire(&mut solo), CloseReason::Timeout(Deadline::Close)));
    solo.assert_over();

    let mut solo = Solo::new();
    close(&mut solo, Close::idle(Idle::Read));
    assert!(matches!(expire(&mut solo), CloseReason::Timeout(Deadline::IdleRead)));

    let mut solo = Solo::with(|c| c.max_frame(10));
    solo.input(&u32::MAX.to_be_bytes());
    assert_eq!(solo.poll(), NONE);
    assert!(matches!(expire(&mut solo), CloseReason::Codec(_)));
}

#[test]
fn other_events_do_not_come_between_a_close_and_its_end() {
    let mut solo = Solo::with(|c| c.cron_period(secs(1)).idle_both(secs(1)));
    solo.send(1);
    solo.session.notify_flushed();
    solo.session.handle_timeout(solo.clock.advance(secs(1)));
    close(&mut solo, Close::graceful());
    assert_eq!(solo.poll(), NONE);
    solo.write_all();
    close(&mut solo, Close::abort());
    assert_eq!(solo.poll(), ["Flushed 1", "Closed: closed by this end"]);
    solo.assert_over();

    let mut solo = Solo::with(|c| c.cron_period(secs(1)).idle_both(secs(1)));
    solo.session.handle_timeout(solo.clock.advance(secs(1)));
    close(&mut solo, Close::abort());
    assert_eq!(solo.poll(), ["Closed: closed by this end"]);
}

#[test]
fn a_panicked_listener_ends_at_once_and_times_of_close_may_be_old() {
    let mut solo = Solo::new();
    solo.clock.advance(secs(10));
    solo.session.close(Timestamp::ORIGIN, Close::panicked());
    assert!(matches!(closed(&mut solo), CloseReason::Panicked));
    solo.assert_over();
}

#[test]
fn after_an_io_error_with_nothing_received_only_the_close_is_left() {
    let mut solo = Solo::new();
    assert_eq!(solo.poll(), NONE);
    solo.session.handle_io_error(solo.clock.now(), ErrorKind::BrokenPipe);
    assert!(solo.session.is_over() && !solo.session.is_closed());
    assert_eq!(solo.poll().len(), 1);
    assert!(solo.session.is_closed());
}
