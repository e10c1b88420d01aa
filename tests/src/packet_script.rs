//! Any order of calls on one datagram session, made from bytes, checked against its guarantees.
//!
//! [`run`] is for fuzz targets and property tests: every input is a valid script.
//!
//! Checked throughout: `Open` comes first, `Closed` exactly once and last; each valid datagram is delivered
//! once, in order, with its peer, and each invalid one is counted once; the output is exactly the accepted
//! messages, in order, to their destinations; progress and statistics are correct; reports come at most once
//! per second; nothing is delivered or accepted after a close without drain; the queue stays within its
//! limits; no event follows `None`; no deadline stays due after it was handled.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use getty_core::codec::LengthDelimited;
use getty_core::datagram::{Outgoing, PacketOptions, Packets, Path, RecvBatch};
use getty_core::{Accepted, Close, Config, Event, Idle, SendError, Seq, Timestamp};

use crate::clock::Clock;
use crate::script::parts::{Codec, Script, UNENCODABLE, Unencodable};

/// Runs the script in `data`.
///
/// # Panics
/// If the session violates a guarantee.
pub fn run(data: &[u8]) {
    let mut script = Script { data };
    let mut run = Run::new(&mut script);
    while let Some(op) = script.next() {
        run.step(op, &mut script);
        run.check();
    }
    run.finish();
}

const MAX_DATAGRAM: usize = 4096;
const PING: &[u8] = b"connect-ping";

/// A received datagram and its expected effect.
struct Datagram {
    port: u16,
    messages: VecDeque<Vec<u8>>,
    /// Whether it is invalid.
    bad: bool,
}

struct Run {
    packets: Packets<Codec>,
    connected: bool,
    several: bool,
    compat: bool,
    clock: Clock,
    /// Handed in and not completely reported.
    expected: VecDeque<Datagram>,
    /// Peers that have sent something, for `connect-ping`.
    seen: BTreeSet<u16>,
    made: u8,
    received: u64,
    delivered: u64,
    /// Number of invalid datagrams before the first in `expected`.
    bad: u64,
    unsent: u64,
    /// Not yet taken by the socket: the peer's port, if any, and the bytes.
    outgoing: VecDeque<(Option<u16>, Vec<u8>)>,
    accepted: u64,
    /// Whether the first datagram is a `connect-ping`, which is not counted.
    ping_ahead: bool,
    done: u64,
    sent_bytes: u64,
    closed: bool,
    draining: bool,
    paused: bool,
    events: u64,
    told_closed: bool,
    reported_at: Option<Timestamp>,
    reported: u64,
    /// Requested `Flushed` events that have not come.
    flush_wanted: Vec<Seq>,
    /// The peer of the message polled last.
    path: Option<u16>,
}

impl Run {
    fn new(script: &mut Script<'_>) -> Self {
        let clock = Clock::new();
        let (options, periods, limits) = (script.byte(), script.byte(), script.byte());
        let on = |bit: usize, ms: u64| (periods >> bit & 1 == 1).then(|| Duration::from_millis(ms));
        let config = Config::builder()
            .max_datagram(MAX_DATAGRAM)
            .max_frame(2048)
            .watermarks(limits * 16, limits * 32)
            .max_queued(limits * 64)
            .cron_period(on(0, 700))
            .idle_read(on(1, 1000))
            .idle_write(on(2, 900))
            .idle_both(on(3, 1100))
            .close_timeout(Duration::from_millis(500))
            .build()
            .expect("valid");
        let [connected, several, compat] = [0, 1, 2].map(|bit| options >> bit & 1 == 1);
        let kind = if connected { PacketOptions::connected() } else { PacketOptions::unconnected() };
        let kind = kind.several_frames(several).getty_compat(compat);
        let ping_ahead = connected && compat;
        Run {
            packets: Packets::new(Codec(LengthDelimited::new()), kind, config, clock.now()),
            connected,
            several,
            compat,
            clock,
            expected: VecDeque::new(),
            seen: BTreeSet::new(),
            made: 0,
            received: 0,
            delivered: 0,
            bad: 0,
            unsent: 0,
            outgoing: ping_ahead.then(|| (None, PING.to_vec())).into_iter().collect(),
            accepted: 0,
            ping_ahead,
            done: 0,
            sent_bytes: 0,
            closed: false,
            draining: false,
            paused: false,
            events: 0,
            told_closed: false,
            reported_at: None,
            reported: 0,
            flush_wanted: Vec::new(),
            path: None,
        }
    }

