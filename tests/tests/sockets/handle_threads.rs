//! Handles used from many threads at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::join_all;
use getty_core::codec::LengthDelimited;
use getty_core::{Close, Framed};
use getty_driver::{Handle, Server};

use crate::driver_common::recorder::{Happening, Log, Recorder, Then};
use crate::driver_common::runtimes::{TestRuntime, client, connect, serve, until};
use crate::driver_common::task::Task;
use crate::driver_common::*;
use crate::on_every_runtime;

on_every_runtime!(
    all_that_is_sent_arrives_in_each_senders_order,
    waiting_for_the_flush_does_not_lock_up,
    sends_race_with_the_end,
    a_busy_poster_does_not_starve_a_reader
);

/// A server that only notes messages, with the handle of a client and the server's log.
async fn pair<R: TestRuntime>() -> (Server<R>, Handle<Bytes>, Log) {
    let (_, log) = Recorder::quiet();
    let server_log = log.clone();
    let server = serve::<R>(move || Recorder::quiet().0.log_to(&server_log)).await;
    let client = client::<R>().config(config(|c| c.handle_queue(8).watermarks(500, 1000)));
    let handle = client
        .tcp(&server.local_addr().to_string(), Framed::new(LengthDelimited::new()), Recorder::quiet().0)
        .await
        .unwrap();
    (server, handle, log)
}

fn all_that_is_sent_arrives_in_each_senders_order<R: TestRuntime>() {
    const SENDERS: usize = 50;
    const ITEMS: usize = 100;
    R::block_on(async {
        let (_server, handle, log) = pair::<R>().await;
        for sender in 0..SENDERS {
            let handle = handle.clone();
            R::spawn(async move {
                for n in 0..ITEMS {
                    let item = Bytes::from(format!("{sender} {n}"));
                    match n % 3 {
                        0 => drop(handle.send_flushed(item).await.unwrap()),
                        _ => handle.send(item).await.unwrap(),
                    }
                }
            });
        }
        until::<R>("all messages have come", || log.count("on_message") == SENDERS * ITEMS).await;
        let mut next = [0; SENDERS];
        for event in log.take().iter().filter_map(|event| event.strip_prefix("on_message: ")) {
            let (sender, n) = event.split_once(' ').unwrap();
            let next = &mut next[sender.parse::<usize>().unwrap()];
            assert_eq!(n.parse::<usize>().unwrap(), *next, "sender {sender}");
            *next += 1;
        }
        assert_eq!(next, [ITEMS; SENDERS]);
    });
}

fn waiting_for_the_flush_does_not_lock_up<R: TestRuntime>() {
    R::block_on(async {
        let (_server, handle, log) = pair::<R>().await;
        for _ in 0..8 {
            let handle = handle.clone();
            R::spawn(async move {
                for n in 0..4000_u32 {
                    handle.send_flushed(Bytes::from(n.to_string())).await.unwrap();
                }
            });
        }
        until::<R>("all messages have come", || log.count("on_message") == 8 * 4000).await;
    });
}

fn sends_race_with_the_end<R: TestRuntime>() {
    R::block_on(async {
        for round in 0..60 {
            let (_server, handle, log) = pair::<R>().await;
            let outcomes = (0..8).map(|sender| {
                let handle = handle.clone();
                let (tell, told) = futures::channel::oneshot::channel();
                R::spawn(async move {
                    let mut flushed = 0;
                    while handle.send_flushed(Bytes::from(format!("{sender}"))).await.is_ok() {
                        flushed += 1;
                    }
                    tell.send(flushed).unwrap();
                });
                told
            });
            let outcomes: Vec<_> = outcomes.collect();
            until::<R>("it runs", || log.count("on_message") > 10).await;
            handle.close(if round % 2 == 0 { Close::graceful() } else { Close::abort() });
            let flushed: usize = join_all(outcomes).await.into_iter().map(Result::unwrap).sum();
            let reason = handle.closed().await;
            if round % 2 == 0 {
                assert!(reason.is_clean(), "{reason}");
                until::<R>("the server is done", || log.count("on_close") == 1).await;
                let came = log.count("on_message");
                assert!(flushed <= came);
            }
        }
    });
}

/// Senders check the outcomes of their items at the very moment in which the driver reports them.
#[test]
fn a_fate_is_read_while_it_is_told() {
    const ROUNDS: usize = 100;
    const ITEMS: usize = 200;
    let rounds = Arc::new(AtomicUsize::new(0));
    let count = rounds.clone();
    let driving = std::thread::spawn(move || {
        let (listener, _log) = Recorder::quiet();
        let (mut task, wire) = driver(Default::default(), listener);
        let handle = task.get_mut().handle();
        task.settle();
        let done = count.clone();
        let sending = std::thread::spawn(move || {
            for _ in 0..ROUNDS {
                let mut sends: Vec<_> =
                    (0..ITEMS).map(|_| Task::new(handle.send_flushed(Bytes::new()))).collect();
                // The driver may have room left from the round before, so the first items may be done at
                // once.
                sends.retain_mut(|send| send.run().is_pending());
                while !sends.is_empty() {
                    sends.retain_mut(|send| send.poll().is_pending());
                }
                done.fetch_add(1, Ordering::SeqCst);
            }
        });
        for round in 1..=ROUNDS {
            wire.room(0);
            while task.get_mut().handle().stats().progress.accepted.map_or(0, |seq| seq.get())
                < (round * ITEMS) as u64
            {
                task.settle();
                std::thread::yield_now();
            }
            // A few outcomes at a time: all senders check again while the next ones are reported.
            while count.load(Ordering::SeqCst) < round {
                wire.room(4 * 5);
                task.settle();
            }
        }
        sending.join().unwrap();
    });
    let mut before = usize::MAX;
    while !driving.is_finished() {
        let now = rounds.load(Ordering::SeqCst);
        assert_ne!(now, before, "sender and driver must not wait for each other");
        before = now;
        // Long enough for a loaded machine, but not longer than it takes.
        (0..500).take_while(|_| !driving.is_finished()).for_each(|_| std::thread::sleep(MS * 20));
    }
    driving.join().unwrap();
}

fn a_busy_poster_does_not_starve_a_reader<R: TestRuntime>() {
    R::block_on(async {
        let (listener, log) = Recorder::new(|cx, happening| {
            if let Happening::Message(_) = happening {
                let _ = cx.send(Bytes::from("answer"));
            }
            Then::Default
        });
        let listener = Arc::new(std::sync::Mutex::new(Some(listener)));
        let server =
            serve::<R>(move || listener.lock().unwrap().take().unwrap_or_else(|| Recorder::quiet().0));
        let server = server.await;
        let mut client = connect::<R>(server.local_addr()).await;
        client.send(Bytes::from("ask")).await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), "answer");
        assert_eq!(log.count("on_message"), 1);
    });
}
