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
mod protocol;
mod state;

pub use due::Due;
pub use host::Host;
pub use outbound::Outbound;
pub use protocol::{Found, In, Out, Protocol, Sealed, Unfinished};

use std::sync::Arc;

use bytes::BytesMut;
use bytes::buf::Limit;

use crate::close::{Close, CloseReason};
use crate::codec::Sink;
use crate::config::Config;
use crate::copy;
use crate::deadline::Deadline;
use crate::error::{EncodedTooLarge, HalfCloseError, IoFailure, SendError};
use crate::event::Event;
use crate::memory::Memory;
use crate::pending;
use crate::stats::{Accepted, Seq, Stats, Work};
use crate::time::Timestamp;
#[cfg(feature = "websocket")]
use crate::upgrade::{AnswerError, Verdict};
use phase::Phase;
use state::State;

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
/// `handle_shutdown`; read if `wants_read`. Reading comes last because a poll that gives `None` can make the session
/// want to read; for who reads first, that poll counts as something that happened. Then wait for the transport or for `poll_timeout`. Polls are
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
    state: State,
}

/// What does not depend on the messages.
impl<P> Session<P> {
    /// Time has come to `now`. Harmless when nothing is due.
    ///
    /// Bring what the transport holds first: after the machine slept, or was busy for long, a deadline may have passed although
    /// the peer did its part in time.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.state.handle_timeout(now);
    }

    /// The transport failed: no more bytes go either way.
    ///
    /// Whole messages that had been received are still delivered (unless the session is paused), then comes
    /// `Closed`. Calls that should be repeated (`WouldBlock`, `Interrupted`) are not failures.
    pub fn handle_io_error(&mut self, now: Timestamp, failure: impl Into<IoFailure>) {
        self.state.handle_io_error(now, failure.into());
    }

    /// Stops delivering messages, and so stops reading. Other events still come.
    pub fn pause(&mut self) {
        self.state.pause();
    }

    /// Goes on delivering. Deadlines on the peer's sending start afresh.
    pub fn resume(&mut self, now: Timestamp) {
        self.state.resume(now);
    }

    /// Ends the session.
    ///
    /// Closing one that is closing changes nothing, except that an abort ends it at once, and that nothing
    /// more is delivered after a close without drain.
    pub fn close(&mut self, now: Timestamp, how: Close) {
        self.state.close(now, how);
    }

    /// Ends the sending side and goes on reading: "send, end, read the answer".
    ///
    /// What was accepted before is still sent; then the stream's sending side is ended
    /// ([`wants_shutdown`](Self::wants_shutdown)), after the end of a layer where there is one (TLS: close_notify). Nothing more
    /// can be sent. Messages are received as ever, until the peer ends its side too: then come
    /// [`Event::ReadEnd`] and, since both sides have ended, [`Event::Closed`] with [`CloseReason::Eof`]. No deadline of its own is set:
    /// [`Config::idle_read`](crate::Config::idle_read) and [`Config::idle_timeout`](crate::Config::idle_timeout) go on. A second call changes nothing.
    ///
    /// # Errors
    /// [`HalfCloseError`]: the session is not open, or the protocol (WebSocket) closes with a handshake and has no half-close.
    pub fn half_close(&mut self, now: Timestamp) -> Result<(), HalfCloseError> {
        self.state.half_close(now)
    }

    /// Notes a sign of life that the session can't see, such as the application's own heartbeat (Go getty's
    /// `UpdateActive`). Only [`last_active`](Self::last_active) changes.
    pub fn update_active(&mut self, now: Timestamp) {
        self.state.clock(now);
        self.state.last_active = self.state.now;
    }

    /// What is sent from now on answers no received message, until the next one is polled. For drivers that send on
    /// behalf of others than whoever handles messages; see [`send`](Session::send).
    pub fn end_answer(&mut self) {
        self.state.answering = false;
    }

    /// Asks for [`Event::Flushed`] once the transport has every message accepted so far.
    ///
    /// Gives the last of them, or `None` if nothing was sent yet (no event will come, as none comes after
    /// `Closed`). If another request is made before, one event answers both.
    pub fn notify_flushed(&mut self) -> Option<Seq> {
        let accepted = self.state.outbox.accepted();
        self.state.flush_wanted = accepted;
        self.state.check_flushed();
        accepted
    }

    /// Whether [`poll_event`](Self::poll_event) may have something to tell: for drivers that spare the call. `false` is
    /// certain.
    #[must_use]
    #[inline]
    pub fn wants_poll(&self) -> bool {
        self.state.wants_poll()
    }

    /// When [`handle_timeout`](Self::handle_timeout) should be called, if nothing happens before.
    ///
    /// Traffic does not move it: deadlines that were outlived are noticed when they pass, which may be a needless
    /// wake-up.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.state.deadlines.next_at()
    }

    /// What [`poll_timeout`](Self::poll_timeout) waits for.
    pub fn timeout_reason(&self) -> Option<Deadline> {
        self.state.deadlines.next().map(|(_, deadline)| deadline)
    }

    /// Whether the send queue is at or below the high watermark and the session takes messages.
    pub fn is_writable(&self) -> bool {
        self.state.takes_messages() && self.state.outbox.queued() <= self.state.config.high_watermark()
    }

    /// Whether the opening handshake is under way. Never where there is none.
    pub fn is_opening(&self) -> bool {
        self.state.phase == Phase::Opening
    }

    /// Whether the session takes messages to send: it is not opening, closing or closed.
    pub fn is_open(&self) -> bool {
        self.state.takes_messages()
    }

    /// Whether the session is over, told or not: [`Event::Closed`] is the last that there is to poll.
    pub fn is_over(&self) -> bool {
        matches!(self.state.phase, Phase::Closed | Phase::Ended)
    }

    /// Whether [`Event::Closed`] has been polled: there is nothing more to do.
    pub fn is_closed(&self) -> bool {
        self.state.phase == Phase::Ended
    }

    /// Why the session ends, once it is closing: what [`Event::Closed`] will tell, unless something else ends it before.
    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.state.reason.as_deref()
    }

    /// When the peer last gave a sign of life: at the opening, at the last received bytes, or at the last
    /// [`update_active`](Self::update_active) (Go getty's `GetActive`).
    pub fn last_active(&self) -> Timestamp {
        self.state.last_active
    }

    /// Bytes accepted for sending that the transport has not taken yet; of those that a layer has sealed, the sealed ones.
    pub fn queued(&self) -> usize {
        self.state.queued()
    }

    /// Whether [`outbound`](Session::outbound) has something to write. What is queued may have to wait for a layer's
    /// handshake.
    pub fn wants_write(&self) -> bool {
        self.state.wants_write()
    }

    /// What the session has done so far.
    pub fn stats(&self) -> Stats {
        self.state.stats()
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Arc<Config> {
        &self.state.config
    }

    /// Works in `memory` until [`take_back`](Self::take_back); see [`Memory`].
    pub fn lend(&mut self, memory: Memory) {
        self.state.lend(memory.0);
    }

    /// Gives back what was lent, emptied. If nothing was lent, gives new memory.
    pub fn take_back(&mut self) -> Memory {
        Memory(self.state.take_back())
    }
}

