//! [`Driver`]: the task of one session.

use std::any::Any;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use getty_core::{Close, CloseReason, Event, Out, Session, StreamProtocol, Timestamp, Work};

use crate::drive::actor::{Actor, OnPanic};
use crate::drive::engine::{Engine, Read};
use crate::drive::members::{Member, Membership, Phase};
use crate::runtime::io::Io;
use crate::runtime::{Runtime, clock, thread_memory};
use crate::session::handle::Handle;
use crate::session::listener::Listener;

/// How many bytes are read, and how many are written, in one turn; what is decompressed and compressed counts
/// with what is read. Going on with one session while its data is in the caches is what makes large messages
/// cheap: with 256 KiB, echoing 16 KiB messages took a fifth more CPU. One MiB takes well under a
/// millisecond.
pub(crate) const TURN_BYTES: usize = 1024 * 1024;

/// How many frames are decoded in one turn, those included that are not for the listener. Checked between
/// reads: one read of 128 KiB may bring 21 000 empty pings, which take a millisecond.
pub(crate) const TURN_FRAMES: u64 = 4096;

/// How many reads a turn takes, however little they bring.
const TURN_READS: u32 = 128;

/// How many queued bytes are worth a write before the input is exhausted.
pub(crate) const WRITE_AT: usize = 64 * 1024;

/// The task of one session: a future that drives it over a stream and calls its listener, and that is ready
/// when the session is over.
///
/// One turn (one poll): the clock once, what handles posted; then read once, call the listener for all that
/// came, write once, as often as the stream allows and up to 128 events, 1024 posted items, 4096 frames of
/// any kind, or 1 MiB either way, what is decompressed included; then deadlines, and if there is more to do,
/// the task [yields](Runtime::yield_now) to others.
///
/// # Cancel safety
/// Dropping the future ends the session at once without a callback: the stream is dropped with it, and
/// handles see an abort.
#[must_use = "futures do nothing unless polled"]
pub struct Driver<R: Runtime, I, P: StreamProtocol, L> {
    engine: Engine<R, I, P>,
    actor: Actor<L, P::Messages>,
    /// Dropped after the stream and the listener: whoever waits for the members waits for those.
    membership: Membership,
}

/// How far a turn has come.
struct Turn {
    /// How many more reads there may be.
    reads: u32,
    /// Bytes that were read, and written.
    read: usize,
    written: usize,
    /// The session's work when the turn began.
    work: Work,
    /// The stream has no more input for now.
    exhausted: bool,
    /// The turn has used up its budget.
    spent: bool,
}

impl Turn {
    /// The most that [`Work::bytes`] may come to in this turn. What was read is always delivered if that adds
    /// nothing to it.
    fn work_limit(&self) -> u64 {
        self.work.bytes + TURN_BYTES.saturating_sub(self.read).max(1) as u64
    }

    /// Whether the turn has used up its budget, with the session's work at `work`.
    fn is_spent(&self, work: Work) -> bool {
        self.reads == 0
            || self.written >= TURN_BYTES
            || self.read as u64 + (work.bytes - self.work.bytes) >= TURN_BYTES as u64
            || work.frames - self.work.frames >= TURN_FRAMES
    }
}

// No field is ever pinned.
impl<R: Runtime, I, P: StreamProtocol, L> Unpin for Driver<R, I, P, L> {}

