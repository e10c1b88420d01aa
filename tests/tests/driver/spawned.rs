//! A connection in a task of its own: `Connection::spawn`, its handle and its receiver.

use std::cell::Cell;
use std::io::{ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll};

use bytes::buf::Limit;
use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use getty_core::codec::Raw;
use getty_core::{Close, CloseReason, Config, IoFailure, SendError};
use getty_driver::{Client, Connection, Handle, Io, Receiver};

use crate::driver_common::fake::{self, Fake, FakeSpawner};
use crate::driver_common::task::Task;
use crate::driver_common::wire::{Op, Wire};
use crate::driver_common::*;

fn spawned(config: Arc<Config>) -> (Handle<Bytes>, Receiver<Bytes, Bytes>, Wire) {
    let (connection, wire) = connection(config);
    let (handle, receiver) = connection.spawn(&FakeSpawner);
    fake::run();
    (handle, receiver, wire)
}

/// Takes all messages out of the queue, by hand.
fn received(receiver: &mut Receiver<Bytes, Bytes>) -> Vec<Bytes> {
    let mut messages = Vec::new();
    while let Poll::Ready(Ok(Some(message))) = Task::new(receiver.recv()).run() {
        messages.push(message);
    }
    messages
}

#[test]
fn messages_both_ways() {
    let (handle, mut receiver, wire) = spawned(Config::default().into());
    wire.send(&[frame(b"one"), frame(b"two")].concat());
    handle.try_send(Bytes::from("three")).unwrap();
    fake::run();
    assert_eq!(received(&mut receiver), ["one", "two"]);
    assert_eq!(wire.take_frames(), ["three"]);
    let mut recv = Task::new(receiver.next());
    recv.settle();
    wire.send_frame("four");
    fake::run();
    assert_eq!(recv.finish().unwrap().unwrap(), "four");
}

#[test]
fn what_came_before_it_was_spawned_is_not_lost() {
    let (mut connection, wire) = connection(Config::default().into());
    wire.room(0);
    wire.send(&[frame(b"one"), frame(b"two")].concat());
    assert_eq!(Task::new(connection.recv()).finish().unwrap().unwrap(), "one");
    Task::new(connection.feed(Bytes::from("fed"))).finish().unwrap();
    let (_handle, mut receiver) = connection.spawn(&FakeSpawner);
    wire.room(None);
    fake::run();
    assert_eq!(received(&mut receiver), ["two"]);
    assert_eq!(wire.take_frames(), ["fed"]);
}

#[test]
fn what_was_received_while_sending_goes_to_the_receiver() {
    for half_closes in [false, true] {
        let (mut connection, wire) = connection(config(|c| c.handle_queue(4)));
        wire.room(0);
        (0..10).for_each(|n| wire.send_frame(format!("before {n}")));
        if half_closes {
            wire.eof();
        }
        Task::new(connection.send(Bytes::from("sent"))).settle();
        let (_handle, mut receiver) = connection.spawn(&FakeSpawner);
        wire.room(None);
        fake::run();
        assert_eq!(wire.take_frames(), ["sent"]);
        let reads = wire.calls(Op::Read);
        wire.send_frame("after");
        fake::run();
        assert_eq!(wire.calls(Op::Read), reads, "the queue is full");
        let mut messages = received(&mut receiver);
        fake::run();
        messages.extend(received(&mut receiver));
        let expected = (0..10).map(|n| format!("before {n}")).chain(["after".to_owned()]);
        let count = if half_closes { 10 } else { 11 };
        assert_eq!(messages, expected.take(count).collect::<Vec<_>>());
        let end = Task::new(receiver.recv()).run();
        assert!(if half_closes { matches!(end, Poll::Ready(Ok(None))) } else { end.is_pending() });
    }
}

#[test]
fn a_receiver_that_does_not_pull_stops_the_reading() {
    let (_handle, mut receiver, wire) = spawned(config(|c| c.handle_queue(10)));
    wire.endless(Some(frame(&[b'x'; 1000]).repeat(5)));
    fake::run();
    let reads = wire.calls(Op::Read);
    assert!(reads <= 3, "10 messages are 2 reads: {reads}");
    fake::run();
    assert_eq!(wire.calls(Op::Read), reads);
    // It goes on when half of the queue is free, so that it does not stop and start for each message.
    for _ in 0..4 {
        Task::new(receiver.recv()).finish().unwrap().unwrap();
        fake::run();
    }
    assert_eq!(wire.calls(Op::Read), reads);
    Task::new(receiver.recv()).finish().unwrap().unwrap();
    fake::run();
    assert!(wire.calls(Op::Read) > reads);
    let mut pulled = 5;
    while pulled < 1000 {
        pulled += received(&mut receiver).len();
        fake::run();
    }
    assert!(wire.calls(Op::Read) * 5 < pulled + 40);
}

