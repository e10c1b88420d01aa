//! The little harm that strangers can do to a table of peers.

use std::time::Duration;

use bytes::Bytes;
use getty_core::codec::Raw;
use getty_core::datagram::{PacketOptions, PeerKey, PeerLimits, Peers, PeersEvent, RecvBatch};
use getty_core::{Close, Config, Event, SendError, Timestamp};
use testkit::alloc::measure;

use crate::peers_common::{Host, batch, bytes, far, millis, secs};

const EVICTED: &str = "Closed: evicted to make room for another peer (PeerLimits::max_peers)";

#[test]
fn the_one_that_was_silent_the_longest_is_evicted() {
    let mut host = Host::limited(PeerLimits::new().max_peers(3), |config| config);
    for (second, port) in [1, 2, 3, 1].into_iter().enumerate() {
        host.at(secs(10 * second as u64));
        host.told(port, "a");
    }
    host.at(secs(40));
    host.peers.update_active(host.clock.now(), host.key(2));
    let evicted = format!("3 {EVICTED}");
    assert_eq!(host.told(4, "a"), ["4?", &evicted, "4 Open", "4 a"]);
    assert_eq!(host.peers.len(), 3);
    host.at(secs(50));
    let evicted = format!("1 {EVICTED}");
    assert_eq!(host.told(3, "a"), ["3?", &evicted, "3 Open", "3 a"], "it comes back as a new peer");
}

#[test]
fn places_are_taken_in_the_order_in_which_peers_were_last_active() {
    const PEERS: u16 = 16;
    // With these numbers the order is exact to 2 ms.
    let mut host = Host::limited(PeerLimits::new().max_peers(PEERS.into()), |config| config);
    let mut rng = testkit::Rng::new(5);
    let mut order: Vec<u16> = (0..PEERS).collect();
    order.iter().for_each(|&port| drop(host.told(port, "a")));
    for step in 0..500 {
        let now = host.clock.advance(millis(3));
        let active = order.remove((rng.next_u64() % u64::from(PEERS)) as usize);
        match step % 3 {
            0 => host.peers.update_active(now, host.key(active)),
            _ => drop(host.told(active, "b")),
        }
        order.push(active);
    }
    for (newcomer, silent) in (PEERS..).zip(order) {
        host.clock.advance(millis(3));
        assert_eq!(host.told(newcomer, "a")[1], format!("{silent} {EVICTED}"));
    }
}

#[test]
fn a_datagram_of_who_is_evicted_in_the_same_batch_is_of_somebody_unknown() {
    let mut host = Host::limited(PeerLimits::new().max_peers(1), |config| config);
    host.told(1, "a");
    host.peers.handle_datagrams(host.clock.now(), batch([(2, &b"b"[..]), (1, b"c"), (1, b"d")])).unwrap();
    let [one, two] = [1, 2].map(|port| format!("{port} {EVICTED}"));
    assert_eq!(host.poll(), ["2?", &one, "2 Open", "2 b", "1?", &two, "1 Open", "1 c", "1 d"]);
}

#[test]
fn without_eviction_nobody_comes_in_when_all_places_are_taken() {
    let mut host = Host::limited(PeerLimits::new().max_peers(2).evict(false), |config| config);
    host.told(1, "a");
    host.told(2, "a");
    let full = "Dropped 1: the limit of 2 peers is reached (PeerLimits::max_peers)";
    assert_eq!(host.told(3, "a"), [full]);
    assert_eq!(host.told(1, "b"), ["1 b"]);
    host.close_peer(2, Close::graceful());
    assert_eq!(host.told(3, "b"), ["2 Closed: closed by this end", "3?", "3 Open", "3 b"]);
}

#[test]
fn new_peers_come_at_their_rate() {
    let mut host = Host::limited(PeerLimits::new().new_per_second(10), |config| config);
    let mut next = 0;
    let mut let_in = |host: &mut Host, datagrams: usize| {
        let before = host.peers.len();
        for _ in 0..datagrams {
            next += 1;
            host.told(next, "a");
        }
        host.peers.len() - before
    };
    assert_eq!(let_in(&mut host, 30), 10, "the burst");
    host.clock.advance(millis(99));
    assert_eq!(let_in(&mut host, 10), 0);
    host.clock.advance(millis(1));
    assert_eq!(let_in(&mut host, 10), 1);
    host.clock.advance(millis(500));
    assert_eq!(let_in(&mut host, 10), 5);
    host.clock.advance(secs(3600));
    assert_eq!(let_in(&mut host, 30), 10, "an unused rate is not saved up");
    assert_eq!(host.told(1, "b"), ["1 b"], "known peers are not delayed");
    assert_eq!(host.peers.dropped().strangers, 20 + 10 + 9 + 5 + 20);
}

