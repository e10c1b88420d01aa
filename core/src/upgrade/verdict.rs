//! [`Verdict`]: a server's decision on a request.

use super::accept::{Accept, AcceptError};
use super::response::Response;

/// What a server says to a client that asks to be let in.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Lets it in.
    Accept(Accept),
    /// Answers with a response instead, and closes.
    Respond(Response),
    /// Says nothing yet: the answer comes later, within the handshake's deadline.
    Later,
}

/// Why a request can't be answered so. It still waits for an answer, if there was one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// No request waits for an answer: there was none, or it was answered, or the session is over.
    #[error("no request waits for an answer")]
    NotAsked,
    /// The verdict does not fit the request.
    #[error(transparent)]
    Accept(#[from] AcceptError),
}
