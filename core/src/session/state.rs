//! [`State`]: the part of a session that does not depend on its protocol.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::buf::Limit;
use bytes::{BufMut, BytesMut};

use super::deadlines::Deadlines;
use super::due::Due;
use super::inbox::Inbox;
use super::layering::LayerState;
use super::outbox::Outbox;
use super::phase::{Phase, Sending};
use super::protocol::Found;
use super::status::Status;
#[cfg(feature = "websocket")]
use crate::close::CloseFrame;
use crate::close::CloseReason;
use crate::config::Config;
use crate::copy;
use crate::deadline::{Deadline, Idle};
use crate::error::{DecoderFault, SendError};
use crate::event::Event;
use crate::memory::{Buffers, READ_ARENA};
use crate::pending;
use crate::stats::{Flow, Seq, Stats};
use crate::time::Timestamp;

/// The smallest step by which a session's own receive buffer grows.
pub(super) const READ_STEP: usize = 4 * 1024;

/// A deadline handled later than this was not checked in time: the machine slept or was busy.
const LATE: Duration = Duration::from_millis(100);

/// All of a session that does not depend on its protocol. What a turn touches comes first, so that it lies in
/// few cache lines: with many sessions, none of it is in the first-level cache.
#[derive(Debug)]
#[repr(C)]
pub(super) struct State {
    pub(super) status: Status,
    pub(super) buffers: Option<Box<Buffers>>,
    pub(super) config: Arc<Config>,
    pub(super) inbox: Inbox,
    pub(super) outbox: Outbox,
    pub(super) now: Timestamp,
    pub(super) last_active: Timestamp,
    /// Start of the quiet time in reading: the last bytes, or the end of a pause.
    pub(super) read_since: Timestamp,
    pub(super) received_at: Timestamp,
    /// Start of the quiet time in writing.
    pub(super) write_since: Timestamp,
    /// Start of the time that queued bytes wait for the transport; `None` until it was first asked to take
    /// them.
    pub(super) waiting_since: Option<Timestamp>,
    pub(super) received: Counted,
    pub(super) sent: Counted,
    /// Messages delivered to the application.
    pub(super) delivered: u64,
    /// Decoded frames that were not messages, plus a layer's work, counted as frames.
    pub(super) other_frames: u64,
    pub(super) flush_wanted: Option<Seq>,
    /// The session's own buffers, kept for leftovers while it works in lent ones.
    pub(super) spare: Option<Box<Buffers>>,
    /// The weight of the message polled last. More than 4 GiB counts as 4 GiB.
    pub(super) weight: u32,
    pub(super) lent: bool,
    /// The last poll returned a message, so what is sent now is a reply to it.
    pub(super) replying: bool,
    /// The state of the layer between protocol and wire.
    pub(super) layer: LayerState,
    /// The layer has more to unseal than there was room for.
    pub(super) layer_waits: bool,
    /// What was decoded may have begun a message in several frames or parts, and `Inbox::watch_message` was
    /// not asked since.
    pub(super) unwatched: bool,
    /// A pong waits for the queue to shrink.
    pub(super) pong_waits: bool,
    /// A `send` was refused because the queue is full.
    pub(super) writable_wanted: bool,
    pub(super) read_end_reported: bool,
    /// The protocol opens with a handshake.
    pub(super) opens: bool,
    /// The protocol pings.
    pub(super) pings: bool,
    /// The protocol closes with a handshake.
    pub(super) closes: bool,
    /// The opening handshake waits for this side's verdict.
    pub(super) awaits_verdict: bool,
    /// While flushing: the protocol waits for the peer before the sending side is ended.
    pub(super) awaits_peer: bool,
    /// Both sides have agreed to close; a timeout after that changes nothing.
    pub(super) close_agreed: bool,
    /// The layer has bytes for the wire, or may have.
    pub(super) layer_wants_write: bool,
    /// The layer has to be closed before the transport is.
    pub(super) layer_ends: bool,
    /// The transport has ended, which the layer does not know yet.
    pub(super) wire_ended: bool,
    pub(super) deadlines: Deadlines,
    pub(super) reason: Option<Box<CloseReason>>,
    /// The starts of the quiet periods already reported: read, write, both.
    pub(super) idle_reported: [Option<Timestamp>; 3],
    pub(super) refused: u64,
    /// The latest round trip of a ping, in nanoseconds.
    pub(super) rtt: u64,
    /// The close frame to send, if the protocol has one.
    #[cfg(feature = "websocket")]
    pub(super) close_frame: Option<Box<CloseFrame>>,
}

