//! [`Host`]: a session, as its protocol sees it.

use super::due::Due;
use super::phase::Phase;
use super::state::State;
#[cfg(feature = "websocket")]
use crate::close::CloseFrame;
use crate::close::CloseReason;
use crate::codec::Sink;
use crate::config::Config;
use crate::deadline::Deadline;
use crate::pending;
use crate::time::Timestamp;

/// The view of a session that its protocol works with. It gives no access to the session's own state.
#[doc(hidden)]
#[derive(Debug)]
pub struct Host<'a> {
    state: &'a mut State,
}

/// What the protocol is like. To be said in [`begin`](super::Protocol::begin).
impl<'a> Host<'a> {
    pub(super) fn new(state: &'a mut State) -> Self {
        Host { state }
    }

    /// It opens with a handshake, within the handshake's deadline: the session is open once [`opened`](Self::opened) is
    /// called. `speaks_first` asks for [`Due::Handshake`].
    pub fn opens(&mut self, speaks_first: bool) {
        let State { config, deadlines, now, .. } = &mut *self.state;
        deadlines.set(Deadline::Handshake, *now + config.handshake_timeout());
        self.state.opens = true;
        if speaks_first {
            self.state.dues.add(Due::Handshake);
        }
    }

    /// It pings: [`Due::Ping`] comes with each heartbeat.
    pub fn pings(&mut self) {
        self.state.pings = true;
    }

    /// It closes with a handshake: [`Due::Close`] comes with each end, also after a panic, and a stream that ends without
    /// one was cut off.
    pub fn closes(&mut self) {
        self.state.closes = true;
    }
}

/// Facts.
impl Host<'_> {
    pub fn now(&self) -> Timestamp {
        self.state.now
    }

    pub fn config(&self) -> &Config {
        &self.state.config
    }

    /// Why the session ends, if it does.
    pub fn reason(&self) -> Option<&CloseReason> {
        self.state.reason.as_deref()
    }

    /// Whether the peer has ended its stream.
    pub fn read_ended(&self) -> bool {
        self.state.read_ended
    }

    /// Whether no more is queued than a ping or its answer may wait behind.
    pub fn has_room(&self) -> bool {
        self.state.outbox.queued() <= self.state.config.low_watermark()
    }

    /// The close frame that the application asked for, once.
    #[cfg(feature = "websocket")]
    pub fn take_close_frame(&mut self) -> Option<Box<CloseFrame>> {
        self.state.close_frame.take()
    }
}

/// What the protocol does.
impl Host<'_> {
    /// Queues what `write` writes as the protocol's own, unless the transport has failed.
    pub fn write(&mut self, write: impl FnOnce(&mut Sink<'_>)) {
        let state = &mut *self.state;
        if state.phase == Phase::LastMessages {
            return;
        }
        let buffers = state.buffers.get_or_insert_default();
        let mut sink = Sink::queue(&mut buffers.segments, usize::MAX);
        write(&mut sink);
        let bytes = sink.written();
        if state.outbox.is_empty() {
            state.waiting_since = None;
        }
        state.outbox.accept_control(buffers, bytes);
    }

    /// The peer's request waits for the application's answer. If the session ends before, [`Due::Refuse`] comes.
    #[cfg(feature = "websocket")]
    pub fn ask(&mut self) {
        self.state.awaits_verdict = true;
        self.state.pending |= pending::REQUEST;
    }

    /// The request was answered.
    #[cfg(feature = "websocket")]
    pub fn answered(&mut self) {
        self.state.awaits_verdict = false;
    }

    /// The opening handshake is done.
    pub fn opened(&mut self) {
        self.state.open();
    }

    /// The session ends for `reason`.
    pub fn fail(&mut self, reason: CloseReason) {
        self.state.wind_down(reason, false);
    }

    /// [`Due::Pong`] is to come once there is room.
    pub fn defer_pong(&mut self) {
        self.state.pong_waits = true;
    }

    /// A ping was written: its answer has a deadline, unless an earlier one that nothing has come since has.
    pub fn ping_sent(&mut self) {
        let state = &mut *self.state;
        let Some(period) = state.config.pong_timeout() else { return };
        let unanswered = state.deadlines.at(Deadline::Pong).is_some_and(|at| state.read_since + period <= at);
        if !unanswered {
            state.deadlines.set(Deadline::Pong, state.now + period);
        }
    }

    /// The ping that was written at `sent` was answered.
    pub fn pong_received(&mut self, sent: Timestamp) {
        let state = &mut *self.state;
        state.deadlines.clear(Deadline::Pong);
        state.rtt = state.now.saturating_duration_since(sent);
        if state.phase == Phase::Open {
            state.pending |= pending::PONG;
        }
    }

    /// The peer wrote its part of the closing handshake, and `reason` is why. `waits` says that it has the last word, if
    /// this side's part is written.
    pub fn closed_by_peer(&mut self, reason: CloseReason, waits: bool) {
        self.state.close_agreed = true;
        match self.state.phase {
            Phase::Open => self.state.wind_down(reason, false),
            Phase::Flushing => self.state.await_peer(waits),
            _ => self.state.end_drain(),
        }
    }

    /// This side's part of the closing handshake is written, or can't be. `waits` says that the peer has something to say
    /// yet that the protocol must hear.
    pub fn wait_for_peer(&mut self, waits: bool) {
        self.state.await_peer(waits);
    }
}
