//! [`Handlers`]: the futures of the handlers of one connection.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, Waker};

use getty_core::rpc::CallId;

use crate::rpc::call::Connection;
use crate::rpc::place::{Inbox, Place, Ready, Seat};

/// Futures in recycled slots, polled in the task of the session: a call allocates nothing once as many calls
/// have been open before. Each slot has a waker of its own, and only woken ones are polled.
pub(crate) struct Handlers<F> {
    connection: Arc<Connection>,
    slots: Vec<Slot<F>>,
    free: Vec<u32>,
    ready: Arc<Ready>,
    /// The task that wakes reach.
    task: Option<Waker>,
    /// Slots to poll now.
    due: Vec<u32>,
}

struct Slot<F> {
    future: Pin<Box<Option<F>>>,
    call: Option<CallId>,
    place: Arc<Place>,
    waker: Waker,
}

/// A handler after its first poll.
pub(crate) enum Started<T> {
    /// It waits, in this slot.
    Runs(u32),
    Ended(Ended<T>),
}

/// The end of a handler: its output, or that it has none, because it panicked or was dropped.
pub(crate) type Ended<T> = Result<T, ()>;

impl<F: Future> Handlers<F> {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        let (slots, free, ready) = (Vec::new(), Vec::new(), Arc::default());
        Handlers { connection, slots, free, ready, task: None, due: Vec::new() }
    }

    /// The number of handlers that have not ended.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Starts the handler that `make` makes for a call in its place, and polls it: most end with that, and
    /// the next call has the same slot then, whose memory is at hand.
    #[inline(always)]
    pub(crate) fn start(&mut self, call: CallId, make: impl FnOnce(Seat) -> F) -> Started<F::Output> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = self.slots.len() as u32;
                let place = Arc::new(Place::new(self.connection.clone(), slot, self.ready.clone()));
                let waker = Waker::from(place.clone());
                self.slots.push(Slot { future: Box::pin(None), call: None, place, waker });
                slot
            }
        };
        let Slot { future, call: known, place, .. } = &mut self.slots[slot as usize];
        future.set(Some(make(place.take())));
        *known = Some(call);
        match self.poll(slot) {
            Some((_, ended)) => Started::Ended(ended),
            None => Started::Runs(slot),
        }
    }

    /// Drops the handler of a call that is given up, or `late`. Returns false if it runs on.
    pub(crate) fn cancel(&mut self, slot: u32, late: bool) -> bool {
        if self.slots[slot as usize].place.cancel(late) {
            return false;
        }
        self.stop(slot);
        true
    }

    /// Drops the handler of a call.
    pub(crate) fn stop(&mut self, slot: u32) {
        let Slot { future, call, place, .. } = &mut self.slots[slot as usize];
        if call.take().is_some() {
            // A handler that panics when it is dropped has ended all the same.
            let _ = catch_unwind(AssertUnwindSafe(|| future.set(None)));
            place.leave();
            self.free.push(slot);
        }
    }

    /// Lets the wakes of a handler that has just begun reach the task.
    pub(crate) fn arm(&mut self, task: &Waker) {
        let inbox = set_task(&self.ready, &mut self.task, task);
        let is_woken = !inbox.slots.is_empty();
        drop(inbox);
        if is_woken {
            task.wake_by_ref(); // before the task was there
        }
    }

    /// Collects the handlers to poll, and sets the task that is woken for others. Returns whether there are
    /// any.
    pub(crate) fn collect(&mut self, task: &Waker) -> bool {
        if self.len() == 0 {
            self.due.clear();
            return false;
        }
        let mut inbox = set_task(&self.ready, &mut self.task, task);
        self.due.append(&mut inbox.slots);
        drop(inbox);
        !self.due.is_empty()
    }

    /// Takes the list of handlers to poll, in order. Give it back with [`put_back`](Self::put_back).
    pub(crate) fn take_due(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.due)
    }

    /// Gives the memory of the list back.
    pub(crate) fn put_back(&mut self, mut due: Vec<u32>) {
        due.clear();
        self.due = due;
    }

    /// Polls a handler. `Some`: it has ended, and its slot is free.
    pub(crate) fn poll(&mut self, slot: u32) -> Option<(CallId, Ended<F::Output>)> {
        let Slot { future, call, place, waker } = &mut self.slots[slot as usize];
        place.is_polled();
        let call = (*call)?;
        if place.is_given_up() {
            self.stop(slot);
            return Some((call, Err(())));
        }
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let mut cx = Context::from_waker(waker);
            future.as_mut().as_pin_mut().map(|future| future.poll(&mut cx))
        }));
        let ended = match polled {
            Ok(None | Some(Poll::Pending)) => return None,
            Ok(Some(Poll::Ready(output))) => Ok(output),
            Err(_) => Err(()),
        };
        self.stop(slot);
        Some((call, ended))
    }
}

/// The list of woken handlers. The first one that is added from now on wakes `task`.
fn set_task<'a>(ready: &'a Ready, known: &mut Option<Waker>, task: &Waker) -> MutexGuard<'a, Inbox> {
    let mut inbox = ready.lock();
    if inbox.task.is_none() || known.as_ref().is_none_or(|known| !known.will_wake(task)) {
        *known = Some(task.clone());
        inbox.task = known.clone();
    }
    inbox
}

impl<F> Drop for Handlers<F> {
    /// Lets go of the task: calls and wakers may be kept for longer.
    fn drop(&mut self) {
        let task = self.ready.lock().task.take();
        drop(task);
    }
}
