//! [`Session`]: one conversation with one peer, as a state machine.

mod close;
mod deadlines;
mod inbox;
mod outbound;
mod outbox;

pub use close::Close;
pub use deadlines::Deadline;
pub use outbound::Outbound;

use std::error::Error;
use std::io;
use std::sync::Arc;

use bytes::buf::Limit;
use bytes::{BufMut, BytesMut};

use crate::codec::{Decoded, Sink};
use crate::error::EncodedTooLarge;
use crate::memory::{Buffers, READ_ARENA};
use crate::protocol::{In, Out, Protocol, StreamProtocol};
use crate::{
    Accepted, CloseReason, Config, DecoderFault, Event, Idle, Memory, SendError, Seq, Stats, Timestamp,
    stats::Flow,
};
use close::Phase;
use deadlines::Deadlines;
use inbox::Inbox;
use outbox::Outbox;

/// The smallest step in which a receive buffer of a session's own grows.
const READ_STEP: usize = 4 * 1024;

/// One conversation with one peer, as a pure state machine: no socket, clock, thread, lock or waker.
///
/// # The four kinds of calls
///
/// * **What happened**: [`handle_input`](Self::handle_input) (or [`recv_buf`](Self::recv_buf), then
///   [`handle_read`](Self::handle_read)), [`handle_eof`](Self::handle_eof),
///   [`handle_timeout`](Self::handle_timeout), [`handle_shutdown`](Self::handle_shutdown),
///   [`handle_io_error`](Self::handle_io_error).
/// * **Commands**: [`send`](Self::send), [`pause`](Self::pause), [`resume`](Self::resume),
///   [`close`](Self::close), [`update_active`](Self::update_active).
/// * **What to do**: [`poll_event`](Self::poll_event), [`outbound`](Self::outbound),
///   [`wants_shutdown`](Self::wants_shutdown), [`wants_read`](Self::wants_read),
///   [`poll_timeout`](Self::poll_timeout).
/// * **Facts**: [`stats`](Self::stats), [`is_writable`](Self::is_writable),
///   [`last_active`](Self::last_active), [`is_closed`](Self::is_closed) and others.
///
/// # Order
///
/// Any number of calls of the first two kinds, in any order, may come between polls. Then, until a round in which
/// nothing happened: poll events until `None` (acting on them: sending, closing); write `outbound` until it is
/// empty or the transport is full; end the sending side if `wants_shutdown` and say so with
/// `handle_shutdown`; read if `wants_read`. Then wait for the transport or for `poll_timeout`. Polls are
/// idempotent: to poll once too often is harmless, and so is an early or late `handle_timeout`.
///
/// Decoding happens inside `poll_event`. Not polling is how back-pressure reaches the peer: received bytes
/// stay buffered and `wants_read` is false until what is there has been polled.
///
/// # Time
///
/// All calls to one session use one origin of [`Timestamp`]s. A stamp smaller than an earlier one counts as
/// that earlier one. [`send`](Self::send) uses the stamp of the call before it.
///
/// # The end
///
/// [`Event::Closed`] comes exactly once, last, also after a local close. After it the session ignores input,
/// refuses to send, and wants nothing.
///
/// # Memory
///
/// A session that is lent nothing allocates buffers for itself when bytes move and keeps them. Whoever
/// drives many sessions [`lend`](Self::lend)s one [`Memory`] to each for the length of its turn; then only
/// what is left over (part of a frame, unwritten bytes) stays with a session, in memory of its own size.
#[derive(Debug)]
pub struct Session<P> {
    protocol: P,
    inner: Inner,
}

