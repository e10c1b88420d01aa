//! [`Mailbox`]: where callers, handlers and the task of an RPC session meet.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use getty_core::Timestamp;
use getty_core::rpc::{
    Body, CallId, Code, Executed, ItemError, Metadata, MetadataError, Peer, Reply, Request, Status,
};
use slab::Slab;

/// Bytes of items that a stream holds before the machine takes them.
const MAX_ITEMS: usize = 64 * 1024;

/// The cost of an item beyond its bytes.
const ITEM_COST: usize = 32;

/// What callers and handlers want of the machine, and what it has for them. One lock for all of it, held for
/// a few instructions at a time; no user code runs under it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    /// Something was posted since the task last looked.
    posted: AtomicBool,
    /// Handlers have set metadata for their answers.
    has_metadata: AtomicBool,
    /// [`State::opened`] is not empty.
    has_opened: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: Slab<Entry>,
    generation: u32,
    /// Entries that want something of the machine, each once. One may be gone since.
    dirty: Vec<u32>,
    /// Streams of calls of the peer that the desk does not know yet.
    opened: Vec<(CallId, Key)>,
    /// The task to wake for them.
    task: Option<Waker>,
    /// The connection has ended.
    end: Option<Status>,
    /// Waits for the end.
    at_end: Slab<Waker>,
    /// Callers that may still call.
    callers: usize,
    /// Metadata for answers to calls of the peer. Few have any.
    reply_metadata: Vec<(CallId, Metadata)>,
}

/// The name of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

/// A call of this side, or the streams of a call of the peer.
#[derive(Debug, Default)]
struct Entry {
    generation: u32,
    /// A call of the peer: its handler owns this entry. One of this side is its reader's.
    is_theirs: bool,
    /// The call in the machine.
    id: Option<CallId>,
    is_dirty: bool,
    /// To call, and when it was posted if its time is limited.
    request: Option<(Request, Option<Instant>)>,
    /// To give up: nobody waits any longer.
    dropped: bool,
    /// Items to send.
    items: VecDeque<Body>,
    /// Their cost.
    items_cost: usize,
    /// The machine had no credit for the first item.
    is_blocked: bool,
    /// The stream of this side is to end after its items.
    finish: bool,
    /// Nothing more can be sent.
    is_over: bool,
    /// Cost of items that were taken, to be granted again.
    consumed: usize,
    received: VecDeque<Body>,
    /// The stream of the other side has ended.
    has_ended: bool,
    result: Option<Result<Reply, Status>>,
    /// The answer to a call of the peer, which waits for its items.
    answer: Option<Result<Reply, Status>>,
    /// The failure of a call of the peer that replaces its answer: an item could not be sent.
    failure: Option<Status>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What [`Mailbox::poll_item`] has.
pub(crate) enum Item {
    Body(Body),
    /// The stream of the other side has ended; its call goes on.
    End,
    /// The call is over.
    Over(Result<Reply, Status>),
}

impl Mailbox {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Mailbox {
            posted: AtomicBool::new(false),
            has_metadata: AtomicBool::new(false),
            has_opened: AtomicBool::new(false),
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // For callers and handlers.

    /// Posts a call. Its time begins now.
    pub(crate) fn call(&self, request: Request) -> Result<Key, Status> {
        let posted = request.timeout.map(|_| Instant::now());
        let mut state = self.lock();
        if let Some(end) = &state.end {
            return Err(end.clone().with_executed(Executed::No));
        }
        let key = state.insert(Entry { request: Some((request, posted)), ..Entry::default() });
        self.wake_task(state, key);
        Ok(key)
    }

    /// Posts the streams of a call of the peer.
    pub(crate) fn answer_stream(&self, id: CallId) -> Key {
        let mut state = self.lock();
        let is_over = state.end.is_some();
        let key = state.insert(Entry {
            is_theirs: true,
            id: Some(id),
            is_over,
            has_ended: true,
            ..Entry::default()
        });
        state.opened.push((id, key));
        self.has_opened.store(true, Ordering::Release);
        self.wake_task(state, key);
        key
    }

    /// The answer to a call of this side. Frees the entry with it.
    pub(crate) fn poll_result(&self, key: Key, cx: &mut Context<'_>) -> Poll<Result<Reply, Status>> {
        let mut state = self.lock();
        let Some(entry) = state.get(key) else { return Poll::Ready(Err(gone())) };
        match entry.result.take() {
            Some(result) => {
                state.entries.remove(key.index as usize);
                Poll::Ready(result)
            }
            None => {
                // Items that nobody reads would use up the credit.
                let has_consumed = entry.consume_received();
                let before = set(&mut entry.reader, cx);
                if has_consumed {
                    self.wake_task(state, key);
                } else {
                    drop(state);
                }
                drop(before);
                Poll::Pending
            }
        }
    }

