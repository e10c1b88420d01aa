//! Handles: posting to a session from anywhere, waiting for it, and getting items back.

use std::task::Poll;

use bytes::Bytes;
use getty_core::{Close, CloseReason, Config, IoFailure, SendError};
use getty_driver::{Handle, NotFlushed};

use crate::driver_common::fake;
use crate::driver_common::recorder::{Log, Recorder, Then};
use crate::driver_common::task::Task;
use crate::driver_common::wire::{Op, Wire};
use crate::driver_common::*;

struct Setup {
    task: Task<FakeDriver>,
    wire: Wire,
    handle: Handle<Bytes>,
    log: Log,
}

/// An open session with a queue of 4 items, whose peer reads or does not.
fn setup(reads: bool) -> Setup {
    let (listener, log) = Recorder::quiet();
    let (mut task, wire) = driver(config(|c| c.handle_queue(4).max_frame(100_000)), listener);
    let handle = task.get_mut().handle();
    if !reads {
        wire.room(0);
    }
    task.settle();
    Setup { task, wire, handle, log }
}

fn item(n: usize) -> Bytes {
    Bytes::from(format!("item {n}"))
}

/// Larger than the high watermark: once the session has it, nothing more is accepted.
fn large() -> Bytes {
    Bytes::from(vec![b'L'; 70_000])
}

#[test]
fn a_handle_goes_anywhere() {
    fn assert_send<T: Send + Sync + Clone + 'static>() {}
    assert_send::<Handle<Bytes>>();
    fn assert_send_future<T: Send>(_: T) {}
    let Setup { handle, .. } = setup(true);
    assert_send_future(handle.send(item(0)));
    assert_send_future(handle.send_flushed(item(0)));
    assert_send_future(handle.closed());
}

#[test]
fn a_full_queue_gives_the_item_back() {
    let Setup { mut task, wire, handle, .. } = setup(true);
    (0..4).for_each(|n| handle.try_send(item(n)).unwrap());
    let error = handle.try_send(item(4)).unwrap_err();
    assert!(matches!(&error, SendError::Blocked(item) if item == "item 4"), "{error}");
    assert_eq!(error.into_item().unwrap(), "item 4");
    task.settle();
    handle.try_send(item(5)).unwrap();
    task.settle();
    assert_eq!(wire.take_frames(), ["item 0", "item 1", "item 2", "item 3", "item 5"]);
}

#[test]
fn above_the_high_watermark_handles_are_blocked() {
    let Setup { mut task, wire, handle, .. } = setup(false);
    handle.try_send(large()).unwrap();
    task.settle();
    assert!(matches!(handle.try_send(item(0)), Err(SendError::Blocked(_))));
    let mut send = Task::new(handle.send(item(1)));
    send.settle();
    wire.room(None);
    task.settle();
    send.finish().unwrap();
    handle.try_send(item(2)).unwrap();
    task.settle();
    assert_eq!(frames(&wire.take_written()).0[1..], [b"item 1".to_vec(), b"item 2".to_vec()]);
}

#[test]
fn one_wake_for_many_posts() {
    let Setup { mut task, wire, handle, .. } = setup(true);
    let before = task.change_waker();
    assert!(task.poll().is_pending());
    let polls = task.polls;
    (0..4).for_each(|n| handle.try_send(item(n)).unwrap());
    task.settle();
    assert_eq!((task.polls - polls, before.wakes()), (1, 0));
    assert_eq!(wire.calls(Op::Write), 1);
}

#[test]
fn waiting_senders_go_on_in_turn_and_learn_of_the_end() {
    let Setup { mut task, wire, handle, .. } = setup(false);
    handle.try_send(large()).unwrap();
    task.settle();
    let mut senders: Vec<_> = (0..10).map(|n| Task::new(handle.send(item(n)))).collect();
    senders.iter_mut().for_each(Task::settle);
    // A sender that gives up must not keep the room that was meant for it.
    wire.room(None);
    task.settle();
    drop(senders.remove(0));
    let mut done = 0;
    for _ in 0..10 {
        done += senders.extract_if(.., |sender| matches!(sender.run(), Poll::Ready(Ok(())))).count();
        task.settle();
    }
    assert_eq!(done, 9, "all the others");
    let mut sent: Vec<_> =
        frames(&wire.take_written()).0[1..].iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect();
    sent.sort();
    assert_eq!(sent, (1..10).map(|n| format!("item {n}")).collect::<Vec<_>>());

    wire.room(0);
    handle.try_send(large()).unwrap();
    task.settle();
    let mut senders: Vec<_> = (0..3).map(|n| Task::new(handle.send(item(n)))).collect();
    senders.iter_mut().for_each(Task::settle);
    handle.close(Close::abort());
    task.finish();
    for (n, sender) in senders.iter_mut().enumerate() {
        let error = sender.finish().unwrap_err();
        assert!(matches!(&error, SendError::Closed(back) if *back == item(n)), "{error}");
    }
}

