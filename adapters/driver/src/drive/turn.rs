//! [`Turns`]: the order of a turn, the same for every task.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use getty_core::{CloseReason, Timestamp, Work};

use crate::drive::members::Membership;
use crate::drive::timing::{Due, Timing};
use crate::runtime::{Runtime, clock};
use crate::session::turn_budget::TurnBudget;

/// Bytes read, and bytes written, in one turn. The work of compression counts with those read, as
/// [`Work::bytes`] does. Staying with one session while its data is in the caches makes large messages cheap:
/// with 256 KiB, echoing 16 KiB messages took a fifth more CPU. One MiB takes well under a millisecond, and 1
/// to 7 ms of compression.
pub(crate) const TURN_BYTES: usize = 1024 * 1024;

/// Frames decoded in one turn, including those that are not for the listener. Checked between reads: one
/// read of 128 KiB may bring 21 000 empty pings, which take a millisecond.
pub(crate) const TURN_FRAMES: u64 = 4096;

/// Progress and remaining budget of a turn.
pub(crate) struct Turn {
    /// Reads left.
    reads: u32,
    /// Bytes read and written.
    read: usize,
    written: usize,
    /// The session's work at the start of the turn.
    work: Work,
    pub(crate) budget: TurnBudget,
    /// There is no more input for now; new input wakes the task.
    exhausted: bool,
    /// The budget is used up.
    spent: bool,
}

impl Turn {
    /// Starts a turn of at most `reads` reads, with the session's work at `work`.
    pub(crate) fn new(reads: u32, work: Work) -> Self {
        let budget = TurnBudget::new();
        Turn { reads, read: 0, written: 0, work, budget, exhausted: false, spent: false }
    }

    /// Limits [`Work::bytes`] to what the bytes read so far leave of the budget. They are always delivered if
    /// that takes no work.
    #[inline]
    pub(crate) fn limit_work(&mut self) {
        self.budget.work_limit = self.work.bytes + TURN_BYTES.saturating_sub(self.read).max(1) as u64;
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.spent
    }

    /// Records whether the budget is used up, with the session's work at `work`. `spent` reports a budget
    /// that the turn does not know.
    pub(crate) fn check(&mut self, work: Work, spent: bool) {
        self.spent = spent
            || self.budget.is_spent()
            || self.reads == 0
            || self.written >= TURN_BYTES
            || self.read as u64 + (work.bytes - self.work.bytes) >= TURN_BYTES as u64
            || work.frames - self.work.frames >= TURN_FRAMES;
    }
}

/// Result of a part of a turn: breaks with the close reason when the task is done.
pub(crate) type Flow = ControlFlow<Box<CloseReason>>;

/// A task that takes turns. A turn takes what handles posted; reads everything available and calls the
/// listener for it; then come deadlines, [`Listener::on_turn`](crate::Listener::on_turn), and one write.
/// One poll is one turn. If the write makes more deliverable, then that, another `on_turn` and another
/// write form a turn in the same poll, without reads, as far as the budget allows.
pub(crate) trait Turns {
    type Runtime: Runtime;

    fn timing(&mut self) -> &mut Timing<Self::Runtime>;

    fn membership(&mut self) -> &mut Membership;

    /// Begins a turn.
    fn begin_turn(&mut self, now: Timestamp) -> Turn;

    /// Calls listeners for every available event, as far as the turn's budget allows, and follows handles
    /// and the endpoint.
    fn deliver(&mut self, now: Timestamp, turn: &mut Turn) -> Flow;

    /// The same for what a read has brought. Handles and the endpoint are followed later, unless items of
    /// handles wait already.
    fn deliver_read(&mut self, now: Timestamp, turn: &mut Turn) -> Flow {
        self.deliver(now, turn)
    }

    /// Whether there may be something to deliver, or something to follow. `false` is certain, except that an
    /// endpoint's request is seen once a turn; it wakes the task again.
    fn has_more(&mut self) -> bool;

    /// Whether enough is queued to justify a write although there may be more to read.
    fn has_much_to_write(&self) -> bool;

    /// Whether messages may be held back until the queue has been written.
    fn holds_back(&self) -> bool;

