//! Timers.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

/// A timer.
#[derive(Debug)]
pub struct Timer {
    timer: async_io::Timer,
    /// Whether it has fired. The inner timer fires only once, but this one must stay ready.
    fired: bool,
}

impl Timer {
    /// Makes a timer that fires at `at`.
    pub fn new(at: Instant) -> Self {
        Timer { timer: async_io::Timer::at(at), fired: false }
    }
}

impl getty_driver::Timer for Timer {
    fn reset(&mut self, at: Instant) {
        self.timer.set_at(at);
        self.fired = false;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.fired = self.fired || Pin::new(&mut self.timer).poll(cx).is_ready();
        if self.fired { Poll::Ready(()) } else { Poll::Pending }
    }
}
