//! [`Handlers`]: the futures of the handlers of one connection.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use getty_core::rpc::CallId;

/// Futures in recycled slots, polled in the task of the session: a call allocates nothing once as many calls
/// have been open before. Each slot has a waker of its own, and only woken ones are polled.
pub(crate) struct Handlers<F> {
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
    state: Arc<SlotWaker>,
    waker: Waker,
}

/// Woken slots, each once.
#[derive(Default)]
struct Ready(Mutex<Inbox>);

#[derive(Default)]
struct Inbox {
    slots: Vec<u32>,
    task: Option<Waker>,
}

struct SlotWaker {
    slot: u32,
    ready: Arc<Ready>,
    is_woken: AtomicBool,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_woken.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut inbox = self.ready.lock();
        inbox.slots.push(self.slot);
        let task = inbox.task.take();
        drop(inbox);
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl Ready {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of a handler: its output, or that it panicked.
pub(crate) type Ended<T> = Result<T, ()>;

impl<F: Future> Handlers<F> {
    pub(crate) fn new() -> Self {
        Handlers { slots: Vec::new(), free: Vec::new(), ready: Arc::default(), task: None, due: Vec::new() }
    }

    /// The number of handlers that have not ended.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Starts a handler, which is polled next.
    pub(crate) fn start(&mut self, call: CallId, future: F) -> u32 {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = self.slots.len() as u32;
                let state =
                    Arc::new(SlotWaker { slot, ready: self.ready.clone(), is_woken: AtomicBool::new(false) });
                let waker = Waker::from(state.clone());
                self.slots.push(Slot { future: Box::pin(None), call: None, state, waker });
                slot
            }
        };
        let place = &mut self.slots[slot as usize];
        place.future.set(Some(future));
        place.call = Some(call);
        place.state.is_woken.store(true, Ordering::Release);
        self.due.push(slot);
        slot
    }

    /// Drops the handler of a call.
    pub(crate) fn stop(&mut self, slot: u32) {
        let place = &mut self.slots[slot as usize];
        if place.call.take().is_some() {
            // A handler that panics when it is dropped has ended all the same.
            let _ = catch_unwind(AssertUnwindSafe(|| place.future.set(None)));
            self.free.push(slot);
        }
    }

    /// Collects the handlers to poll, and sets the task that is woken for others. Returns whether there are
    /// any.
    pub(crate) fn collect(&mut self, task: &Waker) -> bool {
        if self.len() == 0 {
            self.due.clear();
            return false;
        }
        let mut inbox = self.ready.lock();
        if inbox.task.is_none() || self.task.as_ref().is_none_or(|known| !known.will_wake(task)) {
            self.task = Some(task.clone());
            inbox.task = self.task.clone();
        }
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
        let place = &mut self.slots[slot as usize];
        place.state.is_woken.store(false, Ordering::Release);
        let call = place.call?;
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let mut cx = Context::from_waker(&place.waker);
            place.future.as_mut().as_pin_mut().map(|future| future.poll(&mut cx))
        }));
        let ended = match polled {
            Ok(None | Some(Poll::Pending)) => return None,
            Ok(Some(Poll::Ready(output))) => Ok(output),
            Err(_) => Err(()),
        };
        self.stop(slot);
        Some((call, ended))
    }

    /// Gives up the memory of free slots. Only without handlers.
    pub(crate) fn trim(&mut self) {
        if self.len() == 0 && !self.slots.is_empty() {
            *self = Handlers::new();
        }
    }
}
