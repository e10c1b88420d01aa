//! Any order of calls on one table of peers, made from bytes, checked against its guarantees.
//!
//! [`run`] is for fuzz targets and property tests: every input is a valid script.
//!
//! Checked throughout: each peer's `Open` comes first, its `Closed` exactly once and last, and the table's
//! own exactly once after all of them; a message is from the peer that sent it, comes once and in order, and
//! never while the peer is paused or after its close; every datagram is delivered or counted; the output is
//! exactly the accepted messages, in order, to their destinations; an unvalidated peer is sent no more than
//! the factor allows; progress is per peer; `Writable` comes to peers that were refused; no event follows
//! `None`; no deadline stays due after it was handled; the number of peers stays within its limit.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use getty_core::codec::LengthDelimited;
use getty_core::datagram::{
    Outgoing, PacketOptions, Path, PeerKey, PeerLimits, Peers, PeersEvent, RecvBatch,
};
use getty_core::{Close, Config, Event, Idle, SendError, Seq, Timestamp};

use crate::clock::Clock;
use crate::script::parts::{Codec, Script, UNENCODABLE, Unencodable};

/// Runs the script in `data`.
///
/// # Panics
/// If the table violates a guarantee.
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
const FACTOR: u64 = 3;

/// A datagram that was handed in.
struct Datagram {
    port: u16,
    messages: VecDeque<Vec<u8>>,
    /// Whether a message of it was delivered.
    delivered: bool,
}

/// Expected state of a peer.
#[derive(Default)]
struct Known {
    port: u16,
    opened: bool,
    /// Whether its end was requested.
    closing: bool,
    closed: bool,
    paused: bool,
    validated: bool,
    accepted: u64,
    done: u64,
    sent_bytes: u64,
    refused: bool,
    /// Whether there has been room since it was refused, not reported yet.
    writable: bool,
    /// Requested `Flushed` events that have not come.
    flush_wanted: Vec<Seq>,
}

/// Traffic to and from an address.
#[derive(Default)]
struct Account {
    received: u64,
    accepted: u64,
}