#[test]
fn the_outcome_of_each_item_is_told() {
    let Setup { mut task, wire, handle, .. } = setup(false);
    wire.room(10 + 5); // the first frame, and half of the second
    let mut first = Task::new(handle.send_flushed(item(1)));
    let mut partly = Task::new(handle.send_flushed(item(2)));
    let mut unwritten = Task::new(handle.send_flushed(large()));
    assert!(first.run().is_pending() && partly.run().is_pending() && unwritten.run().is_pending());
    task.settle();
    assert_eq!(first.finish().unwrap().get(), 1);
    let mut queued = Task::new(handle.send_flushed(item(4)));
    queued.settle(); // waits for room, since the session is above the watermark
    assert!(partly.run().is_pending() && unwritten.run().is_pending());
    handle.close(Close::abort());
    task.finish();
    assert!(matches!(partly.finish(), Err(NotFlushed::Partly(seq)) if seq.get() == 2));
    assert!(matches!(unwritten.finish(), Err(NotFlushed::Unwritten(seq)) if seq.get() == 3));
    let error = queued.finish().unwrap_err();
    assert!(matches!(&error, NotFlushed::NotSent(SendError::Closed(back)) if back == "item 4"), "{error}");
    let error = Task::new(handle.send_flushed(item(5))).finish().unwrap_err();
    assert!(matches!(error, NotFlushed::NotSent(SendError::Closed(_))), "{error}");
}

#[test]
fn flushed_at_the_very_end_is_flushed() {
    let Setup { mut task, wire, handle, .. } = setup(true);
    let mut sender = Task::new(handle.send_flushed(item(1)));
    sender.settle();
    handle.close(Close::graceful());
    wire.eof();
    task.finish();
    assert_eq!(sender.finish().unwrap().get(), 1);
    assert_eq!(wire.take_frames(), ["item 1"]);
}

#[test]
fn an_item_that_cannot_be_sent_is_told_to_both_ends() {
    let Setup { mut task, wire, handle, log } = setup(true);
    let mut sender = Task::new(handle.send_flushed(Bytes::from(vec![0; 100_000])));
    sender.settle();
    handle.try_send(item(1)).unwrap();
    task.settle();
    assert!(matches!(sender.finish(), Err(NotFlushed::Dropped)));
    assert_eq!(log.take()[1..], ["on_send_error: TooLarge { bytes: 100004, limit: 100000, .. }"]);
    assert_eq!(wire.take_frames(), ["item 1"]);
    assert_eq!(handle.stats().refused, 1);
}

#[test]
fn what_never_reached_the_session_is_given_back_in_order() {
    let Setup { mut task, wire, handle, .. } = setup(false);
    handle.try_send(large()).unwrap();
    for n in 0..3 {
        handle.try_send(item(n)).unwrap();
    }
    let mut waiting = Task::new(handle.send_flushed(item(9)));
    waiting.settle();
    assert!(handle.take_unsent().is_empty(), "nothing is given back while it may still be sent");
    task.settle(); // the large item is accepted, the others wait in the queue
    handle.close(Close::abort());
    task.finish();
    assert_eq!(handle.take_unsent(), [item(0), item(1), item(2)]);
    assert!(handle.take_unsent().is_empty(), "once");
    drop(wire);
    assert!(waiting.finish().is_err());
}

