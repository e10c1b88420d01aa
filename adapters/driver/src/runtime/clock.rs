//! The single origin of time in a process, shared by all its sessions.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use getty_core::Timestamp;

use crate::runtime::Runtime;

static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// The origin, well before the first time requested: the clock of another runtime may be behind that
/// (tokio's paused clock stands still from the start of its runtime), and times before the origin cannot be
/// represented.
fn origin(first: Instant) -> Instant {
    *ORIGIN.get_or_init(|| {
        let days = [30, 1, 0].map(|days| Duration::from_secs(days * 86_400));
        days.into_iter().find_map(|slack| first.checked_sub(slack)).unwrap_or(first)
    })
}

/// The current time of runtime `R` as a session's timestamp, for creating the session of a
/// [`Driver::new`](crate::Driver::new) or [`Connection::new`](crate::Connection::new).
#[must_use]
pub fn now<R: Runtime>() -> Timestamp {
    timestamp(R::now())
}

/// The time `wait` from now. If that cannot be represented, a thousand days from now.
pub(crate) fn after<R: Runtime>(wait: Duration) -> Instant {
    let now = R::now();
    now.checked_add(wait).unwrap_or_else(|| now + Duration::from_secs(1000 * 86_400))
}

/// Converts a runtime's time to the core's.
pub(crate) fn timestamp(at: Instant) -> Timestamp {
    Timestamp::from_origin(at.saturating_duration_since(origin(at)))
}

/// Converts the core's time to a runtime's.
pub(crate) fn instant(at: Timestamp) -> Instant {
    // Only a timestamp centuries ahead cannot be represented. For a timer that is then reset, a day is as
    // good as never.
    let origin = ORIGIN.get().copied().unwrap_or_else(|| origin(Instant::now()));
    origin.checked_add(at.since_origin()).unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let now = Instant::now();
        timestamp(now);
        let later = now + Duration::from_millis(1234);
        assert_eq!(instant(timestamp(later)), later);
        assert!(timestamp(later) > timestamp(now));
    }

    /// Runtimes with their own clocks, such as tokio's paused one, start at any time.
    #[test]
    fn a_clock_may_be_behind_the_first_one() {
        let now = Instant::now();
        timestamp(now);
        let earlier = now - Duration::from_secs(30);
        assert_eq!(instant(timestamp(earlier)), earlier);
    }
}
