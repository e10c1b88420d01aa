//! [`Budget`]: how much is done for one task before others have their turn.

use getty_core::Work;

use crate::actor::TURN_MESSAGES;
use crate::driver::{TURN_BYTES, TURN_FRAMES};

/// What a connection has done so far. All of it only grows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    pub(super) read: u64,
    pub(super) work: Work,
}

/// What may be done before the task yields: as much as in a turn of a driver. It is used up by results that are ready one
/// after the other and by what each of them took, and is whole again when the task has waited.
#[derive(Debug, Default)]
pub(super) struct Budget {
    results: u32,
    /// What was done before.
    before: Option<Done>,
}

impl Budget {
    /// Begins a turn, by which `done` is done.
    pub(super) fn begin(&mut self, done: Done) {
        self.before.get_or_insert(done);
    }

    /// Whether it is used up, now that `done` is done.
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
