//! [`Session`]: one conversation with one peer, as a state machine.

mod close;
mod deadlines;
mod due;
mod host;
mod inbox;
mod layering;
mod outbound;
mod outbox;
mod phase;
mod polling;
mod protocol;
mod state;
mod status;

pub use due::Due;
pub use host::Host;
pub use outbound::Outbound;
pub use protocol::{Found, In, IntoProtocol, Out, Protocol, Sealed, Unfinished};

use std::error::Error;
use std::sync::Arc;

use bytes::BytesMut;
use bytes::buf::Limit;

use crate::close::{Close, CloseReason};
use crate::codec::Sink;
use crate::config::Config;
use crate::copy;
use crate::deadline::Deadline;
use crate::error::{EncodedTooLarge, HalfCloseError, IoFailure, SendError};
use crate::hint::likely;
use crate::memory::Memory;
use crate::pending;
use crate::stats::{Accepted, Seq, Stats, Work};
use crate::time::Timestamp;
#[cfg(feature = "websocket")]
use crate::upgrade::{RespondError, Verdict};
use phase::Phase;
use state::State;

/// One conversation with one peer, as a pure state machine: no socket, clock, thread, lock or waker.
///
/// # The four kinds of calls
///
/// * **Inputs**: [`handle_input`](Self::handle_input) (or [`recv_buf`](Self::recv_buf), then
///   [`handle_read`](Self::handle_read)), [`handle_eof`](Self::handle_eof),
///   [`handle_timeout`](Self::handle_timeout), [`handle_shutdown`](Self::handle_shutdown),
///   [`handle_io_error`](Self::handle_io_error).
/// * **Commands**: [`send`](Self::send), [`pause`](Self::pause), [`resume`](Self::resume),
///   [`close`](Self::close), [`update_active`](Self::update_active).
/// * **Outputs**: [`poll_event`](Self::poll_event), [`outbound`](Self::outbound),
///   [`wants_shutdown`](Self::wants_shutdown), [`wants_read`](Self::wants_read),
///   [`poll_timeout`](Self::poll_timeout).
/// * **Facts**: [`stats`](Self::stats), [`is_writable`](Self::is_writable),
///   [`last_active`](Self::last_active), [`is_closed`](Self::is_closed) and others.
///
/// # Order
///
/// Between polls, any number of calls of the first two kinds may come in any order. Then repeat this round
/// until nothing happens in it:
///
/// 1. Poll events until `None` and act on them: send, close.
/// 2. Write `outbound` until it is empty or the transport is full.
/// 3. If `wants_shutdown`, end the sending side and confirm with `handle_shutdown`.
/// 4. Read if `wants_read`.
///
/// Then wait for the transport or for `poll_timeout`. Reading comes last because a poll that returns `None`
/// can make the session want to read. If you read before polling, treat that poll as progress and go round
/// again. Polls are idempotent: an extra poll is harmless, and so is an early or late `handle_timeout`.
///
/// Decoding happens inside `poll_event`. Back-pressure reaches the peer when you stop polling: received bytes
/// stay buffered, and `wants_read` is false until everything buffered has been polled.
///
/// # Time
///
/// All calls to one session use timestamps with one origin. A [`Timestamp`] smaller than an earlier one
/// counts as the earlier one. [`send`](Self::send) uses the timestamp of the call before it.
///
/// # The end
///
/// [`Event::Closed`](crate::Event::Closed) comes exactly once, as the last event, even after a local close.
/// After it the session ignores input, refuses to send and wants nothing.
///
/// # Memory
///
/// Without lent memory, a session allocates its own buffers when bytes move, and keeps them. To drive many
/// sessions, [`lend`](Self::lend) one [`Memory`] to each for the length of its turn. Then a session keeps
/// only what is left over (part of a frame, unwritten bytes), in memory of exactly that size.
#[derive(Debug)]
pub struct Session<P> {
    protocol: P,
    state: State,
}

