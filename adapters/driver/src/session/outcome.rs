//! The outcome of a sent item: [`Waiter`] for the sender, [`Reporter`] for the session.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use getty_core::{IoFailure, Seq};

/// Outcome of an item whose sender waits for it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Flushed(Seq),
    Partly(Seq),
    Unknown(Seq),
    Unwritten(Seq),
    NotTaken,
    Unsent(Seq, IoFailure),
}

/// The sender's end: waits for the outcome of an item.
#[derive(Debug)]
pub(crate) struct Waiter(Arc<Waiting>);

/// Travels with the item and reports its outcome. Dropped unreported, it means [`Outcome::NotTaken`].
#[derive(Debug)]
pub(crate) struct Reporter(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting(Mutex<Progress>);

#[derive(Debug, Default)]
struct Progress {
    outcome: Option<Outcome>,
    /// The session has taken the item.
    taken: Option<Seq>,
    /// The sender stops waiting as soon as it learns where the item is.
    impatient: bool,
    waker: Option<Waker>,
}

pub(crate) fn outcome() -> (Reporter, Waiter) {
    let waiting = Arc::new(Waiting::default());
    (Reporter(waiting.clone()), Waiter(waiting))
}

impl Waiter {
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut progress = self.0.lock();
        match progress.outcome {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                progress.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Stops waiting: from now on the sender is woken whenever the item moves. Returns its number if the
    /// session has taken it.
    pub(crate) fn hurry(&self) -> Option<Seq> {
        let mut progress = self.0.lock();
        progress.impatient = true;
        progress.taken
    }

    pub(crate) fn is_for(&self, reporter: &Reporter) -> bool {
        Arc::ptr_eq(&self.0, &reporter.0)
    }
}

impl Reporter {
    pub(crate) fn report(self, outcome: Outcome) {
        wake(self.0.change(|progress| {
            progress.outcome = Some(outcome);
            true
        }));
    }

    /// The session has taken the item.
    pub(crate) fn taken(&self, seq: Seq) {
        wake(self.0.change(|progress| {
            progress.taken = Some(seq);
            progress.impatient
        }));
    }

    /// The session had no room for the item, and it is back in the queue. Returns the waker to wake.
    pub(crate) fn put_back(&self) -> Option<Waker> {
        self.0.change(|progress| progress.impatient)
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        wake(self.0.change(|progress| {
            let is_reported = progress.outcome.is_some();
            progress.outcome = progress.outcome.or(Some(Outcome::NotTaken));
            !is_reported
        }));
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state; returns the waker if `change` asks for the sender to be woken.
    fn change(&self, change: impl FnOnce(&mut Progress) -> bool) -> Option<Waker> {
        let mut progress = self.lock();
        if change(&mut progress) { progress.waker.take() } else { None }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
