//! Calls of this side.

use crate::rpc::event::CallId;
use crate::rpc::fault::PeerFault;
use crate::rpc::frame::{Coding, Frame, Reply, Request};
use crate::rpc::head::check_request;
use crate::rpc::peer::{Peer, PeerPhase, Polled, too_large};
use crate::rpc::slots::{Content, Phase, Ring};
use crate::rpc::status::{Executed, Status};
use crate::rpc::wire::Kind;
use crate::stats::{Progress, Seq};
use crate::time::Timestamp;

/// A call that was not accepted; nothing of it was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}")]
pub struct Refused {
    /// The request, unchanged.
    pub request: Box<Request>,
    /// The reason.
    pub status: Status,
}

impl Peer {
    /// Begins a call. It is sent once the peer takes another one and the transport has room; what is left
    /// until `deadline` goes with it.
    ///
    /// # Errors
    /// [`Refused`] has the request and the reason, with [`Executed::No`].
    #[inline(always)]
    pub fn call(
        &mut self,
        now: Timestamp,
        request: Request,
        deadline: Option<Timestamp>,
    ) -> Result<CallId, Refused> {
        self.advance(now);
        let bytes = request.size();
        if let Some(status) = self.refusal(&request, bytes) {
            let status = status.with_executed(Executed::No);
            return Err(Refused { request: Box::new(request), status });
        }
        let streams = request.more.then(|| self.new_streams());
        let slot = self.slots.insert(Phase::Waiting, Content::Request(request));
        let call = self.slots.at(slot);
        call.bytes = bytes;
        call.streams = streams;
        self.waiting += 1;
        self.waiting_bytes += bytes;
        let id = self.slots.id(slot);
        match deadline {
            Some(deadline) if deadline <= self.now => self.expire(slot),
            deadline => {
                self.set_deadline(slot, deadline);
                self.slots.push(Ring::Requests, slot);
            }
        }
        Ok(id)
    }

    fn refusal(&self, request: &Request, bytes: usize) -> Option<Status> {
        let limit = self.theirs.frame as usize;
        if self.is_leaving() {
            Some(Status::unavailable("the connection takes no further calls"))
        } else if self.waiting as usize >= self.config.max_waiting()
            || self.waiting_bytes > self.config.max_waiting_bytes()
            || self.slots.is_full()
        {
            Some(Status::resource_exhausted("too many calls wait for the peer (rpc::Config::max_waiting)"))
        } else if request.more && request.one_way {
            Some(Status::invalid_argument("a one-way call has no streams"))
        } else if let Err(fault) = check_request(request) {
            Some(Status::invalid_argument(format!("a request that can't be sent: {fault}")))
        } else if self.phase == PeerPhase::Open && bytes > limit {
            Some(too_large("request", bytes, limit))
        } else {
            None
        }
    }

    /// Gives a call of this side up: nothing is reported about it any longer. A request that was not sent is
    /// taken back; otherwise a cancel goes to the peer.
    pub fn cancel(&mut self, now: Timestamp, id: CallId) {
        self.advance(now);
        let Some(slot) = self.slots.slot(id) else { return };
        let call = self.slots.at(slot);
        match call.phase {
            Phase::Waiting => {
                self.take_back(slot);
                self.remove(slot);
            }
            Phase::Open => {
                let wire = call.wire;
                if self.is_held_back(wire) {
                    self.due.again = None;
                    self.slots.sent -= 1;
                    self.remove(slot);
                } else {
                    self.give_up(slot);
                }
            }
            Phase::Abandoned => call.content = Content::None,
            Phase::Ended => self.remove(slot),
            _ => {}
        }
    }

    /// Ends a call whose request was polled, but not sent.
    pub(super) fn unsend(&mut self, slot: u32, id: u32, status: &Status) {
        let Some(call) = self.slots.open(slot, id) else { return };
        let phase = call.phase;
        self.slots.sent -= 1;
        if phase == Phase::Abandoned {
            self.end_abandoned(slot);
        } else {
            self.end(slot, Err(status.clone().with_executed(Executed::No)));
        }
    }

