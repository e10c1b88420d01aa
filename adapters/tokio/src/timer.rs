//! Timers on tokio for getty.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::Sleep;

/// A timer.
#[derive(Debug)]
pub struct Timer(Pin<Box<Sleep>>);

impl Timer {
    pub(crate) fn new(at: Instant) -> Self {
        Timer(Box::pin(tokio::time::sleep_until(at.into())))
    }
}

impl getty_driver::Timer for Timer {
    fn reset(&mut self, at: Instant) {
        self.0.as_mut().reset(at.into());
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}
