//! [`Packets`]: one session for a datagram socket.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::inbox::Found;
use super::outgoing::Outgoing;
use super::socket::{Begun, Phase, Socket};
use super::{DropCounts, DropReason, Path, RecvBatch};
use crate::close::{Close, CloseReason};
use crate::codec::{Decoder, Encoder, Sink};
use crate::config::Config;
use crate::error::{EncodedTooLarge, IoFailure, SendError};
use crate::event::Event;
use crate::stats::{Accepted, Seq, Stats};
use crate::time::Timestamp;

/// How a socket's datagrams are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketOptions {
    pub(super) connected: bool,
    pub(super) several_frames: bool,
    pub(super) getty_compat: bool,
}

impl PacketOptions {
    /// For a socket that is connected to one peer.
    pub fn connected() -> Self {
        PacketOptions { connected: true, several_frames: false, getty_compat: false }
    }

    /// For a socket that talks to anybody.
    pub fn unconnected() -> Self {
        PacketOptions { connected: false, ..Self::connected() }
    }

    /// The same options for the other kind of socket.
    #[must_use]
    pub fn with_connected(self, connected: bool) -> Self {
        PacketOptions { connected, ..self }
    }

    /// Whether a datagram may hold several frames, one behind the other. Off by default: one frame fills it.
    #[must_use]
    pub fn several_frames(mut self, on: bool) -> Self {
        self.several_frames = on;
        self
    }

    /// Speaks to Go getty, whose UDP client sends the 12 bytes `connect-ping` before all else: a connected socket sends
    /// them too, and where they are the first datagram of a peer they are no message, but counted and dropped. Off by
    /// default, since they may be an application's own.
    ///
    /// An unconnected socket knows the latest 4096 peers or so; of one that it has forgotten it takes another
    /// `connect-ping` for the first.
    #[must_use]
    pub fn getty_compat(mut self, on: bool) -> Self {
        self.getty_compat = on;
        self
    }
}

/// One session for a datagram socket, whoever the peers are: over UDP, as a rule.
///
/// It is driven as a [`Session`](crate::Session) is, with datagrams in the place of a stream of bytes: one datagram
/// holds one frame of the codec. Each message comes with the [`path`](Self::path) that it took, and answers go back on
/// it. There is no end of a stream, and nothing that a peer sends ends the session: what can't be decoded is dropped,
/// counted, and reported with [`Event::Dropped`], once a second at the most.
///
/// # Order
///
/// Bring what was received ([`handle_datagrams`](Self::handle_datagrams)) when it [`wants_read`](Self::wants_read); poll
/// events until `None`; send [`outgoing`](Self::outgoing) until it is empty or the socket is full, and say how many were
/// taken with [`handle_sent`](Self::handle_sent); then wait for the socket or for [`poll_timeout`](Self::poll_timeout).
///
/// # Back-pressure
///
/// What the socket does not take waits, up to the limits of [`ConfigBuilder::watermarks`](crate::ConfigBuilder::watermarks)
/// and [`hard_limit`](crate::ConfigBuilder::hard_limit). With more than the high watermark of answers waiting, nothing more is delivered,
/// and so nothing read: the system then drops what its own buffer can't hold, as it does whenever datagrams come faster
/// than they are taken.
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
    socket: Socket,
    out: PhantomData<fn(O)>,
}