    /// The next item of the other side.
    pub(crate) fn poll_item(&self, key: Key, cx: &mut Context<'_>) -> Poll<Item> {
        let mut state = self.lock();
        let Some(entry) = state.get(key) else { return Poll::Ready(Item::Over(Err(gone()))) };
        if let Some(item) = entry.received.pop_front() {
            entry.consumed += item.bytes.len() + ITEM_COST;
            self.wake_task(state, key);
            return Poll::Ready(Item::Body(item));
        }
        if let Some(result) = entry.result.take() {
            if !entry.is_theirs {
                state.entries.remove(key.index as usize);
            }
            return Poll::Ready(Item::Over(result));
        }
        if entry.is_over && entry.is_theirs {
            return Poll::Ready(Item::Over(Err(gone())));
        }
        if entry.has_ended {
            return Poll::Ready(Item::End);
        }
        let before = set(&mut entry.reader, cx);
        drop(state);
        drop(before);
        Poll::Pending
    }

    /// Sends an item once there is room for it. `Err`: the call is over.
    pub(crate) fn poll_send(
        &self,
        key: Key,
        item: &mut Option<Body>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ()>> {
        let mut state = self.lock();
        let Some(entry) = state.get(key).filter(|entry| !entry.is_over && !entry.finish) else {
            return Poll::Ready(Err(()));
        };
        if entry.items_cost >= MAX_ITEMS {
            let before = set(&mut entry.writer, cx);
            drop(state);
            drop(before);
            return Poll::Pending;
        }
        if let Some(item) = item.take() {
            entry.items_cost += item.bytes.len() + ITEM_COST;
            entry.items.push_back(item);
        }
        self.wake_task(state, key);
        Poll::Ready(Ok(()))
    }

    /// Ends the stream of this side.
    pub(crate) fn finish(&self, key: Key) {
        let mut state = self.lock();
        if let Some(entry) = state.get(key) {
            entry.finish = true;
            self.wake_task(state, key);
        }
    }

    /// Gives a call of this side up, or does not want the items of a call of the peer any longer.
    pub(crate) fn drop_call(&self, key: Key) {
        let mut state = self.lock();
        let Some(entry) = state.get(key) else { return };
        if !entry.is_theirs && (entry.result.is_some() || entry.request.is_some()) {
            // It is over, or the machine has not seen it.
            let entry = state.entries.remove(key.index as usize);
            if entry.is_dirty && state.dirty.last() == Some(&key.index) {
                state.dirty.pop();
            }
            drop(state);
            entry.writer.into_iter().for_each(Waker::wake);
        } else {
            entry.dropped = true;
            if entry.is_theirs {
                entry.consume_received();
            }
            self.wake_task(state, key);
        }
    }

    /// Adds metadata to the answer to a call of the peer.
    pub(crate) fn add_reply_metadata(
        &self,
        id: CallId,
        key: &str,
        value: &[u8],
    ) -> Result<(), MetadataError> {
        let mut state = self.lock();
        let all = &mut state.reply_metadata;
        let place = all.iter().position(|(known, _)| *known == id).unwrap_or_else(|| {
            all.push((id, Metadata::new()));
            all.len() - 1
        });
        let inserted = all[place].1.insert(key, value);
        self.has_metadata.store(true, Ordering::Release);
        inserted
    }

    /// Adds to an answer the metadata that its handler has set.
    pub(crate) fn with_reply_metadata(
        &self,
        id: CallId,
        answer: Result<Reply, Status>,
    ) -> Result<Reply, Status> {
        if !self.has_metadata.load(Ordering::Acquire) {
            return answer;
        }
        let mut state = self.lock();
        let all = &mut state.reply_metadata;
        let Some(place) = all.iter().position(|(known, _)| *known == id) else { return answer };
        let (_, metadata) = all.swap_remove(place);
        self.has_metadata.store(!all.is_empty(), Ordering::Release);
        drop(state);
        match answer {
            Ok(reply) => Ok(Reply { metadata, ..reply }),
            Err(status) if status.metadata().is_none() => Err(status.with_metadata(metadata)),
            answer => answer,
        }
    }

    pub(crate) fn add_caller(&self) {
        self.lock().callers += 1;
    }

    /// One caller less. The task learns of the last one.
    pub(crate) fn remove_caller(&self) {
        let mut state = self.lock();
        state.callers -= 1;
        if state.callers == 0 {
            self.wake(state);
        }
    }

    /// Waits for the end of the connection, at a place that is made with the first use.
    pub(crate) fn poll_end(&self, place: &mut Option<usize>, cx: &mut Context<'_>) -> Poll<Status> {
        let mut state = self.lock();
        if let Some(end) = &state.end {
            return Poll::Ready(end.clone());
        }
        let waker = cx.waker().clone();
        let before = match *place {
            Some(place) => state.at_end.get_mut(place).map(|known| std::mem::replace(known, waker)),
            None => {
                *place = Some(state.at_end.insert(waker));
                None
            }
        };
        drop(state);
        drop(before);
        Poll::Pending
    }

    /// Waits no longer.
    pub(crate) fn leave_end(&self, place: usize) {
        let waker = self.lock().at_end.try_remove(place);
        drop(waker);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.lock().end.is_some()
    }

    /// Marks an entry and wakes the task, unless it has been woken already.
    fn wake_task(&self, mut state: MutexGuard<'_, State>, key: Key) {
        if let Some(entry) = state.entries.get_mut(key.index as usize) {
            if !std::mem::replace(&mut entry.is_dirty, true) {
                state.dirty.push(key.index);
            }
        }
        self.wake(state);
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        if !self.posted.swap(true, Ordering::AcqRel) {
            let task = state.task.take();
            drop(state);
            if let Some(task) = task {
                task.wake();
            }
        }
    }

    // For the task.

    /// Whether anything was posted.
    pub(crate) fn was_posted(&self) -> bool {
        self.posted.load(Ordering::Acquire)
    }

    /// Gives the machine what was posted since the last time, and returns the number of callers. `task` is
    /// woken for what is posted after.
    pub(crate) fn take_posted(
        &self,
        desk: &mut Desk,
        peer: &mut Peer,
        now: Timestamp,
        task: &Waker,
    ) -> usize {
        let mut state = self.lock();
        self.posted.store(false, Ordering::Release);
        self.enter_opened(&mut state, desk);
        if state.task.as_ref().is_none_or(|known| !known.will_wake(task)) {
            state.task = Some(task.clone());
        }
        std::mem::swap(&mut state.dirty, &mut desk.dirty);
        let dirty = std::mem::take(&mut desk.dirty);
        for &index in &dirty {
            state.serve(index, desk, peer, now);
        }
        desk.dirty = dirty;
        desk.dirty.clear();
        let callers = state.callers;
        drop(state);
        desk.wake();
        callers
    }

    /// Sets the task to wake for what is posted.
    pub(crate) fn set_task(&self, task: &Waker) {
        let before = self.lock().task.replace(task.clone());
        drop(before);
    }

    /// Lets posts wake nobody until [`take_posted`](Self::take_posted): the task is at work.
    pub(crate) fn hold(&self) {
        self.posted.store(true, Ordering::Release);
    }

    fn enter_opened(&self, state: &mut State, desk: &mut Desk) {
        self.has_opened.store(false, Ordering::Release);
        while let Some((id, key)) = state.opened.pop() {
            if state.get(key).is_some() {
                desk.enter(id, key);
            }
        }
    }

    /// The entry of a call of the peer, also if its handler has made it just now.
    fn find(&self, desk: &mut Desk, id: CallId) -> Option<Key> {
        if self.has_opened.load(Ordering::Acquire) {
            self.enter_opened(&mut self.lock(), desk);
        }
        desk.find(id)
    }

    /// Gives up memory. Only without calls.
    pub(crate) fn trim(&self) {
        let mut state = self.lock();
        state.reply_metadata = Vec::new();
        if state.entries.is_empty() {
            state.entries = Slab::new();
            state.dirty = Vec::new();
            state.opened = Vec::new();
        }
    }

    /// Makes the entry of a call of the peer that sends a stream.
    pub(crate) fn open_stream(&self, id: CallId, desk: &mut Desk) -> Key {
        let mut state = self.lock();
        let key = state.insert(Entry { is_theirs: true, id: Some(id), ..Entry::default() });
        desk.enter(id, key);
        key
    }

    /// Hands over what the machine reports about calls that have an entry.
    pub(crate) fn deliver(&self, desk: &mut Desk, peer: &mut Peer, news: &mut Vec<(CallId, News)>) {
        let mut state = self.lock();
        for (id, news) in news.drain(..) {
            let Some(key) = desk.find(id) else { continue };
            let Some(entry) = state.get(key) else { continue };
            match news {
                News::Item(item) => {
                    if entry.dropped {
                        peer.consumed(id, item.bytes.len());
                    } else {
                        entry.received.push_back(item);
                    }
                    desk.wakers.extend(entry.reader.take());
                }
                News::End => {
                    entry.has_ended = true;
                    desk.wakers.extend(entry.reader.take());
                }
                News::Room => {
                    entry.is_blocked = false;
                    state.serve(key.index, desk, peer, desk.now);
                }
                News::Ended(result) => {
                    entry.end(result);
                    entry.wake(desk);
                    desk.leave(id);
                    if entry.dropped {
                        state.entries.remove(key.index as usize);
                    }
                }
            }
        }
        drop(state);
        desk.wake();
    }

    /// Answers a call of the peer once its items are with the machine.
    pub(crate) fn respond(
        &self,
        desk: &mut Desk,
        peer: &mut Peer,
        id: CallId,
        answer: Result<Reply, Status>,
    ) {
        let Some(key) = self.find(desk, id) else { return peer.respond(id, answer) };
        let mut state = self.lock();
        match state.get(key) {
            Some(entry) => {
                entry.answer = Some(answer);
                entry.finish = true;
                state.serve(key.index, desk, peer, desk.now);
            }
            None => peer.respond(id, answer),
        }
        drop(state);
        desk.wake();
    }

    /// The call of the peer is over: nothing can be sent or received any longer.
    pub(crate) fn cancel(&self, desk: &mut Desk, id: CallId, why: Status) {
        let Some(key) = self.find(desk, id) else { return };
        let mut state = self.lock();
        if let Some(entry) = state.get(key) {
            entry.end(Err(why));
            entry.wake(desk);
        }
        drop(state);
        desk.wake();
    }

    /// The handler of a call of the peer has ended without an answer.
    pub(crate) fn release(&self, desk: &mut Desk, id: CallId) {
        let key = self.find(desk, id);
        desk.leave(id);
        if key.is_none() && !self.has_metadata.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.lock();
        state.reply_metadata.retain(|(known, _)| *known != id);
        if let Some(key) = key.filter(|key| state.get(*key).is_some()) {
            state.entries.remove(key.index as usize);
        }
    }

    /// Ends everything: the connection is over.
    pub(crate) fn end(&self, desk: &mut Desk, why: Status) {
        let mut state = self.lock();
        state.task = None;
        let State { entries, at_end, .. } = &mut *state;
        entries.retain(|_, entry| {
            if entry.result.is_none() {
                // What the machine knows better was delivered before.
                let executed = if entry.request.take().is_some() { Executed::No } else { Executed::Maybe };
                entry.end(Err(why.clone().with_executed(executed)));
            }
            entry.wake(desk);
            !entry.dropped && !entry.is_theirs
        });
        desk.wakers.extend(at_end.drain());
        state.end = Some(why);
        drop(state);
        desk.wake();
    }
}

impl State {
    fn insert(&mut self, mut entry: Entry) -> Key {
        self.generation = self.generation.wrapping_add(1);
        entry.generation = self.generation;
        Key { index: self.entries.insert(entry) as u32, generation: self.generation }
    }

