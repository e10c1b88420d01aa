//! [`Handle`]: a session, from anywhere.

use std::any::{Any, TypeId};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Instant;

use event_listener::{Event, EventListener};
#[cfg(feature = "websocket")]
use getty_core::websocket::Verdict;
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
    /// [`SendError::Closed`] if the session is over, or a handle has asked to close it. Both give the item back.
    pub fn try_send(&self, item: T) -> Result<(), SendError<T>> {
        self.shared.post(Entry::new(item))
    }

    /// The same for a session of a datagram socket that is not connected: the item is for `peer`.
    ///
    /// # Errors
    /// As for [`try_send`](Self::try_send). That the session has one peer only is told to
    /// [`Listener::on_send_error`](crate::Listener::on_send_error).
    pub fn try_send_to(&self, peer: SocketAddr, item: T) -> Result<(), SendError<T>> {
        self.shared.post(Entry { to: Some(peer), ..Entry::new(item) })
    }

    /// Posts an item, and waits for room if there is none.
    ///
    /// # Errors
    /// [`SendError::Closed`] if the session is over, with the item.
    ///
    /// # Cancel safety
    /// An item whose future is dropped before it is ready was not posted, and is dropped with it.
    pub async fn send(&self, item: T) -> Result<(), SendError<T>> {
        self.post_when_there_is_room(Entry::new(item)).await
    }

    /// The same for a session of a datagram socket that is not connected: the item is for `peer`.
    ///
    /// # Errors
    /// [`SendError::Closed`] if the session is over, with the item.
    ///
    /// # Cancel safety
    /// As for [`send`](Self::send).
    pub async fn send_to(&self, peer: SocketAddr, item: T) -> Result<(), SendError<T>> {
        self.post_when_there_is_room(Entry { to: Some(peer), ..Entry::new(item) }).await
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
        self.post_when_there_is_room(Entry { ticket: Some(ticket.clone()), ..Entry::new(item) })
            .await
            .map_err(NotFlushed::NotSent)?;
        match poll_fn(|cx| ticket.poll(cx)).await {
            Fate::Flushed(seq) => Ok(seq),
            Fate::Partly(seq) => Err(NotFlushed::Partly(seq)),
            Fate::Unknown(seq) => Err(NotFlushed::Unknown(seq)),
            Fate::Unwritten(seq) => Err(NotFlushed::Unwritten(seq)),
            Fate::NotTaken => Err(NotFlushed::Dropped),
            Fate::Unsent(seq, kind) => Err(NotFlushed::Unsent(seq, kind)),
        }
    }

    async fn post_when_there_is_room(&self, entry: Entry<T>) -> Result<(), SendError<T>> {
        let Entry { mut item, to, ticket, pooled } = entry;
        let mut listener = None;
        loop {
            match self.shared.post(Entry { item, to, ticket: ticket.clone(), pooled }) {
                Err(SendError::Blocked(back)) => item = back,
                result => return result,
            }
            match listener.take() {
                // There may have been room before this one listened: once more.
                None => listener = Some(self.shared.room.listen()),
                Some(heard) => heard.await,
            }
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
        self.shared.room.notify(usize::MAX); // who waits for room learns that there will be none
    }

    /// Answers a WebSocket client that asked to be let in, after the listener said [`Verdict::Later`]. The first answer
    /// counts; when nothing waits for one any more, nothing happens.
    #[cfg(feature = "websocket")]
    pub fn answer(&self, verdict: Verdict) {
        self.shared.command(|state| {
            state.verdict.get_or_insert_with(|| Box::new(verdict));
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

    /// Ends what the queue of a receiver holds up.
    pub(crate) fn release(&self) {
        self.shared.command(|state| state.release = true);
    }

    /// Waits until the session is over and says why.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn closed(&self) -> CloseReason {
        loop {
            let listener = self.shared.over.listen();
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
    /// over. What was posted to a [`Pool`](crate::Pool) is none of these: the pool gives it to another session.
    pub fn take_unsent(&self) -> Vec<T> {
        let mut state = self.shared.lock();
        if state.closed.is_none() {
            return Vec::new();
        }
        let mut items = std::mem::take(&mut state.items);
        if items.iter().any(|entry| entry.pooled) {
            (state.items, items) = items.into_iter().partition(|entry| entry.pooled);
        }
        items.into_iter().map(|entry| entry.item).collect()
    }

    /// Posts an item of a pool: it is not with [`take_unsent`](Self::take_unsent), but with
    /// [`take_pooled`](Self::take_pooled).
    pub(crate) fn post_pooled(&self, item: T) -> Result<(), SendError<T>> {
        self.shared.post(Entry { pooled: true, ..Entry::new(item) })
    }

    /// Takes the items of a pool that never reached the session, which is over.
    pub(crate) fn take_pooled(&self) -> Vec<T> {
        let mut state = self.shared.lock();
        if state.closed.is_none() {
            return Vec::new();
        }
        let (pooled, others) =
            std::mem::take(&mut state.items).into_iter().partition(|entry: &Entry<T>| entry.pooled);
        state.items = others;
        drop(state);
        let pooled: VecDeque<Entry<T>> = pooled;
        pooled.into_iter().map(|entry| entry.item).collect()
    }

    /// How much waits to be sent: bytes that the peer has not taken, and an item that is not encoded yet as one. `None` if
    /// nothing more can be posted.
    pub(crate) fn load(&self) -> Option<usize> {
        let state = self.shared.lock();
        let takes = !state.closing && state.closed.is_none();
        takes.then(|| state.stats.queued + state.items.len())
    }

    /// Hears of room, or that there will be none.
    pub(crate) fn listen_for_room(&self) -> EventListener {
        self.shared.room.listen()
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

    /// The attribute of type `A`, if one was set. Attributes are gone when the session is over.
    pub fn attribute<A: Any + Send + Sync>(&self) -> Option<Arc<A>> {
        self.shared.attribute()
    }

    /// Keeps `value` with the session, under its type; gives what was there before.
    pub fn set_attribute<A: Any + Send + Sync>(&self, value: A) -> Option<Arc<A>> {
        self.shared.set_attribute(value)
    }

    /// Takes the attribute of type `A` away.
    pub fn remove_attribute<A: Any + Send + Sync>(&self) -> Option<Arc<A>> {
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
    /// The socket could not send its datagram. The session goes on.
    #[error("not sent: the socket did not take the datagram of message {0}: {1}")]
    Unsent(Seq, io::ErrorKind),
    /// A layer (TLS) had sealed it together with others, and the transport took a part of that: whether the peer can make it
    /// out is not known.
    #[error(
        "not known whether it was sent: the session ended while message {0} was written, sealed with others"
    )]
    Unknown(Seq),
}

impl<T> fmt::Debug for NotFlushed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotFlushed::NotSent(error) => f.debug_tuple("NotSent").field(error).finish(),
            NotFlushed::Dropped => f.write_str("Dropped"),
            NotFlushed::Unwritten(seq) => f.debug_tuple("Unwritten").field(seq).finish(),
            NotFlushed::Partly(seq) => f.debug_tuple("Partly").field(seq).finish(),
            NotFlushed::Unsent(seq, kind) => f.debug_tuple("Unsent").field(seq).field(kind).finish(),
            NotFlushed::Unknown(seq) => f.debug_tuple("Unknown").field(seq).finish(),
        }
    }
}

/// What becomes of an item whose sender waits for it.
#[derive(Debug, Default)]
pub(crate) struct Ticket(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    fate: Option<Fate>,
    waker: Option<Waker>,
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Flushed(Seq),
    Partly(Seq),
    Unknown(Seq),
    Unwritten(Seq),
    NotTaken,
    Unsent(Seq, io::ErrorKind),
}

impl Ticket {
    fn poll(&self, cx: &mut TaskContext<'_>) -> Poll<Fate> {
        let mut waiting = self.lock();
        match waiting.fate {
            Some(fate) => Poll::Ready(fate),
            None => {
                waiting.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn settle(&self, fate: Fate) {
        let mut waiting = self.lock();
        waiting.fate = Some(fate);
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
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
    /// The session is over.
    over: Event,
}

struct State<T> {
    items: VecDeque<Entry<T>>,
    waker: Option<Waker>,
    stats: Box<Stats>,
    above_high: bool,
    pause: Option<bool>,
    /// A receiver's queue has room again.
    release: bool,
    close: Option<Box<Close>>,
    #[cfg(feature = "websocket")]
    verdict: Option<Box<Verdict>>,
    /// A handle has asked to close, or the session is closing already.
    closing: bool,
    closed: Option<Box<CloseReason>>,
    tickets: VecDeque<(Seq, Arc<Ticket>)>,
    extras: Option<Box<Extras>>,
}

/// A posted item.
pub(crate) struct Entry<T> {
    pub(crate) item: T,
    /// Whom it is for, over a datagram socket that is not connected.
    pub(crate) to: Option<SocketAddr>,
    /// What its sender waits for.
    pub(crate) ticket: Option<Arc<Ticket>>,
    /// It was posted to a pool, which gives it to another session if this one does not take it.
    pub(crate) pooled: bool,
}

impl<T> Entry<T> {
    fn new(item: T) -> Self {
        Entry { item, to: None, ticket: None, pooled: false }
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
    pub(crate) release: bool,
    pub(crate) close: Option<Box<Close>>,
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
                pause: None,
                release: false,
                close: None,
                #[cfg(feature = "websocket")]
                verdict: None,
                closing: false,
                closed: None,
                tickets: VecDeque::new(),
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

    fn is_over(&self) -> bool {
        self.lock().closed.is_some()
    }

    fn post(&self, entry: Entry<T>) -> Result<(), SendError<T>> {
        let mut state = self.lock();
        if state.closing || state.closed.is_some() {
            return Err(SendError::Closed(entry.item));
        }
        if state.above_high || state.items.len() >= self.queue_limit {
            return Err(SendError::Blocked(entry.item));
        }
        state.items.push_back(entry);
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
        Asked {
            pause: state.pause.take(),
            release: std::mem::take(&mut state.release),
            close: state.close.take(),
            #[cfg(feature = "websocket")]
            verdict: state.verdict.take(),
        }
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
        self.lock().items.push_front(entry);
    }

    /// For the driver: the session has taken the item of `ticket`.
    pub(crate) fn accepted(&self, ticket: Arc<Ticket>, seq: Seq) {
        self.lock().tickets.push_back((seq, ticket));
    }

    /// For the driver: the socket could not send the datagram of message `seq`.
    pub(crate) fn unsent(&self, seq: Seq, kind: io::ErrorKind) {
        let mut state = self.lock();
        let place = state.tickets.binary_search_by_key(&seq, |(seq, _)| *seq);
        let ticket = place.ok().and_then(|place| state.tickets.remove(place));
        drop(state);
        if let Some((seq, ticket)) = ticket {
            ticket.settle(Fate::Unsent(seq, kind));
        }
    }

    /// For the driver: the session has refused the item of `ticket`.
    pub(crate) fn refused(ticket: &Ticket) {
        ticket.settle(Fate::NotTaken);
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
        let flushed = state.tickets.partition_point(|(seq, _)| Some(*seq) <= stats.progress.flushed);
        let flushed: Vec<_> = state.tickets.drain(..flushed).collect();
        let room = match (open, writable) {
            (false, _) => usize::MAX, // nobody has to wait any more
            (true, true) => self.queue_limit.saturating_sub(state.items.len()),
            (true, false) => 0,
        };
        drop(state);
        for (seq, ticket) in flushed {
            ticket.settle(Fate::Flushed(seq));
        }
        self.room.notify_additional(room);
        !self.was_posted()
    }

    /// For the driver: the session is over.
    pub(crate) fn end(&self, reason: Box<CloseReason>, last_active: Timestamp, stats: Stats) {
        self.last_active.store(last_active.as_nanos(), Ordering::Relaxed);
        let mut state = self.lock();
        *state.stats = stats;
        state.closed = Some(reason);
        let waker = state.waker.take();
        let tickets = std::mem::take(&mut state.tickets);
        let not_taken: Vec<_> = state.items.iter_mut().filter_map(|entry| entry.ticket.take()).collect();
        let close = state.close.take();
        // An attribute may hold a handle of this very session, which would keep both for ever.
        let attributes = state.extras.as_mut().map(|extras| std::mem::take(&mut extras.attributes));
        drop(state);
        drop((waker, close, attributes));
        let progress = stats.progress;
        let next = progress.flushed.map_or(Seq::FIRST, Seq::next);
        for (seq, ticket) in tickets {
            ticket.settle(match seq {
                _ if Some(seq) <= progress.flushed => Fate::Flushed(seq),
                _ if Some(seq) <= progress.unknown => Fate::Unknown(seq),
                _ if seq == next && progress.partly_written => Fate::Partly(seq),
                _ => Fate::Unwritten(seq),
            });
        }
        not_taken.iter().for_each(|ticket| ticket.settle(Fate::NotTaken));
        self.room.notify(usize::MAX);
        self.over.notify(usize::MAX);
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