/// Everything that does not depend on the protocol.
#[derive(Debug)]
pub(crate) struct Inner {
    config: Arc<Config>,
    buffers: Option<Box<Buffers>>,
    /// A session's own buffers while it works in lent ones; here they wait for leftovers.
    spare: Option<Box<Buffers>>,
    reason: Option<Box<CloseReason>>,
    inbox: Inbox,
    outbox: Outbox,
    deadlines: Deadlines,
    now: Timestamp,
    last_active: Timestamp,
    /// Since when reading has been quiet: the last bytes, or the end of a pause.
    read_since: Timestamp,
    /// Since when writing has been quiet.
    write_since: Timestamp,
    /// Since when queued bytes have waited for the transport; `None` until it was first asked to take them.
    waiting_since: Option<Timestamp>,
    /// The quiet periods that were told, by what they are counted from: read, write, both.
    idle_told: [Option<Timestamp>; 3],
    received: Counted,
    received_at: Timestamp,
    sent: Counted,
    refused: u64,
    flush_wanted: Option<Seq>,
    phase: Phase,
    pending: u8,
    lent: bool,
    paused: bool,
    /// Queued answers went over the high watermark and have not come down to the low one since: no delivery.
    blocked: bool,
    /// A message was polled last: what is sent now answers it.
    answering: bool,
    /// A `send` was refused for lack of room.
    writable_wanted: bool,
    read_ended: bool,
    read_end_told: bool,
}

#[derive(Debug, Default)]
struct Counted {
    bytes: u64,
    messages: u64,
    operations: u64,
}

/// Events that wait to be polled.
pub(crate) mod pending {
    pub(crate) const OPEN: u8 = 1;
    pub(crate) const CRON: u8 = 2;
    pub(crate) const IDLE_READ: u8 = 4;
    pub(crate) const IDLE_WRITE: u8 = 8;
    pub(crate) const IDLE_BOTH: u8 = 16;
    pub(crate) const WRITABLE: u8 = 32;
    pub(crate) const FLUSHED: u8 = 64;
    pub(crate) const READ_END: u8 = 128;
}

/// What every session can do, whatever it speaks.
impl<P: Protocol> Session<P> {
    /// A session that begins at `now`.
    pub fn new(protocol: P, config: Arc<Config>, now: Timestamp) -> Self {
        Session { protocol, inner: Inner::new(config, now) }
    }