/// Methods that do not depend on the messages.
impl<P> Session<P> {
    /// Advances the time to `now` and acts on the deadlines that have passed. Harmless if none has.
    ///
    /// Hand over what the transport holds first. After the machine slept or was busy for long, a deadline may
    /// have passed although the peer acted in time.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.state.handle_timeout(now);
    }

    /// Reports that the transport failed: no more bytes go either way.
    ///
    /// Whole messages already received are still delivered, unless the session is paused. Then comes
    /// `Closed`. Calls that should be retried (`WouldBlock`, `Interrupted`) are not failures.
    pub fn handle_io_error(&mut self, now: Timestamp, failure: impl Into<IoFailure>) {
        self.state.handle_io_error(now, failure.into());
    }

    /// Stops delivering messages, and therefore reading. Other events still come.
    pub fn pause(&mut self) {
        self.state.pause();
    }

    /// Resumes delivering messages. Deadlines on the peer's sending start afresh.
    pub fn resume(&mut self, now: Timestamp) {
        self.state.resume(now);
    }

    /// Ends the session.
    ///
    /// Closing a session that is already closing changes nothing, with two exceptions: an abort ends it at
    /// once, and a close without drain stops the delivery of messages.
    pub fn close(&mut self, now: Timestamp, how: Close) {
        self.state.close(now, how);
    }

    /// Ends the sending side and goes on reading: "send, end, read the reply".
    ///
    /// Accepted messages are still sent. Then a layer is closed if there is one (TLS: close_notify), and
    /// [`wants_shutdown`](Self::wants_shutdown) asks to end the stream's sending side. Nothing more can be
    /// sent. Messages are still received until the peer ends its side too. Then come
    /// [`Event::Eof`](crate::Event::Eof) and, since both sides have ended,
    /// [`Event::Closed`](crate::Event::Closed) with [`CloseReason::Eof`].
    ///
    /// This sets no deadline of its own: [`Config::idle_read`](crate::Config::idle_read) and
    /// [`Config::idle_timeout`](crate::Config::idle_timeout) still apply. A second call changes nothing.
    /// # Errors
    /// [`HalfCloseError`] if the session is not open, or if its protocol (WebSocket) closes with a handshake
    /// and has no half-close.
    pub fn half_close(&mut self, now: Timestamp) -> Result<(), HalfCloseError> {
        self.state.half_close(now)
    }

    /// Records a sign of life that the session can't see, such as the application's own heartbeat (Go getty's
    /// `UpdateActive`). Only [`last_active`](Self::last_active) changes.
    pub fn update_active(&mut self, now: Timestamp) {
        self.state.advance_time(now);
        self.state.last_active = self.state.now;
    }

    /// Stops counting sent messages as replies until the next message is polled. For drivers that send on
    /// someone else's behalf; see [`send`](Session::send).
    #[inline]
    pub fn end_reply(&mut self) {
        self.state.replying = false;
    }

    /// Asks for [`Event::Flushed`](crate::Event::Flushed) once the transport has taken every message accepted
    /// so far.
    ///
    /// Returns the last of these messages. Returns `None` if no message was sent yet; then no event comes.
    /// None comes after `Closed` either. One event covers all requests made before it.
    pub fn notify_flushed(&mut self) -> Option<Seq> {
        let accepted = self.state.outbox.accepted();
        self.state.flush_wanted = accepted;
        self.state.check_flushed();
        accepted
    }

    /// Whether [`poll_event`](Self::poll_event) may have an event, so that drivers can skip the call. `false`
    /// is certain.
    #[must_use]
    #[inline]
    pub fn wants_poll(&self) -> bool {
        self.state.wants_poll()
    }

    /// The time to call [`handle_timeout`](Self::handle_timeout) if nothing happens before.
    ///
    /// Traffic does not change it. Whether a deadline still holds is checked when it passes, so a wake-up may
    /// turn out to be needless.
    #[must_use]
    #[inline]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.state.deadlines.next_at()
    }

    /// The deadline behind [`poll_timeout`](Self::poll_timeout).
    pub fn timeout_reason(&self) -> Option<Deadline> {
        self.state.deadlines.next().map(|(_, deadline)| deadline)
    }

    /// Whether the session takes messages, its send queue is at or below the high watermark, and no message
    /// [is being encoded](Self::is_encoding).
    pub fn is_writable(&self) -> bool {
        self.state.takes_messages()
            && self.state.outbox.queued() <= self.state.config.high_watermark()
            && !self.state.is_encoding()
    }

    /// Whether the message sent last is still being encoded: a WebSocket message that is to be compressed
    /// and has more than 64 KiB. Its bytes are queued once it is done. Until then, no other message is sent
    /// or delivered, the session does not want to read, and deadlines on the peer's sending stand still.
    ///
    /// [`poll_event`](Self::poll_event) and [`outbound`](Self::outbound) finish it;
    /// [`poll_event_within`](Self::poll_event_within) goes on with it as far as its limit allows.
    #[inline]
    pub fn is_encoding(&self) -> bool {
        self.state.is_encoding()
    }

    /// Whether the opening handshake is under way. Always false without one.
    pub fn is_opening(&self) -> bool {
        self.state.status.phase == Phase::Opening
    }

    /// Whether the session takes messages to send: it is not opening, half-closed, closing or closed.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.state.takes_messages()
    }

    /// Whether the session has ended, even if [`Event::Closed`](crate::Event::Closed) has not been polled
    /// yet.
    pub fn is_over(&self) -> bool {
        matches!(self.state.status.phase, Phase::Closed | Phase::Ended)
    }

    /// Whether [`Event::Closed`](crate::Event::Closed) has been polled: nothing is left to do.
    pub fn is_closed(&self) -> bool {
        self.state.status.phase == Phase::Ended
    }

    /// The reason why the session ends, once it is closing. [`Event::Closed`](crate::Event::Closed) reports
    /// it, unless something else ends the session first.
    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.state.reason.as_deref()
    }

    /// The time of the peer's last sign of life: the opening, the last received bytes, or the last
    /// [`update_active`](Self::update_active) (Go getty's `GetActive`).
    pub fn last_active(&self) -> Timestamp {
        self.state.last_active
    }

    /// Bytes accepted for sending that the transport has not taken yet. Bytes sealed by a layer count at
    /// their sealed size.
    #[inline]
    pub fn queued(&self) -> usize {
        self.state.queued()
    }

    /// Whether [`outbound`](Session::outbound) has something to write. Queued messages may have to wait for a
    /// layer's handshake.
    #[inline]
    pub fn wants_write(&self) -> bool {
        self.state.wants_write() || self.state.is_encoding()
    }

    /// Totals of the session so far.
    pub fn stats(&self) -> Stats {
        self.state.stats()
    }

    /// The session's configuration.
    pub fn config(&self) -> &Arc<Config> {
        &self.state.config
    }

    /// Works in `memory` until [`take_back`](Self::take_back); see [`Memory`].
    #[inline(always)]
    pub fn lend(&mut self, memory: Memory) {
        self.state.lend(memory.0);
    }

    /// Returns the lent memory, emptied. If none was lent, returns new memory.
    #[inline(always)]
    pub fn take_back(&mut self) -> Memory {
        Memory(self.state.take_back())
    }
}

