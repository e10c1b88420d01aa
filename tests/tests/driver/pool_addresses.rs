//! Pools whose addresses change, on an exact clock.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use getty_core::codec::LengthDelimited;
use getty_core::websocket::{ClientRequest, Whole};
use getty_core::{Backoff, SendError, framed};
use getty_driver::{Client, Pool, PoolOptions, Runtime};
use testkit::Rng;

use crate::driver_common::fake::{self, Fake};
use crate::driver_common::recorder::{Happening, Log, Recorder, Then};
use crate::driver_common::socket::Socket;
use crate::driver_common::wire::{Wire, wire};
use crate::driver_common::*;

const ONE: &str = "192.0.2.1:7";
const TWO: &str = "192.0.2.2:7";
const THREE: &str = "192.0.2.3:7";
const FOUR: &str = "192.0.2.4:7";
const FIVE: &str = "192.0.2.5:7";

/// A pool to `addresses`, whose listeners share one log.
fn pool(addresses: &[&str], options: PoolOptions) -> (Pool<Fake, Bytes>, Log) {
    pool_with(addresses, options, || Recorder::quiet().0)
}

fn pool_with(
    addresses: &[&str],
    options: PoolOptions,
    listener: impl Fn() -> Recorder + 'static,
) -> (Pool<Fake, Bytes>, Log) {
    let log = Log::default();
    let kept = log.clone();
    let listener = move || listener().log_to(&kept);
    let builder = Client::builder().pool(options);
    let pool = builder.tcp(addresses.iter().copied(), framed(LengthDelimited::new), listener).unwrap();
    fake::run();
    (pool, log)
}

/// Lets the next attempt to connect to `address` succeed. Returns the server's end.
fn accept(address: &str) -> Wire {
    let (io, wire) = wire();
    fake::connects_to(address, Ok(io));
    fake::run();
    wire
}

/// The addresses that it has tried to connect to since the last call.
fn attempts() -> Vec<SocketAddr> {
    fake::take_attempts().into_iter().map(|(address, _)| address).collect()
}

fn set(pool: &Pool<Fake, Bytes>, addresses: &[&str]) {
    pool.set_addresses(addresses.iter().copied());
    fake::run();
}

