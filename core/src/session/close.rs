//! How a session ends.
//!
//! ```text
//!   Opening (where there is an opening handshake)
//!     │      close, codec error            all written           handle_shutdown      handle_eof
//!   Open ───────┬──────────────▶ Flushing ──────────────▶ (wants_shutdown) ──▶ HalfClosed ──▶ Closed ──▶ Ended
//!     │         │ drain            ▲                                               │           ▲
//!     │         ▼                  │ inbox empty                                   └─ deadline ┤
//!     │      Draining ─────────────┘                                                           │
//!     └──────── I/O error: Draining, then ── abort, deadline ──────────────────────────────────┘
//! ```
//! In `Closed` the one [`Event::Closed`](crate::Event::Closed) waits to be polled; in `Ended` it has been.

use super::inner::Inner;
use super::layering::LayerState;
use crate::close::{Close, CloseReason};
use crate::deadline::Deadline;
use crate::error::IoFailure;
use crate::pending;
use crate::time::Timestamp;

/// Where a session is in its life. The order of the variants is the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The opening handshake is under way.
    Opening,
    Open,
    /// Whole messages in the inbox are delivered and may be answered, nothing is read; then on to flushing.
    Draining,
    /// The transport has failed. Whole messages in the inbox are delivered; then the end.
    LastMessages,
    /// What is queued is written; what is read is dropped.
    Flushing,
    /// Our side is ended; what is read is dropped until the peer ends its side.
    HalfClosed,
    /// Over, not told yet.
    Closed,
    /// Over and told.
    Ended,
}

impl Phase {
    /// Whether messages are delivered.
    pub(crate) fn delivers(self) -> bool {
        matches!(self, Phase::Open | Phase::Draining | Phase::LastMessages)
    }

    /// Whether messages are taken to send.
    pub(crate) fn takes_messages(self) -> bool {
        matches!(self, Phase::Open | Phase::Draining)
    }
}

