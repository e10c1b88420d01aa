//! [`Mailbox`]: where callers, handlers and the task of an RPC session meet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use getty_core::rpc::{Body, CallId, Config, Executed, Metadata, MetadataError, Reply, Request, Status};
use slab::Slab;

use crate::rpc::entry::{Entries, Entry, ITEM_COST, Item, Key, MAX_ITEMS, gone, set, size};
use crate::rpc::load::Load;

/// What callers and handlers want of the machine, and what it has for them. The methods of the task are
/// beside its [`Desk`](super::desk::Desk).
///
/// One lock for all of it, held for a few instructions at a time; no user code runs under it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    /// Something was posted since the task last looked.
    pub(super) posted: AtomicBool,
    /// Handlers have set metadata for their answers.
    pub(super) has_metadata: AtomicBool,
    /// [`State::opened`] is not empty.
    pub(super) has_opened: AtomicBool,
    /// Has the limits of calls that the task has not taken.
    config: Arc<Config>,
    pub(super) load: Load,
    pub(super) state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Made with the first post, and given up when there has been no call for a while.
    posts: Option<Box<Posts>>,
    /// The generation of the entry made last.
    generation: u32,
    /// The task to wake for them.
    pub(super) task: Option<Waker>,
    /// The connection has ended.
    pub(super) end: Option<Box<Status>>,
    /// Waits for the end.
    pub(super) at_end: Option<Box<Slab<Waker>>>,
    /// Callers that may still call.
    pub(super) callers: usize,
}

/// What was posted.
#[derive(Debug, Default)]
pub(super) struct Posts {
    pub(super) entries: Entries,
    /// Entries that want something of the machine, each once. One may be gone since.
    pub(super) dirty: Vec<u32>,
    /// Streams of calls of the peer that the desk does not know yet.
    pub(super) opened: Vec<(CallId, Key)>,
    /// Calls that the task has not taken, and their bytes.
    pub(super) waiting: usize,
    pub(super) waiting_bytes: usize,
    /// Metadata for answers to calls of the peer. Few have any.
    pub(super) reply_metadata: Vec<(CallId, Metadata)>,
}

impl State {
    pub(super) fn posts(&mut self) -> &mut Posts {
        self.posts.get_or_insert_default()
    }

    /// Makes an entry.
    pub(super) fn insert(&mut self) -> (Key, &mut Entry) {
        self.generation = self.generation.wrapping_add(1).max(1);
        self.posts.get_or_insert_default().entries.insert(self.generation)
    }

    pub(super) fn get(&mut self, key: Key) -> Option<&mut Entry> {
        self.posts.as_mut()?.entries.get(key)
    }

    /// Removes an entry. The wakers that it had are to be dropped without the lock.
    #[must_use = "wakers are dropped without the lock"]
    pub(super) fn remove(&mut self, key: Key) -> [Option<Waker>; 2] {
        self.posts().entries.remove(key)
    }

    /// Gives up the memory of posts, unless there are any.
    pub(super) fn trim(&mut self) {
        if self.posts.as_ref().is_some_and(|posts| posts.entries.is_empty()) {
            self.posts = None;
        }
    }
}

/// A call that was not posted.
#[derive(Debug)]
pub(super) struct Unposted {
    pub(super) request: Request,
    pub(super) status: Status,
}

