//! Items posted by handles: they go out after the opening and before a graceful close, and none is forgotten.

use bytes::Bytes;
use getty_core::codec::{Decoded, Decoder, Encoder, Sink, Source};
use getty_core::{Close, CloseReason, Config, Framed, Session};
use getty_driver::{Context, Driver, Handle, Items, Listener, NotFlushed};

use crate::driver_common::fake::{self, Fake};
use crate::driver_common::recorder::{Happening, Recorder, Then};
use crate::driver_common::task::Task;
use crate::driver_common::wire::wire;
use crate::driver_common::*;

/// The driver must look at the queue even if no handle is left at the end of the turn.
#[test]
fn a_post_by_a_handle_that_is_dropped_at_once_goes_out() {
    let (listener, _) = Recorder::new(|cx, happening| {
        if let Happening::Message(message) = happening {
            cx.handle().try_send(message).unwrap();
        }
        Then::Default
    });
    let (mut task, wire) = driver(Config::default().into(), listener);
    wire.send_frame("a");
    task.settle();
    assert_eq!(wire.take_frames(), ["a"]);
}

#[test]
fn blocked_is_forgotten_though_no_handle_was_there_to_see_it() {
    let (listener, _) = Recorder::quiet();
    let (mut task, wire) = driver(Config::default().into(), listener);
    wire.room(0);
    task.settle();
    let handle = task.get_mut().handle();
    handle.try_send(Bytes::from(vec![0; 100_000])).unwrap();
    drop(handle);
    task.settle();
    wire.room(None);
    task.settle();
    task.get_mut().handle().try_send(Bytes::from("more")).unwrap();
}

#[test]
fn what_was_posted_before_the_opening_comes_after_what_the_listener_sends_then() {
    let (listener, log) = Recorder::new(|cx, happening| {
        if let Happening::Open = happening {
            cx.send(Bytes::from("login")).unwrap();
        }
        Then::Default
    });
    let (mut task, wire) = driver(config(|c| c.max_frame(20)), listener);
    let handle = task.get_mut().handle();
    handle.try_send(Bytes::from("posted")).unwrap();
    handle.try_send(Bytes::from(vec![0; 100])).unwrap();
    task.settle();
    assert_eq!(wire.take_frames(), ["login", "posted"]);
    let told = log.take();
    assert!(told[0].starts_with("on_open") && told[1].starts_with("on_send_error"), "{told:?}");
}

/// A peer that takes a byte now and then must not keep a session open forever.
#[test]
fn a_graceful_close_by_a_handle_has_its_deadline_from_the_start() {
    let (listener, _) = Recorder::quiet();
    let (mut task, wire) = driver(config(|c| c.close_timeout(secs(1)).max_queued(200_000)), listener);
    wire.room(0);
    task.settle();
    let handle = task.get_mut().handle();
    for _ in 0..10 {
        handle.try_send(Bytes::from(vec![0; 50_000])).unwrap();
    }
    handle.close(Close::graceful());
    assert!(handle.try_send(Bytes::new()).is_err());
    task.settle();
    for _ in 0..99 {
        fake::advance(10 * MS);
        wire.room(1);
        task.settle();
    }
    fake::advance(10 * MS);
    let reason = task.finish();
    assert!(matches!(*reason, CloseReason::Timeout(_)), "{reason}");
    assert!(!handle.take_unsent().is_empty(), "items that did not fit are given back");
}

#[test]
fn sending_from_a_handle_needs_no_listening_while_there_is_room() {
    let (listener, _) = Recorder::quiet();
    let (mut task, _wire) = driver(Config::default().into(), listener);
    let handle = task.get_mut().handle();
    task.settle();
    for _ in 0..300 {
        assert!(Task::new(handle.send(Bytes::from("x"))).poll().is_ready());
        task.settle();
    }
}

/// Panics on `!`, both decoding and encoding.
struct Fragile;

impl Decoder for Fragile {
    type Item = Bytes;
    type Error = std::convert::Infallible;

    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<Bytes>, Self::Error> {
        match src.first() {
            None => Ok(Decoded::Need(1)),
            Some(b'!') => panic!("a bug in a decoder"),
            Some(_) => Ok(Decoded::Frame(src.take(1))),
        }
    }
}

impl Encoder<Bytes> for Fragile {
    type Error = std::convert::Infallible;

    fn encode(&mut self, item: Bytes, dst: &mut Sink<'_>) -> Result<(), Self::Error> {
        assert_ne!(item, "!", "a bug in an encoder");
        dst.put_bytes(item);
        Ok(())
    }
}

struct Quiet(std::sync::mpsc::Sender<String>);

