//! Pulling messages: `Connection`, by itself and as `Stream` and `Sink`.

use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use futures::{Sink, SinkExt, Stream, StreamExt};
use getty_core::{Close, CloseReason, Config, Deadline, Event, IoFailure, SendError};
use getty_driver::{FlushError, Runtime, SinkError};

use crate::driver_common::fake;
use crate::driver_common::fake::Fake;
use crate::driver_common::task::{Counter, Task};
use crate::driver_common::wire::{Answer, Op};
use crate::driver_common::*;

fn item(n: usize) -> Bytes {
    Bytes::from(format!("item {n}"))
}

#[test]
fn messages_come_and_go() {
    let (mut connection, wire) = connection(Config::default().into());
    wire.send(&[frame(b"one"), frame(b"two")].concat());
    assert_eq!(Task::new(connection.recv()).finish().unwrap().unwrap(), "one");
    let accepted = Task::new(connection.feed(item(1))).finish().unwrap();
    assert_eq!((accepted.seq.get(), accepted.bytes), (1, 10));
    assert!(wire.take_frames().is_empty(), "fed, not written");
    assert_eq!(Task::new(connection.recv()).finish().unwrap().unwrap(), "two");
    let mut recv = Task::new(connection.recv());
    recv.settle();
    assert_eq!(wire.take_frames(), ["item 1"], "written before it waits");
    drop(recv);
    Task::new(connection.feed(item(2))).finish().unwrap();
    Task::new(connection.flush()).finish().unwrap();
    assert_eq!(wire.take_frames(), ["item 2"]);
    Task::new(connection.send(item(3))).finish().unwrap();
    assert_eq!(wire.take_frames(), ["item 3"]);
    assert_eq!(connection.stats().sent.messages, 3);
}

#[test]
fn the_peers_end_is_no_error_and_ours_comes_later() {
    let (mut connection, wire) = connection(Config::default().into());
    wire.send_frame("last");
    wire.eof();
    assert_eq!(Task::new(connection.recv()).finish().unwrap().unwrap(), "last");
    for _ in 0..2 {
        assert!(Task::new(connection.recv()).finish().unwrap().is_none());
    }
    Task::new(connection.send(item(1))).finish().unwrap();
    assert_eq!(wire.take_frames(), ["item 1"], "half-closed: we may still send");
    let reason = Task::new(connection.close(Close::graceful())).finish();
    assert!(matches!(reason, CloseReason::Eof { mid_frame: false }), "{reason}");
    assert!(wire.is_shut_down());
    assert!(
        matches!(Task::new(connection.send(item(2))).finish(), Err(SinkError::Send(SendError::Closed(back))) if back == "item 2")
    );
    assert!(Task::new(connection.recv()).finish().unwrap().is_none());
}

#[test]
fn an_error_comes_after_what_was_received() {
    let (mut connection, wire) = connection(Config::default().into());
    wire.send_frame("last");
    wire.fail(ErrorKind::ConnectionReset);
    assert_eq!(Task::new(connection.recv()).finish().unwrap().unwrap(), "last");
    for _ in 0..2 {
        let error = Task::new(connection.recv()).finish().unwrap_err();
        assert!(
            matches!(error, CloseReason::Io(IoFailure { kind: ErrorKind::ConnectionReset, .. })),
            "{error}"
        );
    }
    assert!(Task::new(connection.flush()).finish().is_err());
}

