//! [`Network`]: datagram sessions, and a network between them that loses, duplicates and delays datagrams.
//!
//! ```
//! use bytes::Bytes;
//! use getty_core::codec::Raw;
//! use getty_core::{Config, Event};
//! use testkit::lossy::{Link, Network};
//!
//! let mut network = Network::new(Link { loss: 0.3, ..Link::default() });
//! let (server_at, client_at) = (([10, 0, 0, 1], 80).into(), ([10, 0, 0, 2], 5000).into());
//! let server = network.listen(Raw, Config::builder().build()?, server_at);
//! let client = network.connect(Raw, Config::builder().build()?, client_at, server_at);
//! network.end(server).on_event(|session, _, event| {
//!     if let Event::Message(message) = event {
//!         session.reply(message.clone()).unwrap();
//!     }
//! });
//! for _ in 0..100 {
//!     network.end(client).session.send(Bytes::from("hello")).unwrap();
//! }
//! network.settle();
//! let counts = network.counts();
//! assert_eq!(counts.arrived, counts.sent - counts.lost);
//! assert_eq!(network.end(client).messages().len() as u64 + counts.lost, 100);
//! # Ok::<(), getty_core::ConfigError>(())
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use getty_core::codec::{Decoder, Encoder};
use getty_core::datagram::{PacketOptions, Packets, Path, RecvBatch};
use getty_core::{Config, Event, Timestamp};

use crate::Rng;
use crate::clock::Clock;

/// More work than a session can have at one time.
const ENDLESS: u32 = 1_000_000;

/// The behaviour of a network, the same everywhere. Probabilities are from 0 to 1.
#[derive(Debug, Clone)]
pub struct Link {
    /// Time from sending to arrival.
    pub latency: Duration,
    /// The probability that a datagram never arrives.
    pub loss: f64,
    /// The probability that a datagram that is not lost arrives twice.
    pub duplication: f64,
    /// The probability that a datagram (each copy separately) takes up to [`delay`](Self::delay) longer, so
    /// that later ones overtake it.
    pub reordering: f64,
    /// The maximum additional time.
    pub delay: Duration,
    /// Maximum number of unread datagrams at an end; further ones are lost.
    pub buffer: usize,
}

impl Default for Link {
    /// A perfect link: 1 ms latency, and everything arrives in order.
    fn default() -> Self {
        Link {
            latency: Duration::from_millis(1),
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            delay: Duration::from_millis(20),
            buffer: usize::MAX,
        }
    }
}

/// Counts of datagrams: `sent` + `doubled` = `lost` + `refused` + `overflowed` + `arrived` + those in flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Taken from a session.
    pub sent: u64,
    /// Lost in transit.
    pub lost: u64,
    /// Copies made by the network.
    pub doubled: u64,
    /// Datagrams and copies that took longer.
    pub delayed: u64,
    /// Sent to an address without an end, or to an end connected to another peer.
    pub refused: u64,
    /// Dropped because the end's buffer was full.
    pub overflowed: u64,
    /// Arrived at an end.
    pub arrived: u64,
}

/// Called with each event before it is recorded.
type Callback<C> = Box<dyn FnMut(&mut Packets<C>, Timestamp, &Event<<C as Decoder>::Item>)>;

/// One end of a [`Network`].
pub struct End<C: Decoder> {
    /// The session. Call it as you like between steps.
    pub session: Packets<C>,
    /// Its events, with the time and, for messages, the path.
    pub events: Vec<(Timestamp, Option<Path>, Event<C::Item>)>,
    callback: Option<Callback<C>>,
    at: SocketAddr,
    peer: Option<SocketAddr>,
    /// Datagrams that arrived and were not read.
    buffer: VecDeque<(SocketAddr, Vec<u8>)>,
}

/// Datagram sessions by address and the network between them, on a virtual clock that jumps to the next
/// event.
pub struct Network<C: Decoder> {
    /// The common time.
    pub clock: Clock,
    /// The behaviour from now on.
    pub link: Link,
    ends: Vec<End<C>>,
    rng: Rng,
    counts: Counts,
    /// Ordered by arrival, then by number.
    on_the_way: BTreeMap<(Timestamp, u64), Datagram>,
    made: u64,
    batch: Option<RecvBatch>,
    /// Number of jumps that did not advance the time.
    standstill: u32,
}

struct Datagram {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

impl<C: Decoder + Encoder<C::Item>> Network<C> {
    /// Makes a network with the seed in the environment variable `GETTY_SEED`, or a random one. Prints the
    /// seed.
    ///
    /// # Panics
    /// If the variable is not a number.
    pub fn new(link: Link) -> Self {
        Self::with_seed(link, Rng::seed())
    }

