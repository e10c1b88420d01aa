//! [`PoolTask`]: one of a pool's sessions after another, and the waits between them.

use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use event_listener::EventListener;
use getty_core::{Config, Out, Protocol, Session};

use super::addresses::{Attempt, Choice};
use super::dial::Dial;
use super::roster::Roster;
use crate::drive::actor::{self, OnPanic};
use crate::drive::driver::Driver;
use crate::drive::members::{Membership, Phase};
use crate::drive::slots::Role;
use crate::endpoint::factory::ListenerFactory;
use crate::runtime::io::Timer;
use crate::runtime::{Runtime, clock};
use crate::session::handle::Handle;
use crate::session::id::SessionId;
use crate::session::listener;

/// The messages of a pool's sessions.
type Messages<D> = <<D as Dial>::Protocol as Protocol>::Messages;

/// Maximum number of steps of a task before others get a turn.
const TURN_STEPS: u32 = 16;

/// The constant part of the tasks of one pool.
pub(super) struct Plan<D: Dial, K> {
    pub(super) dial: D,
    pub(super) listener: K,
    pub(super) config: Arc<Config>,
    pub(super) on_panic: Option<OnPanic>,
}

/// One of the tasks of a [`Pool`](crate::Pool): it connects, drives the session to its end, waits as long as
/// it must, and connects again. It appears only in bounds of [`PoolBuilder`](crate::PoolBuilder)'s methods.
#[must_use = "futures do nothing unless polled"]
pub struct PoolTask<R: Runtime, D: Dial, K: ListenerFactory<Messages<D>>> {
    state: State<R, D, K::Listener>,
    /// A session that had to leave and is ending while the next one is made. There is at most one: if the
    /// next one has to leave too, no other is made until this one has ended.
    draining: Option<Draining<R, D, K::Listener>>,
    plan: Arc<Plan<D, K>>,
    roster: Arc<Roster<Out<D::Protocol>, D::Address>>,
    /// Dropped last, so that waiting for the members includes the stream and the listener.
    membership: Membership,
}

enum State<R: Runtime, D: Dial, L> {
    Choosing,
    Waiting { changed: EventListener, timer: Option<R::Timer> },
    Connecting { attempt: Attempt<D::Address>, connecting: D::Connecting },
    Driving(Box<Driving<R, D, L>>),
    Over,
}

struct Driving<R: Runtime, D: Dial, L> {
    attempt: Attempt<D::Address>,
    driver: Driver<R, D::Stream, D::Protocol, L>,
    handle: Handle<Out<D::Protocol>>,
    /// Whether the pool offers this session to callers.
    is_listed: bool,
}

/// A session that had to leave.
struct Draining<R: Runtime, D: Dial, L> {
    driving: Box<Driving<R, D, L>>,
    /// How long it may take if the next one has to leave too; `None` once it was closed for that.
    timer: Option<R::Timer>,
}

// No field is ever pinned.
impl<R: Runtime, D: Dial, K: ListenerFactory<Messages<D>>> Unpin for PoolTask<R, D, K> {}

impl<R: Runtime, D: Dial, K: ListenerFactory<Messages<D>>> PoolTask<R, D, K> {
    pub(super) fn new(plan: Arc<Plan<D, K>>, roster: Arc<Roster<Out<D::Protocol>, D::Address>>) -> Self {
        let mut membership = Membership::none();
        membership.set(roster.endpoint.join(Role::Acceptor));
        PoolTask { state: State::Choosing, draining: None, plan, roster, membership }
    }

