//! [`Timestamp`]: time as a number that the embedder provides.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::{Add, AddAssign};
use std::time::Duration;

/// A point in time: nanoseconds since an origin of the embedder's choice.
///
/// The core never reads a clock. The embedder picks one origin (the start of the process or of a simulation)
/// and passes every call to a session a timestamp counted from it. A timestamp takes 8 bytes, also as
/// `Option`, and reaches 584 years past the origin; arithmetic saturates there.
///
/// ```
/// use std::time::Duration;
/// use getty_core::Timestamp;
///
/// let start = Timestamp::ORIGIN;
/// let later = start + Duration::from_millis(1500);
/// assert_eq!(later.saturating_duration_since(start), Duration::from_millis(1500));
/// assert_eq!(start.saturating_duration_since(later), Duration::ZERO);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(NonZeroU64); // nanoseconds since the origin, plus one: zero is `None`

impl Timestamp {
    /// The origin itself.
    pub const ORIGIN: Timestamp = Timestamp(NonZeroU64::MIN);

    /// The time `elapsed` after the origin. Saturates after 584 years.
    pub fn from_origin(elapsed: Duration) -> Self {
        Self::ORIGIN + elapsed
    }

    /// The time `nanos` nanoseconds after the origin, for embedders that keep time as a number.
    pub fn from_nanos(nanos: u64) -> Self {
        Timestamp(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// Nanoseconds since the origin.
    pub fn as_nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// Time since the origin.
    pub fn since_origin(self) -> Duration {
        Duration::from_nanos(self.as_nanos())
    }

    /// Time since `earlier`; zero if `earlier` is later.
    pub fn saturating_duration_since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;

    /// Saturates after 584 years.
    fn add(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Timestamp {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.since_origin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bytes_also_as_an_option() {
        assert_eq!(size_of::<Option<Timestamp>>(), 8);
    }

    #[test]
    fn arithmetic_saturates_instead_of_overflowing() {
        let end = Timestamp::from_nanos(u64::MAX);
        assert_eq!(end + Duration::MAX, end);
        assert_eq!(Timestamp::ORIGIN + Duration::MAX, end);
        assert_eq!(Timestamp::ORIGIN.saturating_duration_since(end), Duration::ZERO);
        assert_eq!(Timestamp::from_nanos(7).as_nanos(), 7);
    }
}
