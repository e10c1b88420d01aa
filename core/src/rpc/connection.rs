//! The connection: its limits, going away, and its end.

use crate::close::CloseReason;
use crate::codec::Text;
use crate::rpc::calls::outcome;
use crate::rpc::event::{Cancelled, Event};
use crate::rpc::fault::PeerFault;
use crate::rpc::frame::{GoAway, GoAwayCode, Hello};
use crate::rpc::peer::{Due, Peer, PeerPhase, Polled, Side};
use crate::rpc::slots::{Content, Phase, Ring};
use crate::rpc::status::{Code, Executed, Status};
use crate::rpc::wire::Kind;
use crate::stats::Progress;
use crate::time::Timestamp;

impl Peer {
    /// Goes away: this side begins no call and takes none any longer. Calls that wait end as not executed,
    /// calls under way go on. [`Event::Drained`] reports when there are none left and the peer has
    /// acknowledged.
    pub fn go_away(&mut self, now: Timestamp, code: GoAwayCode, text: impl Into<Text>) {
        self.advance(now);
        self.leave(code, text.into());
    }

    fn leave(&mut self, code: GoAwayCode, text: Text) {
        if self.phase == PeerPhase::Closed || std::mem::replace(&mut self.leaves, true) {
            return;
        }
        self.due.go_away = Some(Box::new(GoAway { code, text }));
        self.refuse_waiting(&Status::unavailable("the connection goes away"));
    }

    /// Ends the calls of this side that were not sent.
    fn refuse_waiting(&mut self, status: &Status) {
        self.requeue_requests();
        while let Some(slot) = self.slots.pop(Ring::Requests) {
            if self.slots.at(slot).phase == Phase::Waiting {
                self.take_back(slot);
                self.end(slot, Err(status.clone().with_executed(Executed::No)));
            }
        }
    }

    /// Reports once that nothing is left to do: no call is open, and the session has the last answer.
    pub(super) fn drained(&mut self) -> Option<Event> {
        let leaves = self.leaves && self.peer_leaves && self.phase != PeerPhase::Closed;
        let due = &self.due;
        let is_sent = due.go_away.is_none() && due.again.is_none() && self.polled.is_none();
        let is_drained = leaves && is_sent && self.slots.is_empty();
        (is_drained && !std::mem::replace(&mut self.drained, true)).then_some(Event::Drained)
    }

    /// Ends the connection because the peer broke a rule. A last go-away says so.
    pub(super) fn fail(&mut self, fault: PeerFault) -> PeerFault {
        if !matches!(self.phase, PeerPhase::Failed(_) | PeerPhase::Closed) {
            self.phase = PeerPhase::Failed(fault);
            self.leaves = true;
            self.drop_held_back(&Status::unavailable(format!("the connection ended: {fault}")));
            let go_away = GoAway { code: fault.code(), text: Text::from(fault.to_string()) };
            self.due = Due { go_away: Some(Box::new(go_away)), ..Due::default() };
        }
        fault
    }

    /// Drops the frame that the session had no room for. If it is a request, that call ends.
    fn drop_held_back(&mut self, status: &Status) {
        if let Some(Polled { kind: Kind::Request, id, slot }) =
            self.due.again.take().and_then(|again| again.1)
        {
            self.unsend(slot, id, status);
        }
    }

