//! [`Driver`]: the task of one session.

use std::any::Any;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};

#[cfg(feature = "websocket")]
use getty_core::websocket::{AcceptError, AnswerError, Request, Response, Verdict};
use getty_core::{
    Close, CloseReason, Event, In, Opened, Out, Protocol, SendError, Session, StreamProtocol, Timestamp,
};

use crate::context::{Holds, Side};
use crate::endpoint::{Member, Phase};
use crate::engine::{Engine, Read};
use crate::handle::{Handle, SessionId, Shared};
use crate::{Context, Io, Listener, Refuse, Runtime, clock, lending, listener};

/// How many messages and other events are delivered in one turn.
const TURN_MESSAGES: u32 = 128;

/// How many items of handles are sent in one turn. They have a bound of their own, so that whoever posts without
/// end does not keep what is received from being delivered.
const TURN_POSTS: u32 = 1024;

/// How many bytes are read, and how many are written, in one turn. Going on with one session while its data is in
/// the caches is what makes large messages cheap: with 256 KiB, echoing 16 KiB messages took a fifth more CPU. One
/// MiB takes well under a millisecond.
const TURN_BYTES: usize = 1024 * 1024;

/// How many reads a turn takes, however little they bring.
const TURN_READS: u32 = 128;

/// How many queued bytes are worth a write before the input is exhausted.
pub(crate) const WRITE_AT: usize = 64 * 1024;

/// What an endpoint wants to know of panics: the session's number and what was said.
pub(crate) type OnPanic = Arc<dyn Fn(SessionId, &(dyn Any + Send)) + Send + Sync>;

/// Tells an endpoint of a panic. Who is told may panic too; that ends nothing more.
pub(crate) fn tell_panic(on_panic: Option<&OnPanic>, id: SessionId, panic: &(dyn Any + Send)) {
    if let Some(on_panic) = on_panic {
        let _ = catch_unwind(AssertUnwindSafe(|| on_panic(id, panic)));
    }
}

/// The task of one session: a future that drives it over a stream and calls its listener, and that is ready
/// when the session is over.
///
/// One turn (one poll): what handles posted, the clock once, deadlines; then read once, call the listener for
/// all that came, write once, as often as the stream allows and up to 128 events, 1024 posted items, or 1 MiB
/// either way; then the task wakes itself again, so that others have their turn.
///
/// # Cancel safety
/// Dropping the future ends the session at once without a callback: the stream is dropped with it, and
/// handles see an abort.
#[must_use = "futures do nothing unless polled"]
pub struct Driver<R: Runtime, I, P: Protocol, L> {
    engine: Engine<R, I, P>,
    listener: L,
    side: Side<Out<P>>,
    waker: Option<Waker>,
    /// Dropped after the stream and the listener: whoever waits for the members waits for those.
    member: Option<Member>,
    on_panic: Option<OnPanic>,
    /// How many more items of handles may be sent in this turn.
    posts: u32,
    /// Items of handles wait for room in the session.
    backlog: bool,
    /// A close that a handle asked for, and that waits for the backlog.
    close_asked: Option<Box<Close>>,
    opened: bool,
    endpoint_seen: Phase,
    shutdown_told: bool,
    panicked: bool,
}