impl<P: Protocol> Session<P> {
    /// A session that begins at `now`.
    pub fn new(mut protocol: P, config: Arc<Config>, now: Timestamp) -> Self {
        let mut state = State::new(config, now);
        if let Some(layer) = protocol.layer() {
            state.begin_layer(layer.is_handshaking());
        }
        protocol.begin(&mut Host::new(&mut state));
        state.open_without_handshake();
        Session { protocol, state }
    }

    /// Bytes came from the peer. They are held until they are polled as messages: don't bring more while
    /// [`wants_read`](Self::wants_read) is false.
    pub fn handle_input(&mut self, now: Timestamp, bytes: &[u8]) {
        self.state.clock(now);
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

    /// Room to read into without a copy; say with [`handle_read`](Self::handle_read) that it was used.
    ///
    /// The room grows with what has arrived, never with what a frame's header promises.
    pub fn recv_buf(&mut self) -> Limit<&mut BytesMut> {
        self.state.recv_buf()
    }

    /// Bytes were appended to [`recv_buf`](Self::recv_buf). Nothing happens if there were none. Bytes that are
    /// appended without this call may be decoded, but don't count as received.
    pub fn handle_read(&mut self, now: Timestamp) {
        self.state.clock(now);
        let keeps = self.state.keeps_input();
        let Some(buffers) = &mut self.state.buffers else { return };
        // No mark is above every length: the same bytes are not counted twice.
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

    /// `n` bytes came for the layer.
    fn receive_through_layer(&mut self, n: usize) {
        self.state.count_read(n);
        if let Some(layer) = self.protocol.layer() {
            self.state.unseal(layer, n);
        }
        self.state.watch_unopened();
    }

    /// The peer has ended its stream.
    pub fn handle_eof(&mut self, now: Timestamp) {
        match self.protocol.layer() {
            Some(layer) => self.state.handle_layer_eof(layer, now),
            None => self.state.handle_eof(now),
        }
    }

    /// The sending side of the transport has been ended, as [`wants_shutdown`](Self::wants_shutdown) asked.
    pub fn handle_shutdown(&mut self, now: Timestamp) {
        self.state.handle_shutdown(now);
    }

    /// Whether to read. False while messages are here that have not been polled, while paused, while answers are
    /// queued above their watermark, and when no more will come.
    pub fn wants_read(&self) -> bool {
        self.state.wants_read()
    }

    /// Whether to end the sending side of the transport (half-close): everything is written, nothing more
    /// will be.
    pub fn wants_shutdown(&self) -> bool {
        self.state.wants_shutdown()
    }

    /// The bytes to write, as a [`Buf`](bytes::Buf) with a true `chunks_vectored`. What was written is said
    /// with `advance`, once per write.
    pub fn outbound(&mut self, now: Timestamp) -> Outbound<'_> {
        self.state.clock(now);
        self.state.answering = false;
        self.write_due();
        if let Some(layer) = self.protocol.layer() {
            self.state.seal(layer);
        }
        self.state.waiting_since.get_or_insert(self.state.now);
        Outbound::new(&mut self.state)
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
        let Session { protocol, state } = self;
        let known = protocol.encoded_len(&item).unwrap_or(1);
        let limit = protocol.max_sent(&state.config);
        if !state.has_room(known, limit) {
            return Err(state.refuse(item, known, limit));
        }
        // A layer seals what lies together as one piece, and copies in doing so.
        let chain_over = if state.has_layer() { usize::MAX } else { state.config.chain_over() };
        let buffers = state.buffers.get_or_insert_default();
        let mark = buffers.segments.mark();
        let mut sink = Sink::queue(&mut buffers.segments, chain_over);
        let encoded = protocol.encode(item, &mut sink);
        let bytes = sink.written();
        if let Err(error) = encoded {
            return Err(state.take_back_encoded(mark, error));
        }
        if bytes > limit {
            let error = EncodedTooLarge { bytes, limit };
            return Err(state.take_back_encoded(mark, Arc::new(error)));
        }
        if state.outbox.is_empty() {
            state.waiting_since = None;
        }
        let seq = state.outbox.accept(buffers, bytes, state.answering);
        state.blocked |= state.outbox.answers() > state.config.high_watermark();
        Ok(Accepted::new(seq, bytes))
    }

    /// The next event, or `None` if there is nothing to tell until something else happens.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event<In<P>>> {
        self.state.answering = false;
        loop {
            self.write_due();
            if self.state.pending != 0 {
                if let Some(event) = self.pending_event() {
                    return Some(event);
                }
            }
            if let Some(message) = self.poll_message() {
                return Some(Event::Message(message));
            }
            if self.state.is_shaking_hands() {
                self.decode_handshake();
            }
            // Decoding may have ended the session, or found the end of the stream.
            match self.state.phase {
                Phase::Closed => return Some(self.state.take_closed()),
                _ if self.state.pending == 0 && self.state.dues.is_empty() => return None,
                _ => {}
            }
        }
    }

