//! [`PacketState`]: the part of a datagram session that is independent of the codec.

use std::net::SocketAddr;
use std::sync::Arc;

use super::activity::{Activity, IDLE_TIMEOUT, Periods};
use super::compat::{CONNECT_PING, FirstOf};
use super::drops::Drops;
use super::inbox::Inbox;
use super::outgoing::{Outgoing, weight};
use super::{DropReason, PacketOptions, Path, RecvBatch};
use crate::close::{Close, CloseReason};
use crate::config::Config;
use crate::deadline::{Deadline, Idle};
use crate::error::{IoFailure, SendError};
use crate::event::Event;
use crate::pending;
use crate::stats::{Accepted, Progress, Seq, Stats};
use crate::time::Timestamp;

/// The codec-independent state.
#[derive(Debug)]
pub(super) struct PacketState {
    pub(super) config: Arc<Config>,
    pub(super) options: PacketOptions,
    pub(super) inbox: Inbox,
    pub(super) outgoing: Outgoing,
    pub(super) activity: Activity,
    pub(super) periods: Periods,
    pub(super) drops: Drops,
    pub(super) now: Timestamp,
    pub(super) phase: Phase,
    pub(super) reason: Option<Box<CloseReason>>,
    /// The time of the next check of periods.
    pub(super) check_at: Option<Timestamp>,
    /// The latest end of a graceful close.
    pub(super) close_at: Option<Timestamp>,
    /// The path of the message polled last.
    pub(super) path: Option<Path>,
    /// The path of the datagram being decoded.
    pub(super) begun: Option<Path>,
    /// Messages delivered, accepted for sending, and taken or refused by the socket.
    pub(super) messages: u64,
    pub(super) accepted: u64,
    pub(super) flushed: u64,
    pub(super) refused: u64,
    /// Datagrams taken by the socket.
    pub(super) sent: u64,
    pub(super) flush_wanted: Option<u64>,
    /// The peers that have sent something; only for Go getty's `connect-ping`.
    pub(super) seen: Option<FirstOf>,
    /// Whether the first datagram in the queue is a `connect-ping`, not a message.
    pub(super) ping_ahead: bool,
    pub(super) pending: u16,
    pub(super) paused: bool,
    /// Replies exceeded the high watermark and are not yet down to the low one: nothing is delivered.
    pub(super) blocked: bool,
    /// A message was polled last: messages sent now are replies.
    pub(super) replying: bool,
    /// A message was refused for lack of room.
    pub(super) writable_wanted: bool,
}

/// The phase of a session's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Received datagrams are delivered and may be replied to, nothing is read; then flushing follows.
    Draining,
    /// Queued datagrams are sent.
    Flushing,
    /// Ended, not reported yet.
    Closed,
    /// Ended and reported.
    Ended,
}

/// The result of beginning the next datagram.
pub(super) enum Begun {
    Datagram,
    Dropped,
    /// No datagram is left.
    None,
}

impl PacketState {
    pub(super) fn new(options: PacketOptions, config: Arc<Config>, now: Timestamp) -> Self {
        let mut state = PacketState {
            options,
            inbox: Inbox::default(),
            outgoing: Outgoing::default(),
            activity: Activity::new(now),
            periods: Periods::new(&config, now),
            drops: Drops::default(),
            now,
            phase: Phase::Open,
            reason: None,
            check_at: None,
            close_at: None,
            path: None,
            begun: None,
            messages: 0,
            accepted: 0,
            flushed: 0,
            refused: 0,
            sent: 0,
            flush_wanted: None,
            seen: options.getty_compat.then(|| FirstOf::new(options.connected)),
            ping_ahead: false,
            pending: pending::OPEN,
            paused: false,
            blocked: false,
            replying: false,
            writable_wanted: false,
            config,
        };
        state.check_periods();
        if options.getty_compat && options.connected {
            state.outgoing.buffer().extend_from_slice(CONNECT_PING);
            state.outgoing.push(None, CONNECT_PING.len(), false);
            state.ping_ahead = true;
        }
        state
    }

    /// Advances the time, which never goes back.
    pub(super) fn advance_time(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        // A report that is due is returned by polling.
        let report_at = self.drops.report_at().filter(|&at| at > self.now);
        [self.check_at, self.close_at, report_at].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        self.advance_time(now);
        if self.check_at.is_some_and(|at| at <= self.now) {
            self.check_periods();
        }
        if self.close_at.is_some_and(|at| at <= self.now) {
            self.close_at = None;
            let reason = self.reason.take().map_or(CloseReason::Timeout(Deadline::Close), |reason| *reason);
            self.finish(reason);
        }
    }

