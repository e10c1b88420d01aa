//! [`Timing`]: when a task acts on its deadlines.

use std::task::{Context, Poll};
use std::time::Duration;

use getty_core::Timestamp;

use crate::runtime::Runtime;
use crate::runtime::alarm::Alarm;

/// A turn that comes this long after a deadline is late.
const LATE: Duration = Duration::from_millis(100);

/// The timer of a task. If the task is late, it puts deadlines off by one turn: the machine slept, the process was stopped
/// or the thread was busy.
///
/// What the peer sent in time may then be waiting in the socket without the runtime knowing: it checks timers
/// and sockets in turn, and remembers the last state of each socket. Once the task has yielded, the runtime
/// has looked again.
pub(crate) struct Timing<R: Runtime> {
    alarm: Alarm<R>,
    /// The deadlines of this turn were put off.
    put_off: bool,
}

/// What to do about deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// None has passed.
    NotYet,
    /// Act on those that have passed.
    Now,
    /// The task is late and has yielded: act in the next turn.
    PutOff,
}

impl<R: Runtime> Timing<R> {
    pub(crate) fn new() -> Self {
        Timing { alarm: Alarm::new(), put_off: false }
    }

    /// What to do about the next deadline, which is `next`. If it has passed and the turn is late, yields first,
    /// once.
    pub(crate) fn look(&mut self, cx: &mut Context<'_>, next: Option<Timestamp>, now: Timestamp) -> Due {
        let Some(at) = next.filter(|&at| at <= now) else {
            self.end_wait();
            return Due::NotYet;
        };
        self.put_off = !self.put_off && now.saturating_duration_since(at) > LATE;
        if self.put_off {
            R::yield_now(cx);
            return Due::PutOff;
        }
        Due::Now
    }

    /// The wait is over: the next deadline begins afresh.
    pub(crate) fn end_wait(&mut self) {
        self.put_off = false;
    }

    /// Arranges for the task to be woken at `next`. Ready if that has come.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, next: Option<Timestamp>) -> Poll<()> {
        if self.put_off {
            return Poll::Pending; // the deadline has passed: the task would wake itself at once
        }
        self.alarm.poll(cx, next)
    }
}
