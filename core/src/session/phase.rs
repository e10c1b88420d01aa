//! [`Phase`]: where a session is in its life. All transitions are here, and know neither side nor protocol.
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

use super::due::Due;
use super::layering::LayerState;
use super::state::State;
use crate::close::CloseReason;
use crate::deadline::Deadline;
use crate::event::Event;
use crate::pending;
use crate::time::Timestamp;

/// Where a session is in its life. The order of the variants is the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
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

/// The sending side of an open session, whose receiving side goes on: see `Session::half_close`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    Open,
    /// It ends once all that was accepted is written.
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
    /// The session is open from now on.
    pub(super) fn open(&mut self) {
        self.phase = Phase::Open;
        self.pending |= pending::OPEN;
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
        self.pending &= pending::OPEN | pending::FLUSHED;
        self.deadlines.clear_all();
        self.deadlines.set(Deadline::Close, self.now + self.config.close_timeout());
        self.phase = Phase::Draining;
        if !drain {
            self.end_drain();
        }
    }

    /// Nothing more is delivered.
    pub(super) fn end_drain(&mut self) {
        match self.phase {
            Phase::Draining => {
                self.phase = Phase::Flushing;
                self.pong_waits = false;
                self.dues.remove(Due::Pong);
                self.dues.remove(Due::Ping);
                if std::mem::take(&mut self.awaits_verdict) {
                    self.dues.add(Due::Refuse);
                }
                if self.closes {
                    self.dues.add(Due::Close);
                }
                self.await_peer(self.closes);
                match self.sending {
                    Sending::Open => self.layer_ends = self.layer != LayerState::None,
                    Sending::Ending => {}
                    Sending::Ended => self.await_eof(),
                }
            }
            Phase::LastMessages if self.layer_speaks => self.flush_last_word(),
            Phase::LastMessages => self.end(),
            _ => self.await_peer(false),
        }
    }

    /// Nothing more can be received or sent. Whole messages that had come before are still delivered.
    pub(super) fn deliver_last(&mut self, reason: CloseReason) {
        self.reason = Some(Box::new(reason));
        self.deadlines.clear_all();
        self.pending &= pending::OPEN | pending::FLUSHED;
        self.phase = Phase::LastMessages;
        if self.paused || self.buffers.as_ref().is_none_or(|b| b.received.is_empty()) {
            self.end_drain();
        }
    }

    /// Our side of the stream has been ended.
    pub(super) fn handle_shutdown(&mut self, now: Timestamp) {
        self.clock(now);
        self.answering = false;
        if self.wants_shutdown() {
            self.sending = Sending::Ended;
            if self.phase == Phase::Flushing {
                self.await_eof();
            }
        }
    }

    /// Our side is ended: what is left is the peer's.
    fn await_eof(&mut self) {
        self.phase = Phase::HalfClosed;
        if self.read_ended {
            self.end();
        }
    }

    /// Writes what the failed layer has to say, then ends.
    pub(super) fn flush_last_word(&mut self) {
        if self.layer_speaks {
            self.phase = Phase::Flushing;
            self.dues.clear();
            self.await_peer(false);
        } else {
            self.end();
        }
    }

    pub(super) fn end(&mut self) {
        self.discard_output();
        self.dues.clear();
        if let Some(buffers) = &mut self.buffers {
            buffers.reset();
        }
        self.inbox.reset();
        self.deadlines.clear_all();
        self.pending &= pending::FLUSHED;
        self.phase = Phase::Closed;
    }

    pub(super) fn take_closed<T>(&mut self) -> Event<T> {
        self.phase = Phase::Ended;
        self.pending = 0;
        if !self.lent {
            self.buffers = None;
        }
        let reason = self.reason.take().unwrap_or_else(|| Box::new(CloseReason::Local { flushed: false }));
        Event::Closed(reason)
    }
}
