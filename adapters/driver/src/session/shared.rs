//! [`Shared`]: what the handles of a session and its task share.

use std::any::{Any, TypeId};
use std::collections::{HashMap, VecDeque};
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
use crate::session::outcome::{Fate, Teller, Ticket};

/// What the handles of a session and its driver share.
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
    /// A handle has asked to close, or the session is closing already.
    closing: bool,
    closed: Option<Box<CloseReason>>,
    half_close: HalfClose,
    /// Those whose item the session has taken.
    tellers: VecDeque<(Seq, Teller)>,
    extras: Option<Box<Extras>>,
}

/// The end of the sending side alone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HalfClose {
    NotAsked,
    /// Comes after the items that were posted before.
    Asked,
    Done(Result<(), HalfCloseError>),
}

/// Why an item was not posted.
pub(crate) enum NotPosted {
    Blocked,
    Closed,
}

/// A posted item.
pub(crate) struct Entry<T> {
    pub(crate) item: T,
    /// Whom it is for, over a datagram socket that is not connected.
    pub(crate) to: Option<SocketAddr>,
    /// Tells its sender, who waits, what became of it.
    pub(crate) teller: Option<Teller>,
    /// It was posted to a pool, which gives it to another session if this one does not take it.
    pub(crate) pooled: bool,
}

impl<T> Entry<T> {
    pub(crate) fn new(item: T) -> Self {
        Entry { item, to: None, teller: None, pooled: false }
    }
}

#[derive(Default)]
struct Extras {
    name: Option<Arc<str>>,
    attributes: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
}