impl<R, I, P, L> Driver<R, I, P, L>
where
    R: Runtime,
    I: Io,
    P: StreamProtocol,
    L: Listener<P::Messages>,
{
    /// Drives `session` over `io`.
    pub fn new(session: Session<P>, io: I, listener: L) -> Self {
        Self::from_engine(Engine::new(session, io), listener, false)
    }

    /// Goes on with a session; `opened` says that nobody waits for its opening any more.
    pub(crate) fn from_engine(engine: Engine<R, I, P>, listener: L, opened: bool) -> Self {
        let Engine { session, io, .. } = &engine;
        let actor = Actor::new(
            listener,
            [io.local_addr(), io.peer_addr()],
            session.config(),
            session.last_active(),
            opened,
        );
        let mut driver = Driver { engine, actor, membership: Membership::none() };
        if opened {
            driver.actor.observe_opened();
        }
        driver
    }

    /// Tells the listener and the handles where the two ends are, if the stream does not know: over TLS of another
    /// library, say. Comes before [`handle`](Self::handle) and before the first poll.
    pub fn with_addresses(mut self, local: Option<SocketAddr>, peer: Option<SocketAddr>) -> Self {
        self.actor.set_addresses(local, peer);
        self
    }

    /// A handle to the session.
    pub fn handle(&mut self) -> Handle<Out<P>> {
        self.actor.handle(&self.engine.session, self.membership.waker())
    }

    /// The session begins with a full queue of a receiver.
    pub(crate) fn hold(&mut self) {
        self.actor.hold(&mut self.engine.session);
    }

    /// Whether the listener was told of the opening, and the session takes messages.
    pub(crate) fn is_open(&self) -> bool {
        self.actor.is_opened() && self.engine.session.is_open()
    }

    pub(crate) fn set_member(&mut self, member: Member) {
        self.membership.set(member);
    }

    pub(crate) fn set_on_panic(&mut self, on_panic: Option<OnPanic>) {
        self.actor.set_on_panic(on_panic);
    }

    /// Everything that can be done now. Deadlines come last: a task that had no turn for long, since the machine slept or
    /// was busy, is not to take its own lateness for the peer's. What that did in time may be waiting in the stream.
    fn turn(&mut self, cx: &mut TaskContext<'_>, now: Timestamp) -> Poll<Box<CloseReason>> {
        self.actor.begin_turn();
        let work = self.engine.session.work();
        let mut turn = Turn { reads: TURN_READS, read: 0, written: 0, work, exhausted: false, spent: false };
        let mut worked = self.work(cx, now, &mut turn);
        if worked.is_pending() && self.engine.expire(cx, now) {
            turn.exhausted = true;
            worked = self.work(cx, now, &mut turn);
        }
        if worked.is_pending() && turn.spent {
            R::yield_now(cx);
        }
        worked
    }

    fn work(&mut self, cx: &mut TaskContext<'_>, now: Timestamp, turn: &mut Turn) -> Poll<Box<CloseReason>> {
        loop {
            self.actor.limit_work(turn.work_limit());
            self.actor.take_posted(&mut self.engine.session, now);
            let opened = self.actor.is_opened();
            if let Some(reason) = self.deliver(now) {
                return Poll::Ready(self.finish(reason));
            }
            if self.actor.is_opened() != opened {
                self.membership.open();
                if self.actor.has_backlog() {
                    continue; // what was posted meanwhile comes after what the listener sent when it opened
                }
            }
            if self.obey_endpoint(now) {
                continue;
            }
            let session = &self.engine.session;
            turn.spent = self.actor.is_spent() || turn.is_spent(session.work());
            let due = turn.exhausted || turn.spent || !session.wants_read() || session.queued() >= WRITE_AT;
            let writes = self.engine.wants_write() || session.wants_shutdown();
            if due && writes && self.write(cx, now, &mut turn.written) && !turn.spent {
                continue; // room for messages that were held back, or the end
            }
            if turn.spent {
                return Poll::Pending;
            }
            if !self.engine.session.wants_read() {
                return Poll::Pending;
            }
            turn.reads -= 1;
            match self.engine.poll_read(cx, now) {
                Poll::Ready(Read::Full(n)) => turn.read += n,
                Poll::Ready(Read::Short(n)) => {
                    turn.read += n;
                    turn.exhausted = true;
                }
                Poll::Ready(Read::Ended) => turn.exhausted = true,
                // Once there is no input, it is time to write, and to end our side of the stream if that is due.
                Poll::Pending if turn.exhausted => return Poll::Pending,
                Poll::Pending if self.engine.wants_write() || self.engine.session.wants_shutdown() => {
                    turn.exhausted = true;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Writes what is queued, and ends our side of the stream when that is due. Adds to `written`, and says
    /// whether anything changed for the session.
    fn write(&mut self, cx: &mut TaskContext<'_>, now: Timestamp, written: &mut usize) -> bool {
        let queued = self.engine.session.queued();
        let result = self.engine.poll_write(cx, now);
        *written += queued.saturating_sub(self.engine.session.queued());
        if matches!(result, Poll::Ready(Ok(()))) && self.engine.session.wants_shutdown() {
            return self.engine.poll_shutdown(cx, now).is_ready();
        }
        self.engine.session.queued() != queued || matches!(result, Poll::Ready(Err(_)))
    }

    /// Calls the listener for every event there is, as far as the turn's budget goes; the close reason when
    /// the session is over.
    fn deliver(&mut self, now: Timestamp) -> Option<Box<CloseReason>> {
        while self.engine.session.wants_poll() && self.actor.spend(self.engine.session.work().bytes) {
            let event = self.engine.session.poll_event()?;
            let closed = self.actor.handle_event(&mut self.engine.session, now, event);
            if closed.is_some() {
                return closed;
            }
        }
        None
    }

    /// Whether the session never opened, has said what it had to say, and waits for nothing but the peer's
    /// end of the stream.
    fn awaits_end_unopened(&self) -> bool {
        let session = &self.engine.session;
        let is_closing = session.close_reason().is_some() && !session.is_over();
        let has_done_all = !session.wants_poll() && !self.engine.wants_write() && !session.wants_shutdown();
        is_closing && has_done_all && !self.actor.is_opened()
    }

    /// Follows the endpoint that this session belongs to; says whether there was something to follow.
    fn obey_endpoint(&mut self, now: Timestamp) -> bool {
        let phase = self.membership.look();
        if self.membership.is_displaced() && !self.engine.session.is_over() {
            self.engine.session.close(now, Close::displaced());
            return true;
        }
        if phase == Phase::ShuttingDown && self.awaits_end_unopened() {
            self.engine.session.close(now, Close::abort());
            return true;
        }
        self.actor.obey(&mut self.engine.session, now, phase)
    }

    /// The session is over: tells the listener, the handles and the endpoint.
    pub(crate) fn finish(&mut self, reason: Box<CloseReason>) -> Box<CloseReason> {
        self.actor.finish(&self.engine.session, reason)
    }

    /// Something other than a callback panicked, a codec as a rule: ends the session.
    #[cold]
    fn end_panicked(&mut self, now: Timestamp, panic: &(dyn Any + Send)) -> Poll<Box<CloseReason>> {
        self.actor.tell_panic(panic);
        self.engine.session.close(now, Close::panicked());
        loop {
            match self.engine.session.poll_event() {
                Some(Event::Closed(reason)) => return Poll::Ready(self.finish(reason)),
                Some(_) => {}
                None => return Poll::Ready(self.finish(Box::new(CloseReason::Panicked))),
            }
        }
    }

    /// Sees to it that the task is woken for whatever comes next.
    fn end_turn(&mut self, cx: &mut TaskContext<'_>) {
        if self.engine.poll_timer(cx, None).is_ready() {
            cx.waker().wake_by_ref();
        }
        self.membership.end_turn(cx.waker(), || vec![self.actor.info(&self.engine.session)]);
        if !self.actor.end_turn(&self.engine.session, cx.waker()) {
            cx.waker().wake_by_ref();
        }
    }
}

impl<R, I, P, L> Future for Driver<R, I, P, L>
where
    R: Runtime,
    I: Io,
    P: StreamProtocol,
    L: Listener<P::Messages>,
{
    type Output = Box<CloseReason>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Box<CloseReason>> {
        let this = &mut *self;
        let now = clock::timestamp(R::now());
        this.engine.io.begin_turn();
        this.engine.session.lend(thread_memory::take());
        let result = catch_unwind(AssertUnwindSafe(|| this.turn(cx, now)))
            .unwrap_or_else(|panic| this.end_panicked(now, &*panic));
        thread_memory::give_back(this.engine.session.take_back());
        if result.is_pending() {
            this.end_turn(cx);
        }
        result
    }
}

impl<R: Runtime, I, P: StreamProtocol, L> Drop for Driver<R, I, P, L> {
    fn drop(&mut self) {
        self.actor.abandon(&self.engine.session);
    }
}