impl<P: Protocol> Session<P> {
    /// Makes a session that begins at `now`.
    pub fn new(mut protocol: P, config: Arc<Config>, now: Timestamp) -> Self {
        let mut state = State::new(config, now);
        if let Some(layer) = protocol.layer() {
            state.begin_layer(layer.is_handshaking());
        }
        protocol.begin(&mut Host::new(&mut state));
        state.open_without_handshake();
        Session { protocol, state }
    }

    /// Takes bytes from the peer. They are held until they are polled as messages, so don't hand over more
    /// while [`wants_read`](Self::wants_read) is false.
    pub fn handle_input(&mut self, now: Timestamp, bytes: &[u8]) {
        self.state.advance_time(now);
        if self.protocol.layer().is_some() {
            let buffers = self.state.buffers.get_or_insert_default();
            copy::append(&mut buffers.layer.wire.received, bytes);
            return self.receive_through_layer(bytes.len());
        }
        if self.state.keeps_input() {
            self.state.buffers.get_or_insert_default().received.append(bytes);
        }
        self.state.count_read(bytes.len());
    }

    /// A buffer to read into without a copy. Confirm with [`handle_read`](Self::handle_read) after the read.
    ///
    /// The buffer grows with the bytes that have arrived, never with the length that a frame's header
    /// announces.
    #[inline(always)]
    pub fn recv_buf(&mut self) -> Limit<&mut BytesMut> {
        self.state.recv_buf()
    }

    /// Takes the bytes that were appended to [`recv_buf`](Self::recv_buf). Does nothing if there are none.
    /// Bytes appended without this call may be decoded, but don't count as received.
    #[inline(always)]
    pub fn handle_read(&mut self, now: Timestamp) {
        self.state.advance_time(now);
        let keeps = self.state.keeps_input();
        let Some(buffers) = &mut self.state.buffers else { return };
        // No length exceeds this mark, so the same bytes are not counted twice.
        let mark = std::mem::replace(&mut self.state.inbox.mark, usize::MAX);
        if self.protocol.layer().is_some() {
            let n = buffers.layer.wire.received.len().saturating_sub(mark);
            return self.receive_through_layer(n);
        }
        let n = buffers.received.len().saturating_sub(mark);
        if keeps {
            buffers.received.appended(n);
        } else {
            buffers.received.truncate_by(n);
        }
        self.state.count_read(n);
    }

