//! Errors: of a transport, a decoder, sending and a configuration.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The failure of a stream or a socket: the facts of an [`io::Error`], as a `Copy` type.
///
/// The text of a system error comes from the system, since many of them have no [`io::ErrorKind`] of their
/// own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct IoFailure {
    /// The kind of the error.
    pub kind: io::ErrorKind,
    /// The system's error number (`errno`), if the error comes from the system.
    pub raw_os_error: Option<i32>,
}

/// `EMSGSIZE`, which most systems number the same.
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

/// A failure that does not come from the system.
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

/// Violations of the decoder's contract. See [`Decoder::decode`](crate::codec::Decoder::decode).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecoderFault {
    /// The decoder returned a frame but consumed nothing, which would never end.
    #[error("the decoder returned a frame without consuming any bytes")]
    NoProgress,
    /// The decoder asked for 0 bytes, which would never end.
    #[error("the decoder asked for 0 more bytes: expected at least 1")]
    NeedsNothing,
    /// The decoder needs more bytes at once than may be buffered.
    #[error(
        "the decoder needs {needed} bytes for one frame, over the buffer limit of {limit} (Config::max_buffered)"
    )]
    TooMuchBuffered {
        /// The total it needs, in bytes; `usize::MAX` if it does not fit.
        needed: usize,
        /// [`Config::max_buffered`](crate::Config::max_buffered).
        limit: usize,
    },
}

/// Errors of [`Session::send`](crate::Session::send). The session is unchanged.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SendError<T> {
    /// The send queue is full; the item is returned. Wait for [`Event::Writable`](crate::Event::Writable).
    #[error("the send queue is full: wait until it is writable")]
    Blocked(T),
    /// The session is closing or closed; the item is returned.
    #[error("the session is closed")]
    Closed(T),
    /// The opening handshake is not done; the item is returned. Wait for [`Event::Open`](crate::Event::Open).
    #[error("the session is not open yet: wait until the handshake is done")]
    NotOpen(T),
    /// The peer reads nothing until its messages are received, and
    /// [`Config::receive_ahead`](crate::Config::receive_ahead) allows no more to be received ahead; the item
    /// is returned. The session goes on: receive, then send the item again. Only from a `Connection` of the
    /// driver.
    #[error(
        "the peer waits for us to receive: receive what it sent, then send again (Config::receive_ahead)"
    )]
    PeerWaits(T),
    /// The item is larger than the largest frame; it is returned.
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
    /// The datagram socket is not connected, and the call names no peer; the item is returned.
    #[error("the socket is not connected: name the peer to send to")]
    NoPeer(T),
    /// The datagram exceeds what may be sent to a peer whose address is not validated yet; the item is
    /// returned.
    #[error("the datagram exceeds what PeerLimits::amplification allows before the peer is validated")]
    NotValidated(T),
    /// The datagram socket is connected, and the call names a peer; the item is returned.
    #[error("the socket is connected: send without naming a peer")]
    Connected(T),
    /// The encoder can't encode the item, which is lost.
    #[error("the message can't be encoded: {0}")]
    Encode(Arc<dyn Error + Send + Sync>),
}

impl<T> SendError<T> {
    /// The item, if it is returned.
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

/// Errors of ending only the sending side of a session. The session is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HalfCloseError {
    /// The opening handshake is not done. Wait for [`Event::Open`](crate::Event::Open).
    #[error("the session is not open yet: wait until the handshake is done")]
    NotOpen,
    /// The session is closing or closed, which ends its sending side anyway.
    #[error("the session is closing or closed")]
    Closed,
    /// The protocol or the transport has no half-close (WebSocket, datagrams).
    #[error("WebSocket and datagrams have no half-close: close the session instead")]
    Unsupported,
}

/// The encoded item exceeds the largest frame. See
/// [`Encoder::encoded_len`](crate::codec::Encoder::encoded_len).
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

/// Errors of building a [`Config`](crate::Config).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A limit is 0, which would stop everything.
    #[error("{name} must be at least 1")]
    Zero {
        /// The setter's name.
        name: &'static str,
    },
    /// The limits of the send queue contradict each other.
    #[error(
        "watermarks must rise: low {low}, high {high}, max_queued {max_queued} (expected low <= high <= max_queued)"
    )]
    Watermarks {
        /// The low watermark.
        low: usize,
        /// The high watermark.
        high: usize,
        /// The limit of the whole queue.
        max_queued: usize,
    },
    /// A period is too short or too long.
    #[error("{name} must be between 1 ms and 365 days, not {value:?}")]
    Period {
        /// The setter's name.
        name: &'static str,
        /// The given value.
        value: Duration,
    },
    /// A number lies outside its range.
    #[error("{name} must be between {min} and {max}, not {value}")]
    Range {
        /// The setter's name.
        name: &'static str,
        /// The given value.
        value: u64,
        /// The smallest allowed value.
        min: u64,
        /// The largest allowed value.
        max: u64,
    },
}
