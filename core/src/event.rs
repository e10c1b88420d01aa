//! [`Event`]: what a session has to tell.

use std::net::SocketAddr;
#[cfg(feature = "websocket")]
use std::sync::Arc;
use std::time::Duration;

use crate::close::CloseReason;
use crate::deadline::Idle;
use crate::dropped::Dropped;
use crate::stats::Seq;
#[cfg(feature = "websocket")]
use crate::upgrade::{Request, Upgrade};

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
    Request(Arc<Request>),
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
    Dropped(Box<Dropped>),
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
    pub tls: Option<Box<TlsFacts>>,
    /// What the two sides of a WebSocket agreed on.
    #[cfg(feature = "websocket")]
    pub upgrade: Option<Upgrade>,
}

/// What the two sides of a TLS connection agreed on.
#[cfg(feature = "tls")]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFacts {
    /// The version of TLS.
    pub version: Option<rustls::ProtocolVersion>,
    /// How bytes are sealed.
    pub cipher_suite: Option<rustls::CipherSuite>,
    /// The application protocol that was chosen (ALPN).
    pub alpn: Option<Vec<u8>>,
    /// The name that the client asked for (SNI); at the client's end, the name of the server where it is one.
    pub server_name: Option<String>,
    /// The peer's certificate, then those that lead to its issuer. They were verified, as far as the configuration asked
    /// for that.
    pub peer_certificates: Vec<rustls::pki_types::CertificateDer<'static>>,
    /// Whether an earlier session was taken up again.
    pub resumed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_bytes_is_small() {
        assert!(size_of::<Event<bytes::Bytes>>() <= 48);
    }
}
