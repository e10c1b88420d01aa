//! [`Engine`]: a session and its transport.

use std::task::{Context, Poll};

use getty_core::{Event, IoFailure, Messages, Seq, Timestamp, Work};

use crate::session::context::Commands;

/// A session and its transport, as a [`Task`](crate::drive::task::Task) drives them: moves bytes or datagrams between the
/// two. Knows nothing of listeners, handles and timers.
pub(crate) trait Engine {
    type Messages: Messages;
    /// The session.
    type Session: Commands<Self::Messages>;

    /// How many reads a turn takes, however little they bring.
    const TURN_READS: u32;

    /// A turn begins.
    fn begin_turn(&mut self);

    /// A turn is over: what the thread has lent goes back to it.
    fn end_turn(&mut self);

    fn session(&mut self) -> &mut Self::Session;

    /// Whether there may be an event to poll.
    fn wants_poll(&self) -> bool;

    /// The session's next event.
    fn poll_event(&mut self) -> Option<Event<<Self::Messages as Messages>::In>>;

    /// The work done so far that the bytes read do not show.
    fn work(&self) -> Work;

    /// Whether the session wants to read.
    fn wants_read(&self) -> bool;

    /// Reads once. Gives the number of bytes where they count; 0 if the transport ended or failed, which the session knows
    /// then.
    fn poll_read(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Poll<usize>;

    /// Whether there is something to write, or to end.
    fn wants_write(&self) -> bool;

    /// Whether enough is queued to be worth a write although there may be more to read.
    fn has_much_to_write(&self) -> bool;

    /// Writes what is queued, as far as the transport takes it. Returns the number of bytes written, where they count, if
    /// anything changed for the session. `unsent` hears of each message that the transport refused.
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        now: Timestamp,
        unsent: impl FnMut(Seq, IoFailure),
    ) -> Option<usize>;

    /// Whether the session is open, and no more is queued than its high watermark.
    fn is_writable(&self) -> bool;

    /// Whether the session is closing, and not over yet.
    fn is_closing(&self) -> bool;

    /// The next deadline.
    fn next_deadline(&self) -> Option<Timestamp>;

    /// Lets deadlines that have passed take effect.
    fn handle_timeout(&mut self, now: Timestamp);
}
