//! A `Connection` of which only one half is used for a long time: it receives while it sends, and it yields
//! when there is always something to do.

use std::cell::Cell;
use std::io::{ErrorKind, Write};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf, Bytes};
use futures::future::{join_all, select};
use futures::{SinkExt, StreamExt};
use getty_core::codec::LengthDelimited;
use getty_core::websocket::{ClientRequest, Deflate, Message, ServerOptions, WebSocket};
use getty_core::{Close, Config, Event, Framed, SendError, Session};
use getty_driver::{Accept, Client, Connection, FlushError, SinkError};
use testkit::websocket::peers::Frame;

use crate::driver_common::fake::{self, Fake};
use crate::driver_common::recorder::Recorder;
use crate::driver_common::runtimes::{TestRuntime, connect, serve};
use crate::driver_common::task::Task;
use crate::driver_common::wire::{Answer, MemIo, Op, Wire, wire};
use crate::driver_common::*;
use crate::on_every_runtime;

fn item(n: usize) -> Bytes {
    Bytes::from(format!("item {n}"))
}

/// The server's end of an open WebSocket on a wire. The test is the client.
fn websocket(config: Arc<Config>) -> (Connection<Fake, MemIo, WebSocket>, Wire) {
    let (io, wire) = wire();
    let options = ServerOptions::new().deflate(Deflate::new());
    let session = Session::new(WebSocket::server(options), config, getty_driver::now::<Fake>());
    let mut connection = Connection::new(session, io);
    wire.send(
        b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
          Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    );
    Task::new(connection.opened()).finish().unwrap();
    Task::new(connection.flush()).finish().unwrap();
    assert!(wire.take_written().starts_with(b"HTTP/1.1 101"));
    (connection, wire)
}

/// A client's frame, masked with zeros.
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
        assert_eq!(connection.stats().received.messages, 10 * (waiting + 1), "received while it waited");
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
    wire.fail(ErrorKind::ConnectionReset); // unnoticed, since nothing is read after the end
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
    assert_eq!(told, ["Open", "b\"one\"", "Cron", "b\"two\"", "Eof"]);
}

#[test]
fn who_only_sends_answers_pings() {
    let (mut connection, wire) = websocket(Config::default().into());
    // The transport takes everything at once, so that the sender never waits.
    for n in 0..3u8 {
        Task::new(connection.send(Message::text("before"))).finish().unwrap();
        wire.take_written();
        wire.send(&masked(PING, &[n]));
        Task::new(connection.send(Message::text("after"))).finish().unwrap();
        assert!(wire.take_written().ends_with(&[0x8A, 1, n]), "no pong");
    }
    // The transport takes nothing for a while.
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
    assert_eq!(error.into_item().unwrap(), "item 1", "the item is given back");
    drop(feed);
    // From here on it is known, and no call waits again.
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
    // The session goes on, and receiving frees it.
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
    // The peer takes nothing, but it has not sent anything more either: it does not wait for us.
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

/// The halves are in two tasks: a slow receiver makes no send fail.
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
    // Even if the sender is polled first, the receiver is woken.
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
    assert_eq!(received, 10_000, "taking messages lets the other half receive more");
    wire.room(None);
    send.finish().unwrap();
}

/// Polls `task` once. It must stop after a bounded amount of work, though there is always more, and yield
/// once.
#[track_caller]
fn yields_once<F: Future>(what: &str, task: &mut Task<F>) {
    let yields = fake::yields();
    assert!(task.poll().is_pending(), "{what}: it must not be done");
    assert!(task.is_woken(), "{what}: it must not wait");
    assert_eq!(fake::yields() - yields, 1, "{what}");
}

#[test]
fn who_receives_without_end_yields() {
    let (mut connection, wire) = connection(Config::default().into());
    wire.endless(Some(frame(b"12").repeat(1000)));
    let received = Cell::new(0);
    let mut task = Task::new(async {
        while connection.recv().await.unwrap().is_some() {
            received.set(received.get() + 1);
        }
    });
    for polls in 1..10 {
        yields_once("recv", &mut task);
        assert_eq!(received.get(), 128 * polls);
    }
    // Of these large messages, one fills a turn.
    drop(task);
    wire.endless(Some(frame(&[b'x'; 1 << 20])));
    let mut task = Task::new(async { while connection.next().await.unwrap().is_ok() {} });
    for _ in 0..5 {
        yields_once("next", &mut task);
    }
    drop(task);
    let stats = connection.stats();
    assert!(stats.received.bytes < 6 << 20, "{stats}");
}

