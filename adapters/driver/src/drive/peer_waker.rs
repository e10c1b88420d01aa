//! [`Woken`]: the woken sessions of one task, and their wakers.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Wake, Waker};

use getty_core::datagram::PeerKey;

/// Woken sessions, each listed once, and the task to wake for them.
#[derive(Default)]
pub(super) struct Woken(Mutex<Inbox>);

#[derive(Default)]
struct Inbox {
    wakers: Vec<Arc<PeerWaker>>,
    task: Option<Waker>,
}

impl Woken {
    /// Takes the sessions woken since the last call.
    pub(super) fn take(&self) -> impl Iterator<Item = PeerKey> {
        let wakers = mem::take(&mut self.lock().wakers);
        wakers.into_iter().map(|waker| {
            waker.is_woken.swap(false, Ordering::AcqRel);
            waker.key
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().wakers.is_empty()
    }

    /// Sets the task that later wakes reach.
    pub(super) fn set_task(&self, task: &Waker) {
        let before = self.lock().task.replace(task.clone());
        drop(before);
    }

    /// A waker of the session `key`.
    pub(super) fn waker(self: &Arc<Self>, key: PeerKey) -> Waker {
        Waker::from(Arc::new(PeerWaker::new(key, self)))
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the task on behalf of one session.
struct PeerWaker {
    key: PeerKey,
    /// Weak because the task may have ended.
    woken: Weak<Woken>,
    /// The session is in the inbox.
    is_woken: AtomicBool,
}

impl PeerWaker {
    fn new(key: PeerKey, woken: &Arc<Woken>) -> Self {
        PeerWaker { key, woken: Arc::downgrade(woken), is_woken: AtomicBool::new(false) }
    }
}

impl Wake for PeerWaker {
    fn wake(self: Arc<Self>) {
        if self.is_woken.swap(true, Ordering::AcqRel) {
            return;
        }
        let Some(woken) = self.woken.upgrade() else { return };
        let mut inbox = woken.lock();
        inbox.wakers.push(self);
        let task = inbox.task.take();
        drop(inbox);
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// A waker lent to one session after the other, so that only sessions that use it have their own.
#[derive(Default)]
pub(super) struct SpareWaker(Option<Arc<PeerWaker>>);

impl SpareWaker {
    /// Calls `work` with a waker of the session `key`. If the work has cloned or woken the waker, it now
    /// belongs to that session and is returned too.
    pub(super) fn lend<T>(
        &mut self,
        woken: &Arc<Woken>,
        key: PeerKey,
        work: impl FnOnce(&Waker) -> T,
    ) -> (T, Option<Waker>) {
        let new = || Arc::new(PeerWaker::new(key, woken));
        let mut spare = self.0.take().unwrap_or_else(new);
        match Arc::get_mut(&mut spare) {
            Some(spare) => spare.key = key,
            None => spare = new(), // the last one is in use
        }
        let waker = Waker::from(spare.clone());
        let result = work(&waker);
        let is_used = Arc::strong_count(&spare) > 2; // more than the two held here
        self.0 = Some(spare);
        (result, is_used.then_some(waker))
    }
}
