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
    pub(super) generation: u32,
    /// A call of the peer: its handler owns this entry. One of this side is its reader's.
    pub(super) is_theirs: bool,
    /// The call in the machine.
    pub(super) id: Option<CallId>,
    pub(super) is_dirty: bool,
    /// The request, and when it was posted if its time is limited. Until the task has taken it, or, if it is
    /// kept, until the other side has begun with it.
    pub(super) request: Option<(Request, Option<Instant>)>,
    /// The task has not taken the request.
    pub(super) is_new: bool,
    /// The request is kept, to be posted again elsewhere if it is not executed.
    pub(super) keeps: bool,
    /// To give up: nobody waits any longer.
    pub(super) dropped: bool,
    /// Items to send.
    pub(super) items: VecDeque<Body>,
    /// Their cost.
    pub(super) items_cost: usize,
    /// The machine had no credit for the first item.
    pub(super) is_blocked: bool,
    /// The stream of this side is to end after its items.
    pub(super) finish: bool,
    /// Nothing more can be sent.
    pub(super) is_over: bool,
    /// Cost of items that were taken, to be granted again.
    pub(super) consumed: usize,
    pub(super) received: VecDeque<Body>,
    /// The stream of the other side has ended.
    pub(super) has_ended: bool,
    pub(super) result: Option<Result<Reply, Status>>,
    /// The answer to a call of the peer, which waits for its items.
    pub(super) answer: Option<Result<Reply, Status>>,
    /// The failure of a call of the peer that replaces its answer: an item could not be sent.
    pub(super) failure: Option<Status>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
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
        self.items.clear();
        self.items_cost = 0;
    }

    /// The failure of a call that can be posted again.
    pub(super) fn refusal(&self) -> Option<&Status> {
        let status = self.result.as_ref()?.as_ref().err()?;
        (self.keeps && status.executed() == Executed::No).then_some(status)
    }

    /// Wakes those who read and write its streams.
    pub(super) fn wake(&mut self, desk: &mut Desk) {
        desk.wakers.extend(self.reader.take());
        desk.wakers.extend(self.writer.take());
    }

    /// Drops the items that nobody will read, so that the other side can go on. Returns whether there were
    /// any.
    pub(super) fn consume_received(&mut self) -> bool {
        let cost: usize = self.received.drain(..).map(|item| item.bytes.len() + ITEM_COST).sum();
        self.consumed += cost;
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
