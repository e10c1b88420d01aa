//! [`Task`]: the task of one session, over any transport.

use std::any::Any;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use getty_core::{Close, CloseReason, Event, Messages, Timestamp};

use crate::drive::actor::{Actor, OnPanic};
use crate::drive::engine::Engine;
use crate::drive::members::{Member, Membership, Phase};
use crate::drive::timing::{Timing, earlier};
use crate::drive::turn::{Flow, Turn, Turns};
use crate::runtime::Runtime;
use crate::session::context::AnySession;
use crate::session::handle::Handle;
use crate::session::listener::Listener;
use crate::session::turn_budget::TurnBudget;

/// The task of one session: an engine and the session's listener.
pub(crate) struct Task<R: Runtime, E: Engine, L> {
    engine: E,
    actor: Actor<L, E::Messages>,
    timing: Timing<R>,
    /// Dropped after the transport and the listener: a caller that waits for the members waits for those.
    membership: Membership,
}

// No field is ever pinned.
impl<R: Runtime, E: Engine, L> Unpin for Task<R, E, L> {}

impl<R: Runtime, E: Engine, L: Listener<E::Messages>> Task<R, E, L> {
    pub(crate) fn new(engine: E, actor: Actor<L, E::Messages>) -> Self {
        Task { engine, actor, timing: Timing::new(), membership: Membership::none() }
    }

    /// A handle to the session.
    pub(crate) fn handle(&mut self) -> Handle<<E::Messages as Messages>::Out> {
        self.actor.handle(self.engine.session(), self.membership.waker())
    }

    pub(crate) fn actor(&mut self) -> &mut Actor<L, E::Messages> {
        &mut self.actor
    }

    /// Pauses a session that begins with a receiver's queue already full.
    pub(crate) fn pause_for_queue(&mut self) {
        self.actor.pause_for_queue(self.engine.session());
    }

    /// Whether `on_open` was called and the session takes messages.
    pub(crate) fn is_open(&mut self) -> bool {
        self.actor.is_opened() && self.engine.session().is_open()
    }

    /// Ends the session as a shutdown of its endpoint does, at its next turn.
    pub(crate) fn drain(&mut self) {
        self.membership.drain();
    }

    pub(crate) fn set_member(&mut self, member: Member) {
        self.membership.set(member);
    }

    pub(crate) fn set_on_panic(&mut self, on_panic: Option<OnPanic>) {
        self.actor.set_on_panic(on_panic);
    }

    /// Ends the session and reports it to the listener, the handles and the endpoint.
    pub(crate) fn finish(&mut self, now: Timestamp, reason: Box<CloseReason>) -> Box<CloseReason> {
        self.actor.finish(self.engine.session(), now, reason)
    }

    /// Calls the listener for every available event; returns the close reason when the session is over.
    #[inline(always)]
    fn deliver_events(&mut self, now: Timestamp, budget: &mut TurnBudget) -> Flow {
        while self.engine.wants_poll() && budget.spend(self.engine.work().bytes) {
            // Most events are messages. As one of many kinds of events, they would be copied once more.
            if let Some(message) = self.engine.poll_message(budget.work_limit) {
                self.actor.deliver_messages(self.engine.session(), now, budget, message);
                continue;
            }
            if self.engine.work().bytes >= budget.work_limit {
                break;
            }
            let Some(event) = self.engine.poll_event(budget.work_limit) else { break };
            if let Some(reason) = self.actor.handle_event(self.engine.session(), now, budget, event) {
                return ControlFlow::Break(self.finish(now, reason));
            }
        }
        ControlFlow::Continue(())
    }

    /// Follows the endpoint of this session; returns whether there was anything to follow.
    fn obey_endpoint(&mut self, now: Timestamp, budget: &mut TurnBudget) -> bool {
        let phase = self.membership.check();
        if self.membership.is_displaced() && !self.engine.session().is_over() {
            self.engine.session().close(now, Close::displaced());
            return true;
        }
        if phase == Phase::ShuttingDown && self.awaits_end_unopened() {
            self.engine.session().close(now, Close::abort());
            return true;
        }
        self.actor.obey(self.engine.session(), now, budget, phase)
    }

    /// Whether the session never opened, has sent everything it had to send, and waits only for the peer to
    /// end the stream.
    fn awaits_end_unopened(&self) -> bool {
        let engine = &self.engine;
        engine.is_closing() && !engine.wants_poll() && !engine.wants_write() && !self.actor.is_opened()
    }
}