    /// Advances by one step; pending if there is nothing to do.
    fn advance(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        let is_running = self.membership.check() == Phase::Running;
        match &mut self.state {
            State::Driving(driving) => {
                let leaves = driving.attempt.has_to_leave();
                if leaves {
                    driving.driver.task().drain();
                    if self.draining.is_none() && is_running {
                        self.drain();
                        return Poll::Ready(());
                    }
                }
                let polled = Pin::new(&mut driving.driver).poll(cx);
                let Poll::Ready(reason) = polled else {
                    self.list();
                    return Poll::Pending;
                };
                let attempt = self.end_session();
                // The end of a session that was asked to end says nothing about its address.
                match attempt {
                    Some(attempt) if self.membership.check() == Phase::Running && !leaves => {
                        self.roster.over(&attempt, clock::timestamp(R::now()), reason.to_string());
                    }
                    Some(attempt) => self.roster.left(&attempt),
                    None => {}
                }
                self.state = State::Choosing;
            }
            _ if !is_running => {
                self.leave();
                self.state = State::Over;
            }
            State::Choosing => self.choose(),
            State::Waiting { changed, timer } => {
                let is_due = Pin::new(changed).poll(cx).is_ready()
                    || timer.as_mut().is_some_and(|timer| timer.poll(cx).is_ready());
                if !is_due {
                    return Poll::Pending;
                }
                self.state = State::Choosing;
            }
            State::Connecting { attempt, .. } if attempt.has_to_leave() => {
                self.leave();
                self.state = State::Choosing;
            }
            State::Connecting { connecting, .. } => {
                let Poll::Ready(result) = Pin::new(connecting).poll(cx) else { return Poll::Pending };
                let State::Connecting { attempt, .. } = mem::replace(&mut self.state, State::Choosing) else {
                    return Poll::Ready(());
                };
                match result
                    .map_err(|error| error.to_string())
                    .and_then(|stream| self.begin(&attempt, stream))
                {
                    Ok((driver, handle)) => {
                        let driving = Driving { attempt, driver, handle, is_listed: false };
                        self.state = State::Driving(Box::new(driving));
                    }
                    Err(error) => self.roster.over(&attempt, clock::timestamp(R::now()), error),
                }
            }
            State::Over => {}
        }
        Poll::Ready(())
    }

    fn choose(&mut self) {
        let changed = self.roster.listen(); // so that no change after the choice is missed
        self.state = match self.roster.choose(clock::timestamp(R::now())) {
            Choice::Connect(attempt) => {
                let connecting = self.plan.dial.connect(&attempt.target);
                State::Connecting { attempt, connecting }
            }
            Choice::Wait(until) => {
                let timer = until.map(|until| R::timer(clock::instant(until)));
                State::Waiting { changed, timer }
            }
        };
    }

    /// Begins a session.
    #[allow(clippy::type_complexity, reason = "the two parts of a `Driving`, taken apart at once")]
    fn begin(
        &self,
        attempt: &Attempt<D::Address>,
        stream: D::Stream,
    ) -> Result<(Driver<R, D::Stream, D::Protocol, K::Listener>, Handle<Out<D::Protocol>>), String> {
        let plan = &self.plan;
        let make = || (plan.dial.protocol(&attempt.target), plan.listener.make());
        let (protocol, listener) = match catch_unwind(AssertUnwindSafe(make)) {
            Ok((protocol, listener)) => (protocol.map_err(|error| error.to_string())?, listener),
            Err(panic) => {
                actor::report_panic(plan.on_panic.as_ref(), SessionId::next(), &*panic);
                return Err("the function that makes protocols or listeners panicked".to_owned());
            }
        };
        let session = Session::new(protocol, plan.config.clone(), clock::timestamp(R::now()));
        let mut driver = Driver::new(session, stream, listener);
        driver.task().set_member(self.roster.endpoint.join(Role::Session));
        driver.task().set_on_panic(plan.on_panic.clone());
        let handle = driver.handle();
        Ok((driver, handle))
    }

    /// Makes the pool offer the session to callers while it is open.
    fn list(&mut self) {
        let State::Driving(driving) = &mut self.state else { return };
        let Driving { attempt, driver, handle, is_listed } = &mut **driving;
        let is_open = driver.task().is_open() && !attempt.has_to_leave();
        match (*is_listed, is_open) {
            (false, true) => self.roster.opened(attempt, handle, clock::timestamp(R::now())),
            (true, false) => self.roster.withdraw(attempt, handle),
            (true, true) => self.roster.feed(handle),
            (false, false) => {}
        }
        *is_listed = is_open;
    }
}