#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) bytes: u64,
    pub(super) operations: u64,
}

impl State {
    pub(super) fn new(config: Arc<Config>, now: Timestamp) -> Self {
        State {
            config,
            buffers: None,
            spare: None,
            reason: None,
            inbox: Inbox::new(),
            outbox: Outbox::default(),
            deadlines: Deadlines::default(),
            now,
            last_active: now,
            read_since: now,
            write_since: now,
            waiting_since: None,
            idle_reported: [None; 3],
            received: Counted::default(),
            delivered: 0,
            received_at: now,
            weight: 0,
            sent: Counted::default(),
            other_frames: 0,
            refused: 0,
            flush_wanted: None,
            rtt: 0,
            #[cfg(feature = "websocket")]
            close_frame: None,
            status: Status::new(),
            lent: false,
            replying: false,
            writable_wanted: false,
            read_end_reported: false,
            pong_waits: false,
            opens: false,
            pings: false,
            closes: false,
            awaits_verdict: false,
            awaits_peer: false,
            close_agreed: false,
            layer: LayerState::None,
            layer_wants_write: false,
            layer_ends: false,
            layer_waits: false,
            unwatched: false,
            wire_ended: false,
        }
    }

    /// The heartbeat period. Go getty pings with its cron, so without a heartbeat the cron period counts.
    pub(super) fn heartbeat_period(&self) -> Option<Duration> {
        let period = self.config.heartbeat_period().or(self.config.cron_period());
        period.filter(|_| self.pings)
    }

    /// Advances the session's time, which never goes back.
    pub(super) fn advance_time(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        self.advance_time(now);
        self.replying = false;
        if self.deadlines.next_at().is_none_or(|at| at > self.now) {
            return;
        }
        for deadline in Deadline::ALL {
            if let Some(due) = self.deadlines.expired(deadline, self.now) {
                self.expire(deadline, due);
            }
        }
    }

    /// Handles that `deadline` has passed: compares it with what happened since, and re-arms it or acts.
    pub(super) fn expire(&mut self, deadline: Deadline, due: Timestamp) {
        self.deadlines.clear(deadline);
        match deadline {
            Deadline::Handshake => self.finish(CloseReason::Timeout(deadline)),
            // It starts afresh once the message is encoded.
            Deadline::Close if self.is_encoding() => {
                self.deadlines.set(deadline, self.now + self.config.close_timeout());
            }
            Deadline::Close => self.close_expired(),
            Deadline::Cron => {
                if let Some(period) = self.config.cron_period() {
                    // Keeps the original rhythm unless it fell behind; missed ticks are not made up for.
                    let next = due + period;
                    self.deadlines.set(deadline, if next > self.now { next } else { self.now + period });
                    self.status.pending |= pending::CRON;
                }
            }
            Deadline::IdleRead => {
                let since = if self.is_suspended() { self.now } else { self.read_since };
                self.expire_idle(Idle::Read, deadline, self.config.idle_read(), since, pending::IDLE_READ);
            }
            Deadline::IdleWrite => {
                let since = self.write_since;
                self.expire_idle(Idle::Write, deadline, self.config.idle_write(), since, pending::IDLE_WRITE);
            }
            Deadline::IdleBoth => {
                let since = self.quiet_since();
                self.expire_idle(Idle::Both, deadline, self.config.idle_both(), since, pending::IDLE_BOTH);
            }
            Deadline::Idle => {
                let Some(period) = self.config.idle_timeout() else { return };
                let at = self.quiet_since() + period;
                if at > self.now {
                    self.deadlines.set(deadline, at);
                } else {
                    self.wind_down(CloseReason::Timeout(deadline), false);
                }
            }
            // Decoding sets it again, if what has come does not complete the frame.
            Deadline::PartialFrame if self.has_undecoded() => {}
            Deadline::PartialFrame => {
                let since = if self.is_suspended() { Some(self.now) } else { self.incomplete_since() };
                let (Some(since), Some(period)) = (since, self.config.partial_frame_timeout()) else {
                    return;
                };
                self.expire_stall(deadline, since + period);
            }
            Deadline::Heartbeat => {
                if let Some(period) = self.heartbeat_period() {
                    self.deadlines.set(deadline, self.now + period);
                    self.status.dues.add(Due::Ping);
                }
            }
            Deadline::Pong => {
                // The deadline was set by a ping. Anything received since counts as the answer, and no later
                // ping waits for one.
                let since = if self.is_suspended() { self.now } else { self.read_since };
                let Some(period) = self.config.pong_timeout() else { return };
                if since + period <= due {
                    self.finish(CloseReason::Timeout(deadline));
                } else if self.is_suspended() {
                    self.deadlines.set(deadline, self.now + period);
                }
            }
            Deadline::WriteStall => {
                let Some(period) = self.config.write_stall_timeout() else { return };
                if self.wants_write() {
                    let since = *self.waiting_since.get_or_insert(self.now);
                    self.expire_stall(deadline, since + period);
                }
            }
        }
    }