#[test]
fn nobody_gets_more_than_three_times_of_what_it_sent_before_it_is_validated() {
    let mut host = Host::new();
    host.told(1, "0123456789");
    let send = |host: &mut Host, n: usize| host.peers.send(host.keys[&1], Bytes::from(vec![b'x'; n]));
    assert!(matches!(send(&mut host, 31), Err(SendError::NotValidated(item)) if item.len() == 31));
    assert!(send(&mut host, 20).is_ok());
    assert!(send(&mut host, 10).is_ok());
    assert!(matches!(send(&mut host, 1), Err(SendError::NotValidated(_))));
    host.flush();
    assert!(matches!(send(&mut host, 1), Err(SendError::NotValidated(_))), "flushing changes nothing");
    host.told(1, "0123456789");
    assert!(send(&mut host, 30).is_ok());
    assert_eq!(host.peers.stats(host.key(1)).refused, 3);
    host.peers.validate(host.key(1));
    assert!(send(&mut host, 9000).is_ok());

    let mut host = Host::limited(PeerLimits::new().amplification(u32::MAX), |config| config);
    host.told(1, vec![0; 9000]);
    host.told(1, vec![0; 9000]);
    assert!(send(&mut host, 60_000).is_ok());
    let mut host = Host::limited(PeerLimits::new().amplification(0), |config| config);
    host.told(1, "a");
    assert!(matches!(send(&mut host, 1), Err(SendError::NotValidated(_))));
}

/// A table for many peers, which keeps no record of their events.
struct Crowd {
    peers: Peers<Raw>,
    now: Timestamp,
    batch: Option<RecvBatch>,
    messages: u64,
    answers: Vec<u32>,
}

impl Crowd {
    fn new(limits: PeerLimits) -> Self {
        let config = Config::builder().idle_read(secs(60)).cron_period(secs(10)).build().unwrap();
        let now = Timestamp::from_origin(secs(1));
        let peers = Peers::new(Raw, PacketOptions::unconnected(), limits, config, [3, 4], now);
        Crowd { peers, now, batch: Some(RecvBatch::new()), messages: 0, answers: Vec::new() }
    }

    /// Does one turn of a driver: a datagram from each of `whose` in, the replies out.
    fn turn(&mut self, whose: impl Iterator<Item = u32>) {
        let mut batch = self.batch.take().unwrap();
        whose.for_each(|number| assert!(batch.copy_from(far(number), b"sixteen bytes it")));
        self.peers.handle_datagrams(self.now, batch).unwrap();
        while let Some(event) = self.peers.poll_event() {
            match event {
                PeersEvent::Unknown(_) => drop(self.peers.admit(true)),
                PeersEvent::Peer(key, Event::Message(message)) => {
                    self.messages += 1;
                    self.peers.send(key, message).unwrap();
                }
                _ => {}
            }
        }
        let outgoing = self.peers.outgoing(self.now);
        let number = |path: getty_core::datagram::Path| match path.peer {
            std::net::SocketAddr::V4(v4) => v4.ip().to_bits() - 0x0a00_0000,
            std::net::SocketAddr::V6(_) => unreachable!(),
        };
        self.answers.clear();
        self.answers.extend(outgoing.transmits().map(|transmit| number(transmit.path.unwrap())));
        let n = outgoing.len();
        self.peers.handle_sent(self.now, n);
        self.batch = self.peers.take_batch();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.peers.handle_timeout(self.now);
    }
}

/// Limit of memory for a table of at most `max` peers, whatever is sent to it: 600 bytes for each, and 64
/// KiB.
fn bound(max: i64) -> i64 {
    600 * max + 65_536
}

#[test]
fn a_flood_of_a_million_invented_addresses_leaves_memory_bounded_and_known_peers_served() {
    const KNOWN: u32 = 0;
    let max = 2000;
    let batch = Some(RecvBatch::new());
    let (mut crowd, usage) = measure(|| {
        let mut crowd = Crowd::new(PeerLimits::new().max_peers(max).new_per_second(1000));
        crowd.batch = batch;
        crowd.turn([KNOWN].into_iter());
        let mut next = 1u32;
        let mut served = 0;
        // 100 000 datagrams per second for 10 seconds, among them one from a known peer every second.
        while next <= 1_000_000 {
            crowd.pass(Duration::from_micros(310));
            let known = ((next - 1) / 31).is_multiple_of(3200).then_some(KNOWN);
            crowd.turn((next..next + 31).chain(known));
            next += 31;
            if known.is_some() {
                assert!(crowd.answers.contains(&KNOWN), "no echo after {next} datagrams");
                served += 1;
            }
        }
        assert!(served >= 10);
        crowd.batch = None;
        crowd.answers = Vec::new();
        crowd
    });
    assert_eq!(crowd.peers.len(), max);
    assert!(crowd.peers.dropped().strangers > 980_000, "{:?}", crowd.peers.dropped());
    assert!(crowd.messages <= 12_000, "{} new peers were accepted within 10 s", crowd.messages);
    assert!(usage.live <= bound(max as i64), "{} bytes for {max} peers", usage.live);

    // The same without a rate: each new peer takes another's place.
    let batch = Some(RecvBatch::new());
    let (flooded, usage) = measure(|| {
        let mut crowd = Crowd::new(PeerLimits::new().max_peers(max).new_per_second(u32::MAX));
        crowd.batch = batch;
        for next in (0..64_000).step_by(32) {
            crowd.turn(next..next + 32);
        }
        crowd.batch = None;
        crowd.answers = Vec::new();
        crowd
    });
    assert_eq!((flooded.peers.len(), flooded.messages), (max, 64_000));
    assert!(usage.live <= bound(max as i64), "{} bytes for {max} peers", usage.live);

    crowd.batch = Some(RecvBatch::new());
    crowd.pass(secs(10));
    crowd.turn([KNOWN].into_iter());
    assert_eq!(crowd.answers, [KNOWN]);
}

