//! Errors: of a transport, of a decoder, of sending, of a configuration.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The failure of a stream or a socket: the facts of an [`io::Error`], as a `Copy` type.
///
/// For an error of the system its text is the system's: many of these have no [`io::ErrorKind`] of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct IoFailure {
    /// The kind of the error.
    pub kind: io::ErrorKind,
    /// The system's number of the error (`errno`), where the error is the system's.
    pub raw_os_error: Option<i32>,
}

/// `EMSGSIZE`, as most systems number it.
const MESSAGE_TOO_LONG: i32 = if cfg!(windows) {
    10040
} else if cfg!(any(target_os = "linux", target_os = "android")) {
    90
} else {
    40
};

impl From<&io::Error> for IoFailure {
    fn from(error: &io::Error) -> Self {
        IoFailure { kind: error.kind(), raw_os_error: error.raw_os_error() }
    }
}

impl From<io::Error> for IoFailure {
    fn from(error: io::Error) -> Self {
        IoFailure::from(&error)
    }
}

/// A failure that is not the system's.
impl From<io::ErrorKind> for IoFailure {
    fn from(kind: io::ErrorKind) -> Self {
        IoFailure { kind, raw_os_error: None }
    }
}

impl fmt::Display for IoFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(code) = self.raw_os_error else { return self.kind.fmt(f) };
        io::Error::from_raw_os_error(code).fmt(f)?;
        if code == MESSAGE_TOO_LONG {
            f.write_str(": the path's MTU is smaller")?;
        }
        Ok(())
    }
}

/// How a decoder broke its contract. See [`Decoder::decode`](crate::codec::Decoder::decode).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecoderFault {
    /// It gave a frame and consumed nothing, which would go on for ever.
    #[error("the decoder gave a frame without consuming any bytes")]
    NoProgress,
    /// It asked for no bytes, which would go on for ever.
    #[error("the decoder asked for 0 more bytes")]
    NeedsNothing,
    /// It wants more bytes together than may be buffered.
    #[error(
        "the decoder needs {needed} bytes for one frame, more than may be buffered: {limit} (Config::max_buffered)"
    )]
    TooMuchBuffered {
        /// Bytes that it wants in all; `usize::MAX` also stands for more than that.
        needed: usize,
        /// [`Config::max_buffered`](crate::Config::max_buffered).
        limit: usize,
    },
}

/// Why [`Session::send`](crate::Session::send) did not take an item. The session is as it was.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SendError<T> {
    /// The send queue is full; the item is given back. Wait for [`Event::Writable`](crate::Event::Writable).
    #[error("the send queue is full: wait until it is writable")]
    Blocked(T),
    /// The session is closing or closed; the item is given back.
    #[error("the session is closed")]
    Closed(T),
    /// The opening handshake is not done; the item is given back. Wait for [`Event::Open`](crate::Event::Open).
    #[error("the session is not open yet: wait until the handshake is done")]
    NotOpen(T),
    /// The peer takes nothing until it is received from, and as much as
    /// [`Config::receive_ahead`](crate::Config::receive_ahead) allows was received ahead; the item is given
    /// back. The session goes on: receive, then send it again. From a `Connection` of the driver.
    #[error(
        "the peer waits for us to receive: receive what it sent, then send again (Config::receive_ahead)"
    )]
    PeerWaits(T),
    /// The item is larger than a frame may be; it is given back.
    #[error(
        "a message of {bytes} bytes is larger than the limit of {limit} (Config::max_frame; over datagrams, max_datagram)"
    )]
    TooLarge {
        /// The item.
        item: T,
        /// Its size on the wire.
        bytes: usize,
        /// [`Config::max_frame`](crate::Config::max_frame); over datagrams,
        /// [`Config::max_datagram`](crate::Config::max_datagram).
        limit: usize,
    },
    /// The datagram socket is not connected, and nobody was named to send to; the item is given back.
    #[error("the socket is not connected: say which peer it is for")]
    NoPeer(T),
    /// The peer of the datagram may not be who it says, and this is more than it may be sent before that is known; the item
    /// is given back.
    #[error("more than PeerLimits::amplification allows before the peer is validated")]
    NotValidated(T),
    /// The datagram socket is connected, and a peer was named; the item is given back.
    #[error("the socket is connected: send without naming a peer")]
    Connected(T),
    /// The encoder can't encode the item, which is lost.
    #[error("the message can't be encoded: {0}")]
    Encode(Arc<dyn Error + Send + Sync>),
}

impl<T> SendError<T> {
    /// The item, where it is given back.
    pub fn into_item(self) -> Option<T> {
        match self {
            SendError::Blocked(item)
            | SendError::Closed(item)
            | SendError::NotOpen(item)
            | SendError::PeerWaits(item)
            | SendError::NoPeer(item)
            | SendError::Connected(item)
            | SendError::NotValidated(item)
            | SendError::TooLarge { item, .. } => Some(item),
            SendError::Encode(_) => None,
        }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Blocked(_) => f.write_str("Blocked"),
            SendError::Closed(_) => f.write_str("Closed"),
            SendError::NotOpen(_) => f.write_str("NotOpen"),
            SendError::PeerWaits(_) => f.write_str("PeerWaits"),
            SendError::NoPeer(_) => f.write_str("NoPeer"),
            SendError::Connected(_) => f.write_str("Connected"),
            SendError::NotValidated(_) => f.write_str("NotValidated"),
            SendError::TooLarge { bytes, limit, .. } => {
                f.debug_struct("TooLarge").field("bytes", bytes).field("limit", limit).finish_non_exhaustive()
            }
            SendError::Encode(error) => f.debug_tuple("Encode").field(error).finish(),
        }
    }
}

/// Why the sending side of a session can't be ended alone. The session is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HalfCloseError {
    /// The opening handshake is not done. Wait for [`Event::Open`](crate::Event::Open).
    #[error("the session is not open yet: wait until the handshake is done")]
    NotOpen,
    /// The session is closing or closed: its sending side ends anyway.
    #[error("the session is closing or closed")]
    Closed,
    /// The protocol or the transport has no half-close: WebSocket and datagrams.
    #[error("WebSocket and datagrams have no half-close: close the session instead")]
    Unsupported,
}

/// An item turned out larger than a frame may be when it was encoded. See
/// [`Encoder::encoded_len`](crate::codec::Encoder::encoded_len).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it takes {bytes} bytes, more than the limit of {limit} (Config::max_frame; over datagrams, max_datagram)"
)]
pub struct EncodedTooLarge {
    /// Its size on the wire.
    pub bytes: usize,
    /// [`Config::max_frame`](crate::Config::max_frame); over datagrams,
    /// [`Config::max_datagram`](crate::Config::max_datagram).
    pub limit: usize,
}

/// Why a [`Config`](crate::Config) can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A limit is 0, with which nothing would work.
    #[error("{name} must be at least 1")]
    Zero {
        /// The setter's name.
        name: &'static str,
    },
    /// The limits of the send queue contradict each other.
    #[error(
        "watermarks must rise: low {low}, high {high}, hard limit {hard_limit} (expected low <= high <= hard limit)"
    )]
    Watermarks {
        /// The low watermark.
        low: usize,
        /// The high watermark.
        high: usize,
        /// The hard limit.
        hard_limit: usize,
    },
    /// A period is shorter or longer than can be kept.
    #[error("{name} must be between 1 ms and 365 days, not {value:?}")]
    Period {
        /// The setter's name.
        name: &'static str,
        /// What was given.
        value: Duration,
    },
}
