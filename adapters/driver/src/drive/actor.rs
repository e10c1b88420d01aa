//! [`Actor`]: the listener of a session with the requests of its handles.

use std::any::Any;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{self, Waker};

#[cfg(feature = "websocket")]
use getty_core::websocket::{AcceptError, Request, RespondError, Response, Verdict};
use getty_core::{Close, CloseReason, Event, IoFailure, Messages, Opened, SendError, Seq, Timestamp};

use crate::drive::limits::SessionInfo;
use crate::drive::members::Phase;
use crate::drive::observe;
use crate::drive::timing::earlier;
use crate::runtime::clock;
use crate::session::context::{AnySession, Context, PauseReasons, SessionData};
use crate::session::handle::Handle;
use crate::session::id::SessionId;
use crate::session::listener::{self, Listener, Refuse};
use crate::session::shared::{Entry, Shared};
use crate::session::turn_budget::TurnBudget;

/// An endpoint's callback for panics: the session's number and the panic's payload. In a box, so that a
/// session holds one word for it.
pub(crate) type OnPanic = Arc<Box<dyn Fn(SessionId, &(dyn Any + Send)) + Send + Sync>>;

/// Reports a panic to an endpoint. A panic in that callback is ignored.
pub(crate) fn report_panic(on_panic: Option<&OnPanic>, id: SessionId, panic: &(dyn Any + Send)) {
    if let Some(on_panic) = on_panic {
        let _ = catch_unwind(AssertUnwindSafe(|| on_panic(id, panic)));
    }
}

/// The listener of one session with the requests of its handles: the part of a session's task that is the
/// same over every transport. The session itself is an argument, as [`AnySession`].
pub(crate) struct Actor<L, M: Messages> {
    /// `Some` until the session is over.
    listener: Option<L>,
    side: SessionData<M::Out>,
    on_panic: Option<OnPanic>,
    /// The time at which the session began.
    since: Timestamp,
    /// Items of handles wait for room in the session.
    backlog: bool,
    /// The last turn ended because its budget was used up. Items of handles that use up a turn each must not
    /// keep received messages from being delivered, so these go first in the next one.
    spent: bool,
    /// A close requested by a handle, waiting for the backlog.
    close_asked: Option<Box<Close>>,
    /// A handle asked to end the sending side, once its items are sent.
    half_close_asked: bool,
    /// [`Listener::on_turn`] has not been called since this turn began, or since the last other callback.
    owes_turn: bool,
    /// The latest time of the listener's next turn, or an earlier time that it wanted before.
    turn_at: Option<Timestamp>,
    /// The opening was reported to the outside, and the end was not.
    observed: bool,
    shutdown_reported: bool,
    panicked: bool,
}

