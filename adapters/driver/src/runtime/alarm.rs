//! [`Alarm`]: the timer of a task.

use std::task::{Context, Poll, ready};

use getty_core::Timestamp;

use crate::runtime::io::Timer;
use crate::runtime::{Runtime, clock};

/// A timer that is touched only when what it is to be set to has changed.
pub(crate) struct Alarm<R: Runtime> {
    /// Made when there first is something to wait for.
    timer: Option<R::Timer>,
    /// What the timer is set to.
    armed: Option<Timestamp>,
}

impl<R: Runtime> Alarm<R> {
    pub(crate) fn new() -> Self {
        Alarm { timer: None, armed: None }
    }

    /// Sees to it that the task wakes at `due`. Ready if that has come.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, due: Option<Timestamp>) -> Poll<()> {
        let Some(at) = due else {
            *self = Alarm::new();
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
        // Should the timer have been early, it must be set anew.
        self.armed = None;
        Poll::Ready(())
    }
}
