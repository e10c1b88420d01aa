//! [`PeerLimits`]: limits on unknown peers.

use std::time::Duration;

/// Limits on the resources that unknown peers can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerLimits {
    pub(super) max_peers: usize,
    pub(super) new_per_second: u32,
    pub(super) amplification: u32,
    pub(super) evict: bool,
}

impl Default for PeerLimits {
    fn default() -> Self {
        PeerLimits { max_peers: 10_000, new_per_second: 1_000, amplification: 3, evict: true }
    }
}

impl PeerLimits {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the maximum number of peers. Default 10 000, at least 1. Each takes about 350 bytes here, plus
    /// its listener's state.
    #[must_use]
    pub fn max_peers(mut self, peers: usize) -> Self {
        self.max_peers = peers.clamp(1, u32::MAX as usize / 2);
        self
    }

    /// Sets the number of new peers per second, and the burst size, so up to twice as many within one second.
    /// Peers that the application does not admit count too. Default 1 000, at least 1. Datagrams of further
    /// new peers are dropped, so a flood of forged addresses costs only a lookup each.
    #[must_use]
    pub fn new_per_second(mut self, peers: u32) -> Self {
        self.new_per_second = peers.max(1);
        self
    }

    /// Sets how many times the bytes received from a peer may be sent to it before it is
    /// [validated](super::Peers::validate). Default 3, as in QUIC (RFC 9000, section 8): this makes forged
    /// source addresses of little use for amplification. Unused allowance is remembered up to 4 GiB.
    #[must_use]
    pub fn amplification(mut self, factor: u32) -> Self {
        self.amplification = factor;
        self
    }

    /// Sets whether a new peer replaces the least recently active one when the maximum is reached. On by
    /// default; otherwise the new peer is not admitted.
    #[must_use]
    pub fn evict(mut self, on: bool) -> Self {
        self.evict = on;
        self
    }

    /// The precision of the peers' order of activity: much less than the time in which new peers can replace
    /// all others.
    pub(super) fn moment(&self) -> Duration {
        let turnover = self.max_peers as u64 * 1_000_000 / u64::from(self.new_per_second);
        Duration::from_micros(turnover / 8).min(Duration::from_secs(1))
    }
}
