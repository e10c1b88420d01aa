//! [`HandshakeError`]: errors of an opening handshake.

#[cfg(feature = "deflate")]
use super::extension::NegotiationError;
use crate::http::{Headers, HttpError};

/// Errors of an opening handshake, on either side.
///
/// A server answers with the status that the variant names, or 400 (Bad Request) if it names none.
///
/// Text from the peer is quoted up to 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer violated HTTP itself.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A header that the handshake reads is not ASCII.
    #[error("the value of the header {header} is not ASCII")]
    NotAscii {
        /// The header's name.
        header: String,
    },
    /// The request is not a GET, although it asks for an upgrade, has a body or is not accepted here. Status
    /// 405.
    #[error("the handshake must be a GET, but the request is {found:?}")]
    Method {
        /// The request's method.
        found: String,
    },
    /// The request's target is not allowed in a WebSocket request (RFC 6455 section 4.2.1 number 1).
    #[error(
        "the request target {found:?} is not valid: expected a path, or an http or ws URI of the host in the \
        Host header, without a fragment"
    )]
    Target {
        /// The request's target.
        found: String,
    },
    /// The request asks for another version of the protocol. Status 426.
    #[error("expected one Sec-WebSocket-Version: 13, got {found:?}")]
    WebSocketVersion {
        /// The received value; empty if the header is missing.
        found: String,
    },
    /// The request does not ask for an upgrade. Status 426.
    #[error("this is a WebSocket endpoint: a request must ask for an upgrade, but this one is plain HTTP")]
    NotUpgrade,
    /// The request comes from a web page of a foreign origin. Status 403.
    #[error("the origin {origin:?} is not allowed (Host: {host:?}): to allow it, set an OriginPolicy")]
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
        /// The reason phrase.
        reason: String,
        /// The response's headers: `Location`, `WWW-Authenticate`, `Retry-After` and so on.
        headers: Headers,
    },
    /// The server sent more interim responses (1xx) than the client skips.
    #[error("the server sent more than {limit} interim responses (1xx) before its answer")]
    InterimResponses {
        /// The number of responses that are skipped.
        limit: usize,
    },
    /// The server's response does not belong to this request.
    #[error(
        "Sec-WebSocket-Accept is {found:?}, expected {expected:?}: the response does not match the key that \
        was sent"
    )]
    AcceptKey {
        /// The received value.
        found: String,
        /// The value that belongs to the key.
        expected: String,
    },
    /// The server chose a sub-protocol that was not offered.
    #[error("the server chose the sub-protocol {found:?}, which was not offered")]
    Protocol {
        /// The chosen sub-protocol.
        found: String,
    },
    /// This end answered the request with [`Verdict::Respond`](crate::websocket::Verdict::Respond) instead of
    /// accepting it.
    #[error("answered with status {status} instead of accepting")]
    Refused {
        /// The response's status.
        status: u16,
    },
    /// The server's response does not match the offered compression.
    #[cfg(feature = "deflate")]
    #[error(transparent)]
    Deflate(#[from] NegotiationError),
    /// The server chose an extension, although none was offered.
    #[error("the server chose the extension {found:?}, but none was offered")]
    Extension {
        /// The chosen extension.
        found: String,
    },
}
