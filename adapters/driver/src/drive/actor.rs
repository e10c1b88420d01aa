//! [`Actor`]: the listener of a session, and what handles ask of it.

use std::any::Any;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{self, Waker};

#[cfg(feature = "websocket")]
use getty_core::websocket::{AcceptError, AnswerError, Request, Response, Verdict};
use getty_core::{Close, CloseReason, Config, Event, IoFailure, Messages, Opened, SendError, Seq, Timestamp};

use crate::drive::limits::SessionInfo;
use crate::drive::members::Phase;
use crate::drive::observe;
use crate::runtime::clock;
use crate::session::context::{Commands, Context, Holds, Side, TURN_MESSAGES};
use crate::session::handle::Handle;
use crate::session::id::SessionId;
use crate::session::listener::{self, Listener, Refuse};
use crate::session::shared::{Entry, Shared};

/// How many items of handles are sent in one turn. They have a bound of their own, so that whoever posts without
/// end does not keep what is received from being delivered.
const TURN_POSTS: u32 = 1024;

/// What an endpoint wants to know of panics: the session's number and what was said.
pub(crate) type OnPanic = Arc<dyn Fn(SessionId, &(dyn Any + Send)) + Send + Sync>;

/// Tells an endpoint of a panic. Who is told may panic too; that ends nothing more.
pub(crate) fn tell_panic(on_panic: Option<&OnPanic>, id: SessionId, panic: &(dyn Any + Send)) {
    if let Some(on_panic) = on_panic {
        let _ = catch_unwind(AssertUnwindSafe(|| on_panic(id, panic)));
    }
}

/// The listener of one session and what its handles asked for: all of a session's task that is the same over every
/// transport. The session itself is an argument, as [`Commands`].
pub(crate) struct Actor<L, M: Messages> {
    /// Until the session is over.
    listener: Option<L>,
    side: Side<M::Out>,
    on_panic: Option<OnPanic>,
    /// Since when there is the session.
    since: Timestamp,
    /// How many more items of handles may be sent in this turn.
    posts: u32,
    /// Items of handles wait for room in the session.
    backlog: bool,
    /// A close that a handle asked for, and that waits for the backlog.
    close_asked: Option<Box<Close>>,
    /// A handle asked to end the sending side, once its items are sent.
    half_close_asked: bool,
    /// [`Listener::on_turn`] was not called since this turn began, or since the last other callback.
    owes_turn: bool,
    /// When the listener wants its next turn at the latest, or wanted one before.
    turn_at: Option<Timestamp>,
    /// The outside was told of the opening, and not of the end.
    observed: bool,
    shutdown_told: bool,
    panicked: bool,
}

