//! [`Packets`]: one session for a datagram socket.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::inbox::Found;
use super::outgoing::Outgoing;
use super::state::{Begun, PacketState, Phase};
use super::{DropCounts, DropReason, Path, RecvBatch};
use crate::close::{Close, CloseReason};
use crate::codec::{Decoder, Encoder, Sink};
use crate::config::Config;
use crate::error::{EncodedTooLarge, IoFailure, SendError};
use crate::event::Event;
use crate::stats::{Accepted, Seq, Stats};
use crate::time::Timestamp;

/// Options of a datagram socket's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketOptions {
    pub(super) connected: bool,
    pub(super) several_frames: bool,
    pub(super) getty_compat: bool,
}

impl PacketOptions {
    /// Returns options for a socket connected to one peer.
    pub fn connected() -> Self {
        PacketOptions { connected: true, several_frames: false, getty_compat: false }
    }

    /// Returns options for a socket that talks to all peers.
    pub fn unconnected() -> Self {
        PacketOptions { connected: false, ..Self::connected() }
    }

    /// Changes whether the socket is connected, and keeps the other options.
    #[must_use]
    pub fn with_connected(self, connected: bool) -> Self {
        PacketOptions { connected, ..self }
    }

    /// Sets whether a datagram may hold several frames in a row. Off by default: one frame fills it.
    #[must_use]
    pub fn several_frames(mut self, on: bool) -> Self {
        self.several_frames = on;
        self
    }

    /// Sets compatibility with Go getty, whose UDP client first sends the 12 bytes `connect-ping`. A
    /// connected socket then sends them too. As the first datagram of a peer they are not delivered as a
    /// message, but counted and dropped. Off by default, since they may be an application's own.
    ///
    /// An unconnected socket remembers roughly the latest 4096 peers. From a forgotten one, another
    /// `connect-ping` counts as the first datagram.
    #[must_use]
    pub fn getty_compat(mut self, on: bool) -> Self {
        self.getty_compat = on;
        self
    }
}

/// A session for a datagram socket and all its peers, usually over UDP.
///
/// It is driven like a [`Session`](crate::Session), with datagrams instead of a byte stream: one datagram
/// holds one frame of the codec. Each message comes with the [`path`](Self::path) that it took, and replies
/// take the same path. A datagram session has no end of stream, and a peer cannot end it: undecodable
/// datagrams are dropped, counted, and reported with [`Event::Dropped`], at most once per second.
///
/// # Order
///
/// Hand in received datagrams ([`handle_datagrams`](Self::handle_datagrams)) when it
/// [`wants_read`](Self::wants_read); poll events until `None`; send [`outgoing`](Self::outgoing) until it is
/// empty or the socket is full, and report how many were taken with [`handle_sent`](Self::handle_sent); then
/// wait for the socket or for [`poll_timeout`](Self::poll_timeout).
///
/// Datagrams that the socket does not take wait, within the limits of
/// [`ConfigBuilder::watermarks`](crate::ConfigBuilder::watermarks) and
/// [`max_queued`](crate::ConfigBuilder::max_queued). With more than the high watermark of replies waiting,
/// the session stops delivering and reading; the system then drops datagrams that exceed its own buffer, as
/// it does whenever they come faster than they are read.
///
/// # Example
///
/// ```
/// use std::sync::Arc;
///
/// use bytes::Bytes;
/// use getty_core::codec::Raw;
/// use getty_core::datagram::{PacketOptions, Packets, Path};
/// use getty_core::{Config, Event, Timestamp};
///
/// let now = Timestamp::ORIGIN;
/// let peer: std::net::SocketAddr = ([127, 0, 0, 1], 5000).into();
/// let mut echo: Packets<Raw> =
///     Packets::new(Raw, PacketOptions::unconnected(), Arc::new(Config::default()), now);
///
/// assert!(echo.handle_datagram(now, Path::new(peer), b"hello")); // there was room
/// while let Some(event) = echo.poll_event() {
///     if let Event::Message(message) = event {
///         echo.reply(message)?; // to where it came from
///     }
/// }
/// let transmit = echo.outgoing(now).transmits().next().unwrap();
/// assert_eq!((transmit.path.unwrap().peer, transmit.contents), (peer, &b"hello"[..]));
/// echo.handle_sent(now, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Packets<C, O = <C as Decoder>::Item> {
    codec: C,
    state: PacketState,
    out: PhantomData<fn(O)>,
}

