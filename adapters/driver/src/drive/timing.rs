//! [`Timing`]: when a task acts on its deadlines.

use std::task::{Context, Poll};
use std::time::Duration;

use getty_core::Timestamp;

use crate::runtime::Runtime;
use crate::runtime::alarm::Alarm;

/// A turn that comes this long after a deadline is late.
const LATE: Duration = Duration::from_millis(100);

/// The timer of a task. If the task is late (the machine slept, the process was stopped or the thread was
/// busy), it postpones deadlines by one turn.
///
/// Input that the peer sent in time may then wait in the socket without the runtime knowing: the runtime
/// checks timers and sockets in turn, and remembers the last state of each socket. Once the task has
/// yielded, the runtime has looked again.
pub(crate) struct Timing<R: Runtime> {
    alarm: Alarm<R>,
    /// The deadlines of this turn were postponed.
    put_off: bool,
}

/// The earlier of two times.
pub(crate) fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Verdict on the next deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// It has not passed.
    NotYet,
    /// It has passed: act now.
    Now,
    /// The task is late and has yielded: act in the next turn.
    PutOff,
}

impl<R: Runtime> Timing<R> {
    pub(crate) fn new() -> Self {
        Timing { alarm: Alarm::new(), put_off: false }
    }

    /// Judges the next deadline, `next`. If it has passed and the turn is late, yields first, once.
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

    /// Whether the deadlines of this turn were postponed: the task comes again by itself.
    pub(crate) fn has_put_off(&self) -> bool {
        self.put_off
    }

    /// Ends the wait: the next deadline starts afresh.
    pub(crate) fn end_wait(&mut self) {
        self.put_off = false;
    }

    /// Arranges for the task to be woken at `next`. Ready if that time has come.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, next: Option<Timestamp>) -> Poll<()> {
        if self.put_off {
            return Poll::Pending; // the deadline has passed: the timer would wake the task at once
        }
        self.alarm.poll(cx, next)
    }
}
