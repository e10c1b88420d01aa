//! [`Shared`]: state shared by a session's handles and its task.

use std::any::{Any, TypeId};
use std::collections::{HashMap, VecDeque};
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use event_listener::{Event, EventListener};
#[cfg(feature = "websocket")]
use getty_core::websocket::Verdict;
use getty_core::{Close, CloseReason, HalfCloseError, IoFailure, SendError, Seq, Stats, Timestamp};

use crate::runtime::clock;
use crate::session::id::SessionId;
use crate::session::outcome::{Outcome, Reporter, Waiter};

/// State shared by a session's handles and its driver.
pub(crate) struct Shared<T> {
    pub(crate) id: SessionId,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) peer: Option<SocketAddr>,
    queue_limit: usize,
    /// Something was posted since the driver last looked.
    posted: AtomicBool,
    last_active: AtomicU64,
    state: Mutex<State<T>>,
    /// There is room in the queue, or the session is over.
    room: Event,
    /// The session is over.
    over: Event,
}

struct State<T> {
    items: VecDeque<Entry<T>>,
    waker: Option<Waker>,
    stats: Box<Stats>,
    above_high: bool,
    asked: Asked,
    /// A handle has requested a close, or the session is already closing.
    closing: bool,
    closed: Option<Box<CloseReason>>,
    half_close: HalfClose,
    /// Reporters of items that the session has taken.
    reporters: VecDeque<(Seq, Reporter)>,
    extras: Option<Box<Extras>>,
}

impl<T> State<T> {
    /// Whether items can be posted, as far as the session's ends go.
    fn takes_items(&self) -> bool {
        !self.closing
            && self.closed.is_none()
            && matches!(self.half_close, HalfClose::NotAsked | HalfClose::Done(Err(_)))
    }
}

/// The end of the sending side alone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HalfClose {
    NotAsked,
    /// Comes after the items that were posted before.
    Asked,
    Done(Result<(), HalfCloseError>),
}

/// Reason why an item was not posted.
pub(crate) enum NotPosted {
    Blocked,
    Closed,
}

/// A posted item.
pub(crate) struct Entry<T> {
    pub(crate) item: T,
    /// The recipient, over an unconnected datagram socket.
    pub(crate) to: Option<SocketAddr>,
    /// Reports the outcome to a waiting sender.
    pub(crate) reporter: Option<Reporter>,
    /// The item was posted to a pool, which gives it to another session if this one does not take it.
    pub(crate) pooled: bool,
}

impl<T> Entry<T> {
    pub(crate) fn new(item: T) -> Self {
        Entry { item, to: None, reporter: None, pooled: false }
    }
}

#[derive(Default)]
struct Extras {
    name: Option<Arc<str>>,
    attributes: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
}

/// Requests of handles besides sending.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) pause: Option<bool>,
    /// A receiver's queue has room again.
    pub(crate) end_queue_pause: bool,
    pub(crate) close: Option<Box<Close>>,
    pub(crate) half_close: bool,
    #[cfg(feature = "websocket")]
    pub(crate) verdict: Option<Box<Verdict>>,
}

