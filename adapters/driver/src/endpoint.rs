//! [`Endpoint`]: what the sessions of one server or client have in common.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use event_listener::Event;
use slab::Slab;

/// Where an endpoint is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    /// Nothing new; sessions are asked to close.
    ShuttingDown,
    /// Sessions end at once.
    Aborting,
}

/// What the tasks of one endpoint have in common: they can be told to end, and waited for.
#[derive(Default)]
pub(crate) struct Endpoint {
    phase: AtomicU8,
    members: Mutex<Members>,
    /// The last task has left.
    empty: Event,
}

#[derive(Default)]
struct Members {
    /// The tasks, by the waker that each left.
    wakers: Slab<Option<Waker>>,
    /// How many of them are sessions.
    sessions: usize,
}

/// What a task does for its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Acceptor,
    Session,
}

impl Endpoint {
    /// Makes a task a member of the endpoint until the result is dropped.
    pub(crate) fn join(self: &Arc<Self>, role: Role) -> Member {
        let mut members = self.lock();
        members.sessions += usize::from(role == Role::Session);
        let key = members.wakers.insert(None);
        drop(members);
        Member { endpoint: self.clone(), key, role }
    }

    /// Goes on to a later phase and wakes every task, so that each sees it.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        let wakers: Vec<Waker> = self.lock().wakers.iter().filter_map(|(_, waker)| waker.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// How many sessions there are.
    pub(crate) fn sessions(&self) -> usize {
        self.lock().sessions
    }

    /// Waits until no task is left.
    pub(crate) async fn wait_empty(&self) {
        loop {
            let listener = self.empty.listen();
            if self.lock().wakers.is_empty() {
                return;
            }
            listener.await;
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::ShuttingDown,
            _ => Phase::Aborting,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("phase", &self.phase()).field("sessions", &self.sessions()).finish()
    }
}

/// A task's place in its endpoint.
#[derive(Debug)]
pub(crate) struct Member {
    endpoint: Arc<Endpoint>,
    key: usize,
    role: Role,
}

impl Member {
    pub(crate) fn phase(&self) -> Phase {
        self.endpoint.phase()
    }

    /// Leaves a waker for when the phase changes, and gives the phase as it is then: look at once if that is not
    /// the one you saw.
    pub(crate) fn register(&self, waker: &Waker) -> Phase {
        let before = self.endpoint.lock().wakers[self.key].replace(waker.clone());
        drop(before);
        self.phase()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut members = self.endpoint.lock();
        members.wakers.remove(self.key);
        members.sessions -= usize::from(self.role == Role::Session);
        if members.wakers.is_empty() {
            drop(members);
            self.endpoint.empty.notify(usize::MAX);
        }
    }
}

/// A task's place in its endpoint, if it has one, and what it last saw there.
pub(crate) struct Membership {
    member: Option<Member>,
    seen: Phase,
    /// Whom the endpoint wakes.
    waker: Option<Waker>,
}

impl Membership {
    pub(crate) fn none() -> Self {
        Membership { member: None, seen: Phase::Running, waker: None }
    }

    pub(crate) fn set(&mut self, member: Member) {
        self.member = Some(member);
    }

    /// Where the endpoint is in its life.
    pub(crate) fn look(&mut self) -> Phase {
        self.seen = self.member.as_ref().map_or(Phase::Running, Member::phase);
        self.seen
    }

    /// The waker of the task, once it was polled.
    pub(crate) fn waker(&self) -> Option<&Waker> {
        self.waker.as_ref()
    }

    /// Sees to it that the task is woken when the phase changes.
    pub(crate) fn end_turn(&mut self, waker: &Waker) {
        if self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return;
        }
        self.waker = Some(waker.clone());
        if self.member.as_ref().is_some_and(|member| member.register(waker) != self.seen) {
            waker.wake_by_ref();
        }
    }
}

/// What went wrong with an address. Errors of [`Server`](crate::Server) and [`Client`](crate::Client) hold one:
/// [`io::Error::get_ref`] and a downcast give it.
#[derive(Debug, thiserror::Error)]
#[error("can't {what} {address}: {source}")]
pub struct AddressError {
    what: &'static str,
    address: String,
    source: io::Error,
}

impl AddressError {
    /// As an error of the same kind as `source`.
    pub(crate) fn wrap(what: &'static str, address: impl fmt::Display, source: io::Error) -> io::Error {
        io::Error::new(source.kind(), AddressError { what, address: address.to_string(), source })
    }

    /// The system's error, with its code where there is one.
    pub fn io_error(&self) -> &io::Error {
        &self.source
    }
}
