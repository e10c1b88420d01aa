//! [`Receiver`]: the receiving half of a session that runs in its own task.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};

use futures_core::Stream;
use getty_core::{CloseReason, Config, Messages};

use crate::session::context::Context;
use crate::session::handle::Handle;
use crate::session::listener::Listener;
use crate::session::turn_budget::TURN_MESSAGES;

/// The received messages of a [spawned](crate::Connection::spawn) session.
///
/// Messages wait in a queue. The session stops reading once the queue holds [`Config::handle_queue`]
/// messages, or once its bytes reach the high [watermark](getty_core::ConfigBuilder::watermarks), which the
/// last message may exceed. It resumes at half as many messages and the low watermark.
/// [`Session::last_weight`](getty_core::Session::last_weight) gives the weight of a message.
///
/// Dropping the receiver leaves the session open for sending; messages that still arrive are dropped.
///
/// A task that always finds a message yields to others after 128 of them.
pub struct Receiver<T, O> {
    queue: Arc<Queue<T>>,
    handle: Handle<O>,
    /// Messages that were ready at once since the task last waited.
    ready: u32,
    yield_now: fn(&mut TaskContext<'_>),
}

impl<T, O> Receiver<T, O> {
    /// `yield_now` is the runtime's.
    pub(crate) fn new(queue: Arc<Queue<T>>, handle: Handle<O>, yield_now: fn(&mut TaskContext<'_>)) -> Self {
        Receiver { queue, handle, ready: 0, yield_now }
    }

    /// Waits for the next message. `None` means that no more will come: the peer ended its stream (it may
    /// still read), or the session was closed.
    ///
    /// # Errors
    /// The reason why the session ended, if not cleanly. Every later call returns the same.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Result<Option<T>, CloseReason> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<Option<T>, CloseReason>> {
        if self.ready == TURN_MESSAGES {
            self.ready = 0;
            (self.yield_now)(cx);
            return Poll::Pending;
        }
        let next = self.poll_queue(cx);
        self.ready = if next.is_ready() { self.ready + 1 } else { 0 };
        next
    }

    fn poll_queue(&self, cx: &mut TaskContext<'_>) -> Poll<Result<Option<T>, CloseReason>> {
        let mut state = self.queue.lock();
        if let Some((message, weight)) = state.messages.pop_front() {
            state.weight -= weight;
            if state.paused && self.queue.has_much_room(&state) {
                state.paused = false;
                drop(state);
                self.handle.end_queue_pause();
            }
            return Poll::Ready(Ok(Some(message)));
        }
        if let Some(reason) = &state.closed {
            let result = if reason.is_clean() { Ok(None) } else { Err(CloseReason::clone(reason)) };
            return Poll::Ready(result);
        }
        if state.ended {
            return Poll::Ready(Ok(None));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T, O> Stream for Receiver<T, O> {
    type Item = Result<T, CloseReason>;

    /// As [`recv`](Receiver::recv), whose `None` ends the stream. An error is returned once.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let next = self.poll_recv(cx).map(Result::transpose);
        if let Poll::Ready(Some(Err(_))) = next {
            self.queue.lock().closed = Some(Box::new(CloseReason::Local { flushed: true }));
        }
        next
    }
}

impl<T, O> Drop for Receiver<T, O> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.abandoned = true;
        let messages = std::mem::take(&mut state.messages);
        drop(state);
        drop(messages);
        self.handle.end_queue_pause();
    }
}

impl<T, O> fmt::Debug for Receiver<T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("handle", &self.handle).finish_non_exhaustive()
    }
}

/// State shared by a [`Receiver`] and its session.
pub(crate) struct Queue<T> {
    /// Maximum number of messages.
    limit: usize,
    /// Bytes from which the queue takes no more messages, and bytes at which it takes some again.
    high: usize,
    low: usize,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// Messages with their weights.
    messages: VecDeque<(T, usize)>,
    /// The sum of the weights.
    weight: usize,
    /// The session does not read because the queue is full.
    paused: bool,
    /// The peer has ended its stream.
    ended: bool,
    closed: Option<Box<CloseReason>>,
    /// The receiver is gone.
    abandoned: bool,
    waker: Option<Waker>,
}

impl<T> Queue<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_full(&self, state: &State<T>) -> bool {
        state.messages.len() >= self.limit || state.weight >= self.high
    }

    /// Whether the session should resume. Resuming after each message would cost more.
    fn has_much_room(&self, state: &State<T>) -> bool {
        state.messages.len() <= self.limit / 2 && state.weight <= self.low
    }

    /// Changes the state and wakes the receiver.
    fn update(&self, change: impl FnOnce(&mut State<T>)) {
        let mut state = self.lock();
        change(&mut state);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The listener of a session whose messages wait in a [`Receiver`]. Appears only in bounds of
/// [`Connection::spawn`](crate::Connection::spawn).
pub struct Forward<T> {
    queue: Arc<Queue<T>>,
}

impl<T> Forward<T> {
    pub(crate) fn new(config: &Config, ended: bool) -> (Self, Arc<Queue<T>>) {
        let state = State {
            messages: VecDeque::new(),
            weight: 0,
            paused: false,
            ended,
            closed: None,
            abandoned: false,
            waker: None,
        };
        let queue = Arc::new(Queue {
            limit: config.handle_queue(),
            high: config.high_watermark(),
            low: config.low_watermark(),
            state: Mutex::new(state),
        });
        (Forward { queue: queue.clone() }, queue)
    }

    /// Adds a message of weight `weight`. Returns whether the queue is full, so that the session must
    /// pause.
    pub(crate) fn add(&self, message: T, weight: usize) -> bool {
        let mut is_full = false;
        self.queue.update(|state| {
            if !state.abandoned {
                state.messages.push_back((message, weight));
                state.weight += weight;
                state.paused |= self.queue.is_full(state);
                is_full = state.paused;
            }
        });
        is_full
    }

    /// The peer has ended its stream.
    pub(crate) fn end(&self) {
        self.queue.update(|state| state.ended = true);
    }
}

impl<M: Messages> Listener<M> for Forward<M::In>
where
    M::In: 'static,
{
    fn on_message(&mut self, cx: &mut Context<'_, M>, message: M::In) {
        if self.add(message, cx.last_weight()) {
            cx.pause_for_queue();
        }
    }

    fn on_eof(&mut self, _cx: &mut Context<'_, M>) {
        self.end();
    }

    fn on_close(&mut self, _cx: &mut Context<'_, M>, reason: &CloseReason) {
        self.queue.update(|state| state.closed = Some(Box::new(reason.clone())));
    }
}

impl<T> Drop for Forward<T> {
    /// Nothing else reports that a task was dropped before its session was over.
    fn drop(&mut self) {
        self.queue.update(|state| {
            state.closed.get_or_insert_with(|| Box::new(CloseReason::Local { flushed: false }));
        });
    }
}

impl<T> fmt::Debug for Forward<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").finish_non_exhaustive()
    }
}
