//! The callbacks of a listener: what they can do, and what happens when they refuse, panic or find no room.

use std::sync::{Arc, Mutex};
use std::task::Poll;

use bytes::Bytes;
use getty_core::{Close, CloseReason, Config, SendError};
use getty_driver::{Context, Handle};

use crate::driver_common::fake;
use crate::driver_common::recorder::{Happening, Recorder, Then};
use crate::driver_common::wire::{Op, Wire};
use crate::driver_common::*;

type Step = fn(&Wire, &Handle<Bytes>);

#[test]
fn a_refused_session_hears_what_was_sent_and_no_more() {
    let (listener, log) = Recorder::new(|cx, happening| match happening {
        Happening::Open => {
            cx.send(Bytes::from("full")).unwrap();
            Then::Refuse("the house is full")
        }
        other => panic!("{other:?}"),
    });
    let (mut task, wire) = driver(Config::default().into(), listener);
    wire.send_frame("let me in");
    task.settle();
    assert_eq!(wire.take_frames(), ["full"]);
    assert!(wire.is_shut_down());
    wire.send_frame("please");
    wire.eof();
    let reason = task.finish();
    assert!(matches!(*reason, CloseReason::Refused(_)), "{reason}");
    assert_eq!(log.take(), ["on_open", "on_close: refused by the listener: the house is full"]);
}

/// Each callback, with a step that causes it.
fn provocations() -> Vec<(&'static str, Step)> {
    vec![
        ("on_open", |_, _| ()),
        ("on_message", |wire, _| wire.send_frame("hello")),
        ("on_cron", |_, _| fake::advance(secs(1))),
        ("on_idle", |_, _| fake::advance(secs(3))),
        ("on_writable", |_, handle| drop(handle.try_send(Bytes::new()))),
        ("on_flushed", |_, handle| drop(handle.try_send(Bytes::new()))),
        ("on_send_error", |_, handle| drop(handle.try_send(Bytes::from(vec![0; 2000])))),
        ("on_eof", |wire, _| wire.eof()),
        ("on_close", |_, handle| handle.close(Close::abort())),
    ]
}

#[test]
fn after_a_panic_nothing_is_called_and_the_session_is_over() {
    for (callback, provoke) in provocations() {
        let (listener, log) = Recorder::new(|cx, happening| {
            if matches!(happening, Happening::Open) {
                while cx.send(Bytes::from(vec![0; 900])).is_ok() {}
                cx.notify_flushed();
            }
            Then::Default
        });
        let config =
            config(|c| c.cron_period(secs(1)).idle_read(secs(3)).max_frame(1000).max_queued(100_000));
        let (mut task, wire) = driver(config, listener.panics_in(callback));
        let handle = task.get_mut().handle();
        let mut result = task.run();
        if result.is_pending() {
            provoke(&wire, &handle);
            result = task.run();
        }
        let Poll::Ready(reason) = result else { panic!("{callback}: it has not ended") };
        let told = log.take();
        assert!(told.last().unwrap().starts_with(callback), "{callback} was not the last: {told:?}");
        if callback == "on_close" {
            assert!(matches!(*reason, CloseReason::Local { .. }), "it was over already: {reason}");
        } else {
            assert!(matches!(*reason, CloseReason::Panicked), "{callback}: {reason}");
            assert!(!told.iter().any(|event| event.starts_with("on_close")), "{callback}: {told:?}");
        }
        assert!(handle.is_closed() && wire.is_dropped());
    }
}

#[test]
fn what_was_due_when_a_callback_panics_is_not_told() {
    let (listener, log) = Recorder::new(|cx, happening| {
        match happening {
            Happening::Open => drop(cx.send(Bytes::from("hello"))),
            Happening::Message(_) => {
                cx.notify_flushed(); // already flushed, so the event waits to be delivered
                std::panic::resume_unwind(Box::new("quiet"));
            }
            _ => {}
        }
        Then::Default
    });
    let (mut task, wire) = driver(Config::default().into(), listener);
    task.settle();
    wire.send(&frame(b"m").repeat(3));
    assert!(matches!(*task.finish(), CloseReason::Panicked));
    assert_eq!(log.take(), ["on_open", "on_message: m"]);
}

#[test]
fn what_a_context_can_do() {
    #[derive(Debug, Clone, PartialEq)]
    struct User(u32);
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let notes = seen.clone();
    let (listener, log) = Recorder::new(move |cx, happening| {
        match happening {
            Happening::Open => {
                assert_eq!((cx.name(), cx.attribute::<User>()), (None, None));
                cx.set_name("session");
                assert_eq!(cx.set_attribute(User(1)), None);
                assert_eq!(cx.set_attribute(User(2)), Some(Arc::new(User(1))));
                let accepted = cx.send(Bytes::from("welcome")).unwrap();
                assert_eq!((accepted.seq.get(), accepted.bytes), (1, 11));
                assert_eq!(cx.notify_flushed(), Some(accepted.seq));
                assert_eq!(cx.handle().id(), cx.id());
            }
            Happening::Message(message) => {
                let mut batch = vec![message];
                batch.extend(std::iter::from_fn(|| cx.next_message()));
                notes.lock().unwrap().push(format!("{} {:?}", batch.len(), cx.attribute::<User>()));
                cx.pause();
                cx.update_active();
            }
            _ => {}
        }
        Then::Default
    });
    let (mut task, wire) = driver(Config::default().into(), listener);
    let handle = task.get_mut().handle();
    wire.send(&frame(b"m").repeat(3));
    task.settle();
    assert_eq!(
        log.take(),
        ["on_open", "on_message: m", "on_flushed: 1"],
        "the rest of the batch was taken in one call"
    );
    assert_eq!(*seen.lock().unwrap(), ["3 Some(User(2))"]);
    assert_eq!(wire.take_frames(), ["welcome"]);
    assert_eq!((handle.name().as_deref(), handle.attribute()), (Some("session"), Some(Arc::new(User(2)))));
    assert_eq!(handle.remove_attribute(), Some(Arc::new(User(2))));
    assert_eq!(handle.attribute::<User>(), None);
    // Paused: nothing is read until it is resumed.
    let reads = wire.calls(Op::Read);
    wire.send_frame("later");
    task.settle();
    assert_eq!((wire.calls(Op::Read), log.is_empty()), (reads, true));
    handle.resume();
    task.settle();
    assert_eq!(log.take(), ["on_message: later"]);
}

#[test]
fn a_blocked_sender_is_told_when_there_is_room() {
    let (listener, log) = Recorder::new(|cx: &mut Context<'_, Messages>, happening| {
        if matches!(happening, Happening::Open | Happening::Writable) {
            let error = loop {
                if let Err(error) = cx.send(Bytes::from(vec![b'x'; 50_000])) {
                    break error;
                }
            };
            assert!(matches!(error, SendError::Blocked(_)), "{error}");
            assert!(!cx.is_writable());
            assert!(cx.stats().queued > 900_000);
        }
        Then::Default
    });
    let (mut task, wire) = driver(Config::default().into(), listener);
    wire.room(0);
    task.settle();
    wire.room(900_000);
    task.settle();
    assert_eq!(log.take(), ["on_open"], "still above the low watermark");
    wire.room(130_000);
    task.settle();
    assert_eq!(log.take(), ["on_writable"]);
}
