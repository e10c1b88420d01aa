//! [`PeerLimits`]: what peers that nobody knows may cost.

use std::time::Duration;

/// What peers that nobody knows may cost.
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
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many peers there may be. Default 10 000, at least 1. Each takes some 350 bytes here, and what a listener
    /// keeps.
    #[must_use]
    pub fn max_peers(mut self, peers: usize) -> Self {
        self.max_peers = peers.clamp(1, u32::MAX as usize / 2);
        self
    }

    /// How many new peers there may be a second, and how many at once: so within one second it may be twice as many. Who is
    /// asked about and not let in counts too. Default 1 000, at least 1. Datagrams of others are dropped: a flood of invented
    /// addresses then costs no more than looking at it.
    #[must_use]
    pub fn new_per_second(mut self, peers: u32) -> Self {
        self.new_per_second = peers.max(1);
        self
    }

    /// How many times the bytes that a peer has sent may be sent to it before it is
    /// [validated](super::Peers::validate). Default 3, as in QUIC (RFC 9000, section 8): whoever writes another's address on
    /// their datagrams gains little by it. What it has not been sent of that is remembered up to 4 GiB.
    #[must_use]
    pub fn amplification(mut self, factor: u32) -> Self {
        self.amplification = factor;
        self
    }

    /// Whether a new peer takes the place of the one that was active the longest time ago when there are as many as may
    /// be. Default yes; otherwise the new one is not let in.
    #[must_use]
    pub fn evict(mut self, on: bool) -> Self {
        self.evict = on;
        self
    }

    /// How exact the order is in which peers were last active: much less than the time in which new ones can take the
    /// places of all.
    pub(super) fn moment(&self) -> Duration {
        let turnover = self.max_peers as u64 * 1_000_000 / u64::from(self.new_per_second);
        Duration::from_micros(turnover / 8).min(Duration::from_secs(1))
    }
}