    /// Answers the [`Event::Request`] of a WebSocket client.
    ///
    /// # Errors
    /// [`AnswerError`] says why not; the session is as it was, and the request still waits if there was one.
    #[cfg(feature = "websocket")]
    pub fn answer(&mut self, now: Timestamp, verdict: Verdict) -> Result<(), AnswerError> {
        self.state.clock(now);
        if !self.state.is_asked() {
            return Err(AnswerError::NotAsked);
        }
        self.protocol.answer(&mut Host::new(&mut self.state), verdict)
    }

    /// The next message, if it is the next event: `None` means to go on with [`poll_event`](Self::poll_event).
    #[inline]
    pub fn poll_message(&mut self) -> Option<In<P>> {
        self.state.answering = false;
        while self.state.may_deliver() {
            let Session { protocol, state } = self;
            let before = state.buffers.as_ref().map_or(0, |b| b.received.len());
            if !state.inbox.is_worth_decoding(before) {
                if state.layer_waits && self.unseal_more() {
                    continue;
                }
                return self.poll_undecodable();
            }
            if let Some(buffers) = &mut state.buffers {
                let mut src = buffers.received.source(state.config.max_frame());
                let decoded = protocol.decode(&mut src);
                let left = src.len();
                match decoded {
                    Ok(Found::Message(message)) if left < before => {
                        state.weight = u32::try_from(src.weight(before - left)).unwrap_or(u32::MAX);
                        state.inbox.decoded();
                        if P::HAS_UNFINISHED && state.inbox.is_incomplete() {
                            state.inbox.watch_message(protocol.unfinished(), left, state.now);
                        }
                        state.received.messages += 1;
                        state.answering = true;
                        return Some(message);
                    }
                    Ok(Found::Control) if left < before => self.act_on_control(),
                    other => {
                        state.undecoded(other.map(Found::erase), left);
                        if !state.layer_waits {
                            return self.poll_undecodable();
                        }
                    }
                }
            }
        }
        None
    }