fn parse(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// Open sessions and attempts of each address.
fn shares(pool: &Pool<Fake, Bytes>) -> Vec<(usize, usize)> {
    pool.stats().addresses.iter().map(|address| (address.open, address.connecting)).collect()
}

/// A listener that does not end its session when it is asked to.
fn stays() -> Recorder {
    Recorder::new(|_, happening| match happening {
        Happening::Shutdown => Then::Nothing,
        _ => Then::Default,
    })
    .0
}

#[test]
fn sessions_of_an_address_that_is_gone_are_drained_and_not_cut() {
    fake::block_on(async {
        let (pool, log) = pool(&[ONE], PoolOptions::new());
        let old = accept(ONE);
        attempts();
        let handle = pool.get().unwrap();
        pool.try_send(Bytes::from("before")).unwrap();
        pool.set_addresses([TWO]);
        assert!(pool.get().is_none(), "nothing is posted there any longer");
        assert!(matches!(pool.try_send(Bytes::from("after")), Err(SendError::NotOpen(_))));
        fake::run();
        assert_eq!(old.take_frames(), ["before"]);
        assert_eq!(log.take(), ["on_open", "on_shutdown"]);
        assert!(old.is_shut_down() && !handle.is_closed(), "gracefully: the peer has time to end its side");

        assert_eq!(attempts(), [parse(TWO)], "the next session does not wait for that");
        let new = accept(TWO);
        let stats = pool.stats();
        assert_eq!((stats.open, stats.closing, stats.connecting, stats.waiting), (1, 1, 0, 0));
        pool.try_send(Bytes::from("after")).unwrap();
        fake::run();
        assert_eq!(new.take_frames(), ["after"]);

        old.eof();
        fake::run();
        assert!(handle.is_closed() && old.is_dropped());
        assert_eq!(log.take(), ["on_open", "on_close: closed by this end"]);
        let stats = pool.stats();
        assert_eq!((stats.open, stats.closing, stats.connecting, stats.waiting), (1, 0, 0, 0));
        let addresses: Vec<_> = stats.addresses.iter().map(|address| &*address.address).collect();
        assert_eq!((addresses, attempts()), (vec![TWO], vec![]));
    });
}

#[test]
fn a_new_address_gets_a_session_also_where_they_do_not_divide_evenly() {
    fake::block_on(async {
        let (pool, _) = pool(&[ONE, TWO], PoolOptions::new().sessions(4));
        let old = [accept(ONE), accept(ONE), accept(TWO), accept(TWO)];
        assert_eq!(pool.stats().open, 4);
        attempts();
        set(&pool, &[ONE, TWO, THREE]);
        assert_eq!(attempts(), [parse(THREE)]);
        let new = accept(THREE);
        assert_eq!(old.iter().filter(|wire| wire.is_shut_down()).count(), 1);
        let stats = pool.stats();
        assert_eq!((stats.open, stats.closing, stats.connecting), (4, 1, 0));
        drop(new);
    });
}

#[test]
fn a_new_address_gets_its_share_while_another_does_not_answer() {
    fake::block_on(async {
        let hour = Backoff::new().first(secs(3600)).cap(secs(3600));
        let (pool, log) = pool(&[ONE], PoolOptions::new().sessions(4).backoff(hour));
        assert_eq!(attempts(), [parse(ONE); 4]);
        set(&pool, &[ONE, TWO]);
        assert_eq!((attempts(), shares(&pool)), (vec![parse(TWO); 2], vec![(0, 2), (0, 2)]));
        let _servers = [accept(TWO), accept(TWO)];
        set(&pool, &[TWO, ONE]);
        assert_eq!((attempts(), shares(&pool)), (vec![], vec![(2, 0), (0, 2)]));
        fake::sleep(secs(10)).await; // the time to connect is over
        fake::run();
        assert_eq!((attempts(), shares(&pool)), (vec![parse(TWO); 2], vec![(2, 2), (0, 0)]));
        let _servers = [accept(TWO), accept(TWO)];
        pool.wait_all(Duration::ZERO).await.unwrap();
        assert_eq!((log.count("on_open"), log.count("on_shutdown")), (4, 0));
    });
}

#[test]
fn a_new_address_gets_all_sessions_while_another_rests() {
    fake::block_on(async {
        let hour = Backoff::new().first(secs(3600)).cap(secs(3600));
        let (pool, _) = pool(&[ONE], PoolOptions::new().sessions(4).backoff(hour));
        (0..4).for_each(|_| fake::connects_to(ONE, Err(ErrorKind::ConnectionRefused.into())));
        fake::run();
        attempts();
        set(&pool, &[ONE, TWO]);
        assert_eq!((attempts(), shares(&pool)), (vec![parse(TWO); 4], vec![(0, 0), (0, 4)]));
    });
}

#[test]
fn attempts_make_room_for_a_new_address_before_open_sessions_do() {
    fake::block_on(async {
        let (pool, log) = pool(&[ONE], PoolOptions::new().sessions(4));
        let _one = [accept(ONE), accept(ONE)];
        attempts();
        set(&pool, &[ONE, TWO]);
        assert_eq!((attempts(), shares(&pool)), (vec![parse(TWO); 2], vec![(2, 0), (0, 2)]));
        let _two = accept(TWO);
        set(&pool, &[TWO, ONE, THREE]);
        assert_eq!((attempts(), shares(&pool)), (vec![parse(THREE)], vec![(1, 0), (2, 0), (0, 1)]));
        assert_eq!(log.count("on_shutdown"), 0);
    });
}

#[test]
fn a_handshake_under_way_makes_room_for_a_new_address() {
    fake::block_on(async {
        let request = |address: &str| ClientRequest::new(&format!("ws://{address}/")).unwrap();
        let log = Log::default();
        let kept = log.clone();
        let builder = Client::<Fake>::builder().pool(PoolOptions::new().sessions(2));
        let pool = builder.websocket([request(ONE)], || Whole, move || Socket::new(&kept)).unwrap();
        fake::run();
        let old = [accept(ONE), accept(ONE)];
        assert_eq!((attempts(), pool.stats().connecting), (vec![parse(ONE); 2], 2));
        pool.set_addresses([ONE, TWO].map(request));
        fake::run();
        assert_eq!(attempts(), [parse(TWO)]);
        assert_eq!(old.iter().filter(|wire| wire.is_dropped()).count(), 1);
        let stats = pool.stats();
        assert_eq!((stats.open, stats.closing, stats.connecting, stats.waiting), (0, 0, 2, 0));
    });
}

#[test]
fn attempts_follow_addresses_that_go_and_come_back() {
    fake::block_on(async {
        let (pool, _) = pool(&[ONE], PoolOptions::new().sessions(2));
        attempts();
        pool.set_addresses([TWO]);
        set(&pool, &[ONE]); // before the attempts have seen the first change
        assert_eq!((attempts(), shares(&pool)), (vec![parse(ONE); 2], vec![(0, 2)]));
        set(&pool, &[]);
        let stats = pool.stats();
        assert_eq!((attempts(), stats.connecting, stats.waiting), (vec![], 0, 2));
        set(&pool, &[TWO, ONE, TWO]);
        assert_eq!((attempts().len(), shares(&pool)), (2, vec![(0, 1); 2]));
        set(&pool, &[TWO]);
        assert_eq!((attempts(), shares(&pool)), (vec![parse(TWO)], vec![(0, 2)]));
    });
}

/// A task that asked for its next turn again and again would keep the clock from moving.
#[test]
fn a_pool_that_closes_while_a_session_has_to_leave_waits_for_it() {
    fake::block_on(async {
        let (pool, log) = pool(&[ONE], PoolOptions::new());
        let old = accept(ONE);
        pool.set_addresses([TWO]);
        pool.close(secs(3)).await;
        fake::run();
        assert!(old.is_dropped());
        assert_eq!(log.count("on_close"), 1);
    });
}

#[test]
fn what_a_drained_session_did_not_take_goes_to_the_next() {
    fake::block_on(async {
        let (pool, _) = pool(&[ONE], PoolOptions::new());
        let old = accept(ONE);
        old.room(0);
        pool.try_send(Bytes::from(vec![7; 1_000_000])).unwrap();
        fake::run();
        let handle = pool.get().unwrap();
        let left = (0..3).filter(|n| pool.try_send(Bytes::from(n.to_string())).is_ok()).count();
        set(&pool, &[TWO]);
        let new = accept(TWO);
        fake::sleep(secs(60)).await; // the old peer takes nothing, so its session is aborted in the end
        fake::run();
        assert!(handle.is_closed());
        assert_eq!(new.take_frames().len(), left);
    });
}

#[test]
fn attempts_to_an_address_that_is_gone_are_given_up() {
    fake::block_on(async {
        let (pool, log) = pool(&[ONE], PoolOptions::new().sessions(2));
        assert_eq!(attempts(), [parse(ONE); 2]);
        set(&pool, &[TWO]);
        assert_eq!(attempts(), [parse(TWO); 2]);
        let _servers = [accept(TWO), accept(TWO)];
        pool.wait_all(Duration::ZERO).await.unwrap();
        assert_eq!(log.count("on_open"), 2);
    });
}

#[test]
fn a_new_address_gets_its_share_of_the_sessions() {
    fake::block_on(async {
        let (pool, log) = pool(&[ONE], PoolOptions::new().sessions(4));
        let servers = [(); 4].map(|()| accept(ONE));
        attempts();
        set(&pool, &[ONE, TWO]);
        assert_eq!(attempts(), [parse(TWO); 2]);
        let _more = [accept(TWO), accept(TWO)];
        pool.wait_all(Duration::ZERO).await.unwrap();
        let open = |pool: &Pool<Fake, Bytes>| -> Vec<_> {
            pool.stats().addresses.iter().map(|address| address.open).collect()
        };
        assert_eq!(open(&pool), [2, 2]);
        assert_eq!(servers.iter().filter(|server| server.is_shut_down()).count(), 2);
        // Without a new address, nothing moves.
        set(&pool, &[TWO, ONE]);
        assert_eq!((open(&pool), attempts(), log.count("on_shutdown")), (vec![2, 2], vec![], 2));
    });
}

#[test]
fn what_is_known_of_an_address_that_stays_is_kept() {
    fake::block_on(async {
        let backoff = Backoff::new().first(secs(1000)).cap(secs(1000));
        let (pool, _) = pool(&[ONE], PoolOptions::new().backoff(backoff));
        fake::connects_to(ONE, Err(ErrorKind::ConnectionRefused.into()));
        fake::run();
        attempts();
        let before = pool.stats().addresses.remove(0);
        assert!(before.rests_until.is_some_and(|until| until > Fake::now()));
        set(&pool, &[TWO, ONE]);
        let after = pool.stats().addresses.remove(1);
        assert_eq!((after.rests_until, after.failures), (before.rests_until, 1));
        assert_eq!(attempts(), [parse(TWO)]);
        // An address that comes back is a new one.
        set(&pool, &[THREE]);
        set(&pool, &[ONE]);
        assert_eq!(pool.stats().addresses[0].failures, 0);
        assert_eq!(attempts(), [THREE, ONE].map(parse));
    });
}

#[test]
fn an_address_that_comes_back_while_its_session_drains_gets_another() {
    fake::block_on(async {
        let (pool, log) = pool(&[ONE], PoolOptions::new());
        let old = accept(ONE);
        attempts();
        pool.set_addresses([TWO]);
        set(&pool, &[ONE]); // before the session has seen the first change
        assert_eq!((attempts(), log.count("on_shutdown")), (vec![parse(ONE)], 1));
        let new = accept(ONE);
        pool.try_send(Bytes::from("hello")).unwrap();
        fake::run();
        assert_eq!((old.take_frames().len(), new.take_frames().len()), (0, 1));
        // A second session has to leave before the first has gone: its replacement waits until the first
        // ends.
        set(&pool, &[THREE]);
        assert_eq!((attempts(), log.count("on_shutdown"), pool.stats().closing), (vec![], 2, 2));
        old.eof();
        fake::run();
        assert_eq!((attempts(), pool.stats().closing), (vec![parse(THREE)], 1));
        new.eof();
        fake::run();
        assert_eq!((log.count("on_close: closed by this end"), pool.stats().closing), (2, 0));
    });
}

#[test]
fn a_pool_without_addresses_waits_for_one() {
    fake::block_on(async {
        let (pool, _) = pool(&[ONE], PoolOptions::new());
        let old = accept(ONE);
        old.eof();
        attempts();
        set(&pool, &[]);
        fake::sleep(secs(600)).await;
        assert_eq!(attempts(), []);
        assert!(
            matches!(pool.try_send(Bytes::new()), Err(SendError::NotOpen(_))),
            "the pool has not given up"
        );
        set(&pool, &[TWO]);
        accept(TWO);
        pool.wait_ready(Duration::ZERO).await.unwrap();
    });
}

/// A listener may take its time, but only until the pool is closed and its grace period is over.
#[test]
fn a_pool_that_is_closed_ends_what_is_draining() {
    fake::block_on(async {
        let (pool, log) = pool_with(&[ONE], PoolOptions::new(), stays);
        let _old = accept(ONE);
        set(&pool, &[TWO]);
        let _new = accept(TWO);
        fake::sleep(secs(600)).await;
        assert_eq!((log.count("on_shutdown"), log.count("on_close"), pool.stats().closing), (1, 0, 1));
        let start = Fake::now();
        assert_eq!(pool.close(secs(3)).await.aborted, 2);
        assert_eq!((Fake::now() - start, log.count("on_close"), fake::tasks()), (secs(3), 2, 0));
    });
}

/// Otherwise there would be no session to the third address until the listener thinks better of it.
#[test]
fn a_session_that_stays_gives_way_when_its_successor_has_to_leave_too() {
    fake::block_on(async {
        let (pool, log) = pool_with(&[ONE], PoolOptions::new(), stays);
        let one = accept(ONE);
        set(&pool, &[TWO]);
        let two = accept(TWO);
        fake::sleep(secs(2)).await;
        set(&pool, &[THREE]);
        attempts();
        fake::sleep(secs(3) - MS).await; // its listener has as long as closing may take
        fake::run();
        assert!(!one.is_shut_down());
        fake::sleep(MS).await;
        fake::run();
        assert!(one.is_shut_down() && !one.is_dropped(), "gracefully: the peer has its time");
        assert_eq!(attempts(), []);
        one.eof();
        fake::run();
        assert!(one.is_dropped() && !two.is_shut_down());
        assert_eq!(attempts(), [parse(THREE)]);
        let _three = accept(THREE);
        pool.wait_ready(Duration::ZERO).await.unwrap();

        fake::sleep(secs(600)).await;
        assert!(!two.is_shut_down(), "nothing needs its place");
        set(&pool, &[ONE]);
        assert!(two.is_shut_down(), "it has had its time");
        fake::sleep(secs(5)).await; // its peer does not end
        fake::run();
        assert!(two.is_dropped());
        assert_eq!((attempts(), log.count("on_shutdown"), pool.stats().closing), (vec![parse(ONE)], 3, 1));
    });
}

/// The grace is the limit then, whatever a session has to leave for.
#[test]
fn a_pool_that_is_closed_gives_sessions_that_stay_their_grace() {
    fake::block_on(async {
        let (pool, _) = pool_with(&[ONE], PoolOptions::new(), stays);
        let one = accept(ONE);
        set(&pool, &[TWO]);
        let _two = accept(TWO);
        fake::sleep(secs(2)).await;
        set(&pool, &[THREE]);
        let start = Fake::now();
        assert_eq!(pool.close(secs(60)).await.aborted, 2);
        assert_eq!((Fake::now() - start, one.is_shut_down(), fake::tasks()), (secs(60), false, 0));
    });
}

/// Whatever happened before, and whether or not listeners end what is drained.
#[test]
fn sessions_come_to_the_last_addresses_in_equal_parts() {
    for seed in 1..=100 {
        // The fake belongs to a thread, and what an earlier round has left there would be used in this one.
        std::thread::spawn(move || fake::block_on(change_at_random(seed))).join().unwrap();
    }
}

async fn change_at_random(seed: u64) {
    let (mut rng, decides) = (Rng::new(seed), RefCell::new(Rng::new(!seed)));
    let listener = move || match decides.borrow_mut().below(2) {
        0 => stays(),
        _ => Recorder::quiet().0,
    };
    let (pool, _) = pool_with(&[ONE], PoolOptions::new().sessions(4), listener);
    let check = || {
        let stats = pool.stats();
        let sessions = stats.open + stats.connecting + stats.waiting;
        assert!(sessions <= 4 && (4..=8).contains(&(sessions + stats.closing)), "{seed}: {stats:?}");
    };
    let mut wires = Vec::new();
    for _ in 0..40 {
        let address = [ONE, TWO, THREE][rng.below(3)];
        match rng.below(7) {
            0 | 1 => pool.set_addresses([ONE, TWO, THREE].into_iter().filter(|_| rng.below(2) == 0)),
            2 | 3 => wires.push(accept(address)),
            4 => fake::connects_to(address, Err(ErrorKind::ConnectionRefused.into())),
            5 if !wires.is_empty() => wires.swap_remove(rng.below(wires.len())).eof(),
            _ => fake::sleep(MS * rng.below(4000) as u32).await,
        }
        fake::run();
        check();
    }
    pool.set_addresses([FOUR, FIVE]);
    wires.extend([FOUR, FIVE, FOUR, FIVE].map(accept));
    fake::sleep(secs(10)).await; // listeners have as long as closing may take, and their sessions once more
    fake::run();
    check();
    assert_eq!(shares(&pool), [(2, 0); 2], "{seed}");
    pool.wait_all(Duration::ZERO).await.unwrap();
}
