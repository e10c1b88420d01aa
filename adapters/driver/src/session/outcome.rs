//! What becomes of an item: [`Ticket`] for who sent it, [`Teller`] for who knows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use getty_core::{IoFailure, Seq};

/// What became of an item whose sender waits for it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    Flushed(Seq),
    Partly(Seq),
    Unknown(Seq),
    Unwritten(Seq),
    NotTaken,
    Unsent(Seq, IoFailure),
}

/// What the sender of an item waits with.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<Waiting>);

/// Goes with the item, and tells its sender what became of it: that the session did not take it, if it is dropped without a
/// word.
#[derive(Debug)]
pub(crate) struct Teller(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    fate: Option<Fate>,
    /// The session has taken the item.
    taken: Option<Seq>,
    /// The sender waits no longer than it takes to learn where the item is.
    impatient: bool,
    waker: Option<Waker>,
}

pub(crate) fn fate() -> (Teller, Ticket) {
    let waiting = Arc::new(Waiting::default());
    (Teller(waiting.clone()), Ticket(waiting))
}

impl Ticket {
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Fate> {
        let mut known = self.0.lock();
        match known.fate {
            Some(fate) => Poll::Ready(fate),
            None => {
                known.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The sender will wait no longer, and is woken from now on whenever the item has moved. Tells if the session has it.
    pub(crate) fn hurry(&self) -> Option<Seq> {
        let mut known = self.0.lock();
        known.impatient = true;
        known.taken
    }

    pub(crate) fn is_for(&self, teller: &Teller) -> bool {
        Arc::ptr_eq(&self.0, &teller.0)
    }
}

impl Teller {
    pub(crate) fn tell(self, fate: Fate) {
        wake(self.0.change(|known| {
            known.fate = Some(fate);
            true
        }));
    }

    /// The session has taken the item.
    pub(crate) fn taken(&self, seq: Seq) {
        wake(self.0.change(|known| {
            known.taken = Some(seq);
            known.impatient
        }));
    }

    /// The session had no room for the item, and it is in the queue again. Gives whom to wake.
    pub(crate) fn put_back(&self) -> Option<Waker> {
        self.0.change(|known| known.impatient)
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        wake(self.0.change(|known| {
            let is_told = known.fate.is_some();
            known.fate = known.fate.or(Some(Fate::NotTaken));
            !is_told
        }));
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes something known; gives whom to wake, if `change` says that somebody is to be.
    fn change(&self, change: impl FnOnce(&mut Known) -> bool) -> Option<Waker> {
        let mut known = self.lock();
        if change(&mut known) { known.waker.take() } else { None }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
