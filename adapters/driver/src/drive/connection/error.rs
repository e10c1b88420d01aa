//! Errors of sending over a [`Connection`](crate::Connection).

use getty_core::{CloseReason, SendError};

/// Reason for the failure of [`Connection::flush`](crate::Connection::flush).
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// The session ended before the transport had everything.
    #[error("the session is over: {0}")]
    Closed(CloseReason),
    /// The peer takes nothing until we receive, and the limit for receiving ahead is reached
    /// ([`Config::receive_ahead`](getty_core::Config::receive_ahead)). The session goes on: receive, then
    /// flush again.
    #[error(
        "the peer waits for us to receive: receive what it sent, then flush again (Config::receive_ahead)"
    )]
    PeerWaits,
}

/// Reason for the failure of a [`Connection`](crate::Connection) as a `Sink`, or of its
/// [`send`](crate::Connection::send).
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError<T> {
    /// The item was not accepted.
    #[error(transparent)]
    Send(#[from] SendError<T>),
    /// The session is over.
    #[error("the session is over: {0}")]
    Closed(CloseReason),
    /// As [`FlushError::PeerWaits`]. Items accepted before will still be sent.
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
