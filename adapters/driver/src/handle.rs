//! [`Handle`]: a session, from anywhere.

use std::any::{Any, TypeId};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use event_listener::Event;
use getty_core::{Close, CloseReason, SendError, Seq, Stats, Timestamp};

use crate::clock;

/// A session's number: unique in this process, in the order in which sessions began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(NonZeroU64);

impl SessionId {
    pub(crate) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        // At a billion sessions a second this wraps after 584 years.
        let number = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        SessionId(NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A session, from anywhere: sends and closes without owning it. Cheap to clone; one type for every transport.
///
/// What is posted goes through a queue of [`Config::handle_queue`](getty_core::Config::handle_queue) items
/// to the task that owns the session. A handle does not keep the session alive.
pub struct Handle<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Handle<T> {
    pub(crate) fn new(shared: Arc<Shared<T>>) -> Self {
        Handle { shared }
    }

    /// Posts an item, if there is room for it now.
    ///
    /// `Ok` means posted. If it then turns out too large or not encodable,
    /// [`Listener::on_send_error`](crate::Listener::on_send_error) is told.
    ///
    /// # Errors
    /// [`SendError::Blocked`] if the queue is full or the session is above its high watermark,
    /// [`SendError::Closed`] if the session is over. Both give the item back.
    pub fn try_send(&self, item: T) -> Result<(), SendError<T>> {
        self.shared.post(item, None)
    }

    /// Posts an item, and waits for room if there is none.
    ///
    /// # Errors
    /// [`SendError::Closed`] if the session is over, with the item.
    ///
    /// # Cancel safety
    /// An item whose future is dropped before it is ready was not posted, and is dropped with it.
    pub async fn send(&self, item: T) -> Result<(), SendError<T>> {
        self.post_when_there_is_room(item, None).await
    }

    /// Posts an item and waits until the transport has all of it, or until it is known that it will not.
    ///
    /// # Errors
    /// [`NotFlushed`] tells what is known of the item.
    ///
    /// # Cancel safety
    /// Once the item is posted, dropping the future does not take it back.
    pub async fn send_flushed(&self, item: T) -> Result<Seq, NotFlushed<T>> {
        let ticket = Arc::new(Ticket::default());
        self.post_when_there_is_room(item, Some(ticket.clone())).await.map_err(NotFlushed::NotSent)?;
        loop {
            let listener = self.shared.changed.listen();
            // First whether it is over, then the fate, which is final by then; and never both locks at once, which
            // the driver takes in the other order.
            let over = self.shared.is_over();
            let fate = *ticket.fate();
            match fate {
                Fate::Flushed(seq) => return Ok(seq),
                Fate::NotSent => return Err(NotFlushed::Dropped),
                Fate::Accepted(seq) if over => {
                    let progress = self.shared.lock().stats.progress;
                    let first_unflushed = progress.flushed.map_or(Seq::FIRST, Seq::next);
                    let partly = progress.partly_written && first_unflushed == seq;
                    return Err(if partly { NotFlushed::Partly(seq) } else { NotFlushed::Unwritten(seq) });
                }
                Fate::Queued if over => return Err(NotFlushed::Dropped),
                Fate::Accepted(_) | Fate::Queued => {}
            }
            listener.await;
        }
    }

    async fn post_when_there_is_room(
        &self,
        mut item: T,
        ticket: Option<Arc<Ticket>>,
    ) -> Result<(), SendError<T>> {
        loop {
            let listener = self.shared.room.listen();
            match self.shared.post(item, ticket.clone()) {
                Err(SendError::Blocked(back)) => item = back,
                result => return result,
            }
            listener.await;
        }
    }

    /// Ends the session. A graceful close comes after what was posted before it; nothing can be posted after.
    pub fn close(&self, how: Close) {
        self.shared.command(|state| {
            state.closing = true;
            // The first close counts, except that an abort ends the session at once, whatever was asked for.
            if state.close.as_ref().is_none_or(|asked| asked.is_graceful() && !how.is_graceful()) {
                state.close = Some(Box::new(how));
            }
        });
    }

    /// Stops delivering messages to the listener, and so stops reading, until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.shared.command(|state| state.pause = Some(true));
    }

    /// Goes on delivering messages.
    pub fn resume(&self) {
        self.shared.command(|state| state.pause = Some(false));
    }

    /// Waits until the session is over and says why.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn closed(&self) -> CloseReason {
        loop {
            let listener = self.shared.changed.listen();
            if let Some(reason) = &self.shared.lock().closed {
                return CloseReason::clone(reason);
            }
            listener.await;
        }
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        self.shared.is_over()
    }

