//! Calls of the peer.

use std::time::Duration;

use crate::rpc::event::{CallId, Cancelled};
use crate::rpc::fault::PeerFault;
use crate::rpc::frame::{Reply, Request};
use crate::rpc::peer::{Peer, too_large};
use crate::rpc::slots::{Content, Phase, Ring};
use crate::rpc::status::{Executed, Status};
use crate::rpc::wire::Kind;

impl Peer {
    #[inline(always)]
    pub(super) fn take_request(&mut self, id: u32, request: Request) -> Result<(), PeerFault> {
        self.check_request(id)?;
        if self.slots.unanswered() >= self.config.max_calls() as usize {
            self.spend()?;
        }
        let bytes = request.size();
        if let Some(status) = self.refuses(&request, bytes) {
            self.refuse(id, status);
            return Ok(());
        }
        let timeout = self.config.deadlines().clamp(request.timeout);
        let streams = request.more.then(|| self.new_streams());
        let slot = self.slots.insert(Phase::New, Content::Request(request));
        let call = self.slots.at(slot);
        call.held = bytes;
        call.streams = streams;
        self.pending_bytes += bytes;
        self.slots.handled += 1;
        self.slots.enter(id, slot);
        self.set_deadline(slot, timeout.map(|timeout| self.now + timeout));
        self.slots.push(Ring::Events, slot);
        Ok(())
    }

    pub(super) fn check_request(&self, id: u32) -> Result<(), PeerFault> {
        if !self.is_theirs(id) {
            return Err(PeerFault::Id { kind: Kind::Request as u8, id });
        }
        if self.slots.find(id).is_some() {
            return Err(PeerFault::RequestOpen(id));
        }
        Ok(())
    }

    /// The reason why a request is not taken.
    fn refuses(&self, request: &Request, bytes: usize) -> Option<Status> {
        let limit = self.config.max_pending_bytes();
        let open = self.slots.unanswered().max(self.slots.handled as usize);
        if self.leaves {
            Some(Status::unavailable("the server goes away"))
        } else if request.timeout == Some(Duration::ZERO) {
            Some(Status::deadline_exceeded("the deadline had passed when the request came"))
        } else if open >= self.config.max_calls() as usize {
            Some(Status::resource_exhausted("too many calls at once on this connection"))
        } else if self.pending_bytes.saturating_add(bytes) > limit {
            Some(Status::resource_exhausted("the requests on this connection hold too many bytes"))
        } else if self.answer_bytes > limit {
            Some(Status::resource_exhausted("too many bytes of answers on this connection are not read"))
        } else {
            None
        }
    }

    /// Answers a request that is not taken.
    pub(super) fn refuse(&mut self, id: u32, status: Status) {
        let slot = self.slots.insert(Phase::New, Content::None);
        self.slots.enter(id, slot);
        self.answer(slot, Err(status.with_executed(Executed::No)), false);
    }

    pub(super) fn take_cancel(&mut self, id: u32) -> Result<(), PeerFault> {
        if !self.is_theirs(id) {
            return Err(PeerFault::Id { kind: Kind::Cancel as u8, id });
        }
        let Some(slot) = self.slots.find(id) else { return Ok(()) }; // the answer is under way
        if matches!(self.slots.at(slot).phase, Phase::New | Phase::Running) {
            self.spend()?;
            let status = Status::cancelled("the caller gave the call up");
            self.cut_short(slot, status, Cancelled::ByCaller);
        }
        Ok(())
    }

    /// Takes a token for useless work.
    pub(super) fn spend(&mut self) -> Result<(), PeerFault> {
        if self.budget.take(&self.config, self.now) { Ok(()) } else { Err(PeerFault::EnhanceYourCalm) }
    }

    /// Answers a call of the peer, after the items that were accepted for it. Ignored if it is over.
    #[inline(always)]
    pub fn respond(&mut self, id: CallId, answer: Result<Reply, Status>) {
        let Some(slot) = self.slots.slot(id) else { return };
        if self.slots.at(slot).phase != Phase::Running {
            return self.release(id);
        }
        self.budget.refund(&self.config);
        self.handler_ended(slot);
        self.answer(slot, answer, false);
    }

    /// Reports that the handler of a call has ended that needs no answer: it was one-way or cancelled. Any
    /// other is answered with [`Code::Internal`](super::Code::Internal).
    pub fn release(&mut self, id: CallId) {
        let Some(slot) = self.slots.slot(id) else { return };
        let call = self.slots.at(slot);
        match call.phase {
            Phase::Running => self.respond(id, Err(Status::internal("the handler ended without an answer"))),
            Phase::Answered { running: true } => {
                call.phase = Phase::Answered { running: false };
                call.due.cancelled = None;
                self.clear_deadline(slot);
                self.handler_ended(slot);
            }
            Phase::Held => {
                self.handler_ended(slot);
                self.remove(slot);
            }
            _ => {}
        }
    }

    /// The handler of a call has ended, or will not begin: it holds nothing of the peer any longer.
    fn handler_ended(&mut self, slot: u32) {
        self.slots.handled -= 1;
        self.pending_bytes -= std::mem::take(&mut self.slots.at(slot).held);
    }

    /// Stores the answer to a call of the peer. `running`: its handler has not ended.
    #[inline(always)]
    pub(super) fn answer(&mut self, slot: u32, answer: Result<Reply, Status>, running: bool) {
        // The handler of a one-way call has its time after the answer.
        if !running || self.slots.at(slot).due.cancelled.is_some() {
            self.clear_deadline(slot);
        }
        let limit = self.theirs.frame as usize;
        let mut bytes = answer.as_ref().map_or_else(Status::size, Reply::size);
        let answer = if bytes <= limit {
            answer
        } else {
            let status = match answer {
                Ok(_) => too_large("reply", bytes, limit),
                Err(status) => too_large("error", bytes, limit).with_executed(status.executed()),
            };
            bytes = status.size();
            Err(status)
        };
        let call = self.slots.at(slot);
        call.bytes = bytes;
        self.answer_bytes += bytes;
        call.content = Content::Answer(answer);
        call.phase = Phase::Answered { running };
        let mut items_wait = false;
        if let Some(streams) = &mut call.streams {
            items_wait = !streams.sending.is_empty();
            self.pending_bytes -= streams.end_received();
        }
        if !items_wait {
            self.slots.push(Ring::Answers, slot);
        }
    }

    /// Ends a call of the peer that has no answer yet.
    pub(super) fn cut_short(&mut self, slot: u32, status: Status, why: Cancelled) {
        self.drop_streams(slot);
        let started = self.slots.at(slot).phase == Phase::Running;
        if started {
            self.slots.at(slot).due.cancelled = Some(why);
            self.slots.push(Ring::Events, slot);
        } else {
            self.handler_ended(slot);
        }
        let executed = if started { Executed::Yes } else { Executed::No };
        self.answer(slot, Err(status.with_executed(executed)), started);
    }
}