    /// Time has come to `now`. Harmless when nothing is due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.inner.handle_timeout(now);
    }

    /// The transport failed: no more bytes go either way.
    ///
    /// Whole messages that had been received are still delivered (unless the session is paused), then comes
    /// `Closed`. Calls that should be repeated (`WouldBlock`, `Interrupted`) are not failures.
    pub fn handle_io_error(&mut self, now: Timestamp, kind: io::ErrorKind) {
        self.inner.handle_io_error(now, kind);
    }

    /// Stops delivering messages, and so stops reading. Other events still come.
    pub fn pause(&mut self) {
        self.inner.pause();
    }

    /// Goes on delivering. Deadlines on the peer's sending start afresh.
    pub fn resume(&mut self, now: Timestamp) {
        self.inner.resume(now);
    }

    /// Ends the session.
    ///
    /// Closing one that is closing changes nothing, except that an abort ends it at once, and that nothing
    /// more is delivered after a close without drain.
    pub fn close(&mut self, now: Timestamp, how: Close) {
        self.inner.close(now, how);
    }

    /// Notes a sign of life that the session can't see, such as the application's own heartbeat (Go getty's
    /// `UpdateActive`). Only [`last_active`](Self::last_active) changes.
    pub fn update_active(&mut self, now: Timestamp) {
        self.inner.clock(now);
        self.inner.last_active = self.inner.now;
    }

    /// What is sent from now on answers no received message, until the next one is polled. For drivers that send on
    /// behalf of others than whoever handles messages; see [`send`](Session::send).
    pub fn end_answer(&mut self) {
        self.inner.answering = false;
    }

    /// Asks for [`Event::Flushed`] once the transport has every message accepted so far.
    ///
    /// Gives the last of them, or `None` if nothing was sent yet (no event will come, as none comes after
    /// `Closed`). If another request is made before, one event answers both.
    pub fn notify_flushed(&mut self) -> Option<Seq> {
        let accepted = self.inner.outbox.accepted();
        self.inner.flush_wanted = accepted;
        self.inner.check_flushed();
        accepted
    }

    /// Whether [`poll_event`](Self::poll_event) may have something to tell: for drivers that spare the call. `false` is
    /// certain.
    #[must_use]
    #[inline]
    pub fn wants_poll(&self) -> bool {
        self.inner.wants_poll()
    }

    /// When [`handle_timeout`](Self::handle_timeout) should be called, if nothing happens before.
    ///
    /// Traffic does not move it: deadlines that were outlived are noticed when they pass, which may be a needless
    /// wake-up.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.inner.deadlines.next_at()
    }

    /// What [`poll_timeout`](Self::poll_timeout) waits for.
    pub fn timeout_reason(&self) -> Option<Deadline> {
        self.inner.deadlines.next().map(|(_, deadline)| deadline)
    }

    /// Whether the send queue is at or below the high watermark and the session takes messages.
    pub fn is_writable(&self) -> bool {
        self.inner.takes_messages() && self.inner.outbox.queued() <= self.inner.config.high_watermark()
    }

    /// Whether the session takes messages to send: it is not closing or closed.
    pub fn is_open(&self) -> bool {
        self.inner.takes_messages()
    }

    /// Whether the session is over, told or not: [`Event::Closed`] is the last that there is to poll.
    pub fn is_over(&self) -> bool {
        matches!(self.inner.phase, Phase::Closed | Phase::Ended)
    }

    /// Whether [`Event::Closed`] has been polled: there is nothing more to do.
    pub fn is_closed(&self) -> bool {
        self.inner.phase == Phase::Ended
    }

    /// When the peer last gave a sign of life: at the opening, at the last received bytes, or at the last
    /// [`update_active`](Self::update_active) (Go getty's `GetActive`).
    pub fn last_active(&self) -> Timestamp {
        self.inner.last_active
    }

    /// Bytes accepted for sending that the transport has not taken yet.
    pub fn queued(&self) -> usize {
        self.inner.outbox.queued()
    }

    /// What the session has done so far.
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Arc<Config> {
        &self.inner.config
    }

    /// Works in `memory` until [`take_back`](Self::take_back); see [`Memory`].
    pub fn lend(&mut self, memory: Memory) {
        self.inner.lend(memory.0);
    }

    /// Gives back what was lent, emptied. If nothing was lent, gives new memory.
    pub fn take_back(&mut self) -> Memory {
        Memory(self.inner.take_back())
    }
}

/// What a session does over a stream of bytes.
impl<P: StreamProtocol> Session<P> {
    /// Bytes came from the peer. They are held until they are polled as messages: don't bring more while
    /// [`wants_read`](Self::wants_read) is false.
    pub fn handle_input(&mut self, now: Timestamp, bytes: &[u8]) {
        self.inner.clock(now);
        if self.inner.keeps_input() {
            self.inner.buffers.get_or_insert_default().received.append(bytes);
        }
        self.inner.count_read(bytes.len());
    }

    /// Room to read into without a copy; say with [`handle_read`](Self::handle_read) that it was used.
    ///
    /// The room grows with what has arrived, never with what a frame's header promises.
    pub fn recv_buf(&mut self) -> Limit<&mut BytesMut> {
        self.inner.recv_buf()
    }

    /// Bytes were appended to [`recv_buf`](Self::recv_buf). Nothing happens if there were none. Bytes that are
    /// appended without this call may be decoded, but don't count as received.
    pub fn handle_read(&mut self, now: Timestamp) {
        self.inner.clock(now);
        let keeps = self.inner.keeps_input();
        let Some(buffers) = &mut self.inner.buffers else { return };
        // No mark is above every length: the same bytes are not counted twice.
        let mark = std::mem::replace(&mut self.inner.inbox.mark, usize::MAX);
        let n = buffers.received.len().saturating_sub(mark);
        if keeps {
            buffers.received.appended(n);
        } else {
            buffers.received.truncate_by(n);
        }
        self.inner.count_read(n);
    }