    /// The time since which nothing has moved in either direction.
    fn quiet_since(&self) -> Timestamp {
        if self.is_suspended() { self.now } else { self.read_since.max(self.write_since) }
    }

    pub(super) fn expire_idle(
        &mut self,
        idle: Idle,
        deadline: Deadline,
        period: Option<Duration>,
        since: Timestamp,
        event: u16,
    ) {
        let Some(period) = period else { return };
        let at = since + period;
        if at > self.now {
            self.deadlines.set(deadline, at);
            return;
        }
        self.deadlines.set(deadline, self.now + period);
        let reported = &mut self.idle_reported[idle as usize];
        if *reported != Some(since) {
            *reported = Some(since);
            self.status.pending |= event;
        }
    }

    pub(super) fn expire_stall(&mut self, deadline: Deadline, at: Timestamp) {
        if at > self.now {
            self.deadlines.set(deadline, at);
        } else {
            self.finish(CloseReason::Timeout(deadline));
        }
    }

    /// Sets the deadline of an incomplete frame or message when it first stays incomplete.
    pub(super) fn watch_partial(&mut self) {
        let watched = self.status.phase != Phase::Open || self.deadlines.is_set(Deadline::PartialFrame);
        if !self.inbox.is_incomplete() || watched {
            return;
        }
        if let (Some(since), Some(period)) = (self.incomplete_since(), self.config.partial_frame_timeout()) {
            self.deadlines.set(Deadline::PartialFrame, since + period);
        }
    }

    fn incomplete_since(&self) -> Option<Timestamp> {
        self.inbox.incomplete_since(self.buffered(), self.read_since)
    }

    /// Bytes received and not decoded.
    pub(super) fn buffered(&self) -> usize {
        self.buffers.as_ref().map_or(0, |b| b.received.len() + b.layer.wire.waiting())
    }

    /// Whether bytes have come that are not decoded yet and may complete a frame.
    #[inline]
    fn has_undecoded(&self) -> bool {
        let buffered = self.buffers.as_ref().map_or(0, |b| b.received.len());
        self.inbox.is_worth_decoding(buffered) || self.layer_waits
    }

    /// Sets the deadline of queued bytes when the transport first does not take all of them.
    #[inline]
    pub(super) fn watch_stall(&mut self) {
        if self.wants_write() {
            self.watch_stalled();
        }
    }

    fn watch_stalled(&mut self) {
        let watched = self.status.phase != Phase::Open || self.deadlines.is_set(Deadline::WriteStall);
        if watched {
            return;
        }
        if let Some(period) = self.config.write_stall_timeout() {
            let since = self.waiting_since.unwrap_or(self.now);
            self.deadlines.set(Deadline::WriteStall, since + period);
        }
    }

