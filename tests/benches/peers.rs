//! Measures the peer table of a datagram socket in memory: the time of an echoed datagram, and the memory of
//! a peer, for several numbers of peers.
//!
//! `cargo bench -p getty-tests --bench peers` prints nanoseconds per datagram, the best of several rounds,
//! and heap bytes per peer. Datagrams of 16 B come in batches of 32 from peers in random order. Each is
//! answered, and the replies are taken as a socket would take them.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use getty_core::codec::Raw;
use getty_core::datagram::{PacketOptions, Path, PeerLimits, Peers, PeersEvent, RecvBatch};
use getty_core::{Config, Event, Timestamp};
use testkit::Rng;
use testkit::alloc::{Counting, measure};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: u32 = 9;
const ROUND: Duration = Duration::from_millis(50);

fn main() {
    println!("{:>9}{:>16}{:>10}", "peers", "ns/datagram", "B/peer");
    for count in [100, 1_000, 10_000, 100_000] {
        let (mut table, usage) = measure(|| Table::of(count));
        let best = (0..ROUNDS).map(|_| table.round()).fold(f64::MAX, f64::min);
        println!("{count:>9}{best:>16.1}{:>10}", usage.live / i64::from(count));
    }
}

struct Table {
    peers: Peers<Raw>,
    batch: Option<RecvBatch>,
    count: u32,
    rng: Rng,
    now: Timestamp,
}

fn path(peer: u32) -> Path {
    let [_, a, b, c] = peer.to_be_bytes();
    Path::new((IpAddr::from(Ipv4Addr::new(127, a, b, c)), 5000).into())
}

impl Table {
    fn of(count: u32) -> Self {
        let config =
            Config::builder().idle_read(Duration::from_secs(60)).cron_period(Duration::from_secs(10));
        let limits = PeerLimits::new().max_peers(count as usize).new_per_second(count * 2);
        let now = Timestamp::ORIGIN;
        let config: Arc<Config> = config.build().unwrap();
        let peers = Peers::new(Raw, PacketOptions::unconnected(), limits, config, [1, 2], now);
        let mut table = Table { peers, batch: Some(RecvBatch::new()), count, rng: Rng::new(7), now };
        for first in (0..count).step_by(RecvBatch::SLOTS) {
            table.echo(|slot| first + slot as u32);
        }
        assert_eq!(table.peers.len(), count as usize);
        table.batch = None;
        table
    }

    /// Runs one round. Returns nanoseconds per datagram.
    fn round(&mut self) -> f64 {
        self.batch = Some(RecvBatch::new());
        let (start, mut datagrams) = (Instant::now(), 0);
        while start.elapsed() < ROUND {
            for _ in 0..32 {
                let (count, mut rng) = (u64::from(self.count), self.rng.clone());
                self.echo(|_| (rng.next_u64() % count) as u32);
                self.rng = rng;
                datagrams += RecvBatch::SLOTS;
            }
        }
        start.elapsed().as_nanos() as f64 / datagrams as f64
    }

    /// Echoes one batch: `whose` gives the peer of each slot.
    fn echo(&mut self, mut whose: impl FnMut(usize) -> u32) {
        self.now += Duration::from_micros(50);
        let mut batch = self.batch.take().unwrap();
        for slot in 0..RecvBatch::SLOTS {
            let peer = whose(slot) % self.count;
            assert!(batch.copy_from(path(peer), b"sixteen bytes it"));
        }
        self.peers.handle_datagrams(self.now, batch).unwrap();
        while let Some(event) = self.peers.poll_event() {
            match event {
                PeersEvent::Unknown(_) => drop(self.peers.admit(true)),
                PeersEvent::Peer(key, Event::Message(message)) => {
                    let message: Bytes = black_box(message);
                    self.peers.send(key, message).unwrap();
                }
                _ => {}
            }
        }
        let n = self.peers.outgoing(self.now).len();
        self.peers.handle_sent(self.now, n);
        self.batch = self.peers.take_batch();
    }
}
