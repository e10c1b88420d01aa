//! Why a handshake failed.

#[cfg(feature = "deflate")]
use super::extension::NegotiationError;
use crate::http::{Headers, HttpError};

/// Why an opening handshake failed, on either side.
///
/// A server answers with the status that the variant names; 400 (Bad Request) where it names none.
///
/// What the peer sent is quoted in part: at most 64 bytes of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer broke HTTP's own rules.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A header that the handshake reads has bytes that are not ASCII.
    #[error("the value of the header {header} is not ASCII")]
    NotAscii {
        /// Its name.
        header: String,
    },
    /// The request is no GET, and asks for an upgrade, or has a body, or is not wanted. Status 405.
    #[error("a handshake is a GET, the request is {found:?}")]
    Method {
        /// The request's method.
        found: String,
    },
    /// The request's target is none that a WebSocket request may have (RFC 6455 section 4.2.1 number 1).
    #[error(
        "the request target {found:?} can't be: expected a path, or an http or ws URI of the host in the \
        Host header, without a fragment"
    )]
    Target {
        /// The request's target.
        found: String,
    },
    /// The request wants another version of the protocol. Status 426.
    #[error("expected one Sec-WebSocket-Version: 13, came {found:?}")]
    WebSocketVersion {
        /// What came; empty if that header is missing.
        found: String,
    },
    /// The request asks for no WebSocket. Status 426.
    #[error("this is a WebSocket endpoint: a request must ask for an upgrade, this one is plain HTTP")]
    NotUpgrade,
    /// The request comes from a web page of another origin. Status 403.
    #[error(
        "the origin {origin:?} is not allowed here (Host: {host:?}): if it is meant to be, see OriginPolicy"
    )]
    Origin {
        /// The `Origin` header.
        origin: String,
        /// The `Host` header.
        host: String,
    },
    /// The server did not switch protocols. Redirects are not followed.
    #[error("the server answered {status} {reason:?}, expected 101")]
    Status {
        /// The status code.
        status: u16,
        /// What the server calls it.
        reason: String,
        /// What it says besides: `Location`, `WWW-Authenticate`, `Retry-After` and the like.
        headers: Headers,
    },
    /// The server sent more interim responses (1xx) than are skipped.
    #[error("the server sent more than {limit} interim responses (1xx) before its answer")]
    InterimResponses {
        /// How many are skipped.
        limit: usize,
    },
    /// The server's answer is not one to this request.
    #[error(
        "Sec-WebSocket-Accept is {found:?}, expected {expected:?}: this is no answer to the key that was sent"
    )]
    AcceptKey {
        /// What came.
        found: String,
        /// What belongs to the key.
        expected: String,
    },
    /// The server chose a sub-protocol that was not offered.
    #[error("the server chose the sub-protocol {found:?}, which was not offered")]
    Protocol {
        /// What it chose.
        found: String,
    },
    /// This end answered the request with a response instead of accepting it. [`Verdict::Respond`](crate::websocket::Verdict::Respond).
    #[error("answered with status {status} instead of accepting")]
    Refused {
        /// The response's status.
        status: u16,
    },
    /// The server's answer does not fit what was offered of compression.
    #[cfg(feature = "deflate")]
    #[error(transparent)]
    Deflate(#[from] NegotiationError),
    /// The server chose an extension, and none was offered.
    #[error("the server chose the extension {found:?}, but none was offered")]
    Extension {
        /// What it chose.
        found: String,
    },
}
