//! [`Event`]: what a session has to tell.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use crate::CloseReason;

/// What happened, as [`Session::poll_event`](crate::Session::poll_event) tells it. `T` is a received message.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event<T> {
    /// The session is open. The first event of a session that opens at all, but for a request that it answers.
    Open(Box<Opened>),
    /// A WebSocket client asks to be let in; the session is not open yet. Answer with
    /// [`Session::answer`](crate::Session::answer), now or later, within
    /// [`Config::handshake_timeout`](crate::Config::handshake_timeout).
    #[cfg(feature = "websocket")]
    Request(std::sync::Arc<crate::websocket::Request>),
    /// A message came.
    Message(T),
    /// The peer answered the latest ping (WebSocket).
    Pong {
        /// From when the ping was queued to when its answer was read.
        rtt: Duration,
    },
    /// Nothing moved for a while. Once per quiet period, measured on bytes of the wire.
    Idle(Idle),
    /// Another [`Config::cron_period`](crate::Config::cron_period) is over. Periods that were missed, or not polled,
    /// count as one; after a miss the next period begins when it was noticed.
    Cron,
    /// The send queue is down to the low watermark. Comes once after a `send` was refused for lack of room.
    Writable,
    /// Every message up to this one is with the transport, or, over datagrams, could not be sent. Comes only when asked for; when several were
    /// asked for, the latest stands for all.
    Flushed(Seq),
    /// The peer ended its stream between two frames. It may still read: the session can go on sending, until it is
    /// closed. Reading has no deadline any more, so nothing but `idle_write` or `idle_both` reminds of a session that
    /// is forgotten here. A graceful close after this has the reason [`CloseReason::Eof`].
    ReadEnd,
    /// Datagrams came to nothing; what they were is told once a second at the most. Over datagrams only.
    Dropped(Box<crate::datagram::Dropped>),
    /// The session is over. Exactly once, and the last event.
    Closed(Box<CloseReason>),
}

/// What is known of a session that has opened.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Opened {
    /// This end's address, where the transport has one.
    pub local: Option<SocketAddr>,
    /// The peer's address, where the transport has one.
    pub peer: Option<SocketAddr>,
    /// What the two sides of a TLS connection agreed on.
    #[cfg(feature = "tls")]
    pub tls: Option<Box<crate::layer::tls::TlsFacts>>,
    /// What the two sides of a WebSocket agreed on.
    #[cfg(feature = "websocket")]
    pub upgrade: Option<crate::websocket::Upgrade>,
}

/// Which way was quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Idle {
    /// Nothing was received for [`Config::idle_read`](crate::Config::idle_read).
    Read,
    /// Nothing was sent for [`Config::idle_write`](crate::Config::idle_write).
    Write,
    /// Nothing was received or sent for [`Config::idle_both`](crate::Config::idle_both).
    Both,
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Idle::Read => "nothing was received",
            Idle::Write => "nothing was sent",
            Idle::Both => "nothing was received or sent",
        })
    }
}

/// The number of a sent message: 1 for the first that a session accepted, then 2, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(NonZeroU64);

impl Seq {
    /// The first message of a session.
    pub const FIRST: Seq = Seq(NonZeroU64::MIN);

    pub(crate) fn new(number: u64) -> Option<Seq> {
        NonZeroU64::new(number).map(Seq)
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// The number of the message after this one.
    #[must_use]
    pub fn next(self) -> Seq {
        Seq(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What [`Session::send`](crate::Session::send) says of a message that it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    /// The message's number, by which its fate is told later.
    pub seq: Seq,
    /// Its size on the wire, in bytes.
    pub bytes: usize,
}

impl Accepted {
    pub(crate) fn new(seq: Seq, bytes: usize) -> Self {
        Accepted { seq, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_bytes_is_small() {
        assert!(size_of::<Event<bytes::Bytes>>() <= 48);
    }
}