    /// Checks the periods.
    fn check_periods(&mut self) {
        let readable_since = if self.is_suspended() { self.now } else { Timestamp::ORIGIN };
        let (due, next) = self.periods.expire(&mut self.activity, &self.config, self.now, readable_since);
        self.check_at = next;
        self.pending |= due & !IDLE_TIMEOUT;
        // A session for all peers of a socket does not end because all of them are silent.
        if due & IDLE_TIMEOUT != 0 && self.options.connected && self.phase == Phase::Open {
            self.reason = Some(Box::new(CloseReason::Timeout(Deadline::Idle)));
            self.close_at = Some(self.now + self.config.close_timeout());
            self.flush();
        }
    }

    /// Whether received datagrams are kept for decoding.
    pub(super) fn keeps_input(&self) -> bool {
        self.phase == Phase::Open
    }

    pub(super) fn takes_messages(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Draining)
    }

    /// Whether no peer can be blamed for silence.
    pub(super) fn is_suspended(&self) -> bool {
        self.paused || self.blocked
    }

    #[inline]
    pub(super) fn may_deliver(&self) -> bool {
        self.pending == 0 && !self.is_suspended() && self.takes_messages()
    }

    #[inline]
    pub(super) fn wants_poll(&self) -> bool {
        let report = || self.drops.is_due(self.now);
        self.pending != 0
            || match self.phase {
                Phase::Open => !self.is_suspended() && !self.inbox.is_empty() || report(),
                // Polled also to notice that the drain is complete.
                Phase::Draining => self.paused || !self.blocked || self.inbox.is_empty() || report(),
                Phase::Flushing => report(),
                Phase::Closed => true,
                Phase::Ended => false,
            }
    }

    pub(super) fn begin_batch(&mut self, mut batch: RecvBatch) {
        batch.lend(&mut self.outgoing);
        self.inbox.batch = Some(batch);
    }

    pub(super) fn take_batch(&mut self) -> Option<RecvBatch> {
        let mut batch = self.inbox.take_batch()?;
        batch.take_back(&mut self.outgoing);
        Some(batch)
    }

    /// Begins the next datagram of the batch.
    #[inline]
    pub(super) fn begin_datagram(&mut self) -> Begun {
        let Some((path, bytes, problem)) = self.inbox.begin(&self.config) else { return Begun::None };
        self.activity.count_received(self.now, bytes);
        self.begun = Some(path);
        let is_first = self.seen.as_mut().is_some_and(|seen| seen.is_first(path.peer));
        let is_ping = is_first && self.inbox.datagram() == CONNECT_PING;
        let problem = problem.or_else(|| is_ping.then_some(DropReason::ConnectPing));
        match problem {
            None => Begun::Datagram,
            Some(reason) => {
                self.inbox.skip();
                self.drops.count(Some(path.peer), reason);
                Begun::Dropped
            }
        }
    }

    /// The peer whose datagram is being decoded.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.begun.map(|path| path.peer)
    }

    #[inline]
    pub(super) fn end_reply(&mut self) {
        self.replying = false;
        self.path = None;
    }

    /// Whether a message of `bytes` may be accepted now.
    #[inline]
    pub(super) fn has_room(&self, bytes: usize, limit: usize) -> bool {
        let queued = self.outgoing.weight();
        let counted = if self.replying { self.outgoing.replies() } else { queued };
        self.takes_messages()
            && bytes <= limit
            && (counted <= self.config.high_watermark()
                || queued.saturating_add(weight(bytes)) <= self.config.max_queued())
    }

    /// The error for an `item` of `bytes` bytes that there is no room for.
    #[cold]
    pub(super) fn refuse<T>(&mut self, item: T, bytes: usize, limit: usize) -> SendError<T> {
        if !self.takes_messages() {
            SendError::Closed(item)
        } else if bytes > limit {
            self.refused += 1;
            SendError::TooLarge { item, bytes, limit }
        } else {
            self.writable_wanted = true;
            SendError::Blocked(item)
        }
    }

    /// Makes a message to send of the last `bytes` bytes of the outgoing buffer.
    #[inline]
    pub(super) fn accept(&mut self, path: Option<Path>, bytes: usize) -> Accepted {
        self.outgoing.push(path, bytes, self.replying);
        self.accepted += 1;
        self.blocked |= self.outgoing.replies() > self.config.high_watermark();
        Accepted::new(Seq::new(self.accepted).unwrap_or(Seq::FIRST), bytes)
    }

    pub(super) fn handle_sent(&mut self, now: Timestamp, n: usize) {
        self.advance_time(now);
        for _ in 0..n {
            let Some((_, bytes)) = self.outgoing.pop() else { break };
            self.activity.count_sent(self.now, bytes);
            self.sent += 1;
            self.count_flushed();
        }
        self.on_drained();
    }

    pub(super) fn handle_unsent(&mut self, now: Timestamp, failure: IoFailure) -> Option<Seq> {
        self.advance_time(now);
        let (path, _) = self.outgoing.pop()?;
        let message = self.count_flushed();
        self.drops.count(path.map(|path| path.peer), DropReason::Unsent(failure));
        self.on_drained();
        message
    }

    /// Counts the first datagram as done. Returns its message.
    fn count_flushed(&mut self) -> Option<Seq> {
        if std::mem::take(&mut self.ping_ahead) {
            return None;
        }
        self.flushed += 1;
        Seq::new(self.flushed)
    }

    /// Handles an increase of room in the queue.
    fn on_drained(&mut self) {
        let low = self.config.low_watermark();
        if self.outgoing.replies() <= low && std::mem::take(&mut self.blocked) {
            self.periods.restart_reading(self.now);
        }
        if self.writable_wanted && self.outgoing.weight() <= low && self.takes_messages() {
            self.writable_wanted = false;
            self.pending |= pending::WRITABLE;
        }
        self.check_flushed();
        if self.outgoing.is_empty() {
            self.shrink();
            if self.phase == Phase::Flushing {
                self.end_flush();
            }
        }
    }

    /// Frees memory if nothing waits to be sent. Memory lent by a batch is returned to it.
    pub(super) fn shrink(&mut self) {
        if self.outgoing.is_empty() && self.inbox.batch.is_none() {
            self.outgoing.clear();
        }
    }

    pub(super) fn check_flushed(&mut self) {
        if self.flush_wanted.is_some_and(|wanted| wanted <= self.flushed) && self.phase != Phase::Ended {
            self.flush_wanted = None;
            self.pending |= pending::FLUSHED;
        }
    }

    pub(super) fn close(&mut self, now: Timestamp, how: Close) {
        self.advance_time(now);
        let (graceful, drain, reason) = how.into_parts();
        match self.phase {
            Phase::Closed | Phase::Ended => return,
            _ if !graceful => return self.finish(reason.unwrap_or(CloseReason::Local { flushed: false })),
            Phase::Open => {}
            // After a close without drain, nothing more is delivered.
            Phase::Draining if !drain => return self.flush(),
            Phase::Draining | Phase::Flushing => return,
        }
        self.reason = reason.map(Box::new);
        self.close_at = Some(self.now + self.config.close_timeout());
        if drain && !self.paused && !self.inbox.is_empty() {
            self.phase = Phase::Draining;
        } else {
            self.flush();
        }
    }

    /// Goes on to flushing once all received datagrams are delivered.
    #[inline]
    pub(super) fn end_drain(&mut self) {
        if self.phase == Phase::Draining && (self.inbox.is_empty() || self.paused) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.inbox.clear();
        self.phase = Phase::Flushing;
        if self.outgoing.is_empty() {
            self.end_flush();
        }
    }

    fn end_flush(&mut self) {
        let reason = self.reason.take().map_or(CloseReason::Local { flushed: true }, |reason| *reason);
        self.finish(reason);
    }

    /// Ends the session and drops everything left.
    pub(super) fn finish(&mut self, reason: CloseReason) {
        if matches!(self.phase, Phase::Closed | Phase::Ended) {
            return;
        }
        self.phase = Phase::Closed;
        self.reason = Some(Box::new(reason));
        (self.check_at, self.close_at) = (None, None);
        self.inbox.clear();
        self.outgoing.clear();
        self.drops.forget_report();
        self.pending &= pending::OPEN | pending::FLUSHED;
    }

    pub(super) fn take_closed<T>(&mut self) -> Event<T> {
        self.phase = Phase::Ended;
        Event::Closed(self.reason.take().unwrap_or_else(|| Box::new(CloseReason::Local { flushed: false })))
    }

    /// Takes the next pending event, which exists.
    #[inline(never)]
    pub(super) fn pending_event<T>(&mut self) -> Event<T> {
        let flushed = Seq::new(self.flushed).unwrap_or(Seq::FIRST);
        let (bit, event) = match self.pending {
            bits if bits & pending::OPEN != 0 => (pending::OPEN, Event::Open(Box::default())),
            bits if bits & pending::FLUSHED != 0 => (pending::FLUSHED, Event::Flushed(flushed)),
            bits if bits & pending::WRITABLE != 0 => (pending::WRITABLE, Event::Writable),
            bits if bits & pending::CRON != 0 => (pending::CRON, Event::Cron),
            bits if bits & pending::IDLE_READ != 0 => (pending::IDLE_READ, Event::Idle(Idle::Read)),
            bits if bits & pending::IDLE_WRITE != 0 => (pending::IDLE_WRITE, Event::Idle(Idle::Write)),
            _ => (pending::IDLE_BOTH, Event::Idle(Idle::Both)),
        };
        self.pending &= !bit;
        event
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            received: self.activity.received(self.messages),
            sent: self.activity.sent(self.accepted, self.sent),
            queued: self.outgoing.queued(),
            buffered: 0,
            refused: self.refused,
            progress: Progress {
                accepted: Seq::new(self.accepted),
                flushed: Seq::new(self.flushed),
                partly_written: false,
                unknown: None,
            },
        }
    }
}