    /// The peer has ended its stream.
    pub fn handle_eof(&mut self, now: Timestamp) {
        self.inner.handle_eof(now);
    }

    /// The sending side of the transport has been ended, as [`wants_shutdown`](Self::wants_shutdown) asked.
    pub fn handle_shutdown(&mut self, now: Timestamp) {
        self.inner.handle_shutdown(now);
    }

    /// Whether to read. False while messages are here that have not been polled, while paused, while answers are
    /// queued above their watermark, and when no more will come.
    pub fn wants_read(&self) -> bool {
        self.inner.wants_read()
    }

    /// Whether to end the sending side of the transport (half-close): everything is written, nothing more
    /// will be.
    pub fn wants_shutdown(&self) -> bool {
        self.inner.wants_shutdown()
    }

    /// The bytes to write, as a [`Buf`](bytes::Buf) with a true `chunks_vectored`. What was written is said
    /// with `advance`, once per write.
    pub fn outbound(&mut self, now: Timestamp) -> Outbound<'_> {
        self.inner.clock(now);
        self.inner.answering = false;
        self.inner.waiting_since.get_or_insert(self.inner.now);
        Outbound::new(&mut self.inner)
    }

    /// Takes a message to send.
    ///
    /// What is sent after a message was polled, and before the next poll, `outbound`, `handle_*` or
    /// [`end_answer`](Self::end_answer), counts as an answer to it; see [`ConfigBuilder::watermarks`](crate::ConfigBuilder::watermarks).
    ///
    /// # Errors
    /// [`SendError`] says why not and gives the item back where possible; the session is as it was. After
    /// `Blocked`, [`Event::Writable`] tells when to try again.
    pub fn send(&mut self, item: Out<P>) -> Result<Accepted, SendError<Out<P>>> {
        let Session { protocol, inner } = self;
        let known = protocol.encoded_len(&item).unwrap_or(1);
        if !inner.has_room(known) {
            return Err(inner.refuse(item, known));
        }
        let chain_over = inner.config.chain_over();
        let buffers = inner.buffers.get_or_insert_default();
        let mark = buffers.segments.mark();
        let mut sink = Sink::queue(&mut buffers.segments, chain_over);
        let encoded = protocol.encode(item, &mut sink);
        let bytes = sink.written();
        if let Err(error) = encoded {
            return Err(inner.take_back_encoded(mark, error));
        }
        if bytes > inner.config.max_frame() {
            let error = EncodedTooLarge { bytes, limit: inner.config.max_frame() };
            return Err(inner.take_back_encoded(mark, Arc::new(error)));
        }
        if inner.outbox.is_empty() {
            inner.waiting_since = None;
        }
        let seq = inner.outbox.accept(buffers, bytes, inner.answering);
        inner.blocked |= inner.outbox.answers() > inner.config.high_watermark();
        Ok(Accepted::new(seq, bytes))
    }

    /// The next event, or `None` if there is nothing to tell until something else happens.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event<In<P>>> {
        self.inner.answering = false;
        loop {
            if self.inner.pending != 0 {
                return Some(self.inner.take_pending());
            }
            if let Some(message) = self.poll_message() {
                return Some(Event::Message(message));
            }
            // Decoding may have ended the session, or found the end of the stream.
            match self.inner.phase {
                Phase::Closed => return Some(self.inner.take_closed()),
                _ if self.inner.pending == 0 => return None,
                _ => {}
            }
        }
    }

    /// The next message, if it is the next event: `None` means to go on with [`poll_event`](Self::poll_event).
    #[inline]
    pub fn poll_message(&mut self) -> Option<In<P>> {
        let Session { protocol, inner } = self;
        inner.answering = false;
        if !inner.may_deliver() {
            return None;
        }
        if let Some(buffers) = &mut inner.buffers {
            let before = buffers.received.len();
            if inner.inbox.is_worth_decoding(before) {
                let mut src = buffers.received.source(inner.config.max_frame());
                let decoded = protocol.decode(&mut src);
                let left = src.len();
                match decoded {
                    Ok(Decoded::Frame(message)) if left < before => {
                        inner.inbox.decoded();
                        inner.received.messages += 1;
                        inner.answering = true;
                        return Some(message);
                    }
                    other => inner.undecoded(other.map(|decoded| decoded.map(|_| ())), left),
                }
            }
        }
        self.poll_undecodable()
    }

    /// Appends consecutive messages to `out`, `max` at most, and says how many. Stops before any other event.
    pub fn poll_messages(&mut self, out: &mut Vec<In<P>>, max: usize) -> usize {
        let before = out.len();
        out.extend(std::iter::from_fn(|| self.poll_message()).take(max));
        out.len() - before
    }

    /// The protocol, for facts about it.
    pub fn protocol(&self) -> &P {
        &self.protocol
    }

    /// No whole message is here: is that all there will be?
    fn poll_undecodable(&mut self) -> Option<In<P>> {
        let Session { protocol, inner } = self;
        if !inner.is_delivering() {
            return None;
        }
        inner.watch_partial();
        if inner.read_ended && !inner.read_end_told {
            if let Some(buffers) = inner.buffers.as_mut().filter(|b| !b.received.is_empty()) {
                match inner.inbox.decode_eof(protocol, &mut buffers.received, &inner.config) {
                    Ok(None) => {}
                    Ok(Some(message)) => {
                        inner.received.messages += 1;
                        inner.answering = true;
                        return Some(message);
                    }
                    Err(reason) => {
                        inner.fail_decoding(reason);
                        return None;
                    }
                }
            }
        }
        match inner.phase {
            Phase::Draining | Phase::LastMessages => inner.end_drain(),
            _ if inner.read_ended => inner.read_end_reached(),
            _ => {}
        }
        None
    }
}

