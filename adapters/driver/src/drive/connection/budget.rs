//! [`Budget`]: the work that one task may do before it yields.

use getty_core::Work;

use crate::drive::turn::{TURN_BYTES, TURN_FRAMES};
use crate::session::turn_budget::TURN_MESSAGES;

/// Work of a connection so far. Only grows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    pub(super) read: u64,
    pub(super) work: Work,
}

/// The work allowed before the task yields: the same as in a turn of a driver. Consecutive results that are
/// ready at once use it up, by their number and by the work for each. It is renewed when the task waits.
#[derive(Debug, Default)]
pub(super) struct Budget {
    results: u32,
    /// The work done before the turn.
    before: Option<Done>,
}

impl Budget {
    /// Begins a turn, with `done` as the work so far.
    pub(super) fn begin(&mut self, done: Done) {
        self.before.get_or_insert(done);
    }

    /// Whether the budget is used up, with `done` as the work so far.
    pub(super) fn is_spent(&self, done: Done) -> bool {
        let Some(before) = self.before else { return false };
        self.results >= TURN_MESSAGES
            || done.work.bytes >= self.work_limit(done.read)
            || done.work.frames - before.work.frames >= TURN_FRAMES
    }

    /// The value of [`Work::bytes`] at which the budget is used up, with `read` bytes read so far.
    pub(super) fn work_limit(&self, read: u64) -> u64 {
        let Some(before) = self.before else { return u64::MAX };
        before.work.bytes + (TURN_BYTES as u64).saturating_sub(read - before.read)
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
