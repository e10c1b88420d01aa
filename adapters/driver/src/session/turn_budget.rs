//! [`TurnBudget`]: what a session may still do in a turn.

/// Messages and other events delivered in one turn.
pub(crate) const TURN_MESSAGES: u32 = 128;

/// Items of handles sent in one turn. They have their own limit, so that a caller that posts endlessly does
/// not keep received messages from being delivered.
const TURN_POSTS: u32 = 1024;

/// What a session may still do in a turn.
#[derive(Debug)]
pub(crate) struct TurnBudget {
    /// Messages and other events to deliver.
    pub(crate) events: u32,
    /// Items of handles to send.
    pub(crate) posts: u32,
    /// Upper bound of the session's [`Work::bytes`](getty_core::Work::bytes).
    pub(crate) work_limit: u64,
}

/// Work of a listener that counts as one event, in bytes as [`Work::bytes`](getty_core::Work::bytes) counts
/// it. That of all events of a turn is the 1 MiB that a turn may read.
#[cfg(feature = "rpc")]
const EVENT_WORK: u64 = 8 * 1024;

impl TurnBudget {
    pub(crate) fn new() -> Self {
        TurnBudget { events: TURN_MESSAGES, posts: TURN_POSTS, work_limit: u64::MAX }
    }

    /// Whether no more events, or no more items of handles, are allowed.
    pub(crate) fn is_spent(&self) -> bool {
        self.events == 0 || self.posts == 0
    }

    /// The work that the listener may still do.
    #[cfg(feature = "rpc")]
    pub(crate) fn work(&self) -> u64 {
        u64::from(self.events) * EVENT_WORK
    }

    /// Counts work of the listener. Nothing else is done in this turn if it `goes_on` in the next one, which
    /// comes once others had theirs.
    #[cfg(feature = "rpc")]
    pub(crate) fn count_work(&mut self, bytes: u64, goes_on: bool) {
        let events = u32::try_from(bytes / EVENT_WORK).unwrap_or(u32::MAX);
        self.events = if goes_on { 0 } else { self.events.saturating_sub(events) };
    }

    /// Whether one more event may be delivered, with the session's work at `worked`. If so, counts it.
    #[inline]
    pub(crate) fn spend(&mut self, worked: u64) -> bool {
        let spends = self.events > 0 && worked < self.work_limit;
        self.events -= u32::from(spends);
        spends
    }
}