#[test]
fn who_has_something_to_do_without_end_yields() {
    // Messages received ahead need no transport.
    let (mut connection, wire) = connection(Config::default().into());
    wire.room(0);
    wire.send(&frame(b"12").repeat(10_000));
    Task::new(connection.send(item(1))).settle();
    assert_eq!(connection.stats().received.messages, 10_000);
    let received = Cell::new(0);
    let mut task = Task::new(async {
        while connection.recv().await.unwrap().is_some() {
            received.set(received.get() + 1);
        }
    });
    for polls in 1..10 {
        yields_once("recv", &mut task);
        assert_eq!(received.get(), 128 * polls);
    }
    drop(task);
    // The peer takes everything at once.
    wire.room(None);
    let mut task = Task::new(async {
        loop {
            connection.feed(item(1)).await.unwrap();
            connection.flush().await.unwrap();
        }
    });
    for _ in 0..10 {
        yields_once("send", &mut task);
        assert!(wire.take_frames().len() <= 130);
    }
    // The peer sends and takes nothing, which it may do until the queue is full.
    drop(task);
    let (mut connection, wire) = self::connection(Config::default().into());
    wire.room(0);
    wire.endless(Some(frame(&[b'x'; 1000]).repeat(50)));
    let mut task = Task::new(connection.send(item(1)));
    for _ in 0..10 {
        yields_once("waiting to send", &mut task);
    }
    drop(task);
    assert!(connection.stats().received.bytes < 13 << 20);
}

/// A compressed message.
fn compressed(payload: &[u8]) -> Vec<u8> {
    let mut data = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    data.write_all(payload).unwrap();
    data.flush().unwrap();
    let data = data.get_ref();
    Frame::binary(&data[..data.len() - 4]).rsv(4).masked([1, 2, 3, 4]).bytes()
}

/// Whatever a WebSocket peer sends without end, one poll takes a bounded part of it.
#[test]
fn what_is_no_message_is_bounded_too() {
    const READ: u64 = 128 * 1024;
    let ping = masked(PING, b"");
    let fragments = [masked(0x02, b""), masked(0x00, b"").repeat(1000), masked(0x80, b"")].concat();
    // (name, bytes, the most bytes that one poll may read, the most messages that it may bring)
    let kinds = [
        ("pings", ping.repeat(20_000), 4096 * 6 + READ, 0),
        ("fragments", fragments.repeat(20), 4096 * 6 + READ, 128),
        ("compressed", compressed(&[0; 100_000]).repeat(50), 1 << 20, 11),
    ];
    for (name, bytes, most, messages) in kinds {
        for waits in [false, true] {
            let (mut connection, wire) = websocket(Config::default().into());
            if waits {
                wire.room(0);
            }
            wire.endless(Some(bytes.clone()));
            let received = Cell::new(0);
            let mut task = Task::new(async {
                if waits {
                    connection.send(Message::text("x")).await.unwrap();
                }
                while connection.recv().await.unwrap().is_some() {
                    received.set(received.get() + 1);
                }
            });
            for polls in 1..6 {
                yields_once(name, &mut task);
                assert!(received.get() <= polls * messages, "{name}: {} in {polls} polls", received.get());
            }
            drop(task);
            let stats = connection.stats();
            assert!(stats.received.bytes <= 6 * most, "{name}: {stats}");
            assert!(stats.received.messages <= 5 * messages, "{name}: {stats}");
        }
    }
}

#[test]
fn a_large_message_takes_several_polls() {
    const SIZE: usize = 8 << 20;
    let large = || Message::binary(vec![0; SIZE]);
    for is_full in [false, true] {
        let (mut connection, wire) = websocket(config(|c| c.receive_ahead(1000)));
        if is_full {
            wire.room(0);
            wire.send(&masked(0x82, &[7; 100]).repeat(100));
            Task::new(connection.send(Message::text("x"))).settle();
            wire.room(None);
        }
        let mut send = Task::new(connection.send(large()));
        let yields = fake::yields();
        send.finish().unwrap();
        // A piece of 64 KiB each.
        assert!(send.polls >= 128 && fake::yields() - yields >= 127, "{} polls", send.polls);
        drop(send);
        let sent = Frame::parse_all(&wire.take_written());
        assert_eq!((sent.len(), sent.last().unwrap().rsv), (1 + usize::from(is_full), 4));
    }
    let (mut connection, wire) = websocket(Config::default().into());
    wire.send(&compressed(&[0; SIZE]));
    let mut receive = Task::new(connection.recv());
    assert!(receive.finish().unwrap() == Some(large()));
    assert!(receive.polls >= 8, "{} polls", receive.polls);
}

