//! [`Desk`]: the task's side of a [`Mailbox`].

use std::sync::atomic::Ordering;
use std::task::Waker;

use getty_core::Timestamp;
use getty_core::rpc::{Body, CallId, Code, Executed, ItemError, Peer, Reply, Status};

use crate::rpc::entry::{ITEM_COST, Key, MAX_ITEMS, size};
use crate::rpc::mailbox::{Mailbox, Posts, State};

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
    pub(super) wakers: Vec<Waker>,
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
}

/// For the task.
impl Mailbox {
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
        let posts = state.posts();
        std::mem::swap(&mut posts.dirty, &mut desk.dirty);
        let dirty = std::mem::take(&mut desk.dirty);
        for &index in &dirty {
            posts.serve(index, desk, peer, now);
        }
        desk.dirty = dirty;
        desk.dirty.clear();
        self.load.set(peer); // before: rather count a call twice for a moment than not at all
        self.load.set_waiting(posts.waiting);
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
        while let Some((id, key)) = state.posts().opened.pop() {
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
        self.lock().trim();
    }

    /// Makes the entry of a call of the peer that sends a stream.
    pub(crate) fn open_stream(&self, id: CallId, desk: &mut Desk) -> Key {
        let mut state = self.lock();
        let (key, entry) = state.insert();
        (entry.is_theirs, entry.id) = (true, Some(id));
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
                        entry.streams().received.push_back(item);
                    }
                    desk.wakers.extend(entry.reader.take());
                }
                News::End => {
                    entry.has_ended = true;
                    desk.wakers.extend(entry.reader.take());
                }
                News::Room => {
                    entry.streams().is_blocked = false;
                    state.posts().serve(key.index, desk, peer, desk.now);
                }
                News::Ended(result) => {
                    entry.end(result);
                    entry.wake(desk);
                    desk.leave(id);
                    if entry.dropped {
                        desk.wakers.extend(state.remove(key).into_iter().flatten());
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
                entry.streams().answer = Some(answer);
                entry.finish = true;
                state.posts().serve(key.index, desk, peer, desk.now);
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
        state.posts().reply_metadata.retain(|(known, _)| *known != id);
        let wakers = key.map(|key| state.remove(key));
        drop(state);
        drop(wakers);
    }

    /// Ends everything: the connection is over.
    pub(crate) fn end(&self, desk: &mut Desk, why: Status) {
        let mut state = self.lock();
        state.task = None;
        let at_end = state.at_end.take();
        let entries = &mut state.posts().entries;
        for key in entries.keys() {
            let Some(entry) = entries.get(key) else { continue };
            if entry.result.is_none() {
                // What the machine knows better was delivered before.
                let executed = if entry.is_new { Executed::No } else { Executed::Maybe };
                entry.end(Err(why.clone().with_executed(executed)));
            }
            entry.wake(desk);
            if entry.dropped || entry.is_theirs {
                desk.wakers.extend(entries.remove(key).into_iter().flatten());
            }
        }
        desk.wakers.extend(at_end.into_iter().flat_map(|at_end| at_end.into_iter().map(|(_, waker)| waker)));
        state.trim();
        state.end = Some(Box::new(why));
        drop(state);
        desk.wake();
    }
}

impl Posts {
    /// Does for an entry what it wants of the machine.
    fn serve(&mut self, index: u32, desk: &mut Desk, peer: &mut Peer, now: Timestamp) {
        let Some((key, entry)) = self.entries.at(index) else { return };
        entry.is_dirty = false;
        if entry.dropped && !entry.is_theirs {
            if let Some(id) = entry.id {
                peer.cancel(now, id);
                desk.leave(id);
            }
            entry.wake(desk);
            desk.wakers.extend(self.entries.remove(key).into_iter().flatten());
            return;
        }
        let request = match std::mem::take(&mut entry.is_new) {
            true if entry.keeps => entry.request.clone(),
            true => entry.request.take(),
            false => None,
        };
        if let Some((request, posted)) = request {
            self.waiting -= 1;
            self.waiting_bytes -= size(&request);
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
        let Some(streams) = &mut entry.streams else {
            if entry.finish {
                peer.finish(id);
            }
            return;
        };
        let consumed = std::mem::take(&mut streams.consumed);
        if consumed > 0 {
            peer.consumed(id, consumed - ITEM_COST);
        }
        while let Some(streams) = entry.streams.as_mut().filter(|streams| !streams.is_blocked) {
            let Some(item) = streams.items.pop_front() else { break };
            let cost = item.bytes.len() + ITEM_COST;
            match peer.send_item(id, item) {
                Ok(()) => streams.items_cost -= cost,
                Err(ItemError::Blocked(item)) => {
                    streams.items.push_front(item);
                    streams.is_blocked = true;
                }
                Err(error) => {
                    entry.drop_items();
                    entry.is_over = true;
                    if let ItemError::TooLarge { .. } = error {
                        let status = Status::new(Code::ResourceExhausted, error.to_string());
                        if entry.is_theirs {
                            // It goes out when the handler ends, which may hold the limits until then.
                            entry.streams().failure = Some(status.clone());
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
        let streams = entry.streams();
        if streams.items_cost < MAX_ITEMS {
            desk.wakers.extend(streams.writer.take());
        }
        if !streams.items.is_empty() {
            return;
        }
        if let Some(answer) = streams.answer.take() {
            let answer = streams.failure.take().map_or(answer, Err);
            desk.leave(id);
            desk.wakers.extend(self.entries.remove(key).into_iter().flatten());
            peer.respond(id, answer);
        } else if entry.finish {
            peer.finish(id);
        }
    }
}
