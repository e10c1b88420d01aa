//! [`Trouble`]: persistent receive errors.

use std::time::Duration;

use getty_core::{IoFailure, Timestamp};

/// First rest from receiving; each further one is twice as long.
const FIRST_REST: Duration = Duration::from_millis(10);

/// Rests before the socket counts as dead: 5.11 s in total. Long enough for a memory shortage to pass,
/// short enough to notice a server that no longer listens.
const RESTS: u32 = 9;

/// Errors in a row, each different from the one before, that still count as errors of datagrams.
const CHANGES: u32 = 256;

/// A series of receive errors.
///
/// An error about a datagram occurs once: the next attempt receives something, or finds nothing to receive.
/// If the same error recurs instead, it is not about a datagram. Receiving then rests, to avoid a busy
/// loop, and tries again; twice after each rest, since the network may have reported a datagram meanwhile.
/// After the last rest, the error is the socket's.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Option<Streak>);

#[derive(Debug)]
struct Streak {
    failure: IoFailure,
    changes: u32,
    rests: u32,
    /// End of the last rest, past or future.
    until: Option<Timestamp>,
    /// Receiving has been tried since the last rest.
    tried: bool,
}

/// Meaning of a receive error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It is about a datagram.
    New,
    /// Not decided yet: another attempt shows whether it persists.
    TryAgain,
    /// Receiving rests.
    Rest,
    /// The error persists: the socket is dead.
    Stays,
}

impl Trouble {
    /// Classifies an error of receiving.
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

    /// Ends the series: something was received, or there is neither input nor an error.
    #[inline]
    pub(crate) fn end(&mut self) {
        self.0 = None;
    }

    #[inline]
    pub(crate) fn is_resting(&self, now: Timestamp) -> bool {
        self.rests_until().is_some_and(|until| until > now)
    }

    /// The time of the next attempt, if it has not been made yet.
    #[inline]
    pub(crate) fn rests_until(&self) -> Option<Timestamp> {
        self.0.as_ref().filter(|streak| !streak.tried).and_then(|streak| streak.until)
    }
}