impl Mailbox {
    pub(crate) fn new(config: &Arc<Config>) -> Arc<Self> {
        Arc::new(Mailbox {
            posted: AtomicBool::new(false),
            has_metadata: AtomicBool::new(false),
            has_opened: AtomicBool::new(false),
            config: config.clone(),
            load: Load::default(),
            state: Mutex::default(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Posts a call. Its time begins now. Before the session is open nobody takes calls: as many may wait as
    /// in an open session. With `keeps` the request can be [taken back](Self::take_back) if it is refused.
    pub(super) fn call(&self, request: Request, keeps: bool) -> Result<Key, Box<Unposted>> {
        let posted = request.timeout.map(|_| Instant::now());
        let mut state = self.lock();
        if let Some(status) = self.refusal(&mut state) {
            drop(state);
            return Err(Box::new(Unposted { request, status }));
        }
        let posts = state.posts();
        posts.waiting += 1;
        posts.waiting_bytes += size(&request);
        self.load.set_waiting(posts.waiting);
        let (key, entry) = state.insert();
        entry.request = Some((request, posted));
        (entry.is_new, entry.keeps) = (true, keeps);
        self.wake_task(state, key);
        Ok(key)
    }

    fn refusal(&self, state: &mut State) -> Option<Status> {
        let (max, max_bytes) = (self.config.max_waiting(), self.config.max_waiting_bytes());
        let status = if let Some(end) = &state.end {
            Status::clone(end)
        } else if state.posts().waiting >= max || state.posts().waiting_bytes > max_bytes {
            Status::resource_exhausted("too many calls wait for the session (rpc::Config::max_waiting)")
        } else {
            return None;
        };
        Some(status.with_executed(Executed::No))
    }

    /// Takes the request of a call back that kept it and was refused, with the time that is left of it.
    pub(super) fn take_back(&self, key: Key) -> Option<Request> {
        let mut state = self.lock();
        let entry = state.get(key)?;
        entry.refusal()?;
        let (request, posted) = entry.request.take()?;
        let wakers = state.remove(key);
        drop(state);
        drop(wakers);
        let passed = posted.map(|posted| posted.elapsed()).unwrap_or_default();
        let timeout = request.timeout.map(|timeout| timeout.saturating_sub(passed));
        Some(Request { timeout, ..request })
    }

    /// Posts the streams of a call of the peer.
    pub(crate) fn answer_stream(&self, id: CallId) -> Key {
        let mut state = self.lock();
        let is_over = state.end.is_some();
        let (key, entry) = state.insert();
        entry.id = Some(id);
        (entry.is_theirs, entry.is_over, entry.has_ended) = (true, is_over, true);
        state.posts().opened.push((id, key));
        self.has_opened.store(true, Ordering::Release);
        self.wake_task(state, key);
        key
    }

    /// The answer to a call of this side. Frees the entry with it, unless the request may be taken back.
    pub(crate) fn poll_result(&self, key: Key, cx: &mut Context<'_>) -> Poll<Result<Reply, Status>> {
        let mut state = self.lock();
        let Some(entry) = state.get(key) else { return Poll::Ready(Err(gone())) };
        if let Some(status) = entry.refusal() {
            return Poll::Ready(Err(status.clone()));
        }
        match entry.result.take() {
            Some(result) => {
                let wakers = state.remove(key);
                drop(state);
                drop(wakers);
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
        if let Some(item) = entry.streams.as_mut().and_then(|streams| streams.received.pop_front()) {
            if std::mem::take(&mut entry.keeps) {
                entry.request = None;
            }
            entry.streams().consumed += item.bytes.len() + ITEM_COST;
            self.wake_task(state, key);
            return Poll::Ready(Item::Body(item));
        }
        if let Some(status) = entry.refusal() {
            return Poll::Ready(Item::Over(Err(status.clone())));
        }
        if let Some(result) = entry.result.take() {
            if !entry.is_theirs {
                let wakers = state.remove(key);
                drop(state);
                drop(wakers);
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
        let streams = entry.streams();
        if streams.items_cost >= MAX_ITEMS {
            let before = set(&mut streams.writer, cx);
            drop(state);
            drop(before);
            return Poll::Pending;
        }
        if let Some(item) = item.take() {
            streams.items_cost += item.bytes.len() + ITEM_COST;
            streams.items.push_back(item);
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
        if !entry.is_theirs && (entry.result.is_some() || entry.is_new) {
            // It is over, or the machine has not seen it.
            let request = entry.request.take().filter(|_| entry.is_new);
            let is_dirty = entry.is_dirty;
            let [reader, writer] = state.remove(key);
            if let Some((request, _)) = &request {
                let posts = state.posts();
                posts.waiting -= 1;
                posts.waiting_bytes -= size(request);
                self.load.set_waiting(posts.waiting);
            }
            if is_dirty && state.posts().dirty.last() == Some(&key.index) {
                state.posts().dirty.pop();
            }
            drop(state);
            drop((request, reader));
            writer.into_iter().for_each(Waker::wake);
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
        let all = &mut state.posts().reply_metadata;
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
        let all = &mut state.posts().reply_metadata;
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
            return Poll::Ready(Status::clone(end));
        }
        let waker = cx.waker().clone();
        let before = match *place {
            Some(place) => {
                let known = state.at_end.as_mut().and_then(|at_end| at_end.get_mut(place));
                known.map(|known| std::mem::replace(known, waker))
            }
            None => {
                *place = Some(state.at_end.get_or_insert_default().insert(waker));
                None
            }
        };
        drop(state);
        drop(before);
        Poll::Pending
    }

    /// Waits no longer.
    pub(crate) fn leave_end(&self, place: usize) {
        let mut state = self.lock();
        let waker = state.at_end.as_mut().and_then(|at_end| at_end.try_remove(place));
        if state.at_end.as_ref().is_some_and(|at_end| at_end.is_empty()) {
            state.at_end = None;
        }
        drop(state);
        drop(waker);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.lock().end.is_some()
    }

    /// Marks an entry and wakes the task, unless it has been woken already.
    fn wake_task(&self, mut state: MutexGuard<'_, State>, key: Key) {
        if let Some(entry) = state.get(key) {
            if !std::mem::replace(&mut entry.is_dirty, true) {
                state.posts().dirty.push(key.index);
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
}
