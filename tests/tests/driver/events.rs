//! The callbacks of a listener, in order, on every path to the end of a session.

use std::io::ErrorKind;

use bytes::Bytes;
use getty_core::{Close, CloseReason, Config, Deadline, IoFailure};
use getty_driver::Handle;

use crate::driver_common::fake;
use crate::driver_common::recorder::Recorder;
use crate::driver_common::wire::{Answer, Op, Wire};
use crate::driver_common::*;

type Step = fn(&Wire, &Handle<Bytes>);

/// Runs an echo session over one message and then `end`. Returns the callbacks after that message, and the
/// reason.
#[track_caller]
fn ending(end: Step) -> (Vec<String>, CloseReason) {
    let (listener, log) = Recorder::echo();
    let (mut task, wire) = driver(config(|c| c.idle_read(secs(60))), listener);
    let handle = task.get_mut().handle();
    wire.send_frame("first");
    task.settle();
    assert_eq!(log.take(), ["on_open", "on_message: first"]);
    end(&wire, &handle);
    let mut result = task.run();
    for _ in 0..10 {
        if result.is_pending() {
            fake::advance(secs(5));
            result = task.run();
        }
    }
    let std::task::Poll::Ready(reason) = result else { panic!("it has not ended: {:?}", log.take()) };
    assert!(wire.is_dropped(), "the stream ends with the session");
    assert_eq!(log.count("on_close"), 1);
    assert!(handle.is_closed());
    (log.take(), *reason)
}

#[test]
fn every_end_is_told_once_and_last() {
    let table: [(&str, Step, &[&str], &str); 14] = [
        ("the peer ends", |wire, _| wire.eof(), &["on_eof"], "closed by the peer"),
        (
            "the peer ends after a message",
            |wire, _| {
                wire.send_frame("last");
                wire.eof();
            },
            &["on_message: last", "on_eof"],
            "closed by the peer",
        ),
        (
            "the peer ends in a frame",
            |wire, _| {
                wire.send(b"\0\0\0\x05abc");
                wire.eof();
            },
            &[],
            "closed by the peer: something was cut off",
        ),
        (
            "reset in a frame",
            |wire, _| {
                wire.send(b"\0\0\0\x05abc");
                wire.fail(ErrorKind::ConnectionReset);
            },
            &[],
            "transport: connection reset",
        ),
        (
            "reset after a message",
            |wire, _| {
                wire.send_frame("last");
                wire.fail(ErrorKind::ConnectionReset);
            },
            &["on_message: last"],
            "transport: connection reset",
        ),
        (
            "closed here",
            |wire, handle| {
                handle.close(Close::graceful());
                wire.eof();
            },
            &[],
            "closed by this end",
        ),
        (
            "closed here, and the peer stays",
            |_, handle| handle.close(Close::graceful()),
            &[],
            "timed out: the close was not done in time (Config::close_timeout)",
        ),
        ("aborted", |_, handle| handle.close(Close::abort()), &[], "closed by this end"),
        (
            "aborted while it closes",
            |_, handle| {
                handle.close(Close::graceful());
                handle.close(Close::abort());
            },
            &[],
            "closed by this end",
        ),
        (
            "closed while it is aborted",
            |_, handle| {
                handle.close(Close::abort());
                handle.close(Close::graceful());
            },
            &[],
            "closed by this end",
        ),
        (
            "a frame that is too long",
            |wire, _| {
                wire.send(b"\xff\xff\xff\xff");
                wire.eof();
            },
            &[],
            "codec: a frame of 4294967299 bytes (header included) is over the limit of 8388608: to allow such frames, \
             raise Config::max_frame and the codec's own max_frame; otherwise the peer speaks another protocol",
        ),
        (
            "a frame that stays incomplete",
            |wire, _| wire.send(b"\0\0\0\x05abc"),
            &[],
            "timed out: a frame stayed incomplete (Config::partial_frame_timeout)",
        ),
        (
            "a peer that never reads",
            |wire, _| {
                wire.room(0);
                wire.send_frame("echoed in vain");
            },
            &["on_message: echoed in vain"],
            "timed out: the peer took no bytes (Config::write_stall_timeout)",
        ),
        (
            "idle",
            |_, handle| handle.close(Close::idle(getty_core::Idle::Read)),
            &[],
            "timed out: nothing was received (Config::idle_read)",
        ),
    ];
    for (what, end, told, why) in table {
        let (events, reason) = ending(end);
        let mut expected: Vec<String> = told.iter().map(|&event| event.to_owned()).collect();
        expected.push(format!("on_close: {why}"));
        assert_eq!(events, expected, "{what}");
        assert_eq!(reason.to_string(), why, "{what}");
    }
}