    fn step(&mut self, op: u8, script: &mut Script<'_>) {
        let now = self.clock.now();
        match op % 20 {
            0 | 1 => self.receive_one(script),
            2 | 3 => self.receive_batch(script),
            4 => drop(self.packets.take_batch()),
            5 | 6 => self.send(script.size(), script.byte()),
            7 | 8 => self.reply(script.size()),
            9 => self.send_unencodable(script.byte()),
            10 => drop(self.poll_event()),
            11 => self.poll_all(),
            12 => self.poll_message(),
            13 => self.take(script.byte() % 8),
            14 => self.fail(script.byte()),
            15 => self.tick(Duration::from_millis(script.size() as u64)),
            16 => self.tick_to_deadline(script.byte()),
            17 => match script.byte() % 2 {
                0 => {
                    self.packets.pause();
                    self.paused = true;
                }
                _ => {
                    self.packets.resume(now);
                    self.paused = false;
                }
            },
            18 => self.ask(script.byte()),
            _ => self.close(script.byte()),
        }
    }

    /// Makes a datagram of one of eight peers, and its expected effect.
    fn datagram(&mut self, script: &mut Script<'_>) -> (Datagram, Vec<u8>) {
        let (what, size) = (script.byte(), script.size().min(2000));
        let port = if self.connected { 1 } else { 1 + what as u16 / 32 };
        self.made = self.made.wrapping_add(1);
        let body = vec![self.made; size];
        let frame = [&(size as u32).to_be_bytes(), &body[..]].concat();
        let (bytes, messages, bad) = match what % 10 {
            0 => (vec![], vec![], true),
            1 => (vec![7; MAX_DATAGRAM + 1], vec![], true),
            2 => (frame[..frame.len() - 1].to_vec(), vec![], true),
            3 => (vec![0xff; 4 + size], vec![], true), // announces too much
            4 => (PING.to_vec(), vec![], true),        // not a frame either
            5 if self.several => ([frame.clone(), frame].concat(), vec![body.clone(), body], false),
            6 if self.several => ([frame, vec![0]].concat(), vec![body], true),
            5 => ([frame.clone(), frame].concat(), vec![], true),
            6 => ([frame, vec![0]].concat(), vec![], true),
            _ => (frame, vec![body], false),
        };
        (Datagram { port, messages: messages.into(), bad }, bytes)
    }

    fn expect(&mut self, datagram: Datagram) {
        if !self.closed {
            self.received += 1;
            self.expected.push_back(datagram);
        }
    }

    fn receive_one(&mut self, script: &mut Script<'_>) {
        let (datagram, bytes) = self.datagram(script);
        if self.packets.handle_datagram(self.clock.now(), path(datagram.port), &bytes) {
            self.expect(datagram);
        }
    }

    /// Hands in several datagrams at once, some coalesced as by receive offload.
    fn receive_batch(&mut self, script: &mut Script<'_>) {
        let mut batch = RecvBatch::new();
        let mut datagrams = Vec::new();
        for _ in 0..script.byte() % 4 {
            let (datagram, bytes) = self.datagram(script);
            assert!(batch.copy_from(path(datagram.port), &bytes));
            datagrams.push(datagram);
        }
        let wanted = self.packets.wants_read();
        match self.packets.handle_datagrams(self.clock.now(), batch) {
            Ok(()) => datagrams.into_iter().for_each(|datagram| self.expect(datagram)),
            Err(_) => assert!(!wanted, "the session wanted to read, then refused the batch"),
        }
    }

