//! [`Engine`]: a session with its transport.

use std::task::{Context, Poll};

use getty_core::{Event, IoFailure, Messages, Seq, Timestamp, Work};

use crate::session::context::AnySession;

/// A session with its transport, driven by a [`Task`](crate::drive::task::Task): moves bytes or datagrams
/// between the two. Does not depend on listeners, handles or timers.
pub(crate) trait Engine {
    type Messages: Messages;
    type Session: AnySession<Self::Messages>;

    /// Reads allowed in one turn, however little they return.
    const TURN_READS: u32;

    /// Begins a turn.
    fn begin_turn(&mut self);

    /// Ends a turn and returns borrowed memory to the thread.
    fn end_turn(&mut self);

    fn session(&mut self) -> &mut Self::Session;

    /// Whether there may be an event to poll.
    fn wants_poll(&self) -> bool;

    /// The next message, if that is the next event. After `None`, go on with `poll_event`.
    fn poll_message(&mut self, limit: u64) -> Option<<Self::Messages as Messages>::In>;

    /// The session's next event, unless its work reaches `limit` before.
    fn poll_event(&mut self, limit: u64) -> Option<Event<<Self::Messages as Messages>::In>>;

    /// The work done so far that the bytes read do not show.
    fn work(&self) -> Work;

    /// Whether the session wants to read.
    fn wants_read(&self) -> bool;

    /// Reads once. Returns the number of bytes, where they count; 0 if the transport ended or failed, which
    /// the session then knows.
    fn poll_read(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Poll<usize>;

    /// Whether there is something to write, or our side of the stream to end.
    fn wants_write(&self) -> bool;

    /// Whether enough is queued to justify a write although there may be more to read.
    fn has_much_to_write(&self) -> bool;

    /// Writes what is queued, as far as the transport takes it. If anything changed for the session,
    /// returns the number of bytes written, where they count. Calls `unsent` for each message that the
    /// transport refused.
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        now: Timestamp,
        unsent: impl FnMut(Seq, IoFailure),
    ) -> Option<usize>;

    /// Whether the session is open, its queue is at or below the high watermark, and no message is being
    /// encoded.
    fn is_writable(&self) -> bool;

    /// Whether the session is closing, but not over yet.
    fn is_closing(&self) -> bool;

    /// The next deadline.
    fn next_deadline(&self) -> Option<Timestamp>;

    /// Applies deadlines that have passed.
    fn handle_timeout(&mut self, now: Timestamp);
}
