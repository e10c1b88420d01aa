//! Pools on an exact clock: when they reconnect, in which order things happen, and the outcome of items.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use getty_core::codec::LengthDelimited;
use getty_core::{Backoff, Close, SendError, framed};
use getty_driver::{Client, NotReadyWhy, Pool, PoolOptions, Runtime, Select};

use crate::driver_common::fake::{self, Fake};
use crate::driver_common::recorder::{Log, Recorder};
use crate::driver_common::task::Task;
use crate::driver_common::wire::{Wire, wire};
use crate::driver_common::*;

const ONE: &str = "192.0.2.1:7";
const TWO: &str = "192.0.2.2:7";
const THREE: &str = "192.0.2.3:7";

/// A pool to `addresses`, whose listeners share one log.
fn pool(addresses: &[&str], options: PoolOptions) -> (Pool<Fake, Bytes>, Log) {
    pool_of(Client::builder(), addresses, options)
}

fn pool_of(
    client: getty_driver::ClientBuilder<Fake>,
    addresses: &[&str],
    options: PoolOptions,
) -> (Pool<Fake, Bytes>, Log) {
    let log = Log::default();
    let kept = log.clone();
    let listener = move || Recorder::quiet().0.log_to(&kept);
    let pool =
        client.pool(options).tcp(addresses.iter().copied(), framed(LengthDelimited::new), listener).unwrap();
    fake::run();
    (pool, log)
}

/// Lets the next attempt to connect succeed. Returns the server's end.
fn accept() -> Wire {
    let (io, wire) = wire();
    fake::connects(Ok(io));
    fake::run();
    wire
}

fn refuse() {
    fake::connects(Err(ErrorKind::ConnectionRefused.into()));
    fake::run();
}

/// Waits for the next attempt to connect. Returns how long that took.
async fn next_attempt(pool: &Pool<Fake, Bytes>) -> Duration {
    assert_eq!(fake::take_attempts(), []);
    let until = pool.stats().addresses[0].rests_until.expect("the address rests");
    let wait = until - Fake::now();
    fake::sleep(wait - wait.min(MS)).await;
    fake::run();
    assert_eq!(fake::take_attempts(), [], "too early");
    fake::sleep(until - Fake::now()).await;
    fake::run();
    assert_eq!(fake::take_attempts().len(), 1);
    wait
}

#[test]
fn the_first_session_is_usable_while_others_are_under_way() {
    fake::block_on(async {
        let (pool, log) = pool(&[ONE], PoolOptions::new().sessions(3));
        assert_eq!(fake::take_attempts().len(), 3, "all at once");
        assert!(pool.get().is_none());
        let server = accept();
        pool.wait_ready(Duration::ZERO).await.unwrap();
        pool.try_send(Bytes::from("hello")).unwrap();
        fake::run();
        assert_eq!(server.take_frames(), ["hello"]);
        let stats = pool.stats();
        assert_eq!((stats.open, stats.connecting, stats.waiting), (1, 2, 0));
        let error = pool.wait_all(secs(1)).await.unwrap_err();
        assert_eq!((error.open, error.wanted), (1, 3));
        let _servers = [accept(), accept()];
        pool.wait_all(Duration::ZERO).await.unwrap();
        assert_eq!((pool.sessions().len(), log.count("on_open")), (3, 3));
    });
}

#[test]
fn on_close_comes_before_anything_is_connected_again() {
    fake::block_on(async {
        let (pool, log) = pool(&[ONE], PoolOptions::new());
        let server = accept();
        fake::take_attempts();
        server.fail(ErrorKind::ConnectionReset);
        fake::run();
        assert_eq!(log.take(), ["on_open", "on_close: transport: connection reset"]);
        assert_eq!(fake::take_attempts(), [], "it waits before it reconnects");
        next_attempt(&pool).await;
        assert!(log.is_empty());
    });
}

