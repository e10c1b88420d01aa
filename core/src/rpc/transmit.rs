//! Frames that this side sends.

use crate::codec::Text;
use crate::error::SendError;
use crate::rpc::frame::{Coding, Frame, Hello};
use crate::rpc::peer::{Peer, PeerPhase, Polled, Side};
use crate::rpc::slots::{Content, Phase, Ring};
use crate::rpc::status::{Executed, Status};
use crate::rpc::wire::Kind;
use crate::stats::Accepted;
use crate::time::Timestamp;

/// The number of answers after which a request or an item has its turn, so that a peer that calls without a
/// pause does not stop the streams.
const ANSWERS_IN_A_ROW: u8 = 16;

impl Peer {
    /// Whether [`poll_frame`](Self::poll_frame) may have a frame.
    pub fn wants_write(&self) -> bool {
        if self.waits_for_hello() {
            return false;
        }
        let due = &self.due;
        let of_connection =
            due.hello || due.go_away.is_some() || due.ping || due.pong.is_some() || due.again.is_some();
        of_connection
            || matches!(self.phase, PeerPhase::Open | PeerPhase::Opening)
                && (self.slots.has(Ring::Control)
                    || self.slots.has(Ring::Answers)
                    || self.slots.has(Ring::Items)
                    || self.slots.first(Ring::Requests).is_some_and(|slot| self.may_send_request(slot)))
    }

    /// Whether nothing may be sent yet: the side that connected speaks first.
    fn waits_for_hello(&self) -> bool {
        self.phase == PeerPhase::Opening && self.side == Side::Accepting
    }

    /// Whether the request in `slot`, the next one, may be sent now. How large a frame the peer takes is not
    /// known before its Hello.
    pub(super) fn may_send_request(&self, slot: u32) -> bool {
        let fits = || self.slots.get(slot).is_some_and(|call| call.bytes <= self.theirs.frame as usize);
        self.slots.sent < self.theirs.calls && (self.phase == PeerPhase::Open || fits())
    }

    /// Returns the next frame to send: those of the connection, cancels and grants first, then answers, then
    /// requests and items in turn. After 16 answers in a row one of these has its turn.
    ///
    /// Call it only while the session is writable, so that a call that is given up is still here. Then
    /// report [`frame_sent`](Self::frame_sent) or [`frame_refused`](Self::frame_refused).
    #[must_use]
    #[inline(always)]
    pub fn poll_frame(&mut self, now: Timestamp) -> Option<Frame> {
        self.advance(now);
        self.polled = None;
        if self.waits_for_hello() {
            return None;
        }
        if let Some(again) = self.due.again.take() {
            let (frame, polled) = *again;
            self.polled = polled;
            return Some(frame);
        }
        if let Some(frame) = self.frame_of_connection() {
            return Some(frame);
        }
        if matches!(self.phase, PeerPhase::Failed(_) | PeerPhase::Closed) {
            return None;
        }
        if let Some(frame) = self.control_frame() {
            return Some(frame);
        }
        if self.answers_in_a_row < ANSWERS_IN_A_ROW {
            if let Some(frame) = self.answer_frame() {
                self.answers_in_a_row += 1;
                return Some(frame);
            }
        }
        self.answers_in_a_row = 0;
        self.request_turn = !self.request_turn;
        let frame = if self.request_turn {
            self.request_frame().or_else(|| self.item_frame())
        } else {
            self.item_frame().or_else(|| self.request_frame())
        };
        frame.or_else(|| self.answer_frame())
    }

    fn frame_of_connection(&mut self) -> Option<Frame> {
        if std::mem::take(&mut self.due.hello) {
            return Some(Frame::Hello(Hello {
                max_calls: self.config.max_calls(),
                window: self.config.window(),
                max_frame: self.config.max_frame(),
                deflate: self.config.deflate(),
                software: Text::from(concat!("getty-rs/", env!("CARGO_PKG_VERSION"))),
            }));
        }
        if let Some(number) = self.due.pong.take() {
            return Some(Frame::Pong(number));
        }
        if std::mem::take(&mut self.due.ping) {
            return Some(Frame::Ping(self.timers.pings));
        }
        let go_away = self.due.go_away.take()?;
        self.polled = Some(Polled { kind: Kind::GoAway, id: 0, slot: 0 });
        Some(Frame::GoAway(*go_away))
    }

    /// A cancel or a grant.
    fn control_frame(&mut self) -> Option<Frame> {
        let window = self.config.window();
        while let Some(slot) = self.slots.pop(Ring::Control) {
            let call = self.slots.at(slot);
            if std::mem::take(&mut call.due.cancel) {
                return Some(Frame::Cancel(call.wire));
            }
            let is_open = matches!(call.phase, Phase::Open | Phase::Running);
            let Some(streams) = call.streams.as_mut().filter(|_| is_open) else { continue };
            if streams.is_grant_due(window) {
                return Some(Frame::Window(call.wire, streams.take_grant()));
            }
        }
        None
    }