    fn send(&mut self, size: usize, port: usize) {
        let item = Bytes::from(vec![size as u8; size]);
        let port = 1 + port as u16 % 8;
        let before = self.packets.stats();
        let sent = if self.connected {
            assert!(matches!(self.packets.send_to(path(port), item.clone()), Err(SendError::Connected(_))));
            self.packets.send(item.clone())
        } else {
            assert!(matches!(self.packets.send(item.clone()), Err(SendError::NoPeer(_))));
            self.packets.send_to(path(port), item.clone())
        };
        self.sent((!self.connected).then_some(port), item, sent, before);
    }

    fn reply(&mut self, size: usize) {
        let item = Bytes::from(vec![size as u8; size]);
        let before = self.packets.stats();
        let sent = self.packets.reply(item.clone());
        if !self.connected && self.path.is_none() {
            assert!(matches!(sent, Err(SendError::NoPeer(_) | SendError::Closed(_))));
        }
        self.sent(self.path.filter(|_| !self.connected), item, sent, before);
    }

    fn sent(
        &mut self,
        port: Option<u16>,
        item: Bytes,
        sent: Result<Accepted, SendError<Bytes>>,
        before: getty_core::Stats,
    ) {
        match sent {
            Ok(accepted) => {
                assert!(!self.closed || self.draining, "taken after the close");
                let wire = [&(item.len() as u32).to_be_bytes(), &item[..]].concat();
                self.accepted += 1;
                assert_eq!((accepted.seq.get(), accepted.bytes), (self.accepted, wire.len()));
                assert!(wire.len() <= MAX_DATAGRAM);
                self.outgoing.push_back((port, wire));
            }
            Err(error) => {
                let after = self.packets.stats();
                assert_eq!((after.queued, after.progress), (before.queued, before.progress));
                match &error {
                    SendError::Blocked(_) => assert!(self.weight() > self.packets.config().high_watermark()),
                    SendError::TooLarge { .. } => assert!(item.len() + 4 > MAX_DATAGRAM),
                    SendError::Encode(_) => assert!(item == UNENCODABLE || item.len() + 4 > MAX_DATAGRAM),
                    SendError::NoPeer(_) => assert!(!self.connected),
                    _ => assert!(self.closed),
                }
                assert!(error.into_item().is_none_or(|back| back == item));
            }
        }
    }

    fn send_unencodable(&mut self, port: usize) {
        let item = Bytes::from_static(UNENCODABLE);
        let before = self.packets.stats();
        let sent = match self.connected {
            true => self.packets.send(item.clone()),
            false => self.packets.send_to(path(port as u16), item.clone()),
        };
        assert!(sent.is_err());
        self.sent(None, item, sent, before);
    }

    fn poll_all(&mut self) {
        while self.poll_event() {}
        assert!(self.packets.poll_event().is_none(), "an event after poll_event returned None");
        assert!(!self.packets.wants_poll(), "wants_poll without an event");
        let blocked = !self.packets.wants_read();
        if !self.closed && !blocked {
            self.skip_bad();
            assert!(self.expected.is_empty(), "a datagram was not reported");
        }
    }

    fn poll_event(&mut self) -> bool {
        let wanted = self.packets.wants_poll();
        self.path = None;
        let Some(event) = self.packets.poll_event() else { return false };
        assert!(wanted, "{event:?} without wants_poll");
        assert!(!self.told_closed, "{event:?} after Closed");
        self.events += 1;
        assert_eq!(matches!(event, Event::Open(_)), self.events == 1, "{event:?}");
        match event {
            Event::Message(message) => self.got(&message),
            Event::Flushed(seq) => {
                let wanted = self.flush_wanted.len();
                self.flush_wanted.retain(|&waits| waits > seq);
                assert!(self.flush_wanted.len() < wanted, "Flushed({seq}) was not requested");
                assert!(seq.get() <= self.done);
            }
            Event::Dropped(dropped) => {
                let now = self.clock.now();
                let last = self.reported_at.replace(now);
                assert!(last.is_none_or(|last| now >= last + Duration::from_secs(1)), "reported too soon");
                assert!(dropped.counts.total() > 0);
                self.reported += dropped.counts.total();
                assert_eq!(self.reported, self.packets.dropped().total(), "not every drop was reported");
            }
            Event::Closed(_) => self.told_closed = true,
            _ => {}
        }
        true
    }

