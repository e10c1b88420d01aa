//! [`Peers`]: a session for each peer of a datagram socket.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use super::activity::Activity;
use super::compat::CONNECT_PING;
use super::dropped::Drops;
use super::inbox::{self, Inbox};
use super::outgoing::{Outgoing, weight};
use super::table::{Found, PeerKey, Table};
use super::wheel::Wheel;
use super::{DropCounts, DropReason, PacketOptions, Path, RecvBatch};
use crate::codec::{Decoder, Encoder, Sink};
use crate::session::pending;
use crate::{
    Accepted, Close, CloseReason, Config, Deadline, EncodedTooLarge, Event, Idle, Opened, Progress,
    SendError, Seq, Stats, Timestamp,
};

/// The bit of [`Event::Closed`] among those of [`pending`].
const CLOSED: u16 = 1 << 15;

/// For how many datagrams that wait memory is kept when there are none.
const SPARE_OWNERS: usize = 256;

/// What peers that nobody knows may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerLimits {
    max_peers: usize,
    new_per_second: u32,
    amplification: u32,
    evict: bool,
}

impl Default for PeerLimits {
    fn default() -> Self {
        PeerLimits { max_peers: 10_000, new_per_second: 1_000, amplification: 3, evict: true }
    }
}

impl PeerLimits {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many peers there may be. Default 10 000, at least 1. Each takes some 350 bytes here, and what a listener
    /// keeps.
    #[must_use]
    pub fn max_peers(mut self, peers: usize) -> Self {
        self.max_peers = peers.clamp(1, u32::MAX as usize / 2);
        self
    }

    /// How many new peers there may be a second, and how many at once: so within one second it may be twice as many. Who is
    /// asked about and not let in counts too. Default 1 000, at least 1. Datagrams of others are dropped: a flood of invented
    /// addresses then costs no more than looking at it.
    #[must_use]
    pub fn new_per_second(mut self, peers: u32) -> Self {
        self.new_per_second = peers.max(1);
        self
    }

    /// How many times the bytes that a peer has sent may be sent to it before it is
    /// [validated](Peers::validate). Default 3, as in QUIC (RFC 9000, section 8): whoever writes another's address on
    /// their datagrams gains little by it.
    #[must_use]
    pub fn amplification(mut self, factor: u32) -> Self {
        self.amplification = factor;
        self
    }

    /// Whether a new peer takes the place of the one that was active the longest time ago when there are as many as may
    /// be. Default yes; otherwise the new one is not let in.
    #[must_use]
    pub fn evict(mut self, on: bool) -> Self {
        self.evict = on;
        self
    }

    /// How exact the order is in which peers were last active: much less than the time in which new ones can take the
    /// places of all.
    fn moment(&self) -> Duration {
        let turnover = self.max_peers as u64 * 1_000_000 / u64::from(self.new_per_second);
        Duration::from_micros(turnover / 8).min(Duration::from_secs(1))
    }
}

/// What happened, as [`Peers::poll_event`] tells it. `T` is a received message.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum PeersEvent<T> {
    /// A datagram came from somebody who is not known. Nothing is kept of them yet: answer with [`Peers::admit`] before
    /// the next poll, or the datagram is dropped.
    Unknown(Path),
    /// An event of a peer's session. The first is [`Event::Open`], the last [`Event::Closed`], after which its path and
    /// statistics are there until the next poll.
    Peer(PeerKey, Event<T>),
    /// Datagrams came to nothing; what they were is told once a second at the most.
    Dropped(Box<super::Dropped>),
    /// The socket's work is over. Exactly once, and the last event.
    Closed(Box<CloseReason>),
}

/// A session for each peer of a datagram socket, as if each had a connection of its own: with its own events, periods,
/// statistics and close.
///
/// It is driven as [`Packets`](super::Packets) is. What differs is that peers come and go: the first datagram of one is
/// [`PeersEvent::Unknown`], and who is admitted has a session until it is [closed](Self::close_peer), or another takes its
/// place. Whatever is sent from invented addresses, memory stays within [`PeerLimits`], and each datagram takes the same
/// time however many peers there are.
pub struct Peers<C, O = <C as Decoder>::Item> {
    codec: C,
    inner: Inner,
    out: PhantomData<fn(O)>,
}