#[test]
fn who_closes_while_the_peer_goes_on_yields() {
    let (mut connection, wire) = connection(Config::default().into());
    wire.endless(Some(vec![0; 1 << 17]));
    let mut close = Task::new(connection.close(Close::graceful()));
    for _ in 0..5 {
        yields_once("close", &mut close);
    }
    drop(close);
    let stats = connection.stats();
    assert!(stats.received.bytes <= 5 * (5 << 18), "{stats}");
    // A single poll begins the close, however much work was done before.
    let (mut connection, _wire) = self::connection(Config::default().into());
    Task::new(async {
        for _ in 0..128 {
            connection.flush().await.unwrap();
        }
    })
    .finish();
    assert!(Task::new(connection.close(Close::graceful())).poll().is_pending());
    assert!(matches!(Task::new(connection.feed(item(1))).finish(), Err(SendError::Closed(_))));
}

/// A connection to a peer that sends without end.
async fn flood<R: TestRuntime>() -> Connection<R, R::TcpStream, Plain> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let bytes = frame(b"12345678").repeat(10_000);
        let mut stream = listener.accept().unwrap().0;
        while stream.write_all(&bytes).is_ok() {}
    });
    connect::<R>(address).await
}

fn a_flood_does_not_keep_others_of_the_task_waiting<R: TestRuntime>() {
    R::block_on(async {
        let mut client = flood::<R>().await;
        let (received, polls, most) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let receiving = async {
            for _ in 0..100_000 {
                client.recv().await.unwrap().unwrap();
                received.set(received.get() + 1);
            }
        };
        let other = std::future::poll_fn(|_| {
            most.set(most.get().max(received.take()));
            polls.set(polls.get() + 1);
            Poll::<()>::Pending
        });
        select(pin!(receiving), pin!(other)).await;
        let most = most.get().max(received.get());
        assert!(most <= 128, "{most} messages in a row");
        assert!(polls.get() >= 100_000 / 128);
    });
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

/// Each half goes on once the other has made that possible, however little may be received ahead.
fn two_tasks_send_and_receive_a_lot<R: TestRuntime>() {
    R::block_on(async {
        const MESSAGES: u32 = 1000;
        let message = |n: u32| Bytes::from([&n.to_be_bytes()[..], &[b'x'; 20_000]].concat());
        let server = serve::<R>(|| Recorder::echo().0).await;
        for limit in [1, 100_000, 10_000_000] {
            let client = Client::<R>::builder().config(config(|c| c.receive_ahead(limit)));
            let address = server.local_addr().to_string();
            let client = client.tcp_connection(&address, Framed::new(LengthDelimited::new())).await.unwrap();
            let (mut sink, mut stream) = client.split();
            R::spawn(async move {
                for n in 0..MESSAGES {
                    sink.feed(message(n)).await.unwrap();
                }
                SinkExt::<Bytes>::flush(&mut sink).await.unwrap();
            });
            for n in 0..MESSAGES {
                assert_eq!(stream.next().await.unwrap().unwrap(), message(n), "{limit}");
            }
        }
    });
}

/// Connections at both ends of a stream.
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
        assert!(told.iter().sum::<u32>() > 0, "64 MB each way is more than the sockets hold");
    });
}

on_every_runtime!(
    twenty_thousand_sends_and_then_the_answers,
    two_tasks_send_and_receive_a_lot,
    two_ends_send_a_lot_before_they_receive,
    two_ends_that_send_too_much_are_told_and_go_on,
    a_flood_does_not_keep_others_of_the_task_waiting,
);

fn twenty_thousand_sends_and_then_the_answers<R: TestRuntime>() {
    R::block_on(many_sends_and_then_the_answers::<R>());
}