#[test]
fn waits_grow_to_the_cap_and_shrink_after_a_stable_session() {
    fake::block_on(async {
        let backoff = Backoff::new().first(secs(1)).cap(secs(8)).stable_after(secs(60));
        let mut longest = [Duration::ZERO; 12];
        let mut after_short = Duration::ZERO;
        for _ in 0..40 {
            let (pool, _) = pool(&[ONE], PoolOptions::new().backoff(backoff.clone()));
            fake::take_attempts();
            for longest in &mut longest {
                refuse();
                *longest = next_attempt(&pool).await.max(*longest);
            }
            assert_eq!(pool.stats().addresses[0].failures, 12);
            // A short session does not reset the wait.
            let server = accept();
            server.eof();
            fake::run();
            assert_eq!(pool.stats().addresses[0].failures, 13);
            after_short = next_attempt(&pool).await.max(after_short);
            // A session that stays does.
            let server = accept();
            fake::sleep(secs(60)).await;
            server.eof();
            fake::run();
            assert_eq!(pool.stats().addresses[0].failures, 1);
            assert!(next_attempt(&pool).await <= secs(1));
            drop(pool);
            fake::run();
        }
        for (failures, longest) in longest.iter().enumerate() {
            let ceiling = secs(1 << failures.min(3));
            assert!(*longest <= ceiling, "{failures}: {longest:?}");
            assert!(*longest > ceiling / 2, "{failures}: {longest:?}");
        }
        assert!(after_short > secs(4));
    });
}

#[test]
fn an_address_is_given_up_after_so_many_attempts() {
    fake::block_on(async {
        let options = PoolOptions::new().sessions(2).backoff(Backoff::new().max_attempts(2));
        let (pool, _) = pool(&[ONE, TWO], options);
        for _ in 0..10 {
            fake::connects(Err(ErrorKind::ConnectionRefused.into()));
        }
        let start = Fake::now();
        let error = pool.wait_ready(secs(60)).await.unwrap_err();
        assert_eq!(error.why, NotReadyWhy::GivenUp);
        assert!(Fake::now() - start < secs(1), "it does not wait in vain");
        // A session whose first attempt fails may try the other address before that has failed too.
        assert!((4..=5).contains(&fake::take_attempts().len()));
        assert_eq!(
            error.to_string(),
            format!(
                "0 of 2 sessions are open, and every address is given up: {ONE}: connection refused; {TWO}: connection refused"
            )
        );
        assert!(matches!(pool.try_send(Bytes::from("x")), Err(SendError::Closed(item)) if item == "x"));
        assert!(matches!(pool.send(Bytes::from("x")).await, Err(SendError::Closed(item)) if item == "x"));
        fake::sleep(secs(3600)).await;
        assert_eq!(fake::take_attempts(), []);
    });
}

#[test]
fn a_wait_that_is_too_long_says_what_went_wrong() {
    fake::block_on(async {
        let (pool, _) = pool(&["nonsense", TWO], PoolOptions::new().sessions(2));
        let start = Fake::now();
        let error = pool.wait_ready(secs(2)).await.unwrap_err();
        assert_eq!(Fake::now() - start, secs(2));
        assert_eq!(
            error.to_string(),
            format!("0 of 2 sessions are open after 2s: nonsense: entity not found; {TWO}: no answer yet")
        );
    });
}

/// The message names three sessions, however many are waited for.
#[test]
fn a_wait_that_is_too_long_says_how_many_sessions_there_are_to_be() {
    fake::block_on(async {
        let (pool, _) = pool(&[ONE, TWO, THREE], PoolOptions::new().sessions(3));
        let addresses = format!("{ONE}: no answer yet; {TWO}: no answer yet; {THREE}: no answer yet");
        let ready = pool.wait_ready(secs(1)).await.unwrap_err();
        assert_eq!(ready.to_string(), format!("0 of 3 sessions are open after 1s: {addresses}"));
        assert_eq!((ready.open, ready.wanted, ready.sessions), (0, 1, 3));
        let _one = accept();
        let all = pool.wait_all(secs(1)).await.unwrap_err();
        assert!(all.to_string().starts_with("1 of 3 sessions are open after 1s: "), "{all}");
        assert_eq!((all.open, all.wanted, all.sessions), (1, 3, 3));
    });
}

