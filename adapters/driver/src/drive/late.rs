//! [`Late`]: a turn that comes long after its deadline.

use std::task::Context;
use std::time::Duration;

use getty_core::Timestamp;

use crate::runtime::Runtime;

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
    /// Whether to act now on the next deadline, which is `due`. If it has passed and the turn is late, yields
    /// first, once.
    pub(crate) fn acts<R: Runtime>(
        &mut self,
        cx: &mut Context<'_>,
        due: Option<Timestamp>,
        now: Timestamp,
    ) -> bool {
        let Some(due) = due.filter(|&at| at <= now) else {
            self.reset();
            return false;
        };
        self.yielded = !self.yielded && now.saturating_duration_since(due) > LATE;
        if self.yielded {
            R::yield_now(cx);
        }
        !self.yielded
    }

    /// The wait is over: the next deadline begins afresh.
    pub(crate) fn reset(&mut self) {
        self.yielded = false;
    }

    /// Whether the task has yielded, and will be polled without a timer.
    pub(crate) fn has_yielded(&self) -> bool {
        self.yielded
    }
}
