//! How often deadlines wake a driver.

use std::collections::BTreeSet;

use getty_core::Timestamp;
use getty_core::datagram::PeerLimits;

use crate::peers_common::{Host, millis, secs};

/// The number of wakes in an hour of `count` peers with an idle timeout of 60 seconds, each heard from about
/// every 20 seconds. The timer rings at full milliseconds, as a runtime's does.
fn wakes(count: u16) -> u32 {
    let limits = PeerLimits::new().max_peers(count.into());
    let mut host = Host::limited(limits, |config| config.idle_timeout(secs(60)));
    let end = host.clock.at(secs(3600));
    let starts = (0..count).map(|peer| (host.clock.at(secs(20) * u32::from(peer) / u32::from(count)), peer));
    let mut traffic: BTreeSet<(Timestamp, u16)> = starts.collect();
    let mut seed = 5u64;
    let mut wakes = 0;
    loop {
        let wake = host.peers.poll_timeout().map(|at| at.as_nanos().next_multiple_of(1_000_000));
        let wake = wake.map_or(end, Timestamp::from_nanos);
        let &(next, peer) = traffic.first().unwrap();
        let now = host.clock.jump(wake.min(next));
        if now >= end {
            return wakes;
        }
        if wake == now {
            wakes += 1;
            host.peers.handle_timeout(now);
        } else {
            traffic.pop_first();
            host.receive(peer, "x");
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            traffic.insert((now + millis(1 + (seed >> 33) % 40_000), peer));
        }
        host.poll();
        assert!(host.peers.len() <= count.into());
    }
}

/// A peer is looked at about once in its period. Looks at many peers share the ticks, of which an hour has
/// 3840. A wheel of one level with a slot for each tick had the same figures.
#[test]
fn looks_at_deadlines_share_wakes() {
    assert_eq!([1, 3, 30, 1000].map(wakes), [76, 228, 1731, 3772]);
}