impl<C, O> Packets<C, O>
where
    C: Decoder + Encoder<O>,
{
    /// A session that begins at `now`, with datagrams of `codec`.
    pub fn new(codec: C, options: PacketOptions, config: Arc<Config>, now: Timestamp) -> Self {
        let socket = Socket::new(options, config, now);
        Packets { codec, socket, out: PhantomData }
    }

    /// Datagrams were received.
    ///
    /// # Errors
    /// The batch is given back if it is not wanted: others are still being looked at, or the session is over.
    pub fn handle_datagrams(&mut self, now: Timestamp, batch: RecvBatch) -> Result<(), RecvBatch> {
        let socket = &mut self.socket;
        socket.clock(now);
        if !socket.inbox.is_empty() || !socket.keeps_input() {
            return Err(batch);
        }
        socket.begin_batch(batch);
        Ok(())
    }

    /// The same with a copy of one datagram, for those who don't receive in batches. Gives `false` if there was no room:
    /// poll what came before, then bring it again.
    #[must_use]
    pub fn handle_datagram(&mut self, now: Timestamp, path: Path, bytes: &[u8]) -> bool {
        let socket = &mut self.socket;
        socket.clock(now);
        if !socket.keeps_input() {
            return true; // nobody wants it
        }
        let limit = socket.config.max_datagram();
        socket.inbox.copy(path, bytes, limit)
    }

    /// The batch of [`handle_datagrams`](Self::handle_datagrams), if every datagram of it was looked at. To be asked for when
    /// the answers are sent: what takes them is memory of the batch, and goes with it unless they still wait.
    pub fn take_batch(&mut self) -> Option<RecvBatch> {
        self.socket.take_batch()
    }

    /// Time has come to `now`. Harmless when nothing is due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.socket.handle_timeout(now);
    }

    /// The first `n` datagrams of [`outgoing`](Self::outgoing) were taken by the socket.
    pub fn handle_sent(&mut self, now: Timestamp, n: usize) {
        self.socket.handle_sent(now, n);
    }

    /// The first datagram of [`outgoing`](Self::outgoing) can't be sent: it is dropped and reported. A full socket is no
    /// reason; the datagram then waits.
    ///
    /// Gives the message that it was. It counts as done in [`Event::Flushed`] and [`Progress`](crate::Progress), which tell
    /// of a whole series: who waits for this very one is to be told by the caller.
    pub fn handle_unsent(&mut self, now: Timestamp, failure: impl Into<IoFailure>) -> Option<Seq> {
        self.socket.handle_unsent(now, failure.into())
    }

    /// The network says that something sent before did not arrive (an ICMP message: the port is closed, there is no way
    /// to the host, the path's MTU is smaller). That is reported and ends nothing.
    pub fn handle_unreachable(
        &mut self,
        now: Timestamp,
        peer: Option<std::net::SocketAddr>,
        failure: impl Into<IoFailure>,
    ) {
        self.socket.clock(now);
        if !matches!(self.socket.phase, Phase::Closed | Phase::Ended) {
            self.socket.drops.count(peer, DropReason::Unsent(failure.into()));
        }
    }

    /// The socket failed: no more datagrams go either way. That is so if it is no socket (`EBADF` and the
    /// like), or if receiving gives the same error again and again. Errors of single datagrams are for
    /// [`handle_unsent`](Self::handle_unsent) and [`handle_unreachable`](Self::handle_unreachable).
    pub fn handle_io_error(&mut self, now: Timestamp, failure: impl Into<IoFailure>) {
        self.socket.clock(now);
        self.socket.finish(CloseReason::Io(failure.into()));
    }

    /// Takes a message to send to the peer of a connected socket.
    ///
    /// # Errors
    /// [`SendError`] says why not and gives the item back where possible: [`NoPeer`](SendError::NoPeer) if the socket is
    /// not connected. The session is as it was.
    pub fn send(&mut self, item: O) -> Result<Accepted, SendError<O>> {
        if !self.socket.options.connected {
            return Err(SendError::NoPeer(item));
        }
        self.send_on(None, item)
    }

    /// Takes a message to send to any peer, over a socket that is not connected.
    ///
    /// # Errors
    /// As for [`send`](Self::send); [`Connected`](SendError::Connected) if the socket is.
    pub fn send_to(&mut self, path: impl Into<Path>, item: O) -> Result<Accepted, SendError<O>> {
        if self.socket.options.connected {
            return Err(SendError::Connected(item));
        }
        self.send_on(Some(path.into()), item)
    }

    /// Takes a message to send to where the message came from that was polled last.
    ///
    /// # Errors
    /// As for [`send`](Self::send); [`NoPeer`](SendError::NoPeer) if no message was polled, or the answer has ended since:
    /// with the next poll, or with [`end_answer`](Self::end_answer).
    pub fn reply(&mut self, item: O) -> Result<Accepted, SendError<O>> {
        if self.socket.options.connected {
            return self.send_on(None, item);
        }
        match self.socket.path {
            Some(path) => self.send_on(Some(path), item),
            None if !self.socket.takes_messages() => Err(SendError::Closed(item)),
            None => Err(SendError::NoPeer(item)),
        }
    }

    /// Where the message came from that was polled last; `None` once something else was polled, or the answer has
    /// [ended](Self::end_answer).
    pub fn path(&self) -> Option<Path> {
        self.socket.path
    }

    fn send_on(&mut self, path: Option<Path>, item: O) -> Result<Accepted, SendError<O>> {
        let Packets { codec, socket, .. } = self;
        let known = codec.encoded_len(&item).unwrap_or(0);
        let limit = socket.config.max_datagram();
        if !socket.has_room(known, limit) {
            return Err(socket.refuse(item, known, limit));
        }
        let buffer = socket.outgoing.buffer();
        let mark = buffer.len();
        let encoded = codec.encode(item, &mut Sink::new(buffer));
        let bytes = buffer.len() - mark;
        let error: Arc<dyn Error + Send + Sync> = match encoded {
            Ok(()) if bytes <= limit => return Ok(socket.accept(path, bytes)),
            Ok(()) => Arc::new(EncodedTooLarge { bytes, limit }),
            Err(error) => Arc::new(error),
        };
        buffer.truncate(mark);
        socket.shrink();
        socket.refused += 1;
        Err(SendError::Encode(error))
    }

    /// Stops delivering messages, and so stops reading. Other events still come.
    pub fn pause(&mut self) {
        self.socket.paused = true;
    }

    /// Goes on delivering.
    pub fn resume(&mut self, now: Timestamp) {
        self.socket.clock(now);
        if std::mem::take(&mut self.socket.paused) {
            self.socket.periods.restart_reading(self.socket.now);
        }
    }

    /// Ends the session: gracefully after what was accepted for sending, and with drain after the datagrams that were
    /// received. What comes later is dropped by the system when the socket is closed. Closing one that is closing changes
    /// nothing, except that an abort ends it at once, and that nothing more is delivered after a close without drain.
    pub fn close(&mut self, now: Timestamp, how: Close) {
        self.socket.close(now, how);
    }

    /// Notes a sign of life that the session can't see (Go getty's `UpdateActive`).
    pub fn update_active(&mut self, now: Timestamp) {
        self.socket.clock(now);
        self.socket.periods.sign(self.socket.now);
    }

    /// What is sent from now on answers no received message, until the next one is polled.
    pub fn end_answer(&mut self) {
        self.socket.end_answer();
    }

    /// Asks for [`Event::Flushed`] once no message waits any more of those accepted so far: each was taken by the socket, or
    /// [could not be sent](Self::handle_unsent). Gives the last of them.
    pub fn notify_flushed(&mut self) -> Option<Seq> {
        self.socket.flush_wanted = Some(self.socket.accepted).filter(|&accepted| accepted > 0);
        self.socket.check_flushed();
        Seq::new(self.socket.accepted)
    }

    /// The next event, or `None` if there is nothing to tell until something else happens.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event<C::Item>> {
        self.socket.end_answer();
        if self.socket.pending != 0 {
            return Some(self.socket.pending_event());
        }
        if let Some(message) = self.poll_message() {
            return Some(Event::Message(message));
        }
        match self.socket.phase {
            Phase::Closed => Some(self.socket.take_closed()),
            Phase::Ended => None,
            _ => self.socket.drops.take_report(self.socket.now).map(Event::Dropped),
        }
    }

    /// The next message, if it is the next event: `None` means to go on with [`poll_event`](Self::poll_event).
    #[inline]
    pub fn poll_message(&mut self) -> Option<C::Item> {
        let Packets { codec, socket, .. } = self;
        socket.end_answer();
        while socket.may_deliver() {
            if !socket.inbox.is_mid_datagram() {
                match socket.begin_datagram() {
                    Begun::Datagram => {}
                    Begun::Dropped => continue,
                    Begun::None => break,
                }
            }
            match socket.inbox.decode(codec, &socket.config, socket.options.several_frames) {
                Found::Message(message) => {
                    socket.messages += 1;
                    socket.answering = true;
                    socket.path = socket.begun;
                    return Some(message);
                }
                Found::Dropped(reason) => socket.drops.count(socket.peer(), reason),
                Found::Nothing => {}
            }
        }
        socket.end_drain();
        None
    }

    /// The weight of the message that was polled last, in bytes: for queues of received messages that bound
    /// their memory. That is what it took of its datagram, and no less than the value itself takes where it
    /// is kept.
    pub fn last_weight(&self) -> usize {
        self.socket.inbox.taken().max(size_of::<C::Item>())
    }

    /// Whether [`poll_event`](Self::poll_event) may have something to tell: for drivers that spare the call. `false` is
    /// certain.
    #[must_use]
    #[inline]
    pub fn wants_poll(&self) -> bool {
        self.socket.wants_poll()
    }

    /// When [`handle_timeout`](Self::handle_timeout) should be called, if nothing happens before. Traffic does not move it.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.socket.poll_timeout()
    }

    /// Whether to receive: false while datagrams are here that were not polled, while paused, while answers wait above
    /// their watermark, and when the session is closing.
    pub fn wants_read(&self) -> bool {
        let socket = &self.socket;
        socket.phase == Phase::Open && !socket.is_suspended() && socket.inbox.is_empty()
    }

    /// What to send.
    pub fn outgoing(&mut self, now: Timestamp) -> &Outgoing {
        self.socket.clock(now);
        &self.socket.outgoing
    }

    /// How many datagrams wait to be sent.
    pub fn outgoing_len(&self) -> usize {
        self.socket.outgoing.len()
    }

    /// Whether there is something to send.
    pub fn wants_write(&self) -> bool {
        !self.socket.outgoing.is_empty()
    }

    /// Whether the send queue is at or below the high watermark and the session takes messages.
    pub fn is_writable(&self) -> bool {
        self.is_open() && self.socket.outgoing.weight() <= self.socket.config.high_watermark()
    }

    /// Whether the session takes messages to send: it is not closing or closed.
    pub fn is_open(&self) -> bool {
        self.socket.takes_messages()
    }

    /// Whether the session is over, told or not: [`Event::Closed`] is the last that there is to poll.
    pub fn is_over(&self) -> bool {
        matches!(self.socket.phase, Phase::Closed | Phase::Ended)
    }

    /// Whether [`Event::Closed`] has been polled: there is nothing more to do.
    pub fn is_closed(&self) -> bool {
        self.socket.phase == Phase::Ended
    }

    /// When a peer last gave a sign of life: the beginning, the last datagram, or the last
    /// [`update_active`](Self::update_active).
    pub fn last_active(&self) -> Timestamp {
        self.socket.periods.last_active(&self.socket.activity)
    }

    /// What the session has done so far. Its operations are datagrams.
    pub fn stats(&self) -> Stats {
        self.socket.stats()
    }

    /// What came to nothing so far, also what was not told yet when the session ended.
    pub fn dropped(&self) -> DropCounts {
        self.socket.drops.total()
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Arc<Config> {
        &self.socket.config
    }

    /// The options it was made with.
    pub fn options(&self) -> PacketOptions {
        self.socket.options
    }
}

impl<C: fmt::Debug, O> fmt::Debug for Packets<C, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packets").field("codec", &self.codec).field("socket", &self.socket).finish()
    }
}