    pub(super) fn pause(&mut self) {
        self.status.paused = true;
        if matches!(self.status.phase, Phase::Draining | Phase::LastMessages) {
            self.end_drain();
        }
    }

    pub(super) fn resume(&mut self, now: Timestamp) {
        self.advance_time(now);
        if std::mem::take(&mut self.status.paused) {
            self.restart_reading();
        }
    }

    /// Restarts the peer's time after reading was suspended.
    pub(super) fn restart_reading(&mut self) {
        self.read_since = self.now;
        self.inbox.restart_partial(self.now);
    }

    /// Whether the peer is not to blame for silence.
    #[inline]
    pub(super) fn is_suspended(&self) -> bool {
        self.status.paused || self.status.blocked || self.is_encoding()
    }

    /// Records that the last message is encoded, or dropped. The time for that was this side's.
    pub(super) fn end_encoding(&mut self) {
        if self.is_encoding() {
            self.status.pending &= !pending::ENCODING;
            self.restart_reading();
            if self.deadlines.is_set(Deadline::Close) {
                self.deadlines.set(Deadline::Close, self.now + self.config.close_timeout());
            }
        }
    }

    /// Whether a message of `bytes` can be accepted now.
    #[inline]
    pub(super) fn has_room(&self, bytes: usize, limit: usize) -> bool {
        let queued = self.outbox.queued();
        let config = &*self.config;
        let counted = if self.replying { self.outbox.replies() } else { queued };
        self.takes_messages()
            && bytes <= limit
            && (counted <= config.high_watermark() || queued.saturating_add(bytes) <= config.max_queued())
    }

    /// Whether an ordinary session has room for a small message of `bytes`, and even with it has no more than
    /// the high watermark queued, so that delivery goes on. A small one is copied, in one step.
    #[inline]
    pub(super) fn has_room_for_small(&self, bytes: usize, limit: usize) -> bool {
        let config = &*self.config;
        (1..=copy::STEP).contains(&bytes)
            && self.status.is_ordinary()
            && bytes <= limit
            && bytes < config.zero_copy_from()
            && self.outbox.queued() + bytes <= config.high_watermark()
    }

    /// The size from which a payload is queued without a copy. A layer seals contiguous bytes as one piece,
    /// and copies them anyway.
    #[inline]
    pub(super) fn zero_copy_from(&self) -> usize {
        if self.has_layer() { usize::MAX } else { self.config.zero_copy_from() }
    }

    /// The reason why there is no room for `item` of `bytes`.
    #[cold]
    pub(super) fn refuse<T>(&mut self, item: T, bytes: usize, limit: usize) -> SendError<T> {
        if self.status.phase == Phase::Opening {
            SendError::NotOpen(item)
        } else if !self.takes_messages() {
            SendError::Closed(item)
        } else if bytes > limit {
            self.refused += 1;
            SendError::TooLarge { item, bytes, limit }
        } else {
            self.writable_wanted = true;
            SendError::Blocked(item)
        }
    }

    /// Handles a failed encoding: removes what the message has written since `mark`.
    #[cold]
    pub(super) fn take_back_encoded<T>(
        &mut self,
        mark: (usize, usize),
        error: Arc<dyn Error + Send + Sync>,
    ) -> SendError<T> {
        if let Some(buffers) = &mut self.buffers {
            buffers.segments.rollback(mark);
        }
        self.refused += 1;
        SendError::Encode(error)
    }

    pub(super) fn takes_messages(&self) -> bool {
        self.status.phase.takes_messages() && self.status.sending == Sending::Open
    }

    /// Whether the message sent last is still being encoded.
    #[inline]
    pub(super) fn is_encoding(&self) -> bool {
        self.status.pending & pending::ENCODING != 0
    }

    /// Takes the next write that the protocol owes. A message that is being encoded goes first.
    #[inline]
    pub(super) fn take_due(&mut self) -> Option<Due> {
        if self.status.dues.is_empty() || self.is_encoding() { None } else { self.status.dues.take() }
    }