struct Run {
    peers: Peers<Codec>,
    max_peers: usize,
    clock: Clock,
    keys: Vec<PeerKey>,
    known: HashMap<PeerKey, Known>,
    accounts: BTreeMap<u16, Account>,
    handed_in: VecDeque<Datagram>,
    received: u64,
    delivered: u64,
    /// Datagrams that may have been dropped because of a close in between.
    closes: u64,
    made: u32,
    outgoing: VecDeque<(PeerKey, Vec<u8>)>,
    unsent: u64,
    answering: Option<PeerKey>,
    /// The unknown peer that waits for admission.
    asked: Option<u16>,
    closing: bool,
    told_closed: bool,
    reported_at: Option<Timestamp>,
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
        let max_peers = 1 + (options >> 4) % 6;
        let peer_limits = PeerLimits::new()
            .max_peers(max_peers)
            .evict(options >> 1 & 1 == 0)
            .new_per_second(if options >> 2 & 1 == 0 { 1000 } else { 3 });
        let kind = PacketOptions::unconnected().several_frames(options & 1 == 1);
        let codec = Codec(LengthDelimited::new());
        Run {
            peers: Peers::new(codec, kind, peer_limits, config, [5, 6], clock.now()),
            max_peers,
            clock,
            keys: Vec::new(),
            known: HashMap::new(),
            accounts: BTreeMap::new(),
            handed_in: VecDeque::new(),
            received: 0,
            delivered: 0,
            closes: 0,
            made: 0,
            outgoing: VecDeque::new(),
            unsent: 0,
            answering: None,
            asked: None,
            closing: false,
            told_closed: false,
            reported_at: None,
        }
    }

    fn step(&mut self, op: u8, script: &mut Script<'_>) {
        match op % 20 {
            0..=2 => self.receive_one(script),
            3 | 4 => self.receive_batch(script),
            5 => drop(self.poll_event(script.byte())),
            6 => self.poll_all(script.byte()),
            7 => self.poll_message(script.byte()),
            8 => {
                let (key, size) = (self.any_key(script.byte()), script.size());
                self.send(key, size);
            }
            9 => {
                let size = script.size();
                self.send(self.answering, size);
            }
            10 => self.take(script.byte() % 8),
            11 => self.fail(script.byte()),
            12 => {
                let step = Duration::from_millis(script.byte() as u64 * 8);
                let now = self.clock.advance(step);
                self.handle_timeout(now);
            }
            13 => self.tick_to_deadline(script.byte()),
            14 => self.pause(script.byte()),
            15 => self.ask(script.byte()),
            16 => self.close_peer(script.byte(), script.byte()),
            17 => {
                if script.byte().is_multiple_of(8) {
                    self.close(script.byte());
                }
            }
            18 => self.admit(script.byte()),
            _ => drop(self.peers.take_batch()),
        }
    }

    /// A key that was once used, or `None` if none was.
    fn any_key(&self, number: usize) -> Option<PeerKey> {
        // Mostly one of the latest.
        let latest = self.keys.len().checked_sub(1 + number % 8);
        latest.or_else(|| number.checked_rem(self.keys.len())).map(|index| self.keys[index])
    }

    fn datagram(&mut self, script: &mut Script<'_>) -> (Datagram, Vec<u8>) {
        let port = 1 + script.byte() as u16 % 8;
        let kind = script.byte();
        let body = |run: &mut Run| {
            run.made += 1;
            let mut body = run.made.to_be_bytes().to_vec();
            body.resize(4 + kind % 40, 7);
            body
        };
        let frame = |body: &[u8]| [&(body.len() as u32).to_be_bytes(), body].concat();
        let (messages, bytes) = match kind % 12 {
            0 => (vec![], vec![]),
            1 => (vec![], vec![7; MAX_DATAGRAM + 1]),
            2 => (vec![], vec![0xff; 9]),
            3..=5 => {
                let bodies = [body(self), body(self), body(self)];
                let bytes = bodies.iter().map(|body| frame(body)).collect::<Vec<_>>().concat();
                (bodies.to_vec(), bytes)
            }
            _ => {
                let body = body(self);
                let bytes = frame(&body);
                (vec![body], bytes)
            }
        };
        (Datagram { port, messages: messages.into(), delivered: false }, bytes)
    }

    fn hand_in(&mut self, datagram: Datagram, size: usize) {
        if !self.closing {
            self.received += 1;
            self.accounts.entry(datagram.port).or_default().received += size as u64;
            self.handed_in.push_back(datagram);
        }
    }

    fn receive_one(&mut self, script: &mut Script<'_>) {
        let (datagram, bytes) = self.datagram(script);
        if self.peers.handle_datagram(self.clock.now(), path(datagram.port), &bytes) {
            self.hand_in(datagram, bytes.len());
        }
    }

    fn receive_batch(&mut self, script: &mut Script<'_>) {
        let mut batch = RecvBatch::new();
        let mut datagrams = Vec::new();
        for _ in 0..script.byte() % 6 {
            let (datagram, bytes) = self.datagram(script);
            assert!(batch.copy_from(path(datagram.port), &bytes));
            datagrams.push((datagram, bytes.len()));
        }
        let wanted = self.peers.wants_read();
        match self.peers.handle_datagrams(self.clock.now(), batch) {
            Ok(()) => datagrams.into_iter().for_each(|(datagram, size)| self.hand_in(datagram, size)),
            Err(_) => assert!(!wanted, "the table wanted to read, then refused the batch"),
        }
    }

    fn poll_all(&mut self, how: usize) {
        while self.poll_event(how) {}
        assert!(self.peers.poll_event().is_none(), "an event after poll_event returned None");
        assert!(!self.peers.wants_poll(), "wants_poll without an event");
        let untold = self.known.values().filter(|known| known.writable && !known.closing).count();
        assert!(self.closing || untold == 0, "there is room, but a refused peer got no Writable");
        if !self.closing && self.peers.wants_read() {
            self.handed_in.clear();
            let dropped = self.peers.dropped();
            let told = self.delivered + dropped.total() - dropped.unsent;
            assert!(self.received <= told + self.closes, "a dropped datagram was not counted");
        }
    }

    fn poll_event(&mut self, how: usize) -> bool {
        let wanted = self.peers.wants_poll();
        (self.answering, self.asked) = (None, None);
        let Some(event) = self.peers.poll_event() else { return false };
        assert!(wanted, "{event:?} without wants_poll");
        assert!(!self.told_closed, "{event:?} after Closed");
        match event {
            PeersEvent::Unknown(asked) => {
                assert!(!self.closing, "an unknown peer after the close");
                let port = asked.peer.port();
                let there = self.known.values().filter(|known| known.port == port && !known.closed);
                assert!(there.filter(|known| !known.closing).count() == 0, "port {port} is already known");
                self.asked = Some(port);
                match how % 8 {
                    0 => self.admit(1),
                    1 => {} // admitted later, or not at all
                    _ => self.admit(0),
                }
            }
            PeersEvent::Peer(key, event) => self.told(key, event),
            PeersEvent::Dropped(dropped) => {
                let now = self.clock.now();
                let last = self.reported_at.replace(now);
                assert!(last.is_none_or(|last| now >= last + Duration::from_secs(1)), "reported too soon");
                assert!(dropped.counts.total() > 0);
            }
            PeersEvent::Closed(_) => {
                assert!(self.closing, "closed without a request");
                assert!(self.known.values().all(|known| known.closed), "a peer's Closed is missing");
                self.told_closed = true;
                self.outgoing.clear();
            }
            _ => {}
        }
        true
    }

    fn told(&mut self, key: PeerKey, event: Event<Bytes>) {
        let closing = self.closing;
        let known = self.known.get_mut(&key).expect("a peer that was admitted");
        assert!(!known.closed, "{event:?} after its Closed");
        assert_eq!(matches!(event, Event::Open(_)), !known.opened, "{event:?}");
        known.opened = true;
        match event {
            Event::Open(opened) => assert_eq!(opened.peer, Some(path(known.port).peer)),
            Event::Message(message) => self.got(key, &message),
            Event::Writable => {
                assert!(std::mem::take(&mut known.writable), "Writable, but nothing was refused");
                assert!(!known.closing && !closing);
            }
            Event::Flushed(seq) => {
                let wanted = known.flush_wanted.len();
                known.flush_wanted.retain(|&waits| waits > seq);
                assert!(known.flush_wanted.len() < wanted, "Flushed({seq}) was not requested");
                assert!(seq.get() <= known.done);
            }
            Event::Closed(_) => known.closed = true,
            _ => assert!(!known.closing && !closing, "{event:?} after the close"),
        }
    }

    fn got(&mut self, key: PeerKey, message: &Bytes) {
        assert!(!self.closing, "a message after the close");
        let known = &self.known[&key];
        assert!(known.opened && !known.closing && !known.paused, "a message while paused or not open");
        while self
            .handed_in
            .front()
            .is_some_and(|datagram| datagram.messages.front().is_none_or(|first| first != message))
        {
            self.handed_in.pop_front();
        }
        let datagram = self.handed_in.front_mut().expect("a message that was not sent, or too late");
        assert_eq!(datagram.port, known.port, "a message of another peer");
        datagram.messages.pop_front();
        self.delivered += u64::from(!std::mem::replace(&mut datagram.delivered, true));
        self.answering = Some(key);
    }

    fn poll_message(&mut self, number: usize) {
        let Some(key) = self.answering.or_else(|| self.any_key(number)) else { return };
        self.answering = None;
        if let Some(message) = self.peers.poll_message(key) {
            self.got(key, &message);
        }
    }

    fn send(&mut self, key: Option<PeerKey>, size: usize) {
        let Some(key) = key else { return };
        let item = match size {
            0 => Bytes::from_static(UNENCODABLE),
            _ => Bytes::from(vec![size as u8; size]),
        };
        let open = self.peers.is_open(key);
        let sent = self.peers.send(key, item.clone());
        let weight = self.weight();
        let known = self.known.get_mut(&key).expect("admitted");
        match sent {
            Ok(accepted) => {
                assert!(open && !known.closing && !self.closing, "taken after the close");
                let wire = [&(item.len() as u32).to_be_bytes(), &item[..]].concat();
                known.accepted += 1;
                assert_eq!((accepted.seq.get(), accepted.bytes), (known.accepted, wire.len()));
                if !known.validated {
                    let account = self.accounts.entry(known.port).or_default();
                    account.accepted += wire.len() as u64;
                    assert!(
                        account.accepted <= FACTOR * account.received,
                        "too much for an unvalidated peer"
                    );
                }
                self.outgoing.push_back((key, wire));
            }
            Err(error) => {
                match &error {
                    SendError::Blocked(_) => {
                        assert!(weight > self.peers.config().high_watermark());
                        known.refused = true;
                    }
                    SendError::NotValidated(_) => assert!(!known.validated),
                    SendError::TooLarge { .. } => assert!(item.len() + 4 > MAX_DATAGRAM),
                    SendError::Encode(_) => {
                        assert!(item == UNENCODABLE || item.len() + 4 > MAX_DATAGRAM || !known.validated)
                    }
                    SendError::Closed(_) => assert!(!open),
                    error => panic!("{error:?}"),
                }
                assert!(error.into_item().is_none_or(|back| back == item));
            }
        }
    }

    /// The socket takes `n` datagrams, possibly more than there are.
    fn take(&mut self, n: usize) {
        self.compare();
        self.peers.handle_sent(self.clock.now(), n);
        for (key, datagram) in self.outgoing.drain(..n.min(self.outgoing.len())) {
            let known = self.known.get_mut(&key).expect("admitted");
            known.done += 1;
            known.sent_bytes += datagram.len() as u64;
        }
        self.relieve();
    }

    /// Once there is room, expects `Writable` for refused peers, even if refused again before it came.
    fn relieve(&mut self) {
        if self.weight() <= self.peers.config().low_watermark() {
            for known in self.known.values_mut() {
                known.writable |= std::mem::take(&mut known.refused);
            }
        }
    }

    /// Checks that waiting datagrams are those accepted.
    fn compare(&mut self) {
        let waiting = self.peers.outgoing(self.clock.now());
        assert_eq!(waiting.len(), self.outgoing.len());
        let sent = waiting.transmits().flat_map(|transmit| {
            let port = transmit.path.map_or(0, |path| path.peer.port());
            transmit.datagrams().map(move |datagram| (port, datagram))
        });
        let known = &self.known;
        assert!(sent.eq(self.outgoing.iter().map(|(key, bytes)| (known[key].port, &bytes[..]))));
    }

    fn fail(&mut self, how: usize) {
        let now = self.clock.now();
        match how % 8 {
            0..=3 => {
                self.peers.handle_unsent(now, io::ErrorKind::PermissionDenied);
                if let Some((key, datagram)) = self.outgoing.pop_front() {
                    self.unsent += 1;
                    let known = self.known.get_mut(&key).expect("admitted");
                    known.done += 1;
                    // It may or may not have been accepted before the validation.
                    let account = self.accounts.entry(known.port).or_default();
                    account.accepted = account.accepted.saturating_sub(datagram.len() as u64);
                }
                self.relieve();
            }
            4..=6 => {
                self.peers.handle_unreachable(now, None, io::ErrorKind::ConnectionRefused);
                self.unsent = self.peers.dropped().unsent;
            }
            _ => {
                self.peers.handle_io_error(now, io::ErrorKind::NotConnected);
                self.end();
            }
        }
    }

    fn tick_to_deadline(&mut self, how: usize) {
        let at = self.peers.poll_timeout().unwrap_or(self.clock.now());
        let at = if how.is_multiple_of(8) { at + Duration::from_secs(49 * 86_400) } else { at };
        // A clock that goes back is a mistake of the caller; the table's own time never does.
        self.peers.handle_timeout(self.clock.at(Duration::ZERO));
        let now = self.clock.jump(at.max(self.clock.now()));
        self.handle_timeout(now);
    }

    fn handle_timeout(&mut self, now: Timestamp) {
        self.peers.handle_timeout(now);
        assert!(self.peers.poll_timeout().is_none_or(|at| at > now), "a deadline stays due");
        if self.closing {
            self.ended();
        }
    }

    fn pause(&mut self, number: usize) {
        let Some(key) = self.any_key(number / 2) else { return };
        let pause = number.is_multiple_of(2);
        if pause {
            self.peers.pause(key);
        } else {
            self.peers.resume(self.clock.now(), key);
        }
        self.known.get_mut(&key).expect("admitted").paused = pause;
    }

    fn ask(&mut self, what: usize) {
        let Some(key) = self.any_key(what / 4) else { return };
        let known = self.known.get_mut(&key).expect("admitted");
        match what % 4 {
            0 => {
                let asked = self.peers.notify_flushed(key);
                assert!(known.closed || asked.map_or(0, Seq::get) == known.accepted);
                known.flush_wanted.extend(asked);
            }
            1 => {
                self.peers.validate(key);
                known.validated = true;
            }
            2 => self.peers.update_active(self.clock.now(), key),
            _ => {
                self.peers.end_reply();
                self.answering = None;
            }
        }
    }

    fn close_peer(&mut self, number: usize, how: usize) {
        let Some(key) = self.any_key(number) else { return };
        self.peers.close_peer(self.clock.now(), key, close(how));
        let known = self.known.get_mut(&key).expect("admitted");
        known.closing = true;
        self.closes += 1;
        assert!(!self.peers.is_open(key));
    }

    fn close(&mut self, how: usize) {
        self.peers.close(self.clock.now(), close(how));
        self.end();
    }

    fn end(&mut self) {
        self.closing = true;
        self.ended();
    }

    /// An immediate end drops waiting datagrams.
    fn ended(&mut self) {
        if !self.peers.wants_write() {
            self.outgoing.clear();
        }
    }

    /// Also called when no peer waits for admission.
    fn admit(&mut self, how: usize) {
        let yes = how.is_multiple_of(2);
        let asked = self.asked.take().filter(|_| yes && !self.closing);
        let key = self.peers.admit(yes);
        assert_eq!(key.is_some(), asked.is_some());
        if let (Some(key), Some(port)) = (key, asked) {
            assert!(
                self.known.insert(key, Known { port, ..Known::default() }).is_none(),
                "a key is used twice"
            );
            self.keys.push(key);
        }
    }

    /// The queue's weight for limits.
    fn weight(&self) -> usize {
        self.outgoing.iter().map(|(_, datagram)| datagram.len().max(Outgoing::MIN_WEIGHT)).sum()
    }

    fn check(&mut self) {
        assert!(self.peers.len() <= self.max_peers);
        assert_eq!(self.peers.dropped().unsent, self.unsent);
        let config = self.peers.config();
        let unasked = config.max_queued().max(config.high_watermark() + MAX_DATAGRAM);
        assert!(
            self.weight() <= unasked + config.high_watermark() + MAX_DATAGRAM,
            "{} queued",
            self.weight()
        );
        for (&key, known) in &mut self.known {
            let open = self.peers.is_open(key);
            // Another peer has replaced it.
            known.closing |= !open;
            assert!(!open || !known.closed && !self.closing);
            // Its statistics stay available until the next poll after its end.
            assert!(known.closed || self.peers.path(key).is_some());
            if !known.closed {
                let stats = self.peers.stats(key);
                assert_eq!(stats.progress.accepted.map_or(0, Seq::get), known.accepted);
                assert_eq!(stats.progress.flushed.map_or(0, Seq::get), known.done);
                assert_eq!(stats.sent.bytes, known.sent_bytes);
            }
        }
        if self.told_closed {
            assert!(self.peers.is_closed() && !self.peers.wants_read());
            assert!(!self.peers.wants_write() && !self.peers.wants_poll());
            assert_eq!(self.peers.poll_timeout(), None);
        }
    }

    /// Acts as a socket that takes everything: the table must end.
    fn finish(mut self) {
        for round in 0.. {
            assert!(round < 10_000, "the table does not end");
            while self.poll_event(2) {
                self.check();
            }
            if self.told_closed {
                break;
            }
            self.take(usize::MAX);
            if !self.closing && self.peers.wants_read() && !self.peers.wants_write() {
                self.close(0);
            }
            self.check();
        }
        self.fail(7);
        let now = self.clock.advance(Duration::from_secs(3600));
        self.handle_timeout(now);
        self.close(2);
        self.admit(0);
        assert!(self.peers.poll_event().is_none(), "an event after Closed");
        self.check();
    }
}

fn close(how: usize) -> Close {
    match how % 5 {
        0 | 1 => Close::graceful(),
        2 => Close::abort(),
        3 => Close::idle(Idle::Both),
        _ => Close::refuse(Arc::new(Unencodable)),
    }
}

fn path(port: u16) -> Path {
    Path::new(SocketAddr::from(([127, 0, 0, 1], port)))
}
