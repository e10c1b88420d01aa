//! Sends with a time limit: where the item is when the time is up.

use std::collections::HashSet;
use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use bytes::Bytes;
use futures::channel::oneshot;
use futures::future::{BoxFuture, join_all};
use getty_core::codec::{Decoded, Decoder, Encoder, LengthDelimited, Sink, Source};
use getty_core::{Close, CloseReason, Framed, SendError, Seq, Session};
use getty_driver::{Driver, Handle, NotFlushed};

use crate::driver_common::fake::Fake;
use crate::driver_common::recorder::{Log, Recorder};
use crate::driver_common::runtimes::{TestRuntime, client, serve, until};
use crate::driver_common::task::Task;
use crate::driver_common::wire::{MemIo, Wire, wire};
use crate::driver_common::*;
use crate::on_every_runtime;

struct Setup {
    task: Task<FakeDriver>,
    wire: Wire,
    handle: Handle<Bytes>,
    log: Log,
}

/// An open session with a queue of 4 items, whose peer reads nothing.
fn setup() -> Setup {
    let (listener, log) = Recorder::quiet();
    let (mut task, wire) = driver(config(|c| c.handle_queue(4).max_frame(100_000)), listener);
    let handle = task.get_mut().handle();
    wire.room(0);
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

/// A time limit that the test ends.
fn time() -> (oneshot::Sender<()>, oneshot::Receiver<()>) {
    oneshot::channel()
}

fn taken_back(outcome: Result<Seq, NotFlushed<Bytes>>) -> Bytes {
    match outcome {
        Err(NotFlushed::TakenBack(item)) => item,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_item_that_waits_for_room_is_taken_back() {
    let Setup { mut task, wire, handle, log } = setup();
    handle.try_send(large()).unwrap();
    task.settle(); // it is above the watermark now
    let (over, until) = time();
    let mut sender = Task::new(handle.send_flushed_until(item(1), until));
    sender.settle();
    over.send(()).unwrap();
    assert_eq!(taken_back(sender.finish()), "item 1");
    wire.room(None);
    task.settle();
    assert_eq!(wire.take_frames().len(), 1, "only the large item");
    assert_eq!(log.take().len(), 1, "the session goes on");
}

#[test]
fn an_item_in_the_queue_is_taken_back_and_leaves_its_place_to_another() {
    let Setup { mut task, wire, handle, .. } = setup();
    let (over, until) = time();
    handle.try_send(item(0)).unwrap();
    let mut late = Task::new(handle.send_flushed_until(item(1), until));
    late.settle();
    (2..4).for_each(|n| handle.try_send(item(n)).unwrap());
    let mut waiting = Task::new(handle.send(item(4)));
    waiting.settle();
    over.send(()).unwrap();
    assert_eq!(taken_back(late.finish()), "item 1");
    waiting.finish().unwrap();
    wire.room(None);
    task.settle();
    assert_eq!(wire.take_frames(), ["item 0", "item 2", "item 3", "item 4"]);
}

#[test]
fn an_item_that_the_session_has_is_under_way() {
    let Setup { mut task, wire, handle, .. } = setup();
    let (over, until) = time();
    let mut late = Task::new(handle.send_flushed_until(item(1), until));
    late.settle();
    task.settle(); // the session accepts it, but can't write it
    over.send(()).unwrap();
    let error = late.finish().unwrap_err();
    assert!(matches!(error, NotFlushed::Pending(seq) if seq.get() == 1), "{error}");
    assert!(handle.stats().progress.flushed.is_none());
    wire.room(None);
    task.settle();
    assert_eq!(wire.take_frames(), ["item 1"]);
    assert_eq!(
        handle.stats().progress.flushed.map(|seq| seq.get()),
        Some(1),
        "the progress shows its outcome"
    );
}

#[test]
fn what_is_known_before_the_time_is_over_counts() {
    let Setup { mut task, wire, handle, .. } = setup();
    let (over, until) = time();
    let mut sender = Task::new(handle.send_flushed_until(item(1), until));
    sender.settle();
    wire.room(None);
    task.settle();
    over.send(()).unwrap(); // both are ready when it is polled
    assert_eq!(sender.finish().unwrap().get(), 1);

    let (_over, until) = time();
    handle.close(Close::abort());
    let error = Task::new(handle.send_flushed_until(item(2), until)).finish().unwrap_err();
    assert!(matches!(&error, NotFlushed::NotSent(SendError::Closed(back)) if back == "item 2"), "{error}");
}

#[test]
fn no_time_at_all_takes_the_item_back() {
    let Setup { mut task, wire, handle, .. } = setup();
    let outcome = Task::new(handle.send_flushed_until(item(1), async {})).finish();
    assert_eq!(taken_back(outcome), "item 1");
    wire.room(None);
    task.settle();
    assert!(wire.take_frames().is_empty());
}

/// Calls a function while it encodes, and decodes nothing.
struct Encoding<F>(F);

impl<F> Decoder for Encoding<F> {
    type Item = Bytes;
    type Error = Infallible;

    fn decode(&mut self, _: &mut Source<'_>) -> Result<Decoded<Bytes>, Infallible> {
        Ok(Decoded::Need(1))
    }
}

impl<F: FnMut()> Encoder<Bytes> for Encoding<F> {
    type Error = Infallible;

    fn encode(&mut self, item: Bytes, dst: &mut Sink<'_>) -> Result<(), Infallible> {
        (self.0)();
        dst.put_bytes(item);
        Ok(())
    }
}

type EncodingDriver<F> = Driver<Fake, MemIo, Framed<Encoding<F>>, Recorder>;

/// An open session whose peer reads nothing.
fn encoding<F: FnMut()>(encode: F) -> (Task<EncodingDriver<F>>, Wire, Handle<Bytes>) {
    let (io, wire) = wire();
    wire.room(0);
    let session =
        Session::new(Framed::new(Encoding(encode)), Default::default(), getty_driver::now::<Fake>());
    let mut task = Task::new(Driver::new(session, io, Recorder::quiet().0));
    let handle = task.get_mut().handle();
    task.settle();
    (task, wire, handle)
}

type Sending = Task<BoxFuture<'static, Result<Seq, NotFlushed<Bytes>>>>;

#[test]
fn an_item_that_is_just_being_taken_is_waited_for() {
    let (over, until) = time();
    let sending = Arc::new(Mutex::new(None::<Sending>));
    let (mut over, in_encoder) = (Some(over), sending.clone());
    let (mut task, _wire, handle) = encoding(move || {
        over.take().unwrap().send(()).unwrap();
        // The item is neither in the queue nor in the session: its outcome is not known yet.
        in_encoder.lock().unwrap().as_mut().unwrap().settle();
    });
    let mut sender: Sending =
        Task::new(Box::pin(async move { handle.send_flushed_until(item(1), until).await }));
    sender.settle();
    *sending.lock().unwrap() = Some(sender);
    task.settle();
    let error = sending.lock().unwrap().as_mut().unwrap().finish().unwrap_err();
    assert!(matches!(error, NotFlushed::Pending(seq) if seq.get() == 1), "{error}");
}

#[test]
fn an_item_whose_encoder_panics_has_a_fate() {
    let (mut task, _wire, handle) = encoding(|| std::panic::resume_unwind(Box::new("bad encoder")));
    let mut sender = Task::new(handle.send_flushed(item(1)));
    sender.settle();
    assert!(matches!(*task.finish(), CloseReason::Panicked));
    let error = sender.finish().unwrap_err();
    assert!(matches!(error, NotFlushed::Dropped), "{error}");
}

on_every_runtime!(what_is_taken_back_does_not_arrive);

/// Time limits end at any moment, on another thread than the session's.
fn what_is_taken_back_does_not_arrive<R: TestRuntime>() {
    const ITEMS: usize = 3000;
    R::block_on(async {
        let (_, log) = Recorder::quiet();
        let server_log = log.clone();
        let server = serve::<R>(move || Recorder::quiet().0.log_to(&server_log)).await;
        let address = server.local_addr().to_string();
        let options = config(|c| c.handle_queue(8).watermarks(500, 1000));
        let handle = client::<R>()
            .config(options)
            .tcp(&address, Framed::new(LengthDelimited::new()), Recorder::quiet().0)
            .await
            .unwrap();
        let sending = (0..ITEMS).map(|n| {
            let handle = handle.clone();
            let (tell, told) = oneshot::channel();
            R::spawn(async move {
                // The time limit ends after `polls` polls, and wakes its task until then.
                let mut polls = n % 7;
                let until = poll_fn(move |cx| match polls.checked_sub(1) {
                    None => Poll::Ready(()),
                    Some(left) => {
                        polls = left;
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                });
                let outcome = handle.send_flushed_until(Bytes::from(n.to_string()), until).await;
                tell.send((n, outcome)).unwrap();
            });
            told
        });
        let outcomes = join_all(sending.collect::<Vec<_>>()).await;
        let mut must: HashSet<String> = HashSet::new();
        let mut must_not = HashSet::new();
        for (n, outcome) in outcomes.into_iter().map(Result::unwrap) {
            match outcome {
                Ok(_) | Err(NotFlushed::Pending(_)) => must.insert(n.to_string()),
                Err(NotFlushed::TakenBack(item)) => {
                    assert_eq!(item, n.to_string());
                    must_not.insert(n.to_string())
                }
                Err(other) => panic!("{n}: {other}"),
            };
        }
        until::<R>("all messages have come", || log.count("on_message") >= must.len()).await;
        handle.close(Close::graceful());
        until::<R>("the end", || log.count("on_close") == 1).await;
        let events = log.take();
        let came: HashSet<String> =
            events.iter().filter_map(|event| event.strip_prefix("on_message: ")).map(str::to_owned).collect();
        assert_eq!(came, must, "items that the session accepted, and none that was given back");
        assert_eq!(came.len() + must_not.len(), ITEMS);
        assert!(!must_not.is_empty());
    });
}
