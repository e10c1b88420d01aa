//! [`Phase`]: the life of a session. Contains all transitions, and knows neither side nor protocol.
//!
//! ```text
//!   Opening (where there is an opening handshake)
//!     │      close, codec error          all written           handle_shutdown      handle_eof
//!   Open ───────┬────────────▶ Flushing ──────────────▶ (wants_shutdown) ──▶ HalfClosed ──▶ Closed ──▶ Ended
//!     │         │ drain          ▲                                               │           ▲
//!     │         ▼                │ inbox empty                                   └─ deadline ┤
//!     │      Draining ───────────┘                                                           │
//!     └──────── I/O error: Draining, then ── abort, deadline ────────────────────────────────┘
//! ```
//! `Closed` holds the one [`Event::Closed`](crate::Event::Closed) to poll; in `Ended` it has been polled.

use super::due::Due;
use super::layering::LayerState;
use super::state::State;
use crate::close::CloseReason;
use crate::deadline::Deadline;
use crate::event::Event;
use crate::pending;
use crate::time::Timestamp;

/// The phase of a session's life. The variants are in the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// The opening handshake is under way.
    Opening,
    Open,
    /// Delivers whole buffered messages, which may be replied to; reads nothing. Then comes flushing.
    Draining,
    /// The transport has failed. Delivers whole buffered messages, then ends.
    LastMessages,
    /// Writes what is queued; drops what is read.
    Flushing,
    /// This side has ended; drops what is read until the peer ends its side.
    HalfClosed,
    /// Over; `Event::Closed` has not been polled yet.
    Closed,
    /// Over; `Event::Closed` has been polled.
    Ended,
}

/// The sending side of an open session that still receives: see `Session::half_close`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    Open,
    /// Ends once every accepted message is written.
    Ending,
    Ended,
}

impl Phase {
    /// Whether messages are delivered.
    pub(super) fn delivers(self) -> bool {
        matches!(self, Phase::Open | Phase::Draining | Phase::LastMessages)
    }

    /// Whether messages are taken to send.
    pub(super) fn takes_messages(self) -> bool {
        matches!(self, Phase::Open | Phase::Draining)
    }
}

impl State {
    /// Opens the session.
    pub(super) fn open(&mut self) {
        self.status.phase = Phase::Open;
        self.status.pending |= pending::OPEN;
        self.deadlines.clear_all();
        let heartbeat = self.heartbeat_period();
        let periods = [
            (Deadline::Cron, self.config.cron_period()),
            (Deadline::IdleRead, self.config.idle_read()),
            (Deadline::IdleWrite, self.config.idle_write()),
            (Deadline::IdleBoth, self.config.idle_both()),
            (Deadline::Idle, self.config.idle_timeout()),
            (Deadline::Heartbeat, heartbeat),
        ];
        for (deadline, period) in periods {
            if let Some(period) = period {
                self.deadlines.set(deadline, self.now + period);
            }
        }
    }

    /// Begins a graceful end for `reason`.
    pub(super) fn wind_down(&mut self, reason: CloseReason, drain: bool) {
        self.reason = Some(Box::new(reason));
        self.status.pending &= pending::OPEN | pending::FLUSHED | pending::ENCODING;
        self.deadlines.clear_all();
        self.deadlines.set(Deadline::Close, self.now + self.config.close_timeout());
        self.status.phase = Phase::Draining;
        if !drain {
            self.end_drain();
        }
    }

    /// Ends the delivery of messages.
    pub(super) fn end_drain(&mut self) {
        match self.status.phase {
            Phase::Draining => {
                self.status.phase = Phase::Flushing;
                self.pong_waits = false;
                self.status.dues.remove(Due::Pong);
                self.status.dues.remove(Due::Ping);
                if std::mem::take(&mut self.awaits_verdict) {
                    self.status.dues.add(Due::Refuse);
                }
                if self.closes {
                    self.status.dues.add(Due::Close);
                }
                self.await_peer(self.closes);
                match self.status.sending {
                    Sending::Open => self.layer_ends = self.layer != LayerState::None,
                    Sending::Ending => {}
                    Sending::Ended => self.await_eof(),
                }
            }
            Phase::LastMessages if self.layer_wants_write => self.flush_layer(),
            Phase::LastMessages => self.end(),
            _ => self.await_peer(false),
        }
    }

    /// Ends receiving and sending. Whole messages already received are still delivered.
    pub(super) fn deliver_last(&mut self, reason: CloseReason) {
        self.reason = Some(Box::new(reason));
        self.deadlines.clear_all();
        self.status.pending &= pending::OPEN | pending::FLUSHED;
        self.status.phase = Phase::LastMessages;
        if self.status.paused
            || !self.layer_waits && self.buffers.as_ref().is_none_or(|b| b.received.is_empty())
        {
            self.end_drain();
        }
    }

    /// Handles that this side of the stream has been ended.
    pub(super) fn handle_shutdown(&mut self, now: Timestamp) {
        self.advance_time(now);
        self.replying = false;
        if self.wants_shutdown() {
            self.status.sending = Sending::Ended;
            if self.status.phase == Phase::Flushing {
                self.await_eof();
            }
        }
    }

    /// Ends this side: only the peer's is left.
    fn await_eof(&mut self) {
        self.status.phase = Phase::HalfClosed;
        if self.status.read_ended {
            self.end();
        }
    }

    /// Writes the failed layer's last bytes, then ends.
    pub(super) fn flush_layer(&mut self) {
        if self.layer_wants_write && self.status.sending != Sending::Ended {
            self.status.phase = Phase::Flushing;
            self.status.dues.clear();
            self.await_peer(false);
        } else {
            self.end();
        }
    }

    pub(super) fn end(&mut self) {
        self.discard_output();
        self.status.dues.clear();
        if let Some(buffers) = &mut self.buffers {
            buffers.reset();
        }
        self.inbox.reset();
        self.deadlines.clear_all();
        self.status.pending &= pending::FLUSHED;
        self.status.phase = Phase::Closed;
    }

    pub(super) fn take_closed<T>(&mut self) -> Event<T> {
        self.status.phase = Phase::Ended;
        self.status.pending = 0;
        if !self.lent {
            self.buffers = None;
        }
        let reason = self.reason.take().unwrap_or_else(|| Box::new(CloseReason::Local { flushed: false }));
        Event::Closed(reason)
    }
}
