//! Reports of a pool: [`PoolStats`], [`AddressStats`], [`NotReady`], [`PoolClosed`].

use std::fmt;
use std::time::{Duration, Instant};

/// Statistics of a pool. The sum of `open`, `closing`, `connecting` and `waiting` is the number of sessions
/// it keeps, plus those drained after a [change of addresses](crate::Pool::set_addresses).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PoolStats {
    /// Open sessions. [`Pool::get`](crate::Pool::get) returns one of these.
    pub open: usize,
    /// Sessions that are closing.
    pub closing: usize,
    /// Attempts in progress: resolving, connecting, or a handshake (TLS, WebSocket).
    pub connecting: usize,
    /// Missing sessions without an attempt in progress. They wait until an address may be tried again.
    pub waiting: usize,
    /// Items posted to sessions that ended before taking them. They go to the next sessions.
    pub carried: usize,
    /// Statistics of each address, in the order in which the addresses were given.
    pub addresses: Vec<AddressStats>,
}

/// Statistics of one of a pool's addresses.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AddressStats {
    /// The address, as it was given.
    pub address: String,
    /// Its sessions, including those that are closing.
    pub open: usize,
    /// Attempts in progress.
    pub connecting: usize,
    /// Consecutive failures. The end of a session counts as one too.
    pub failures: u32,
    /// The last error since the beginning: why an attempt failed, or why a session ended.
    pub last_error: Option<String>,
    /// The time from which it may be tried again, if not now.
    pub rests_until: Option<Instant>,
    /// Whether it has failed [`Backoff::max_attempts`](getty_core::Backoff::max_attempts) times in a row and
    /// is not tried again.
    pub is_given_up: bool,
}

/// Error of [`Pool::wait_ready`](crate::Pool::wait_ready) and [`Pool::wait_all`](crate::Pool::wait_all): too
/// few sessions are open.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NotReady {
    /// Reason why the wait ended.
    pub why: NotReadyWhy,
    /// Number of open sessions.
    pub open: usize,
    /// Number of open sessions waited for: one, or all.
    pub wanted: usize,
    /// Number of sessions the pool keeps.
    pub sessions: usize,
    /// Statistics of each address, with its last error.
    pub addresses: Vec<AddressStats>,
}

/// Reason why a wait for sessions ended without success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotReadyWhy {
    /// The wait reached this limit.
    TimedOut(Duration),
    /// Every address is given up; see [`Backoff::max_attempts`](getty_core::Backoff::max_attempts).
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

/// Result of [`Pool::close`](crate::Pool::close).
#[derive(Debug)]
#[non_exhaustive]
pub struct PoolClosed<O> {
    /// Number of sessions that were aborted because they had not ended in time.
    pub aborted: usize,
    /// Items posted to the pool that no session took.
    pub unsent: Vec<O>,
}
