//! [`Peers`]: a session for each peer of a datagram socket.

mod closing;
mod limits;
mod receiving;
mod sending;
mod states;

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;

pub use limits::PeerLimits;

use self::receiving::Begun;
use self::sending::Popped;
use self::states::{PeerStates, Phase};
use super::inbox;
use super::outgoing::Outgoing;
use super::table::PeerKey;
use super::{DropCounts, DropReason, Dropped, PacketOptions, Path, RecvBatch};
use crate::close::{Close, CloseReason};
use crate::codec::{Decoder, Encoder, Sink};
use crate::config::Config;
use crate::error::{EncodedTooLarge, IoFailure, SendError};
use crate::event::Event;
use crate::pending;
use crate::stats::{Accepted, Progress, Seq, Stats};
use crate::time::Timestamp;

/// An event of [`Peers::poll_event`]. `T` is a received message.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum PeersEvent<T> {
    /// A datagram came from an unknown peer. It has no state yet: call [`Peers::admit`] before the next poll,
    /// or the datagram is dropped.
    Unknown(Path),
    /// An event of a peer's session. The first is [`Event::Open`], the last [`Event::Closed`]. The path and
    /// statistics stay available until the next poll after that.
    Peer(PeerKey, Event<T>),
    /// Datagrams were dropped. Reported at most once per second.
    Dropped(Box<Dropped>),
    /// The socket's work has ended. Comes exactly once, as the last event.
    Closed(Box<CloseReason>),
}

/// A session for each peer of a datagram socket, as if each had a connection of its own, with its own events,
/// periods, statistics and close.
///
/// It is driven like [`Packets`](super::Packets). The difference is that peers come and go: a peer's first
/// datagram is [`PeersEvent::Unknown`]. An admitted peer has a session until it is [closed](Self::close_peer)
/// or replaced by another. Whatever is sent from forged addresses, memory stays within [`PeerLimits`], and
/// each datagram takes constant time, however many peers there are.
pub struct Peers<C, O = <C as Decoder>::Item> {
    codec: C,
    states: PeerStates,
    out: PhantomData<fn(O)>,
}

