//! [`Trouble`]: errors of receiving that stay.

use std::time::Duration;

use getty_core::{IoFailure, Timestamp};

/// The first rest of receiving; each further one is twice as long.
const FIRST_REST: Duration = Duration::from_millis(10);

/// Rests before the socket counts as dead, which is after 5.11 s: long enough for a lack of memory to pass,
/// short enough that a server that no longer listens is noticed.
const RESTS: u32 = 9;

/// Errors, each different from the one before, that are taken for those of datagrams.
const CHANGES: u32 = 256;

/// Errors that receiving gives one after the other.
///
/// An error about a datagram comes once: the next try receives something, or finds nothing to receive. If the
/// same error comes again instead, it is not about a datagram. Receiving then rests, so as not to be a busy
/// loop, and tries again; twice after each rest, since the network may have reported a datagram meanwhile.
/// When all rests are used up, the error is the socket's.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Option<Streak>);

#[derive(Debug)]
struct Streak {
    failure: IoFailure,
    changes: u32,
    rests: u32,
    /// The last rest is, or was, until then.
    until: Option<Timestamp>,
    /// Receiving has been tried since the last rest.
    tried: bool,
}

/// The meaning of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It is about a datagram.
    New,
    /// It is to be seen whether it stays.
    TryAgain,
    /// Receiving rests.
    Rest,
    /// The socket is dead.
    Stays,
}

impl Trouble {
    /// Receiving gave an error.
    #[cold]
    pub(crate) fn find(&mut self, failure: IoFailure, now: Timestamp) -> Finding {
        let Some(streak) = &mut self.0 else {
            self.0 = Some(Streak { failure, changes: 0, rests: 0, until: None, tried: true });
            return Finding::New;
        };
        if streak.failure != failure && streak.changes < CHANGES {
            streak.failure = failure;
            streak.changes += 1;
            streak.tried = true;
            return Finding::New;
        }
        if !std::mem::replace(&mut streak.tried, true) {
            return Finding::TryAgain;
        }
        if streak.rests == RESTS {
            return Finding::Stays;
        }
        streak.until = Some(now + FIRST_REST * (1 << streak.rests));
        streak.rests += 1;
        streak.tried = false;
        Finding::Rest
    }

    /// Something was received, or there is nothing to receive and no error either.
    #[inline]
    pub(crate) fn end(&mut self) {
        self.0 = None;
    }

    #[inline]
    pub(crate) fn is_resting(&self, now: Timestamp) -> bool {
        self.rests_until().is_some_and(|until| until > now)
    }

    /// When to try again, if that was not done yet.
    #[inline]
    pub(crate) fn rests_until(&self) -> Option<Timestamp> {
        self.0.as_ref().filter(|streak| !streak.tried).and_then(|streak| streak.until)
    }
}
