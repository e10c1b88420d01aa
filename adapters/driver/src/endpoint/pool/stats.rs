//! What a pool tells of itself: [`PoolStats`], [`AddressStats`], [`NotReady`], [`PoolClosed`].

use std::fmt;
use std::time::{Duration, Instant};

/// How a pool is doing. The sum of `open`, `closing`, `connecting` and `waiting` is how many sessions it is
/// to have, and beyond that those that are drained after a [change of addresses](crate::Pool::set_addresses).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PoolStats {
    /// Sessions that are open: [`Pool::get`](crate::Pool::get) gives one of these.
    pub open: usize,
    /// Sessions that are closing.
    pub closing: usize,
    /// Attempts under way: resolving, connecting, or (TLS, WebSocket) shaking hands.
    pub connecting: usize,
    /// Sessions that are neither there nor under way: they wait until an address may be tried again.
    pub waiting: usize,
    /// Items that were posted to sessions which ended before they took them, and that go to the next ones.
    pub carried: usize,
    /// How each address is doing, in the order in which they were given.
    pub addresses: Vec<AddressStats>,
}

/// How one of a pool's addresses is doing.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AddressStats {
    /// The address, as it was given.
    pub address: String,
    /// Its sessions, those that are closing included.
    pub open: usize,
    /// Attempts under way.
    pub connecting: usize,
    /// Failures in a row. A session that ended counts as one, too.
    pub failures: u32,
    /// What went wrong last, since the beginning: why an attempt failed, or why a session ended.
    pub last_error: Option<String>,
    /// When it may be tried again, if not now.
    pub rests_until: Option<Instant>,
    /// It failed as often as [`Backoff::max_attempts`](getty_core::Backoff::max_attempts) says, and is not
    /// tried again.
    pub is_given_up: bool,
}

/// Why a pool has not as many sessions as were waited for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NotReady {
    /// What ended the waiting.
    pub why: NotReadyWhy,
    /// How many sessions were open.
    pub open: usize,
    /// The number waited for: one, or all.
    pub wanted: usize,
    /// The number that the pool is to have.
    pub sessions: usize,
    /// How each address was doing, with what went wrong there last.
    pub addresses: Vec<AddressStats>,
}

/// What ended the waiting for sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotReadyWhy {
    /// It took longer than this.
    TimedOut(Duration),
    /// Every address is given up: [`Backoff::max_attempts`](getty_core::Backoff::max_attempts).
    GivenUp,
    /// The pool was closed.
    Closed,
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NotReady { why, open, wanted: _, sessions, addresses } = self;
        write!(f, "{open} of {sessions} sessions are open")?;
        match why {
            NotReadyWhy::TimedOut(timeout) => write!(f, " after {timeout:?}")?,
            NotReadyWhy::GivenUp => f.write_str(", and every address is given up")?,
            NotReadyWhy::Closed => f.write_str(", and the pool is closed")?,
        }
        for (i, AddressStats { address, last_error, .. }) in addresses.iter().enumerate() {
            let error = last_error.as_deref().unwrap_or("no answer yet");
            write!(f, "{} {address}: {error}", if i == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

impl std::error::Error for NotReady {}

/// How [closing a pool](crate::Pool::close) went.
#[derive(Debug)]
#[non_exhaustive]
pub struct PoolClosed<O> {
    /// How many sessions had to be aborted because they were not over in time.
    pub aborted: usize,
    /// Items that were posted to the pool and that no session took.
    pub unsent: Vec<O>,
}