// No field is ever pinned.
impl<R: Runtime, I, P: Protocol, L> Unpin for Driver<R, I, P, L> {}

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
        let side = Side {
            id: SessionId::next(),
            local: io.local_addr(),
            peer: io.peer_addr(),
            shared: None,
            budget: 0,
            handle_queue: session.config().handle_queue(),
            holds: Holds::default(),
        };
        Driver {
            engine,
            listener,
            side,
            waker: None,
            member: None,
            on_panic: None,
            posts: 0,
            backlog: false,
            close_asked: None,
            opened,
            endpoint_seen: Phase::Running,
            shutdown_told: false,
            panicked: false,
        }
    }

    /// Tells the listener and the handles where the two ends are, if the stream does not know: over TLS of another
    /// library, say. Comes before [`handle`](Self::handle) and before the first poll.
    pub fn with_addresses(mut self, local: Option<SocketAddr>, peer: Option<SocketAddr>) -> Self {
        (self.side.local, self.side.peer) = (local, peer);
        self
    }

    /// A handle to the session.
    pub fn handle(&mut self) -> Handle<Out<P>> {
        let shared = self.side.shared();
        shared.publish(self.engine.session.last_active(), self.engine.session.stats());
        if let Some(waker) = &self.waker {
            shared.leave_waker(waker); // no turn may come to do so
        }
        Handle::new(shared.clone())
    }

    pub(crate) fn set_member(&mut self, member: Member) {
        self.member = Some(member);
    }

    pub(crate) fn set_on_panic(&mut self, on_panic: Option<OnPanic>) {
        self.on_panic = on_panic;
    }

    /// Everything that can be done now.
    fn turn(&mut self, cx: &mut TaskContext<'_>, now: Timestamp) -> Poll<Box<CloseReason>> {
        self.side.budget = TURN_MESSAGES;
        self.posts = TURN_POSTS;
        let (mut reads, mut bytes, mut written) = (TURN_READS, 0, 0);
        let mut exhausted = false; // the stream has no more input for now
        self.engine.expire(now);
        loop {
            self.take_posted(now);
            let opened = self.opened;
            if let Some(reason) = self.deliver(now) {
                return Poll::Ready(self.finish(reason));
            }
            if self.opened != opened && self.backlog {
                continue; // what was posted meanwhile comes after what the listener sent when it opened
            }
            if self.obey_endpoint(now) {
                continue;
            }
            let counts_spent = self.side.budget == 0 || self.posts == 0 || reads == 0;
            let spent = counts_spent || bytes >= TURN_BYTES || written >= TURN_BYTES;
            let session = &self.engine.session;
            let due = exhausted || spent || !session.wants_read() || session.queued() >= WRITE_AT;
            let writes = self.engine.wants_write() || session.wants_shutdown();
            if due && writes && self.write(cx, now, &mut written) && !spent {
                continue; // room for messages that were held back, or the end
            }
            if spent {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !self.engine.session.wants_read() {
                return Poll::Pending;
            }
            reads -= 1;
            match self.engine.poll_read(cx, now) {
                Poll::Ready(Read::Full(n)) => bytes += n,
                Poll::Ready(Read::Short(n)) => {
                    bytes += n;
                    exhausted = true;
                }
                Poll::Ready(Read::Ended) => exhausted = true,
                // Once there is no input, it is time to write, and to end our side of the stream if that is due.
                Poll::Pending if exhausted => return Poll::Pending,
                Poll::Pending if self.engine.wants_write() || self.engine.session.wants_shutdown() => {
                    exhausted = true;
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

    /// Does what handles asked for.
    fn take_posted(&mut self, now: Timestamp) {
        let shared = match &self.side.shared {
            Some(shared) if self.backlog || shared.was_posted() => shared.clone(),
            _ => return,
        };
        let asked = shared.take_asked();
        let holds = &mut self.side.holds;
        let held = holds.any();
        holds.user = asked.pause.unwrap_or(holds.user);
        holds.queue &= !asked.release;
        match (held, holds.any()) {
            (false, true) => self.engine.session.pause(),
            (true, false) => self.engine.session.resume(now),
            _ => {}
        }
        let none_yet = self.close_asked.is_none();
        if let Some(close) = asked.close.filter(|close| none_yet || !close.is_graceful()) {
            self.close_asked = Some(close);
        }
        #[cfg(feature = "websocket")]
        if let Some(verdict) = asked.verdict {
            self.answer(now, *verdict);
        }
        if let Some(abort) = self.close_asked.take_if(|close| !close.is_graceful()) {
            self.engine.session.close(now, *abort);
        }
        // Items wait until the listener has had its say, and go before a graceful close.
        let waits = !self.opened && (self.close_asked.is_none() || !self.engine.session.is_opening());
        self.backlog = waits || !self.send_posted(&shared, now, self.close_asked.is_some());
        if let Some(close) = self.close_asked.take_if(|_| !self.backlog) {
            self.engine.session.close(now, *close);
        }
    }

    /// Sends items of handles while the session is writable, or as long as it takes them if they are the `last`;
    /// says whether nothing is left to be done.
    fn send_posted(&mut self, shared: &Shared<Out<P>>, now: Timestamp, last: bool) -> bool {
        self.engine.session.end_answer();
        while last || self.engine.session.is_writable() {
            if self.posts == 0 {
                return false;
            }
            self.posts -= 1;
            let Some((item, ticket)) = shared.pop() else { return true };
            match self.engine.session.send(item) {
                Ok(accepted) => {
                    if let Some(ticket) = ticket {
                        shared.accepted(ticket, accepted.seq);
                    }
                }
                Err(SendError::Blocked(item) | SendError::Closed(item) | SendError::NotOpen(item)) => {
                    shared.put_back(item, ticket);
                    return true; // what is left is for `take_unsent`
                }
                Err(error) => {
                    if let Some(ticket) = ticket {
                        Shared::<Out<P>>::refused(&ticket);
                    }
                    self.call(now, |listener, cx| listener.on_send_error(cx, error));
                }
            }
        }
        !self.engine.session.is_open()
    }

    /// Calls the listener for every event there is, as far as the turn's budget goes; the close reason when
    /// the session is over.
    fn deliver(&mut self, now: Timestamp) -> Option<Box<CloseReason>> {
        while self.side.budget > 0 && self.engine.session.wants_poll() {
            let event = self.engine.session.poll_event()?;
            self.side.budget -= 1;
            match event {
                Event::Message(message) => self.deliver_messages(now, message),
                Event::Open(opened) => self.open(now, opened),
                #[cfg(feature = "websocket")]
                Event::Request(request) => self.ask(now, &request),
                Event::Pong { rtt } => self.call(now, |listener, cx| listener.on_pong(cx, rtt)),
                Event::Cron => self.call(now, |listener, cx| listener.on_cron(cx)),
                Event::Idle(idle) => self.call(now, |listener, cx| listener.on_idle(cx, idle)),
                Event::Writable => self.call(now, |listener, cx| listener.on_writable(cx)),
                Event::Flushed(seq) => self.call(now, |listener, cx| listener.on_flushed(cx, seq)),
                Event::ReadEnd => self.call(now, |listener, cx| listener.on_read_end(cx)),
                Event::Closed(reason) => return Some(reason),
                _ => {}
            }
        }
        None
    }

    fn deliver_messages(&mut self, now: Timestamp, message: In<P>) {
        let mut first = Some(message);
        self.call_with(now, &mut first, |listener, cx| listener.on_messages(cx));
        if let Some(message) = first {
            self.call(now, |listener, cx| listener.on_message(cx, message));
        }
    }

    /// Asks the listener whether to let a client in.
    #[cfg(feature = "websocket")]
    fn ask(&mut self, now: Timestamp, request: &Request) {
        let mut verdict = Verdict::Later;
        self.call(now, |listener, cx| verdict = listener.on_request(cx, request));
        self.answer(now, verdict);
    }

    /// Answers a client; one that can't be answered so learns that it is not its fault.
    #[cfg(feature = "websocket")]
    fn answer(&mut self, now: Timestamp, verdict: Verdict) {
        let session = &mut self.engine.session;
        let status = match session.answer(now, verdict) {
            Ok(()) | Err(AnswerError::NotAsked) => return,
            Err(AnswerError::Accept(AcceptError::NotUpgrade)) => 426,
            Err(_) => 500,
        };
        if let Ok(response) = Response::new(status) {
            let _ = session.answer(now, Verdict::Respond(response)); // it waits still, so it can be answered
        }
    }

    fn open(&mut self, now: Timestamp, mut opened: Box<Opened>) {
        opened.local = self.side.local;
        opened.peer = self.side.peer;
        let mut refused = None;
        self.call(now, |listener, cx| refused = listener.on_open(cx, &opened).err());
        self.opened = true;
        if let Some(Refuse(error)) = refused {
            self.engine.session.close(now, Close::refuse(error));
        }
    }

    /// Follows the endpoint that this session belongs to; says whether there was something to follow.
    fn obey_endpoint(&mut self, now: Timestamp) -> bool {
        let Some(member) = &self.member else { return false };
        self.endpoint_seen = member.phase();
        match self.endpoint_seen {
            Phase::ShuttingDown if !self.shutdown_told && self.engine.session.is_opening() => {
                self.shutdown_told = true;
                self.engine.session.close(now, listener::going_away());
                true
            }
            Phase::ShuttingDown if self.opened && !self.shutdown_told => {
                self.shutdown_told = true;
                self.call(now, |listener, cx| listener.on_shutdown(cx));
                true
            }
            Phase::Aborting if self.engine.session.is_over() => false,
            Phase::Aborting => {
                self.engine.session.close(now, Close::abort());
                true
            }
            Phase::Running | Phase::ShuttingDown => false,
        }
    }

    fn call(&mut self, now: Timestamp, callback: impl FnOnce(&mut L, &mut Context<'_, P::Messages>)) {
        self.call_with(now, &mut None, callback);
    }

    /// Calls the listener, unless it has panicked.
    fn call_with(
        &mut self,
        now: Timestamp,
        first: &mut Option<In<P>>,
        callback: impl FnOnce(&mut L, &mut Context<'_, P::Messages>),
    ) {
        if self.panicked {
            first.take();
            return;
        }
        let listener = &mut self.listener;
        let mut cx = Context::new(&mut self.engine.session, &mut self.side, first, now);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| callback(listener, &mut cx))) {
            first.take();
            self.engine.session.close(now, Close::panicked());
            self.panic(&*panic);
        }
    }

    #[cold]
    fn panic(&mut self, panic: &(dyn Any + Send)) {
        self.panicked = true;
        tell_panic(self.on_panic.as_ref(), self.side.id, panic);
    }

    /// The session is over: tells the listener, the handles and the endpoint.
    pub(crate) fn finish(&mut self, reason: Box<CloseReason>) -> Box<CloseReason> {
        let stats = self.engine.session.stats();
        if !self.panicked {
            let listener = &mut self.listener;
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| listener.on_close(&reason, &stats))) {
                self.panic(&*panic);
            }
        }
        if let Some(shared) = self.side.shared.take() {
            shared.end(reason.clone(), self.engine.session.last_active(), stats);
        }
        reason
    }

    /// Something other than a callback panicked, a codec as a rule: ends the session.
    #[cold]
    fn end_panicked(&mut self, now: Timestamp, panic: &(dyn Any + Send)) -> Poll<Box<CloseReason>> {
        tell_panic(self.on_panic.as_ref(), self.side.id, panic);
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
        if self.engine.poll_timer(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        let moved = !self.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker()));
        if moved {
            self.waker = Some(cx.waker().clone());
            let seen = self.endpoint_seen;
            if self.member.as_ref().is_some_and(|member| member.register(cx.waker()) != seen) {
                cx.waker().wake_by_ref();
            }
        }
        if let Some(shared) = &self.side.shared {
            let session = &self.engine.session;
            // What is posted while the session opens waits in the queue.
            let opening = session.is_opening();
            let (writable, open) = (session.is_writable() || opening, session.is_open() || opening);
            if !shared.end_turn(session.last_active(), session.stats(), writable, open, cx.waker()) {
                cx.waker().wake_by_ref();
            }
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
        this.engine.session.lend(lending::take());
        let result = catch_unwind(AssertUnwindSafe(|| this.turn(cx, now)))
            .unwrap_or_else(|panic| this.end_panicked(now, &*panic));
        lending::give_back(this.engine.session.take_back());
        if result.is_pending() {
            this.end_turn(cx);
        }
        result
    }
}

impl<R: Runtime, I, P: Protocol, L> Drop for Driver<R, I, P, L> {
    fn drop(&mut self) {
        if let Some(shared) = self.side.shared.take() {
            let session = &self.engine.session;
            let panicking = std::thread::panicking();
            let reason =
                if panicking { CloseReason::Panicked } else { CloseReason::Local { flushed: false } };
            shared.end(Box::new(reason), session.last_active(), session.stats());
        }
    }
}
