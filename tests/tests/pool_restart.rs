//! A pool whose server is killed and started again: what became of every message is known, and adds up.
#![cfg(target_os = "linux")]

mod killed_common;

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use getty_core::Backoff;
use getty_core::codec::LengthDelimited;
use getty_tokio::{Client, Context, Items, Listener, NotFlushed, Pool, PoolOptions, Server};
use killed_common::{Receiver, Written, free_address, serve_until_killed};

const SESSIONS: usize = 100;
const CAP: Duration = Duration::from_millis(500);

/// Writes down what came, then answers.
struct Desk(Written);

impl Listener<Items<Bytes>> for Desk {
    fn on_message(&mut self, cx: &mut Context<'_, Items<Bytes>>, message: Bytes) {
        let line = format!("{}\n", message.clone().get_u64());
        self.0.lock().unwrap().write_all(line.as_bytes()).unwrap();
        let _ = cx.send(message);
    }
}

#[test]
fn receiver() {
    let Some((address, written)) = killed_common::role() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let desk = move || Desk(written.clone());
        let _server = Server::builder().tcp(&address, LengthDelimited::new, desk).await.unwrap();
        serve_until_killed().await;
    });
}

/// Counts what comes back.
struct Acknowledged(Arc<AtomicU64>);

impl Listener<Items<Bytes>> for Acknowledged {
    fn on_message(&mut self, _: &mut Context<'_, Items<Bytes>>, _: Bytes) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What became of the messages, by their numbers.
#[derive(Debug, Default)]
struct Account {
    flushed: Vec<u64>,
    unsent: Vec<u64>,
    unknown: Vec<u64>,
}

/// Sends by one session after the other, each message as a task of its own, for `time`.
async fn load(pool: &Arc<Pool<Bytes>>, next: &mut u64, time: Duration, account: &Arc<Mutex<Account>>) {
    let mut tasks = Vec::new();
    let end = Instant::now() + time;
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    while Instant::now() < end {
        tick.tick().await;
        let Some(handle) = pool.get() else { continue };
        let (number, account) = (*next, account.clone());
        *next += 1;
        tasks.push(tokio::spawn(async move {
            let message = Bytes::from([&number.to_be_bytes()[..], &[0; 100]].concat());
            let fate = handle.send_flushed(message).await;
            let mut account = account.lock().unwrap();
            match fate {
                Ok(_) => account.flushed.push(number),
                Err(NotFlushed::Partly(_) | NotFlushed::Unknown(_)) => account.unknown.push(number),
                Err(_) => account.unsent.push(number),
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

fn count(path: &str) -> usize {
    fs::read_dir(path).unwrap().count()
}

#[test]
fn every_message_is_accounted_for_and_nothing_leaks() {
    let kills: u32 = std::env::var("GETTY_KILLS").map_or(3, |kills| kills.parse().unwrap());
    let file = std::env::temp_dir().join(format!("getty-pool-restart-{}", std::process::id()));
    let address = free_address();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (account, acknowledged) = (Arc::default(), Arc::new(AtomicU64::new(0)));
        let mut receiver = Receiver::start(&address, &file);
        let backoff = Backoff::new().first(Duration::from_millis(50)).cap(CAP);
        let options = PoolOptions::new().sessions(SESSIONS).backoff(backoff);
        let counted = acknowledged.clone();
        let listener = move || Acknowledged(counted.clone());
        let builder = Client::builder().pool(options);
        let pool = Arc::new(builder.tcp([address.clone()], LengthDelimited::new, listener).unwrap());
        pool.wait_all(Duration::from_secs(60)).await.unwrap();
        let (descriptors, threads) = (count("/proc/self/fd"), count("/proc/self/task"));
        let (mut next, mut slowest) = (0, Duration::ZERO);
        for _ in 0..kills {
            let (loaded, ()) = tokio::join!(
                load(&pool, &mut next, Duration::from_millis(400), &account),
                async {
                    tokio::time::sleep(Duration::from_millis(200)).await; // in the middle of it
                    drop(receiver);
                }
            );
            let () = loaded;
            receiver = Receiver::start(&address, &file);
            let started = Instant::now();
            pool.wait_all(Duration::from_secs(60)).await.unwrap();
            slowest = slowest.max(started.elapsed());
        }
        load(&pool, &mut next, Duration::from_millis(100), &account).await;
        assert_eq!(count("/proc/self/task"), threads, "threads");
        assert!(count("/proc/self/fd") <= descriptors + 5, "descriptors: {descriptors} before");
        let closed = pool.close(Duration::from_secs(10)).await;
        assert_eq!(closed.aborted, 0);
        drop(receiver);

        let Account { flushed, unsent, unknown } = &*account.lock().unwrap();
        let acknowledged = acknowledged.load(Ordering::Relaxed);
        println!(
            "sent {next}: flushed {}, given back {}, unknown {}; acknowledged {acknowledged}; all sessions back after \
             {slowest:?} at the most, with a cap of {CAP:?}",
            flushed.len(),
            unsent.len(),
            unknown.len()
        );
        assert_eq!((flushed.len() + unsent.len() + unknown.len()) as u64, next, "it adds up");
        let text = fs::read_to_string(&file).unwrap();
        fs::remove_file(&file).unwrap();
        let came: HashSet<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert!(unsent.iter().all(|number| !came.contains(number)), "what was given back was not received");
        assert!(acknowledged <= came.len() as u64, "what was not received was not acknowledged");
        assert!(!flushed.is_empty() && came.len() <= flushed.len() + unknown.len());
    });
}