/// What does not depend on the codec.
#[derive(Debug)]
struct Inner {
    config: Arc<Config>,
    several_frames: bool,
    getty_compat: bool,
    limits: PeerLimits,
    inbox: Inbox,
    outgoing: Outgoing,
    /// Whose the datagrams of `outgoing` are, in order.
    owners: VecDeque<PeerKey>,
    drops: Drops,
    table: Table,
    wheel: Wheel,
    /// Those that have something to tell, each once.
    ready: VecDeque<u32>,
    /// Those that were refused for lack of room.
    refused: Vec<PeerKey>,
    /// Whose end was told last: it is there until the next poll, for its statistics.
    told_end: Option<u32>,
    /// Deadlines that have passed, while they are looked at.
    due: Vec<u32>,
    /// Whose the datagrams of each slot of the batch are, as far as they were known when it came.
    found: Found,
    now: Timestamp,
    /// When the next new peer would have come if they came one after the other.
    next_new: Timestamp,
    phase: Phase,
    reason: Option<Box<CloseReason>>,
    close_at: Option<Timestamp>,
    /// Who is to be admitted or not, and the size of the datagram.
    asked: Option<(Path, usize)>,
    /// Whose datagram is being decoded.
    begun: Option<PeerKey>,
    /// Whose message was polled last: what is sent to it now is an answer.
    answering: Option<PeerKey>,
    /// Answers went over the high watermark and have not come down to the low one since: no delivery.
    blocked: bool,
    /// Since when there was delivery: what came before waited, and its peers can't be blamed.
    read_since: Timestamp,
}

/// Where the socket is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Every peer is ending; what waits is sent.
    Flushing,
    /// Over and told.
    Ended,
}

