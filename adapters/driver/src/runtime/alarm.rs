//! [`Alarm`]: the timer of a task.

use std::task::{Context, Poll, ready};

use getty_core::Timestamp;

use crate::runtime::io::Timer;
use crate::runtime::{Runtime, clock};

/// A timer that is touched only when its time changes.
pub(crate) struct Alarm<R: Runtime> {
    /// Created on first use.
    timer: Option<R::Timer>,
    /// The time to which the timer is set.
    armed: Option<Timestamp>,
}

impl<R: Runtime> Alarm<R> {
    pub(crate) fn new() -> Self {
        Alarm { timer: None, armed: None }
    }

    /// Arranges for the task to be woken at `due`. Ready if that time has come.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, due: Option<Timestamp>) -> Poll<()> {
        let Some(at) = due else {
            if self.timer.is_some() {
                *self = Alarm::new();
            }
            return Poll::Pending;
        };
        let timer = match &mut self.timer {
            Some(timer) if self.armed == due => timer,
            Some(timer) => {
                timer.reset(clock::instant(at));
                timer
            }
            none => none.insert(R::timer(clock::instant(at))),
        };
        self.armed = due;
        ready!(timer.poll(cx));
        // If the timer fired early, it must be set again.
        self.armed = None;
        Poll::Ready(())
    }
}
