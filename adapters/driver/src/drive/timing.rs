//! [`Timing`]: when a task acts on its deadlines.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use getty_core::Timestamp;

use crate::runtime::Runtime;
use crate::runtime::alarm::Alarm;

/// A turn that comes this long after a deadline is late.
const LATE: Duration = Duration::from_millis(100);

/// The timer of a task. If the task is late (the machine slept, the process was stopped or the thread was
/// busy), it postpones deadlines.
///
/// Input that the peer sent in time may then wait in the socket without the runtime knowing: the runtime
/// checks timers and sockets in turn, and remembers the last state of each socket. When it wakes a task that
/// has yielded, it has looked again. Turns before that, for other reasons, judge nothing.
pub(crate) struct Timing<R: Runtime> {
    alarm: Alarm<R>,
    /// The deadlines are postponed; true once the runtime has looked.
    put_off: Option<Arc<AtomicBool>>,
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
    /// The task is late and has yielded: act once the runtime has looked.
    PutOff,
}

impl<R: Runtime> Timing<R> {
    pub(crate) fn new() -> Self {
        Timing { alarm: Alarm::new(), put_off: None }
    }

    /// Judges the next deadline, `next`. If it has passed and the turn is late, yields first.
    #[inline]
    pub(crate) fn judge(&mut self, cx: &mut Context<'_>, next: Option<Timestamp>, now: Timestamp) -> Due {
        match next {
            Some(at) if at <= now => self.judge_passed(cx, at, now),
            _ => {
                self.end_wait();
                Due::NotYet
            }
        }
    }

    #[inline(never)]
    fn judge_passed(&mut self, cx: &mut Context<'_>, at: Timestamp, now: Timestamp) -> Due {
        let looked = match self.put_off.take() {
            Some(looked) if looked.load(Ordering::Acquire) => return Due::Now,
            None if now.saturating_duration_since(at) <= LATE => return Due::Now,
            earlier => earlier.unwrap_or_default(),
        };
        let waker = Waker::from(Arc::new(Yielded { looked: looked.clone(), task: cx.waker().clone() }));
        R::yield_now(&mut Context::from_waker(&waker));
        self.put_off = Some(looked);
        Due::PutOff
    }

    /// Whether the deadlines of this turn were postponed: the task comes again by itself.
    pub(crate) fn has_put_off(&self) -> bool {
        self.put_off.is_some()
    }

    /// Ends the wait: the next deadline starts afresh.
    #[inline]
    pub(crate) fn end_wait(&mut self) {
        if self.has_put_off() {
            self.put_off = None;
        }
    }

    /// Arranges for the task to be woken at `next`. Ready if that time has come.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, next: Option<Timestamp>) -> Poll<()> {
        if self.has_put_off() {
            return Poll::Pending; // the deadline has passed: the timer would wake the task at once
        }
        self.alarm.poll(cx, next)
    }
}

/// The waker of a yield: records that the runtime has looked.
struct Yielded {
    looked: Arc<AtomicBool>,
    task: Waker,
}

impl Wake for Yielded {
    fn wake(self: Arc<Self>) {
        self.looked.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}
