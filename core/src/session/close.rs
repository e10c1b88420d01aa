//! The end of a session: closing, half-closing and failing.

use super::phase::{Phase, Sending};
use super::state::State;
use crate::close::{Close, CloseReason};
use crate::deadline::Deadline;
use crate::error::{HalfCloseError, IoFailure};
use crate::pending;
use crate::time::Timestamp;

impl State {
    pub(super) fn close(&mut self, now: Timestamp, close: Close) {
        self.advance_time(now);
        match self.status.phase {
            Phase::Closed | Phase::Ended => {}
            Phase::Open | Phase::Draining
                if matches!(close.reason, Some(CloseReason::Panicked)) && self.closes =>
            {
                self.wind_down(CloseReason::Panicked, false);
            }
            _ if !close.graceful => match close.reason {
                Some(reason) => self.finish(reason),
                None => self.cut_short(CloseReason::Local { flushed: false }),
            },
            Phase::Opening | Phase::Open => {
                #[cfg(feature = "websocket")]
                {
                    self.close_frame = close.frame;
                }
                let reason = match close.reason {
                    Some(reason) => reason,
                    None if self.read_end_reported => CloseReason::Eof { mid_frame: false },
                    None => CloseReason::Local { flushed: true },
                };
                let drain = close.drain && !self.status.paused && self.status.phase == Phase::Open;
                self.wind_down(reason, drain);
            }
            Phase::Draining | Phase::LastMessages if !close.drain => self.end_drain(),
            Phase::Draining | Phase::LastMessages | Phase::Flushing | Phase::HalfClosed => {}
        }
    }

    /// Sets whether flushing waits for the peer, which has more to say that the protocol must read. Then
    /// received bytes are kept, so that the protocol knows where a frame begins.
    pub(super) fn await_peer(&mut self, waits: bool) {
        self.awaits_peer = waits;
        if !waits {
            if let Some(buffers) = &mut self.buffers {
                buffers.received.clear();
            }
            self.inbox.reset();
            // What the layer has not unsealed does not matter any longer.
            self.layer_waits = false;
            self.status.read_ended |= std::mem::take(&mut self.wire_ended);
        }
    }

    /// Handles a failed transport. Whole messages already received are still delivered.
    pub(super) fn handle_io_error(&mut self, now: Timestamp, failure: IoFailure) {
        self.advance_time(now);
        match self.status.phase {
            Phase::Opening => self.finish(CloseReason::Io(failure)),
            Phase::Open | Phase::Draining => {
                self.discard_output();
                self.deliver_last(CloseReason::Io(failure));
            }
            Phase::Flushing | Phase::HalfClosed => self.cut_short(CloseReason::Io(failure)),
            Phase::LastMessages | Phase::Closed | Phase::Ended => {}
        }
    }

    pub(super) fn wants_shutdown(&self) -> bool {
        self.has_all_output() && self.outbox.is_empty() && !self.layer_ends && !self.layer_wants_write
    }

    /// Whether nothing will be added to the bytes that wait to be written.
    pub(super) fn has_all_output(&self) -> bool {
        let ends = match self.status.phase {
            Phase::Flushing => !self.awaits_peer,
            Phase::Open => self.status.sending == Sending::Ending,
            _ => false,
        };
        ends && self.status.dues.is_empty()
    }

    pub(super) fn handle_eof(&mut self, now: Timestamp) {
        self.advance_time(now);
        self.replying = false;
        self.status.read_ended = true;
        self.awaits_peer = false;
        if self.status.phase == Phase::HalfClosed {
            self.end();
        }
    }

    /// Whether the end of the peer's stream still has an effect, once everything before it is decoded.
    pub(super) fn is_at_read_end(&self) -> bool {
        self.status.read_ended && (!self.read_end_reported || self.status.sending == Sending::Ended)
    }