    /// Ends all calls: the session has ended, with this progress of sending. Calls of this side end with
    /// [`Code::Unavailable`], and it is known whether they were executed; those of the peer are cancelled.
    pub fn handle_closed(&mut self, now: Timestamp, reason: &CloseReason, progress: &Progress) {
        self.advance(now);
        if self.phase == PeerPhase::Closed {
            return;
        }
        let text = Text::from(match self.phase {
            PeerPhase::Failed(fault) => format!("the connection ended: {fault}"),
            _ => format!("the connection ended: {reason}"),
        });
        let status = Status::new(Code::Unavailable, text);
        self.phase = PeerPhase::Closed;
        self.drop_held_back(&status);
        self.due = Due::default();
        for slot in 0..self.slots.count() as u32 {
            let call = self.slots.at(slot);
            match call.phase {
                Phase::Waiting => {
                    self.take_back(slot);
                    self.end(slot, Err(status.clone().with_executed(Executed::No)));
                }
                Phase::Open => {
                    let executed = outcome(call.seq, progress);
                    self.slots.sent -= 1;
                    self.end(slot, Err(status.clone().with_executed(executed)));
                }
                Phase::Abandoned => {
                    self.slots.sent -= 1;
                    self.end_abandoned(slot);
                }
                Phase::New | Phase::Running => {
                    let wire = self.slots.at(slot).wire;
                    self.slots.leave(wire);
                    self.cut_short(slot, status.clone(), Cancelled::Closed);
                    self.answer_gone(slot);
                }
                Phase::Answered { .. } => {
                    let wire = self.slots.at(slot).wire;
                    self.slots.leave(wire);
                    self.answer_gone(slot);
                }
                Phase::Free | Phase::Ended | Phase::Held => {}
            }
        }
        self.drop_bodies(&status);
    }

    /// The answer has come to a call that this side has given up.
    pub(super) fn end_abandoned(&mut self, slot: u32) {
        self.slots.abandoned -= 1;
        let call = self.slots.at(slot);
        call.due.cancel = false;
        if matches!(call.content, Content::None) {
            self.remove(slot);
        } else {
            call.phase = Phase::Ended; // still to be reported
        }
    }

    /// The answer to a call of the peer is sent, or no longer wanted.
    pub(super) fn answer_gone(&mut self, slot: u32) {
        let call = self.slots.at(slot);
        self.answer_bytes -= std::mem::take(&mut call.bytes);
        if call.phase == (Phase::Answered { running: true }) {
            call.phase = Phase::Held;
        } else {
            self.remove(slot);
        }
    }

    /// Frees the slot of a call that is over for both sides.
    pub(super) fn remove(&mut self, slot: u32) {
        self.clear_deadline(slot);
        self.drop_streams(slot);
        self.slots.remove(slot);
        self.watch_idle();
    }

    pub(super) fn take_hello(&mut self, hello: Hello) -> Result<(), PeerFault> {
        let too_low = hello.max_calls < Hello::MIN_CALLS
            || hello.window < Hello::MIN_WINDOW
            || hello.max_frame < Hello::MIN_FRAME;
        if too_low || hello.window > i32::MAX as u32 {
            return Err(PeerFault::Limits);
        }
        self.phase = PeerPhase::Open;
        self.hello_came();
        self.due.hello |= self.side == Side::Accepting;
        let more = hello.window - Hello::MIN_WINDOW;
        self.theirs.calls = hello.max_calls;
        self.theirs.window = hello.window;
        self.theirs.frame = hello.max_frame;
        self.theirs.deflate = hello.deflate;
        for slot in 0..self.slots.count() as u32 {
            self.grant(slot, more);
        }
        self.notices.get_or_insert_default().push(Event::Hello(hello));
        Ok(())
    }

    pub(super) fn take_go_away(&mut self, go_away: GoAway) {
        if std::mem::replace(&mut self.peer_leaves, true) {
            return;
        }
        self.notices.get_or_insert_default().push(Event::GoAway(go_away));
        self.refuse_waiting(&Status::unavailable("the peer goes away"));
        self.leave(GoAwayCode::Shutdown, "acknowledged".into());
    }

    pub(super) fn take_pong(&mut self, number: u64) {
        let timers = &mut self.timers;
        if number != timers.pings {
            return;
        }
        if let Some(pinged) = timers.pinged.take() {
            let rtt = Event::Rtt(self.now.saturating_duration_since(pinged));
            self.notices.get_or_insert_default().push(rtt);
        }
    }
}