impl Listener<Items<Bytes>> for Quiet {
    fn on_message(&mut self, _: &mut Context<'_, Items<Bytes>>, _: Bytes) {}

    fn on_close(&mut self, _cx: &mut Context<'_, Items<Bytes>>, reason: &CloseReason) {
        self.0.send(reason.to_string()).unwrap();
    }
}

#[test]
fn a_panic_of_a_codec_ends_its_session_and_is_told() {
    for decoding in [true, false] {
        let (told, closes) = std::sync::mpsc::channel();
        let (io, wire) = wire();
        let session = Session::new(
            Framed::<_, Bytes>::new(Fragile),
            Config::default().into(),
            getty_driver::now::<Fake>(),
        );
        let mut task = Task::new(Driver::<Fake, _, _, _>::new(session, io, Quiet(told)));
        let handle = task.get_mut().handle();
        task.settle();
        if decoding {
            wire.send(b"ok!");
        } else {
            handle.try_send(Bytes::from("!")).unwrap();
        }
        assert!(matches!(*task.finish(), CloseReason::Panicked));
        // The decoder runs inside a callback that takes messages, so that the listener is not called again.
        let told = if decoding { &[][..] } else { &["the listener or the codec panicked"] };
        assert_eq!(closes.try_iter().collect::<Vec<_>>(), told);
        assert!(!Task::new(handle.closed()).finish().is_clean());
    }
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("a bug in an attribute"));
    }
}

#[test]
fn an_attribute_that_panics_when_it_is_dropped_keeps_nobody_waiting() {
    let (listener, log) = Recorder::quiet();
    let (mut task, wire) = driver(Config::default().into(), listener);
    let handle = task.get_mut().handle();
    handle.set_attribute(Bomb);
    task.settle();
    wire.room(0);
    let mut sending = Task::new(handle.send_flushed(Bytes::from("unwritten")));
    let mut closed = Task::new(handle.closed());
    sending.settle();
    closed.settle();
    task.settle();
    wire.fail(std::io::ErrorKind::ConnectionReset);
    assert!(matches!(*task.finish(), CloseReason::Io(_)));
    assert!(matches!(sending.finish(), Err(NotFlushed::Unwritten(_))));
    assert!(matches!(closed.finish(), CloseReason::Io(_)));
    assert_eq!(log.count("on_close"), 1);
}

#[test]
fn a_task_that_is_dropped_is_no_clean_close() {
    let (listener, _) = Recorder::quiet();
    let (mut task, _wire) = driver(Config::default().into(), listener);
    let handle = task.get_mut().handle();
    task.settle();
    drop(task);
    assert!(matches!(Task::new(handle.closed()).finish(), CloseReason::Local { flushed: false }));
}

#[test]
fn a_receiver_with_room_does_not_end_the_users_pause() {
    let (connection, wire) = connection(config(|c| c.handle_queue(2)));
    let (handle, mut receiver) = connection.spawn(&fake::FakeSpawner);
    ["a", "b", "c", "d"].iter().for_each(|text| wire.send_frame(text));
    fake::run();
    handle.pause();
    fake::run();
    for text in ["a", "b"] {
        assert_eq!(Task::new(receiver.recv()).finish().unwrap().unwrap(), text);
        fake::run();
    }
    let mut next = Task::new(receiver.recv());
    assert!(next.poll().is_pending(), "the session is still paused by the user");
    handle.resume();
    fake::run();
    assert_eq!(next.finish().unwrap().unwrap(), "c");
}

/// An attribute may hold a handle of its own session, which would otherwise keep both forever.
#[test]
fn attributes_are_gone_when_the_session_is_over() {
    let (listener, _) = Recorder::quiet();
    let (mut task, wire) = driver(Config::default().into(), listener);
    let handle: Handle<Bytes> = task.get_mut().handle();
    let kept = std::sync::Arc::new(());
    handle.set_attribute((handle.clone(), kept.clone()));
    task.settle();
    wire.eof();
    drop(task.finish());
    assert!(handle.attribute::<(Handle<Bytes>, std::sync::Arc<()>)>().is_none());
    assert_eq!(std::sync::Arc::strong_count(&kept), 1);
}

/// Every turn of such a session ends because its budget is used up.
#[test]
fn a_busy_peer_does_not_keep_handles_waiting() {
    let (mut task, wire) = driver(Config::default().into(), Recorder::quiet().0);
    task.settle();
    let handle = task.get_mut().handle();
    wire.endless(Some(frame(&[b'x'; 16]).repeat(50)));
    assert!(task.poll().is_pending());
    handle.try_send(Bytes::from("posted")).unwrap();
    (0..4).for_each(|_| assert!(task.poll().is_pending()));
    assert_eq!(wire.take_frames(), ["posted"]);
    handle.close(Close::graceful());
    assert!((0..4).any(|_| task.poll().is_ready() || wire.is_shut_down()), "it does not close");
}
