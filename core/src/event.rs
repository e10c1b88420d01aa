//! [`Event`]: the events of a session.

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

/// The events that [`Session::poll_event`](crate::Session::poll_event) returns. `T` is a received message.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event<T> {
    /// The session is open. Always the first event, except that a WebSocket server sees `Request` before it.
    Open(Box<Opened>),
    /// A WebSocket client asks for a session, which is not open yet. Answer with
    /// [`Session::respond`](crate::Session::respond), now or later, within
    /// [`Config::handshake_timeout`](crate::Config::handshake_timeout).
    #[cfg(feature = "websocket")]
    Request(Arc<Request>),
    /// A message was received.
    Message(T),
    /// The peer answered the latest ping (WebSocket).
    Pong {
        /// Time from queueing the ping to reading its answer.
        rtt: Duration,
    },
    /// Nothing moved for a period. Comes once per quiet period, measured on bytes of the wire.
    Idle(Idle),
    /// A [`Config::cron_period`](crate::Config::cron_period) has passed. Missed or unpolled periods count as
    /// one. After a miss, the next period begins when the miss was noticed.
    Cron,
    /// The send queue has fallen to the low watermark. Comes once after a `send` was refused because the
    /// queue was full.
    Writable,
    /// The transport has taken every message up to this one or, over datagrams, could not send it. Comes only
    /// on request. The latest of several requests covers all.
    Flushed(Seq),
    /// The peer ended its stream between two frames. It may still read: the session can go on sending until
    /// it is closed. Reading no longer has a deadline, so only `idle_write` or `idle_both` reminds of a
    /// session forgotten in this state. A graceful close after this has the reason [`CloseReason::Eof`].
    Eof,
    /// Datagrams were dropped or undeliverable. Comes at most once a second. Only over datagrams.
    Dropped(Box<Dropped>),
    /// The session is over. Comes exactly once, as the last event.
    Closed(Box<CloseReason>),
}

/// Facts about a session that has opened.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Opened {
    /// This end's address, if the transport has one.
    pub local: Option<SocketAddr>,
    /// The peer's address, if the transport has one.
    pub peer: Option<SocketAddr>,
    /// The result of the TLS handshake.
    #[cfg(feature = "tls")]
    pub tls: Option<Box<TlsFacts>>,
    /// The result of the WebSocket handshake.
    #[cfg(feature = "websocket")]
    pub upgrade: Option<Upgrade>,
}

/// The result of a TLS handshake.
#[cfg(feature = "tls")]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFacts {
    /// The TLS version.
    pub version: Option<rustls::ProtocolVersion>,
    /// The cipher suite.
    pub cipher_suite: Option<rustls::CipherSuite>,
    /// The chosen application protocol (ALPN).
    pub alpn: Option<Vec<u8>>,
    /// The name that the client asked for (SNI). At the client's end, the server's name or address.
    pub server_name: Option<String>,
    /// The peer's certificate, then its chain of issuers. They were verified as far as the configuration
    /// requires.
    pub peer_certificates: Vec<rustls::pki_types::CertificateDer<'static>>,
    /// Whether this connection resumed an earlier session.
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