impl<C, O> Packets<C, O>
where
    C: Decoder + Encoder<O>,
{
    /// Makes a session that begins at `now`, with datagrams of `codec`.
    pub fn new(codec: C, options: PacketOptions, config: Arc<Config>, now: Timestamp) -> Self {
        let state = PacketState::new(options, config, now);
        Packets { codec, state, out: PhantomData }
    }

    /// Handles received datagrams.
    ///
    /// # Errors
    /// Returns the batch if it can't be taken now: others are still being handled, or the session has ended.
    pub fn handle_datagrams(&mut self, now: Timestamp, batch: RecvBatch) -> Result<(), RecvBatch> {
        let state = &mut self.state;
        state.advance_time(now);
        if !state.inbox.is_empty() || !state.keeps_input() {
            return Err(batch);
        }
        state.begin_batch(batch);
        Ok(())
    }

    /// Handles a copy of one datagram, for callers that do not receive in batches. Returns `false` if there
    /// was no room: poll events, then hand it in again.
    #[must_use]
    pub fn handle_datagram(&mut self, now: Timestamp, path: Path, bytes: &[u8]) -> bool {
        let state = &mut self.state;
        state.advance_time(now);
        if !state.keeps_input() {
            return true; // dropped: the session takes no more
        }
        let limit = state.config.max_datagram();
        state.inbox.copy(path, bytes, limit)
    }

    /// Takes the batch of [`handle_datagrams`](Self::handle_datagrams) back, once all its datagrams were
    /// handled. Call this after sending the replies: they use memory of the batch, which stays with the
    /// session while any of them wait.
    pub fn take_batch(&mut self) -> Option<RecvBatch> {
        self.state.take_batch()
    }

    /// Handles time `now`. Harmless when nothing is due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.state.handle_timeout(now);
    }

    /// Reports that the socket took the first `n` datagrams of [`outgoing`](Self::outgoing).
    pub fn handle_sent(&mut self, now: Timestamp, n: usize) {
        self.state.handle_sent(now, n);
    }

    /// Reports that the first datagram of [`outgoing`](Self::outgoing) can't be sent: it is dropped and
    /// reported. Do not call this for a full socket; the datagram then waits.
    ///
    /// Returns its message. In [`Event::Flushed`] and [`Progress`](crate::Progress), which cover a whole
    /// series, it counts as done: report its failure to any code that waits for this message.
    pub fn handle_unsent(&mut self, now: Timestamp, failure: impl Into<IoFailure>) -> Option<Seq> {
        self.state.handle_unsent(now, failure.into())
    }

    /// Handles a network report that an earlier datagram did not arrive (an ICMP message: the port is closed,
    /// the host is unreachable, the path's MTU is smaller). It is reported and does not end the session.
    pub fn handle_unreachable(
        &mut self,
        now: Timestamp,
        peer: Option<std::net::SocketAddr>,
        failure: impl Into<IoFailure>,
    ) {
        self.state.advance_time(now);
        if !matches!(self.state.phase, Phase::Closed | Phase::Ended) {
            self.state.drops.count(peer, DropReason::Unsent(failure.into()));
        }
    }

    /// Handles a failure of the socket: it can't send or receive any longer. Call this if it is not a valid
    /// socket (`EBADF` and the like), or if receiving keeps failing with the same error. For errors of single
    /// datagrams use [`handle_unsent`](Self::handle_unsent) and
    /// [`handle_unreachable`](Self::handle_unreachable).
    pub fn handle_io_error(&mut self, now: Timestamp, failure: impl Into<IoFailure>) {
        self.state.advance_time(now);
        self.state.finish(CloseReason::Io(failure.into()));
    }

    /// Queues a message to the peer of a connected socket.
    ///
    /// # Errors
    /// Returns the item where possible; the session is unchanged. [`NoPeer`](SendError::NoPeer) if the socket
    /// is not connected.
    pub fn send(&mut self, item: O) -> Result<Accepted, SendError<O>> {
        if !self.state.options.connected {
            return Err(SendError::NoPeer(item));
        }
        self.send_on(None, item)
    }

    /// Queues a message to any peer, on a socket that is not connected.
    ///
    /// # Errors
    /// As for [`send`](Self::send); [`Connected`](SendError::Connected) if the socket is connected.
    pub fn send_to(&mut self, path: impl Into<Path>, item: O) -> Result<Accepted, SendError<O>> {
        if self.state.options.connected {
            return Err(SendError::Connected(item));
        }
        self.send_on(Some(path.into()), item)
    }

    /// Queues a reply to the source of the message polled last.
    ///
    /// # Errors
    /// As for [`send`](Self::send); [`NoPeer`](SendError::NoPeer) if no message was polled, or if the reply
    /// has ended since: with the next poll, or with [`end_reply`](Self::end_reply).
    pub fn reply(&mut self, item: O) -> Result<Accepted, SendError<O>> {
        if self.state.options.connected {
            return self.send_on(None, item);
        }
        match self.state.path {
            Some(path) => self.send_on(Some(path), item),
            None if !self.state.takes_messages() => Err(SendError::Closed(item)),
            None => Err(SendError::NoPeer(item)),
        }
    }

    /// The path of the message polled last; `None` once something else was polled or the reply has
    /// [ended](Self::end_reply).
    pub fn path(&self) -> Option<Path> {
        self.state.path
    }

    fn send_on(&mut self, path: Option<Path>, item: O) -> Result<Accepted, SendError<O>> {
        let Packets { codec, state, .. } = self;
        let known = codec.encoded_len(&item).unwrap_or(0);
        let limit = state.config.max_datagram();
        if !state.has_room(known, limit) {
            return Err(state.refuse(item, known, limit));
        }
        let buffer = state.outgoing.buffer();
        let mark = buffer.len();
        let encoded = codec.encode(item, &mut Sink::new(buffer));
        let bytes = buffer.len() - mark;
        let error: Arc<dyn Error + Send + Sync> = match encoded {
            Ok(()) if bytes <= limit => return Ok(state.accept(path, bytes)),
            Ok(()) => Arc::new(EncodedTooLarge { bytes, limit }),
            Err(error) => Arc::new(error),
        };
        buffer.truncate(mark);
        state.shrink();
        state.refused += 1;
        Err(SendError::Encode(error))
    }

    /// Stops delivering messages, and so stops reading. Other events still come.
    pub fn pause(&mut self) {
        self.state.paused = true;
    }

    /// Resumes delivering messages.
    pub fn resume(&mut self, now: Timestamp) {
        self.state.advance_time(now);
        if std::mem::take(&mut self.state.paused) {
            self.state.periods.restart_reading(self.state.now);
        }
    }

    /// Ends the session: gracefully after sending accepted messages, and with drain also after handling the
    /// received datagrams. Datagrams that come later are dropped by the system when the socket is closed. A
    /// second close changes nothing, except that an abort ends the session at once, and that a close without
    /// drain stops delivery.
    pub fn close(&mut self, now: Timestamp, how: Close) {
        self.state.close(now, how);
    }

    /// Records a sign of life that the session can't see (Go getty's `UpdateActive`).
    pub fn update_active(&mut self, now: Timestamp) {
        self.state.advance_time(now);
        self.state.periods.sign(self.state.now);
    }

    /// Ends the reply: messages sent from here on are not replies until the next message is polled.
    pub fn end_reply(&mut self) {
        self.state.end_reply();
    }

    /// Requests [`Event::Flushed`] once all messages accepted so far are done: taken by the socket, or [not
    /// sent](Self::handle_unsent). Returns the last of them.
    pub fn notify_flushed(&mut self) -> Option<Seq> {
        self.state.flush_wanted = Some(self.state.accepted).filter(|&accepted| accepted > 0);
        self.state.check_flushed();
        Seq::new(self.state.accepted)
    }

    /// Returns the next event, or `None` until something else happens.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event<C::Item>> {
        self.state.end_reply();
        if self.state.pending != 0 {
            return Some(self.state.pending_event());
        }
        if let Some(message) = self.poll_message() {
            return Some(Event::Message(message));
        }
        match self.state.phase {
            Phase::Closed => Some(self.state.take_closed()),
            Phase::Ended => None,
            _ => self.state.drops.take_report(self.state.now).map(Event::Dropped),
        }
    }

    /// Returns the next message, if that is the next event. On `None` continue with
    /// [`poll_event`](Self::poll_event).
    #[inline]
    pub fn poll_message(&mut self) -> Option<C::Item> {
        let Packets { codec, state, .. } = self;
        state.end_reply();
        while state.may_deliver() {
            if !state.inbox.is_mid_datagram() {
                match state.begin_datagram() {
                    Begun::Datagram => {}
                    Begun::Dropped => continue,
                    Begun::None => break,
                }
            }
            match state.inbox.decode(codec, &state.config, state.options.several_frames) {
                Found::Message(message) => {
                    state.messages += 1;
                    state.replying = true;
                    state.path = state.begun;
                    return Some(message);
                }
                Found::Dropped(reason) => state.drops.count(state.peer(), reason),
                Found::Nothing => {}
            }
        }
        state.end_drain();
        None
    }

    /// The weight in bytes of the message polled last, for queues of received messages with bounded memory:
    /// the bytes it took of its datagram, and at least the memory of the value itself.
    pub fn last_weight(&self) -> usize {
        self.state.inbox.taken().max(size_of::<C::Item>())
    }

    /// Whether [`poll_event`](Self::poll_event) may return an event. `false` is certain, and lets a driver
    /// skip the call.
    #[must_use]
    #[inline]
    pub fn wants_poll(&self) -> bool {
        self.state.wants_poll()
    }

    /// The time to call [`handle_timeout`](Self::handle_timeout), if nothing happens before. Traffic does not
    /// change it.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.state.poll_timeout()
    }

    /// Whether to receive: false while received datagrams are not polled yet, while paused, while waiting
    /// replies are above their watermark, and when closing.
    pub fn wants_read(&self) -> bool {
        let state = &self.state;
        state.phase == Phase::Open && !state.is_suspended() && state.inbox.is_empty()
    }

    /// The datagrams to send, as of `now`. Report the result with [`handle_sent`](Self::handle_sent) or
    /// [`handle_unsent`](Self::handle_unsent).
    pub fn outgoing(&mut self, now: Timestamp) -> &Outgoing {
        self.state.advance_time(now);
        &self.state.outgoing
    }

    /// The number of datagrams waiting to be sent.
    pub fn outgoing_len(&self) -> usize {
        self.state.outgoing.len()
    }

    /// Whether datagrams wait to be sent.
    pub fn wants_write(&self) -> bool {
        !self.state.outgoing.is_empty()
    }

    /// Whether the send queue is at or below the high watermark and the session accepts messages.
    pub fn is_writable(&self) -> bool {
        self.is_open() && self.state.outgoing.weight() <= self.state.config.high_watermark()
    }

    /// Whether the session accepts messages: it is neither closing nor closed.
    pub fn is_open(&self) -> bool {
        self.state.takes_messages()
    }

    /// Whether the session has ended, even if [`Event::Closed`] has not been polled yet.
    pub fn is_over(&self) -> bool {
        matches!(self.state.phase, Phase::Closed | Phase::Ended)
    }

    /// Whether [`Event::Closed`] has been polled: nothing is left to do.
    pub fn is_closed(&self) -> bool {
        self.state.phase == Phase::Ended
    }

    /// The time of a peer's last sign of life: the beginning, the last datagram, or the last
    /// [`update_active`](Self::update_active).
    pub fn last_active(&self) -> Timestamp {
        self.state.periods.last_active(&self.state.activity)
    }

    /// The session's counts so far. Its operations are datagrams.
    pub fn stats(&self) -> Stats {
        self.state.stats()
    }

    /// Counts of dropped datagrams so far, including those not reported when the session ended.
    pub fn dropped(&self) -> DropCounts {
        self.state.drops.total()
    }

    /// The session's configuration.
    pub fn config(&self) -> &Arc<Config> {
        &self.state.config
    }

    /// The session's options.
    pub fn options(&self) -> PacketOptions {
        self.state.options
    }
}

impl<C: fmt::Debug, O> fmt::Debug for Packets<C, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packets").field("codec", &self.codec).field("state", &self.state).finish()
    }
}