    /// Removes the request of a waiting call.
    pub(super) fn take_back(&mut self, slot: u32) {
        let call = self.slots.at(slot);
        self.waiting -= 1;
        self.waiting_bytes -= std::mem::take(&mut call.bytes);
    }

    /// Ends a call of this side that was sent, and tells the peer.
    pub(super) fn give_up(&mut self, slot: u32) {
        self.slots.at(slot).due.cancel = true;
        self.slots.push(Ring::Control, slot);
        self.abandon(slot);
    }

    /// Ends a call of this side while its answer is still to come.
    pub(super) fn abandon(&mut self, slot: u32) {
        self.clear_deadline(slot);
        self.drop_streams(slot);
        self.slots.at(slot).phase = Phase::Abandoned;
        self.slots.abandoned += 1;
        self.watch_abandoned();
    }

    /// Ends a call of this side that has no answer to come.
    pub(super) fn end(&mut self, slot: u32, result: Result<Reply, Status>) {
        self.clear_deadline(slot);
        let call = self.slots.at(slot);
        call.phase = Phase::Ended;
        call.content = Content::Answer(result);
        if let Some(streams) = &mut call.streams {
            streams.end_sending();
        }
        self.slots.push(Ring::Events, slot);
    }

    #[inline(always)]
    pub(super) fn take_answer(
        &mut self,
        kind: Kind,
        id: u32,
        answer: Result<Reply, Status>,
    ) -> Result<(), PeerFault> {
        if self.is_theirs(id) {
            return Err(PeerFault::Id { kind: kind as u8, id });
        }
        let slot = self.find_ours(id).ok_or(PeerFault::NotOpen(id))?;
        self.slots.sent -= 1;
        if self.slots.at(slot).phase == Phase::Abandoned {
            self.end_abandoned(slot);
        } else {
            self.end(slot, answer);
        }
        Ok(())
    }

    #[inline(always)]
    pub(super) fn request_frame(&mut self) -> Option<Frame> {
        while let Some(slot) = self.slots.first(Ring::Requests) {
            if !self.may_send_request(slot) {
                return None;
            }
            self.slots.pop(Ring::Requests);
            let frame_limit = self.theirs.frame as usize;
            let call = self.slots.at(slot);
            let bytes = call.bytes;
            if call.phase != Phase::Waiting {
                continue;
            }
            if call.deadline.is_some_and(|deadline| deadline <= self.now) {
                self.clear_deadline(slot);
                self.expire(slot);
                continue;
            }
            if bytes <= frame_limit
                && matches!(&call.content, Content::Request(it) if it.body.coding == Coding::Compressible)
                && self.compress_first(slot)
            {
                continue;
            }
            self.take_back(slot);
            if bytes > frame_limit {
                self.end(slot, Err(too_large("request", bytes, frame_limit).with_executed(Executed::No)));
                continue;
            }
            let wire = self.side.id(slot);
            let call = self.slots.at(slot);
            let Content::Request(mut request) = std::mem::take(&mut call.content) else { continue };
            request.timeout = call.deadline.map(|deadline| deadline.saturating_duration_since(self.now));
            call.phase = Phase::Open;
            call.wire = wire;
            let has_items = call.streams.is_some();
            self.slots.sent += 1;
            if has_items {
                self.slots.push(Ring::Items, slot);
            }
            self.polled = Some(Polled { kind: Kind::Request, id: wire, slot });
            return Some(Frame::Request(wire, request));
        }
        None
    }
}

/// Whether a request was executed whose answer did not come before the session ended with this progress.
/// `None`: nobody said what became of the request.
pub(super) fn outcome(request: Option<Seq>, progress: &Progress) -> Executed {
    let Some(seq) = request else { return Executed::Maybe };
    if Some(seq) <= progress.flushed || Some(seq) <= progress.unknown {
        Executed::Maybe
    } else {
        Executed::No // half a frame can't be executed
    }
}