impl<R: Runtime, E: Engine, L: Listener<E::Messages>> Turns for Task<R, E, L> {
    type Runtime = R;

    fn timing(&mut self) -> &mut Timing<R> {
        &mut self.timing
    }

    fn membership(&mut self) -> &mut Membership {
        &mut self.membership
    }

    fn begin_turn(&mut self, _now: Timestamp) -> Turn {
        self.membership.check();
        self.engine.begin_turn();
        self.actor.owe_turn();
        Turn::new(E::TURN_READS, self.engine.work())
    }

    fn deliver(&mut self, now: Timestamp, turn: &mut Turn) -> Flow {
        loop {
            turn.limit_work();
            self.actor.take_posted(self.engine.session(), now, &mut turn.budget);
            let was_opened = self.actor.is_opened();
            self.deliver_events(now, &mut turn.budget)?;
            if self.actor.is_opened() != was_opened {
                self.membership.open();
                if self.actor.has_backlog() {
                    continue; // posted items go after what the listener sent on opening
                }
            }
            if !self.obey_endpoint(now, &mut turn.budget) {
                turn.check(self.engine.work(), false);
                self.actor.set_spent(turn.is_spent());
                return ControlFlow::Continue(());
            }
        }
    }

    #[inline(always)]
    fn deliver_read(&mut self, now: Timestamp, turn: &mut Turn) -> Flow {
        if self.actor.has_backlog() {
            return self.deliver(now, turn);
        }
        turn.limit_work();
        let was_opened = self.actor.is_opened();
        self.deliver_events(now, &mut turn.budget)?;
        if self.actor.is_opened() != was_opened {
            self.membership.open();
            return self.deliver(now, turn);
        }
        turn.check(self.engine.work(), false);
        self.actor.set_spent(turn.is_spent());
        ControlFlow::Continue(())
    }

    #[inline]
    fn has_more(&mut self) -> bool {
        self.engine.wants_poll() || self.actor.has_posts() || self.membership.has_request()
    }

    fn has_much_to_write(&self) -> bool {
        self.engine.has_much_to_write()
    }

    fn holds_back(&self) -> bool {
        !self.engine.is_writable()
    }

    #[inline(always)]
    fn write(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Option<usize> {
        if !self.engine.wants_write() {
            return None;
        }
        let actor = &self.actor;
        self.engine.write(cx, now, |seq, failure| actor.report_unsent(seq, failure))
    }

    fn call_turns(&mut self, cx: &mut Context<'_>, now: Timestamp, turn: &mut Turn) -> bool {
        self.actor.take_turn(self.engine.session(), now, &mut turn.budget, cx)
    }

    fn wants_read(&self) -> bool {
        self.engine.wants_read()
    }

    #[inline(always)]
    fn poll_read(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Poll<usize> {
        self.engine.poll_read(cx, now)
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        earlier(self.engine.next_deadline(), self.actor.turn_at())
    }

    fn handle_timeout(&mut self, now: Timestamp) {
        self.engine.handle_timeout(now);
    }

    #[cold]
    fn end_panicked(&mut self, now: Timestamp, panic: &(dyn Any + Send)) -> Box<CloseReason> {
        self.actor.report_panic(panic);
        self.engine.session().close(now, Close::panicked());
        loop {
            match self.engine.poll_event(u64::MAX) {
                Some(Event::Closed(reason)) => return self.finish(now, reason),
                Some(_) => {}
                None => return self.finish(now, Box::new(CloseReason::Panicked)),
            }
        }
    }

    fn give_back(&mut self) {
        self.engine.end_turn();
    }

    fn end_turn(&mut self, cx: &mut Context<'_>) {
        let Task { engine, actor, membership, .. } = self;
        membership.end_turn(cx.waker(), || vec![actor.info(engine.session())]);
        if !actor.end_turn(engine.session(), cx.waker()) {
            cx.waker().wake_by_ref();
        }
    }
}

impl<R: Runtime, E: Engine, L: Listener<E::Messages>> Future for Task<R, E, L> {
    type Output = Box<CloseReason>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Box<CloseReason>> {
        self.poll_turn(cx)
    }
}

impl<R: Runtime, E: Engine, L> Drop for Task<R, E, L> {
    fn drop(&mut self) {
        self.actor.abandon(self.engine.session());
    }
}