    /// Handles the end of the peer's stream once everything is decoded: between frames or within one.
    pub(super) fn read_end_reached(&mut self) {
        if self.closes || self.buffers.as_ref().is_some_and(|b| !b.received.is_empty()) {
            self.wind_down(CloseReason::Eof { mid_frame: true }, false);
        } else if !self.read_end_reported {
            self.read_end_reported = true;
            self.deadlines.clear(Deadline::IdleRead);
            self.deadlines.clear(Deadline::PartialFrame);
            self.status.pending |= pending::EOF;
        } else if self.status.sending == Sending::Ended {
            self.wind_down(CloseReason::Eof { mid_frame: false }, false); // both sides have ended
        }
    }

    /// Whether both sides have ended and all events before the end are delivered. A pause holds nothing back.
    pub(super) fn has_ended_both_sides(&self) -> bool {
        self.status.phase == Phase::Open
            && self.read_end_reported
            && self.status.sending == Sending::Ended
            && self.status.pending == 0
    }

    /// Ends the sending side once every accepted message is written.
    pub(super) fn half_close(&mut self, now: Timestamp) -> Result<(), HalfCloseError> {
        self.advance_time(now);
        match self.status.phase {
            Phase::Opening => return Err(HalfCloseError::NotOpen),
            Phase::Open if self.closes => return Err(HalfCloseError::Unsupported),
            Phase::Open => {}
            _ => return Err(HalfCloseError::Closed),
        }
        if self.status.sending == Sending::Open {
            self.status.sending = Sending::Ending;
            self.layer_ends = self.has_layer();
            self.writable_wanted = false;
            self.status.pending &= !pending::WRITABLE;
            self.deadlines.clear(Deadline::IdleWrite);
            self.deadlines.clear(Deadline::Heartbeat);
        }
        Ok(())
    }

    /// Handles that the close deadline passed.
    pub(super) fn close_expired(&mut self) {
        let clean = self.reason.as_deref().is_none_or(CloseReason::is_clean);
        if clean && !(self.close_agreed && self.outbox.is_empty()) {
            self.reason = Some(Box::new(CloseReason::Timeout(Deadline::Close)));
        }
        self.end();
    }

    /// Ends at once. The reason of a close under way stays, as long as it is still true.
    pub(super) fn cut_short(&mut self, unflushed: CloseReason) {
        let flushed = self.outbox.is_empty() && !self.is_encoding();
        match self.reason.as_deref_mut() {
            None => self.reason = Some(Box::new(CloseReason::Local { flushed })),
            Some(CloseReason::Local { flushed: reported }) => *reported = flushed,
            // Unwritten control bytes do not count.
            Some(reason) if reason.is_clean() && !self.outbox.has_all_messages_flushed() => {
                *reason = unflushed
            }
            Some(_) => {}
        }
        self.end();
    }

    /// Ends at once for `reason`.
    pub(super) fn finish(&mut self, reason: CloseReason) {
        self.reason = Some(Box::new(reason));
        self.end();
    }

    pub(super) fn discard_output(&mut self) {
        self.discard_messages(false);
        self.layer_wants_write = false;
        self.layer_ends = false;
        if let Some(buffers) = &mut self.buffers {
            buffers.layer.clear_sealed();
        }
    }

    /// Discards what is queued, except what a layer has sealed. `goes_on` says that the sealed bytes are
    /// still written.
    pub(super) fn discard_messages(&mut self, goes_on: bool) {
        if let Some(buffers) = &mut self.buffers {
            let sealed = buffers.layer.sealed_plain;
            if sealed > 0 && (goes_on || buffers.layer.partly_written) {
                self.outbox.mark_unknown(&buffers.sizes, sealed);
            }
            buffers.layer.sealed_plain = 0;
            buffers.segments.gathered.clear();
            buffers.segments.chained.clear();
            buffers.sizes.clear();
        }
        self.outbox.discard();
        self.end_encoding();
        self.status.blocked = false;
    }
}
