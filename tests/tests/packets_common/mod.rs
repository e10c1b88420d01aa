//! Helpers for tests of datagram sessions. Each file uses a part of them.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use getty_core::codec::{Decoder, Encoder, Raw};
use getty_core::datagram::{Dropped, PacketOptions, Packets, Path, RecvBatch};
use getty_core::{Config, ConfigBuilder, Event};
use testkit::clock::Clock;

pub const NS: Duration = Duration::from_nanos(1);
pub const NONE: [&str; 0] = [];

pub fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A peer's address: only the port differs.
pub fn peer(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

pub fn path(port: u16) -> Path {
    Path::new(peer(port))
}

pub fn batch<'a>(datagrams: impl IntoIterator<Item = (u16, &'a [u8])>) -> RecvBatch {
    let mut batch = RecvBatch::new();
    datagrams.into_iter().for_each(|(port, bytes)| assert!(batch.copy_from(path(port), bytes)));
    batch
}

/// A datagram session that a test drives call by call.
pub struct Solo<C: Decoder = Raw> {
    pub packets: Packets<C>,
    pub clock: Clock,
}

impl Solo {
    /// An open session that sends to any peer, and for which every datagram is a message.
    pub fn new() -> Self {
        Self::with(|config| config)
    }

    pub fn with(set: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
        Solo::of(Raw, PacketOptions::unconnected(), set)
    }

    pub fn connected() -> Self {
        Solo::of(Raw, PacketOptions::connected(), |config| config)
    }
}

impl<C> Solo<C>
where
    C: Decoder<Item: AsRef<[u8]>> + Encoder<C::Item>,
{
    /// An open session with these settings.
    pub fn of(codec: C, options: PacketOptions, set: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
        let mut solo = Self::unpolled(codec, options, set);
        assert_eq!(solo.poll(), ["Open"]);
        solo
    }

    pub fn unpolled(
        codec: C,
        options: PacketOptions,
        set: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
    ) -> Self {
        let clock = Clock::new();
        let packets = Packets::new(codec, options, set(Config::builder()).build().unwrap(), clock.now());
        Solo { packets, clock }
    }

    /// Moves to `elapsed` since the start, handles what is due, and returns the events.
    pub fn at(&mut self, elapsed: Duration) -> Vec<String> {
        let now = self.clock.jump(self.clock.at(elapsed));
        self.packets.handle_timeout(now);
        self.poll()
    }

    pub fn receive(&mut self, port: u16, bytes: impl AsRef<[u8]>) {
        assert!(self.packets.handle_datagram(self.clock.now(), path(port), bytes.as_ref()), "no room");
    }

    /// Receives one datagram and returns the events.
    pub fn told(&mut self, port: u16, bytes: impl AsRef<[u8]>) -> Vec<String> {
        self.receive(port, bytes);
        self.poll()
    }

    /// The next event, in words.
    pub fn next(&mut self) -> Option<String> {
        let wanted = self.packets.wants_poll();
        let event = self.packets.poll_event()?;
        assert!(wanted, "no poll was wanted");
        Some(words(&event))
    }

    /// Returns all events, in words. No message is answered.
    pub fn poll(&mut self) -> Vec<String> {
        self.poll_with(|_, _| ())
    }

    /// The same, and each message is sent back.
    pub fn echo(&mut self) -> Vec<String> {
        self.poll_with(|packets, message| {
            packets.reply(message).unwrap();
        })
    }

    pub fn poll_with(&mut self, mut handle: impl FnMut(&mut Packets<C>, C::Item)) -> Vec<String> {
        let mut told = Vec::new();
        loop {
            let wanted = self.packets.wants_poll();
            let Some(event) = self.packets.poll_event() else { break };
            assert!(wanted, "{} though no poll was wanted", words(&event));
            told.push(words(&event));
            assert!(told.len() < 1000, "events without end: {:?}", told.last());
            if let Event::Message(message) = event {
                handle(&mut self.packets, message);
            }
        }
        assert!(!self.packets.wants_poll(), "a poll is wanted though there is no event");
        assert_eq!(self.packets.poll_event().map(|event| words(&event)), None, "after the last event");
        told
    }

    /// The queued datagrams: the peer's port (0 on a connected socket) and the bytes of each.
    pub fn waiting(&mut self) -> Vec<(u16, String)> {
        let mut waiting = Vec::new();
        for transmit in self.packets.outgoing(self.clock.now()).transmits() {
            let port = transmit.path.map_or(0, |path| path.peer.port());
            let text = |bytes: &[u8]| (port, bytes.escape_ascii().to_string());
            waiting.extend(transmit.datagrams().map(text));
        }
        assert_eq!(waiting.len(), self.packets.outgoing(self.clock.now()).len());
        assert_eq!(waiting.is_empty(), !self.packets.wants_write());
        waiting
    }

    /// Sends all queued datagrams, and returns them.
    pub fn flush(&mut self) -> Vec<(u16, String)> {
        let waiting = self.waiting();
        self.packets.handle_sent(self.clock.now(), waiting.len());
        waiting
    }
}

/// Describes an event in a few words.
pub fn words<T: AsRef<[u8]>>(event: &Event<T>) -> String {
    match event {
        Event::Open(_) => "Open".to_owned(),
        Event::Message(message) if message.as_ref().len() > 20 => {
            format!("Message of {}", message.as_ref().len())
        }
        Event::Message(message) => format!("Message {}", message.as_ref().escape_ascii()),
        Event::Idle(idle) => format!("Idle::{idle:?}"),
        Event::Cron => "Cron".to_owned(),
        Event::Writable => "Writable".to_owned(),
        Event::Flushed(seq) => format!("Flushed {seq}"),
        Event::Dropped(dropped) => counts(dropped),
        Event::Closed(reason) => format!("Closed: {reason}"),
        _ => "something else".to_owned(),
    }
}

/// The counts that are not 0, and the latest reason.
fn counts(dropped: &Dropped) -> String {
    let c = dropped.counts;
    let counts = [
        ("empty", c.empty),
        ("oversized", c.oversized),
        ("undecodable", c.undecodable),
        ("connect-ping", c.connect_pings),
        ("unsent", c.unsent),
    ];
    let counts = counts.iter().filter(|(_, count)| *count > 0);
    let counts: Vec<_> = counts.map(|(name, count)| format!("{count} {name}")).collect();
    let port = dropped.peer.map_or(String::new(), |peer| format!(" of {}", peer.port()));
    format!("Dropped {}{port}: {}", counts.join(", "), dropped.reason)
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}