    /// Takes the items that were posted but never reached the session, in order. Empty until the session is
    /// over.
    pub fn take_unsent(&self) -> Vec<T> {
        let mut state = self.shared.lock();
        if state.closed.is_none() {
            return Vec::new();
        }
        std::mem::take(&mut state.items).into_iter().map(|entry| entry.item).collect()
    }

    /// When the peer last gave a sign of life, as of the session's last turn.
    pub fn last_active(&self) -> Instant {
        clock::instant(Timestamp::from_nanos(self.shared.last_active.load(Ordering::Relaxed)))
    }

    /// What the session has done, as of its last turn.
    pub fn stats(&self) -> Stats {
        *self.shared.lock().stats
    }

    /// The session's number.
    pub fn id(&self) -> SessionId {
        self.shared.id
    }

    /// This end's address, where the transport has one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.shared.local
    }

    /// The peer's address, where the transport has one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.shared.peer
    }

    /// The name given by [`set_name`](Self::set_name).
    pub fn name(&self) -> Option<Arc<str>> {
        self.shared.name()
    }

    /// Names the session.
    pub fn set_name(&self, name: impl Into<Arc<str>>) {
        self.shared.set_name(name.into());
    }

    /// The attribute of type `A`, if one was set.
    pub fn attribute<A: Any + Clone + Send + Sync>(&self) -> Option<A> {
        self.shared.attribute()
    }

    /// Keeps `value` with the session, under its type; gives what was there before.
    pub fn set_attribute<A: Any + Send + Sync>(&self, value: A) -> Option<A> {
        self.shared.set_attribute(value)
    }

    /// Takes the attribute of type `A` away.
    pub fn remove_attribute<A: Any + Send + Sync>(&self) -> Option<A> {
        self.shared.remove_attribute()
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Handle { shared: self.shared.clone() }
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("id", &self.shared.id)
            .field("peer", &self.shared.peer)
            .finish_non_exhaustive()
    }
}

/// Why [`Handle::send_flushed`] failed: what is known of the item.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum NotFlushed<T> {
    /// It was not posted; it is given back.
    #[error("not sent: {0}")]
    NotSent(SendError<T>),
    /// It never became part of what the session sends: the session ended before (the item is with
    /// [`Handle::take_unsent`]), or refused it (it was given to
    /// [`Listener::on_send_error`](crate::Listener::on_send_error)).
    #[error("not sent: the session did not take it")]
    Dropped,
    /// The transport took none of it.
    #[error("not sent: the session ended before message {0} was written")]
    Unwritten(Seq),
    /// The transport took a part of it.
    #[error("partly sent: the session ended in the middle of message {0}")]
    Partly(Seq),
}

impl<T> fmt::Debug for NotFlushed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotFlushed::NotSent(error) => f.debug_tuple("NotSent").field(error).finish(),
            NotFlushed::Dropped => f.write_str("Dropped"),
            NotFlushed::Unwritten(seq) => f.debug_tuple("Unwritten").field(seq).finish(),
            NotFlushed::Partly(seq) => f.debug_tuple("Partly").field(seq).finish(),
        }
    }
}

/// What becomes of an item whose sender waits for it.
#[derive(Debug, Default)]
pub(crate) struct Ticket(Mutex<Fate>);

#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) enum Fate {
    #[default]
    Queued,
    Accepted(Seq),
    Flushed(Seq),
    NotSent,
}

