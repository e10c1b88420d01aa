//! A pool whose server is killed and restarted: the outcome of every message is known, and the numbers add
//! up.
#![cfg(target_os = "linux")]

mod driver_common;
mod killed_common;

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use driver_common::descriptors::descriptors;
use driver_common::runtimes::{TestRuntime, client, server, sleep, until};
use getty_core::codec::LengthDelimited;
use getty_core::{Backoff, framed};
use getty_driver::{Context, Handle, Items, Listener, NotFlushed, Pool, PoolOptions};
use killed_common::{Receiver, Written, free_address, serve_until_killed};

const SESSIONS: usize = 100;
const CAP: Duration = Duration::from_millis(500);

/// Notes each message, then sends it back.
struct Desk(Written);

impl Listener<Items<Bytes>> for Desk {
    fn on_message(&mut self, cx: &mut Context<'_, Items<Bytes>>, message: Bytes) {
        let line = format!("{}\n", message.clone().get_u64());
        self.0.lock().unwrap().write_all(line.as_bytes()).unwrap();
        let _ = cx.send(message);
    }
}

on_every_runtime!(receiver);

fn receiver<R: TestRuntime>() {
    let Some((address, written)) = killed_common::role() else { return };
    R::run(async {
        let desk = move || Desk(written.clone());
        let _server = server::<R>().tcp(&address, framed(LengthDelimited::new), desk).await.unwrap();
        serve_until_killed().await;
    });
}

/// Counts the replies.
struct Acknowledged(Arc<AtomicU64>);

impl Listener<Items<Bytes>> for Acknowledged {
    fn on_message(&mut self, _: &mut Context<'_, Items<Bytes>>, _: Bytes) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Numbers of the messages, by outcome.
#[derive(Debug, Default)]
struct Account {
    flushed: Vec<u64>,
    unsent: Vec<u64>,
    unknown: Vec<u64>,
}

impl Account {
    fn total(&self) -> u64 {
        (self.flushed.len() + self.unsent.len() + self.unknown.len()) as u64
    }
}

/// Sends messages for `time`, each in a task of its own, through the sessions in turn. Ends when all outcomes
/// are known.
async fn load<R: TestRuntime>(
    pool: &Pool<R, Bytes>,
    next: &mut u64,
    time: Duration,
    account: &Arc<Mutex<Account>>,
) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        sleep::<R>(Duration::from_millis(1)).await;
        for _ in 0..5 {
            let Some(handle) = pool.get() else { break };
            let (number, account) = (*next, account.clone());
            *next += 1;
            R::spawn(send(handle, number, account));
        }
    }
    until::<R>("the outcome of each message is known", || account.lock().unwrap().total() == *next).await;
}

async fn send(handle: Handle<Bytes>, number: u64, account: Arc<Mutex<Account>>) {
    let message = Bytes::from([&number.to_be_bytes()[..], &[0; 100]].concat());
    let fate = handle.send_flushed(message).await;
    let mut account = account.lock().unwrap();
    match fate {
        Ok(_) => account.flushed.push(number),
        Err(NotFlushed::Partly(_) | NotFlushed::Unknown(_)) => account.unknown.push(number),
        Err(_) => account.unsent.push(number),
    }
}

/// Number of threads without those for blocking calls in smol and async-std, which resolve names. That pool
/// grows up to a limit of its own when many sessions connect at once, and keeps its threads.
fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    // A thread may end before it is looked at.
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| !name.starts_with("blocking-")).count()
}

/// The runtimes go one after the other, since threads and descriptors are counted for the whole process.
#[test]
fn every_message_is_accounted_for_and_nothing_leaks() {
    accounted_for::<getty_tokio::Tokio>();
    accounted_for::<getty_smol::Smol>();
    accounted_for::<getty_async_std::AsyncStd>();
}

fn accounted_for<R: TestRuntime>() {
    let kills: u32 = std::env::var("GETTY_KILLS").map_or(3, |kills| kills.parse().unwrap());
    let file = std::env::temp_dir().join(format!("getty-pool-restart-{}-{}", R::NAME, std::process::id()));
    let address = free_address();
    let start = || Receiver::start(&format!("on_{}::receiver", R::NAME), &address, &file);
    R::run(async {
        let (account, acknowledged) = (Arc::default(), Arc::new(AtomicU64::new(0)));
        let mut receiver = start();
        let backoff = Backoff::new().first(Duration::from_millis(50)).cap(CAP);
        let options = PoolOptions::new().sessions(SESSIONS).backoff(backoff);
        let counted = acknowledged.clone();
        let listener = move || Acknowledged(counted.clone());
        let builder = client::<R>().pool(options);
        let pool = builder.tcp([address.clone()], framed(LengthDelimited::new), listener).unwrap();
        pool.wait_all(Duration::from_secs(60)).await.unwrap();
        let (descriptors_before, threads_before) = (descriptors().unwrap(), threads());
        let (mut next, mut slowest) = (0, Duration::ZERO);
        for _ in 0..kills {
            futures::join!(load(&pool, &mut next, Duration::from_millis(400), &account), async {
                sleep::<R>(Duration::from_millis(200)).await; // kills the server in the middle
                drop(receiver);
            });
            receiver = start();
            let started = Instant::now();
            pool.wait_all(Duration::from_secs(60)).await.unwrap();
            slowest = slowest.max(started.elapsed());
        }
        load(&pool, &mut next, Duration::from_millis(100), &account).await;
        while account.lock().unwrap().flushed.is_empty() {
            load(&pool, &mut next, Duration::from_millis(100), &account).await; // on a busy machine
        }
        // A thread for blocking calls takes its name a moment after it has begun, so one may be counted.
        until::<R>("no more threads", || threads() <= threads_before).await;
        until::<R>("no more descriptors", || descriptors().unwrap() <= descriptors_before + 5).await;
        let closed = pool.close(Duration::from_secs(10)).await;
        assert_eq!(closed.aborted, 0);
        drop(receiver);

        let account = account.lock().unwrap();
        let Account { flushed, unsent, unknown } = &*account;
        let acknowledged = acknowledged.load(Ordering::Relaxed);
        println!(
            "{}: sent {next}: flushed {}, given back {}, unknown {}; acknowledged {acknowledged}; all sessions back \
             after at most {slowest:?}, with a cap of {CAP:?}; {threads_before} threads",
            R::NAME,
            flushed.len(),
            unsent.len(),
            unknown.len()
        );
        assert_eq!(account.total(), next, "the outcomes add up");
        let text = fs::read_to_string(&file).unwrap();
        fs::remove_file(&file).unwrap();
        let came: HashSet<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert!(unsent.iter().all(|number| !came.contains(number)), "an unsent message was received");
        assert!(acknowledged <= came.len() as u64, "more messages were acknowledged than received");
        assert!(!flushed.is_empty() && came.len() <= flushed.len() + unknown.len());
    });
}
