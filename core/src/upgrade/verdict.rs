//! [`Verdict`]: a server's decision on a request.

use super::accept::{Accept, AcceptError};
use super::response::Response;

/// A server's decision on a client's request.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Accepts the request.
    Accept(Accept),
    /// Sends a response instead, and closes.
    Respond(Response),
    /// Defers the verdict. It has to follow within the handshake's deadline.
    Defer,
}

/// Errors of answering a request. If a request was pending, it still is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RespondError {
    /// No request waits for an answer: none came, it was already answered, or the session is over.
    #[error("no request waits for an answer")]
    NotAsked,
    /// The verdict does not fit the request.
    #[error(transparent)]
    Accept(#[from] AcceptError),
}
