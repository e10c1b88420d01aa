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
        if due != self.armed {
            self.armed = due;
            match (due, &mut self.timer) {
                (None, timer) => *timer = None,
                (Some(at), Some(timer)) => timer.reset(clock::instant(at)),
                (Some(at), timer) => *timer = Some(R::timer(clock::instant(at))),
            }
        }
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        ready!(timer.poll(cx));
        // Should the timer have been early, it must be set anew.
        self.armed = None;
        Poll::Ready(())
    }
}
