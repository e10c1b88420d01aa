//! Received datagrams: finds their peers, and admits new ones.

use std::time::Duration;

use super::states::{PeerStates, Phase};
use crate::close::CloseReason;
use crate::datagram::activity::Periods;
use crate::datagram::compat::CONNECT_PING;
use crate::datagram::table::PeerKey;
use crate::datagram::{Path, RecvBatch};
use crate::dropped::DropReason;
use crate::pending;

/// The result of beginning the next datagram.
pub(super) enum Begun {
    Known,
    Dropped,
    Unknown(Path),
}

impl PeerStates {
    /// Whether the next datagram is from this peer.
    pub(super) fn is_next(&self, key: PeerKey) -> bool {
        let Some(peer) = self.table.at(key).filter(|peer| !peer.ending) else { return false };
        self.inbox.next_path().is_some_and(|path| path.peer == peer.address())
    }

    /// Begins the next datagram of the batch.
    #[inline]
    pub(super) fn begin(&mut self) -> Option<Begun> {
        let slot = self.inbox.batch.as_ref().map_or(0, RecvBatch::position);
        let (path, bytes, problem) = self.inbox.begin(&self.config)?;
        let found = self.found.get(slot).filter(|&index| self.table.is_at(index, path.peer));
        let found = found.or_else(|| self.table.find(path.peer));
        if let Some(reason) = problem {
            return Some(self.drop_bad(found, path, bytes, reason));
        }
        Some(match found {
            Some(index) => self.receive(index, path, bytes),
            None => self.on_unknown(path, bytes),
        })
    }

    /// Drops an invalid datagram, which is still a sign of life.
    #[cold]
    fn drop_bad(&mut self, found: Option<u32>, path: Path, bytes: usize, reason: DropReason) -> Begun {
        let bytes = if let DropReason::Oversized { bytes, .. } = reason { bytes } else { bytes };
        if let Some(index) = found {
            self.count(index, path, bytes);
        }
        self.drops.count(Some(path.peer), reason);
        Begun::Dropped
    }

    /// Counts a datagram of a known peer.
    #[inline]
    fn count(&mut self, index: u32, path: Path, bytes: usize) {
        let credit = u32::try_from(bytes).unwrap_or(u32::MAX).saturating_mul(self.limits.amplification);
        let Some(peer) = self.table.get_mut(index) else { return };
        let before = peer.activity.received_at();
        peer.set_local(path.local);
        peer.activity.count_received(self.now, bytes);
        peer.allowance = peer.allowance.saturating_add(credit);
        self.table.touch(index, before, self.now);
    }

    /// Receives a datagram of a known peer.
    #[inline]
    pub(super) fn receive(&mut self, index: u32, path: Path, bytes: usize) -> Begun {
        self.begun = Some(self.table.key(index));
        self.count(index, path, bytes);
        let Some(peer) = self.table.get(index) else { return Begun::Dropped };
        let problem = if peer.paused {
            DropReason::Paused
        } else if self.getty_compat && peer.activity.is_first() && self.inbox.datagram() == CONNECT_PING {
            DropReason::ConnectPing
        } else {
            return Begun::Known;
        };
        self.inbox.skip();
        self.drops.count(Some(path.peer), problem);
        Begun::Dropped
    }

    /// Drops the rest of the datagram being decoded.
    #[cold]
    pub(super) fn leave_rest(&mut self, key: PeerKey) {
        self.inbox.skip();
        let paused = self.table.at(key).filter(|peer| !peer.ending).map(|peer| peer.address());
        if paused.is_some() {
            self.drops.count(paused, DropReason::Paused);
        }
    }

    /// Handles a datagram of an unknown peer.
    #[cold]
    fn on_unknown(&mut self, path: Path, bytes: usize) -> Begun {
        let step = Duration::from_secs(1) / self.limits.new_per_second;
        let next = self.next_new.max(self.now) + step;
        let problem = if next > self.now + Duration::from_secs(1) {
            DropReason::TooManyNew { limit: self.limits.new_per_second }
        } else if self.table.known() >= self.limits.max_peers && !self.limits.evict {
            DropReason::TooManyPeers { limit: self.limits.max_peers }
        } else {
            self.next_new = next;
            self.asked = Some((path, bytes));
            return Begun::Unknown(path);
        };
        self.inbox.skip();
        self.drops.count(Some(path.peer), problem);
        Begun::Dropped
    }

    pub(super) fn admit(&mut self, yes: bool) -> Option<PeerKey> {
        let (path, bytes) = self.asked.take()?;
        if !yes || self.phase != Phase::Open {
            self.inbox.skip();
            self.drops.count(Some(path.peer), DropReason::NotAdmitted);
            return None;
        }
        while self.table.known() >= self.limits.max_peers {
            let index = self.table.least_recent()?;
            self.end_peer(self.table.key(index), false, Some(CloseReason::Evicted));
        }
        let index = self.table.insert(path, Periods::new(&self.config, self.now), self.now);
        self.wheel.grow(self.table.slots());
        if let Some((peer, cold)) = self.table.whole(index) {
            let (_, next) = cold.periods.expire(&mut peer.activity, &self.config, self.now, self.now);
            self.wheel.set(index, next);
        }
        self.receive(index, path, bytes);
        self.set_pending(index, pending::OPEN);
        self.begun
    }
}
