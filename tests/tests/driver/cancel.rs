//! Futures that are dropped before they are ready: nothing is lost, doubled or cut.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use getty_core::{Close, Config};
use getty_driver::Connection;
use testkit::Rng;

use crate::driver_common::fake::{self, FakeSpawner};
use crate::driver_common::runtimes::{TestRuntime, connect, serve, sleep};
use crate::driver_common::task::Task;
use crate::driver_common::wire::{Answer, Op};
use crate::driver_common::*;
use crate::on_every_runtime;

/// Polls `future` until it has waited `waits` times, with `between` after each wait, and then drops it.
/// Returns its output if it was ready before that.
fn dropped_after<F: Future>(future: F, waits: usize, mut between: impl FnMut()) -> Option<F::Output> {
    let mut task = Task::new(future);
    for _ in 0..=waits {
        if let Poll::Ready(output) = task.run() {
            return Some(output);
        }
        between();
    }
    None
}

#[test]
fn receiving_is_dropped_at_every_wait() {
    let wire_bytes: Vec<u8> = (0..20).flat_map(|n: usize| frame(&vec![b'a' + n as u8; n])).collect();
    for waits in 0..12 {
        let (mut connection, wire) = connection(Config::default().into());
        let mut left = wire_bytes.chunks(3);
        let mut got = Vec::new();
        while got.len() < 20 {
            let feed_some = || left.by_ref().take(2).for_each(|piece| wire.send(piece));
            if let Some(message) = dropped_after(connection.recv(), waits, feed_some) {
                got.push(message.unwrap().unwrap().to_vec());
            }
        }
        assert_eq!(got, (0..20).map(|n: usize| vec![b'a' + n as u8; n]).collect::<Vec<_>>(), "{waits} waits");
    }
}

#[test]
fn sending_is_dropped_at_every_wait() {
    for waits in 0..12 {
        let (mut connection, wire) = connection(config(|c| c.watermarks(10, 20)));
        wire.room(0);
        wire.answer(Op::Flush, Answer::Pending);
        let mut accepted = Vec::new();
        for n in 0..50 {
            let item = Bytes::from(format!("item {n}"));
            let before = connection.stats().progress.accepted;
            let give_room = || wire.room(7);
            match n % 3 {
                0 => drop(dropped_after(connection.send(item), waits, give_room)),
                1 => drop(dropped_after(connection.feed(item), waits, give_room)),
                _ => drop(dropped_after(connection.flush(), waits, give_room)),
            }
            if connection.stats().progress.accepted > before {
                accepted.push(format!("item {n}"));
            }
        }
        wire.room(None);
        Task::new(connection.flush()).finish().unwrap();
        assert_eq!(
            wire.take_frames(),
            accepted,
            "{waits} waits: every accepted item, whole, once and in order"
        );
        assert!(waits == 0 || !accepted.is_empty());
    }
}

#[test]
fn what_comes_while_sending_is_dropped_is_kept() {
    for waits in 0..12 {
        let (mut connection, wire) = connection(config(|c| c.watermarks(10, 20)));
        wire.room(0);
        let wire_bytes: Vec<u8> = (0..60).flat_map(|n| frame(format!("item {n}").as_bytes())).collect();
        let mut left = wire_bytes.chunks(5);
        let mut got = Vec::new();
        for n in 0..60 {
            let something_happens = || {
                left.by_ref().take(2).for_each(|piece| wire.send(piece));
                wire.room(usize::from(n % 4 == 0));
            };
            match n % 4 {
                0 => drop(dropped_after(connection.send(Bytes::from("sent")), waits, something_happens)),
                1 => drop(dropped_after(connection.feed(Bytes::from("fed")), waits, something_happens)),
                2 => drop(dropped_after(connection.flush(), waits, something_happens)),
                _ => got.extend(dropped_after(connection.recv(), waits, something_happens)),
            }
        }
        left.for_each(|piece| wire.send(piece));
        while got.len() < 60 {
            got.push(Task::new(connection.recv()).finish());
        }
        let expected: Vec<_> = (0..60).map(|n| format!("item {n}")).collect();
        let got: Vec<_> = got.into_iter().map(|message| message.unwrap().unwrap()).collect();
        assert_eq!(got, expected, "{waits} waits: whole, once and in order");
    }
}