#[test]
fn dropping_the_receiver_leaves_the_session_open_and_reading() {
    let (handle, receiver, wire) = spawned(config(|c| c.handle_queue(2)));
    (0..5).for_each(|_| wire.send_frame("unread"));
    fake::run();
    drop(receiver);
    fake::run();
    assert_eq!(handle.stats().received.messages, 5, "messages are read and dropped");
    handle.try_send(Bytes::from("still here")).unwrap();
    fake::run();
    assert_eq!(wire.take_frames(), ["still here"]);
    wire.fail(ErrorKind::ConnectionReset);
    fake::run();
    assert!(handle.is_closed() && wire.is_dropped());
    assert_eq!(fake::tasks(), 0);
}

#[test]
fn dropping_the_handle_leaves_the_session_open() {
    let (handle, mut receiver, wire) = spawned(Config::default().into());
    drop(handle);
    wire.send_frame("hello");
    fake::run();
    assert_eq!(received(&mut receiver), ["hello"]);
}

#[test]
fn the_peers_half_close_ends_the_messages_and_not_the_session() {
    let (handle, mut receiver, wire) = spawned(Config::default().into());
    wire.send_frame("last");
    wire.eof();
    fake::run();
    assert_eq!(received(&mut receiver), ["last"]);
    assert!(Task::new(receiver.recv()).finish().unwrap().is_none());
    handle.try_send(Bytes::from("answer")).unwrap();
    fake::run();
    assert_eq!(wire.take_frames(), ["answer"]);
    handle.close(Close::graceful());
    fake::run();
    assert!(matches!(Task::new(handle.closed()).finish(), CloseReason::Eof { mid_frame: false }));
    assert!(Task::new(receiver.recv()).finish().unwrap().is_none());
    assert_eq!(fake::tasks(), 0);
}

#[test]
fn an_error_comes_after_the_messages() {
    let (_handle, mut receiver, wire) = spawned(config(|c| c.handle_queue(2)));
    for n in 0..3 {
        wire.send_frame(format!("{n}"));
    }
    wire.fail(ErrorKind::ConnectionReset);
    fake::run();
    assert_eq!(received(&mut receiver), ["0", "1"]);
    fake::run();
    assert_eq!(received(&mut receiver), ["2"]);
    fake::run();
    for _ in 0..2 {
        let error = Task::new(receiver.recv()).finish().unwrap_err();
        assert!(
            matches!(error, CloseReason::Io(IoFailure { kind: ErrorKind::ConnectionReset, .. })),
            "{error}"
        );
    }
    assert!(Task::new(receiver.next()).finish().unwrap().is_err());
    assert!(Task::new(receiver.next()).finish().is_none(), "as a stream it returns the error once");
}

#[test]
fn a_runtime_that_ends_is_told() {
    let (handle, mut receiver, _wire) = spawned(Config::default().into());
    let mut recv = Task::new(receiver.recv());
    recv.settle();
    fake::drop_tasks();
    assert!(matches!(recv.finish(), Err(CloseReason::Local { flushed: false })));
    assert!(matches!(handle.try_send(Bytes::new()), Err(SendError::Closed(_))));
}

#[test]
fn a_connection_that_is_over_can_be_spawned() {
    let (mut connection, wire) = connection(Config::default().into());
    wire.fail(ErrorKind::ConnectionReset);
    assert!(Task::new(connection.recv()).finish().is_err());
    let (handle, mut receiver) = connection.spawn(&FakeSpawner);
    fake::run();
    assert_eq!(fake::tasks(), 0, "nothing is left to drive");
    assert!(matches!(
        Task::new(handle.closed()).finish(),
        CloseReason::Io(IoFailure { kind: ErrorKind::ConnectionReset, .. })
    ));
    assert!(matches!(
        Task::new(receiver.recv()).finish(),
        Err(CloseReason::Io(IoFailure { kind: ErrorKind::ConnectionReset, .. }))
    ));
}

#[test]
fn who_finds_messages_without_end_yields() {
    let (_handle, mut receiver, wire) = spawned(config(|c| c.handle_queue(1000)));
    wire.send(&frame(b"12").repeat(1000));
    fake::run();
    let received = Cell::new(0);
    let mut task = Task::new(async {
        while receiver.recv().await.unwrap().is_some() {
            received.set(received.get() + 1);
        }
    });
    for polls in 1..7 {
        let yields = fake::yields();
        assert!(task.poll().is_pending());
        assert_eq!(received.get(), 128 * polls);
        assert_eq!(fake::yields() - yields, 1);
    }
    task.settle();
    assert_eq!(received.get(), 1000);
}

/// A peer that sends [`MESSAGES`] messages of 1 MiB, each made while it is read.
struct Large {
    /// Number of bytes read.
    read: Arc<AtomicUsize>,
}

