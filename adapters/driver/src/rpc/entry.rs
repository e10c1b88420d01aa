//! [`Entry`]: a call in a [`Mailbox`](super::mailbox::Mailbox), or the streams of one.

use std::collections::VecDeque;
use std::task::{Context, Waker};
use std::time::Instant;

use getty_core::rpc::{Body, CallId, Code, Executed, Reply, Request, Status};

use crate::rpc::desk::Desk;

/// Bytes of items that a stream holds before the machine takes them.
pub(super) const MAX_ITEMS: usize = 64 * 1024;

/// The cost of an item beyond its bytes.
pub(super) const ITEM_COST: usize = 32;

/// The name of an entry. The default is that of none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Key {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// A call of this side, or the streams of a call of the peer.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// 0: free.
    generation: u32,
    /// A call of the peer: its handler owns this entry. One of this side is its reader's.
    pub(super) is_theirs: bool,
    pub(super) is_dirty: bool,
    /// The task has not taken the request.
    pub(super) is_new: bool,
    /// The request is kept, to be posted again elsewhere if it is not executed.
    pub(super) keeps: bool,
    /// To give up: nobody waits any longer.
    pub(super) dropped: bool,
    /// The stream of this side is to end after its items.
    pub(super) finish: bool,
    /// Nothing more can be sent.
    pub(super) is_over: bool,
    /// The stream of the other side has ended.
    pub(super) has_ended: bool,
    /// The call in the machine.
    pub(super) id: Option<CallId>,
    /// The request, and when it was posted if its time is limited. Until the task has taken it, or, if it is
    /// kept, until the other side has begun with it.
    pub(super) request: Option<(Request, Option<Instant>)>,
    pub(super) result: Option<Result<Reply, Status>>,
    pub(super) reader: Option<Waker>,
    /// Made with the first item. Boxed, since most calls have none.
    pub(super) streams: Option<Box<Streams>>,
}

/// The streams of a call.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Items to send.
    pub(super) items: VecDeque<Body>,
    /// Their cost.
    pub(super) items_cost: usize,
    /// The machine had no credit for the first item.
    pub(super) is_blocked: bool,
    /// Cost of items that were taken, to be granted again.
    pub(super) consumed: usize,
    pub(super) received: VecDeque<Body>,
    pub(super) writer: Option<Waker>,
    /// The answer to a call of the peer, which waits for its items.
    pub(super) answer: Option<Result<Reply, Status>>,
    /// The failure of a call of the peer that replaces its answer: an item could not be sent.
    pub(super) failure: Option<Status>,
}

/// Entries in slots that are used again. They are set and reset where they are, since moving one costs as
/// much as posting a call does otherwise.
#[derive(Debug, Default)]
pub(super) struct Entries {
    slots: Vec<Entry>,
    free: Vec<u32>,
}

impl Entries {
    /// Makes the entry of a generation, which is not 0.
    pub(super) fn insert(&mut self, generation: u32) -> (Key, &mut Entry) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Entry::default());
            self.slots.len() as u32 - 1
        });
        let entry = &mut self.slots[index as usize];
        entry.generation = generation;
        (Key { index, generation }, entry)
    }

    pub(super) fn get(&mut self, key: Key) -> Option<&mut Entry> {
        self.slots.get_mut(key.index as usize).filter(|entry| entry.generation == key.generation)
    }

    /// The entry in a slot, if there is one, and its name.
    pub(super) fn at(&mut self, index: u32) -> Option<(Key, &mut Entry)> {
        let entry = self.slots.get_mut(index as usize).filter(|entry| entry.generation != 0)?;
        Some((Key { index, generation: entry.generation }, entry))
    }

    /// Frees an entry. The wakers that it had are to be dropped without the lock.
    #[must_use = "wakers are dropped without the lock"]
    pub(super) fn remove(&mut self, key: Key) -> [Option<Waker>; 2] {
        let Some(entry) = self.get(key) else { return [None, None] };
        let Entry { generation, is_theirs, is_dirty, is_new, keeps, dropped, finish, .. } = entry;
        *generation = 0;
        (*is_theirs, *is_dirty, *is_new, *keeps, *dropped, *finish) =
            (false, false, false, false, false, false);
        (entry.is_over, entry.has_ended) = (false, false);
        entry.id = None;
        entry.request = None;
        entry.result = None;
        let writer = entry.streams.take().and_then(|streams| streams.writer);
        let wakers = [entry.reader.take(), writer];
        self.free.push(key.index);
        wakers
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.len() == self.free.len()
    }

    /// The names of all entries.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> + use<> {
        let key = |(index, entry): (usize, &Entry)| Key { index: index as u32, generation: entry.generation };
        let keys: Vec<_> = self.slots.iter().enumerate().map(key).collect();
        keys.into_iter().filter(|key| key.generation != 0)
    }
}

/// What [`Mailbox::poll_item`] has.
pub(crate) enum Item {
    Body(Body),
    /// The stream of the other side has ended; its call goes on.
    End,
    /// The call is over.
    Over(Result<Reply, Status>),
}

impl Entry {
    pub(super) fn end(&mut self, result: Result<Reply, Status>) {
        self.result = Some(result);
        self.is_over = true;
        self.drop_items();
    }

    /// Drops the items that were to be sent.
    pub(super) fn drop_items(&mut self) {
        if let Some(streams) = &mut self.streams {
            streams.items.clear();
            streams.items_cost = 0;
        }
    }

    pub(super) fn streams(&mut self) -> &mut Streams {
        self.streams.get_or_insert_default()
    }

    /// The failure of a call that can be posted again.
    pub(super) fn refusal(&self) -> Option<&Status> {
        let status = self.result.as_ref()?.as_ref().err()?;
        (self.keeps && status.executed() == Executed::No).then_some(status)
    }

    /// Wakes those who read and write its streams.
    pub(super) fn wake(&mut self, desk: &mut Desk) {
        desk.wakers.extend(self.reader.take());
        if let Some(streams) = &mut self.streams {
            desk.wakers.extend(streams.writer.take());
        }
    }

    /// Drops the items that nobody will read, so that the other side can go on. Returns whether there were
    /// any.
    pub(super) fn consume_received(&mut self) -> bool {
        let Some(streams) = &mut self.streams else { return false };
        let cost: usize = streams.received.drain(..).map(|item| item.bytes.len() + ITEM_COST).sum();
        streams.consumed += cost;
        cost > 0
    }
}

pub(super) fn gone() -> Status {
    Status::new(Code::Cancelled, "the call was given up").with_executed(Executed::Maybe)
}

/// Sets a waker and returns the one before. Drop that without the lock: it may own a task, which may own
/// callers and streams.
#[must_use]
pub(super) fn set(place: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    if place.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
        return place.replace(cx.waker().clone());
    }
    None
}

/// The bytes of a request, without what holds them.
pub(super) fn size(request: &Request) -> usize {
    let metadata = request.metadata().iter().map(|(key, value)| key.len() + value.len());
    request.method.as_bytes().len() + request.body.bytes.len() + metadata.sum::<usize>()
}