#[test]
fn a_peer_of_a_hundred_thousand_takes_at_most_600_bytes() {
    let count = 100_000;
    let batch = Some(RecvBatch::new());
    let (crowd, usage) = measure(|| {
        let mut crowd = Crowd::new(PeerLimits::new().max_peers(count).new_per_second(u32::MAX));
        crowd.batch = batch;
        for next in (0..count as u32).step_by(32) {
            crowd.turn(next..next + 32);
        }
        crowd.batch = None;
        crowd
    });
    assert_eq!(crowd.peers.len(), count);
    assert!(usage.live / count as i64 <= 600, "{} bytes for each", usage.live / count as i64);
}

#[test]
fn a_datagram_changes_no_timer_and_allocates_next_to_nothing() {
    let mut crowd = Crowd::new(PeerLimits::new());
    crowd.turn(0..32);
    crowd.turn(0..32);
    let deadline = crowd.peers.poll_timeout();
    let ((), usage) = measure(|| {
        for _ in 0..1000 {
            crowd.now += Duration::from_millis(5);
            crowd.turn(0..32);
            assert_eq!(crowd.peers.poll_timeout(), deadline);
        }
    });
    assert_eq!(crowd.messages, 32 * 1002);
    assert!(usage.allocations < 3200, "{} allocations for 32 000 datagrams", usage.allocations);
}

#[test]
fn who_comes_is_refused_and_goes_leaves_nothing_while_the_socket_is_stuck() {
    let mut host = Host::limited(PeerLimits::new().max_peers(4).new_per_second(u32::MAX), |config| {
        config.watermarks(0, 128).max_queued(128)
    });
    host.told(1, "a");
    host.peers.validate(host.key(1));
    while host.peers.send(host.key(1), bytes("x")).is_ok() {}
    let mut come_and_go = |times: u32| {
        for number in 0..times {
            assert!(host.peers.handle_datagram(host.clock.now(), far(number), b"a"));
            let mut key: Option<PeerKey> = None;
            while let Some(event) = host.peers.poll_event() {
                if matches!(event, PeersEvent::Unknown(_)) {
                    key = host.peers.admit(true);
                }
            }
            assert!(matches!(host.peers.send(key.unwrap(), bytes("x")), Err(SendError::Blocked(_))));
        }
    };
    come_and_go(100);
    let ((), usage) = measure(|| come_and_go(10_000));
    assert!(usage.live < 1000, "{} bytes are left of peers that have gone", usage.live);
}

#[test]
fn who_fills_the_queue_whenever_it_can_does_not_keep_out_the_others() {
    let ports = [1, 2, 3, 4];
    let mut host = Host::limited(PeerLimits::new(), |config| config.watermarks(256, 512).max_queued(1024));
    for port in ports {
        host.told(port, "a");
        host.peers.validate(host.key(port));
    }
    host.peers.end_reply();
    let mut first: Vec<u16> = ports.into();
    let mut sent = [0; 4];
    for _ in 0..100 {
        for port in first {
            while host.peers.send(host.key(port), bytes("news")).is_ok() {
                sent[usize::from(port) - 1] += 1;
            }
        }
        host.flush();
        // In the order of their events.
        first = host.poll().iter().map(|told| told[..1].parse().unwrap()).collect();
        assert_eq!(first.len(), 4);
    }
    let [least, most] = [sent.iter().min(), sent.iter().max()].map(|sent| *sent.unwrap());
    assert!(least > 0 && most <= 2 * least, "{sent:?}");
}

#[test]
fn an_idle_table_holds_no_buffer() {
    let mut host = Host::new();
    host.told(1, "a");
    host.peers.validate(host.key(1));
    let ((), usage) = measure(|| {
        for _ in 0..400 {
            host.peers.send(host.key(1), Bytes::from_static(&[0; 1000])).unwrap();
        }
        host.sent(400);
    });
    assert!(usage.live <= 4096, "{} bytes", usage.live);
}