#[test]
fn one_attempt_at_a_time_while_an_address_is_in_doubt() {
    fake::block_on(async {
        let (pool, _) = pool(&[ONE], PoolOptions::new().sessions(5));
        fake::take_attempts();
        (0..5).for_each(|_| refuse());
        assert_eq!(pool.stats().addresses[0].failures, 1, "attempts begun together count as one failure");
        next_attempt(&pool).await;
        fake::sleep(secs(5)).await;
        assert_eq!(fake::take_attempts(), []);
        let _first = accept();
        assert_eq!(fake::take_attempts().len(), 4, "the others follow");
    });
}

#[test]
fn another_address_is_used_while_one_rests() {
    fake::block_on(async {
        let (pool, _) = pool(&[ONE, TWO], PoolOptions::new().sessions(2));
        fake::connects_to(ONE, Err(ErrorKind::ConnectionRefused.into()));
        fake::run();
        let used: HashSet<_> =
            fake::take_attempts().into_iter().map(|(address, _)| address.to_string()).collect();
        assert_eq!(used, HashSet::from([ONE.to_owned(), TWO.to_owned()]));
        let mut servers = Vec::new();
        for _ in 0..2 {
            let (io, wire) = wire();
            fake::connects_to(TWO, Ok(io));
            fake::run();
            servers.push(wire);
        }
        pool.wait_all(Duration::ZERO).await.unwrap();
        let stats = pool.stats();
        assert_eq!((stats.addresses[0].open, stats.addresses[1].open), (0, 2));
        assert_eq!(stats.addresses[0].last_error.as_deref(), Some("connection refused"));
        assert!(stats.addresses[0].rests_until.is_some());
    });
}

#[test]
fn what_a_session_did_not_take_goes_to_the_next() {
    fake::block_on(async {
        let client = Client::builder().config(config(|c| c.watermarks(1, 8).handle_queue(4)));
        let (pool, _) = pool_of(client, &[ONE], PoolOptions::new());
        let server = accept();
        server.room(0);
        pool.try_send(Bytes::from("taken, and lost with the session")).unwrap();
        fake::run();
        assert!(matches!(pool.try_send(Bytes::new()), Err(SendError::Blocked(_))));
        // There is room for one turn, so that items are in the queue when the session ends.
        server.room(None);
        fake::run();
        server.take_written();
        server.room(0);
        let (handle, texts) = (pool.get().unwrap(), ["a", "b", "c"]);
        texts.into_iter().for_each(|text| pool.try_send(Bytes::from(text)).unwrap());
        handle.try_send(Bytes::from("of the handle")).unwrap();
        handle.close(Close::abort());
        fake::run();
        assert!(handle.is_closed());
        assert_eq!(handle.take_unsent(), ["of the handle"]);
        assert_eq!(pool.stats().carried, 3);
        fake::take_attempts();
        next_attempt(&pool).await;
        let server = accept();
        fake::run();
        assert_eq!(server.take_frames(), texts);
        assert_eq!(pool.stats().carried, 0);
    });
}

#[test]
fn what_a_session_did_not_take_goes_to_another_that_is_open() {
    fake::block_on(async {
        let (pool, _) = pool(&[ONE], PoolOptions::new().sessions(2));
        let servers = [accept(), accept()];
        pool.try_send(Bytes::from("hello")).unwrap();
        pool.sessions()[0].close(Close::abort()); // the one whose turn it was; the other has nothing to do
        fake::run();
        assert_eq!(servers.map(|server| server.take_frames().concat()), ["", "hello"]);
        assert_eq!(pool.stats().carried, 0);
    });
}

