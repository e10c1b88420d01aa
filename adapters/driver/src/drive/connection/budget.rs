//! [`Budget`]: the work for one task before others have their turn.

use getty_core::Work;

use crate::drive::turn::{TURN_BYTES, TURN_FRAMES};
use crate::session::context::TURN_MESSAGES;

/// Work of a connection so far. It only grows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    pub(super) read: u64,
    pub(super) work: Work,
}

/// The work that may be done before the task yields: as much as in a turn of a driver. Results that are ready
/// one after the other use it up, by their number and by the work that each took. It is renewed when the task
/// waits.
#[derive(Debug, Default)]
pub(super) struct Budget {
    results: u32,
    /// The work done before the turn.
    before: Option<Done>,
}

impl Budget {
    /// Begins a turn, with `done` so far.
    pub(super) fn begin(&mut self, done: Done) {
        self.before.get_or_insert(done);
    }

    /// Whether it is used up, with `done` so far.
    pub(super) fn is_spent(&self, done: Done) -> bool {
        let Some(before) = self.before else { return false };
        let bytes = (done.read - before.read) + (done.work.bytes - before.work.bytes);
        self.results >= TURN_MESSAGES
            || bytes >= TURN_BYTES as u64
            || done.work.frames - before.work.frames >= TURN_FRAMES
    }

    /// Ends a turn.
    pub(super) fn end(&mut self, is_ready: bool) {
        if is_ready {
            self.results += 1;
        } else {
            *self = Budget::default();
        }
    }
}
