//! [`Task`]: a part of a handler, in a task of its own.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use getty_core::rpc::{Code, Status};
use pin_project_lite::pin_project;

use crate::rpc::place::{Hold, Seat, Watch};
use crate::runtime::Spawn;

pin_project! {
    /// The task that [`Call::spawn`](super::Call::spawn) gives to a spawner.
    pub struct Task<F: Future> {
        #[pin]
        future: Option<F>,
        shared: Arc<Shared<F::Output>>,
        seat: Seat,
        // Until the call is over.
        watch: Option<Watch>,
        // Until the future has ended.
        hold: Option<Hold>,
    }

    impl<F: Future> PinnedDrop for Task<F> {
        fn drop(this: Pin<&mut Self>) {
            let dropped = || Status::new(Code::Unavailable, "the spawner dropped the work");
            this.end(|| Err(dropped()));
        }
    }
}

/// The output of work in a task of its own, when it comes: see [`Call::spawn`](super::Call::spawn). Dropping
/// it drops the work.
#[must_use = "work is dropped with the future that waits for it"]
pub struct Spawned<T>(Result<Arc<Shared<T>>, Status>);

/// What a task and those who wait for it share.
struct Shared<T>(Mutex<State<T>>);

struct State<T> {
    output: Option<Result<T, Status>>,
    /// Nobody waits for the output.
    is_dropped: bool,
    task: Option<Waker>,
    waiter: Option<Waker>,
}

/// Runs `future`, a part of the handler in `seat`, as a task.
pub(crate) fn spawned<S, F>(seat: &Seat, spawner: &S, future: F) -> Spawned<F::Output>
where
    S: Spawn<Task<F>>,
    F: Future,
{
    let Some(hold) = seat.hold() else { return Spawned(Err(over())) };
    let state = State { output: None, is_dropped: false, task: None, waiter: None };
    let shared = Arc::new(Shared(Mutex::new(state)));
    spawner.spawn(Task {
        future: Some(future),
        shared: shared.clone(),
        seat: seat.clone(),
        watch: Some(seat.watch()),
        hold: Some(hold),
    });
    Spawned(Ok(shared))
}

fn over() -> Status {
    Status::new(Code::Cancelled, "the call is over")
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Future> Task<F> {
    /// Drops the future, then hands over what came of it, and lets the handler go.
    fn end(self: Pin<&mut Self>, output: impl FnOnce() -> Result<F::Output, Status>) {
        let mut this = self.project();
        let Some(hold) = this.hold.take() else { return };
        // A future that panics when it is dropped has ended all the same.
        let _ = catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
        *this.watch = None;
        let mut state = this.shared.lock();
        state.output = Some(output());
        let waiter = state.waiter.take();
        drop(state);
        drop(hold);
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    /// Whether nobody wants the work any longer. If somebody does, the task is woken when that changes.
    fn is_unwanted(self: Pin<&mut Self>, cx: &mut Context<'_>) -> bool {
        let this = self.project();
        let is_over = this.watch.as_mut().is_some_and(|watch| Pin::new(watch).poll(cx).is_ready());
        if is_over {
            *this.watch = None;
            if this.seat.is_dropped() {
                return true;
            }
        }
        let mut state = this.shared.lock();
        if state.is_dropped {
            return true;
        }
        if state.task.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
            state.task = Some(cx.waker().clone());
        }
        false
    }
}

impl<F: Future> Future for Task<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.as_mut().is_unwanted(cx) {
            self.end(|| Err(over()));
            return Poll::Ready(());
        }
        let future = self.as_mut().project().future.as_pin_mut();
        let polled = catch_unwind(AssertUnwindSafe(|| future.map(|future| future.poll(cx))));
        match polled {
            Ok(Some(Poll::Pending)) => return Poll::Pending,
            Ok(Some(Poll::Ready(output))) => self.end(|| Ok(output)),
            Ok(None) => {}
            Err(_) => self.end(|| Err(Status::new(Code::Internal, "the handler panicked"))),
        }
        Poll::Ready(())
    }
}

impl<T> Future for Spawned<T> {
    type Output = Result<T, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = match &self.0 {
            Ok(shared) => shared,
            Err(status) => return Poll::Ready(Err(status.clone())),
        };
        let mut state = shared.lock();
        match state.output.take() {
            Some(output) => Poll::Ready(output),
            None => {
                let before = state.waiter.replace(cx.waker().clone());
                drop(state);
                drop(before);
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Spawned<T> {
    fn drop(&mut self) {
        let Ok(shared) = &self.0 else { return };
        let mut state = shared.lock();
        state.is_dropped = true;
        let task = state.task.take();
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl<F: Future> fmt::Debug for Task<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("seat", &self.seat).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Spawned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawned").finish_non_exhaustive()
    }
}
