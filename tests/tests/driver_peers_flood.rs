//! A flood of datagrams, each from a new address, at a UDP server with a session for each peer, over real
//! sockets.
//!
//! A longer flood that prints its figures:
//! `GETTY_FLOOD=1000000 cargo test --release -p getty-tests --test driver_peers_flood -- --nocapture`

mod driver_common;

use std::env;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use driver_common::runtimes::{TestRuntime, blocking, server, until};
use driver_common::*;
use getty_core::codec::Raw;
use getty_core::datagram::PeerLimits;
use getty_core::{CloseReason, Opened};
use getty_driver::{Context, Listener, Refuse};
use testkit::alloc::{Counting, held_by_all_threads};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

on_every_runtime!(memory_stays_bounded_and_a_known_peer_is_served);

/// Memory is measured, so only one test may run at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Limit of peers.
const MAX: usize = 10_000;

/// Limit of memory: 1 KiB for each peer, everything included, and the receive buffers of two threads.
const BOUND: i64 = MAX as i64 * 1024 + 2 * (2 << 20) + (1 << 18);

/// Number of strangers' datagrams between two from the known peer, few enough that none is lost.
const BETWEEN: u32 = 200;

/// Echoes, and counts sessions.
struct Echo {
    counts: Arc<Counts>,
    known: SocketAddr,
}

#[derive(Default)]
struct Counts {
    opened: AtomicU64,
    known_opened: AtomicUsize,
    strangers: AtomicU64,
}

impl Listener<Messages> for Echo {
    fn on_open(&mut self, cx: &mut Context<'_, Messages>, _opened: &Opened) -> Result<(), Refuse> {
        self.counts.opened.fetch_add(1, Ordering::SeqCst);
        self.counts.known_opened.fetch_add(usize::from(cx.peer_addr() == Some(self.known)), Ordering::SeqCst);
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_, Messages>, message: Bytes) {
        let _ = cx.send(message); // replies to strangers may fill the queue
    }

    fn on_close(&mut self, _cx: &mut Context<'_, Messages>, reason: &CloseReason) {
        assert!(matches!(reason, CloseReason::Evicted | CloseReason::Local { .. }), "{reason}");
    }
}

/// An address of this machine, different for each number below 16 million.
fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + number)
}

/// Sends the flood, and checks echoes to `known` now and then. Returns the peak of the memory held.
fn flood(server: SocketAddr, known: &UdpSocket, datagrams: u32) -> i64 {
    let mut most = 0;
    for number in 0..datagrams {
        UdpSocket::bind((address(number), 0)).unwrap().send_to(b"sixteen bytes it", server).unwrap();
        if number % BETWEEN == 0 {
            known.send(&number.to_be_bytes()).unwrap();
            let mut echo = [0; 5];
            assert_eq!(known.recv(&mut echo).unwrap(), 4, "after {number} others");
            assert_eq!(echo[..4], number.to_be_bytes());
            most = most.max(held_by_all_threads());
        }
    }
    most
}

fn memory_stays_bounded_and_a_known_peer_is_served<R: TestRuntime>() {
    if UdpSocket::bind((address(0), 0)).is_err() {
        return eprintln!("not tested: the loopback interface has one address");
    }
    let long = env::var("GETTY_FLOOD").ok();
    let datagrams = long.as_ref().map_or(50_000, |text| text.parse().expect("GETTY_FLOOD is a number"));
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    R::run(async {
        let counts = Arc::<Counts>::default();
        let known = UdpSocket::bind("127.0.0.1:0").unwrap();
        known.set_read_timeout(Some(secs(20))).unwrap();
        let (made, told) =
            (Echo { counts: counts.clone(), known: known.local_addr().unwrap() }, counts.clone());
        let listener = move |_| Some(Echo { counts: made.counts.clone(), known: made.known });
        let before = held_by_all_threads();
        let server = server::<R>()
            .on_dropped(move |dropped| {
                assert_eq!(dropped.counts.total(), dropped.counts.strangers);
                told.strangers.fetch_add(dropped.counts.strangers, Ordering::SeqCst);
            })
            .udp_peers("127.0.0.1:0", PeerLimits::new().max_peers(MAX).new_per_second(5_000), Raw, listener)
            .await
            .unwrap();
        let address = server.local_addr();
        known.connect(address).unwrap();
        let started = Instant::now();
        let most = blocking(move || flood(address, &known, datagrams)).await - before;
        let took = started.elapsed();
        assert!(most <= BOUND, "{most} bytes were held for {MAX} peers");
        assert_eq!(counts.known_opened.load(Ordering::SeqCst), 1, "the known peer kept its session");
        // Each was accepted or counted as dropped, so the server has seen them all.
        let seen = || counts.opened.load(Ordering::SeqCst) + counts.strangers.load(Ordering::SeqCst);
        until::<R>("all are accounted for", || seen() == u64::from(datagrams) + 1).await;
        // The server may be in the middle of a turn.
        until::<R>("evicted sessions have ended", || server.sessions() <= MAX).await;
        if long.is_some() {
            let opened = counts.opened.load(Ordering::SeqCst);
            let sessions = server.sessions();
            println!(
                "{datagrams} addresses in {took:?}: {opened} let in, {sessions} sessions, {most} bytes at most"
            );
        }
        assert_eq!(server.shutdown(secs(20)).await.aborted, 0);
    });
}