impl<C, O> Peers<C, O>
where
    C: Decoder + Encoder<O>,
{
    /// A table without peers, at `now`. `seed` is random: it keeps others from choosing addresses that fall together in
    /// the table.
    pub fn new(
        codec: C,
        options: PacketOptions,
        limits: PeerLimits,
        config: Arc<Config>,
        seed: [u64; 2],
        now: Timestamp,
    ) -> Self {
        let inner = Inner {
            several_frames: options.several_frames,
            getty_compat: options.getty_compat,
            limits,
            inbox: Inbox::default(),
            outgoing: Outgoing::default(),
            owners: VecDeque::new(),
            drops: Drops::default(),
            table: Table::new(seed, limits.moment()),
            wheel: Wheel::new(&config, now),
            ready: VecDeque::new(),
            refused: Vec::new(),
            told_end: None,
            due: Vec::new(),
            found: Found::default(),
            now,
            next_new: now,
            phase: Phase::Open,
            reason: None,
            close_at: None,
            asked: None,
            begun: None,
            answering: None,
            blocked: false,
            read_since: now,
            config,
        };
        Peers { codec, inner, out: PhantomData }
    }

    /// Datagrams were received.
    ///
    /// # Errors
    /// The batch is given back if it is not wanted: others are still being looked at, or the socket is closing.
    pub fn handle_datagrams(&mut self, now: Timestamp, mut batch: RecvBatch) -> Result<(), RecvBatch> {
        let inner = &mut self.inner;
        inner.clock(now);
        if !inner.inbox.is_empty() || inner.phase != Phase::Open {
            return Err(batch);
        }
        batch.lend(&mut inner.outgoing);
        inner.table.find_all(batch.paths().map(|path| path.peer), &mut inner.found);
        inner.inbox.batch = Some(batch);
        Ok(())
    }

    /// The same with a copy of one datagram. Gives `false` if there was no room: poll what came before, then bring it
    /// again.
    #[must_use]
    pub fn handle_datagram(&mut self, now: Timestamp, path: Path, bytes: &[u8]) -> bool {
        self.inner.clock(now);
        self.inner.phase != Phase::Open
            || self.inner.inbox.copy(path, bytes, self.inner.config.max_datagram())
    }

    /// The batch of [`handle_datagrams`](Self::handle_datagrams), if every datagram of it was looked at.
    pub fn take_batch(&mut self) -> Option<RecvBatch> {
        let mut batch = self.inner.inbox.take_batch()?;
        batch.take_back(&mut self.inner.outgoing);
        Some(batch)
    }

    /// Time has come to `now`. Harmless when nothing is due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.inner.handle_timeout(now);
    }

    /// The first `n` datagrams of [`outgoing`](Self::outgoing) were taken by the socket.
    pub fn handle_sent(&mut self, now: Timestamp, n: usize) {
        self.inner.clock(now);
        for _ in 0..n {
            if self.inner.pop(true).is_none() {
                break;
            }
        }
        self.inner.relieve();
    }

    /// The first datagram of [`outgoing`](Self::outgoing) can't be sent: it is dropped and reported.
    pub fn handle_unsent(&mut self, now: Timestamp, kind: io::ErrorKind) {
        self.inner.clock(now);
        if let Some(path) = self.inner.pop(false) {
            self.inner.drops.count(path.map(|path| path.peer), DropReason::Unsent(kind));
        }
        self.inner.relieve();
    }

    /// The network says that something sent before did not arrive. That is reported and ends nothing.
    pub fn handle_unreachable(&mut self, now: Timestamp, peer: Option<SocketAddr>, kind: io::ErrorKind) {
        self.inner.clock(now);
        if self.inner.phase != Phase::Ended && !self.inner.is_over() {
            self.inner.drops.count(peer, DropReason::Unsent(kind));
        }
    }

    /// The socket failed: every session ends with that reason.
    pub fn handle_io_error(&mut self, now: Timestamp, kind: io::ErrorKind) {
        self.inner.clock(now);
        self.inner.abort(CloseReason::Io(kind));
    }

    /// Lets the peer of [`PeersEvent::Unknown`] in, or not; gives its key.
    pub fn admit(&mut self, yes: bool) -> Option<PeerKey> {
        self.inner.admit(yes)
    }

    /// Takes a message to send to a peer.
    ///
    /// # Errors
    /// [`SendError`] says why not, and gives the item back where possible. After
    /// [`Blocked`](SendError::Blocked), [`Event::Writable`] of this peer tells when to try again.
    /// [`NotValidated`](SendError::NotValidated) if it is more than [`PeerLimits::amplification`] allows.
    pub fn send(&mut self, key: PeerKey, item: O) -> Result<Accepted, SendError<O>> {
        let Peers { codec, inner, .. } = self;
        let known = codec.encoded_len(&item).unwrap_or(0);
        let limit = inner.config.max_datagram();
        if !inner.takes(key, known, limit) {
            return Err(inner.refuse(key, item, known, limit));
        }
        let buffer = inner.outgoing.buffer();
        let mark = buffer.len();
        let encoded = codec.encode(item, &mut Sink::new(buffer));
        let bytes = buffer.len() - mark;
        let allowed =
            inner.table.at(key).is_some_and(|peer| peer.validated || bytes as u64 <= peer.allowance);
        let error: Arc<dyn Error + Send + Sync> = match encoded {
            Ok(()) if bytes <= limit && allowed => return Ok(inner.accept(key, bytes)),
            Ok(()) if bytes <= limit => Arc::new(Amplified),
            Ok(()) => Arc::new(EncodedTooLarge { bytes, limit }),
            Err(error) => Arc::new(error),
        };
        inner.outgoing.buffer().truncate(mark);
        inner.shrink();
        if let Some(peer) = inner.table.of(key) {
            peer.refused = peer.refused.saturating_add(1);
        }
        Err(SendError::Encode(error))
    }

    /// The peer has shown that it is where it says, by sending back something that only it can know, for example. From
    /// here on any amount may be sent to it.
    pub fn validate(&mut self, key: PeerKey) {
        if let Some(peer) = self.inner.table.of(key) {
            peer.validated = true;
        }
    }

    /// Stops delivering messages of a peer: what comes from it is dropped, since the socket is everybody's.
    pub fn pause(&mut self, key: PeerKey) {
        if let Some(peer) = self.inner.table.of(key) {
            peer.paused = true;
        }
    }

    /// Goes on delivering messages of a peer.
    pub fn resume(&mut self, now: Timestamp, key: PeerKey) {
        self.inner.clock(now);
        let now = self.inner.now;
        if let Some(peer) = self.inner.table.of(key).filter(|peer| peer.paused) {
            peer.paused = false;
            peer.activity.restart_reading(now);
        }
    }

    /// Ends the session of a peer: gracefully after what was accepted for sending, and within
    /// [`ConfigBuilder::close_timeout`](crate::ConfigBuilder::close_timeout). What waits is sent in either case, since it
    /// lies among what is for others. If a datagram comes from its address later, that is somebody unknown.
    pub fn close_peer(&mut self, now: Timestamp, key: PeerKey, how: Close) {
        self.inner.clock(now);
        let (graceful, _, reason) = how.into_parts();
        self.inner.end_peer(key, graceful, reason);
    }

    /// Ends everything: gracefully after what was accepted for sending.
    pub fn close(&mut self, now: Timestamp, how: Close) {
        self.inner.clock(now);
        let (graceful, _, reason) = how.into_parts();
        if graceful {
            self.inner.close(reason);
        } else {
            self.inner.abort(reason.unwrap_or(CloseReason::Local { flushed: false }));
        }
    }

    /// Notes a sign of life of a peer that its session can't see.
    pub fn update_active(&mut self, now: Timestamp, key: PeerKey) {
        self.inner.clock(now);
        let now = self.inner.now;
        // Who is ending is in no order any more.
        if let Some(peer) = self.inner.table.of(key).filter(|peer| peer.ending.is_none()) {
            peer.activity.last_active = now;
            self.inner.table.touch(key.index, now);
        }
    }

    /// What is sent from now on answers no received message, until the next one is polled.
    pub fn end_answer(&mut self) {
        self.inner.answering = None;
    }

    /// Asks for [`Event::Flushed`] of a peer once the socket has taken every message accepted for it so far.
    pub fn notify_flushed(&mut self, key: PeerKey) -> Option<Seq> {
        let peer = self.inner.table.of(key)?;
        let accepted = Seq::new(peer.accepted)?;
        peer.flush_wanted = NonZeroU64::new(peer.accepted);
        if peer.flushed >= peer.accepted {
            peer.flush_wanted = None;
            self.inner.tell(key.index, pending::FLUSHED);
        }
        Some(accepted)
    }

    /// The next event, or `None` if there is nothing to tell until something else happens.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<PeersEvent<C::Item>> {
        self.inner.answering = None;
        if let Some(index) = self.inner.told_end.take() {
            self.inner.table.remove(index);
        }
        if self.inner.asked.is_some() {
            self.inner.admit(false);
        }
        if let Some((key, event)) = self.inner.next_ready() {
            return Some(PeersEvent::Peer(key, event));
        }
        if let Some(event) = self.poll_datagram(None) {
            return Some(event);
        }
        if self.inner.phase == Phase::Flushing && self.inner.table.is_empty() {
            return Some(PeersEvent::Closed(self.inner.end()));
        }
        if self.inner.phase == Phase::Ended {
            return None;
        }
        self.inner.drops.take_report(self.inner.now).map(PeersEvent::Dropped)
    }

    /// The next message of the peer whose message was polled last, if it is the next event: for batches. `None` means to go
    /// on with [`poll_event`](Self::poll_event).
    #[inline]
    pub fn poll_message(&mut self, key: PeerKey) -> Option<C::Item> {
        self.inner.answering = None;
        if !self.inner.ready.is_empty() || self.inner.asked.is_some() {
            return None;
        }
        match self.poll_datagram(Some(key)) {
            Some(PeersEvent::Peer(_, Event::Message(message))) => Some(message),
            _ => None,
        }
    }

    /// What the next datagram brings; with `only`, as long as they are that peer's.
    #[inline]
    fn poll_datagram(&mut self, only: Option<PeerKey>) -> Option<PeersEvent<C::Item>> {
        let Peers { codec, inner, .. } = self;
        while inner.phase == Phase::Open && !inner.blocked {
            if !inner.inbox.is_mid_datagram() {
                if only.is_some_and(|key| !inner.is_next(key)) {
                    return None;
                }
                match inner.begin()? {
                    Begun::Known => {}
                    Begun::Dropped => continue,
                    Begun::Unknown(path) => return Some(PeersEvent::Unknown(path)),
                }
            }
            let key = inner.begun.filter(|&key| only.is_none_or(|only| only == key))?;
            let Some(peer) = inner.table.of(key).filter(|peer| peer.ending.is_none() && !peer.paused) else {
                inner.leave_rest(key); // it was closed or paused meanwhile
                codec.reset();
                continue;
            };
            match inner.inbox.decode(codec, &inner.config, inner.several_frames) {
                inbox::Found::Message(message) => {
                    peer.messages += 1;
                    inner.answering = Some(key);
                    return Some(PeersEvent::Peer(key, Event::Message(message)));
                }
                inbox::Found::Dropped(reason) => {
                    let address = peer.path.peer;
                    inner.drops.count(Some(address), reason);
                }
                inbox::Found::Nothing => {}
            }
        }
        None
    }

    /// Whether [`poll_event`](Self::poll_event) may have something to tell: for drivers that spare the call. `false` is
    /// certain.
    #[must_use]
    pub fn wants_poll(&self) -> bool {
        let inner = &self.inner;
        inner.asked.is_some()
            || !inner.ready.is_empty()
            || match inner.phase {
                Phase::Open => !inner.blocked && !inner.inbox.is_empty() || inner.drops.is_due(inner.now),
                Phase::Flushing => {
                    inner.told_end.is_some() || inner.table.is_empty() || inner.drops.is_due(inner.now)
                }
                Phase::Ended => false,
            }
    }

    /// When [`handle_timeout`](Self::handle_timeout) should be called, if nothing happens before. Traffic does not move it.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let inner = &self.inner;
        // One that is due already is for polling.
        let report = inner.drops.report_at().filter(|&at| inner.phase != Phase::Ended && at > inner.now);
        [inner.wheel.next_at(), inner.close_at, report].into_iter().flatten().min()
    }

    /// Whether to receive: false while datagrams are here that were not polled, while answers wait above their watermark,
    /// and when the socket is closing.
    pub fn wants_read(&self) -> bool {
        self.inner.phase == Phase::Open && !self.inner.blocked && self.inner.inbox.is_empty()
    }

    /// What to send.
    pub fn outgoing(&mut self, now: Timestamp) -> &Outgoing {
        self.inner.clock(now);
        &self.inner.outgoing
    }

    /// How many datagrams wait to be sent.
    pub fn outgoing_len(&self) -> usize {
        self.inner.outgoing.len()
    }

    /// Whether there is something to send.
    pub fn wants_write(&self) -> bool {
        !self.inner.outgoing.is_empty()
    }

    /// Whether the send queue is at or below the high watermark and the peer's session takes messages.
    pub fn is_writable(&self, key: PeerKey) -> bool {
        self.is_open(key) && self.inner.outgoing.weight() <= self.inner.config.high_watermark()
    }

    /// Whether the peer's session takes messages to send.
    pub fn is_open(&self, key: PeerKey) -> bool {
        self.inner.table.at(key).is_some_and(|peer| peer.ending.is_none())
    }

    /// Whether [`PeersEvent::Closed`] has been polled: there is nothing more to do.
    pub fn is_closed(&self) -> bool {
        self.inner.phase == Phase::Ended
    }

    /// How many peers there are.
    pub fn len(&self) -> usize {
        self.inner.table.known()
    }

    /// Whether there is no peer.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The latest way that a peer's datagrams took.
    pub fn path(&self, key: PeerKey) -> Option<Path> {
        self.inner.table.at(key).map(|peer| peer.path)
    }

    /// When a peer last gave a sign of life.
    pub fn last_active(&self, key: PeerKey) -> Option<Timestamp> {
        self.inner.table.at(key).map(|peer| peer.activity.last_active)
    }

    /// What a peer's session has done so far. Its operations are datagrams; what of it waits to be sent is not told apart
    /// from what waits for others.
    pub fn stats(&self, key: PeerKey) -> Stats {
        let Some(peer) = self.inner.table.at(key) else { return Stats::default() };
        Stats {
            received: peer.activity.received(peer.messages),
            sent: peer.activity.sent(peer.accepted),
            queued: 0,
            buffered: 0,
            refused: u64::from(peer.refused),
            progress: Progress {
                accepted: Seq::new(peer.accepted),
                flushed: Seq::new(peer.flushed),
                partly_written: false,
            },
        }
    }

    /// What came to nothing so far.
    pub fn dropped(&self) -> DropCounts {
        self.inner.drops.total()
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Arc<Config> {
        &self.inner.config
    }
}

