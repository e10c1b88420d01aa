//! [`Streams`]: the items and credit of a call with streams.

use std::collections::VecDeque;

use crate::rpc::frame::Body;

/// The cost of an item beyond its bytes, so that empty ones are not free.
const ITEM_COST: usize = 32;

/// The largest credit that a grant may lead to.
const MAX_CREDIT: i64 = i32::MAX as i64;

/// The cost of an item in credit.
pub(crate) fn cost(item: usize) -> usize {
    item.saturating_add(ITEM_COST)
}

/// The two streams of a call: the half of this side and the half of the peer.
#[derive(Debug)]
pub(crate) struct Streams {
    /// Credit for the half of this side. May be negative by one item.
    credit: i64,
    /// Items that wait to be sent. Paid for.
    pub(crate) sending: VecDeque<Body>,
    /// Their cost.
    queued: usize,
    /// The largest cost up to which another may be queued: whatever the peer grants, no more waits here.
    max_queued: usize,
    /// This side sends no further items.
    pub(crate) finished: bool,
    /// The end of this side's half is still to be sent.
    pub(crate) end_due: bool,
    /// An item was refused: report when there is room.
    pub(crate) is_blocked: bool,
    /// Credit of the peer's half, as this side counts it.
    allowed: i64,
    /// Items of the peer that were not reported yet.
    pub(crate) received: VecDeque<Body>,
    /// Cost of the peer's items that were not consumed yet.
    pub(crate) held: usize,
    /// Cost of consumed items that was not granted anew.
    consumed: usize,
    /// Bytes by which items that were decompressed are longer than they were on the wire, as far as no
    /// consumed item has made up for them. They are not granted.
    swollen: usize,
    /// The peer sends no further items.
    pub(crate) has_ended: bool,
    /// The end of the peer's half is to be reported.
    pub(crate) reports_end: bool,
}

/// The peer sent an item that it may not send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemFault {
    /// After the end of its half.
    Ended,
    /// Without credit.
    Credit,
}

impl Streams {
    pub(crate) fn new(credit: u32, window: u32) -> Self {
        Streams {
            credit: credit.into(),
            sending: VecDeque::new(),
            queued: 0,
            max_queued: window as usize,
            finished: false,
            end_due: false,
            is_blocked: false,
            allowed: window.into(),
            received: VecDeque::new(),
            held: 0,
            consumed: 0,
            swollen: 0,
            has_ended: false,
            reports_end: false,
        }
    }

    /// Whether an item may be sent now.
    pub(crate) fn has_room(&self) -> bool {
        self.credit > 0 && self.queued < self.max_queued
    }

    /// Whether an item was refused that has room now. Reports it once.
    pub(crate) fn take_room(&mut self) -> bool {
        let has_room = self.is_blocked && self.has_room();
        self.is_blocked &= !has_room;
        has_room
    }

    /// Queues an item, which may exceed the credit.
    pub(crate) fn send(&mut self, item: Body) {
        let cost = cost(item.bytes.len());
        self.credit -= cost as i64;
        self.queued += cost;
        self.sending.push_back(item);
    }

    /// Takes the next item to send.
    pub(crate) fn next_item(&mut self) -> Option<Body> {
        let item = self.sending.pop_front()?;
        self.queued -= cost(item.bytes.len());
        Some(item)
    }

    /// Drops the items that wait to be sent, and takes no others.
    pub(crate) fn end_sending(&mut self) {
        self.sending.clear();
        self.queued = 0;
        self.end_due = false;
        self.finished = true;
    }

    /// Drops what was received and not reported. Returns the cost of all that is held no longer.
    pub(crate) fn end_received(&mut self) -> usize {
        self.received = VecDeque::new();
        self.reports_end = false;
        std::mem::take(&mut self.held)
    }

    /// Adds a grant of the peer. Returns false if it is more than a peer may grant.
    pub(crate) fn grant(&mut self, bytes: u32) -> bool {
        self.credit += i64::from(bytes);
        self.credit <= MAX_CREDIT
    }

    /// Takes an item of the peer.
    pub(crate) fn receive(&mut self, item: Body) -> Result<(), ItemFault> {
        if self.has_ended {
            return Err(ItemFault::Ended);
        }
        if self.allowed <= 0 {
            return Err(ItemFault::Credit);
        }
        let cost = cost(item.bytes.len());
        self.allowed -= cost as i64;
        self.held += cost;
        self.received.push_back(item);
        Ok(())
    }

    /// Counts an item of `bytes` as consumed, and returns what is held less. Half a window is granted at a
    /// time, and all of it once the peer has used up its credit.
    pub(crate) fn consume(&mut self, bytes: usize) -> usize {
        let cost = cost(bytes).min(self.held);
        self.held -= cost;
        let swollen = self.swollen.min(cost);
        self.swollen -= swollen;
        self.consumed += cost - swollen;
        cost
    }

    /// Counts that an item was decompressed. It is held with its full length, while it cost what was on the
    /// wire.
    #[cfg(feature = "deflate")]
    pub(crate) fn swell(&mut self, wire: usize, full: usize) {
        self.held = self.held - wire + full;
        self.swollen += full.saturating_sub(wire);
        self.consumed += wire.saturating_sub(full);
    }

    /// Whether the items that were decompressed hold so much beyond their credit that others wait until some
    /// are consumed.
    pub(crate) fn is_swollen(&self, window: u32) -> bool {
        self.swollen >= window as usize
    }

    /// Counts that the first item to send is shorter by `bytes`: it costs less.
    #[cfg(feature = "deflate")]
    pub(crate) fn shrink(&mut self, bytes: usize) {
        self.credit += bytes as i64;
        self.queued -= bytes;
    }

    /// Whether to grant what was consumed.
    pub(crate) fn is_grant_due(&self, window: u32) -> bool {
        let much = self.consumed >= window as usize / 2;
        !self.has_ended && self.consumed > 0 && (much || self.allowed <= 0)
    }

    /// Takes the grant that is due.
    pub(crate) fn take_grant(&mut self) -> u32 {
        let bytes = u32::try_from(self.consumed).unwrap_or(u32::MAX);
        self.consumed -= bytes as usize;
        self.allowed += i64::from(bytes);
        bytes
    }
}