impl Inner {
    pub(crate) fn close(&mut self, now: Timestamp, close: Close) {
        self.clock(now);
        match self.phase {
            Phase::Closed | Phase::Ended => {}
            Phase::Open | Phase::Draining
                if matches!(close.reason, Some(CloseReason::Panicked)) && self.shakes_hands =>
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
                    None if self.read_end_told => CloseReason::Eof { mid_frame: false },
                    None => CloseReason::Local { flushed: true },
                };
                let drain = close.drain && !self.paused && self.phase == Phase::Open;
                self.wind_down(reason, drain);
            }
            Phase::Draining | Phase::LastMessages if !close.drain => self.end_drain(),
            Phase::Draining | Phase::LastMessages | Phase::Flushing | Phase::HalfClosed => {}
        }
    }

    /// Begins a graceful end for `reason`.
    pub(crate) fn wind_down(&mut self, reason: CloseReason, drain: bool) {
        self.reason = Some(Box::new(reason));
        self.pending &= pending::OPEN | pending::FLUSHED;
        self.deadlines.clear_all();
        self.deadlines.set(Deadline::Close, self.now + self.config.close_timeout());
        self.phase = Phase::Draining;
        if !drain {
            self.end_drain();
        }
    }

    /// Nothing more is delivered.
    pub(crate) fn end_drain(&mut self) {
        match self.phase {
            Phase::Draining => {
                self.phase = Phase::Flushing;
                self.due = self.shakes_hands;
                self.await_peer(self.shakes_hands);
                self.layer_ends = self.layer != LayerState::None;
            }
            Phase::LastMessages if self.layer_speaks => self.flush_last_word(),
            Phase::LastMessages => self.end(),
            _ => self.await_peer(false),
        }
    }

    /// While flushing: whether the peer has something to say yet that the protocol must hear. What has come stays for
    /// that, so that the protocol knows where a frame begins.
    pub(crate) fn await_peer(&mut self, waits: bool) {
        self.hold_shutdown = waits;
        if !waits {
            if let Some(buffers) = &mut self.buffers {
                buffers.received.clear();
            }
            self.inbox.reset();
        }
    }

    /// The transport failed. Whole messages that had come before are still delivered.
    pub(crate) fn handle_io_error(&mut self, now: Timestamp, failure: IoFailure) {
        self.clock(now);
        match self.phase {
            Phase::Opening => self.finish(CloseReason::Io(failure)),
            Phase::Open | Phase::Draining => {
                self.reason = Some(Box::new(CloseReason::Io(failure)));
                self.discard_output();
                self.deadlines.clear_all();
                self.pending &= pending::OPEN | pending::FLUSHED;
                self.phase = Phase::LastMessages;
                if self.paused || self.buffers.as_ref().is_none_or(|b| b.received.is_empty()) {
                    self.end_drain();
                }
            }
            Phase::Flushing | Phase::HalfClosed => self.cut_short(CloseReason::Io(failure)),
            Phase::LastMessages | Phase::Closed | Phase::Ended => {}
        }
    }

    /// Our side of the stream has been ended.
    pub(crate) fn handle_shutdown(&mut self, now: Timestamp) {
        self.clock(now);
        self.answering = false;
        if self.wants_shutdown() {
            self.phase = Phase::HalfClosed;
            if self.read_ended {
                self.end();
            }
        }
    }

    pub(crate) fn wants_shutdown(&self) -> bool {
        self.has_said_all() && self.outbox.is_empty() && !self.layer_ends && !self.layer_speaks
    }

    /// Whether nothing is added any more to what waits to be written.
    pub(super) fn has_said_all(&self) -> bool {
        self.phase == Phase::Flushing && !self.due && !self.hold_shutdown
    }

    pub(crate) fn handle_eof(&mut self, now: Timestamp) {
        self.clock(now);
        self.answering = false;
        self.read_ended = true;
        self.hold_shutdown = false;
        if self.phase == Phase::HalfClosed {
            self.end();
        }
    }

    /// Everything was decoded and the peer has ended its stream: between frames, or in the middle of one?
    pub(crate) fn read_end_reached(&mut self) {
        if self.shakes_hands || self.buffers.as_ref().is_some_and(|b| !b.received.is_empty()) {
            self.wind_down(CloseReason::Eof { mid_frame: true }, false);
        } else if !self.read_end_told {
            self.read_end_told = true;
            self.deadlines.clear(Deadline::IdleRead);
            self.deadlines.clear(Deadline::PartialFrame);
            self.pending |= pending::READ_END;
        }
    }

    /// The close deadline passed.
    pub(crate) fn close_expired(&mut self) {
        let clean = self.reason.as_deref().is_none_or(CloseReason::is_clean);
        if clean && !(self.close_agreed && self.outbox.is_empty()) {
            self.reason = Some(Box::new(CloseReason::Timeout(Deadline::Close)));
        }
        self.end();
    }

    /// Ends at once. A close that was under way stays the reason; a clean one only as far as it is true.
    pub(super) fn cut_short(&mut self, unflushed: CloseReason) {
        let flushed = self.outbox.is_empty();
        match self.reason.as_deref_mut() {
            None => self.reason = Some(Box::new(CloseReason::Local { flushed })),
            Some(CloseReason::Local { flushed: told }) => *told = flushed,
            // What the protocol itself had to say yet does not count.
            Some(reason) if reason.is_clean() && !self.outbox.has_all_messages_flushed() => {
                *reason = unflushed
            }
            Some(_) => {}
        }
        self.end();
    }

    /// Ends at once for `reason`.
    pub(crate) fn finish(&mut self, reason: CloseReason) {
        self.reason = Some(Box::new(reason));
        self.end();
    }

    pub(super) fn end(&mut self) {
        self.discard_output();
        self.due = false;
        if let Some(buffers) = &mut self.buffers {
            buffers.reset();
        }
        self.inbox.reset();
        self.deadlines.clear_all();
        self.pending &= pending::FLUSHED;
        self.phase = Phase::Closed;
    }

    pub(super) fn discard_output(&mut self) {
        self.discard_messages(false);
        self.layer_speaks = false;
        self.layer_ends = false;
        if let Some(buffers) = &mut self.buffers {
            buffers.layer.clear_sealed();
        }
    }

    /// Gives up what is queued, but for what a layer has sealed; `goes_on` says that that is written still.
    pub(super) fn discard_messages(&mut self, goes_on: bool) {
        if let Some(buffers) = &mut self.buffers {
            let sealed = buffers.layer.sealed_plain;
            if sealed > 0 && (goes_on || buffers.layer.partly_written) {
                self.outbox.lose_sight(&buffers.sizes, sealed);
            }
            buffers.layer.sealed_plain = 0;
            buffers.segments.gathered.clear();
            buffers.segments.chained.clear();
            buffers.sizes.clear();
        }
        self.outbox.discard();
        self.blocked = false;
    }
}