#[test]
fn an_abort_does_not_wait() {
    for end in [
        (|_, handle| handle.close(Close::abort())) as Step,
        |_, handle| {
            handle.close(Close::graceful());
            handle.close(Close::abort());
        },
        |_, handle| {
            handle.close(Close::abort());
            handle.close(Close::graceful());
        },
    ] {
        let (listener, _log) = Recorder::quiet();
        let (mut task, wire) = driver(Config::default().into(), listener);
        let handle = task.get_mut().handle();
        task.settle();
        end(&wire, &handle);
        assert!(matches!(*task.finish(), CloseReason::Local { .. }), "at once");
    }
}

#[test]
fn every_method_of_the_stream_may_fail() {
    for (op, when_closing) in [
        (Op::Readable, false),
        (Op::Read, false),
        (Op::Write, false),
        (Op::Flush, false),
        (Op::Shutdown, true),
    ] {
        for kind in [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::Other] {
            let (listener, log) = Recorder::echo();
            let (mut task, wire) = driver(Config::default().into(), listener);
            let handle = task.get_mut().handle();
            task.settle();
            wire.answer(op, Answer::Fails(kind));
            if when_closing {
                handle.close(Close::graceful());
            }
            wire.send_frame("hello");
            let reason = task.finish();
            if when_closing {
                // Everything was sent. The close stays a local one even if the end of the stream can't be
                // written.
                assert!(matches!(*reason, CloseReason::Local { flushed: true }), "{op:?} {kind}: {reason}");
            } else {
                assert!(
                    matches!(*reason, CloseReason::Io(failure) if failure.kind == kind),
                    "{op:?} {kind}: {reason}"
                );
            }
            assert_eq!(log.count("on_close"), 1);
            assert!(wire.is_dropped());
        }
    }
}

#[test]
fn a_write_of_nothing_is_a_failure() {
    let (listener, _log) = Recorder::echo();
    let (mut task, wire) = driver(Config::default().into(), listener);
    wire.answer(Op::Write, Answer::Zero);
    wire.send_frame("hello");
    assert!(matches!(*task.finish(), CloseReason::Io(IoFailure { kind: ErrorKind::WriteZero, .. })));
}

#[test]
fn an_interrupted_call_is_repeated() {
    for op in [Op::Readable, Op::Read, Op::Write, Op::Flush, Op::Shutdown] {
        let (listener, log) = Recorder::echo();
        let (mut task, wire) = driver(Config::default().into(), listener);
        let handle = task.get_mut().handle();
        task.settle();
        (0..3).for_each(|_| wire.answer(op, Answer::Fails(ErrorKind::Interrupted)));
        wire.send_frame("hello");
        task.settle();
        assert_eq!(wire.take_frames(), ["hello"], "{op:?}");
        handle.close(Close::graceful());
        task.settle();
        assert!(wire.is_shut_down(), "{op:?}");
        wire.eof();
        assert!(task.finish().is_clean(), "{op:?}");
        assert_eq!(log.take().last().unwrap(), "on_close: closed by this end");
    }
}

#[test]
fn a_peer_that_is_gone_at_the_end_takes_nothing_from_a_clean_close() {
    let (listener, _log) = Recorder::quiet();
    let (mut task, wire) = driver(Config::default().into(), listener);
    let handle = task.get_mut().handle();
    task.settle();
    wire.answer(Op::Shutdown, Answer::Fails(ErrorKind::NotConnected));
    handle.close(Close::graceful());
    assert!(task.finish().is_clean());
}

#[test]
fn deadlines_are_kept_to_the_millisecond() {
    let (listener, log) = Recorder::quiet();
    let (mut task, _wire) = driver(config(|c| c.idle_both(secs(7)).close_timeout(secs(2))), listener);
    let handle = task.get_mut().handle();
    task.settle();
    fake::advance(secs(7) - MS);
    task.settle();
    assert_eq!(log.take(), ["on_open"]);
    fake::advance(MS);
    task.settle();
    assert_eq!(log.take(), ["on_idle: Both"]);
    handle.close(Close::graceful());
    task.settle();
    fake::advance(secs(2) - MS);
    task.settle();
    fake::advance(MS);
    assert!(matches!(*task.finish(), CloseReason::Timeout(Deadline::Close)));
}
