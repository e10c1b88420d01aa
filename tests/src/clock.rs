//! [`Clock`]: time that moves only when told.

use std::time::Duration;

use getty_core::Timestamp;

/// A virtual clock.
///
/// Starts one hour after the origin, so that a stamp that was forgotten somewhere (and is the origin itself)
/// shows as an hour of silence instead of going unnoticed.
#[derive(Debug, Clone)]
pub struct Clock {
    start: Timestamp,
    now: Timestamp,
}

impl Clock {
    /// A clock at its start.
    pub fn new() -> Self {
        let start = Timestamp::from_origin(Duration::from_secs(3600));
        Clock { start, now: start }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.now.saturating_duration_since(self.start)
    }

    /// The point `elapsed` after the start.
    pub fn at(&self, elapsed: Duration) -> Timestamp {
        self.start + elapsed
    }

    /// Moves on by `step` and says where to.
    pub fn advance(&mut self, step: Duration) -> Timestamp {
        self.now += step;
        self.now
    }

    /// Jumps to `to`, also back: sessions must stand that.
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