#[test]
fn a_flush_that_failed_says_so() {
    for op in [Op::Write, Op::Flush] {
        let (mut connection, wire) = connection(Config::default().into());
        wire.send_frame("received before");
        wire.answer(op, Answer::Fails(ErrorKind::BrokenPipe));
        Task::new(connection.feed(item(1))).finish().unwrap();
        for _ in 0..2 {
            let error = Task::new(connection.flush()).finish().expect_err("nothing was written");
            assert!(
                matches!(
                    error,
                    FlushError::Closed(CloseReason::Io(IoFailure { kind: ErrorKind::BrokenPipe, .. }))
                ),
                "{op:?}: {error}"
            );
        }
        assert!(matches!(Task::new(connection.feed(item(2))).finish(), Err(SendError::Closed(_))));
        let error = Task::new(connection.recv()).finish().unwrap_err();
        assert!(
            matches!(error, CloseReason::Io(IoFailure { kind: ErrorKind::BrokenPipe, .. })),
            "{op:?}: {error}"
        );
    }
    // The same if the failure is found while receiving: the accepted item was not written.
    let (mut connection, wire) = connection(Config::default().into());
    wire.room(0);
    Task::new(connection.feed(item(1))).finish().unwrap();
    wire.send_frame("received before");
    wire.send_frame("received before");
    wire.fail(ErrorKind::ConnectionReset);
    for _ in 0..2 {
        Task::new(connection.recv()).finish().unwrap().unwrap();
    }
    assert!(Task::new(connection.flush()).run().is_pending() || connection.stats().queued == 0);
    assert!(Task::new(connection.recv()).finish().is_err());
    assert!(Task::new(connection.flush()).finish().is_err());
}

#[test]
fn feeding_waits_for_room_and_deadlines_pass_meanwhile() {
    let (mut connection, wire) = connection(config(|c| c.watermarks(10, 100)));
    wire.room(0);
    Task::new(connection.feed(Bytes::from(vec![0; 200]))).finish().unwrap();
    let mut feed = Task::new(connection.feed(item(1)));
    feed.settle();
    wire.room(150);
    feed.finish().unwrap();
    drop(feed);
    let mut flush = Task::new(connection.flush());
    flush.settle();
    fake::advance(secs(31));
    let error = flush.finish().unwrap_err();
    assert!(matches!(error, FlushError::Closed(CloseReason::Timeout(Deadline::WriteStall))), "{error}");
}

#[test]
fn events_of_every_kind() {
    let (mut connection, wire) = connection(config(|c| c.cron_period(secs(1)).idle_read(secs(2))));
    let mut told = Vec::new();
    let mut event = Task::new(connection.event());
    told.push(format!("{:?}", event.finish().unwrap()));
    drop(event);
    wire.send_frame("hello");
    for _ in 0..4 {
        let mut event = Task::new(connection.event());
        let next = match event.run() {
            Poll::Ready(next) => next,
            Poll::Pending => {
                fake::advance(secs(1));
                event.finish()
            }
        };
        told.push(match next.unwrap() {
            Event::Message(message) => format!("{message:?}"),
            other => format!("{other:?}"),
        });
    }
    assert!(told[0].starts_with("Open"));
    assert_eq!(told[1..], ["b\"hello\"", "Cron", "Cron", "Idle(Read)"]);
    wire.fail(ErrorKind::Other);
    assert!(matches!(Task::new(connection.event()).finish(), Some(Event::Closed(_))));
    assert!(Task::new(connection.event()).finish().is_none());
}

#[test]
fn a_stream_and_a_sink() {
    let (mut connection, wire) = connection(Config::default().into());
    Task::new(async {
        connection.feed(item(1)).await.unwrap();
        SinkExt::feed(&mut connection, item(2)).await.unwrap();
        SinkExt::send(&mut connection, item(3)).await.unwrap();
        let mut items = futures::stream::iter([Ok(item(4)), Ok(item(5))]);
        SinkExt::send_all(&mut connection, &mut items).await.unwrap();
        assert_eq!(wire.take_frames(), ["item 1", "item 2", "item 3", "item 4", "item 5"]);
        wire.send(&[frame(b"one"), frame(b"two")].concat());
        wire.send(b"\0\0\0\x09cut off");
        wire.eof();
        assert_eq!(connection.next().await.unwrap().unwrap(), "one");
        assert_eq!(connection.next().await.unwrap().unwrap(), "two");
        let error = connection.next().await.unwrap().unwrap_err();
        assert!(matches!(error, CloseReason::Eof { mid_frame: true }), "{error}");
        assert!(connection.next().await.is_none(), "the error is returned once");
        let error = SinkExt::send(&mut connection, item(6)).await.unwrap_err();
        assert!(matches!(error, SinkError::Send(SendError::Closed(_))), "{error}");
    })
    .finish();
}