/// What came of beginning the next datagram.
enum Begun {
    Known,
    Dropped,
    Unknown(Path),
}

impl Inner {
    /// Takes note of the time; it never goes back.
    fn clock(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// Whether the next datagram is of this peer.
    fn is_next(&self, key: PeerKey) -> bool {
        let Some(peer) = self.table.at(key).filter(|peer| peer.ending.is_none()) else { return false };
        self.inbox.next_path().is_some_and(|path| path.peer == peer.path.peer)
    }

    /// Begins the next datagram of the batch.
    #[inline]
    fn begin(&mut self) -> Option<Begun> {
        let slot = self.inbox.batch.as_ref().map_or(0, RecvBatch::position);
        let (path, bytes, problem) = self.inbox.begin(&self.config)?;
        let found = self.found.get(slot).filter(|&index| self.table.is_at(index, path.peer));
        let found = found.or_else(|| self.table.find(path.peer));
        if let Some(reason) = problem {
            return Some(self.drop_bad(found, path, bytes, reason));
        }
        Some(match found {
            Some(index) => self.receive(index, path, bytes),
            None => self.meet(path, bytes),
        })
    }

    /// A datagram that is no good, which is a sign of life still.
    #[cold]
    fn drop_bad(&mut self, found: Option<u32>, path: Path, bytes: usize, reason: DropReason) -> Begun {
        let bytes = if let DropReason::Oversized { bytes, .. } = reason { bytes } else { bytes };
        if let Some(index) = found {
            self.count(index, path, bytes);
        }
        self.drops.count(Some(path.peer), reason);
        Begun::Dropped
    }

    /// Notes that a datagram of a known peer came.
    #[inline]
    fn count(&mut self, index: u32, path: Path, bytes: usize) {
        let factor = u64::from(self.limits.amplification);
        let Some(peer) = self.table.get_mut(index) else { return };
        peer.path = path;
        peer.activity.count_received(self.now, bytes);
        peer.allowance = peer.allowance.saturating_add(bytes as u64 * factor);
        self.table.touch(index, self.now);
    }

    /// A datagram of a known peer.
    #[inline]
    fn receive(&mut self, index: u32, path: Path, bytes: usize) -> Begun {
        self.begun = Some(self.table.key(index));
        self.count(index, path, bytes);
        let Some(peer) = self.table.get(index) else { return Begun::Dropped };
        let problem = if peer.paused {
            DropReason::Paused
        } else if self.getty_compat && peer.activity.is_first() && self.inbox.datagram() == CONNECT_PING {
            DropReason::ConnectPing
        } else {
            return Begun::Known;
        };
        self.inbox.skip();
        self.drops.count(Some(path.peer), problem);
        Begun::Dropped
    }

    /// What is left of the datagram that is being decoded is not wanted any more.
    #[cold]
    fn leave_rest(&mut self, key: PeerKey) {
        self.inbox.skip();
        let paused = self.table.at(key).filter(|peer| peer.ending.is_none()).map(|peer| peer.path.peer);
        if paused.is_some() {
            self.drops.count(paused, DropReason::Paused);
        }
    }

    /// A datagram of somebody unknown.
    #[cold]
    fn meet(&mut self, path: Path, bytes: usize) -> Begun {
        let step = Duration::from_secs(1) / self.limits.new_per_second;
        let next = self.next_new.max(self.now) + step;
        let problem = if next > self.now + Duration::from_secs(1) {
            DropReason::TooManyNew { limit: self.limits.new_per_second }
        } else if self.table.known() >= self.limits.max_peers && !self.limits.evict {
            DropReason::TooManyPeers { limit: self.limits.max_peers }
        } else {
            self.next_new = next;
            self.asked = Some((path, bytes));
            return Begun::Unknown(path);
        };
        self.inbox.skip();
        self.drops.count(Some(path.peer), problem);
        Begun::Dropped
    }

    fn admit(&mut self, yes: bool) -> Option<PeerKey> {
        let (path, bytes) = self.asked.take()?;
        if !yes || self.phase != Phase::Open {
            self.inbox.skip();
            self.drops.count(Some(path.peer), DropReason::NotAdmitted);
            return None;
        }
        while self.table.known() >= self.limits.max_peers {
            let index = self.table.least_recent()?;
            self.end_peer(self.table.key(index), false, Some(CloseReason::Evicted));
        }
        let mut activity = Activity::new(&self.config, self.now);
        let (_, next) = activity.expire(&self.config, self.now, self.now);
        let index = self.table.insert(path, activity, self.now);
        self.wheel.grow(self.table.slots());
        self.wheel.set(index, next);
        self.receive(index, path, bytes);
        self.tell(index, pending::OPEN);
        self.begun
    }

    /// Notes that a peer has something to tell.
    fn tell(&mut self, index: u32, bits: u16) {
        let Some(peer) = self.table.get_mut(index) else { return };
        peer.pending |= bits;
        if peer.pending != 0 && !std::mem::replace(&mut peer.ready, true) {
            self.ready.push_back(index);
        }
    }

    /// The next event that waits with a peer.
    fn next_ready<T>(&mut self) -> Option<(PeerKey, Event<T>)> {
        const ORDER: [u16; 8] = [
            pending::OPEN,
            pending::FLUSHED,
            pending::WRITABLE,
            pending::CRON,
            pending::IDLE_READ,
            pending::IDLE_WRITE,
            pending::IDLE_BOTH,
            CLOSED,
        ];
        loop {
            let index = *self.ready.front()?;
            let key = self.table.key(index);
            let Some(peer) = self.table.get_mut(index) else {
                self.ready.pop_front();
                continue;
            };
            let Some(bit) = ORDER.into_iter().find(|bit| peer.pending & bit != 0) else {
                peer.ready = false;
                self.ready.pop_front();
                continue;
            };
            peer.pending &= !bit;
            let event = match bit {
                pending::OPEN => Event::Open(Box::new(opened(peer.path))),
                pending::FLUSHED => Event::Flushed(Seq::new(peer.flushed).unwrap_or(Seq::FIRST)),
                pending::WRITABLE => Event::Writable,
                pending::CRON => Event::Cron,
                pending::IDLE_READ => Event::Idle(Idle::Read),
                pending::IDLE_WRITE => Event::Idle(Idle::Write),
                pending::IDLE_BOTH => Event::Idle(Idle::Both),
                _ => {
                    let reason = peer
                        .ending
                        .clone()
                        .unwrap_or_else(|| Box::new(CloseReason::Local { flushed: false }));
                    self.ready.pop_front();
                    self.wheel.set(index, None);
                    self.told_end = Some(index);
                    return Some((key, Event::Closed(reason)));
                }
            };
            return Some((key, event));
        }
    }

    /// Whether a message of `bytes` may be accepted for this peer now.
    #[inline]
    fn takes(&self, key: PeerKey, bytes: usize, limit: usize) -> bool {
        let Some(peer) = self.table.at(key).filter(|peer| peer.ending.is_none()) else { return false };
        let queued = self.outgoing.weight();
        let counted = if self.answering == Some(key) { self.outgoing.answers() } else { queued };
        bytes <= limit
            && (peer.validated || bytes as u64 <= peer.allowance)
            && (counted <= self.config.high_watermark()
                || queued.saturating_add(weight(bytes)) <= self.config.hard_limit())
    }

    /// Why `item` of `bytes` is not taken.
    #[cold]
    fn refuse<T>(&mut self, key: PeerKey, item: T, bytes: usize, limit: usize) -> SendError<T> {
        let Some(peer) = self.table.of(key).filter(|peer| peer.ending.is_none()) else {
            return SendError::Closed(item);
        };
        if bytes > limit {
            peer.refused = peer.refused.saturating_add(1);
            SendError::TooLarge { item, bytes, limit }
        } else if !peer.validated && bytes as u64 > peer.allowance {
            peer.refused = peer.refused.saturating_add(1);
            SendError::NotValidated(item)
        } else {
            if !std::mem::replace(&mut peer.writable_wanted, true) {
                self.refused.push(key);
                // Those that have gone since are not many more than those that are there.
                if self.refused.len() > 2 * self.table.slots() {
                    let table = &self.table;
                    self.refused.retain(|&key| table.at(key).is_some());
                }
            }
            SendError::Blocked(item)
        }
    }

    /// The last `bytes` of the outgoing buffer are a message for this peer.
    #[inline]
    fn accept(&mut self, key: PeerKey, bytes: usize) -> Accepted {
        let answer = self.answering == Some(key);
        let mut seq = Seq::FIRST;
        if let Some(peer) = self.table.of(key) {
            peer.accepted += 1;
            peer.waiting += 1;
            peer.allowance = peer.allowance.saturating_sub(bytes as u64);
            seq = Seq::new(peer.accepted).unwrap_or(Seq::FIRST);
            let path = Some(peer.path);
            self.outgoing.push(path, bytes, answer);
            self.owners.push_back(key);
        }
        self.blocked |= self.outgoing.answers() > self.config.high_watermark();
        Accepted::new(seq, bytes)
    }

    /// The first datagram is gone, `sent` or not; gives where to.
    fn pop(&mut self, sent: bool) -> Option<Option<Path>> {
        let (path, bytes) = self.outgoing.pop()?;
        let key = self.owners.pop_front()?;
        if let Some(peer) = self.table.of(key) {
            peer.waiting -= 1;
            peer.flushed += 1;
            if sent {
                peer.activity.count_sent(self.now, bytes);
            } else {
                peer.allowance = peer.allowance.saturating_add(bytes as u64);
            }
            let mut bits = 0;
            if peer.flush_wanted.is_some_and(|wanted| wanted.get() <= peer.flushed) {
                peer.flush_wanted = None;
                bits |= pending::FLUSHED;
            }
            let over = peer.ending.is_some() && peer.waiting == 0;
            if over {
                bits |= CLOSED;
                self.wheel.set(key.index, None);
            }
            if bits != 0 {
                self.tell(key.index, bits);
            }
        }
        Some(path)
    }

    /// There is more room than before.
    fn relieve(&mut self) {
        let low = self.config.low_watermark();
        if self.outgoing.answers() <= low && std::mem::take(&mut self.blocked) {
            self.read_since = self.now;
        }
        if self.outgoing.weight() <= low {
            for key in std::mem::take(&mut self.refused) {
                if let Some(peer) = self.table.of(key).filter(|peer| peer.ending.is_none()) {
                    peer.writable_wanted = false;
                    self.tell(key.index, pending::WRITABLE);
                }
            }
        }
        self.check_done();
        self.shrink();
    }

    /// Gives memory back, if there is nothing to send. What a batch has lent goes back with it.
    fn shrink(&mut self) {
        if self.outgoing.is_empty() && self.inbox.batch.is_none() {
            self.outgoing.clear();
        }
        if self.owners.is_empty() && self.owners.capacity() > SPARE_OWNERS {
            self.owners = VecDeque::new();
        }
    }

    fn handle_timeout(&mut self, now: Timestamp) {
        self.clock(now);
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(self.now, &mut due);
        for index in due.drain(..) {
            let Some(peer) = self.table.get_mut(index) else { continue };
            if peer.ending.is_some() {
                self.end_late(index);
                continue;
            }
            let read_since = if peer.paused || self.blocked { self.now } else { self.read_since };
            let (bits, next) = peer.activity.expire(&self.config, self.now, read_since);
            self.wheel.set(index, next);
            self.tell(index, bits);
        }
        self.due = due;
        if self.close_at.is_some_and(|at| at <= self.now) {
            let reason = self.reason.take().map_or(CloseReason::Timeout(Deadline::Close), |reason| *reason);
            self.abort(reason);
        }
    }

    /// Ends the session of a peer.
    fn end_peer(&mut self, key: PeerKey, graceful: bool, reason: Option<CloseReason>) {
        let Some(peer) = self.table.of(key) else { return };
        // One that is over keeps its reason.
        if peer.pending & CLOSED != 0 || peer.ending.is_some() && graceful {
            return;
        }
        let flushed = graceful || peer.waiting == 0;
        let over = !graceful || peer.waiting == 0;
        peer.ending = Some(Box::new(reason.unwrap_or(CloseReason::Local { flushed })));
        peer.pending &= pending::OPEN | pending::FLUSHED | CLOSED;
        // As late as the close of everything, if what waits is not taken.
        self.wheel.set(key.index, (!over).then_some(self.now + self.config.close_timeout()));
        self.table.forget_address(key.index);
        self.tell(key.index, if over { CLOSED } else { 0 });
    }

    /// What was accepted for a peer that is ending was not taken in time.
    #[cold]
    fn end_late(&mut self, index: u32) {
        let Some(peer) = self.table.get_mut(index) else { return };
        if let Some(CloseReason::Local { .. }) = peer.ending.as_deref() {
            peer.ending = Some(Box::new(CloseReason::Timeout(Deadline::Close)));
        }
        self.tell(index, CLOSED);
    }

    fn close(&mut self, reason: Option<CloseReason>) {
        if self.phase != Phase::Open {
            return;
        }
        self.stop_receiving();
        self.reason = reason.map(Box::new);
        self.close_at = Some(self.now + self.config.close_timeout());
        let indices: Vec<u32> = self.table.indices().collect();
        for index in indices {
            self.end_peer(self.table.key(index), true, self.reason.as_deref().cloned());
        }
        self.check_done();
    }

    /// Once everything is sent, a graceful close has nothing to wait for.
    fn check_done(&mut self) {
        if self.outgoing.is_empty() {
            self.close_at = None;
        }
    }

    /// Ends everything at once.
    fn abort(&mut self, reason: CloseReason) {
        if self.phase == Phase::Ended || self.is_over() {
            return;
        }
        self.stop_receiving();
        self.forget_outgoing();
        self.drops.forget_report();
        self.close_at = None;
        let indices: Vec<u32> = self.table.indices().collect();
        for index in indices {
            self.end_peer(self.table.key(index), false, Some(reason.clone()));
        }
        self.reason = Some(Box::new(reason));
    }

    /// Whether nothing is left to do than to tell it.
    fn is_over(&self) -> bool {
        self.phase == Phase::Flushing && self.close_at.is_none()
    }

    fn forget_outgoing(&mut self) {
        self.outgoing.clear();
        self.owners = VecDeque::new();
        self.refused = Vec::new();
    }

    fn stop_receiving(&mut self) {
        self.phase = Phase::Flushing;
        self.asked = None;
        self.inbox.clear();
        self.blocked = false;
    }

    /// Every peer was told its end.
    fn end(&mut self) -> Box<CloseReason> {
        self.phase = Phase::Ended;
        self.close_at = None;
        // What is left is of peers whose sessions were aborted.
        self.forget_outgoing();
        self.drops.forget_report();
        self.reason.take().unwrap_or_else(|| Box::new(CloseReason::Local { flushed: true }))
    }
}

fn opened(path: Path) -> Opened {
    Opened { peer: Some(path.peer), ..Opened::default() }
}

/// A message that could not be measured before turned out to be more than a peer may be sent that is not validated.
#[derive(Debug, thiserror::Error)]
#[error("it is more than PeerLimits::amplification allows before the peer is validated")]
struct Amplified;

impl<C: fmt::Debug, O> fmt::Debug for Peers<C, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers")
            .field("codec", &self.codec)
            .field("peers", &self.inner.table.known())
            .finish_non_exhaustive()
    }
}