/// What handles asked for besides sending.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) pause: Option<bool>,
    /// A receiver's queue has room again.
    pub(crate) release: bool,
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
                tellers: VecDeque::new(),
                extras: None,
            }),
            room: Event::new(),
            over: Event::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing of the user's runs under this lock, but wakers being cloned and dropped.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For handles: posts an item, if there is room for it.
    pub(crate) fn try_post(&self, entry: Entry<T>) -> Result<(), SendError<T>> {
        self.post(entry).map_err(|(entry, error)| match error {
            NotPosted::Closed => SendError::Closed(entry.item),
            NotPosted::Blocked => SendError::Blocked(entry.item),
        })
    }

    /// The same; gives all of it back if it can't be.
    pub(crate) fn post(&self, entry: Entry<T>) -> Result<(), (Entry<T>, NotPosted)> {
        let mut state = self.lock();
        let half_closed = matches!(state.half_close, HalfClose::Asked | HalfClose::Done(Ok(())));
        if state.closing || half_closed || state.closed.is_some() {
            return Err((entry, NotPosted::Closed));
        }
        if state.above_high || state.items.len() >= self.queue_limit {
            return Err((entry, NotPosted::Blocked));
        }
        state.items.push_back(entry);
        self.wake(state);
        Ok(())
    }

    /// For handles: takes the item out of the queue again, if it is there.
    pub(crate) fn take_back(&self, ticket: &Ticket) -> Option<T> {
        let mut state = self.lock();
        let is_it = |entry: &Entry<T>| entry.teller.as_ref().is_some_and(|teller| ticket.is_for(teller));
        let place = state.items.iter().position(is_it)?;
        let entry = state.items.remove(place);
        let above_high = state.above_high;
        drop(state);
        if !above_high {
            self.room.notify_additional(1);
        }
        entry.map(|entry| entry.item)
    }

    /// For handles: hears of room, or that there will be none.
    pub(crate) fn listen_for_room(&self) -> EventListener {
        self.room.listen()
    }

    /// For handles: asks the session's task for something.
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
            // The first close counts, except that an abort ends the session at once, whatever was asked for.
            let asked = &mut state.asked.close;
            if asked.as_ref().is_none_or(|asked| asked.is_graceful() && !how.is_graceful()) {
                *asked = Some(Box::new(how));
            }
            self.wake(state);
        }
        self.room.notify(usize::MAX); // who waits for room learns that there will be none
    }

    /// For handles: ends the sending side alone, and waits until the session has agreed or refused.
    pub(crate) async fn half_close(&self) -> Result<(), HalfCloseError> {
        loop {
            let listener = self.room.listen();
            let mut state = self.lock();
            match state.half_close {
                HalfClose::Done(result) => return result,
                _ if state.closed.is_some() => return Err(HalfCloseError::Closed),
                HalfClose::Asked => drop(state),
                HalfClose::NotAsked if state.closing => return Err(HalfCloseError::Closed),
                HalfClose::NotAsked => {
                    state.half_close = HalfClose::Asked;
                    state.asked.half_close = true;
                    self.wake(state);
                }
            }
            listener.await;
        }
    }

    /// For the driver: reports the result of a half-close.
    pub(crate) fn half_closed(&self, result: Result<(), HalfCloseError>) {
        self.lock().half_close = HalfClose::Done(result);
        self.room.notify(usize::MAX);
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

    /// For handles: takes what never reached the session, which is over: the items of a pool, or the others.
    pub(crate) fn take_items(&self, pooled: bool) -> Vec<T> {
        let mut state = self.lock();
        if state.closed.is_none() {
            return Vec::new();
        }
        let items = std::mem::take(&mut state.items);
        let (taken, left): (Vec<_>, Vec<_>) = items.into_iter().partition(|entry| entry.pooled == pooled);
        state.items = left.into();
        drop(state);
        taken.into_iter().map(|entry| entry.item).collect()
    }

    /// For handles: whether an item could be posted now.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.lock();
        !state.closing && state.closed.is_none() && !state.above_high && state.items.len() < self.queue_limit
    }

    /// For handles: how much waits to be sent, if more can be posted.
    pub(crate) fn load(&self) -> Option<usize> {
        let state = self.lock();
        let takes = !state.closing && state.closed.is_none();
        takes.then(|| state.stats.queued + state.items.len())
    }

    pub(crate) fn last_active(&self) -> Instant {
        clock::instant(Timestamp::from_nanos(self.last_active.load(Ordering::Relaxed)))
    }

    pub(crate) fn stats(&self) -> Stats {
        *self.lock().stats
    }

    /// Wakes the driver, once until it looks.
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

    /// For the driver: takes what was asked for besides sending, and marks everything as seen.
    pub(crate) fn take_asked(&self) -> Asked {
        let mut state = self.lock();
        self.posted.store(false, Ordering::Release);
        std::mem::take(&mut state.asked)
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

    /// For the driver: puts an item back that the session had no room for.
    pub(crate) fn put_back(&self, entry: Entry<T>) {
        let mut state = self.lock();
        state.items.push_front(entry);
        let teller = state.items.front().and_then(|entry| entry.teller.as_ref());
        let waker = teller.and_then(Teller::put_back);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// For the driver: the session has taken the item of `teller`.
    pub(crate) fn taken(&self, teller: Teller, seq: Seq) {
        teller.taken(seq);
        self.lock().tellers.push_back((seq, teller));
    }

    /// For the driver: the socket could not send the datagram of message `seq`.
    pub(crate) fn unsent(&self, seq: Seq, failure: IoFailure) {
        let mut state = self.lock();
        let place = state.tellers.binary_search_by_key(&seq, |(seq, _)| *seq);
        let teller = place.ok().and_then(|place| state.tellers.remove(place));
        drop(state);
        if let Some((seq, teller)) = teller {
            teller.tell(Fate::Unsent(seq, failure));
        }
    }

    /// For the driver: makes facts known.
    pub(crate) fn publish(&self, last_active: Timestamp, stats: Stats) {
        self.last_active.store(last_active.as_nanos(), Ordering::Relaxed);
        *self.lock().stats = stats;
    }

    /// For the driver: whom to wake.
    pub(crate) fn leave_waker(&self, waker: &Waker) {
        let before = self.lock().waker.replace(waker.clone());
        drop(before);
    }

    /// For the driver, at the end of a turn: makes facts known, answers who waits, and leaves a waker.
    ///
    /// Gives false if something was posted meanwhile, which calls for another turn.
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
        let flushed = state.tellers.partition_point(|(seq, _)| Some(*seq) <= stats.progress.flushed);
        let flushed: Vec<_> = state.tellers.drain(..flushed).collect();
        let room = match (open, writable) {
            (false, _) => usize::MAX, // nobody has to wait any more
            (true, true) => self.queue_limit.saturating_sub(state.items.len()),
            (true, false) => 0,
        };
        drop(state);
        for (seq, teller) in flushed {
            teller.tell(Fate::Flushed(seq));
        }
        self.room.notify_additional(room);
        !self.was_posted()
    }

    /// For the driver: the session is over. Gives what is left of it, to be dropped when everybody has been told: that is the
    /// user's, and may panic.
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
        let tellers = std::mem::take(&mut state.tellers);
        let not_taken: Vec<_> = state.items.iter_mut().filter_map(|entry| entry.teller.take()).collect();
        let asked = std::mem::take(&mut state.asked);
        // An attribute may hold a handle of this very session, which would keep both for ever.
        let attributes = state.extras.as_mut().map(|extras| std::mem::take(&mut extras.attributes));
        drop(state);
        drop(waker);
        let progress = stats.progress;
        let next = progress.flushed.map_or(Seq::FIRST, Seq::next);
        for (seq, teller) in tellers {
            teller.tell(match seq {
                _ if Some(seq) <= progress.flushed => Fate::Flushed(seq),
                _ if Some(seq) <= progress.unknown => Fate::Unknown(seq),
                _ if seq == next && progress.partly_written => Fate::Partly(seq),
                _ => Fate::Unwritten(seq),
            });
        }
        drop(not_taken); // which tells their senders so
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