    /// Makes a network that behaves the same each time. Prints the seed.
    pub fn with_seed(link: Link, seed: u64) -> Self {
        println!("lossy network: GETTY_SEED={seed}");
        Network {
            clock: Clock::new(),
            link,
            ends: Vec::new(),
            rng: Rng::new(seed),
            counts: Counts::default(),
            on_the_way: BTreeMap::new(),
            made: 0,
            batch: Some(RecvBatch::new()),
            standstill: 0,
        }
    }

    /// Adds an end at the address `at` that talks to all peers. Returns its number.
    pub fn listen(&mut self, codec: C, config: Arc<Config>, at: SocketAddr) -> usize {
        self.add(codec, PacketOptions::unconnected(), config, at, None)
    }

    /// Adds an end at the address `at` that talks only to `peer`. Returns its number.
    pub fn connect(&mut self, codec: C, config: Arc<Config>, at: SocketAddr, peer: SocketAddr) -> usize {
        self.add(codec, PacketOptions::connected(), config, at, Some(peer))
    }

    /// Adds an end with options of your own. Needs a `peer` if the options are those of a connected socket.
    pub fn add(
        &mut self,
        codec: C,
        options: PacketOptions,
        config: Arc<Config>,
        at: SocketAddr,
        peer: Option<SocketAddr>,
    ) -> usize {
        let session = Packets::new(codec, options, config, self.clock.now());
        let buffer = VecDeque::new();
        self.ends.push(End { session, events: Vec::new(), callback: None, at, peer, buffer });
        self.ends.len() - 1
    }

    /// Returns the end with this number.
    ///
    /// # Panics
    /// If it does not exist.
    pub fn end(&mut self, number: usize) -> &mut End<C> {
        &mut self.ends[number]
    }

    /// Counts of datagrams so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The number of datagrams in flight.
    pub fn in_flight(&self) -> usize {
        self.on_the_way.len()
    }

    /// Runs until no datagram is in flight. Time passes only for arrivals, and for deadlines before them.
    pub fn settle(&mut self) {
        self.work();
        while let Some(arrival) = self.next_arrival() {
            let at = self.next_deadline().map_or(arrival, |deadline| deadline.min(arrival));
            self.jump(at);
            self.work();
        }
    }

    /// Runs for `period`, with all arrivals and deadlines in it.
    pub fn run_for(&mut self, period: Duration) {
        let end = self.clock.now() + period;
        self.work();
        while let Some(at) = [self.next_arrival(), self.next_deadline()].into_iter().flatten().min()
            && at <= end
        {
            self.jump(at);
            self.work();
        }
        self.clock.jump(end);
        self.work();
    }

    fn next_arrival(&self) -> Option<Timestamp> {
        self.on_the_way.first_key_value().map(|(&(at, _), _)| at)
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.ends.iter().filter_map(|end| end.session.poll_timeout()).min()
    }

    fn jump(&mut self, at: Timestamp) {
        self.standstill = if at > self.clock.now() { 0 } else { self.standstill + 1 };
        assert!(self.standstill < 100, "a deadline stays due at {:?}", self.clock.now());
        self.clock.jump(self.clock.now().max(at));
    }

    /// Does all work that is possible now.
    fn work(&mut self) {
        let now = self.clock.now();
        for _ in 0..ENDLESS {
            let mut busy = self.arrive(now);
            for n in 0..self.ends.len() {
                let end = &mut self.ends[n];
                end.session.handle_timeout(now);
                busy |= end.poll(now) | end.read(now, &mut self.batch);
                let (from, sent) = (end.at, end.take_sent(now));
                busy |= !sent.is_empty();
                sent.into_iter().for_each(|(to, bytes)| self.carry(Datagram { from, to, bytes }));
                let batch = self.ends[n].session.take_batch();
                self.batch = self.batch.take().or(batch);
            }
            if !busy {
                return;
            }
        }
        panic!("the sessions stay busy at {now:?}: {self:?}");
    }

    fn chance(&mut self, probability: f64) -> bool {
        (self.rng.below(1 << 30) as f64) < probability * f64::from(1 << 30)
    }

    fn carry(&mut self, datagram: Datagram) {
        self.counts.sent += 1;
        if self.chance(self.link.loss) {
            self.counts.lost += 1;
            return;
        }
        if self.chance(self.link.duplication) {
            self.counts.doubled += 1;
            self.dispatch(Datagram { bytes: datagram.bytes.clone(), ..datagram });
        }
        self.dispatch(datagram);
    }