impl Ticket {
    fn fate(&self) -> MutexGuard<'_, Fate> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the handles of a session and its driver share.
pub(crate) struct Shared<T> {
    id: SessionId,
    local: Option<SocketAddr>,
    peer: Option<SocketAddr>,
    queue_limit: usize,
    /// Something was posted since the driver last looked.
    posted: AtomicBool,
    last_active: AtomicU64,
    state: Mutex<State<T>>,
    /// There is room in the queue, or the session is over.
    room: Event,
    /// Something was flushed, or the session is over.
    changed: Event,
}

struct State<T> {
    items: VecDeque<Entry<T>>,
    waker: Option<Waker>,
    stats: Box<Stats>,
    above_high: bool,
    pause: Option<bool>,
    close: Option<Box<Close>>,
    /// A handle has asked to close.
    closing: bool,
    closed: Option<Box<CloseReason>>,
    tickets: VecDeque<(Seq, Arc<Ticket>)>,
    extras: Option<Box<Extras>>,
}

struct Entry<T> {
    item: T,
    ticket: Option<Arc<Ticket>>,
}

#[derive(Default)]
struct Extras {
    name: Option<Arc<str>>,
    attributes: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
}

/// What handles asked for besides sending.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) pause: Option<bool>,
    pub(crate) close: Option<Box<Close>>,
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
                pause: None,
                close: None,
                closing: false,
                closed: None,
                tickets: VecDeque::new(),
                extras: None,
            }),
            room: Event::new(),
            changed: Event::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing that can panic runs under this lock but the drop of a user's item; the state stays whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.lock().closed.is_some()
    }

    fn post(&self, item: T, ticket: Option<Arc<Ticket>>) -> Result<(), SendError<T>> {
        let mut state = self.lock();
        if state.closing || state.closed.is_some() {
            return Err(SendError::Closed(item));
        }
        if state.above_high || state.items.len() >= self.queue_limit {
            return Err(SendError::Blocked(item));
        }
        state.items.push_back(Entry { item, ticket });
        self.wake(state);
        Ok(())
    }

    fn command(&self, change: impl FnOnce(&mut State<T>)) {
        let mut state = self.lock();
        if state.closed.is_none() {
            change(&mut state);
            self.wake(state);
        }
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
        Asked { pause: state.pause.take(), close: state.close.take() }
    }

    /// For the driver: takes the next item.
    pub(crate) fn pop(&self) -> Option<(T, Option<Arc<Ticket>>)> {
        let mut state = self.lock();
        let entry = state.items.pop_front()?;
        if state.items.is_empty() {
            state.items = VecDeque::new(); // an idle session's queue holds no memory
        }
        Some((entry.item, entry.ticket))
    }

    /// For the driver: what became of an item when it was sent.
    pub(crate) fn settle(&self, ticket: Arc<Ticket>, accepted: Option<Seq>) {
        match accepted {
            Some(seq) => {
                *ticket.fate() = Fate::Accepted(seq);
                self.lock().tickets.push_back((seq, ticket));
            }
            None => {
                *ticket.fate() = Fate::NotSent;
                self.changed.notify(usize::MAX);
            }
        }
    }

    /// For the driver: makes facts known.
    pub(crate) fn publish(&self, last_active: Timestamp, stats: Stats) {
        self.last_active.store(last_active.as_nanos(), Ordering::Relaxed);
        *self.lock().stats = stats;
    }

    /// For the driver, at the end of a turn: makes facts known, answers who waits, and leaves a waker.
    ///
    /// Gives false if something was posted meanwhile, which calls for another turn.
    pub(crate) fn end_turn(
        &self,
        last_active: Timestamp,
        stats: Stats,
        above_high: bool,
        waker: &Waker,
    ) -> bool {
        self.last_active.store(last_active.as_nanos(), Ordering::Relaxed);
        let mut state = self.lock();
        *state.stats = stats;
        state.above_high = above_high;
        if !state.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
        let mut flushed_any = false;
        while let Some((seq, ticket)) = state.tickets.front() {
            if Some(*seq) > stats.progress.flushed {
                break;
            }
            *ticket.fate() = Fate::Flushed(*seq);
            flushed_any = true;
            state.tickets.pop_front();
        }
        let room = if above_high { 0 } else { self.queue_limit - state.items.len().min(self.queue_limit) };
        drop(state);
        if flushed_any {
            self.changed.notify(usize::MAX);
        }
        self.room.notify(room);
        !self.was_posted()
    }

    /// For the driver: the session is over.
    pub(crate) fn end(&self, reason: Box<CloseReason>, last_active: Timestamp, stats: Stats) {
        self.last_active.store(last_active.as_nanos(), Ordering::Relaxed);
        let mut state = self.lock();
        *state.stats = stats;
        state.closed = Some(reason);
        state.waker = None;
        for (seq, ticket) in std::mem::take(&mut state.tickets) {
            if Some(seq) <= stats.progress.flushed {
                *ticket.fate() = Fate::Flushed(seq);
            }
        }
        drop(state);
        self.room.notify(usize::MAX);
        self.changed.notify(usize::MAX);
    }

    pub(crate) fn name(&self) -> Option<Arc<str>> {
        self.lock().extras.as_ref()?.name.clone()
    }

    pub(crate) fn set_name(&self, name: Arc<str>) {
        self.lock().extras.get_or_insert_default().name = Some(name);
    }

    pub(crate) fn attribute<A: Any + Clone>(&self) -> Option<A> {
        self.lock().extras.as_ref()?.attributes.get(&TypeId::of::<A>())?.downcast_ref::<A>().cloned()
    }

    pub(crate) fn set_attribute<A: Any + Send + Sync>(&self, value: A) -> Option<A> {
        let before =
            self.lock().extras.get_or_insert_default().attributes.insert(TypeId::of::<A>(), Box::new(value));
        before.and_then(|b| b.downcast().ok()).map(|b| *b)
    }

    pub(crate) fn remove_attribute<A: Any>(&self) -> Option<A> {
        let before = self.lock().extras.as_mut()?.attributes.remove(&TypeId::of::<A>());
        before.and_then(|b| b.downcast().ok()).map(|b| *b)
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