impl<L, M> Actor<L, M>
where
    M: Messages,
    L: Listener<M>,
{
    /// `opened` says that nobody waits for the session's opening any more.
    pub(crate) fn new(
        listener: L,
        [local, peer]: [Option<SocketAddr>; 2],
        config: &Config,
        since: Timestamp,
        opened: bool,
    ) -> Self {
        let side = Side {
            id: SessionId::next(),
            local,
            peer,
            shared: None,
            budget: 0,
            work_limit: u64::MAX,
            handle_queue: config.handle_queue(),
            holds: Holds::default(),
            opened,
        };
        Actor {
            listener: Some(listener),
            side,
            on_panic: None,
            since,
            posts: 0,
            backlog: false,
            close_asked: None,
            half_close_asked: false,
            owes_turn: false,
            turn_at: None,
            observed: false,
            shutdown_told: false,
            panicked: false,
        }
    }

    pub(crate) fn set_addresses(&mut self, local: Option<SocketAddr>, peer: Option<SocketAddr>) {
        (self.side.local, self.side.peer) = (local, peer);
    }

    pub(crate) fn set_on_panic(&mut self, on_panic: Option<OnPanic>) {
        self.on_panic = on_panic;
    }

    /// A handle to the session, which wakes `waker` unless a turn comes to leave another one.
    pub(crate) fn handle(&mut self, session: &impl Commands<M>, waker: Option<&Waker>) -> Handle<M::Out> {
        let shared = self.side.shared();
        shared.publish(session.last_active(), session.stats());
        if let Some(waker) = waker {
            shared.leave_waker(waker);
        }
        Handle::new(shared.clone())
    }

    /// The queue of a receiver is full: nothing is delivered until it has room.
    pub(crate) fn hold(&mut self, session: &mut impl Commands<M>) {
        self.side.holds.queue = true;
        if session.is_open() {
            session.pause(); // one that has ended would drop what it still has to deliver
        }
    }

    /// A turn begins: what may be done in it is counted from here.
    pub(crate) fn begin_turn(&mut self) {
        self.side.budget = TURN_MESSAGES;
        self.side.work_limit = u64::MAX;
        self.posts = TURN_POSTS;
        self.owes_turn = true;
    }

    /// Whether the turn has done as much as it may.
    pub(crate) fn is_spent(&self) -> bool {
        self.side.budget == 0 || self.posts == 0
    }

    /// Limits the session's work in this turn: no more events once its
    /// [`Work::bytes`](getty_core::Work::bytes) reach `limit`.
    pub(crate) fn limit_work(&mut self, limit: u64) {
        self.side.work_limit = limit;
    }

    /// Whether one more event may be delivered in this turn, with the session's work at `worked`. If so,
    /// counts it.
    pub(crate) fn spend(&mut self, worked: u64) -> bool {
        let spends = self.side.budget > 0 && worked < self.side.work_limit;
        self.side.budget -= u32::from(spends);
        spends
    }

    /// Whether anybody has a handle to it, or had one.
    pub(crate) fn has_handles(&self) -> bool {
        self.side.shared.is_some()
    }

    /// Whether items of handles wait.
    pub(crate) fn has_backlog(&self) -> bool {
        self.backlog
    }

    /// Whether handles posted anything that was not taken up.
    pub(crate) fn has_posts(&self) -> bool {
        self.backlog || self.side.shared.as_ref().is_some_and(|shared| shared.was_posted())
    }

    /// Whether the listener was told of the opening.
    pub(crate) fn is_opened(&self) -> bool {
        self.side.opened
    }

    /// Does what handles asked for.
    pub(crate) fn take_posted(&mut self, session: &mut impl Commands<M>, now: Timestamp) {
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
            answer(session, now, *verdict);
        }
        if let Some(abort) = self.close_asked.take_if(|close| !close.is_graceful()) {
            session.close(now, *abort);
        }
        self.half_close_asked |= asked.half_close;
        // Items wait until the listener has had its say, and go before a graceful close or a half-close.
        let waits = !self.side.opened && (self.close_asked.is_none() || !session.is_opening());
        self.backlog = waits || !self.send_posted(session, &shared, now, self.close_asked.is_some());
        if self.half_close_asked && !self.backlog {
            self.half_close_asked = false;
            shared.half_closed(session.half_close(now));
        }
        if let Some(close) = self.close_asked.take_if(|_| !self.backlog) {
            session.close(now, *close);
        }
    }

    /// Sends items of handles while the session is writable, or as long as it takes them if they are the `last`;
    /// says whether nothing is left to be done.
    fn send_posted(
        &mut self,
        session: &mut impl Commands<M>,
        shared: &Shared<M::Out>,
        now: Timestamp,
        last: bool,
    ) -> bool {
        session.end_answer();
        while last || session.is_writable() {
            if self.posts == 0 || session.worked() >= self.side.work_limit {
                return false;
            }
            self.posts -= 1;
            let Some(Entry { item, to, teller, pooled }) = shared.pop() else { return true };
            let sent = match to {
                None => session.send(item),
                Some(peer) => session.send_to(peer.into(), item),
            };
            match sent {
                Ok(accepted) => {
                    if let Some(teller) = teller {
                        shared.taken(teller, accepted.seq);
                    }
                }
                Err(SendError::Blocked(item) | SendError::Closed(item) | SendError::NotOpen(item)) => {
                    shared.put_back(Entry { item, to, teller, pooled });
                    return true; // what is left is for `take_unsent`
                }
                Err(error) => {
                    drop(teller); // which tells the sender so
                    self.call(session, now, |listener, cx| listener.on_send_error(cx, error));
                }
            }
        }
        !session.is_open()
    }

    /// Calls the listener for an event; the close reason if that was the last.
    pub(crate) fn handle_event(
        &mut self,
        session: &mut impl Commands<M>,
        now: Timestamp,
        event: Event<M::In>,
    ) -> Option<Box<CloseReason>> {
        match event {
            Event::Message(message) => self.deliver_messages(session, now, message),
            Event::Open(opened) => self.open(session, now, opened),
            #[cfg(feature = "websocket")]
            Event::Request(request) => self.ask(session, now, &request),
            Event::Pong { rtt } => self.call(session, now, |listener, cx| listener.on_pong(cx, rtt)),
            Event::Cron => self.call(session, now, |listener, cx| listener.on_cron(cx)),
            Event::Idle(idle) => self.call(session, now, |listener, cx| listener.on_idle(cx, idle)),
            Event::Writable => self.call(session, now, |listener, cx| listener.on_writable(cx)),
            Event::Flushed(seq) => self.call(session, now, |listener, cx| listener.on_flushed(cx, seq)),
            Event::ReadEnd => self.call(session, now, |listener, cx| listener.on_read_end(cx)),
            Event::Dropped(dropped) => {
                self.call(session, now, |listener, cx| listener.on_dropped(cx, &dropped))
            }
            Event::Closed(reason) => return Some(reason),
            _ => {}
        }
        None
    }

    fn deliver_messages(&mut self, session: &mut impl Commands<M>, now: Timestamp, message: M::In) {
        let mut first = Some(message);
        self.call_with(session, now, &mut first, |listener, cx| listener.on_messages(cx));
        if let Some(message) = first {
            self.call(session, now, |listener, cx| listener.on_message(cx, message));
        }
    }

    /// Asks the listener whether to let a client in.
    #[cfg(feature = "websocket")]
    fn ask(&mut self, session: &mut impl Commands<M>, now: Timestamp, request: &Request) {
        let mut verdict = Verdict::Later;
        self.call(session, now, |listener, cx| verdict = listener.on_request(cx, request));
        answer(session, now, verdict);
    }

    /// Tells the outside that the session is open.
    pub(crate) fn observe_opened(&mut self) {
        self.observed = true;
        observe::opened(self.side.id, self.side.local, self.side.peer);
    }

    fn open(&mut self, session: &mut impl Commands<M>, now: Timestamp, mut opened: Box<Opened>) {
        opened.local = self.side.local;
        opened.peer = self.side.peer;
        self.observe_opened();
        self.side.opened = true;
        let mut refused = None;
        self.call(session, now, |listener, cx| refused = listener.on_open(cx, &opened).err());
        if let Some(Refuse(error)) = refused {
            session.close(now, Close::refuse(error));
        }
    }

    /// Follows the endpoint that this session belongs to; says whether there was something to follow.
    pub(crate) fn obey(&mut self, session: &mut impl Commands<M>, now: Timestamp, phase: Phase) -> bool {
        match phase {
            Phase::ShuttingDown if !self.shutdown_told && session.is_opening() => {
                self.shutdown_told = true;
                session.close(now, listener::going_away());
                true
            }
            Phase::ShuttingDown if self.side.opened && !self.shutdown_told => {
                self.shutdown_told = true;
                self.call(session, now, |listener, cx| listener.on_shutdown(cx));
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
        session: &mut impl Commands<M>,
        now: Timestamp,
        callback: impl FnOnce(&mut L, &mut Context<'_, M>),
    ) {
        self.call_with(session, now, &mut None, callback);
    }

    /// Calls the listener, unless it has panicked.
    fn call_with(
        &mut self,
        session: &mut impl Commands<M>,
        now: Timestamp,
        first: &mut Option<M::In>,
        callback: impl FnOnce(&mut L, &mut Context<'_, M>),
    ) {
        let Some(listener) = self.listener.as_mut().filter(|_| !self.panicked) else {
            first.take();
            return;
        };
        self.owes_turn = true;
        let (id, peer) = (self.side.id, self.side.peer);
        let mut cx = Context::new(session, &mut self.side, first, now);
        let call = || observe::in_session(id, peer, || callback(listener, &mut cx));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
            first.take();
            session.close(now, Close::panicked());
            self.panic(&*panic);
        }
    }

    /// Calls [`Listener::on_turn`] if it is owed and the session is open; says whether it did. `task` is woken for another.
    pub(crate) fn take_turn(
        &mut self,
        session: &mut impl Commands<M>,
        now: Timestamp,
        task: &mut task::Context<'_>,
    ) -> bool {
        if !self.side.opened || !session.is_live() {
            self.turn_at = None;
            return false;
        }
        if !self.owes_turn {
            return false;
        }
        session.end_answer();
        let mut at = None;
        self.call(session, now, |listener, cx| at = listener.on_turn(cx, task));
        self.owes_turn = false;
        self.side.budget = self.side.budget.saturating_sub(1);
        // The timer is not touched for what is later: when it fires, there is a turn that sets it anew.
        let at = at.map(clock::timestamp);
        let before = self.turn_at.filter(|&before| before > now);
        self.turn_at = before.into_iter().chain(at).min();
        true
    }

    /// When the listener wants its next turn at the latest.
    pub(crate) fn turn_at(&self) -> Option<Timestamp> {
        self.turn_at
    }

    /// The session is over: tells the listener and the handles.
    pub(crate) fn finish(
        &mut self,
        session: &mut impl Commands<M>,
        now: Timestamp,
        reason: Box<CloseReason>,
    ) -> Box<CloseReason> {
        let stats = session.stats();
        let observed = std::mem::take(&mut self.observed);
        observe::closed(self.side.id, self.side.peer, &reason, &stats, observed);
        self.call(session, now, |listener, cx| listener.on_close(cx, &reason));
        if let Some(shared) = self.side.shared.take() {
            let left = shared.end(reason.clone(), session.last_active(), stats);
            self.discard(left);
        }
        self.discard_listener();
        reason
    }

    /// The socket could not send the datagram of this message.
    #[cold]
    pub(crate) fn tell_unsent(&self, seq: Seq, failure: IoFailure) {
        if let Some(shared) = &self.side.shared {
            shared.unsent(seq, failure);
        }
    }

    /// The session, as the endpoint tells of it.
    pub(crate) fn info(&self, session: &impl Commands<M>) -> SessionInfo {
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

    /// Makes facts known to handles, and sees to it that they wake `waker`. Gives false if something was posted meanwhile,
    /// which calls for another turn.
    pub(crate) fn end_turn(&self, session: &impl Commands<M>, waker: &Waker) -> bool {
        let Some(shared) = &self.side.shared else { return true };
        // What is posted while the session opens waits in the queue.
        let opening = session.is_opening();
        let (writable, open) = (session.is_writable() || opening, session.is_open() || opening);
        shared.end_turn(session.last_active(), session.stats(), writable, open, waker)
    }
}

impl<L, M: Messages> Actor<L, M> {
    /// The task is dropped: tells the handles.
    pub(crate) fn abandon(&mut self, session: &impl Commands<M>) {
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

    /// Executors end the process when a task panics while it is dropped, so a listener that does is dropped before.
    fn discard_listener(&mut self) {
        let listener = self.listener.take();
        self.discard(listener);
    }

    /// Drops what is the user's, which may panic in that.
    fn discard<T>(&mut self, left: T) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(left))) {
            self.panic(&*panic);
        }
    }

    #[cold]
    fn panic(&mut self, panic: &(dyn Any + Send)) {
        self.panicked = true;
        self.tell_panic(panic);
    }

    /// Tells the endpoint of a panic that was none of the listener.
    pub(crate) fn tell_panic(&self, panic: &(dyn Any + Send)) {
        tell_panic(self.on_panic.as_ref(), self.side.id, panic);
    }
}

/// Answers a client; one that can't be answered so learns that it is not its fault.
#[cfg(feature = "websocket")]
fn answer<M: Messages>(session: &mut impl Commands<M>, now: Timestamp, verdict: Verdict) {
    let status = match session.answer(now, verdict) {
        Ok(()) | Err(AnswerError::NotAsked) => return,
        Err(AnswerError::Accept(AcceptError::NotUpgrade)) => 426,
        Err(_) => 500,
    };
    if let Ok(response) = Response::new(status) {
        let _ = session.answer(now, Verdict::Respond(response)); // it waits still, so it can be answered
    }
}
