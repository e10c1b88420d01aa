//! Frames that the peer sent.

use crate::rpc::fault::PeerFault;
use crate::rpc::frame::{Frame, Hello, Invalid};
use crate::rpc::peer::{Peer, PeerPhase};
use crate::rpc::status::{Origin, Status};
use crate::rpc::wire::Kind;
use crate::time::Timestamp;

impl Peer {
    /// Takes a frame of the peer. Frames after a fault or after the end of the session are ignored.
    ///
    /// # Errors
    /// [`PeerFault`]: the peer broke a rule, and the connection can't go on. Send what
    /// [`poll_frame`](Self::poll_frame) has, and close the session.
    #[inline(always)]
    pub fn handle_frame(&mut self, now: Timestamp, frame: Frame) -> Result<(), PeerFault> {
        self.advance(now);
        self.timers.heard = self.now;
        match self.phase {
            PeerPhase::Open => self.take_frame(frame),
            PeerPhase::Opening => self.take_first(frame),
            PeerPhase::Failed(_) | PeerPhase::Closed => Ok(()),
        }
        .map_err(|fault| self.fail(fault))
    }

    fn take_first(&mut self, frame: Frame) -> Result<(), PeerFault> {
        match frame {
            Frame::Hello(hello) => self.take_hello(hello),
            Frame::Invalid(Invalid { fault, .. }) => Err(fault.into()),
            // A peer that has nothing in common with this side only says good-bye.
            frame @ Frame::GoAway(_) => self.take_frame(frame),
            _ => Err(PeerFault::NoHello),
        }
    }

    #[inline(always)]
    fn take_frame(&mut self, frame: Frame) -> Result<(), PeerFault> {
        match frame {
            Frame::Request(id, request) => self.take_request(id, request),
            Frame::Reply(id, reply) => self.take_answer(Kind::Reply, id, Ok(reply)),
            Frame::Error(id, status) => {
                self.take_answer(Kind::Error, id, Err(status.with_origin(Origin::Peer)))
            }
            Frame::Cancel(id) => self.take_cancel(id),
            Frame::Item(id, item) => {
                self.take_item(id, item);
                Ok(())
            }
            Frame::End(id) => self.take_end(id),
            Frame::Window(id, bytes) => {
                if let Some(slot) = self.find(id) {
                    self.grant(slot, bytes);
                }
                Ok(())
            }
            Frame::Ping(number) => {
                self.due.pong = Some(number);
                Ok(())
            }
            Frame::Pong(number) => {
                self.take_pong(number);
                Ok(())
            }
            Frame::GoAway(go_away) => {
                self.take_go_away(go_away);
                Ok(())
            }
            Frame::Calls(calls) if calls < Hello::MIN_CALLS => Err(PeerFault::Limits),
            Frame::Calls(calls) => {
                self.theirs.calls = calls;
                Ok(())
            }
            Frame::Hello(_) => Err(PeerFault::SecondHello),
            Frame::Skipped(_) => Ok(()),
            Frame::Invalid(invalid) => self.take_invalid(invalid),
        }
    }

    /// Takes a frame that breaks the rules of its kind. Where that concerns one call, only that call ends.
    fn take_invalid(&mut self, invalid: Invalid) -> Result<(), PeerFault> {
        let Invalid { kind, id, fault } = invalid;
        match Kind::from_number(kind) {
            Some(Kind::Request) if fault.is_in_head() => {
                self.check_request(id)?;
                self.spend()?;
                self.refuse(id, Status::invalid_argument(format!("a request that can't be read: {fault}")));
                Ok(())
            }
            Some(kind @ (Kind::Reply | Kind::Error)) if fault.is_in_head() => {
                self.spend()?;
                let status = Status::internal(format!("an answer that can't be read: {fault}"));
                self.take_answer(kind, id, Err(status))
            }
            Some(Kind::Window) if fault.is_in_head() => {
                self.spend()?;
                if let Some(slot) = self.find(id) {
                    self.fail_call(slot, "credit that can't be read");
                }
                Ok(())
            }
            _ => Err(fault.into()),
        }
    }
}