    /// The answer to a call of the peer, which frees its id.
    #[inline(always)]
    fn answer_frame(&mut self) -> Option<Frame> {
        while let Some(slot) = self.slots.pop(Ring::Answers) {
            let call = self.slots.at(slot);
            if !matches!(call.phase, Phase::Answered { .. }) {
                continue;
            }
            if matches!(&call.content, Content::Answer(Ok(reply)) if reply.body.coding == Coding::Compressible)
                && self.compress_first(slot)
            {
                continue;
            }
            let call = self.slots.at(slot);
            let Content::Answer(answer) = std::mem::take(&mut call.content) else { continue };
            let wire = call.wire;
            self.slots.leave(wire);
            self.answer_gone(slot);
            return Some(match answer {
                Ok(reply) => {
                    self.polled = Some(Polled { kind: Kind::Reply, id: wire, slot });
                    Frame::Reply(wire, reply)
                }
                Err(status) => {
                    self.polled = Some(Polled { kind: Kind::Error, id: wire, slot });
                    Frame::Error(wire, status)
                }
            });
        }
        None
    }

    /// The next item of the stream whose turn it is, or its end.
    fn item_frame(&mut self) -> Option<Frame> {
        while let Some(slot) = self.slots.pop(Ring::Items) {
            let call = self.slots.at(slot);
            let wire = call.wire;
            if !matches!(call.phase, Phase::Open | Phase::Running | Phase::Answered { .. }) {
                continue;
            }
            let is_answered = matches!(call.phase, Phase::Answered { .. });
            let first = call.streams.as_ref().and_then(|streams| streams.sending.front());
            if first.is_some_and(|item| item.coding == Coding::Compressible) && self.compress_first(slot) {
                continue;
            }
            let call = self.slots.at(slot);
            let Some(streams) = &mut call.streams else { continue };
            if let Some(item) = streams.next_item() {
                let goes_on = !streams.sending.is_empty() || streams.end_due;
                if streams.take_room() {
                    call.due.room = true;
                    self.slots.push(Ring::Events, slot);
                }
                if goes_on {
                    self.slots.push(Ring::Items, slot);
                } else if is_answered {
                    self.slots.push(Ring::Answers, slot);
                }
                self.polled = Some(Polled { kind: Kind::Item, id: wire, slot });
                return Some(Frame::Item(wire, item));
            }
            if std::mem::take(&mut streams.end_due) {
                return Some(Frame::End(wire));
            }
        }
        None
    }

    /// Reports that the session has accepted the frame polled last. With the number of the message it is
    /// known at the end of the session whether a request was sent.
    pub fn frame_sent(&mut self, accepted: Accepted) {
        if let Some(Polled { kind: Kind::Request, id, slot }) = self.polled.take() {
            if let Some(call) = self.slots.open(slot, id) {
                call.seq = Some(accepted.seq);
            }
        }
    }

    /// Reports that the session has not accepted the frame polled last. If there was no room, it is polled
    /// again. If it can't be sent, its call ends; an answer that can't be sent is replaced by one that says
    /// so.
    pub fn frame_refused(&mut self, error: SendError<Frame>) {
        let polled = self.polled.take();
        let executed = match &error {
            SendError::TooLarge { item: Frame::Error(_, status), .. } => status.executed(),
            _ => Executed::Yes,
        };
        let status = match error {
            SendError::Blocked(frame) | SendError::NotOpen(frame) | SendError::PeerWaits(frame)
                if self.is_wanted(&frame) =>
            {
                self.due.again = Some(Box::new((frame, polled)));
                return;
            }
            SendError::TooLarge { bytes, limit, .. } => Status::resource_exhausted(format!(
                "a frame of {bytes} bytes exceeds the session's limit of {limit}"
            )),
            SendError::Encode(error) => Status::internal(format!("a frame can't be encoded: {error}")),
            _ => Status::unavailable("the connection takes no further messages"),
        };
        match polled {
            Some(Polled { kind: Kind::Request, id, slot }) => self.unsend(slot, id, &status),
            Some(Polled { kind: Kind::Reply | Kind::Error, id, .. }) if self.phase == PeerPhase::Open => {
                let error = Frame::Error(id, status.with_executed(executed));
                self.due.again = Some(Box::new((error, polled)));
            }
            Some(Polled { kind: Kind::Item, id, slot }) => self.lose_item(slot, id, status),
            _ => {}
        }
    }

    /// Whether a frame that found no room is still to be sent.
    fn is_wanted(&self, frame: &Frame) -> bool {
        match self.phase {
            PeerPhase::Opening | PeerPhase::Open => true,
            PeerPhase::Failed(_) => matches!(frame, Frame::GoAway(_)),
            PeerPhase::Closed => false,
        }
    }
}
