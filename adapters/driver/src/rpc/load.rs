//! [`Load`]: the load of a session, for those who choose among several.

use std::sync::atomic::{AtomicU32, Ordering};

use getty_core::rpc::Peer;

/// The load of a session. It is read without a lock, and may be that of a moment ago.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Calls that the task has not taken.
    waiting: AtomicU32,
    /// Open calls, as of the last turn.
    open: AtomicU32,
    /// Calls that the peer would have taken at once then.
    room: AtomicU32,
}

impl Load {
    /// Notes the load of the machine.
    pub(super) fn set(&self, peer: &Peer) {
        self.open.store(peer.open_calls() as u32, Ordering::Relaxed);
        self.room.store(peer.room_for_calls() as u32, Ordering::Relaxed);
    }

    /// Notes the number of calls that the task has not taken.
    pub(super) fn set_waiting(&self, waiting: usize) {
        self.waiting.store(waiting as u32, Ordering::Relaxed);
    }

    /// Whether one more call would wait, then the number of calls: less is better.
    pub(super) fn get(&self) -> (bool, u32) {
        let waiting = self.waiting.load(Ordering::Relaxed);
        (waiting >= self.room.load(Ordering::Relaxed), waiting + self.open.load(Ordering::Relaxed))
    }
}