    fn poll_message(&mut self) {
        self.path = None;
        if let Some(message) = self.packets.poll_message() {
            assert!(self.events > 0, "a message before Open");
            self.events += 1;
            self.got(&message);
        }
    }

    fn got(&mut self, message: &Bytes) {
        assert!(!self.closed || self.draining, "a message after the close");
        assert!(!self.paused, "a message while paused");
        self.delivered += 1;
        self.skip_bad();
        let datagram = self.expected.front_mut().expect("a message that was not sent");
        assert_eq!(datagram.messages.pop_front().as_deref(), Some(&message[..]));
        let path = self.packets.path().expect("a path");
        assert_eq!(path.peer.port(), datagram.port);
        self.path = Some(datagram.port);
    }

    /// Removes completed datagrams.
    fn skip_bad(&mut self) {
        while self.expected.front().is_some_and(|datagram| datagram.messages.is_empty())
            && let Some(datagram) = self.expected.pop_front()
        {
            self.bad += u64::from(datagram.bad);
            self.seen.insert(datagram.port);
        }
    }

    /// Checks that waiting datagrams are those accepted; then the socket takes `n`, possibly more than there
    /// are.
    fn take(&mut self, n: usize) {
        let now = self.clock.now();
        let outgoing = self.packets.outgoing(now);
        assert_eq!(outgoing.len(), self.outgoing.len());
        let mut accepted = self.outgoing.iter();
        for transmit in outgoing.transmits() {
            let port = transmit.path.map(|path| path.peer.port());
            assert!((1..=64).contains(&transmit.count));
            assert_eq!(transmit.datagrams().map(<[u8]>::len).sum::<usize>(), transmit.contents.len());
            for datagram in transmit.datagrams() {
                assert_eq!(
                    accepted.next(),
                    Some(&(port, datagram.to_vec())),
                    "a datagram other than the accepted one"
                );
            }
        }
        assert!(accepted.next().is_none());
        self.packets.handle_sent(now, n);
        for (_, datagram) in self.outgoing.drain(..n.min(self.outgoing.len())) {
            self.sent_bytes += datagram.len() as u64;
            self.done += u64::from(!std::mem::take(&mut self.ping_ahead));
        }
    }

    fn fail(&mut self, how: usize) {
        let now = self.clock.now();
        match how % 8 {
            0..=3 => {
                self.packets.handle_unsent(now, io::ErrorKind::PermissionDenied);
                if self.outgoing.pop_front().is_some() {
                    self.unsent += 1;
                    self.done += u64::from(!std::mem::take(&mut self.ping_ahead));
                }
            }
            4..=6 => {
                self.unsent += u64::from(!self.packets.is_over());
                self.packets.handle_unreachable(now, None, io::ErrorKind::ConnectionRefused);
            }
            _ => {
                self.packets.handle_io_error(now, io::ErrorKind::NotConnected);
                self.end();
            }
        }
    }

    fn tick(&mut self, step: Duration) {
        let now = self.clock.advance(step);
        self.handle_timeout(now);
    }

    fn tick_to_deadline(&mut self, how: usize) {
        let at = self.packets.poll_timeout().unwrap_or(self.clock.now());
        let at = if how.is_multiple_of(8) { at + Duration::from_secs(49 * 86_400) } else { at };
        // A clock that goes back is a mistake of the caller; the session's own time never does.
        self.packets.handle_timeout(self.clock.at(Duration::ZERO));
        let now = self.clock.jump(at.max(self.clock.now()));
        self.handle_timeout(now);
    }

    fn handle_timeout(&mut self, now: Timestamp) {
        self.packets.handle_timeout(now);
        assert!(self.packets.poll_timeout().is_none_or(|at| at > now), "a deadline stays due");
        if self.packets.is_over() {
            self.end();
        }
    }

