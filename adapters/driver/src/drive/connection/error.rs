//! Why sending from a [`Connection`](crate::Connection) failed.

use getty_core::{CloseReason, SendError};

/// Why [`Connection::flush`](crate::Connection::flush) failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// The session ended before the transport had everything.
    #[error("the session is over: {0}")]
    Closed(CloseReason),
    /// The peer takes nothing until it is received from, and as much as
    /// [`Config::receive_ahead`](getty_core::Config::receive_ahead) allows was received ahead. The session
    /// goes on: receive, then flush again.
    #[error(
        "the peer waits for us to receive: receive what it sent, then flush again (Config::receive_ahead)"
    )]
    PeerWaits,
}

/// Why a [`Connection`](crate::Connection) as a `Sink` failed, or its [`send`](crate::Connection::send).
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError<T> {
    /// An item was not taken.
    #[error(transparent)]
    Send(#[from] SendError<T>),
    /// The session is over.
    #[error("the session is over: {0}")]
    Closed(CloseReason),
    /// As [`FlushError::PeerWaits`]. Items that were taken before will be sent.
    #[error(
        "the peer waits for us to receive: receive what it sent, then flush again (Config::receive_ahead)"
    )]
    PeerWaits,
}

impl<T> From<FlushError> for SinkError<T> {
    fn from(error: FlushError) -> Self {
        match error {
            FlushError::Closed(reason) => SinkError::Closed(reason),
            FlushError::PeerWaits => SinkError::PeerWaits,
        }
    }
}