    /// Appends consecutive messages to `out`, `max` at most, and says how many. Stops before any other event.
    pub fn poll_messages(&mut self, out: &mut Vec<In<P>>, max: usize) -> usize {
        let before = out.len();
        out.extend(std::iter::from_fn(|| self.poll_message()).take(max));
        out.len() - before
    }

    /// The work done so far that the bytes on the wire do not show.
    ///
    /// [`poll_event`](Self::poll_event) goes on until it finds an event: it decodes all pings and fragments
    /// that were read before it gives `None`, and it decompresses a message as a whole. So look at this
    /// between reads and between events.
    #[inline]
    pub fn work(&self) -> Work {
        let frames = self.state.received.messages + self.state.other_frames;
        Work { frames, bytes: self.protocol.worked() }
    }

    /// The weight of the message that was polled last, in bytes: for queues of received messages that bound
    /// their memory.
    ///
    /// That is what it took on the wire; for a WebSocket message that came compressed or in several frames,
    /// all of its payload as it is now; and no less than the value itself takes where it is kept. The size of
    /// what the application's own codec makes of those bytes is not known here.
    pub fn last_weight(&self) -> usize {
        (self.state.weight as usize).max(size_of::<In<P>>())
    }

    /// The protocol, for facts about it.
    pub fn protocol(&self) -> &P {
        &self.protocol
    }

    /// Lets the protocol write what is due.
    #[inline]
    fn write_due(&mut self) {
        while let Some(due) = self.state.dues.take() {
            self.protocol.write_due(&mut Host::new(&mut self.state), due);
        }
    }

    #[inline(never)]
    fn pending_event(&mut self) -> Option<Event<In<P>>> {
        match self.state.take_pending() {
            pending::OPEN => Some(Event::Open(self.protocol.opened())),
            #[cfg(feature = "websocket")]
            pending::REQUEST => self.protocol.request().map(Event::Request),
            bit => self.state.event(bit),
        }
    }

    /// Lets the layer go on where it had to wait for room. Returns false if it did not.
    #[cold]
    fn unseal_more(&mut self) -> bool {
        let Some(layer) = self.protocol.layer() else { return false };
        self.state.unseal_more(layer);
        true
    }

    fn act_on_control(&mut self) {
        self.state.inbox.decoded();
        self.state.other_frames += 1;
        self.protocol.handle_control(&mut Host::new(&mut self.state));
    }

    /// Decodes what is not for the application: the opening handshake, and what comes before the peer's part of the
    /// closing one.
    fn decode_handshake(&mut self) {
        loop {
            let Session { protocol, state } = self;
            if !state.has_handshake_to_decode() {
                if state.may_unseal_handshake() && self.unseal_more() {
                    continue;
                }
                break;
            }
            let Some(buffers) = &mut state.buffers else { return };
            let before = buffers.received.len();
            let mut src = buffers.received.source(state.config.max_frame());
            let found = protocol.decode(&mut src);
            let left = src.len();
            match found {
                Ok(Found::Message(_)) if left < before => {
                    state.inbox.decoded();
                    state.other_frames += 1;
                }
                Ok(Found::Control) if left < before => self.act_on_control(),
                other => state.undecoded(other.map(Found::erase), left),
            }
        }
        if self.state.phase == Phase::Opening && self.state.read_ended {
            self.state.finish(CloseReason::Eof { mid_frame: true });
        }
    }

    /// No whole message is here: is that all there will be?
    fn poll_undecodable(&mut self) -> Option<In<P>> {
        let Session { protocol, state } = self;
        if !state.is_delivering() {
            return None;
        }
        let unfinished = if P::HAS_UNFINISHED { protocol.unfinished() } else { None };
        if unfinished.is_some() || state.inbox.is_incomplete() {
            state.inbox.watch_message(unfinished, state.buffered(), state.now);
        }
        if state.has_unopened() {
            state.inbox.begin_partial(state.received.bytes, state.now);
        }
        state.watch_partial();
        if state.read_ended && !state.read_end_told {
            if let Some(buffers) = state.buffers.as_mut().filter(|b| !b.received.is_empty()) {
                let before = buffers.received.len();
                match state.inbox.decode_eof(protocol, &mut buffers.received, &state.config) {
                    Ok(None) => {}
                    Ok(Some(message)) => {
                        state.weight = u32::try_from(before - buffers.received.len()).unwrap_or(u32::MAX);
                        state.received.messages += 1;
                        state.answering = true;
                        return Some(message);
                    }
                    Err(reason) => {
                        state.fail_decoding(*reason);
                        return None;
                    }
                }
            }
        }
        match state.phase {
            Phase::Draining | Phase::LastMessages => state.end_drain(),
            _ if state.read_ended => state.read_end_reached(),
            _ => {}
        }
        None
    }
}
