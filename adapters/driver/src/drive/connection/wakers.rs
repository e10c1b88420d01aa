//! [`Wakers`]: the tasks that wait for a connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// One side of a connection, each polled by its own futures.
#[derive(Debug, Clone, Copy)]
pub(super) enum Half {
    Receiving,
    Sending,
}

impl Half {
    /// The indices of this half and of the other one.
    fn order(self) -> [usize; 2] {
        match self {
            Half::Receiving => [0, 1],
            Half::Sending => [1, 0],
        }
    }
}

/// The tasks that wait for a connection. The transport and the timer know a single waker, the bell, which
/// wakes all of them.
pub(super) struct Wakers {
    halves: [Option<Waker>; 2],
    bell: Arc<Bell>,
    /// Copies of the wakers that the bell holds.
    known: [Option<Waker>; 2],
    /// The last time that both halves waited at once, they belonged to two tasks.
    apart: bool,
}

impl Wakers {
    pub(super) fn new() -> Self {
        Wakers { halves: [None, None], bell: Arc::default(), known: [None, None], apart: false }
    }

    /// Wakes the task that waits for the other half, which the change concerns too. It may be the same
    /// task, whose turn with the other half is already over.
    pub(super) fn wake_other(&self, half: Half) {
        let [_, other] = half.order();
        if let Some(waker) = &self.halves[other] {
            waker.wake_by_ref();
        }
    }

    /// Records that no task waits for this half any longer.
    pub(super) fn forget(&mut self, half: Half) {
        let [mine, _] = half.order();
        self.halves[mine] = None;
    }

    /// Whether a task waits for this half.
    pub(super) fn is_awaited(&self, half: Half) -> bool {
        let [mine, _] = half.order();
        self.halves[mine].is_some()
    }

    /// Records the waiting task; returns the waker for the transport.
    pub(super) fn register(&mut self, half: Half, waker: &Waker) -> Waker {
        let [mine, other] = half.order();
        if !self.halves[mine].as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.halves[mine] = Some(waker.clone());
        }
        let second = self.halves[other].as_ref().filter(|other| !other.will_wake(waker));
        if self.halves[other].is_some() {
            self.apart = second.is_some();
        }
        if !self.wakes(waker, second) {
            self.known = [Some(waker.clone()), second.cloned()];
            *self.bell.wakers.lock().unwrap_or_else(PoisonError::into_inner) = self.known.clone();
        }
        Waker::from(self.bell.clone())
    }

    /// Whether the bell wakes exactly these two tasks.
    fn wakes(&self, first: &Waker, second: Option<&Waker>) -> bool {
        let is = |known: &Option<Waker>, waker: Option<&Waker>| match (known, waker) {
            (Some(known), Some(waker)) => known.will_wake(waker),
            (None, None) => true,
            _ => false,
        };
        let [one, two] = &self.known;
        is(one, Some(first)) && is(two, second) || is(one, second) && is(two, Some(first))
    }

    /// Whether the other half belongs to another task, as far as is known: it waited while this one did.
    pub(super) fn are_apart(&self) -> bool {
        self.apart
    }

    /// Whether the bell has rung since it was muted.
    pub(super) fn has_rung(&self) -> bool {
        self.bell.rung.load(Ordering::Acquire)
    }

    /// Mutes the bell; [`has_rung`](Self::has_rung) reports rings from now on.
    pub(super) fn mute(&self) {
        self.bell.rung.store(false, Ordering::Release);
    }
}

/// Wakes every waiting task, and records that it did.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    wakers: Mutex<[Option<Waker>; 2]>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        let wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}
