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

impl TurnBudget {
    pub(crate) fn new() -> Self {
        TurnBudget { events: TURN_MESSAGES, posts: TURN_POSTS, work_limit: u64::MAX }
    }

    /// Whether no more events, or no more items of handles, are allowed.
    pub(crate) fn is_spent(&self) -> bool {
        self.events == 0 || self.posts == 0
    }

    /// Whether one more event may be delivered, with the session's work at `worked`. If so, counts it.
    #[inline]
    pub(crate) fn spend(&mut self, worked: u64) -> bool {
        let spends = self.events > 0 && worked < self.work_limit;
        self.events -= u32::from(spends);
        spends
    }
}
