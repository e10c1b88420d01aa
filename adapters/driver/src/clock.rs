//! The one origin of time in a process, shared by all its sessions.

use std::sync::OnceLock;
use std::time::Instant;

use getty_core::Timestamp;

static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// A runtime's time as the core wants it. The first time that was ever asked for is the origin.
pub(crate) fn timestamp(at: Instant) -> Timestamp {
    Timestamp::from_origin(at.saturating_duration_since(*ORIGIN.get_or_init(|| at)))
}

/// The core's time as a runtime wants it.
pub(crate) fn instant(at: Timestamp) -> Instant {
    let origin = *ORIGIN.get_or_init(Instant::now);
    // Only a stamp of centuries from now can't be said; a day is as good as never for a timer that is then reset.
    origin
        .checked_add(at.since_origin())
        .unwrap_or_else(|| Instant::now() + std::time::Duration::from_secs(86_400))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn there_and_back() {
        let now = Instant::now();
        timestamp(now);
        let later = now + Duration::from_millis(1234);
        assert_eq!(instant(timestamp(later)), later);
        assert!(timestamp(later) > timestamp(now));
    }
}