impl<C, O> Peers<C, O>
where
    C: Decoder + Encoder<O>,
{
    /// Makes a table without peers, at `now`. `seed` must be random: it prevents attackers from choosing
    /// addresses that collide in the table.
    pub fn new(
        codec: C,
        options: PacketOptions,
        limits: PeerLimits,
        config: Arc<Config>,
        seed: [u64; 2],
        now: Timestamp,
    ) -> Self {
        let states = PeerStates::new(options, limits, config, seed, now);
        Peers { codec, states, out: PhantomData }
    }

    /// Handles received datagrams.
    ///
    /// # Errors
    /// Returns the batch if it can't be taken now: others are still being handled, or the socket is closing.
    pub fn handle_datagrams(&mut self, now: Timestamp, mut batch: RecvBatch) -> Result<(), RecvBatch> {
        let states = &mut self.states;
        states.advance_time(now);
        if !states.inbox.is_empty() || states.phase != Phase::Open {
            return Err(batch);
        }
        batch.lend(&mut states.outgoing);
        states.table.find_all(batch.paths().map(|path| path.peer), &mut states.found);
        states.inbox.batch = Some(batch);
        Ok(())
    }

    /// Handles a copy of one datagram. Returns `false` without room: poll events, then hand it in again.
    #[must_use]
    pub fn handle_datagram(&mut self, now: Timestamp, path: Path, bytes: &[u8]) -> bool {
        self.states.advance_time(now);
        self.states.phase != Phase::Open
            || self.states.inbox.copy(path, bytes, self.states.config.max_datagram())
    }

    /// Takes back the batch of [`handle_datagrams`](Self::handle_datagrams), once it is completely handled.
    pub fn take_batch(&mut self) -> Option<RecvBatch> {
        let mut batch = self.states.inbox.take_batch()?;
        batch.take_back(&mut self.states.outgoing);
        Some(batch)
    }

    /// Handles time `now`. Harmless when nothing is due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.states.handle_timeout(now);
    }

    /// Reports that the socket took the first `n` datagrams of [`outgoing`](Self::outgoing).
    pub fn handle_sent(&mut self, now: Timestamp, n: usize) {
        self.states.advance_time(now);
        for _ in 0..n {
            if self.states.pop(true).is_none() {
                break;
            }
        }
        self.states.on_drained();
    }

    /// Reports that the first datagram of [`outgoing`](Self::outgoing) can't be sent: drops and counts it.
    ///
    /// Returns its message, if the peer still exists. In [`Event::Flushed`] and [`Progress`], which cover a
    /// whole series, it counts as done: report its failure to any code that waits for this message.
    pub fn handle_unsent(&mut self, now: Timestamp, failure: impl Into<IoFailure>) -> Option<(PeerKey, Seq)> {
        self.states.advance_time(now);
        let Popped { path, message } = self.states.pop(false)?;
        self.states.drops.count(path.map(|path| path.peer), DropReason::Unsent(failure.into()));
        self.states.on_drained();
        message
    }

    /// Handles a network report that an earlier datagram did not arrive. It only counts as dropped.
    pub fn handle_unreachable(
        &mut self,
        now: Timestamp,
        peer: Option<SocketAddr>,
        failure: impl Into<IoFailure>,
    ) {
        self.states.advance_time(now);
        if self.states.phase != Phase::Ended && !self.states.is_over() {
            self.states.drops.count(peer, DropReason::Unsent(failure.into()));
        }
    }

    /// Handles a failure of the socket: every session ends with that reason.
    pub fn handle_io_error(&mut self, now: Timestamp, failure: impl Into<IoFailure>) {
        self.states.advance_time(now);
        self.states.abort(CloseReason::Io(failure.into()));
    }

    /// Admits the peer of [`PeersEvent::Unknown`], or not. Returns its key.
    pub fn admit(&mut self, yes: bool) -> Option<PeerKey> {
        self.states.admit(yes)
    }

    /// Queues a message to a peer.
    ///
    /// # Errors
    /// Returns the item where possible. After [`Blocked`](SendError::Blocked), this peer's
    /// [`Event::Writable`] reports when to try again; waiting peers take turns to be first.
    /// [`NotValidated`](SendError::NotValidated) if the message exceeds [`PeerLimits::amplification`].
    pub fn send(&mut self, key: PeerKey, item: O) -> Result<Accepted, SendError<O>> {
        let Peers { codec, states, .. } = self;
        let known = codec.encoded_len(&item).unwrap_or(0);
        let limit = states.config.max_datagram();
        if !states.takes(key, known, limit) {
            return Err(states.refuse(key, item, known, limit));
        }
        let buffer = states.outgoing.buffer();
        let mark = buffer.len();
        let encoded = codec.encode(item, &mut Sink::new(buffer));
        let bytes = buffer.len() - mark;
        let allowed = states.table.at(key).is_some_and(|peer| peer.may_get(bytes));
        let error: Arc<dyn Error + Send + Sync> = match encoded {
            Ok(()) if bytes <= limit && allowed => return Ok(states.accept(key, bytes)),
            Ok(()) if bytes <= limit => Arc::new(Amplified),
            Ok(()) => Arc::new(EncodedTooLarge { bytes, limit }),
            Err(error) => Arc::new(error),
        };
        states.outgoing.buffer().truncate(mark);
        states.shrink();
        let cold = states.table.cold_mut(key.index);
        cold.refused = cold.refused.saturating_add(1);
        Err(SendError::Encode(error))
    }

    /// Marks the peer's address as validated, for example because it returned something that only it can
    /// know. From here on any amount may be sent to it.
    pub fn validate(&mut self, key: PeerKey) {
        if let Some(peer) = self.states.table.of(key) {
            peer.validated = true;
        }
    }

    /// Stops delivering a peer's messages. Its datagrams are dropped, since all peers share the socket.
    pub fn pause(&mut self, key: PeerKey) {
        if let Some(peer) = self.states.table.of(key) {
            peer.paused = true;
        }
    }

    /// Resumes delivering a peer's messages.
    pub fn resume(&mut self, now: Timestamp, key: PeerKey) {
        self.states.advance_time(now);
        let now = self.states.now;
        if let Some(peer) = self.states.table.of(key).filter(|peer| peer.paused) {
            peer.paused = false;
            self.states.table.cold_mut(key.index).periods.restart_reading(now);
        }
    }

    /// Ends a peer's session: gracefully after sending accepted messages, within
    /// [`ConfigBuilder::close_timeout`](crate::ConfigBuilder::close_timeout). Waiting datagrams are sent in
    /// either case, since they are queued among those of others. A later datagram from its address is from an
    /// unknown peer.
    pub fn close_peer(&mut self, now: Timestamp, key: PeerKey, how: Close) {
        self.states.advance_time(now);
        let (graceful, _, reason) = how.into_parts();
        self.states.end_peer(key, graceful, reason);
    }

    /// Ends all sessions: gracefully after sending accepted messages.
    pub fn close(&mut self, now: Timestamp, how: Close) {
        self.states.advance_time(now);
        let (graceful, _, reason) = how.into_parts();
        if graceful {
            self.states.close(reason);
        } else {
            self.states.abort(reason.unwrap_or(CloseReason::Local { flushed: false }));
        }
    }

    /// Records a sign of life of a peer that its session can't see.
    pub fn update_active(&mut self, now: Timestamp, key: PeerKey) {
        self.states.advance_time(now);
        let now = self.states.now;
        // Ending peers are no longer in the order of activity.
        if let Some(peer) = self.states.table.of(key).filter(|peer| !peer.ending) {
            let before = peer.activity.received_at();
            self.states.table.cold_mut(key.index).periods.sign(now);
            self.states.table.touch(key.index, before, now);
        }
    }

    /// Ends the reply: messages sent from here on are not replies until the next message is polled.
    pub fn end_reply(&mut self) {
        self.states.replying = None;
    }

    /// Requests a peer's [`Event::Flushed`] once all messages accepted for it so far are done: taken by the
    /// socket, or [not sent](Self::handle_unsent). Returns the last of them.
    pub fn notify_flushed(&mut self, key: PeerKey) -> Option<Seq> {
        let peer = self.states.table.of(key)?;
        let accepted = peer.accepted;
        peer.flush_wanted = peer.waiting > 0;
        if peer.flush_wanted {
            self.states.table.cold_mut(key.index).flush_wanted = accepted;
        } else if accepted > 0 {
            self.states.set_pending(key.index, pending::FLUSHED);
        }
        Seq::new(accepted)
    }

    /// Returns the next event, or `None` until something else happens.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<PeersEvent<C::Item>> {
        self.states.replying = None;
        if let Some(index) = self.states.reported_end.take() {
            self.states.table.remove(index);
        }
        if self.states.asked.is_some() {
            self.states.admit(false);
        }
        if let Some((key, event)) = self.states.next_ready() {
            return Some(PeersEvent::Peer(key, event));
        }
        if let Some(event) = self.poll_datagram(None) {
            return Some(event);
        }
        if self.states.phase == Phase::Flushing && self.states.table.is_empty() {
            return Some(PeersEvent::Closed(self.states.end()));
        }
        if self.states.phase == Phase::Ended {
            return None;
        }
        self.states.drops.take_report(self.states.now).map(PeersEvent::Dropped)
    }

    /// Returns the next message of the peer whose message was polled last, if that is the next event; for
    /// batches. On `None` continue with [`poll_event`](Self::poll_event).
    #[inline]
    pub fn poll_message(&mut self, key: PeerKey) -> Option<C::Item> {
        self.states.replying = None;
        if !self.states.ready.is_empty() || self.states.asked.is_some() {
            return None;
        }
        match self.poll_datagram(Some(key)) {
            Some(PeersEvent::Peer(_, Event::Message(message))) => Some(message),
            _ => None,
        }
    }

    /// Polls the next datagram's event; with `only`, only that peer's datagrams.
    #[inline]
    fn poll_datagram(&mut self, only: Option<PeerKey>) -> Option<PeersEvent<C::Item>> {
        let Peers { codec, states, .. } = self;
        while states.phase == Phase::Open && !states.blocked {
            if !states.inbox.is_mid_datagram() {
                if only.is_some_and(|key| !states.is_next(key)) {
                    return None;
                }
                match states.begin()? {
                    Begun::Known => {}
                    Begun::Dropped => continue,
                    Begun::Unknown(path) => return Some(PeersEvent::Unknown(path)),
                }
            }
            let key = states.begun.filter(|&key| only.is_none_or(|only| only == key))?;
            let Some(peer) = states.table.of(key).filter(|peer| !peer.ending && !peer.paused) else {
                states.leave_rest(key); // it was closed or paused meanwhile
                codec.reset();
                continue;
            };
            match states.inbox.decode(codec, &states.config, states.several_frames) {
                inbox::Found::Message(message) => {
                    peer.messages += 1;
                    states.replying = Some(key);
                    return Some(PeersEvent::Peer(key, Event::Message(message)));
                }
                inbox::Found::Dropped(reason) => {
                    let address = peer.address();
                    states.drops.count(Some(address), reason);
                }
                inbox::Found::Nothing => {}
            }
        }
        None
    }

    /// Whether [`poll_event`](Self::poll_event) may return an event. `false` is certain, and lets a driver
    /// skip the call.
    #[must_use]
    pub fn wants_poll(&self) -> bool {
        let states = &self.states;
        states.asked.is_some()
            || !states.ready.is_empty()
            || match states.phase {
                Phase::Open => !states.blocked && !states.inbox.is_empty() || states.drops.is_due(states.now),
                Phase::Flushing => {
                    states.reported_end.is_some()
                        || states.table.is_empty()
                        || states.drops.is_due(states.now)
                }
                Phase::Ended => false,
            }
    }

    /// The time to call [`handle_timeout`](Self::handle_timeout), if nothing happens before. Traffic does not
    /// change it.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let states = &self.states;
        // A report that is due is returned by polling.
        let report = states.drops.report_at().filter(|&at| states.phase != Phase::Ended && at > states.now);
        [states.wheel.next_at(), states.close_at, report].into_iter().flatten().min()
    }

    /// Whether to receive: false while received datagrams are not polled yet, while waiting replies are above
    /// their watermark, and when the socket is closing.
    pub fn wants_read(&self) -> bool {
        self.states.phase == Phase::Open && !self.states.blocked && self.states.inbox.is_empty()
    }

    /// The datagrams to send, as of `now`. Report the result with [`handle_sent`](Self::handle_sent) or
    /// [`handle_unsent`](Self::handle_unsent).
    pub fn outgoing(&mut self, now: Timestamp) -> &Outgoing {
        self.states.advance_time(now);
        &self.states.outgoing
    }

    /// The number of datagrams waiting to be sent.
    pub fn outgoing_len(&self) -> usize {
        self.states.outgoing.len()
    }

    /// Whether datagrams wait to be sent.
    pub fn wants_write(&self) -> bool {
        !self.states.outgoing.is_empty()
    }

    /// Whether the send queue is at or below the high watermark and the peer's session accepts messages.
    pub fn is_writable(&self, key: PeerKey) -> bool {
        self.is_open(key) && self.states.outgoing.weight() <= self.states.config.high_watermark()
    }

    /// Whether the peer's session accepts messages.
    pub fn is_open(&self, key: PeerKey) -> bool {
        self.states.table.at(key).is_some_and(|peer| !peer.ending)
    }

    /// Whether [`PeersEvent::Closed`] has been polled: nothing is left to do.
    pub fn is_closed(&self) -> bool {
        self.states.phase == Phase::Ended
    }

    /// The number of peers.
    pub fn len(&self) -> usize {
        self.states.table.known()
    }

    /// Whether there are no peers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The latest path of a peer's datagrams.
    pub fn path(&self, key: PeerKey) -> Option<Path> {
        self.states.table.at(key).map(|peer| peer.path())
    }

    /// The time of a peer's last sign of life.
    pub fn last_active(&self, key: PeerKey) -> Option<Timestamp> {
        let table = &self.states.table;
        table.at(key).map(|peer| table.cold(key.index).periods.last_active(&peer.activity))
    }

    /// The counts of a peer's session so far. Its operations are datagrams. `queued` is always 0, since
    /// waiting bytes are not counted per peer.
    pub fn stats(&self, key: PeerKey) -> Stats {
        let Some(peer) = self.states.table.at(key) else { return Stats::default() };
        let cold = self.states.table.cold(key.index);
        Stats {
            received: peer.activity.received(peer.messages),
            sent: peer.activity.sent(peer.accepted, peer.done() - cold.unsent),
            queued: 0,
            buffered: 0,
            refused: u64::from(cold.refused),
            progress: Progress {
                accepted: Seq::new(peer.accepted),
                flushed: Seq::new(peer.done()),
                partly_written: false,
                unknown: None,
            },
        }
    }

    /// Counts of dropped datagrams so far.
    pub fn dropped(&self) -> DropCounts {
        self.states.drops.total()
    }

    /// The configuration.
    pub fn config(&self) -> &Arc<Config> {
        &self.states.config
    }
}

/// The error for a message, measured only after encoding, that exceeds what an unvalidated peer may get.
#[derive(Debug, thiserror::Error)]
#[error("it exceeds what PeerLimits::amplification allows before the peer is validated")]
struct Amplified;

impl<C: fmt::Debug, O> fmt::Debug for Peers<C, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers")
            .field("codec", &self.codec)
            .field("peers", &self.states.table.known())
            .finish_non_exhaustive()
    }
}