    /// Passes `n` new bytes through the layer.
    fn receive_through_layer(&mut self, n: usize) {
        self.state.count_read(n);
        if let Some(layer) = self.protocol.layer() {
            self.state.unseal(layer, n);
        }
        self.state.watch_unopened();
    }

    /// Reports that the peer has ended its stream.
    pub fn handle_eof(&mut self, now: Timestamp) {
        match self.protocol.layer() {
            Some(layer) => self.state.handle_layer_eof(layer, now),
            None => self.state.handle_eof(now),
        }
    }

    /// Reports that the sending side of the transport has been ended, as
    /// [`wants_shutdown`](Self::wants_shutdown) asked.
    pub fn handle_shutdown(&mut self, now: Timestamp) {
        self.state.handle_shutdown(now);
    }

    /// Whether to read. False while received messages wait to be polled, while paused, while queued replies
    /// are above the watermark, and when no more bytes will come.
    #[inline]
    pub fn wants_read(&self) -> bool {
        self.state.wants_read()
    }

    /// Whether to end the sending side of the transport (half-close). Everything is written and nothing more
    /// will follow.
    #[inline]
    pub fn wants_shutdown(&self) -> bool {
        self.state.wants_shutdown()
    }

    /// The bytes to write, as a [`Buf`](bytes::Buf) with a real `chunks_vectored`. Call `advance` once per
    /// write, with the number of bytes written.
    ///
    /// If a message [is being encoded](Self::is_encoding), this finishes it.
    pub fn outbound(&mut self, now: Timestamp) -> Outbound<'_> {
        self.outbound_within(now, u64::MAX)
    }

    /// The bytes to write, as from [`outbound`](Self::outbound). But a message that
    /// [is being encoded](Self::is_encoding) is left for later once [`Work::bytes`] has reached `limit`. With
    /// a limit of 0, it is left to [`poll_event_within`](Self::poll_event_within).
    pub fn outbound_within(&mut self, now: Timestamp, limit: u64) -> Outbound<'_> {
        self.state.advance_time(now);
        self.state.replying = false;
        self.continue_encoding(limit);
        self.write_due();
        if let Some(layer) = self.protocol.layer() {
            self.state.seal(layer);
        }
        self.state.waiting_since.get_or_insert(self.state.now);
        Outbound::new(&mut self.state)
    }

    /// Takes a message to send.
    ///
    /// A message sent after another was polled counts as a reply to it, until the next poll, `outbound`,
    /// `handle_*` or [`end_reply`](Self::end_reply). See
    /// [`ConfigBuilder::watermarks`](crate::ConfigBuilder::watermarks).
    ///
    /// Compressing a large message takes long (1 to 50 ms per MiB), so that is done
    /// [later](Self::is_encoding). Sending another message before that finishes it first.
    ///
    /// # Errors
    /// [`SendError`] has the reason and returns the item where possible. The session is unchanged. After
    /// `Blocked`, [`Event::Writable`](crate::Event::Writable) reports when to try again.
    pub fn send(&mut self, item: Out<P>) -> Result<Accepted, SendError<Out<P>>> {
        let Session { protocol, state } = self;
        let limit = protocol.max_sent(&state.config);
        match protocol.encoded_len(&item) {
            Some(size) if likely(state.has_room_for_small(size, limit)) => self.send_small(item, size),
            size => self.send_any(item, size.unwrap_or(1), limit),
        }
    }

    /// Takes a message of `size` bytes that [has room](State::has_room_for_small). If it has this size once
    /// encoded, nothing more is to be checked.
    #[inline(always)]
    fn send_small(&mut self, item: Out<P>, size: usize) -> Result<Accepted, SendError<Out<P>>> {
        let Session { protocol, state } = self;
        let buffers = state.buffers.get_or_insert_default();
        let mut sink = Sink::new(&mut buffers.segments.gathered);
        let encoded = protocol.encode(item, &mut sink);
        let bytes = sink.written();
        // A message that is to be encoded later has written nothing.
        if !likely(encoded.is_ok() && bytes == size) {
            let (gathered, chained) = buffers.segments.mark();
            return self.accept_any(encoded, bytes, (gathered - bytes, chained));
        }
        if state.outbox.is_empty() {
            state.waiting_since = None;
        }
        Ok(Accepted::new(state.outbox.accept(buffers, bytes, state.replying), bytes))
    }

    /// Takes a message of about `known` bytes, with all checks.
    #[inline(never)]
    fn send_any(&mut self, item: Out<P>, known: usize, limit: usize) -> Result<Accepted, SendError<Out<P>>> {
        if self.state.is_encoding() && self.state.takes_messages() {
            self.continue_encoding(u64::MAX);
        }
        let Session { protocol, state } = self;
        if !state.has_room(known, limit) {
            return Err(state.refuse(item, known, limit));
        }
        let zero_copy_from = state.zero_copy_from();
        let buffers = state.buffers.get_or_insert_default();
        let mark = buffers.segments.mark();
        let mut sink = Sink::queue(&mut buffers.segments, zero_copy_from);
        let encoded = protocol.encode(item, &mut sink);
        let bytes = sink.written();
        self.accept_any(encoded, bytes, mark)
    }

    /// Accepts a message of `bytes`, unless encoding it has failed.
    #[inline(never)]
    fn accept_any<T>(
        &mut self,
        encoded: Result<(), Arc<dyn Error + Send + Sync>>,
        bytes: usize,
        mark: (usize, usize),
    ) -> Result<Accepted, SendError<T>> {
        let Session { protocol, state } = self;
        let limit = protocol.max_sent(&state.config);
        let too_large = || Arc::new(EncodedTooLarge { bytes, limit }) as _;
        let encoded = encoded.and_then(|()| if bytes > limit { Err(too_large()) } else { Ok(()) });
        if let Err(error) = encoded {
            return Err(state.take_back_encoded(mark, error));
        }
        if let Some(bytes) = protocol.encoding() {
            state.status.pending |= pending::ENCODING;
            return Ok(Accepted::new(state.outbox.accept_unencoded(state.replying), bytes));
        }
        if state.outbox.is_empty() {
            state.waiting_since = None;
        }
        let buffers = state.buffers.get_or_insert_default();
        let seq = state.outbox.accept(buffers, bytes, state.replying);
        state.status.blocked |= state.outbox.replies() > state.config.high_watermark();
        Ok(Accepted::new(seq, bytes))
    }

    /// Goes on with the message that [is being encoded](Self::is_encoding), until it is done or
    /// [`Work::bytes`] has reached `limit`. Returns whether it is done.
    fn continue_encoding(&mut self, limit: u64) -> bool {
        while self.state.is_encoding() && self.protocol.worked() < limit {
            self.encode_piece();
        }
        !self.state.is_encoding()
    }

    #[cold]
    fn encode_piece(&mut self) {
        let Session { protocol, state } = self;
        let zero_copy_from = state.zero_copy_from();
        let buffers = state.buffers.get_or_insert_default();
        let mut sink = Sink::queue(&mut buffers.segments, zero_copy_from);
        protocol.continue_encoding(&mut sink);
        let bytes = sink.written();
        if protocol.encoding().is_some() {
            return;
        }
        if state.outbox.is_empty() {
            state.waiting_since = None;
        }
        state.outbox.encoded(buffers, bytes);
        state.status.blocked |= state.outbox.replies() > state.config.high_watermark();
        state.end_encoding();
    }

    /// Answers the [`Event::Request`](crate::Event::Request) of a WebSocket client.
    ///
    /// # Errors
    /// [`RespondError`] has the reason. The session is unchanged, and a pending request still waits.
    #[cfg(feature = "websocket")]
    pub fn respond(&mut self, now: Timestamp, verdict: Verdict) -> Result<(), RespondError> {
        self.state.advance_time(now);
        if !self.state.is_asked() {
            return Err(RespondError::NotAsked);
        }
        self.protocol.respond(&mut Host::new(&mut self.state), verdict)
    }

    /// The work done so far, including what the bytes on the wire do not show.
    ///
    /// [`poll_event`](Self::poll_event) runs until it finds an event: before it returns `None` it decodes
    /// every ping and fragment that was read. To bound a turn, check this between reads and between events,
    /// and use [`poll_event_within`](Self::poll_event_within).
    #[inline]
    pub fn work(&self) -> Work {
        let frames = self.state.delivered + self.state.other_frames;
        Work { frames, bytes: self.protocol.worked() }
    }

    /// The weight in bytes of the message polled last, for queues of received messages that bound their
    /// memory.
    ///
    /// This is its size on the wire. For a WebSocket message that came compressed or in several frames, it is
    /// the size of the whole payload as delivered. It is never less than the size of the value itself. The
    /// size of what an application's own codec makes of those bytes is unknown here.
    pub fn last_weight(&self) -> usize {
        (self.state.weight as usize).max(size_of::<In<P>>())
    }

    /// The protocol, to look up facts about it.
    pub fn protocol(&self) -> &P {
        &self.protocol
    }
}