const MESSAGES: usize = 256;
const SIZE: usize = 1 << 20;

/// The payload of message `number`.
fn large(number: usize) -> Vec<u8> {
    vec![number as u8; SIZE]
}

impl Io for Large {
    fn poll_read(
        &mut self,
        _cx: &mut TaskContext<'_>,
        buf: &mut Limit<&mut BytesMut>,
    ) -> Poll<std::io::Result<usize>> {
        let at = self.read.load(Ordering::Relaxed);
        let (number, place) = (at / (SIZE + 4), at % (SIZE + 4));
        if number == MESSAGES {
            return Poll::Pending;
        }
        let header = (SIZE as u32).to_be_bytes();
        let n = if place < 4 { 4 - place } else { SIZE + 4 - place }.min(buf.remaining_mut());
        if place < 4 {
            buf.put_slice(&header[place..place + n]);
        } else {
            buf.put_bytes(number as u8, n);
        }
        self.read.fetch_add(n, Ordering::Relaxed);
        Poll::Ready(Ok(n))
    }

    fn poll_write(
        &mut self,
        _: &mut TaskContext<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()))
    }

    fn poll_shutdown(&mut self, _: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn what_waits_to_be_received_is_bounded_in_bytes() {
    let read = Arc::<AtomicUsize>::default();
    let io = Large { read: read.clone() };
    let connection: Connection<Fake, _, _> = Connection::new(session(Config::default().into()), io);
    let (_handle, mut receiver) = connection.spawn(&FakeSpawner);
    for number in 0..MESSAGES {
        fake::run();
        // One message in the queue is above the watermark, and part of another may have been read along with
        // it.
        let held = read.load(Ordering::Relaxed) - number * (SIZE + 4);
        assert!(held <= SIZE + (256 << 10), "{held} bytes are held");
        assert_eq!(Task::new(receiver.recv()).finish().unwrap().unwrap(), large(number));
    }
    fake::run();
    assert!(Task::new(receiver.recv()).run().is_pending());
}

#[test]
fn small_messages_that_wait_to_be_received_are_bounded_in_bytes() {
    let (handle, mut receiver, wire) = spawned(config(|c| c.handle_queue(1_000_000)));
    wire.endless(Some(frame(b"").repeat(1000)));
    fake::run();
    let received = handle.stats().received.messages as usize;
    assert!(received <= 1 + (64 << 10) / size_of::<Bytes>(), "{received} messages");
    // Reading goes on at the low watermark, if messages are taken.
    for _ in 0..received / 2 - 1 {
        Task::new(receiver.recv()).finish().unwrap().unwrap();
        fake::run();
    }
    assert_eq!(handle.stats().received.messages as usize, received);
    for _ in 0..2 {
        Task::new(receiver.recv()).finish().unwrap().unwrap();
    }
    fake::run();
    assert!(handle.stats().received.messages as usize > received);
}

#[test]
fn what_was_received_ahead_counts_in_the_queue() {
    let (mut connection, wire) = connection(Config::default().into());
    wire.room(0);
    wire.send(&frame(&[b'x'; 1 << 20]).repeat(8));
    Task::new(connection.send(Bytes::from("sent"))).settle();
    let (_handle, mut receiver) = connection.spawn(&FakeSpawner);
    wire.send(&frame(b"after"));
    let reads = wire.calls(Op::Read);
    for _ in 0..7 {
        fake::run();
        assert_eq!(Task::new(receiver.recv()).finish().unwrap().unwrap().len(), 1 << 20);
    }
    assert_eq!(wire.calls(Op::Read), reads, "1 MiB still waits");
    assert_eq!(Task::new(receiver.recv()).finish().unwrap().unwrap().len(), 1 << 20);
    fake::run();
    assert_eq!(Task::new(receiver.recv()).finish().unwrap().unwrap(), "after");
}

#[test]
fn datagrams_that_wait_to_be_received_are_bounded_in_bytes() {
    let client = Client::<Fake>::builder().spawner(FakeSpawner);
    let connecting = client.udp_receiver::<_, Bytes>("127.0.0.1:9", Raw);
    let (handle, mut receiver) = fake::block_on(connecting).unwrap();
    let wire = fake::udp_wire();
    let peer = "127.0.0.1:9".parse::<SocketAddr>().unwrap();
    for batch in [0..30, 30..60, 60..90] {
        wire.receives(batch.map(|n| (peer.into(), vec![n; 30_000])));
    }
    fake::run();
    assert_eq!(handle.stats().received.messages, 3);
    for n in 0..90 {
        assert_eq!(Task::new(receiver.recv()).finish().unwrap().unwrap(), vec![n; 30_000]);
        fake::run();
    }
}
