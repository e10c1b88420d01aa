//! Helpers for tests of peer tables. Each file uses a part of them.
#![allow(dead_code)]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use getty_core::codec::{Decoder, Encoder, Raw};
use getty_core::datagram::{PacketOptions, Path, PeerKey, PeerLimits, Peers, PeersEvent, RecvBatch};
use getty_core::{Config, ConfigBuilder, Event};
use testkit::clock::Clock;

pub const NONE: [&str; 0] = [];

pub fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A peer's path: only the port differs.
pub fn path(port: u16) -> Path {
    Path::new(SocketAddr::from(([127, 0, 0, 1], port)))
}

/// A path with a different address for each number.
pub fn far(number: u32) -> Path {
    Path::new((IpAddr::from(Ipv4Addr::from(0x0a00_0000 + number)), 5000).into())
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn batch<'a>(datagrams: impl IntoIterator<Item = (u16, &'a [u8])>) -> RecvBatch {
    let mut batch = RecvBatch::new();
    datagrams.into_iter().for_each(|(port, bytes)| assert!(batch.copy_from(path(port), bytes)));
    batch
}

/// A table of peers that a test drives call by call.
pub struct Host<C: Decoder = Raw> {
    pub peers: Peers<C>,
    pub clock: Clock,
    /// The latest key of each port.
    pub keys: HashMap<u16, PeerKey>,
    ports: HashMap<PeerKey, u16>,
    /// Ports of peers that are not admitted.
    pub unwanted: Vec<u16>,
}

impl Host {
    /// A table for which every datagram is a message.
    pub fn new() -> Self {
        Self::with(|config| config)
    }

    pub fn with(set: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
        Self::limited(PeerLimits::new(), set)
    }

    pub fn limited(limits: PeerLimits, set: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
        Host::of(Raw, PacketOptions::unconnected(), limits, set)
    }
}

impl<C> Host<C>
where
    C: Decoder<Item: AsRef<[u8]> + From<Bytes>> + Encoder<C::Item>,
{
    pub fn of(
        codec: C,
        options: PacketOptions,
        limits: PeerLimits,
        set: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
    ) -> Self {
        let clock = Clock::new();
        let config = set(Config::builder()).build().unwrap();
        let peers = Peers::new(codec, options, limits, config, [1, 2], clock.now());
        Host { peers, clock, keys: HashMap::new(), ports: HashMap::new(), unwanted: Vec::new() }
    }

    /// The latest key of a port.
    pub fn key(&self, port: u16) -> PeerKey {
        self.keys[&port]
    }

    /// Moves to `elapsed` since the start, handles what is due, and returns the events.
    pub fn at(&mut self, elapsed: Duration) -> Vec<String> {
        let now = self.clock.jump(self.clock.at(elapsed));
        self.peers.handle_timeout(now);
        assert!(self.peers.poll_timeout().is_none_or(|at| at > now), "a deadline is still due");
        self.poll()
    }

    pub fn receive(&mut self, port: u16, bytes: impl AsRef<[u8]>) {
        assert!(self.peers.handle_datagram(self.clock.now(), path(port), bytes.as_ref()), "no room");
    }

    /// Receives one datagram and returns the events.
    pub fn told(&mut self, port: u16, bytes: impl AsRef<[u8]>) -> Vec<String> {
        self.receive(port, bytes);
        self.poll()
    }

    /// Sends to a peer after validating it.
    pub fn send(&mut self, port: u16, text: &str) {
        self.peers.validate(self.key(port));
        self.peers.send(self.key(port), bytes(text).into()).unwrap();
    }

    pub fn close_peer(&mut self, port: u16, how: getty_core::Close) {
        self.peers.close_peer(self.clock.now(), self.key(port), how);
    }

    pub fn close(&mut self, how: getty_core::Close) {
        self.peers.close(self.clock.now(), how);
    }

    /// Returns all events, in words, with the peer's port first. No message is answered.
    pub fn poll(&mut self) -> Vec<String> {
        self.poll_with(|_, _, _| ())
    }

    /// The same, and each message is sent back.
    pub fn echo(&mut self) -> Vec<String> {
        self.poll_with(|peers, key, message| drop(peers.send(key, message)))
    }

    /// The next event, in words.
    pub fn next(&mut self) -> Option<String> {
        self.next_with(&mut |_, _, _| ())
    }

    fn next_with(&mut self, handle: &mut impl FnMut(&mut Peers<C>, PeerKey, C::Item)) -> Option<String> {
        let wanted = self.peers.wants_poll();
        let event = self.peers.poll_event()?;
        let told = self.words(&event);
        assert!(wanted, "{told} though no poll was wanted");
        match event {
            PeersEvent::Unknown(path) => {
                let port = path.peer.port();
                if let Some(key) = self.peers.admit(!self.unwanted.contains(&port)) {
                    assert!(self.ports.insert(key, port).is_none(), "the key was used before");
                    self.keys.insert(port, key);
                }
            }
            PeersEvent::Peer(key, Event::Message(message)) => handle(&mut self.peers, key, message),
            _ => {}
        }
        Some(told)
    }

    pub fn poll_with(&mut self, mut handle: impl FnMut(&mut Peers<C>, PeerKey, C::Item)) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(event) = self.next_with(&mut handle) {
            told.push(event);
            assert!(told.len() < 1000, "events without end: {:?}", told.last());
        }
        assert!(!self.peers.wants_poll(), "a poll is wanted though there is no event");
        assert!(self.peers.poll_event().is_none(), "an event after the last one");
        told
    }

    fn words(&self, event: &PeersEvent<C::Item>) -> String {
        match event {
            PeersEvent::Unknown(path) => format!("{}?", path.peer.port()),
            PeersEvent::Peer(key, event) => {
                let port = self.ports[key];
                match event {
                    Event::Open(opened) => {
                        assert_eq!(opened.peer, Some(path(port).peer));
                        format!("{port} Open")
                    }
                    Event::Message(message) => format!("{port} {}", message.as_ref().escape_ascii()),
                    Event::Idle(idle) => format!("{port} Idle::{idle:?}"),
                    Event::Cron => format!("{port} Cron"),
                    Event::Writable => format!("{port} Writable"),
                    Event::Flushed(seq) => format!("{port} Flushed {seq}"),
                    Event::Closed(reason) => format!("{port} Closed: {reason}"),
                    _ => "something else".to_owned(),
                }
            }
            PeersEvent::Dropped(dropped) => {
                format!("Dropped {}: {}", dropped.counts.total(), dropped.reason)
            }
            PeersEvent::Closed(reason) => format!("Closed: {reason}"),
            _ => "something else".to_owned(),
        }
    }

    /// The queued datagrams: the peer's port and the bytes of each.
    pub fn waiting(&mut self) -> Vec<(u16, String)> {
        let mut waiting = Vec::new();
        for transmit in self.peers.outgoing(self.clock.now()).transmits() {
            let port = transmit.path.unwrap().peer.port();
            let text = |bytes: &[u8]| (port, bytes.escape_ascii().to_string());
            waiting.extend(transmit.datagrams().map(text));
        }
        assert_eq!(waiting.is_empty(), !self.peers.wants_write());
        waiting
    }

    pub fn sent(&mut self, n: usize) {
        self.peers.handle_sent(self.clock.now(), n);
    }

    /// Sends all queued datagrams, and returns them.
    pub fn flush(&mut self) -> Vec<(u16, String)> {
        let waiting = self.waiting();
        self.sent(waiting.len());
        waiting
    }
}