    fn get(&mut self, key: Key) -> Option<&mut Entry> {
        self.entries.get_mut(key.index as usize).filter(|entry| entry.generation == key.generation)
    }

    /// Does for an entry what it wants of the machine.
    fn serve(&mut self, index: u32, desk: &mut Desk, peer: &mut Peer, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(index as usize) else { return };
        entry.is_dirty = false;
        let key = Key { index, generation: entry.generation };
        if entry.dropped && !entry.is_theirs {
            if let Some(id) = entry.id {
                peer.cancel(now, id);
                desk.leave(id);
            }
            entry.wake(desk);
            self.entries.remove(index as usize);
            return;
        }
        if let Some((request, posted)) = entry.request.take() {
            // The clock of the task may be a test's; the time that has passed since is the same.
            let passed = posted.map(|posted| posted.elapsed()).unwrap_or_default();
            let deadline = request.timeout.map(|timeout| now + timeout.saturating_sub(passed));
            match peer.call(now, request, deadline) {
                Ok(id) => {
                    entry.id = Some(id);
                    desk.enter(id, key);
                }
                Err(refused) => {
                    entry.end(Err(refused.status));
                    entry.wake(desk);
                    return;
                }
            }
        }
        let Some(id) = entry.id else { return };
        let consumed = std::mem::take(&mut entry.consumed);
        if consumed > 0 {
            peer.consumed(id, consumed - ITEM_COST);
        }
        while !entry.is_blocked {
            let Some(item) = entry.items.pop_front() else { break };
            let cost = item.bytes.len() + ITEM_COST;
            match peer.send_item(id, item) {
                Ok(()) => entry.items_cost -= cost,
                Err(ItemError::Blocked(item)) => {
                    entry.items.push_front(item);
                    entry.is_blocked = true;
                }
                Err(error) => {
                    entry.items.clear();
                    entry.items_cost = 0;
                    entry.is_over = true;
                    if let ItemError::TooLarge { .. } = error {
                        let status = Status::new(Code::ResourceExhausted, error.to_string());
                        if entry.is_theirs {
                            // It goes out when the handler ends, which may hold the limits until then.
                            entry.failure = Some(status.clone());
                            entry.end(Err(status));
                        } else {
                            peer.cancel(now, id);
                            desk.leave(id);
                            entry.end(Err(status.with_executed(Executed::Maybe)));
                        }
                    }
                    entry.wake(desk);
                }
            }
        }
        if entry.items_cost < MAX_ITEMS {
            desk.wakers.extend(entry.writer.take());
        }
        if !entry.items.is_empty() {
            return;
        }
        if let Some(answer) = entry.answer.take() {
            let answer = entry.failure.take().map_or(answer, Err);
            entry.wake(desk);
            desk.leave(id);
            self.entries.remove(index as usize);
            peer.respond(id, answer);
        } else if entry.finish {
            peer.finish(id);
        }
    }
}

impl Entry {
    fn end(&mut self, result: Result<Reply, Status>) {
        self.result = Some(result);
        self.is_over = true;
        self.items.clear();
        self.items_cost = 0;
    }

