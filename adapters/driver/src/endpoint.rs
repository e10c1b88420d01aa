//! [`Endpoint`]: what the sessions of one server or client have in common.

use std::fmt;
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
    /// The tasks, by the waker that each left.
    members: Mutex<Slab<Option<Waker>>>,
    /// The last task has left.
    empty: Event,
}

impl Endpoint {
    /// Makes a task a member of the endpoint until the result is dropped.
    pub(crate) fn join(self: &Arc<Self>) -> Member {
        let key = self.lock().insert(None);
        Member { endpoint: self.clone(), key }
    }

    /// Goes on to a later phase and wakes every task, so that each sees it.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        let wakers: Vec<Waker> = self.lock().iter().filter_map(|(_, waker)| waker.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn members(&self) -> usize {
        self.lock().len()
    }

    /// Waits until no task is left.
    pub(crate) async fn wait_empty(&self) {
        loop {
            let listener = self.empty.listen();
            if self.members() == 0 {
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

    fn lock(&self) -> MutexGuard<'_, Slab<Option<Waker>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("phase", &self.phase()).field("members", &self.members()).finish()
    }
}

/// A task's place in its endpoint.
#[derive(Debug)]
pub(crate) struct Member {
    endpoint: Arc<Endpoint>,
    key: usize,
}

impl Member {
    pub(crate) fn phase(&self) -> Phase {
        self.endpoint.phase()
    }

    /// Leaves a waker for when the phase changes. Gives false if it has already: look at once.
    pub(crate) fn register(&self, waker: &Waker) -> bool {
        self.endpoint.lock()[self.key] = Some(waker.clone());
        self.phase() == Phase::Running
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut members = self.endpoint.lock();
        members.remove(self.key);
        if members.is_empty() {
            drop(members);
            self.endpoint.empty.notify(usize::MAX);
        }
    }
}
