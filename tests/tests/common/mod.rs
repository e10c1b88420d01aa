//! Helpers of most test files. Each file uses a part of them.
#![allow(dead_code)]

use std::time::Duration;

use bytes::{Buf, Bytes};
use getty_core::codec::LengthDelimited;
use getty_core::{Config, ConfigBuilder, Event, Framed, Session};
use testkit::clock::Clock;

pub type Plain = Framed<LengthDelimited>;

pub const NS: Duration = Duration::from_nanos(1);

pub fn plain() -> Plain {
    Framed::new(LengthDelimited::new())
}

pub fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// `payload` in the framing of [`plain`].
pub fn frame(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes(), payload].concat()
}

/// A session of the plain codec that a test drives call by call.
pub struct Solo {
    pub session: Session<Plain>,
    pub clock: Clock,
}

impl Solo {
    pub fn new() -> Self {
        Self::with(|config| config)
    }

    /// An open session, with `set` applied to the default configuration.
    pub fn with(set: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
        let mut solo = Self::unpolled(set);
        assert_eq!(solo.poll(), ["Open"]);
        solo
    }

    pub fn unpolled(set: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
        let clock = Clock::new();
        let session = Session::new(plain(), set(Config::builder()).build().unwrap(), clock.now());
        Solo { session, clock }
    }

    /// Moves to `elapsed` since the start, handles what is due, and returns the events.
    pub fn at(&mut self, elapsed: Duration) -> Vec<String> {
        let now = self.clock.jump(self.clock.at(elapsed));
        self.session.handle_timeout(now);
        self.poll()
    }

    pub fn input(&mut self, bytes: &[u8]) {
        self.session.handle_input(self.clock.now(), bytes);
    }

    /// Returns all events, in words.
    pub fn poll(&mut self) -> Vec<String> {
        let told: Vec<_> =
            std::iter::from_fn(|| self.session.poll_event()).take(1000).map(|event| words(&event)).collect();
        assert!(told.len() < 1000, "events without end: {:?}", told.last());
        told
    }

    pub fn send(&mut self, size: usize) {
        self.session.send(Bytes::from(vec![b'x'; size])).unwrap();
    }

    /// Takes up to `n` bytes from the session, as the transport would.
    pub fn write(&mut self, n: usize) -> Vec<u8> {
        let mut out = self.session.outbound(self.clock.now());
        let n = n.min(out.remaining());
        out.copy_to_bytes(n).to_vec()
    }

    pub fn write_all(&mut self) -> Vec<u8> {
        self.write(usize::MAX)
    }

    /// Ends the sending side, as `wants_shutdown` asks.
    pub fn shut_down(&mut self) {
        assert!(self.session.wants_shutdown());
        self.session.handle_shutdown(self.clock.now());
        assert!(!self.session.wants_shutdown());
    }

    pub fn eof(&mut self) {
        self.session.handle_eof(self.clock.now());
    }

    /// Checks that nothing more is reported, wanted or accepted, whatever happens.
    pub fn assert_over(&mut self) {
        let now = self.clock.advance(secs(1));
        assert!(self.session.is_closed());
        self.input(b"\0\0\0\x01a");
        self.session.handle_eof(now);
        self.session.handle_shutdown(now);
        self.session.handle_io_error(now, std::io::ErrorKind::Other);
        self.session.pause();
        self.session.resume(now);
        self.session.close(now, getty_core::Close::graceful());
        self.session.close(now, getty_core::Close::abort());
        self.session.notify_flushed();
        self.session.handle_timeout(self.clock.at(secs(1_000_000)));
        assert_eq!(self.session.outbound(now).remaining(), 0);
        assert!(matches!(self.session.send(Bytes::new()), Err(getty_core::SendError::Closed(_))));
        assert_eq!(self.poll(), [""; 0]);
        assert_eq!(self.session.poll_timeout(), None);
        assert!(!self.session.wants_read() && !self.session.wants_shutdown());
    }
}

/// Describes an event in a few words.
pub fn words(event: &Event<Bytes>) -> String {
    match event {
        Event::Open(_) => "Open".to_owned(),
        Event::Message(message) if message.len() > 20 => format!("Message of {}", message.len()),
        Event::Message(message) => format!("Message {}", message.escape_ascii()),
        Event::Idle(idle) => format!("Idle::{idle:?}"),
        Event::Flushed(seq) => format!("Flushed {seq}"),
        Event::Closed(reason) => format!("Closed: {reason}"),
        other => format!("{other:?}"),
    }
}