    /// Whether received bytes are kept for decoding.
    pub(super) fn keeps_input(&self) -> bool {
        (self.status.phase.delivers() || self.is_handshaking()) && !self.status.read_ended
    }

    /// Whether received bytes belong to the opening or the closing handshake.
    pub(super) fn is_handshaking(&self) -> bool {
        self.status.phase == Phase::Opening || self.status.phase == Phase::Flushing && self.awaits_peer
    }

    /// Whether a request waits for this side's verdict.
    #[cfg(feature = "websocket")]
    pub(super) fn is_asked(&self) -> bool {
        self.status.phase == Phase::Opening && self.awaits_verdict
    }

    /// Whether a part of a handshake can be decoded now.
    pub(super) fn has_handshake_to_decode(&self) -> bool {
        let buffered = self.buffers.as_ref().map_or(0, |b| b.received.len());
        self.is_handshaking()
            && !self.awaits_verdict
            && self.status.dues.is_empty() // what this side writes may end it
            && self.inbox.is_worth_decoding(buffered)
    }

    /// Whether the layer may unseal more of a handshake.
    pub(super) fn may_unseal_handshake(&self) -> bool {
        self.layer_waits && self.is_handshaking() && !self.awaits_verdict && self.status.dues.is_empty()
    }

    /// Whether messages are delivered in this phase.
    pub(super) fn is_delivering(&self) -> bool {
        self.status.phase.delivers()
    }

    /// Whether a message can be delivered now.
    #[inline]
    pub(super) fn may_deliver(&self) -> bool {
        self.status.pending == 0 && !self.is_suspended() && self.is_delivering()
    }

    /// Whether an open session has nothing buffered and is between messages, so that there is nothing to
    /// decode, to watch or to end.
    #[inline]
    pub(super) fn has_nothing_to_decode(&self) -> bool {
        self.status.is_ordinary()
            && self.buffers.as_ref().is_none_or(|b| b.received.is_empty())
            && !(self.unwatched | self.inbox.is_incomplete())
            && (!self.has_layer() || self.layer_has_nothing())
    }

    #[inline]
    pub(super) fn wants_poll(&self) -> bool {
        if self.status.is_ordinary() { self.has_undecoded() } else { self.wants_poll_otherwise() }
    }

    #[inline(never)]
    fn wants_poll_otherwise(&self) -> bool {
        let quiet = match self.status.phase {
            Phase::Open => {
                let decodable = self.has_undecoded() || self.is_at_read_end();
                self.is_suspended() && !self.has_ended_both_sides() || !decodable
            }
            Phase::Draining | Phase::LastMessages | Phase::Closed => false,
            Phase::Opening => {
                !self.status.read_ended && !self.has_handshake_to_decode() && !self.may_unseal_handshake()
            }
            Phase::Flushing => !self.has_handshake_to_decode() && !self.may_unseal_handshake(),
            Phase::HalfClosed | Phase::Ended => true,
        };
        self.status.pending != 0 || !self.status.dues.is_empty() || !quiet
    }

    #[inline]
    pub(super) fn wants_read(&self) -> bool {
        if self.status.is_ordinary() { !self.has_undecoded() } else { self.wants_read_otherwise() }
    }

    #[inline(never)]
    fn wants_read_otherwise(&self) -> bool {
        match self.status.phase {
            Phase::Open => !self.status.read_ended && !self.is_suspended() && !self.has_undecoded(),
            Phase::Opening => {
                !self.status.read_ended
                    && !self.awaits_verdict
                    && !self.has_handshake_to_decode()
                    && !self.layer_waits
            }
            Phase::Flushing => {
                !self.status.read_ended
                    && !self.is_encoding()
                    && !self.has_handshake_to_decode()
                    && !self.layer_waits
            }
            Phase::HalfClosed => !self.status.read_ended,
            Phase::Draining | Phase::LastMessages | Phase::Closed | Phase::Ended => false,
        }
    }

