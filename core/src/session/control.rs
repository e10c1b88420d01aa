//! What a protocol with handshakes and control frames of its own needs of its session.

use super::Phase;
use super::inner::Inner;
use crate::close::CloseReason;
use crate::codec::Sink;
use crate::config::Config;
use crate::deadline::Deadline;
use crate::pending;
use crate::time::Timestamp;

impl Inner {
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn reason(&self) -> Option<&CloseReason> {
        self.reason.as_deref()
    }

    pub(crate) fn add_pending(&mut self, event: u16) {
        self.pending |= event;
    }

    /// The session opens with a handshake; `writes` says that this side begins it.
    pub(crate) fn begin_handshake(&mut self, writes: bool) {
        self.shakes_hands = true;
        self.due = writes;
        self.deadlines.set(Deadline::Handshake, self.now + self.config.handshake_timeout());
    }

    /// A ping was sent: watches over its answer, or goes on watching over an earlier one that nothing has come since.
    pub(crate) fn watch_pong(&mut self) {
        let Some(period) = self.config.pong_timeout() else { return };
        let unanswered = self.deadlines.at(Deadline::Pong).is_some_and(|at| self.read_since + period <= at);
        if !unanswered {
            self.deadlines.set(Deadline::Pong, self.now + period);
        }
    }

    /// The ping that was sent at `sent` was answered.
    pub(crate) fn pong_came(&mut self, sent: Timestamp) {
        self.deadlines.clear(Deadline::Pong);
        self.rtt = self.now.saturating_duration_since(sent);
        if self.phase == Phase::Open {
            self.pending |= pending::PONG;
        }
    }

    /// Queues what `write` writes as the protocol's own, unless the transport has failed.
    pub(crate) fn write_control(&mut self, write: impl FnOnce(&mut Sink<'_>)) {
        if self.phase == Phase::LastMessages {
            return;
        }
        let buffers = self.buffers.get_or_insert_default();
        let mut sink = Sink::queue(&mut buffers.segments, usize::MAX);
        write(&mut sink);
        let bytes = sink.written();
        if self.outbox.is_empty() {
            self.waiting_since = None;
        }
        self.outbox.accept_control(buffers, bytes);
    }

    /// Whether there is room for what the protocol says of its own accord.
    pub(crate) fn has_room_for_control(&self) -> bool {
        self.outbox.queued() <= self.config.low_watermark()
    }
}
