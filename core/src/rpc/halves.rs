//! The streams of a call: sending items, taking those of the peer, and their credit.

use crate::rpc::event::{CallId, Cancelled};
use crate::rpc::fault::PeerFault;
use crate::rpc::frame::Body;
use crate::rpc::peer::Peer;
use crate::rpc::slots::{Content, Phase, Ring};
use crate::rpc::status::{Executed, Status};
use crate::rpc::streams::{ItemFault, Streams, cost};
use crate::rpc::wire::Kind;

/// An item that can't be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ItemError {
    /// The credit is used up, or as many bytes as this side's [window](super::ConfigBuilder::window) wait for
    /// the transport. [`Event::Room`](super::Event::Room) reports when there is room. Has the item.
    #[error("the stream has no room now: wait for Event::Room")]
    Blocked(Body),
    /// The call is over, or its stream is.
    #[error("the stream has ended")]
    Ended,
    /// The item is larger than one may be.
    #[error(
        "an item of {bytes} bytes exceeds the limit of {limit} (rpc::ConfigBuilder::max_item, or the peer's frames)"
    )]
    TooLarge {
        /// Size of the item in bytes.
        bytes: usize,
        /// Size of the largest item.
        limit: usize,
    },
}

impl Peer {
    /// Makes the streams of a call that has none yet. Its caller has not announced any of its own.
    fn open_streams(&mut self, slot: u32) {
        let mut streams = self.new_streams();
        let call = self.slots.at(slot);
        if call.streams.is_none() {
            match call.phase {
                Phase::Open => streams.finished = true,
                Phase::New | Phase::Running => streams.has_ended = true,
                _ => return,
            }
            call.streams = Some(streams);
        }
    }

    pub(super) fn new_streams(&self) -> Box<Streams> {
        Box::new(Streams::new(self.theirs.window, self.config.window()))
    }

    /// Sends an item on the stream of this side: of a call of this side that began with
    /// [`more`](super::Request::more), or to the caller of a call of the peer.
    ///
    /// # Errors
    /// [`ItemError`]: there is no credit now, the stream is over, or the item is too large.
    pub fn send_item(&mut self, id: CallId, item: Body) -> Result<(), ItemError> {
        let limit = self.config.max_item().min(self.theirs.frame as usize);
        let slot = self.slots.slot(id).ok_or(ItemError::Ended)?;
        self.open_streams(slot);
        let call = self.slots.at(slot);
        let is_open = matches!(call.phase, Phase::Waiting | Phase::Open | Phase::Running);
        let streams = call.streams.as_mut().filter(|streams| is_open && !streams.finished);
        let streams = streams.ok_or(ItemError::Ended)?;
        let bytes = item.bytes.len();
        if bytes > limit {
            return Err(ItemError::TooLarge { bytes, limit });
        }
        if !streams.has_room() {
            streams.is_blocked = true;
            return Err(ItemError::Blocked(item));
        }
        streams.send(item);
        self.slots.push(Ring::Items, slot);
        Ok(())
    }

    /// Ends the stream of a call of this side, after the items that were accepted.
    pub fn finish(&mut self, id: CallId) {
        let Some(slot) = self.slots.slot(id) else { return };
        let call = self.slots.at(slot);
        let is_open = matches!(call.phase, Phase::Waiting | Phase::Open);
        let Some(streams) = call.streams.as_mut().filter(|s| is_open && !s.finished) else { return };
        streams.finished = true;
        streams.end_due = true;
        self.slots.push(Ring::Items, slot);
    }

    /// Reports that an item of `bytes` of the other side was taken, so that it may send more.
    pub fn consumed(&mut self, id: CallId, bytes: usize) {
        let Some(slot) = self.slots.slot(id) else { return };
        let window = self.config.window();
        let call = self.slots.at(slot);
        let is_open = matches!(call.phase, Phase::Open | Phase::Running);
        let Some(streams) = &mut call.streams else { return };
        let waits = streams.is_swollen(window);
        self.pending_bytes -= streams.consume(bytes);
        if waits && !streams.is_swollen(window) {
            self.slots.push(Ring::Events, slot);
        }
        let Some(streams) = &self.slots.at(slot).streams else { return };
        if is_open && streams.is_grant_due(window) {
            self.slots.push(Ring::Control, slot);
        }
    }

    /// Drops the streams of a call, and what they hold.
    pub(super) fn drop_streams(&mut self, slot: u32) {
        if let Some(streams) = self.slots.at(slot).streams.take() {
            self.pending_bytes -= streams.held;
        }
    }