#[test]
fn closing_a_sink_is_graceful() {
    let (mut connection, wire) = connection(Config::default().into());
    Task::new(SinkExt::feed(&mut connection, item(1))).finish().unwrap();
    let mut close = Task::new(SinkExt::<Bytes>::close(&mut connection));
    close.settle();
    assert_eq!(wire.take_frames(), ["item 1"]);
    assert!(wire.is_shut_down());
    wire.eof();
    close.finish().unwrap();
}

/// The two halves are in two tasks, on a transport that keeps only one waker.
#[test]
fn two_tasks_wait_at_once() {
    let (connection, wire) = connection(config(|c| c.watermarks(10, 100)));
    let (sink, stream) = connection.split();
    let (mut receiving, mut sending) = (Some(stream), Some(sink));
    for round in 0..40 {
        // In either order, and each time from new tasks.
        let mut stream = receiving.take().unwrap();
        let mut sink = sending.take().unwrap();
        wire.room(0);
        let mut recv = Task::new(async move { (stream.next().await.unwrap().unwrap(), stream) });
        let mut send = Task::new(async move {
            sink.send(Bytes::from(vec![b'x'; 200])).await.unwrap();
            sink
        });
        if round % 2 == 0 {
            recv.settle();
            send.settle();
        } else {
            send.settle();
            recv.settle();
        }
        // The sender must make progress without the receiver, and the other way round: each is polled only
        // when it is woken.
        if round % 4 < 2 {
            wire.room(None);
            assert!(send.is_woken());
            sending = Some(send.finish());
            wire.send_frame("message");
        } else {
            wire.send_frame("message");
            assert!(recv.is_woken() || send.is_woken());
            let _ = send.run();
            wire.room(None);
            sending = Some(send.finish());
        }
        let (message, stream) = recv.finish();
        assert_eq!(message, "message");
        receiving = Some(stream);
    }
}

#[test]
fn what_one_half_finds_out_wakes_the_other() {
    // A write fails while there is nothing to read: the reading task must be woken.
    let (connection, wire) = connection(Config::default().into());
    let (mut sink, mut stream) = connection.split::<Bytes>();
    let mut recv = Task::new(stream.next());
    recv.settle();
    wire.answer(Op::Write, Answer::Fails(ErrorKind::BrokenPipe));
    assert!(Task::new(sink.send(item(1))).finish().is_err());
    let error = recv.finish().expect("the stream did not end cleanly").unwrap_err();
    assert!(matches!(error, CloseReason::Io(IoFailure { kind: ErrorKind::BrokenPipe, .. })), "{error}");
    drop(recv);
    assert!(Task::new(stream.next()).finish().is_none());
}

/// Polled by hand, because the halves of `split` share a lock that may wake both for its own reasons.
#[test]
fn a_deadline_that_the_sender_notices_wakes_the_receiver() {
    let (mut connection, wire) = connection(config(|c| c.partial_frame_timeout(secs(1))));
    let mut connection = Pin::new(&mut connection);
    let (receiving, sending) = (Arc::<Counter>::default(), Arc::<Counter>::default());
    let (recv_waker, send_waker) = (receiving.clone().into(), sending.into());
    let (mut recv, mut send) = (TaskContext::from_waker(&recv_waker), TaskContext::from_waker(&send_waker));
    wire.send(b"\0\0\0\x05abc");
    wire.room(0);
    assert!(connection.as_mut().poll_next(&mut recv).is_pending());
    connection.as_mut().start_send(item(1)).unwrap();
    assert!(Sink::<Bytes>::poll_flush(connection.as_mut(), &mut send).is_pending());
    let woken = receiving.wakes();
    // The deadline has passed, and the sender is polled before the timer fires.
    fake::jump_unnoticed(Fake::now() + secs(1));
    assert!(Sink::<Bytes>::poll_flush(connection.as_mut(), &mut send).is_ready(), "the session is over");
    assert!(receiving.wakes() > woken, "the receiver must be woken");
    let next = connection.as_mut().poll_next(&mut recv);
    assert!(matches!(next, Poll::Ready(Some(Err(CloseReason::Timeout(Deadline::PartialFrame))))), "{next:?}");
}