    #[inline(always)]
    pub(super) fn recv_buf(&mut self) -> Limit<&mut BytesMut> {
        if self.layer != LayerState::None {
            return self.layer_recv_buf();
        }
        let lent = self.lent;
        let buffers = self.buffers.get_or_insert_default();
        let inbox = &mut self.inbox;
        let read = buffers.received.buffer(|held| {
            inbox.mark = held;
            if lent && held < READ_ARENA / 4 {
                READ_ARENA - held
            } else {
                inbox.missing(held).min(held).max(READ_STEP)
            }
        });
        let spare = read.capacity() - read.len();
        read.limit(spare.min(READ_ARENA))
    }

    #[inline(always)]
    pub(super) fn count_read(&mut self, n: usize) {
        self.replying = false;
        if n == 0 || matches!(self.status.phase, Phase::Closed | Phase::Ended) {
            return;
        }
        self.received.bytes += n as u64;
        self.received.operations += 1;
        self.read_since = self.now;
        self.received_at = self.now;
        self.last_active = self.now;
        self.inbox.received(self.received.bytes, self.now);
    }

    /// Counts `n` bytes as taken by the transport.
    #[inline(always)]
    pub(super) fn count_written(&mut self, n: usize) {
        let has_layer = self.has_layer();
        let n = n.min(if has_layer { self.sealed().len() } else { self.outbox.queued() });
        let Some(buffers) = self.buffers.as_mut().filter(|_| n > 0) else { return };
        if has_layer {
            self.layer_written(n);
        } else {
            self.outbox.advance(buffers, n);
        }
        self.sent.bytes += n as u64;
        self.sent.operations += 1;
        self.write_since = self.now;
        if !(self.wants_write() && self.is_stall_due()) {
            self.waiting_since = Some(self.now);
        }
        if self.flush_wanted.is_some() {
            self.check_flushed();
        }
        if self.pong_waits | self.status.blocked | self.writable_wanted {
            self.use_room();
        }
    }

    /// Goes on with what waited for the queue to shrink, if it has.
    #[cold]
    fn use_room(&mut self) {
        let low = self.config.low_watermark();
        if self.pong_waits && self.outbox.queued() <= low {
            self.pong_waits = false;
            self.status.dues.add(Due::Pong);
        }
        if self.outbox.replies() <= low && std::mem::take(&mut self.status.blocked) {
            self.restart_reading();
        }
        if self.writable_wanted && self.outbox.queued() <= low && self.takes_messages() {
            self.writable_wanted = false;
            self.status.pending |= pending::WRITABLE;
        }
    }

    /// Whether the time of queued bytes is up just now. If the transport then takes a part, that filled the
    /// last room in the system's buffer and shows no progress of the peer. After a longer time without an
    /// attempt it counts as progress.
    fn is_stall_due(&self) -> bool {
        let due = self.deadlines.at(Deadline::WriteStall).filter(|&at| at <= self.now);
        due.is_some_and(|at| self.now.saturating_duration_since(at) <= LATE)
    }

    pub(super) fn check_flushed(&mut self) {
        if self.flush_wanted.is_some()
            && self.outbox.flushed() >= self.flush_wanted
            && self.status.phase != Phase::Ended
        {
            self.flush_wanted = None;
            self.status.pending |= pending::FLUSHED;
        }
    }

    /// Handles that the decoder returned no valid frame and left `left` bytes.
    #[cold]
    pub(super) fn undecoded(&mut self, found: Result<Found<()>, Box<CloseReason>>, left: usize) {
        let result = match found {
            Ok(Found::Message(()) | Found::Control) => Err(DecoderFault::NoProgress.into()),
            Ok(Found::Need(0)) => Err(DecoderFault::NeedsNothing.into()),
            Ok(Found::Need(more)) => {
                let needed = left.saturating_add(more);
                // The opening handshake has its own limit.
                let limit = self.config.max_buffered();
                if needed > limit && self.status.phase != Phase::Opening {
                    Err(DecoderFault::TooMuchBuffered { needed, limit }.into())
                } else {
                    self.inbox.await_bytes(needed, left, self.received.bytes, self.now);
                    Ok(())
                }
            }
            Err(reason) => Err(*reason),
        };
        if let Err(reason) = result {
            self.fail_decoding(reason);
        }
    }