    fn ask(&mut self, what: usize) {
        let now = self.clock.now();
        match what % 3 {
            0 => {
                let asked = self.packets.notify_flushed();
                assert_eq!(asked.map_or(0, Seq::get), self.accepted);
                self.flush_wanted.extend(asked);
            }
            1 => {
                self.packets.update_active(now);
                assert_eq!(self.packets.last_active(), now);
            }
            _ => {
                self.packets.end_reply();
                self.path = None;
            }
        }
    }

    fn close(&mut self, how: usize) {
        let close = match how % 5 {
            0 => Close::graceful(),
            1 => Close::graceful().with_drain(),
            2 => Close::abort(),
            3 => Close::idle(Idle::Both),
            _ => Close::refuse(Arc::new(Unencodable)),
        };
        let drains = how % 5 == 1 && (!self.closed || self.draining);
        self.packets.close(self.clock.now(), close);
        (self.closed, self.draining) = (true, drains);
        if self.packets.is_over() {
            self.end();
        }
    }

    /// The session sends and receives nothing more.
    fn end(&mut self) {
        (self.closed, self.draining) = (true, false);
        self.outgoing.clear();
    }

    /// The queue's weight for limits.
    fn weight(&self) -> usize {
        self.outgoing.iter().map(|(_, datagram)| datagram.len().max(Outgoing::MIN_WEIGHT)).sum()
    }

    fn check(&mut self) {
        let stats = self.packets.stats();
        let config = self.packets.config();
        let unasked = config.max_queued().max(config.high_watermark() + MAX_DATAGRAM);
        assert!(
            self.weight() <= unasked + config.high_watermark() + MAX_DATAGRAM,
            "{} queued",
            self.weight()
        );
        if self.packets.is_over() {
            self.outgoing.clear();
        }
        assert_eq!(stats.queued, self.outgoing.iter().map(|(_, datagram)| datagram.len()).sum::<usize>());
        assert_eq!(stats.progress.accepted.map_or(0, Seq::get), self.accepted);
        assert_eq!(stats.progress.flushed.map_or(0, Seq::get), self.done);
        assert_eq!((stats.sent.messages, stats.sent.bytes), (self.accepted, self.sent_bytes));
        assert_eq!(stats.received.messages, self.delivered);
        assert!(stats.received.operations <= self.received, "counted twice");
        let dropped = self.packets.dropped();
        assert_eq!(dropped.unsent, self.unsent);
        assert!(self.compat || dropped.connect_pings == 0);
        if self.told_closed {
            assert!(self.packets.is_closed() && !self.packets.is_open() && !self.packets.wants_read());
            assert!(!self.packets.wants_write() && !self.packets.wants_poll());
            assert_eq!(self.packets.poll_timeout(), None);
        }
        if !self.closed
            && self.expected.iter().all(|datagram| datagram.messages.is_empty())
            && self.packets.wants_read()
        {
            self.skip_bad();
            assert_eq!(dropped.total() - dropped.unsent, self.bad, "each bad datagram counts once");
        }
    }

    /// Acts as a socket that takes everything: the session must end.
    fn finish(mut self) {
        self.packets.resume(self.clock.now());
        self.paused = false;
        for round in 0.. {
            assert!(round < 10_000, "the session does not end: {:?}", self.packets);
            while self.poll_event() {
                self.check();
            }
            if self.told_closed {
                break;
            }
            let draining = self.draining;
            self.take(usize::MAX);
            if draining && self.packets.is_over() {
                self.end();
            }
            if !self.closed && self.packets.wants_read() && !self.packets.wants_write() {
                self.close(1);
            }
            self.check();
        }
        self.send(10, 0);
        self.take(1);
        self.packets.notify_flushed();
        self.packets.handle_io_error(self.clock.now(), io::ErrorKind::Other);
        self.tick(Duration::from_secs(3600));
        self.close(2);
        assert!(self.packets.poll_event().is_none(), "an event after Closed");
        self.check();
    }
}

fn path(port: u16) -> Path {
    Path::new(SocketAddr::from(([127, 0, 0, 1], port)))
}