#[test]
fn closing_is_dropped_at_every_wait() {
    for waits in 0..6 {
        let (mut connection, wire) = connection(Config::default().into());
        wire.room(0);
        Task::new(connection.feed(Bytes::from("last words"))).finish().unwrap();
        let mut room = 0;
        let some_room = || {
            room += 1;
            wire.room(room);
        };
        drop(dropped_after(connection.close(Close::graceful()), waits, some_room));
        wire.room(None);
        let mut close = Task::new(connection.close(Close::graceful()));
        close.settle();
        wire.eof();
        assert!(close.finish().is_clean());
        assert_eq!(wire.take_frames(), ["last words"]);
    }
}

#[test]
fn a_handles_futures_are_dropped_at_every_wait() {
    for waits in 0..6 {
        let (connection, wire) = connection(config(|c| c.handle_queue(2).watermarks(10, 20)));
        let (handle, mut receiver) = connection.spawn(&FakeSpawner);
        wire.room(0);
        let mut posted = Vec::new();
        for n in 0..60 {
            let item = format!("item {n}");
            let step = || {
                wire.room(9);
                fake::run();
            };
            let certain = match n % 2 {
                0 => dropped_after(handle.send(item.clone().into()), waits, step).is_some(),
                // An item whose future is dropped may have been posted already.
                _ => dropped_after(handle.send_flushed(item.clone().into()), waits, step).is_some(),
            };
            posted.push((item, certain));
        }
        wire.room(None);
        fake::run();
        let arrived = wire.take_frames();
        let mut rest = arrived.iter();
        for (item, certain) in &posted {
            let mut ahead = rest.clone();
            match ahead.next() {
                Some(next) if next == item => rest = ahead,
                _ => assert!(
                    !certain,
                    "{waits} waits: {item} is missing, out of order or doubled in {arrived:?}"
                ),
            }
        }
        assert_eq!(rest.next(), None, "only sent items arrive");
        // The receiving half must lose nothing either.
        let mut got = 0;
        while got < 10 {
            let feed = || {
                wire.send_frame("message");
                fake::run();
            };
            got += usize::from(dropped_after(receiver.recv(), waits, feed).is_some());
        }
    }
}

on_every_runtime!(a_select_loop_with_random_drops_echoes_everything_once);

/// Select loops at both ends of an echo drop their futures all the time, over real sockets.
fn a_select_loop_with_random_drops_echoes_everything_once<R: TestRuntime>() {
    const MESSAGES: usize = 5000;
    R::block_on(async {
        let server = serve::<R>(|| recorder::Recorder::echo().0).await;
        let mut client: Connection<R, R::TcpStream, Plain> = connect(server.local_addr()).await;
        let mut rng = Rng::new(7);
        let (mut sent, mut got, mut dropped) = (0_usize, 0_usize, 0_usize);
        while got < MESSAGES {
            if sent < MESSAGES && sent - got < 500 && rng.below(3) > 0 {
                let item = Bytes::from(vec![b'0' + (sent % 10) as u8; 8 + sent % 2000]);
                // `feed` is dropped with its item or has sent it: the count shows which.
                let before = client.stats().progress.accepted;
                drop(select(pin!(client.feed(item)), pin!(sleep::<R>(Duration::ZERO))).await);
                sent += usize::from(client.stats().progress.accepted > before);
            }
            let turns = rng.below(4);
            let result = match select(pin!(client.recv()), pin!(yields(turns))).await {
                Either::Left((message, _)) => Some(message),
                Either::Right(_) => None,
            };
            match result {
                Some(message) => {
                    let message = message.unwrap().unwrap();
                    assert_eq!(message, vec![b'0' + (got % 10) as u8; 8 + got % 2000], "message {got}");
                    got += 1;
                }
                None => dropped += 1,
            }
        }
        assert_eq!(sent, MESSAGES);
        assert!(dropped > 100, "{dropped}");
    });
}

/// Becomes ready after `turns` polls.
async fn yields(turns: usize) {
    for _ in 0..turns {
        let mut first = true;
        std::future::poll_fn(|cx| {
            if std::mem::take(&mut first) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }
}
