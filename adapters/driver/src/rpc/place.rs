//! [`Place`]: where a handler runs, and what others than its task know of its call.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use event_listener::{Event, EventListener};

use crate::rpc::call::Connection;

/// The place of a handler, which is used for one call after the other, so that a call allocates none.
///
/// One word says which call is here and what is known of it. Only the task of the session begins and ends
/// calls; what others do is for one call, and does nothing once that is over.
pub(crate) struct Place {
    connection: Arc<Connection>,
    slot: u32,
    ready: Arc<Ready>,
    is_woken: AtomicBool,
    /// The number of the call in the upper half; flags, and the number of holds, in the lower.
    state: AtomicU64,
    /// Told at the end of a call that is [`WATCHED`].
    over: Event,
}

/// The call was given up, or its time is over.
const CANCELLED: u64 = 1;
/// Its time is over.
const LATE: u64 = 1 << 1;
/// Its handler is not dropped for that.
const RUNS_ON: u64 = 1 << 2;
/// Somebody waits for its end.
const WATCHED: u64 = 1 << 3;
/// One hold: its handler is not dropped before it is given up.
const HOLD: u64 = 1 << 4;
/// What a handler that is not dropped has some of.
const STAYS: u64 = ((1 << 32) - HOLD) | RUNS_ON;

/// The number of the call.
fn number(state: u64) -> u32 {
    (state >> 32) as u32
}

impl Place {
    pub(crate) fn new(connection: Arc<Connection>, slot: u32, ready: Arc<Ready>) -> Self {
        let (state, over) = (AtomicU64::new(0), Event::new());
        Place { connection, slot, ready, is_woken: AtomicBool::new(false), state, over }
    }

    // For the task.

    /// The next call takes this place.
    pub(crate) fn take(self: &Arc<Self>) -> Seat {
        Seat { number: number(self.state.load(Ordering::Relaxed)), place: self.clone() }
    }

    /// The handler is polled now: it can be woken again.
    pub(crate) fn is_polled(&self) {
        self.is_woken.store(false, Ordering::Release);
    }

    /// The call is given up, or `late`. Returns whether its handler goes on, which is woken then.
    pub(crate) fn cancel(self: &Arc<Self>, late: bool) -> bool {
        let flags = if late { CANCELLED | LATE } else { CANCELLED };
        let before = self.state.fetch_or(flags, Ordering::AcqRel);
        let goes_on = before & STAYS != 0;
        if goes_on {
            self.tell(before);
            self.wake_by_ref();
        }
        goes_on
    }

    /// Whether the handler of a call that was given up is to be dropped now.
    pub(crate) fn is_given_up(&self) -> bool {
        self.state.load(Ordering::Acquire) & (CANCELLED | STAYS) == CANCELLED
    }

    /// The handler has ended. The place is free.
    pub(crate) fn leave(&self) {
        // Nobody else changes the number.
        let next = number(self.state.load(Ordering::Relaxed)).wrapping_add(1);
        let before = self.state.swap(u64::from(next) << 32, Ordering::AcqRel);
        self.tell(before);
    }

    fn tell(&self, before: u64) {
        if before & WATCHED != 0 {
            self.over.notify(usize::MAX);
        }
    }

    // For the others.

    /// Changes the state of call `of`, if `change` has another one for it. Returns whether it had.
    fn change(&self, of: u32, change: impl Fn(u64) -> Option<u64>) -> bool {
        let change = |state| if number(state) == of { change(state) } else { None };
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, change).is_ok()
    }
}

impl Wake for Place {
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

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("slot", &self.slot).finish_non_exhaustive()
    }
}

/// Woken places, each once, and the task to wake for the first of them.
#[derive(Default)]
pub(crate) struct Ready(Mutex<Inbox>);

#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) slots: Vec<u32>,
    pub(crate) task: Option<Waker>,
}

impl Ready {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call in its place.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    place: Arc<Place>,
    number: u32,
}

impl Seat {
    pub(crate) fn connection(&self) -> &Connection {
        &self.place.connection
    }

    /// Lets the handler go on when the call is given up. Nothing for one that is over.
    pub(crate) fn run_on(&self) {
        self.place.change(self.number, |state| (state & CANCELLED == 0).then_some(state | RUNS_ON));
    }

    /// Whether the call is given up, and its handler to be dropped because of that or dropped already.
    pub(crate) fn is_dropped(&self) -> bool {
        let state = self.place.state.load(Ordering::Acquire);
        number(state) != self.number || state & CANCELLED != 0 && state & RUNS_ON == 0
    }

    /// Whether the call is over: nobody waits for its answer.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.place.state.load(Ordering::Acquire);
        number(state) != self.number || state & CANCELLED != 0
    }

    /// Whether the call is over because its deadline has passed.
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    pub(crate) fn is_late(&self) -> bool {
        let state = self.place.state.load(Ordering::Acquire);
        number(state) == self.number && state & LATE != 0
    }

    /// Keeps the handler from being dropped while the hold lives. `None` once it is to be dropped.
    pub(crate) fn hold(&self) -> Option<Hold> {
        let stays = |state: u64| state & CANCELLED == 0 || state & RUNS_ON != 0;
        let held = self.place.change(self.number, |state| stays(state).then_some(state + HOLD));
        held.then(|| Hold(self.clone()))
    }

    /// Waits until the call is over.
    pub(crate) fn watch(&self) -> Watch {
        Watch { seat: self.clone(), listener: None }
    }
}

/// Keeps a handler from being dropped.
#[derive(Debug)]
pub(crate) struct Hold(Seat);

impl Drop for Hold {
    fn drop(&mut self) {
        let Seat { place, number } = &self.0;
        // A handler that was to be dropped meanwhile is dropped by its task.
        if place.change(*number, |state| Some(state - HOLD)) && place.is_given_up() {
            place.wake_by_ref();
        }
    }
}

/// Waits until a call is over.
#[derive(Debug)]
pub(crate) struct Watch {
    seat: Seat,
    listener: Option<EventListener>,
}

impl Future for Watch {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Watch { seat, listener } = &mut *self;
            let watch = |state| (state & CANCELLED == 0).then_some(state | WATCHED);
            if !seat.place.change(seat.number, watch) {
                return Poll::Ready(());
            }
            match listener {
                // The end may have come before this listens: look again.
                None => *listener = Some(seat.place.over.listen()),
                Some(told) => {
                    ready!(Pin::new(told).poll(cx));
                    *listener = None;
                }
            }
        }
    }
}