impl<L, M> Actor<L, M>
where
    M: Messages,
    L: Listener<M>,
{
    /// `opened` means that no caller waits for the session's opening any longer.
    pub(crate) fn new(
        listener: L,
        [local, peer]: [Option<SocketAddr>; 2],
        since: Timestamp,
        opened: bool,
    ) -> Self {
        let side = SessionData {
            id: SessionId::next(),
            local,
            peer,
            shared: None,
            pause_reasons: PauseReasons::default(),
            opened,
        };
        Actor {
            listener: Some(listener),
            side,
            on_panic: None,
            since,
            backlog: false,
            spent: false,
            close_asked: None,
            half_close_asked: false,
            owes_turn: false,
            turn_at: None,
            observed: false,
            shutdown_reported: false,
            panicked: false,
        }
    }

    pub(crate) fn set_addresses(&mut self, local: Option<SocketAddr>, peer: Option<SocketAddr>) {
        (self.side.local, self.side.peer) = (local, peer);
    }

    pub(crate) fn set_on_panic(&mut self, on_panic: Option<OnPanic>) {
        self.on_panic = on_panic;
    }

    /// A handle to the session. It wakes `waker` unless a turn is coming that will register another one.
    pub(crate) fn handle(&mut self, session: &impl AnySession<M>, waker: Option<&Waker>) -> Handle<M::Out> {
        let shared = self.side.shared(session.config());
        shared.publish(session.last_active(), session.stats());
        if let Some(waker) = waker {
            shared.leave_waker(waker);
        }
        Handle::new(shared.clone())
    }

    /// Pauses because a receiver's queue is full.
    pub(crate) fn pause_for_queue(&mut self, session: &mut impl AnySession<M>) {
        self.side.pause_reasons.queue = true;
        if session.is_live() {
            session.pause(); // pausing an ended one would drop its undelivered messages
        }
    }

    /// Owes the listener a call of [`Listener::on_turn`] in this turn.
    pub(crate) fn owe_turn(&mut self) {
        self.owes_turn = true;
    }

    /// Records whether the turn ends because its budget is used up.
    pub(crate) fn set_spent(&mut self, spent: bool) {
        self.spent = spent;
    }

    /// Whether the session has, or had, a handle.
    pub(crate) fn has_handles(&self) -> bool {
        self.side.shared.is_some()
    }

    /// Whether items of handles wait.
    pub(crate) fn has_backlog(&self) -> bool {
        self.backlog
    }

    /// Whether handles posted anything not yet taken.
    pub(crate) fn has_posts(&self) -> bool {
        self.backlog || self.side.shared.as_ref().is_some_and(|shared| shared.was_posted())
    }

    /// Whether `on_open` was called.
    pub(crate) fn is_opened(&self) -> bool {
        self.side.opened
    }

    /// Carries out the requests of handles, if there are any.
    #[inline]
    pub(crate) fn take_posted(
        &mut self,
        session: &mut impl AnySession<M>,
        now: Timestamp,
        budget: &mut TurnBudget,
    ) {
        if let Some(shared) = self.side.shared.as_ref().filter(|shared| self.backlog || shared.was_posted()) {
            let shared = shared.clone();
            self.carry_out(session, now, budget, &shared);
        }
    }

    fn carry_out(
        &mut self,
        session: &mut impl AnySession<M>,
        now: Timestamp,
        budget: &mut TurnBudget,
        shared: &Shared<M::Out>,
    ) {
        let asked = shared.take_asked();
        let reasons = &mut self.side.pause_reasons;
        let was_paused = reasons.any();
        reasons.user = asked.pause.unwrap_or(reasons.user);
        reasons.queue &= !asked.end_queue_pause;
        match (was_paused, reasons.any()) {
            (false, true) => session.pause(),
            (true, false) => session.resume(now),
            _ => {}
        }
        let none_yet = self.close_asked.is_none();
        if let Some(close) = asked.close.filter(|close| none_yet || !close.is_graceful()) {
            self.close_asked = Some(close);
        }
        #[cfg(feature = "websocket")]
        if let Some(verdict) = asked.verdict {
            respond(session, now, *verdict);
        }
        if let Some(abort) = self.close_asked.take_if(|close| !close.is_graceful()) {
            session.close(now, *abort);
        }
        self.half_close_asked |= asked.half_close;
        // Items wait until `on_open` was called, and go before a graceful close or a half-close.
        let waits = !self.side.opened && (self.close_asked.is_none() || !session.is_opening());
        self.backlog = std::mem::take(&mut self.spent)
            || waits
            || !self.send_posted(session, shared, now, budget, self.close_asked.is_some());
        if self.half_close_asked && !self.backlog {
            self.half_close_asked = false;
            shared.half_closed(session.half_close(now));
        }
        if let Some(close) = self.close_asked.take_if(|_| !self.backlog) {
            session.close(now, *close);
        }
    }

    /// Sends items of handles while the session is writable, or for as long as it takes them if they are
    /// the `last`. Returns whether nothing is left to do.
    fn send_posted(
        &mut self,
        session: &mut impl AnySession<M>,
        shared: &Shared<M::Out>,
        now: Timestamp,
        budget: &mut TurnBudget,
        last: bool,
    ) -> bool {
        session.end_reply();
        while last || session.is_writable() {
            if budget.posts == 0 || session.worked() >= budget.work_limit || session.is_encoding() {
                return false;
            }
            budget.posts -= 1;
            let Some(Entry { item, to, reporter, pooled }) = shared.pop() else { return true };
            let sent = match to {
                None => session.send(item),
                Some(peer) => session.send_to(peer.into(), item),
            };
            match sent {
                Ok(accepted) => {
                    if let Some(reporter) = reporter {
                        shared.taken(reporter, accepted.seq);
                    }
                }
                Err(SendError::Blocked(item) | SendError::Closed(item) | SendError::NotOpen(item)) => {
                    shared.put_back(Entry { item, to, reporter, pooled });
                    return true; // `take_unsent` returns the rest
                }
                Err(error) => {
                    drop(reporter); // reports `NotTaken`
                    self.call(session, now, budget, |listener, cx| listener.on_send_error(cx, error));
                }
            }
        }
        !session.is_open()
    }

    /// Calls the listener for an event; returns the close reason if it was the last.
    pub(crate) fn handle_event(
        &mut self,
        session: &mut impl AnySession<M>,
        now: Timestamp,
        budget: &mut TurnBudget,
        event: Event<M::In>,
    ) -> Option<Box<CloseReason>> {
        match event {
            Event::Message(message) => self.deliver_messages(session, now, budget, message),
            Event::Open(opened) => self.open(session, now, budget, opened),
            #[cfg(feature = "websocket")]
            Event::Request(request) => self.ask(session, now, budget, &request),
            Event::Pong { rtt } => self.call(session, now, budget, |listener, cx| listener.on_pong(cx, rtt)),
            Event::Cron => self.call(session, now, budget, |listener, cx| listener.on_cron(cx)),
            Event::Idle(idle) => self.call(session, now, budget, |listener, cx| listener.on_idle(cx, idle)),
            Event::Writable => self.call(session, now, budget, |listener, cx| listener.on_writable(cx)),
            Event::Flushed(seq) => {
                self.call(session, now, budget, |listener, cx| listener.on_flushed(cx, seq))
            }
            Event::Eof => self.call(session, now, budget, |listener, cx| listener.on_eof(cx)),
            Event::Dropped(dropped) => {
                self.call(session, now, budget, |listener, cx| listener.on_dropped(cx, &dropped))
            }
            Event::Closed(reason) => return Some(reason),
            _ => {}
        }
        None
    }

    /// Calls the listener for `message` and those that follow.
    pub(crate) fn deliver_messages(
        &mut self,
        session: &mut impl AnySession<M>,
        now: Timestamp,
        budget: &mut TurnBudget,
        message: M::In,
    ) {
        let mut first = Some(message);
        self.call_with(session, now, budget, &mut first, |listener, cx| listener.on_messages(cx));
        if let Some(message) = first {
            self.call(session, now, budget, |listener, cx| listener.on_message(cx, message));
        }
    }

    /// Asks the listener whether to accept a client.
    #[cfg(feature = "websocket")]
    fn ask(
        &mut self,
        session: &mut impl AnySession<M>,
        now: Timestamp,
        budget: &mut TurnBudget,
        request: &Request,
    ) {
        let mut verdict = Verdict::Defer;
        self.call(session, now, budget, |listener, cx| verdict = listener.on_request(cx, request));
        respond(session, now, verdict);
    }

    /// Reports to the outside that the session is open.
    pub(crate) fn observe_opened(&mut self) {
        self.observed = true;
        observe::opened(self.side.id, self.side.local, self.side.peer);
    }

    fn open(
        &mut self,
        session: &mut impl AnySession<M>,
        now: Timestamp,
        budget: &mut TurnBudget,
        mut opened: Box<Opened>,
    ) {
        opened.local = self.side.local;
        opened.peer = self.side.peer;
        self.observe_opened();
        self.side.opened = true;
        let mut refused = None;
        self.call(session, now, budget, |listener, cx| refused = listener.on_open(cx, &opened).err());
        if let Some(Refuse(error)) = refused {
            session.close(now, Close::refuse(error));
        }
    }

    /// Follows the endpoint of this session; returns whether there was anything to follow.
    #[inline]
    pub(crate) fn obey(
        &mut self,
        session: &mut impl AnySession<M>,
        now: Timestamp,
        budget: &mut TurnBudget,
        phase: Phase,
    ) -> bool {
        phase != Phase::Running && self.obey_end(session, now, budget, phase)
    }

    #[cold]
    fn obey_end(
        &mut self,
        session: &mut impl AnySession<M>,
        now: Timestamp,
        budget: &mut TurnBudget,
        phase: Phase,
    ) -> bool {
        match phase {
            Phase::ShuttingDown if !self.shutdown_reported && session.is_opening() => {
                self.shutdown_reported = true;
                session.close(now, listener::going_away());
                true
            }
            Phase::ShuttingDown if self.side.opened && !self.shutdown_reported => {
                self.shutdown_reported = true;
                self.call(session, now, budget, |listener, cx| listener.on_shutdown(cx));
                true
            }
            Phase::Aborting if session.is_over() => false,
            Phase::Aborting => {
                session.close(now, Close::abort());
                true
            }
            Phase::Running | Phase::ShuttingDown => false,
        }
    }

    fn call(
        &mut self,
        session: &mut impl AnySession<M>,
        now: Timestamp,
        budget: &mut TurnBudget,
        callback: impl FnOnce(&mut L, &mut Context<'_, M>),
    ) {
        self.call_with(session, now, budget, &mut None, callback);
    }

    /// Calls the listener, unless it has panicked.
    fn call_with(
        &mut self,
        session: &mut impl AnySession<M>,
        now: Timestamp,
        budget: &mut TurnBudget,
        first: &mut Option<M::In>,
        callback: impl FnOnce(&mut L, &mut Context<'_, M>),
    ) {
        let Some(listener) = self.listener.as_mut().filter(|_| !self.panicked) else {
            first.take();
            return;
        };
        self.owes_turn = true;
        let (id, peer) = (self.side.id, self.side.peer);
        let mut cx = Context::new(session, &mut self.side, budget, first, now);
        let call = || observe::in_session(id, peer, || callback(listener, &mut cx));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
            first.take();
            session.close(now, Close::panicked());
            self.panic(&*panic);
        }
    }

    /// Calls [`Listener::on_turn`] if a call is owed and the session is open; returns whether it did.
    /// `task` is woken for the next turn.
    pub(crate) fn take_turn(
        &mut self,
        session: &mut impl AnySession<M>,
        now: Timestamp,
        budget: &mut TurnBudget,
        task: &mut task::Context<'_>,
    ) -> bool {
        if !self.side.opened || !session.is_live() {
            self.turn_at = None;
            return false;
        }
        if !self.owes_turn {
            return false;
        }
        session.end_reply();
        let mut at = None;
        self.call(session, now, budget, |listener, cx| at = listener.on_turn(cx, task));
        self.owes_turn = false;
        budget.events = budget.events.saturating_sub(1);
        // The timer is not moved to a later time: the turn that comes when it fires sets it again.
        let at = at.map(clock::timestamp);
        let before = self.turn_at.filter(|&before| before > now);
        self.turn_at = earlier(before, at);
        true
    }

    /// The latest time of the listener's next turn.
    pub(crate) fn turn_at(&self) -> Option<Timestamp> {
        self.turn_at
    }

    /// Ends the session and reports it to the listener and the handles.
    pub(crate) fn finish(
        &mut self,
        session: &mut impl AnySession<M>,
        now: Timestamp,
        reason: Box<CloseReason>,
    ) -> Box<CloseReason> {
        let stats = session.stats();
        let observed = std::mem::take(&mut self.observed);
        observe::closed(self.side.id, self.side.peer, &reason, &stats, observed);
        let budget = &mut TurnBudget::new();
        self.call(session, now, budget, |listener, cx| listener.on_close(cx, &reason));
        if let Some(shared) = self.side.shared.take() {
            let left = shared.end(reason.clone(), session.last_active(), stats);
            self.discard(left);
        }
        self.discard_listener();
        reason
    }

    /// Reports that the socket could not send the datagram of message `seq`.
    #[cold]
    pub(crate) fn report_unsent(&self, seq: Seq, failure: IoFailure) {
        if let Some(shared) = &self.side.shared {
            shared.unsent(seq, failure);
        }
    }

    /// The description of the session for the endpoint.
    pub(crate) fn info(&self, session: &impl AnySession<M>) -> SessionInfo {
        SessionInfo {
            id: self.side.id,
            local: self.side.local,
            peer: self.side.peer,
            is_open: session.is_open(),
            since: clock::instant(self.since),
            last_active: clock::instant(session.last_active()),
            stats: session.stats(),
        }
    }

    /// Publishes facts for handles and registers `waker` with them. Returns false if something was posted
    /// meanwhile, which requires another turn.
    pub(crate) fn end_turn(&self, session: &impl AnySession<M>, waker: &Waker) -> bool {
        let Some(shared) = &self.side.shared else { return true };
        // Items posted while the session opens wait in the queue.
        let opening = session.is_opening();
        if session.is_live() && !session.is_open() {
            shared.half_closed(Ok(()));
        }
        let (writable, open) = (session.is_writable() || opening, session.is_open() || opening);
        shared.end_turn(session.last_active(), session.stats(), writable, open, waker)
    }
}

impl<L, M: Messages> Actor<L, M> {
    /// Reports to the handles that the task is dropped.
    pub(crate) fn abandon(&mut self, session: &impl AnySession<M>) {
        let reason = if std::thread::panicking() {
            CloseReason::Panicked
        } else {
            CloseReason::Local { flushed: false }
        };
        if std::mem::take(&mut self.observed) {
            observe::closed(self.side.id, self.side.peer, &reason, &session.stats(), true);
        }
        if let Some(shared) = self.side.shared.take() {
            let left = shared.end(Box::new(reason), session.last_active(), session.stats());
            self.discard(left);
        }
        self.discard_listener();
    }

    /// Executors abort the process when a task panics while it is dropped. So a listener that may panic on
    /// drop is dropped here, earlier.
    fn discard_listener(&mut self) {
        let listener = self.listener.take();
        self.discard(listener);
    }

    /// Drops a user's value, whose destructor may panic.
    fn discard<T>(&mut self, left: T) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(left))) {
            self.panic(&*panic);
        }
    }

    #[cold]
    fn panic(&mut self, panic: &(dyn Any + Send)) {
        self.panicked = true;
        self.report_panic(panic);
    }

    /// Reports a panic outside the listener to the endpoint.
    pub(crate) fn report_panic(&self, panic: &(dyn Any + Send)) {
        report_panic(self.on_panic.as_ref(), self.side.id, panic);
    }
}

/// Responds to a client. If the verdict does not fit, the client gets an error status that puts the fault
/// on the server.
#[cfg(feature = "websocket")]
fn respond<M: Messages>(session: &mut impl AnySession<M>, now: Timestamp, verdict: Verdict) {
    let status = match session.respond(now, verdict) {
        Ok(()) | Err(RespondError::NotAsked) => return,
        Err(RespondError::Accept(AcceptError::NotUpgrade)) => 426,
        Err(_) => 500,
    };
    if let Ok(response) = Response::new(status) {
        let _ = session.respond(now, Verdict::Respond(response)); // the client still waits, so this succeeds
    }
}
