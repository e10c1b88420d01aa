//! [`SessionId`]: the number of a session.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

/// Number of a session: unique in this process, in the order in which sessions began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(NonZeroU64);

impl SessionId {
    pub(crate) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        // At a billion sessions a second this wraps after 584 years.
        let number = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        SessionId(NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
    }

    /// The number as an integer.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
