//! [`Clock`]: time that moves only on request.

use std::time::Duration;

use getty_core::Timestamp;

/// A virtual clock.
///
/// Starts one hour after the origin, so that a forgotten timestamp (the origin itself) shows as an hour of
/// silence instead of going unnoticed.
#[derive(Debug, Clone)]
pub struct Clock {
    start: Timestamp,
    now: Timestamp,
}

impl Clock {
    /// Makes a clock at its start.
    pub fn new() -> Self {
        let start = Timestamp::from_origin(Duration::from_secs(3600));
        Clock { start, now: start }
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.now.saturating_duration_since(self.start)
    }

    /// The time `elapsed` after the start.
    pub fn at(&self, elapsed: Duration) -> Timestamp {
        self.start + elapsed
    }

    /// Advances by `step` and returns the new time.
    pub fn advance(&mut self, step: Duration) -> Timestamp {
        self.now += step;
        self.now
    }

    /// Jumps to `to`, which may be in the past: sessions must tolerate that.
    pub fn jump(&mut self, to: Timestamp) -> Timestamp {
        self.now = to;
        to
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
