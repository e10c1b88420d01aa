//! Ends one peer's session, or all.

use super::states::{CLOSED, PeerStates, Phase};
use crate::close::CloseReason;
use crate::datagram::table::PeerKey;
use crate::deadline::Deadline;
use crate::pending;

impl PeerStates {
    /// Ends the session of a peer.
    pub(super) fn end_peer(&mut self, key: PeerKey, graceful: bool, reason: Option<CloseReason>) {
        let Some(peer) = self.table.of(key) else { return };
        // A session that has ended keeps its reason.
        if peer.pending & CLOSED != 0 || peer.ending && graceful {
            return;
        }
        let flushed = graceful || peer.waiting == 0;
        let over = !graceful || peer.waiting == 0;
        peer.ending = true;
        peer.pending &= pending::OPEN | pending::FLUSHED | CLOSED;
        self.table.cold_mut(key.index).reason =
            Some(Box::new(reason.unwrap_or(CloseReason::Local { flushed })));
        // At the latest when the whole close times out, if waiting datagrams are not taken.
        self.wheel.set(key.index, (!over).then_some(self.now + self.config.close_timeout()));
        self.table.forget_address(key.index);
        self.set_pending(key.index, if over { CLOSED } else { 0 });
    }

    /// Ends a closing peer whose accepted messages were not taken in time.
    #[cold]
    pub(super) fn end_late(&mut self, index: u32) {
        let reason = &mut self.table.cold_mut(index).reason;
        if let Some(CloseReason::Local { .. }) = reason.as_deref() {
            *reason = Some(Box::new(CloseReason::Timeout(Deadline::Close)));
        }
        self.set_pending(index, CLOSED);
    }

    pub(super) fn close(&mut self, reason: Option<CloseReason>) {
        if self.phase != Phase::Open {
            return;
        }
        self.stop_receiving();
        self.reason = reason.map(Box::new);
        self.close_at = Some(self.now + self.config.close_timeout());
        let indices: Vec<u32> = self.table.indices().collect();
        for index in indices {
            self.end_peer(self.table.key(index), true, self.reason.as_deref().cloned());
        }
        self.check_done();
    }

    /// Ends a graceful close once everything is sent.
    pub(super) fn check_done(&mut self) {
        if self.outgoing.is_empty() {
            self.close_at = None;
        }
    }

    /// Ends everything at once.
    pub(super) fn abort(&mut self, reason: CloseReason) {
        if self.phase == Phase::Ended || self.is_over() {
            return;
        }
        self.stop_receiving();
        self.forget_outgoing();
        self.drops.forget_report();
        self.close_at = None;
        let indices: Vec<u32> = self.table.indices().collect();
        for index in indices {
            self.end_peer(self.table.key(index), false, Some(reason.clone()));
        }
        self.reason = Some(Box::new(reason));
    }

    /// Whether everything is done except reporting it.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Flushing && self.close_at.is_none()
    }

    fn stop_receiving(&mut self) {
        self.phase = Phase::Flushing;
        self.asked = None;
        self.inbox.clear();
        self.blocked = false;
    }

    /// Ends the socket's work, after every peer's end was reported.
    pub(super) fn end(&mut self) -> Box<CloseReason> {
        self.phase = Phase::Ended;
        self.close_at = None;
        // Datagrams left are of peers whose sessions were aborted.
        self.forget_outgoing();
        self.drops.forget_report();
        self.reason.take().unwrap_or_else(|| Box::new(CloseReason::Local { flushed: true }))
    }
}
