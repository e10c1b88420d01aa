//! Messages to send: accepts them, and counts those that are done.

use std::collections::VecDeque;

use super::states::{CLOSED, PeerStates};
use crate::datagram::Path;
use crate::datagram::outgoing::weight;
use crate::datagram::table::PeerKey;
use crate::error::SendError;
use crate::pending;
use crate::stats::{Accepted, Seq};

/// Number of waiting datagrams for which memory is kept when there are none.
const SPARE_OWNERS: usize = 256;

/// A datagram that no longer waits.
pub(super) struct Popped {
    pub(super) path: Option<Path>,
    /// Its message, if the peer still exists.
    pub(super) message: Option<(PeerKey, Seq)>,
}

impl PeerStates {
    /// Whether a message of `bytes` may be accepted for this peer now.
    #[inline]
    pub(super) fn takes(&self, key: PeerKey, bytes: usize, limit: usize) -> bool {
        let Some(peer) = self.table.at(key).filter(|peer| !peer.ending) else { return false };
        let queued = self.outgoing.weight();
        let counted = if self.replying == Some(key) { self.outgoing.replies() } else { queued };
        bytes <= limit
            && peer.may_get(bytes)
            && (counted <= self.config.high_watermark()
                || queued.saturating_add(weight(bytes)) <= self.config.max_queued())
    }

    /// The error for an `item` of `bytes` bytes that is refused.
    #[cold]
    pub(super) fn refuse<T>(&mut self, key: PeerKey, item: T, bytes: usize, limit: usize) -> SendError<T> {
        let Some(peer) = self.table.at(key).filter(|peer| !peer.ending) else {
            return SendError::Closed(item);
        };
        let allowed = peer.may_get(bytes);
        let cold = self.table.cold_mut(key.index);
        if bytes > limit {
            cold.refused = cold.refused.saturating_add(1);
            SendError::TooLarge { item, bytes, limit }
        } else if !allowed {
            cold.refused = cold.refused.saturating_add(1);
            SendError::NotValidated(item)
        } else {
            if !std::mem::replace(&mut cold.writable_wanted, true) {
                self.refused.push(key);
                // Bounds the number of removed peers in the list.
                if self.refused.len() > 2 * self.table.slots() {
                    let table = &self.table;
                    self.refused.retain(|&key| table.at(key).is_some());
                }
            }
            SendError::Blocked(item)
        }
    }

    /// Makes a message for this peer of the last `bytes` bytes of the outgoing buffer.
    #[inline]
    pub(super) fn accept(&mut self, key: PeerKey, bytes: usize) -> Accepted {
        let is_reply = self.replying == Some(key);
        let mut seq = Seq::FIRST;
        if let Some(peer) = self.table.of(key) {
            peer.accepted += 1;
            peer.waiting += 1;
            peer.allowance = peer.allowance.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
            seq = Seq::new(peer.accepted).unwrap_or(Seq::FIRST);
            let path = Some(peer.path());
            self.outgoing.push(path, bytes, is_reply);
            self.owners.push_back(key);
        }
        self.blocked |= self.outgoing.replies() > self.config.high_watermark();
        Accepted::new(seq, bytes)
    }

    /// Removes the first datagram, `sent` or not.
    pub(super) fn pop(&mut self, sent: bool) -> Option<Popped> {
        let (path, bytes) = self.outgoing.pop()?;
        let key = self.owners.pop_front()?;
        let mut message = None;
        if let Some(peer) = self.table.of(key) {
            peer.waiting -= 1;
            message = Seq::new(peer.done()).map(|seq| (key, seq));
            if sent {
                peer.activity.count_sent(self.now, bytes);
            } else {
                peer.allowance = peer.allowance.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
            }
            let over = peer.ending && peer.waiting == 0;
            if peer.flush_wanted {
                self.check_flushed(key.index);
            }
            if !sent {
                self.table.cold_mut(key.index).unsent += 1;
            }
            if over {
                self.wheel.set(key.index, None);
                self.set_pending(key.index, CLOSED);
            }
        }
        Some(Popped { path, message })
    }

    /// Reports to a peer's session that it is flushed, if it asked and is.
    fn check_flushed(&mut self, index: u32) {
        let Some((peer, cold)) = self.table.whole(index) else { return };
        if cold.flush_wanted <= peer.done() {
            peer.flush_wanted = false;
            self.set_pending(index, pending::FLUSHED);
        }
    }

    /// Handles an increase of room in the queue.
    pub(super) fn on_drained(&mut self) {
        let low = self.config.low_watermark();
        if self.outgoing.replies() <= low && std::mem::take(&mut self.blocked) {
            self.read_since = self.now;
        }
        if self.outgoing.weight() <= low {
            let mut refused = std::mem::take(&mut self.refused);
            // Rotated, since the first peer may fill the queue again and would otherwise be first each time.
            if !refused.is_empty() {
                refused.rotate_left(1);
            }
            for key in refused {
                if self.table.at(key).is_some_and(|peer| !peer.ending) {
                    self.table.cold_mut(key.index).writable_wanted = false;
                    self.set_pending(key.index, pending::WRITABLE);
                }
            }
        }
        self.check_done();
        self.shrink();
    }

    /// Frees memory if nothing waits to be sent. Memory lent by a batch is returned to it.
    pub(super) fn shrink(&mut self) {
        if self.outgoing.is_empty() && self.inbox.batch.is_none() {
            self.outgoing.clear();
        }
        if self.owners.is_empty() && self.owners.capacity() > SPARE_OWNERS {
            self.owners = VecDeque::new();
        }
    }

    pub(super) fn forget_outgoing(&mut self) {
        self.outgoing.clear();
        self.owners = VecDeque::new();
        self.refused = Vec::new();
    }
}