impl<T> Shared<T> {
    pub(crate) fn new(
        id: SessionId,
        local: Option<SocketAddr>,
        peer: Option<SocketAddr>,
        queue_limit: usize,
    ) -> Self {
        Shared {
            id,
            local,
            peer,
            queue_limit,
            posted: AtomicBool::new(false),
            last_active: AtomicU64::new(0),
            state: Mutex::new(State {
                items: VecDeque::new(),
                waker: None,
                stats: Box::default(),
                above_high: false,
                asked: Asked::default(),
                closing: false,
                closed: None,
                half_close: HalfClose::NotAsked,
                reporters: VecDeque::new(),
                extras: None,
            }),
            room: Event::new(),
            over: Event::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No user code runs under this lock, except cloning and dropping wakers.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For handles: posts an item if there is room for it.
    pub(crate) fn try_post(&self, entry: Entry<T>) -> Result<(), SendError<T>> {
        self.post(entry).map_err(|(entry, error)| match error {
            NotPosted::Closed => SendError::Closed(entry.item),
            NotPosted::Blocked => SendError::Blocked(entry.item),
        })
    }

    /// For handles: posts an entry if there is room for it, and returns all of it otherwise.
    pub(crate) fn post(&self, entry: Entry<T>) -> Result<(), (Entry<T>, NotPosted)> {
        let mut state = self.lock();
        if state.closing || state.half_close == HalfClose::Done(Ok(())) || state.closed.is_some() {
            return Err((entry, NotPosted::Closed));
        }
        // A half-close may be refused yet.
        let asked = state.half_close == HalfClose::Asked;
        if asked || state.above_high || state.items.len() >= self.queue_limit {
            return Err((entry, NotPosted::Blocked));
        }
        state.items.push_back(entry);
        self.wake(state);
        Ok(())
    }

    /// For handles: takes the item back out of the queue, if it is still there.
    pub(crate) fn take_back(&self, waiter: &Waiter) -> Option<T> {
        let mut state = self.lock();
        let is_it =
            |entry: &Entry<T>| entry.reporter.as_ref().is_some_and(|reporter| waiter.is_for(reporter));
        let place = state.items.iter().position(is_it)?;
        let entry = state.items.remove(place);
        let above_high = state.above_high;
        drop(state);
        if !above_high {
            self.room.notify_additional(1);
        }
        entry.map(|entry| entry.item)
    }

    /// For handles: listens for room, or for the end of the session.
    pub(crate) fn listen_for_room(&self) -> EventListener {
        self.room.listen()
    }

    /// For handles: makes a request to the session's task.
    pub(crate) fn ask(&self, ask: impl FnOnce(&mut Asked)) {
        let mut state = self.lock();
        if state.closed.is_none() {
            ask(&mut state.asked);
            self.wake(state);
        }
    }

    /// For handles: ends the session.
    pub(crate) fn close(&self, how: Close) {
        let mut state = self.lock();
        if state.closed.is_none() {
            state.closing = true;
            // The first close counts, but an abort overrides a graceful one and ends the session at once.
            let asked = &mut state.asked.close;
            if asked.as_ref().is_none_or(|asked| asked.is_graceful() && !how.is_graceful()) {
                *asked = Some(Box::new(how));
            }
            self.wake(state);
        }
        self.room.notify(usize::MAX); // there will be no more room: senders stop waiting
    }

    /// For handles: ends the sending side alone, and waits until the session has agreed or refused.
    pub(crate) async fn half_close(&self) -> Result<(), HalfCloseError> {
        loop {
            let listener = self.room.listen();
            if let Some(result) = self.ask_half_close() {
                return result;
            }
            listener.await;
        }
    }

    /// Asks for a half-close once; returns the result when there is one.
    fn ask_half_close(&self) -> Option<Result<(), HalfCloseError>> {
        let mut state = self.lock();
        match state.half_close {
            HalfClose::Done(result) => Some(result),
            _ if state.closed.is_some() => Some(Err(HalfCloseError::Closed)),
            HalfClose::Asked => None,
            HalfClose::NotAsked if state.closing => Some(Err(HalfCloseError::Closed)),
            HalfClose::NotAsked => {
                state.half_close = HalfClose::Asked;
                state.asked.half_close = true;
                self.wake(state);
                None
            }
        }
    }

    /// For the driver: reports the result of a half-close.
    pub(crate) fn half_closed(&self, result: Result<(), HalfCloseError>) {
        let done = HalfClose::Done(result);
        if mem::replace(&mut self.lock().half_close, done) != done {
            self.room.notify(usize::MAX);
        }
    }

    /// For handles: waits until the session is over.
    pub(crate) async fn closed(&self) -> CloseReason {
        loop {
            let listener = self.over.listen();
            if let Some(reason) = &self.lock().closed {
                return CloseReason::clone(reason);
            }
            listener.await;
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.lock().closed.is_some()
    }

    /// For handles: takes the items that never reached the session: those of a pool, or the others. Empty
    /// until the session is over.
    pub(crate) fn take_items(&self, pooled: bool) -> Vec<T> {
        let mut state = self.lock();
        if state.closed.is_none() {
            return Vec::new();
        }
        let items = mem::take(&mut state.items);
        let (taken, left): (Vec<_>, Vec<_>) = items.into_iter().partition(|entry| entry.pooled == pooled);
        state.items = left.into();
        drop(state);
        taken.into_iter().map(|entry| entry.item).collect()
    }

    /// For handles: whether an item can be posted now.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.lock();
        state.takes_items() && !state.above_high && state.items.len() < self.queue_limit
    }

    /// For handles: the load waiting to be sent, if more can be posted.
    pub(crate) fn load(&self) -> Option<usize> {
        let state = self.lock();
        state.takes_items().then(|| state.stats.queued + state.items.len())
    }

    pub(crate) fn last_active(&self) -> Instant {
        clock::instant(Timestamp::from_nanos(self.last_active.load(Ordering::Relaxed)))
    }

    pub(crate) fn stats(&self) -> Stats {
        *self.lock().stats
    }

    /// Wakes the driver, at most once until it looks.
    fn wake(&self, mut state: MutexGuard<'_, State<T>>) {
        if !self.posted.swap(true, Ordering::AcqRel) {
            let waker = state.waker.take();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// For the driver: whether something was posted since it last looked.
    pub(crate) fn was_posted(&self) -> bool {
        self.posted.load(Ordering::Acquire)
    }

    /// For the driver: takes the requests besides sending, and marks everything as seen.
    pub(crate) fn take_asked(&self) -> Asked {
        let mut state = self.lock();
        self.posted.store(false, Ordering::Release);
        mem::take(&mut state.asked)
    }

    /// For the driver: takes the next item.
    pub(crate) fn pop(&self) -> Option<Entry<T>> {
        let mut state = self.lock();
        let entry = state.items.pop_front()?;
        if state.items.is_empty() {
            state.items = VecDeque::new(); // an idle session's queue holds no memory
        }
        Some(entry)
    }

    /// For the driver: returns an item to the queue for which the session had no room.
    pub(crate) fn put_back(&self, entry: Entry<T>) {
        let mut state = self.lock();
        state.items.push_front(entry);
        let reporter = state.items.front().and_then(|entry| entry.reporter.as_ref());
        let waker = reporter.and_then(Reporter::put_back);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// For the driver: the session has taken the item of `reporter`.
    pub(crate) fn taken(&self, reporter: Reporter, seq: Seq) {
        reporter.taken(seq);
        self.lock().reporters.push_back((seq, reporter));
    }

    /// For the driver: the socket could not send the datagram of message `seq`.
    pub(crate) fn unsent(&self, seq: Seq, failure: IoFailure) {
        let mut state = self.lock();
        let place = state.reporters.binary_search_by_key(&seq, |(seq, _)| *seq);
        let reporter = place.ok().and_then(|place| state.reporters.remove(place));
        drop(state);
        if let Some((seq, reporter)) = reporter {
            reporter.report(Outcome::Unsent(seq, failure));
        }
    }

    /// For the driver: publishes facts.
    pub(crate) fn publish(&self, last_active: Timestamp, stats: Stats) {
        self.last_active.store(last_active.as_nanos(), Ordering::Relaxed);
        *self.lock().stats = stats;
    }

    /// For the driver: registers the waker.
    pub(crate) fn leave_waker(&self, waker: &Waker) {
        let before = self.lock().waker.replace(waker.clone());
        drop(before);
    }

    /// For the driver, at the end of a turn: publishes facts, reports flushed items, and registers the
    /// waker.
    ///
    /// Returns false if something was posted meanwhile, which requires another turn.
    pub(crate) fn end_turn(
        &self,
        last_active: Timestamp,
        stats: Stats,
        writable: bool,
        open: bool,
        waker: &Waker,
    ) -> bool {
        self.last_active.store(last_active.as_nanos(), Ordering::Relaxed);
        let mut state = self.lock();
        *state.stats = stats;
        state.above_high = !writable;
        state.closing |= !open;
        if !state.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
        let flushed = state.reporters.partition_point(|(seq, _)| Some(*seq) <= stats.progress.flushed);
        let flushed: Vec<_> = state.reporters.drain(..flushed).collect();
        let room = match (open, writable) {
            (false, _) => usize::MAX, // no sender has to wait any longer
            (true, true) => self.queue_limit.saturating_sub(state.items.len()),
            (true, false) => 0,
        };
        drop(state);
        for (seq, reporter) in flushed {
            reporter.report(Outcome::Flushed(seq));
        }
        self.room.notify_additional(room);
        !self.was_posted()
    }

    /// For the driver: the session is over. Returns what is left of it, to be dropped after everything is
    /// reported: those are user values, whose destructors may panic.
    pub(crate) fn end(
        &self,
        reason: Box<CloseReason>,
        last_active: Timestamp,
        stats: Stats,
    ) -> impl Sized + use<T> {
        self.last_active.store(last_active.as_nanos(), Ordering::Relaxed);
        let mut state = self.lock();
        *state.stats = stats;
        state.closed = Some(reason);
        let waker = state.waker.take();
        let reporters = mem::take(&mut state.reporters);
        let not_taken: Vec<_> = state.items.iter_mut().filter_map(|entry| entry.reporter.take()).collect();
        let asked = mem::take(&mut state.asked);
        // An attribute may hold a handle of this same session, which would keep both alive forever.
        let attributes = state.extras.as_mut().map(|extras| mem::take(&mut extras.attributes));
        drop(state);
        drop(waker);
        let progress = stats.progress;
        let next = progress.flushed.map_or(Seq::FIRST, Seq::next);
        for (seq, reporter) in reporters {
            reporter.report(match seq {
                _ if Some(seq) <= progress.flushed => Outcome::Flushed(seq),
                _ if Some(seq) <= progress.unknown => Outcome::Unknown(seq),
                _ if seq == next && progress.partly_written => Outcome::Partly(seq),
                _ => Outcome::Unwritten(seq),
            });
        }
        drop(not_taken); // reports `NotTaken`
        self.room.notify(usize::MAX);
        self.over.notify(usize::MAX);
        (asked, attributes)
    }

    pub(crate) fn name(&self) -> Option<Arc<str>> {
        self.lock().extras.as_ref()?.name.clone()
    }

    pub(crate) fn set_name(&self, name: Arc<str>) {
        self.lock().extras.get_or_insert_default().name = Some(name);
    }

    pub(crate) fn attribute<A: Any + Send + Sync>(&self) -> Option<Arc<A>> {
        let value = self.lock().extras.as_ref()?.attributes.get(&TypeId::of::<A>())?.clone();
        value.downcast().ok()
    }

    pub(crate) fn set_attribute<A: Any + Send + Sync>(&self, value: A) -> Option<Arc<A>> {
        let mut state = self.lock();
        if state.closed.is_some() {
            drop(state);
            return None;
        }
        let attributes = &mut state.extras.get_or_insert_default().attributes;
        let before = attributes.insert(TypeId::of::<A>(), Arc::new(value));
        drop(state);
        before?.downcast().ok()
    }

    pub(crate) fn remove_attribute<A: Any + Send + Sync>(&self) -> Option<Arc<A>> {
        let before = self.lock().extras.as_mut()?.attributes.remove(&TypeId::of::<A>());
        before?.downcast().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shared_state_is_small() {
        assert!(size_of::<Shared<bytes::Bytes>>() <= 256, "{}", size_of::<Shared<bytes::Bytes>>());
    }
}