impl<R: Runtime, D: Dial, K: ListenerFactory<Messages<D>>> PoolTask<R, D, K> {
    /// Lets the session end while the next one is made.
    fn drain(&mut self) {
        let State::Driving(_) = &self.state else { return };
        let State::Driving(driving) = mem::replace(&mut self.state, State::Choosing) else { return };
        self.roster.withdraw(&driving.attempt, &driving.handle);
        self.roster.drains(&driving.attempt);
        let timer = R::timer(clock::after::<R>(self.plan.config.close_timeout()));
        self.draining = Some(Draining { driving, timer: Some(timer) });
    }

    /// Whether the session has to leave, and another one is to take its place.
    fn waits_to_drain(&self) -> bool {
        let has_to_leave = matches!(&self.state, State::Driving(driving) if driving.attempt.has_to_leave());
        has_to_leave && self.membership.is_running()
    }

    /// Goes on with the session that is draining, which `is_waited_for` if the next one has to leave too.
    fn poll_draining(&mut self, cx: &mut TaskContext<'_>, is_waited_for: bool) {
        let Some(Draining { driving, timer }) = &mut self.draining else { return };
        if is_waited_for && timer.as_mut().is_some_and(|timer| timer.poll(cx).is_ready()) {
            *timer = None;
            driving.handle.close(listener::going_away().with_drain());
        }
        if Pin::new(&mut driving.driver).poll(cx).is_ready() {
            self.end_draining();
        }
    }

    /// Ends the draining session, if there is one.
    fn end_draining(&mut self) {
        if let Some(draining) = self.draining.take() {
            self.end(*draining.driving);
            self.roster.drained();
        }
    }

    /// Ends the session, if there is one.
    fn end_session(&mut self) -> Option<Attempt<D::Address>> {
        let State::Driving(_) = &self.state else { return None };
        let State::Driving(driving) = mem::replace(&mut self.state, State::Over) else { return None };
        Some(self.end(*driving))
    }

    /// Ends a session, and passes the items it did not take to other sessions.
    fn end(&self, driving: Driving<R, D, K::Listener>) -> Attempt<D::Address> {
        let Driving { attempt, driver, handle, .. } = driving;
        self.roster.withdraw(&attempt, &handle);
        // Dropping a listener or a codec may panic too. The next session has new ones.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(driver))) {
            actor::report_panic(self.plan.on_panic.as_ref(), handle.id(), &*panic);
        }
        self.roster.carry(handle.take_pooled());
        attempt
    }

    /// Abandons the attempt or the session, if there is one.
    fn leave(&mut self) {
        let attempt = match &self.state {
            State::Driving(_) => self.end_session(),
            _ => match mem::replace(&mut self.state, State::Over) {
                State::Connecting { attempt, .. } => Some(attempt),
                _ => None,
            },
        };
        if let Some(attempt) = attempt {
            self.roster.left(&attempt);
        }
    }
}

impl<R: Runtime, D: Dial, K: ListenerFactory<Messages<D>>> Future for PoolTask<R, D, K> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut steps = TURN_STEPS;
        while this.advance(cx).is_ready() {
            if let State::Over = this.state {
                break;
            }
            steps -= 1;
            if steps == 0 {
                R::yield_now(cx); // a back-off of zero must not keep other tasks waiting
                break;
            }
        }
        let is_waited_for = this.waits_to_drain();
        this.poll_draining(cx, is_waited_for);
        this.membership.end_turn(cx.waker(), Vec::new);
        // The addresses have changed since the last step, or there is room to drain now.
        let has_more = match (&this.state, &this.draining) {
            (State::Over, None) => return Poll::Ready(()),
            (State::Connecting { attempt, .. }, _) => attempt.has_to_leave(),
            (_, draining) => (draining.is_none() || !is_waited_for) && this.waits_to_drain(),
        };
        if has_more {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<R: Runtime, D: Dial, K: ListenerFactory<Messages<D>>> Drop for PoolTask<R, D, K> {
    /// A task that is dropped before its pool is closed leaves nothing behind.
    fn drop(&mut self) {
        self.leave();
        self.end_draining();
    }
}
