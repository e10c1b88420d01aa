//! [`Posted`]: a call in a mailbox, as its reader has it.

use std::ops::Deref;
use std::sync::Arc;
use std::task::{Context, Poll};

use getty_core::rpc::Request;

use crate::rpc::entry::{Item, Key};
use crate::rpc::mailbox::Mailbox;

/// What is read of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// Only its end. Items are dropped.
    Answer,
    /// Items, then its end.
    Items,
}

/// The streams of a call of either side.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) key: Key,
}

impl Streams {
    /// Streams of a call that is over.
    pub(super) fn over() -> Self {
        Streams { mailbox: Mailbox::new(&Arc::default()), key: Key::default() }
    }

    /// The next item, or the end.
    pub(super) fn poll(&self, reads: Reads, cx: &mut Context<'_>) -> Poll<Item> {
        match reads {
            Reads::Answer => self.mailbox.poll_result(self.key, cx).map(Item::Over),
            Reads::Items => self.mailbox.poll_item(self.key, cx),
        }
    }
}

/// A call of this side, or the stream of a call of the peer. Dropping it gives that up.
#[derive(Debug)]
pub(super) struct Posted(Streams);

impl Posted {
    pub(super) fn new(mailbox: Arc<Mailbox>, key: Key) -> Self {
        Posted(Streams { mailbox, key })
    }

    pub(super) fn streams(&self) -> Streams {
        self.0.clone()
    }

    /// The next item, or the end.
    pub(super) fn poll(&mut self, reads: Reads, cx: &mut Context<'_>) -> Poll<Item> {
        let item = self.0.poll(reads, cx);
        if let (Reads::Answer, Poll::Ready(Item::Over(Ok(_)))) = (reads, &item) {
            self.0.key = Key::default(); // its entry is gone: there is nothing to give up
        }
        item
    }

    /// Takes the request back, after a call that kept it was refused.
    pub(super) fn take_back(&self) -> Option<Request> {
        self.mailbox.take_back(self.key)
    }
}

impl Deref for Posted {
    type Target = Streams;

    fn deref(&self) -> &Streams {
        &self.0
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        if self.key != Key::default() {
            self.mailbox.drop_call(self.key);
        }
    }
}