#[test]
fn what_no_session_took_is_given_back_in_the_end() {
    fake::block_on(async {
        let (pool, _) = pool(&[ONE], PoolOptions::new());
        let _server = accept();
        pool.try_send(Bytes::from("a")).unwrap();
        pool.get().unwrap().close(Close::abort());
        fake::run();
        assert!(matches!(pool.try_send(Bytes::from("b")), Err(SendError::NotOpen(item)) if item == "b"));
        let closed = pool.close(secs(5)).await;
        assert_eq!((closed.aborted, closed.unsent), (0, vec![Bytes::from("a")]));
        assert_eq!(fake::tasks(), 0);
    });
}

#[test]
fn a_send_waits_for_a_session_and_for_room() {
    fake::block_on(async {
        let client = Client::builder().config(config(|c| c.watermarks(1, 8)));
        let (pool, _) = pool_of(client, &[ONE], PoolOptions::new().sessions(2));
        let mut sending = Task::new(pool.send(Bytes::from("early")));
        sending.settle();
        let first = accept();
        sending.finish().unwrap();
        fake::run();
        assert_eq!(first.take_frames(), ["early"]);
        // Neither session has room: the first that has some again gets the item.
        let second = accept();
        first.room(0);
        second.room(0);
        for _ in 0..2 {
            pool.try_send(Bytes::from("more than eight bytes")).unwrap();
            fake::run();
        }
        assert!(matches!(pool.try_send(Bytes::new()), Err(SendError::Blocked(_))));
        let mut sending = Task::new(pool.send(Bytes::from("late")));
        sending.settle();
        second.room(None);
        fake::run();
        sending.finish().unwrap();
        fake::run();
        assert_eq!(second.take_frames(), ["more than eight bytes", "late"]);
        // If the pool closes instead, the waiting call fails.
        second.room(0);
        pool.try_send(Bytes::from("more than eight bytes")).unwrap();
        fake::run();
        let mut sending = Task::new(pool.send(Bytes::from("too late")));
        sending.settle();
        let mut closing = Task::new(pool.close(secs(60)));
        closing.settle();
        assert!(matches!(sending.finish(), Err(SendError::Closed(item)) if item == "too late"));
    });
}

#[test]
fn the_least_loaded_session_is_taken() {
    fake::block_on(async {
        let (pool, _) = pool(&[ONE], PoolOptions::new().sessions(2).select(Select::LeastLoaded));
        let servers = [accept(), accept()];
        servers[0].room(0);
        let slow = pool.sessions()[0].id();
        pool.try_send(Bytes::from("waits")).unwrap(); // at first, both sessions have nothing to do
        fake::run();
        for _ in 0..3 {
            assert_ne!(pool.get().unwrap().id(), slow);
            pool.try_send(Bytes::from("goes")).unwrap();
            fake::run();
        }
        assert_eq!(servers[1].take_frames(), ["goes"; 3]);
    });
}

#[test]
fn sessions_with_as_little_to_do_take_turns() {
    fake::block_on(async {
        let (pool, _) = pool(&[ONE], PoolOptions::new().sessions(3).select(Select::LeastLoaded));
        let servers = [accept(), accept(), accept()];
        for i in 0..6 {
            pool.try_send(Bytes::from(i.to_string())).unwrap();
            fake::run(); // written at once, so that no session has anything left to do
        }
        let frames = servers.map(|server| server.take_frames());
        assert_eq!(frames, [["0", "3"], ["1", "4"], ["2", "5"]]);
    });
}

/// One thread tries all sessions in turn, while another keeps advancing the turn.
#[test]
fn who_posts_while_others_do_finds_the_session_that_has_room() {
    const ITEMS: usize = 50_000;
    fake::block_on(async {
        let client = Client::builder().config(config(|c| c.watermarks(1, 8).handle_queue(ITEMS)));
        let (pool, _) = pool_of(client, &[ONE], PoolOptions::new().sessions(2));
        let (full, _free) = (accept(), accept());
        full.room(0);
        pool.sessions()[0].try_send(Bytes::from("more than eight bytes")).unwrap();
        fake::run();
        let done = AtomicBool::new(false);
        let blocked = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    pool.get();
                }
            });
            let blocked = (0..ITEMS).filter(|_| pool.try_send(Bytes::new()).is_err()).count();
            done.store(true, Ordering::Relaxed);
            blocked
        });
        assert_eq!(blocked, 0);
    });
}