impl Inner {
    fn new(config: Arc<Config>, now: Timestamp) -> Self {
        let mut deadlines = Deadlines::default();
        let periods = [
            (Deadline::Cron, config.cron_period()),
            (Deadline::IdleRead, config.idle_read()),
            (Deadline::IdleWrite, config.idle_write()),
            (Deadline::IdleBoth, config.idle_both()),
        ];
        for (deadline, period) in periods {
            if let Some(period) = period {
                deadlines.set(deadline, now + period);
            }
        }
        Inner {
            config,
            buffers: None,
            spare: None,
            reason: None,
            inbox: Inbox::new(),
            outbox: Outbox::default(),
            deadlines,
            now,
            last_active: now,
            read_since: now,
            write_since: now,
            waiting_since: None,
            idle_told: [None; 3],
            received: Counted::default(),
            received_at: now,
            sent: Counted::default(),
            refused: 0,
            flush_wanted: None,
            phase: Phase::Open,
            pending: pending::OPEN,
            lent: false,
            paused: false,
            blocked: false,
            answering: false,
            writable_wanted: false,
            read_ended: false,
            read_end_told: false,
        }
    }

    /// Takes note of the time; it never goes back.
    pub(crate) fn clock(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    fn handle_timeout(&mut self, now: Timestamp) {
        self.clock(now);
        self.answering = false;
        if self.deadlines.next_at().is_none_or(|at| at > self.now) {
            return;
        }
        for deadline in Deadline::ALL {
            if let Some(due) = self.deadlines.expired(deadline, self.now) {
                self.expire(deadline, due);
            }
        }
    }

    /// `deadline` has passed: compares it with what happened since and re-arms it, or acts.
    fn expire(&mut self, deadline: Deadline, due: Timestamp) {
        self.deadlines.clear(deadline);
        match deadline {
            Deadline::Handshake => self.finish(CloseReason::Timeout(deadline)),
            Deadline::Close => self.close_expired(),
            Deadline::Cron => {
                if let Some(period) = self.config.cron_period() {
                    // In step with the first one, unless that fell behind: missed ones are not made up for.
                    let next = due + period;
                    self.deadlines.set(deadline, if next > self.now { next } else { self.now + period });
                    self.pending |= pending::CRON;
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
                let since =
                    if self.is_suspended() { self.now } else { self.read_since.max(self.write_since) };
                self.expire_idle(Idle::Both, deadline, self.config.idle_both(), since, pending::IDLE_BOTH);
            }
            Deadline::PartialFrame => {
                let since = if self.is_suspended() { Some(self.now) } else { self.inbox.partial_since() };
                let (Some(since), Some(period)) = (since, self.config.partial_frame_timeout()) else {
                    return;
                };
                self.expire_stall(deadline, since + period);
            }
            Deadline::WriteStall => {
                let Some(period) = self.config.write_stall_timeout() else { return };
                if !self.outbox.is_empty() {
                    let since = *self.waiting_since.get_or_insert(self.now);
                    self.expire_stall(deadline, since + period);
                }
            }
        }
    }

    fn expire_idle(
        &mut self,
        idle: Idle,
        deadline: Deadline,
        period: Option<std::time::Duration>,
        since: Timestamp,
        event: u8,
    ) {
        let Some(period) = period else { return };
        let at = since + period;
        if at > self.now {
            self.deadlines.set(deadline, at);
            return;
        }
        self.deadlines.set(deadline, self.now + period);
        let told = &mut self.idle_told[idle as usize];
        if *told != Some(since) {
            *told = Some(since);
            self.pending |= event;
        }
    }

    fn expire_stall(&mut self, deadline: Deadline, at: Timestamp) {
        if at > self.now {
            self.deadlines.set(deadline, at);
        } else {
            self.finish(CloseReason::Timeout(deadline));
        }
    }

    /// Watches over a frame that has begun, from the first time that one stays incomplete.
    fn watch_partial(&mut self) {
        if let Some(since) = self.inbox.partial_since()
            && self.phase == Phase::Open
            && !self.deadlines.is_set(Deadline::PartialFrame)
            && let Some(period) = self.config.partial_frame_timeout()
        {
            self.deadlines.set(Deadline::PartialFrame, since + period);
        }
    }

    /// Watches over queued bytes, from the first time that the transport does not take all.
    pub(crate) fn watch_stall(&mut self) {
        if !self.outbox.is_empty()
            && matches!(self.phase, Phase::Open)
            && !self.deadlines.is_set(Deadline::WriteStall)
            && let Some(period) = self.config.write_stall_timeout()
        {
            let since = self.waiting_since.unwrap_or(self.now);
            self.deadlines.set(Deadline::WriteStall, since + period);
        }
    }

    fn pause(&mut self) {
        self.paused = true;
        if matches!(self.phase, Phase::Draining | Phase::LastMessages) {
            self.end_drain();
        }
    }

    fn resume(&mut self, now: Timestamp) {
        self.clock(now);
        if std::mem::take(&mut self.paused) {
            self.restart_reading();
        }
    }

    /// Reading was suspended until now: the peer's time starts afresh.
    fn restart_reading(&mut self) {
        self.read_since = self.now;
        self.inbox.restart_partial(self.now);
    }

    /// Whether the peer can't be blamed for what does not come.
    fn is_suspended(&self) -> bool {
        self.paused || self.blocked
    }

    /// Whether a message of `bytes` may be accepted now.
    #[inline]
    fn has_room(&self, bytes: usize) -> bool {
        let queued = self.outbox.queued();
        let config = &*self.config;
        let counted = if self.answering { self.outbox.answers() } else { queued };
        self.takes_messages()
            && bytes <= config.max_frame()
            && (counted <= config.high_watermark() || queued.saturating_add(bytes) <= config.hard_limit())
    }

    /// Why there is no room for `item` of `bytes`.
    #[cold]
    fn refuse<T>(&mut self, item: T, bytes: usize) -> SendError<T> {
        let limit = self.config.max_frame();
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

    /// Encoding failed: takes back what the message has written since `mark`.
    #[cold]
    fn take_back_encoded<T>(
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

    fn takes_messages(&self) -> bool {
        self.phase.takes_messages()
    }

    /// Whether received bytes are kept for decoding.
    fn keeps_input(&self) -> bool {
        self.phase.delivers() && !self.read_ended
    }

    /// Whether messages are delivered in this phase.
    fn is_delivering(&self) -> bool {
        self.phase.delivers()
    }

    /// Whether a message may be delivered now.
    #[inline]
    fn may_deliver(&self) -> bool {
        self.pending == 0 && !self.is_suspended() && self.is_delivering()
    }

    #[inline]
    fn wants_poll(&self) -> bool {
        let quiet = match self.phase {
            Phase::Open => {
                let buffered = self.buffers.as_ref().map_or(0, |b| b.received.len());
                let decodable =
                    self.inbox.is_worth_decoding(buffered) || self.read_ended && !self.read_end_told;
                self.is_suspended() || !decodable
            }
            Phase::Draining | Phase::LastMessages | Phase::Closed => false,
            Phase::Flushing | Phase::HalfClosed | Phase::Ended => true,
        };
        self.pending != 0 || !quiet
    }

    fn wants_read(&self) -> bool {
        match self.phase {
            Phase::Open => {
                let buffered = self.buffers.as_ref().map_or(0, |b| b.received.len());
                !self.read_ended && !self.is_suspended() && !self.inbox.is_worth_decoding(buffered)
            }
            Phase::Flushing | Phase::HalfClosed => !self.read_ended,
            Phase::Draining | Phase::LastMessages | Phase::Closed | Phase::Ended => false,
        }
    }

    fn recv_buf(&mut self) -> Limit<&mut BytesMut> {
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

    fn count_read(&mut self, n: usize) {
        self.answering = false;
        if n == 0 || matches!(self.phase, Phase::Closed | Phase::Ended) {
            return;
        }
        self.received.bytes += n as u64;
        self.received.operations += 1;
        self.read_since = self.now;
        self.received_at = self.now;
        self.last_active = self.now;
        self.inbox.received(self.received.bytes, self.now);
    }

    /// The transport took `n` bytes.
    pub(crate) fn count_written(&mut self, n: usize) {
        let n = n.min(self.outbox.queued());
        let Some(buffers) = self.buffers.as_mut().filter(|_| n > 0) else { return };
        self.outbox.advance(buffers, n);
        self.sent.bytes += n as u64;
        self.sent.operations += 1;
        self.write_since = self.now;
        self.waiting_since = Some(self.now);
        self.check_flushed();
        let low = self.config.low_watermark();
        if self.outbox.answers() <= low && std::mem::take(&mut self.blocked) {
            self.restart_reading();
        }
        if self.writable_wanted && self.outbox.queued() <= low && self.takes_messages() {
            self.writable_wanted = false;
            self.pending |= pending::WRITABLE;
        }
    }

    fn check_flushed(&mut self) {
        if self.flush_wanted.is_some()
            && self.outbox.flushed() >= self.flush_wanted
            && self.phase != Phase::Ended
        {
            self.flush_wanted = None;
            self.pending |= pending::FLUSHED;
        }
    }

    /// The decoder gave no good frame, and left `left` bytes.
    #[cold]
    fn undecoded(&mut self, decoded: Result<Decoded<()>, CloseReason>, left: usize) {
        let result = match decoded {
            Ok(Decoded::Frame(())) => Err(DecoderFault::NoProgress.into()),
            Ok(Decoded::Need(0)) => Err(DecoderFault::NeedsNothing.into()),
            Ok(Decoded::Need(more)) => {
                let needed = left.saturating_add(more);
                let limit = self.config.max_buffered();
                if needed > limit {
                    Err(DecoderFault::TooMuchBuffered { needed, limit }.into())
                } else {
                    self.inbox.await_bytes(needed, left, self.received.bytes, self.now);
                    Ok(())
                }
            }
            Err(reason) => Err(reason),
        };
        if let Err(reason) = result {
            self.fail_decoding(reason);
        }
    }

    /// The peer sent what can't be decoded: answers to what came before are still sent.
    fn fail_decoding(&mut self, reason: CloseReason) {
        match self.phase {
            Phase::Open => self.wind_down(reason, false),
            Phase::Draining => {
                self.reason = Some(Box::new(reason));
                self.end_drain();
            }
            _ => self.end_drain(),
        }
    }

    fn take_pending<T>(&mut self) -> Event<T> {
        // Facts about sending come before those about quiet, and the end of the stream after all.
        const ORDER: [u8; 8] = [
            pending::OPEN,
            pending::FLUSHED,
            pending::WRITABLE,
            pending::CRON,
            pending::IDLE_READ,
            pending::IDLE_WRITE,
            pending::IDLE_BOTH,
            pending::READ_END,
        ];
        let event = ORDER.into_iter().find(|event| self.pending & event != 0).unwrap_or(pending::READ_END);
        self.pending &= !event;
        match event {
            pending::OPEN => Event::Open(Box::default()),
            pending::FLUSHED => Event::Flushed(self.outbox.flushed().unwrap_or(Seq::FIRST)),
            pending::WRITABLE => Event::Writable,
            pending::CRON => Event::Cron,
            pending::IDLE_READ => Event::Idle(Idle::Read),
            pending::IDLE_WRITE => Event::Idle(Idle::Write),
            pending::IDLE_BOTH => Event::Idle(Idle::Both),
            _ => Event::ReadEnd,
        }
    }

    fn take_closed<T>(&mut self) -> Event<T> {
        self.phase = Phase::Ended;
        self.pending = 0;
        if !self.lent {
            self.buffers = None;
        }
        let reason = self.reason.take().unwrap_or_else(|| Box::new(CloseReason::Local { flushed: false }));
        Event::Closed(reason)
    }

    fn stats(&self) -> Stats {
        let flow = |counted: &Counted, messages, last| Flow {
            bytes: counted.bytes,
            messages,
            operations: counted.operations,
            last: (counted.operations > 0).then_some(last),
        };
        let progress = self.outbox.progress();
        Stats {
            received: flow(&self.received, self.received.messages, self.received_at),
            sent: flow(&self.sent, progress.accepted.map_or(0, Seq::get), self.write_since),
            queued: self.outbox.queued(),
            buffered: self.buffers.as_ref().map_or(0, |b| b.received.len()),
            refused: self.refused,
            progress,
        }
    }

    fn lend(&mut self, mut lent: Box<Buffers>) {
        if self.lent {
            return; // what was lent first stays; the second lender gets it back by dropping this
        }
        if let Some(mut own) = self.buffers.take() {
            lent.take_over(&mut own);
            self.spare = Some(own);
        }
        self.buffers = Some(lent);
        self.lent = true;
    }

    fn take_back(&mut self) -> Box<Buffers> {
        let spare = self.spare.take();
        if !std::mem::take(&mut self.lent) {
            return Box::default();
        }
        let mut lent = self.buffers.take().unwrap_or_default();
        if !lent.is_empty() {
            lent.unpin();
            let mut own = spare.unwrap_or_default();
            lent.leave_to(&mut own);
            self.buffers = Some(own);
        } else if let Some(mut spare) = spare {
            lent.leave_to(&mut spare); // nothing, but an arena that was put aside comes back
        }
        lent.reset();
        lent
    }
}