    /// Wakes those who read and write its streams.
    fn wake(&mut self, desk: &mut Desk) {
        desk.wakers.extend(self.reader.take());
        desk.wakers.extend(self.writer.take());
    }

    /// Drops the items that nobody will read, so that the other side can go on. Returns whether there were
    /// any.
    fn consume_received(&mut self) -> bool {
        let cost: usize = self.received.drain(..).map(|item| item.bytes.len() + ITEM_COST).sum();
        self.consumed += cost;
        cost > 0
    }
}

/// A report of the machine about a call that has an entry.
#[derive(Debug)]
pub(crate) enum News {
    Item(Body),
    End,
    Room,
    Ended(Result<Reply, Status>),
}

/// The task's side of a mailbox.
#[derive(Debug)]
pub(crate) struct Desk {
    /// The entries of calls, by the slot of the call.
    keys: Vec<Option<(CallId, Key)>>,
    dirty: Vec<u32>,
    /// Wakers to call once the lock is released.
    wakers: Vec<Waker>,
    pub(crate) now: Timestamp,
}

impl Desk {
    pub(crate) fn new(now: Timestamp) -> Self {
        Desk { keys: Vec::new(), dirty: Vec::new(), wakers: Vec::new(), now }
    }

    fn enter(&mut self, id: CallId, key: Key) {
        let slot = id.slot();
        if self.keys.len() <= slot {
            self.keys.resize(slot + 1, None);
        }
        self.keys[slot] = Some((id, key));
    }

    fn leave(&mut self, id: CallId) {
        if self.find(id).is_some() {
            self.keys[id.slot()] = None;
        }
    }

    fn find(&self, id: CallId) -> Option<Key> {
        let (known, key) = (*self.keys.get(id.slot())?)?;
        (known == id).then_some(key)
    }

    /// Wakes those for whom there is news. Not under the lock.
    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }

    /// Gives up memory. Only without calls. Returns whether there was any.
    pub(crate) fn trim(&mut self) -> bool {
        let has_memory = self.keys.capacity() > 0 || self.dirty.capacity() > 0;
        if has_memory {
            *self = Desk::new(self.now);
        }
        has_memory
    }
}

fn gone() -> Status {
    Status::new(Code::Cancelled, "the call was given up").with_executed(Executed::Maybe)
}

/// Sets a waker and returns the one before. Drop that without the lock: it may own a task, which may own
/// callers and streams.
#[must_use]
fn set(place: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    if place.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
        return place.replace(cx.waker().clone());
    }
    None
}
