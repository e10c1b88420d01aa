//! [`Task`]: a future that the test polls by hand.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::fake;

/// Counts its wakes.
#[derive(Default)]
pub struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A future with a waker that counts. Only the test polls it.
pub struct Task<F> {
    future: Option<Pin<Box<F>>>,
    counter: Arc<Counter>,
    /// Number of wakes at the last poll.
    seen: Option<usize>,
    pub polls: usize,
}

impl<F: Future> Task<F> {
    pub fn new(future: F) -> Self {
        Task { future: Some(Box::pin(future)), counter: Arc::default(), seen: None, polls: 0 }
    }

    /// Polls once, woken or not.
    #[track_caller]
    pub fn poll(&mut self) -> Poll<F::Output> {
        self.seen = Some(self.counter.0.load(Ordering::SeqCst));
        self.polls += 1;
        let waker = Waker::from(self.counter.clone());
        let future = self.future.as_mut().expect("it is done");
        let result = future.as_mut().poll(&mut Context::from_waker(&waker));
        if result.is_ready() {
            self.future = None;
        }
        result
    }

    /// Whether there is reason to poll: it was never polled, or was woken since the last poll. Lets the
    /// runtime look at its sockets if nothing else wakes it.
    pub fn is_woken(&self) -> bool {
        self.was_woken() || fake::look() && self.was_woken()
    }

    fn was_woken(&self) -> bool {
        self.seen != Some(self.counter.0.load(Ordering::SeqCst))
    }

    /// Polls as an executor would, until it has to wait.
    #[track_caller]
    pub fn run(&mut self) -> Poll<F::Output> {
        for _ in 0..100_000 {
            if self.future.is_none() || !self.is_woken() {
                return Poll::Pending;
            }
            if let Poll::Ready(output) = self.poll() {
                return Poll::Ready(output);
            }
        }
        panic!("woken again and again without an end");
    }

    /// [`run`](Self::run)s, and returns the output. Panics if it has to wait.
    #[track_caller]
    pub fn finish(&mut self) -> F::Output {
        match self.run() {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("it has to wait"),
        }
    }

    /// [`run`](Self::run)s, and panics if it is done.
    #[track_caller]
    pub fn settle(&mut self) {
        assert!(self.run().is_pending(), "it is done");
    }

    /// Gives it another waker, as if it had moved to another task.
    pub fn change_waker(&mut self) -> Arc<Counter> {
        self.seen = Some(0);
        std::mem::take(&mut self.counter)
    }

    pub fn get_mut(&mut self) -> &mut F
    where
        F: Unpin,
    {
        self.future.as_mut().expect("it is done").as_mut().get_mut()
    }
}

impl Counter {
    pub fn wakes(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}
