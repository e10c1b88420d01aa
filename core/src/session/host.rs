//! [`Host`]: the protocol's view of its session.

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

/// A protocol's view of its session. It gives no access to the session's own state.
#[doc(hidden)]
#[derive(Debug)]
pub struct Host<'a> {
    state: &'a mut State,
}

/// Declarations of the protocol, made in [`begin`](super::Protocol::begin).
impl<'a> Host<'a> {
    pub(super) fn new(state: &'a mut State) -> Self {
        Host { state }
    }

    /// Declares that the protocol opens with a handshake, within the handshake's deadline: the session is
    /// open once [`opened`](Self::opened) is called. `speaks_first` requests [`Due::Handshake`].
    pub fn opens(&mut self, speaks_first: bool) {
        let State { config, deadlines, now, .. } = &mut *self.state;
        deadlines.set(Deadline::Handshake, *now + config.handshake_timeout());
        self.state.opens = true;
        if speaks_first {
            self.state.status.dues.add(Due::Handshake);
        }
    }

    /// Declares that the protocol pings: [`Due::Ping`] comes with each heartbeat.
    pub fn pings(&mut self) {
        self.state.pings = true;
    }

    /// Declares that the protocol closes with a handshake: [`Due::Close`] comes with each end, even after a
    /// panic. A stream that ends without the handshake was cut off.
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

    /// The reason why the session ends, once it is closing.
    pub fn reason(&self) -> Option<&CloseReason> {
        self.state.reason.as_deref()
    }

    /// Whether the peer has ended its stream.
    pub fn read_ended(&self) -> bool {
        self.state.status.read_ended
    }

    /// Whether the queue is short enough for a ping or pong to wait behind it.
    pub fn has_room(&self) -> bool {
        self.state.outbox.queued() <= self.state.config.low_watermark()
    }

    /// Takes the close frame that the application asked for.
    #[cfg(feature = "websocket")]
    pub fn take_close_frame(&mut self) -> Option<Box<CloseFrame>> {
        self.state.close_frame.take()
    }
}

/// Actions of the protocol.
impl Host<'_> {
    /// Queues what `write` writes as control bytes, unless the transport has failed.
    pub fn write(&mut self, write: impl FnOnce(&mut Sink<'_>)) {
        let state = &mut *self.state;
        if state.status.phase == Phase::LastMessages {
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

    /// Marks the peer's request as waiting for the application's verdict. If the session ends before,
    /// [`Due::Refuse`] comes.
    #[cfg(feature = "websocket")]
    pub fn ask(&mut self) {
        self.state.awaits_verdict = true;
        self.state.status.pending |= pending::REQUEST;
    }

    /// Marks the request as answered.
    #[cfg(feature = "websocket")]
    pub fn responded(&mut self) {
        self.state.awaits_verdict = false;
    }

    /// Completes the opening handshake.
    pub fn opened(&mut self) {
        self.state.open();
    }

    /// Ends the session for `reason`.
    pub fn fail(&mut self, reason: CloseReason) {
        self.state.wind_down(reason, false);
    }

    /// Requests [`Due::Pong`] once there is room.
    pub fn defer_pong(&mut self) {
        self.state.pong_waits = true;
    }

    /// Starts the deadline of a written ping, unless an earlier ping's deadline runs and nothing has come
    /// since.
    pub fn ping_sent(&mut self) {
        let state = &mut *self.state;
        let Some(period) = state.config.pong_timeout() else { return };
        let unanswered = state.deadlines.at(Deadline::Pong).is_some_and(|at| state.read_since + period <= at);
        if !unanswered {
            state.deadlines.set(Deadline::Pong, state.now + period);
        }
    }

    /// Records the answer to the ping written at `sent`.
    pub fn pong_received(&mut self, sent: Timestamp) {
        let state = &mut *self.state;
        state.deadlines.clear(Deadline::Pong);
        state.rtt = state.now.as_nanos().saturating_sub(sent.as_nanos());
        if state.status.phase == Phase::Open {
            state.status.pending |= pending::PONG;
        }
    }

    /// Records the peer's part of the closing handshake, which came for `reason`. `waits`: once this side's
    /// part is written, the peer has the last word.
    pub fn closed_by_peer(&mut self, reason: CloseReason, waits: bool) {
        self.state.close_agreed = true;
        match self.state.status.phase {
            Phase::Open => self.state.wind_down(reason, false),
            Phase::Flushing => self.state.await_peer(waits),
            _ => self.state.end_drain(),
        }
    }

    /// Records that this side's part of the closing handshake is written, or can't be. `waits`: the protocol
    /// has to read more from the peer.
    pub fn wait_for_peer(&mut self, waits: bool) {
        self.state.await_peer(waits);
    }
}