#[test]
fn a_graceful_close_comes_after_what_was_posted() {
    let Setup { mut task, wire, handle, .. } = setup(false);
    let other = handle.clone();
    handle.try_send(large()).unwrap();
    (0..3).for_each(|n| handle.try_send(item(n)).unwrap());
    handle.close(Close::graceful());
    assert!(
        matches!(other.try_send(item(4)), Err(SendError::Closed(_))),
        "nothing can be posted after the close"
    );
    task.settle();
    assert!(!wire.is_shut_down() && !handle.is_closed());
    wire.room(None);
    wire.eof();
    assert!(task.finish().is_clean());
    assert_eq!(frames(&wire.take_written()).0[1..], [b"item 0", b"item 1", b"item 2"].map(|i| i.to_vec()));
    assert!(handle.take_unsent().is_empty());
    assert!(wire.is_shut_down());
}

#[test]
fn pause_and_resume() {
    let Setup { mut task, wire, handle, log } = setup(true);
    handle.pause();
    wire.send_frame("one");
    task.settle();
    assert_eq!(log.count("on_message"), 0);
    handle.try_send(item(1)).unwrap();
    task.settle();
    assert_eq!(wire.take_frames(), ["item 1"], "sending is not paused");
    handle.resume();
    task.settle();
    assert_eq!(log.count("on_message"), 1);
    handle.resume();
    handle.pause();
    wire.send_frame("two");
    task.settle();
    assert_eq!(log.count("on_message"), 1, "the last call wins");
}

#[test]
fn facts() {
    let Setup { mut task, wire, handle, .. } = setup(true);
    let other = handle.clone();
    assert_eq!((handle.id(), handle.name(), handle.peer_addr()), (other.id(), None, None));
    handle.set_name("one");
    assert_eq!(other.name().as_deref(), Some("one"));
    let opened = handle.last_active();
    fake::advance(secs(5));
    wire.send_frame("hello");
    task.settle();
    assert_eq!(handle.last_active() - opened, secs(5));
    assert_eq!((handle.stats().received.messages, handle.stats().received.bytes), (1, 9));
    let debug = format!("{handle:?}");
    assert!(debug.starts_with(&format!("Handle {{ id: SessionId({})", handle.id().get())), "{debug}");
    let mut closed = Task::new(other.closed());
    closed.settle();
    wire.fail(std::io::ErrorKind::ConnectionReset);
    task.finish();
    assert!(matches!(
        closed.finish(),
        CloseReason::Io(IoFailure { kind: std::io::ErrorKind::ConnectionReset, .. })
    ));
    assert!(matches!(Task::new(handle.closed()).finish(), CloseReason::Io(_)), "and again");
    assert_eq!(handle.stats().received.messages, 1);
}

#[test]
fn a_driver_that_is_dropped_ends_its_handles() {
    for polled in [false, true] {
        let (listener, log) = Recorder::quiet();
        let (mut task, wire) = driver(Config::default().into(), listener);
        let handle = task.get_mut().handle();
        if polled {
            task.settle();
        }
        let mut closed = Task::new(handle.closed());
        closed.settle();
        let mut flushed = Task::new(handle.send_flushed(item(1)));
        flushed.settle();
        handle.try_send(item(2)).unwrap();
        drop(task);
        assert!(wire.is_dropped());
        assert!(matches!(closed.finish(), CloseReason::Local { .. }));
        assert!(matches!(flushed.finish(), Err(NotFlushed::Dropped)));
        assert!(matches!(handle.try_send(item(3)), Err(SendError::Closed(_))));
        assert_eq!(handle.take_unsent(), [item(1), item(2)]);
        assert_eq!(log.count("on_close"), 0, "no callback runs while a runtime is torn down");
    }
}

#[test]
fn a_handle_made_in_a_callback_posts_at_once() {
    let slot = std::sync::Arc::new(std::sync::Mutex::new(None));
    let kept = slot.clone();
    let (listener, _log) = Recorder::new(move |cx, _| {
        *kept.lock().unwrap() = Some(cx.handle());
        Then::Default
    });
    let (mut task, wire) = driver(Config::default().into(), listener);
    task.settle();
    let handle = slot.lock().unwrap().take().unwrap();
    handle.try_send(item(1)).unwrap();
    assert!(task.is_woken());
    drop(handle);
    task.settle();
    assert_eq!(wire.take_frames(), ["item 1"], "though no handle is left");
}
