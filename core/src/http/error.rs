//! [`HttpError`]: violations of HTTP/1.1.

/// A head that violates HTTP/1.1 (RFC 9110, RFC 9112) or a limit of this end.
///
/// Text from the peer is quoted up to 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The first byte can't begin a request or a response.
    #[error(
        "the peer does not speak HTTP: its first byte is {byte:#04x}, expected a letter; is it TLS, or \
        another protocol?"
    )]
    NotHttp {
        /// The first byte.
        byte: u8,
    },
    /// A line ended without CR.
    #[error("a line of the head ends with a bare LF, expected CR LF")]
    BareLineFeed,
    /// The head does not end within the limit.
    #[error("the head is longer than the limit of {limit} bytes")]
    HeadTooLong {
        /// The largest head in bytes.
        limit: usize,
    },
    /// The head has too many headers.
    #[error("the head has more headers than the limit of {limit}")]
    TooManyHeaders {
        /// The largest number of headers.
        limit: usize,
    },
    /// The head does not follow RFC 9112.
    #[error("the head is malformed: {reason}")]
    Malformed {
        /// A description of the fault.
        reason: &'static str,
    },
    /// The peer speaks another version of HTTP, or 1.0 where that is not allowed.
    #[error("expected HTTP/1.1, the peer speaks {found:?}")]
    Version {
        /// The peer's version.
        found: String,
    },
    /// A body is announced where none is allowed.
    #[error("expected no body, but the head has {header}: {found:?}")]
    Body {
        /// The header that announces it.
        header: &'static str,
        /// The header's value.
        found: String,
    },
    /// A required header is missing.
    #[error("the header {header} is missing")]
    Missing {
        /// The header's name.
        header: &'static str,
    },
    /// A header that may come only once came again.
    #[error("the header {header} may come only once")]
    Repeated {
        /// The header's name.
        header: &'static str,
    },
    /// A header has an invalid value.
    #[error("the header {header} is {found:?}, expected {expected}")]
    Invalid {
        /// The header's name.
        header: &'static str,
        /// The header's value.
        found: String,
        /// A description of the valid values.
        expected: &'static str,
    },
}

/// The start of the peer's text, to be quoted in an error.
pub(crate) fn excerpt(sent: &[u8]) -> String {
    const MAX: usize = 64;
    let mut text = String::from_utf8_lossy(&sent[..sent.len().min(MAX)]).into_owned();
    if sent.len() > MAX {
        text.push('…');
    }
    text
}