    /// Handles undecodable input: replies to earlier messages are still sent.
    pub(super) fn fail_decoding(&mut self, reason: CloseReason) {
        match self.status.phase {
            Phase::Opening | Phase::Open => self.wind_down(reason, false),
            Phase::Draining => {
                self.reason = Some(Box::new(reason));
                self.end_drain();
            }
            _ => self.end_drain(),
        }
    }

    /// Takes the bit of the next pending event; 0 if there is none.
    pub(super) fn take_pending(&mut self) -> u16 {
        // Facts about sending come before those about quiet; the end of the stream comes last.
        const ORDER: &[u16] = &[
            #[cfg(feature = "websocket")]
            pending::REQUEST,
            pending::OPEN,
            pending::FLUSHED,
            pending::WRITABLE,
            pending::PONG,
            pending::CRON,
            pending::IDLE_READ,
            pending::IDLE_WRITE,
            pending::IDLE_BOTH,
            pending::EOF,
        ];
        let bit = ORDER.iter().copied().find(|bit| self.status.pending & bit != 0).unwrap_or(0);
        self.status.pending &= !bit;
        bit
    }

    /// The event that a bit stands for, unless only the protocol knows it.
    pub(super) fn event<T>(&self, bit: u16) -> Option<Event<T>> {
        Some(match bit {
            pending::FLUSHED => Event::Flushed(self.outbox.flushed().unwrap_or(Seq::FIRST)),
            pending::WRITABLE => Event::Writable,
            pending::PONG => Event::Pong { rtt: Duration::from_nanos(self.rtt) },
            pending::CRON => Event::Cron,
            pending::IDLE_READ => Event::Idle(Idle::Read),
            pending::IDLE_WRITE => Event::Idle(Idle::Write),
            pending::IDLE_BOTH => Event::Idle(Idle::Both),
            pending::EOF => Event::Eof,
            _ => return None,
        })
    }

    pub(super) fn stats(&self) -> Stats {
        let flow = |counted: &Counted, messages, last| Flow {
            bytes: counted.bytes,
            messages,
            operations: counted.operations,
            last: (counted.operations > 0).then_some(last),
        };
        let progress = self.outbox.progress();
        Stats {
            received: flow(&self.received, self.delivered, self.received_at),
            sent: flow(&self.sent, progress.accepted.map_or(0, Seq::get), self.write_since),
            queued: self.queued(),
            buffered: self.buffered(),
            refused: self.refused,
            progress,
        }
    }

    #[inline(always)]
    pub(super) fn lend(&mut self, mut lent: Box<Buffers>) {
        if self.lent {
            return; // the first loan stays; the second is dropped
        }
        if let Some(own) = self.buffers.take() {
            self.take_over(&mut lent, own);
        }
        self.buffers = Some(lent);
        self.lent = true;
    }

    #[inline(never)]
    fn take_over(&mut self, lent: &mut Buffers, mut own: Box<Buffers>) {
        lent.take_over(&mut own);
        self.spare = Some(own);
    }

    #[inline(always)]
    pub(super) fn take_back(&mut self) -> Box<Buffers> {
        if !std::mem::take(&mut self.lent) {
            self.spare = None;
            return Box::default();
        }
        let mut lent = self.buffers.take().unwrap_or_default();
        if !lent.is_empty() || self.spare.is_some() {
            self.keep_rest(&mut lent);
        }
        lent.trim();
        lent
    }

    /// Keeps what is left in `lent`.
    #[inline(never)]
    fn keep_rest(&mut self, lent: &mut Buffers) {
        let spare = self.spare.take();
        if !lent.is_empty() {
            lent.unpin();
            let mut own = spare.unwrap_or_default();
            lent.leave_to(&mut own);
            self.buffers = Some(own);
        } else if let Some(mut spare) = spare {
            lent.leave_to(&mut spare); // nothing is left, but this returns an arena that was put aside
        }
        lent.reset();
    }
}