    /// Takes an item. One for a call that is over is ignored: it was sent before its sender knew.
    pub(super) fn take_item(&mut self, id: u32, item: Body) {
        let Some(slot) = self.find(id) else { return };
        if self.slots.at(slot).phase == Phase::Open {
            self.open_streams(slot);
        }
        let bytes = item.bytes.len();
        let cost = cost(bytes);
        let call = self.slots.at(slot);
        if !matches!(call.phase, Phase::Open | Phase::New | Phase::Running) {
            return;
        }
        let received = call.streams.as_mut().map_or(Err(ItemFault::Ended), |streams| streams.receive(item));
        if let Err(fault) = received {
            return self.fail_call(
                slot,
                match fault {
                    ItemFault::Ended => "an item after the end of its stream",
                    ItemFault::Credit => "an item without credit",
                },
            );
        }
        self.pending_bytes += cost;
        if bytes > self.config.max_item() {
            let limit = self.config.max_item();
            let status =
                Status::resource_exhausted(format!("an item of {bytes} bytes exceeds the limit of {limit}"));
            return self.fail_call_with(slot, status);
        }
        if self.pending_bytes > self.config.max_pending_bytes() {
            let status = Status::resource_exhausted("the streams on this connection hold too many bytes");
            return self.fail_call_with(slot, status);
        }
        self.slots.push(Ring::Events, slot);
    }

    pub(super) fn take_end(&mut self, id: u32) -> Result<(), PeerFault> {
        if !self.is_theirs(id) {
            return Err(PeerFault::Id { kind: Kind::End as u8, id });
        }
        let Some(slot) = self.slots.find(id) else { return Ok(()) };
        let call = self.slots.at(slot);
        if !matches!(call.phase, Phase::New | Phase::Running) {
            return Ok(());
        }
        match &mut call.streams {
            Some(streams) if !streams.has_ended => {
                streams.has_ended = true;
                streams.reports_end = true;
                self.slots.push(Ring::Events, slot);
            }
            _ => self.fail_call(slot, "the end of a stream that has ended"),
        }
        Ok(())
    }

    /// Adds credit to this side's half of a call.
    pub(super) fn grant(&mut self, slot: u32, bytes: u32) {
        let call = self.slots.at(slot);
        let takes = matches!(call.phase, Phase::Waiting | Phase::Open | Phase::New | Phase::Running);
        if !takes || bytes == 0 {
            return;
        }
        if matches!(call.phase, Phase::New | Phase::Running) {
            self.open_streams(slot);
        }
        let call = self.slots.at(slot);
        let Some(streams) = &mut call.streams else { return };
        if !streams.grant(bytes) {
            return self.fail_call(slot, "more credit than a stream may have");
        }
        if streams.take_room() {
            call.due.room = true;
            self.slots.push(Ring::Events, slot);
        }
    }

    /// Ends a call with an item that can't be sent. If it was answered, that answer would hide the loss.
    pub(super) fn lose_item(&mut self, slot: u32, id: u32, status: Status) {
        let Some(call) = self.slots.get(slot).filter(|call| call.wire == id) else { return };
        if !matches!(call.phase, Phase::Answered { .. }) {
            return self.fail_call_with(slot, status);
        }
        self.drop_streams(slot);
        let call = self.slots.at(slot);
        self.answer_bytes -= std::mem::replace(&mut call.bytes, status.size());
        self.answer_bytes += call.bytes;
        call.content = Content::Answer(Err(status));
        self.slots.push(Ring::Answers, slot);
    }

    /// Ends a call because the other side broke a rule of its streams: the caller of a call of the peer, the
    /// callee of one of this side, which is not to blame then.
    pub(super) fn fail_call(&mut self, slot: u32, fault: &'static str) {
        let status = match self.slots.at(slot).phase {
            Phase::Open => Status::internal(format!("the peer broke a rule of streams: {fault}")),
            _ => Status::invalid_argument(fault),
        };
        self.fail_call_with(slot, status);
    }

    pub(super) fn fail_call_with(&mut self, slot: u32, status: Status) {
        match self.slots.at(slot).phase {
            Phase::New | Phase::Running => self.cut_short(slot, status, Cancelled::Fault),
            Phase::Open => {
                self.give_up(slot);
                let status = status.with_executed(Executed::Maybe);
                self.slots.at(slot).content = Content::Answer(Err(status));
                self.slots.push(Ring::Events, slot);
            }
            _ => {}
        }
    }
}