#[test]
fn sessions_take_turns() {
    fake::block_on(async {
        let (pool, _) = pool(&[ONE], PoolOptions::new().sessions(3));
        let servers = [accept(), accept(), accept()];
        for i in 0..6 {
            pool.try_send(Bytes::from(i.to_string())).unwrap();
        }
        fake::run();
        let frames = servers.map(|server| server.take_frames());
        assert_eq!(frames, [["0", "3"], ["1", "4"], ["2", "5"]]);
    });
}

#[test]
fn a_closed_pool_is_gone_at_once_whatever_it_was_doing() {
    fake::block_on(async {
        for state in ["connecting", "waiting", "open", "handed over"] {
            let (pool, log) =
                pool(&[ONE], PoolOptions::new().backoff(Backoff::new().first(secs(1000)).cap(secs(1000))));
            let server = match state {
                "connecting" => None,
                "waiting" => {
                    refuse();
                    None
                }
                _ => Some(accept()),
            };
            let server = server.inspect(|server| server.eof());
            let start = Fake::now();
            let closed = match state {
                "handed over" => {
                    drop(pool);
                    fake::run();
                    0
                }
                _ => pool.close(secs(60)).await.aborted,
            };
            assert_eq!((closed, Fake::now() - start, fake::tasks()), (0, Duration::ZERO, 0), "{state}");
            assert_eq!(log.count("on_close"), usize::from(server.is_some()), "{state}");
            fake::take_attempts();
        }
    });
}

#[test]
fn what_does_not_close_in_time_is_aborted() {
    fake::block_on(async {
        let (pool, log) = pool(&[ONE], PoolOptions::new().sessions(2));
        let servers = [accept(), accept()];
        servers[1].eof(); // ends as soon as this end does
        let start = Fake::now();
        let closed = pool.close(secs(3)).await;
        assert_eq!((closed.aborted, Fake::now() - start), (1, secs(3)));
        assert_eq!((log.count("on_shutdown"), log.count("on_close")), (2, 2));
        assert_eq!(fake::tasks(), 0);
        assert!(pool.wait_ready(secs(1)).await.is_err_and(|error| error.why == NotReadyWhy::Closed));
    });
}

#[test]
fn tasks_that_are_dropped_leave_nothing_behind() {
    fake::block_on(async {
        let (pool, _) = pool(&[ONE], PoolOptions::new().sessions(2));
        let _server = accept();
        pool.try_send(Bytes::from("a")).unwrap();
        let handle = pool.get().unwrap();
        fake::drop_tasks();
        assert!(handle.is_closed());
        let stats = pool.stats();
        assert_eq!((stats.open, stats.connecting, stats.carried), (0, 0, 1));
        assert_eq!(pool.close(secs(1)).await.unsent, ["a"]);
    });
}

#[test]
fn a_backoff_of_nothing_does_not_keep_others_waiting() {
    fake::block_on(async {
        (0..1000).for_each(|_| fake::connects(Err(ErrorKind::ConnectionRefused.into())));
        let backoff = Backoff::new().first(Duration::ZERO);
        let (pool, _) = pool(&[ONE], PoolOptions::new().backoff(backoff));
        assert_eq!(fake::take_attempts().len(), 1001);
        assert_eq!(pool.stats().connecting, 1);
    });
}

#[test]
fn a_pool_needs_an_address() {
    let none: [&str; 0] = [];
    let pool = Client::<Fake>::builder().pool(PoolOptions::new());
    let error =
        pool.tcp(none, framed(LengthDelimited::new), || Recorder::quiet().0).map(drop::<Pool<Fake, Bytes>>);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
}
