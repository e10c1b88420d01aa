//! [`Late`]: a turn that comes long after its deadline.

use std::time::Duration;

use getty_core::Timestamp;

/// A turn that comes this long after a deadline is late.
const LATE: Duration = Duration::from_millis(100);

/// Puts deadlines off by one turn if the task is late: the machine slept, the process was stopped or the
/// thread was busy.
///
/// What the peer sent in time may then be waiting in the socket without the runtime knowing: it checks timers
/// and sockets in turn, and remembers the last state of each socket. Once the task has yielded, the runtime
/// has looked again.
#[derive(Debug, Default)]
pub(crate) struct Late {
    /// The deadlines of this turn were put off.
    yielded: bool,
}

impl Late {
    /// Whether to yield once before acting on a deadline that was `due`.
    pub(crate) fn yields(&mut self, due: Timestamp, now: Timestamp) -> bool {
        self.yielded = !self.yielded && now.saturating_duration_since(due) > LATE;
        self.yielded
    }

    /// No deadline is due, or the wait is over: the next one begins afresh.
    pub(crate) fn reset(&mut self) {
        self.yielded = false;
    }

    /// Whether the task has yielded, and will be polled without a timer.
    pub(crate) fn has_yielded(&self) -> bool {
        self.yielded
    }
}
