//! [`HttpError`]: how a peer broke HTTP/1.1.

/// How a head broke the rules of HTTP/1.1 (RFC 9110, RFC 9112), or a limit of this end.
///
/// What the peer sent is quoted in part: at most 64 bytes of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The first byte can't begin a request or a response.
    #[error(
        "the peer does not speak HTTP: its first byte is {byte:#04x}, expected a letter; is it TLS, or \
        another protocol?"
    )]
    NotHttp {
        /// What came first.
        byte: u8,
    },
    /// A line ended without CR.
    #[error("a line of the head ends with a bare LF, expected CR LF")]
    BareLineFeed,
    /// The head does not end within the limit.
    #[error("the head is longer than the limit of {limit} bytes")]
    HeadTooLong {
        /// Bytes that a head may have.
        limit: usize,
    },
    /// The head has too many headers.
    #[error("the head has more headers than the limit of {limit}")]
    TooManyHeaders {
        /// Headers that a head may have.
        limit: usize,
    },
    /// The head is not what RFC 9112 calls one.
    #[error("the head is malformed: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Another version of HTTP, or 1.0 where that can't be.
    #[error("expected HTTP/1.1, the peer speaks {found:?}")]
    Version {
        /// What the peer speaks.
        found: String,
    },
    /// A body is announced where there is none.
    #[error("expected no body, but the head has {header}: {found:?}")]
    Body {
        /// The header that announces it.
        header: &'static str,
        /// Its value.
        found: String,
    },
    /// A header that must be there is not.
    #[error("the header {header} is missing")]
    Missing {
        /// Its name.
        header: &'static str,
    },
    /// A header that may come only once came again.
    #[error("the header {header} may come only once")]
    Repeated {
        /// Its name.
        header: &'static str,
    },
    /// A header has a value that it can't have.
    #[error("the header {header} is {found:?}, expected {expected}")]
    Invalid {
        /// Its name.
        header: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
}

/// The start of what a peer sent, for an error.
pub(crate) fn excerpt(sent: &[u8]) -> String {
    const MAX: usize = 64;
    let mut text = String::from_utf8_lossy(&sent[..sent.len().min(MAX)]).into_owned();
    if sent.len() > MAX {
        text.push('…');
    }
    text
}
