//! Pulling messages: `Connection`, alone and as `Stream` and `Sink`.

mod driver_common;

use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use bytes::{Buf, Bytes};
use driver_common::fake;
use driver_common::fake::Fake;
use driver_common::recorder::Recorder;
use driver_common::runtimes::{TestRuntime, connect, serve};
use driver_common::task::{Counter, Task};
use driver_common::wire::{Answer, MemIo, Op, Wire, wire};
use driver_common::*;
use futures::future::join_all;
use futures::{Sink, SinkExt, Stream, StreamExt};
use getty_core::codec::LengthDelimited;
use getty_core::websocket::{ClientRequest, Deflate, Message, ServerOptions, WebSocket};
use getty_core::{Close, CloseReason, Config, Deadline, Event, Framed, IoFailure, SendError, Session};
use getty_driver::{Accept, Connection, FlushError, Runtime, SinkError};

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
    // Found while receiving, the same: what was accepted was not written.
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
        assert!(connection.next().await.is_none(), "an error comes once");
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

/// The two halves in two tasks, on a transport that knows one waker only.
#[test]
fn two_tasks_wait_at_once() {
    let (connection, wire) = connection(config(|c| c.watermarks(10, 100)));
    let (sink, stream) = connection.split();
    let (mut receiving, mut sending) = (Some(stream), Some(sink));
    for round in 0..40 {
        // In either order, and each time from other tasks than the last time.
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
        // The sender's progress must not need the receiver, nor the other way round: each is polled when woken only.
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
    // A write fails where nothing can be read: the reading task must hear of it.
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

/// By hand, because the halves of `split` share a lock that may wake both for reasons of its own.
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
    // The time has come, and the sender is polled before the timer fires.
    fake::jump_unnoticed(Fake::now() + secs(1));
    assert!(Sink::<Bytes>::poll_flush(connection.as_mut(), &mut send).is_ready(), "the session is over");
    assert!(receiving.wakes() > woken, "who waits for messages must know");
    let next = connection.as_mut().poll_next(&mut recv);
    assert!(matches!(next, Poll::Ready(Some(Err(CloseReason::Timeout(Deadline::PartialFrame))))), "{next:?}");
}

/// The server's end of a WebSocket on a wire, open; the client is the test.
fn websocket(config: Arc<Config>) -> (Connection<Fake, MemIo, WebSocket>, Wire) {
    let (io, wire) = wire();
    let session = Session::new(WebSocket::server(ServerOptions::new()), config, getty_driver::now::<Fake>());
    let mut connection = Connection::new(session, io);
    wire.send(
        b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    Task::new(connection.opened()).finish().unwrap();
    Task::new(connection.flush()).finish().unwrap();
    assert!(wire.take_written().starts_with(b"HTTP/1.1 101"));
    (connection, wire)
}

/// A frame of a client, masked with zeros.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

const PING: u8 = 0x89;
const CLOSE: u8 = 0x88;

#[test]
fn who_waits_to_send_receives_meanwhile() {
    let (mut connection, wire) = connection(config(|c| c.watermarks(10, 100)));
    wire.room(0);
    Task::new(connection.feed(Bytes::from(vec![0; 200]))).finish().unwrap();
    for waiting in 0..3 {
        let mut task = Task::new(async {
            match waiting {
                0 => connection.feed(item(1)).await.map(drop).is_ok(),
                1 => connection.flush().await.is_ok(),
                _ => connection.send(item(1)).await.is_ok(),
            }
        });
        for n in 0..10 {
            task.settle();
            wire.send_frame(format!("{waiting} {n}"));
        }
        task.settle();
        drop(task);
        assert_eq!(connection.stats().received.messages, 10 * (waiting + 1), "it received");
    }
    wire.room(None);
    wire.send_frame("last");
    wire.eof();
    for waiting in 0..3 {
        for n in 0..10 {
            let message = Task::new(connection.recv()).finish().unwrap().unwrap();
            assert_eq!(message, format!("{waiting} {n}"));
        }
    }
    assert_eq!(Task::new(connection.recv()).finish().unwrap().unwrap(), "last");
    assert!(Task::new(connection.recv()).finish().unwrap().is_none());
}

#[test]
fn events_that_came_while_sending_are_told_in_order() {
    let (mut connection, wire) = connection(config(|c| c.cron_period(secs(1))));
    wire.room(0);
    wire.send_frame("one");
    let mut send = Task::new(connection.send(item(1)));
    send.settle();
    fake::advance(secs(1));
    send.settle();
    wire.send_frame("two");
    wire.eof();
    send.settle();
    wire.fail(ErrorKind::ConnectionReset); // which nobody notices, since nothing is read after the end
    wire.answer(Op::Write, Answer::Fails(ErrorKind::BrokenPipe));
    wire.wake();
    assert!(send.finish().is_err());
    drop(send);
    let mut told = Vec::new();
    while let Some(event) = Task::new(connection.event()).finish() {
        told.push(match event {
            Event::Message(message) => format!("{message:?}"),
            Event::Open(_) => "Open".to_owned(),
            other => format!("{other:?}"),
        });
    }
    assert!(told.pop().unwrap().starts_with("Closed(Io(IoFailure { kind: BrokenPipe"));
    assert_eq!(told, ["Open", "b\"one\"", "Cron", "b\"two\"", "ReadEnd"]);
}

#[test]
fn who_only_sends_answers_pings() {
    let (mut connection, wire) = websocket(Config::default().into());
    // The transport takes everything at once, so that nothing ever waits.
    for n in 0..3u8 {
        Task::new(connection.send(Message::text("before"))).finish().unwrap();
        wire.take_written();
        wire.send(&masked(PING, &[n]));
        Task::new(connection.send(Message::text("after"))).finish().unwrap();
        assert!(wire.take_written().ends_with(&[0x8A, 1, n]), "no pong");
    }
    // It takes nothing for a while.
    wire.room(0);
    let mut send = Task::new(connection.send(Message::text("waits")));
    send.settle();
    wire.send(&masked(PING, b"x"));
    send.settle();
    wire.room(None);
    send.finish().unwrap();
    assert!(wire.take_written().ends_with(&[0x8A, 1, b'x']), "no pong");
}

#[test]
fn who_only_sends_sees_a_close() {
    for waits in [false, true] {
        let (mut connection, wire) = websocket(Config::default().into());
        wire.send(&masked(0x82, b"last"));
        if waits {
            wire.room(0);
        }
        let mut send = Task::new(connection.send(Message::text("one")));
        assert_eq!(send.run().is_pending(), waits);
        drop(send);
        wire.send(&masked(CLOSE, &1001u16.to_be_bytes()));
        let mut send = Task::new(connection.send(Message::text("two")));
        let _ = send.run();
        drop(send);
        let error = Task::new(connection.feed(Message::text("three"))).finish().unwrap_err();
        assert!(matches!(error, SendError::Closed(_)), "{error}");
        wire.room(None);
        wire.eof();
        assert_eq!(Task::new(connection.recv()).finish().unwrap(), Some(Message::binary("last")));
        assert!(Task::new(connection.recv()).finish().unwrap().is_none(), "1001 is a clean end");
    }
}

#[test]
fn when_as_much_was_received_as_may_be_the_peer_waits_for_us() {
    let (mut connection, wire) = connection(config(|c| c.watermarks(10, 100).receive_ahead(1000)));
    wire.room(0);
    wire.endless(Some(frame(&[b'x'; 100])));
    Task::new(connection.feed(Bytes::from(vec![0; 200]))).finish().unwrap();
    let mut feed = Task::new(connection.feed(item(1)));
    feed.settle();
    fake::advance(999 * MS);
    feed.settle();
    fake::advance(MS);
    let error = feed.finish().unwrap_err();
    assert!(error.to_string().contains("the peer waits for us to receive"), "{error}");
    assert_eq!(error.into_item().unwrap(), "item 1", "it is given back");
    drop(feed);
    // That is known now: nobody has to wait once more.
    let error = Task::new(connection.flush()).finish().unwrap_err();
    assert!(matches!(error, FlushError::PeerWaits), "{error}");
    assert!(error.to_string().contains("the peer waits for us to receive"), "{error}");
    let error = Task::new(connection.send(item(1))).finish().unwrap_err();
    assert!(matches!(error, SinkError::Send(SendError::PeerWaits(_))), "{error}");
    let error = Task::new(SinkExt::<Bytes>::flush(&mut connection)).finish().unwrap_err();
    assert!(matches!(error, SinkError::PeerWaits), "{error}");
    let stats = connection.stats();
    assert!((1000..1104).contains(&(stats.received.messages * 104)), "{stats}");
    assert!(stats.received.bytes <= 1104 + 104, "{stats}");
    // The session goes on, and who receives lets it.
    wire.endless(None);
    for _ in 0..stats.received.messages {
        assert_eq!(Task::new(connection.recv()).finish().unwrap().unwrap(), vec![b'x'; 100]);
    }
    wire.room(None);
    Task::new(connection.send(item(1))).finish().unwrap();
    assert_eq!(frames(&wire.take_written()).0, [vec![0; 200], b"item 1".to_vec()]);
}

#[test]
fn a_full_queue_alone_fails_nothing() {
    let limits = || config(|c| c.receive_ahead(1000).write_stall_timeout(secs(100)));
    // The peer takes a byte now and then.
    let (mut connection, wire) = connection(limits());
    wire.room(0);
    wire.send(&frame(&[b'x'; 100]).repeat(20));
    let mut send = Task::new(connection.send(item(1)));
    for _ in 0..9 {
        send.settle();
        fake::advance(999 * MS);
        wire.room(1);
    }
    send.settle();
    wire.room(None);
    send.finish().unwrap();
    drop(send);
    for _ in 0..20 {
        Task::new(connection.recv()).finish().unwrap().unwrap();
    }
    // It takes nothing, but has sent nothing more either: it does not wait for us.
    wire.room(0);
    wire.send(&frame(&[b'x'; 100]).repeat(10));
    let mut send = Task::new(connection.send(item(1)));
    for _ in 0..9 {
        send.settle();
        fake::advance(secs(10));
    }
    send.settle();
    wire.room(None);
    send.finish().unwrap();
}

#[test]
fn a_small_message_weighs_what_is_kept_of_it() {
    let (mut connection, wire) = connection(config(|c| c.receive_ahead(10_000)));
    wire.room(0);
    wire.endless(Some(frame(b"").repeat(1000)));
    let mut send = Task::new(connection.send(item(1)));
    send.settle();
    drop(send);
    let kept = connection.stats().received.messages;
    assert!((50..250).contains(&kept), "{kept} messages of no bytes");
}

#[test]
fn a_compressed_message_weighs_what_it_is() {
    let deflate = Deflate::default().min_size(0);
    let client = ClientRequest::new("ws://h/").unwrap().deflate(deflate.clone());
    let limits = config(|c| c.receive_ahead(1_000_000));
    let (io, wire) = wire();
    let server = WebSocket::server(ServerOptions::new().deflate(deflate));
    let mut connection: Connection<Fake, _, _> =
        Connection::new(Session::new(server, limits.clone(), getty_driver::now::<Fake>()), io);
    let now = getty_core::Timestamp::ORIGIN;
    let mut peer = Session::new(WebSocket::client(client, |bytes| bytes.fill(7)), limits, now);
    let tell = |peer: &mut Session<WebSocket>| {
        let mut outbound = peer.outbound(now);
        let all = outbound.remaining();
        wire.send(&outbound.copy_to_bytes(all));
    };
    tell(&mut peer);
    Task::new(connection.opened()).finish().unwrap();
    Task::new(connection.flush()).finish().unwrap();
    peer.handle_input(now, &wire.take_written());
    while peer.poll_event().is_some() {}
    wire.room(0);
    for _ in 0..100 {
        peer.send(Message::binary(vec![0; 100_000])).unwrap();
        tell(&mut peer);
    }
    let mut send = Task::new(connection.send(Message::text("x")));
    send.settle();
    drop(send);
    assert_eq!(connection.stats().received.messages, 10);
}

/// The halves in two tasks: who receives slowly fails no one.
#[test]
fn the_sending_half_waits_for_the_receiving_one() {
    let (connection, wire) =
        connection(config(|c| c.receive_ahead(1000).watermarks(10, 100).write_stall_timeout(secs(100))));
    let (mut sink, mut stream) = connection.split();
    let mut recv = Task::new(stream.next());
    recv.settle();
    wire.room(0);
    let mut send = Task::new(async {
        sink.feed(Bytes::from(vec![0; 200])).await.unwrap();
        sink.send(item(1)).await
    });
    send.settle();
    wire.send(&frame(&[b'x'; 100]).repeat(10_000));
    // Whoever is polled first, the receiver learns of it.
    send.settle();
    assert!(recv.is_woken());
    recv.finish().unwrap().unwrap();
    drop(recv);
    for _ in 0..9 {
        fake::advance(secs(10));
        send.settle();
    }
    let mut received = 1;
    while Task::new(stream.next()).run().is_ready() {
        received += 1;
        if send.is_woken() {
            send.settle();
        }
    }
    assert_eq!(received, 10_000, "who takes what was received has the other half receive more");
    wire.room(None);
    send.finish().unwrap();
}

async fn many_sends_and_then_the_answers<R: TestRuntime>() {
    const MESSAGES: u32 = 20_000;
    let server = serve::<R>(|| Recorder::echo().0).await;
    let mut client = connect::<R>(server.local_addr()).await;
    let message = |n: u32| Bytes::from([&n.to_be_bytes()[..], &[b'x'; 1020]].concat());
    for n in 0..MESSAGES {
        client.send(message(n)).await.unwrap();
    }
    for n in 0..MESSAGES {
        assert_eq!(client.recv().await.unwrap().unwrap(), message(n));
    }
    assert!(client.close(Close::graceful()).await.is_clean());
}

/// Two ends that pull messages.
async fn two_ends<R: TestRuntime>(config: Arc<Config>) -> [Connection<R, R::TcpStream, Plain>; 2] {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut listener = R::tcp_listener(listener).unwrap();
    let near = R::tcp_connect(address).await.unwrap();
    let far = std::future::poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
    [near, far].map(|stream| {
        let session =
            Session::new(Framed::new(LengthDelimited::new()), config.clone(), getty_driver::now::<R>());
        Connection::new(session, stream)
    })
}

fn two_ends_send_a_lot_before_they_receive<R: TestRuntime>() {
    R::block_on(async {
        const MESSAGES: u32 = 1000;
        let message = |n: u32| Bytes::from([&n.to_be_bytes()[..], &[b'x'; 64_000]].concat());
        let ends = two_ends::<R>(config(|c| c.receive_ahead(80 << 20))).await;
        join_all(ends.map(|mut end| async move {
            for n in 0..MESSAGES {
                end.send(message(n)).await.unwrap();
            }
            for n in 0..MESSAGES {
                assert_eq!(end.recv().await.unwrap().unwrap(), message(n));
            }
            assert!(end.close(Close::graceful()).await.is_clean());
        }))
        .await;
    });
}

fn two_ends_that_send_too_much_are_told_and_go_on<R: TestRuntime>() {
    R::block_on(async {
        const MESSAGES: u32 = 1000;
        let message = |n: u32| Bytes::from([&n.to_be_bytes()[..], &[b'x'; 64_000]].concat());
        let told = join_all(two_ends::<R>(Config::default().into()).await.map(|mut end| async move {
            let (mut told, mut received) = (0, 0);
            for n in 0..MESSAGES {
                let mut next = message(n);
                while let Err(error) = end.feed(next).await {
                    assert!(matches!(error, SendError::PeerWaits(_)), "{error}");
                    next = error.into_item().unwrap();
                    assert_eq!(end.recv().await.unwrap().unwrap(), message(received));
                    (told, received) = (told + 1, received + 1);
                }
            }
            while received < MESSAGES {
                assert_eq!(end.recv().await.unwrap().unwrap(), message(received));
                received += 1;
            }
            assert!(end.close(Close::graceful()).await.is_clean());
            told
        }))
        .await;
        assert!(told.iter().sum::<u32>() > 0, "64 MB each is more than fits on the way");
    });
}

on_every_runtime!(
    twenty_thousand_sends_and_then_the_answers,
    two_ends_send_a_lot_before_they_receive,
    two_ends_that_send_too_much_are_told_and_go_on,
);

fn twenty_thousand_sends_and_then_the_answers<R: TestRuntime>() {
    R::block_on(many_sends_and_then_the_answers::<R>());
}