    /// Writes what is queued. If anything changed, returns the number of bytes, where they count.
    fn write(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Option<usize>;

    /// Calls [`Listener::on_turn`](crate::Listener::on_turn) for each session that is owed a call; returns
    /// whether there was one.
    fn call_turns(&mut self, cx: &mut Context<'_>, now: Timestamp, turn: &mut Turn) -> bool;

    fn wants_read(&self) -> bool;

    /// Reads once; returns the number of bytes, where they count.
    fn poll_read(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Poll<usize>;

    fn next_deadline(&self) -> Option<Timestamp>;

    fn handle_timeout(&mut self, now: Timestamp);

    /// Ends what the task drives after a panic outside the callbacks, typically in a codec.
    fn end_panicked(&mut self, now: Timestamp, panic: &(dyn Any + Send)) -> Box<CloseReason>;

    /// Ends the turn and returns borrowed memory to the thread.
    fn give_back(&mut self);

    /// Arranges for the task to be woken by handles and the endpoint.
    fn end_turn(&mut self, cx: &mut Context<'_>);

    /// One poll of the task.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Box<CloseReason>> {
        let now = clock::timestamp(Self::Runtime::now());
        let flow = catch_unwind(AssertUnwindSafe(|| self.turn(cx, now)))
            .unwrap_or_else(|panic| ControlFlow::Break(self.end_panicked(now, &*panic)));
        self.give_back();
        match flow {
            ControlFlow::Break(reason) => {
                self.membership().end(&reason);
                Poll::Ready(reason)
            }
            ControlFlow::Continue(()) => {
                let next = self.next_deadline();
                if self.timing().poll(cx, next).is_ready() {
                    cx.waker().wake_by_ref();
                }
                self.end_turn(cx);
                Poll::Pending
            }
        }
    }

    /// Does everything that can be done now.
    fn turn(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Flow {
        let mut turn = self.begin_turn(now);
        self.receive(cx, now, &mut turn)?;
        // Deadlines come last: a task that had no turn for long, because the machine slept or was busy,
        // must not mistake its own lateness for the peer's. Input that the peer sent in time was waiting in
        // the transport.
        let next = self.next_deadline();
        let due = self.timing().judge(cx, next, now);
        if due == Due::Now {
            self.count_write(cx, now, &mut turn);
            self.handle_timeout(now);
        }
        // Time alone may have something to deliver: what was dropped is reported once a second.
        if self.has_more() {
            self.deliver(now, &mut turn)?;
        }
        loop {
            // Listeners judge their own deadlines in `on_turn`: those are postponed with the session's.
            let has_called = due != Due::PutOff && self.call_turns(cx, now, &mut turn);
            // A write may make room for messages held back, or end the session.
            let has_written = self.count_write(cx, now, &mut turn);
            if turn.spent || !(has_called || has_written) || !self.has_more() {
                break;
            }
            self.deliver(now, &mut turn)?;
        }
        // What the listener did last is not in `spent`.
        if turn.spent || turn.budget.is_spent() || !turn.exhausted && self.wants_read() {
            Self::Runtime::yield_now(cx);
        }
        ControlFlow::Continue(())
    }

    /// Reads and delivers until the input is exhausted or the budget is used up.
    fn receive(&mut self, cx: &mut Context<'_>, now: Timestamp, turn: &mut Turn) -> Flow {
        if self.has_more() {
            self.deliver(now, turn)?;
        }
        while !turn.spent {
            let wants_read = self.wants_read();
            let is_write_due = if wants_read { self.has_much_to_write() } else { self.holds_back() };
            if is_write_due && self.count_write(cx, now, turn) {
                self.deliver(now, turn)?;
                continue;
            }
            if !wants_read {
                break;
            }
            turn.reads -= 1;
            let Poll::Ready(n) = self.poll_read(cx, now) else {
                turn.exhausted = true;
                break;
            };
            turn.read += n;
            self.deliver_read(now, turn)?;
        }
        ControlFlow::Continue(())
    }

    /// Writes what is queued; returns whether anything changed.
    fn count_write(&mut self, cx: &mut Context<'_>, now: Timestamp, turn: &mut Turn) -> bool {
        let written = self.write(cx, now);
        turn.written += written.unwrap_or(0);
        written.is_some()
    }
}