    fn dispatch(&mut self, datagram: Datagram) {
        let mut at = self.clock.now() + self.link.latency;
        if self.chance(self.link.reordering) {
            self.counts.delayed += 1;
            let delay = usize::try_from(self.link.delay.as_nanos()).unwrap_or(usize::MAX);
            at += Duration::from_nanos(1 + self.rng.below(delay) as u64);
        }
        self.made += 1;
        self.on_the_way.insert((at, self.made), datagram);
    }

    /// Delivers arrived datagrams to their ends.
    fn arrive(&mut self, now: Timestamp) -> bool {
        let mut busy = false;
        while let Some(first) = self.on_the_way.first_entry().filter(|first| first.key().0 <= now) {
            busy = true;
            let Datagram { from, to, bytes } = first.remove();
            let takes = |end: &&mut End<C>| end.takes(from, to);
            match self.ends.iter_mut().find(takes) {
                None => {
                    self.counts.refused += 1;
                    // Systems report this if the sender is known.
                    if let Some(sender) =
                        self.ends.iter_mut().find(|end| end.at == from && end.peer.is_some())
                    {
                        sender.session.handle_unreachable(now, Some(to), io::ErrorKind::ConnectionRefused);
                    }
                }
                Some(end) if end.buffer.len() >= self.link.buffer => self.counts.overflowed += 1,
                Some(end) => {
                    self.counts.arrived += 1;
                    end.buffer.push_back((from, bytes));
                }
            }
        }
        busy
    }
}

impl<C: Decoder + Encoder<C::Item>> End<C> {
    /// Calls `callback` with each event from now on.
    pub fn on_event(&mut self, callback: impl FnMut(&mut Packets<C>, Timestamp, &Event<C::Item>) + 'static) {
        self.callback = Some(Box::new(callback));
    }

    /// The received messages.
    pub fn messages(&self) -> Vec<C::Item>
    where
        C::Item: Clone,
    {
        self.messages_by_peer().into_iter().map(|(_, message)| message).collect()
    }

    /// The received messages with their peers.
    pub fn messages_by_peer(&self) -> Vec<(SocketAddr, C::Item)>
    where
        C::Item: Clone,
    {
        let message = |(_, path, event): &(_, Option<Path>, Event<C::Item>)| match (path, event) {
            (Some(path), Event::Message(message)) => Some((path.peer, message.clone())),
            _ => None,
        };
        self.events.iter().filter_map(message).collect()
    }

    /// The number of datagrams that arrived and were not read.
    pub fn unread(&self) -> usize {
        self.buffer.len()
    }

    /// Whether it accepts the datagram: a connected end accepts only its peer's.
    fn takes(&self, from: SocketAddr, to: SocketAddr) -> bool {
        self.at == to && self.peer.is_none_or(|peer| peer == from) && !self.session.is_closed()
    }

    fn poll(&mut self, now: Timestamp) -> bool {
        let mut told = 0;
        while let Some(event) = self.session.poll_event() {
            told += 1;
            assert!(told < ENDLESS, "the session reports events without end: {:?}", self.session.stats());
            let path = self.session.path();
            if let Some(callback) = &mut self.callback {
                callback(&mut self.session, now, &event);
            }
            self.events.push((now, path, event));
        }
        told > 0
    }

    fn read(&mut self, now: Timestamp, batch: &mut Option<RecvBatch>) -> bool {
        if !self.session.wants_read() || self.buffer.is_empty() {
            return false;
        }
        let mut taken = batch.take().unwrap_or_default();
        taken.clear();
        for (from, bytes) in self.buffer.drain(..RecvBatch::SLOTS.min(self.buffer.len())) {
            assert!(taken.copy_from(Path::new(from), &bytes), "no datagram is larger than a slot");
        }
        assert!(self.session.handle_datagrams(now, taken).is_ok(), "reading was wanted");
        self.poll(now);
        true
    }

    /// Takes the session's output, with the destinations.
    fn take_sent(&mut self, now: Timestamp) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut sent = Vec::new();
        for transmit in self.session.outgoing(now).transmits() {
            let to = transmit.path.map(|path| path.peer).or(self.peer).expect("a peer");
            sent.extend(transmit.datagrams().map(|datagram| (to, datagram.to_vec())));
        }
        self.session.handle_sent(now, sent.len());
        sent
    }
}

impl<C: Decoder> fmt::Debug for End<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let End { at, peer, events, .. } = self;
        f.debug_struct("End")
            .field("at", at)
            .field("peer", peer)
            .field("events", &events.len())
            .finish_non_exhaustive()
    }
}

impl<C: Decoder> fmt::Debug for Network<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Network { clock, link, ends, counts, .. } = self;
        f.debug_struct("Network")
            .field("clock", clock)
            .field("link", link)
            .field("ends", ends)
            .field("counts", counts)
            .finish_non_exhaustive()
    }
}
