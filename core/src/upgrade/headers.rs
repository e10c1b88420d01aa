//! The headers of the handshake.

use std::str;

use super::error::HandshakeError;
use crate::http::{Headers, excerpt};

pub(super) const ACCEPT: &str = "Sec-WebSocket-Accept";
pub(super) const EXTENSIONS: &str = "Sec-WebSocket-Extensions";
pub(super) const KEY: &str = "Sec-WebSocket-Key";
pub(super) const PROTOCOL: &str = "Sec-WebSocket-Protocol";
pub(super) const VERSION: &str = "Sec-WebSocket-Version";

/// The values of all `Sec-WebSocket-Extensions` headers, each of them a comma-separated list.
#[cfg(any(test, feature = "deflate"))]
pub(crate) fn extension_values(headers: &Headers) -> impl Iterator<Item = &str> {
    // Reading a head checks that they are ASCII.
    headers.all(EXTENSIONS).filter_map(|value| str::from_utf8(value).ok())
}

/// Whether the header belongs to the handshake or frames the message. Only the handshake itself sets and
/// reads these.
pub(crate) fn is_owned(name: &str) -> bool {
    const OWNED: [&str; 6] =
        ["Connection", "Content-Length", "Host", "Origin", "Transfer-Encoding", "Upgrade"];
    OWNED.iter().any(|owned| name.eq_ignore_ascii_case(owned)) || is_web_socket(name)
}

/// Whether the header is a `Sec-WebSocket-` one.
pub(crate) fn is_web_socket(name: &str) -> bool {
    const PREFIX: &str = "Sec-WebSocket-";
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Checks that the handshake's headers are ASCII, so that none is skipped when they are read as text.
pub(super) fn check_ascii(headers: &Headers) -> Result<(), HandshakeError> {
    match headers.iter().find(|(name, value)| is_owned(name) && !value.is_ascii()) {
        Some((name, _)) => Err(HandshakeError::NotAscii { header: excerpt(name.as_bytes()) }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HeaderError;

    #[test]
    fn only_the_handshake_sets_its_own() {
        let mut headers = Headers::default();
        for name in [
            "upgrade",
            "CONNECTION",
            "Host",
            "Origin",
            "content-length",
            "Transfer-Encoding",
            "Sec-WebSocket-Accept",
            "sec-websocket-protocol",
            "SEC-WEBSOCKET-",
        ] {
            assert!(matches!(headers.push(name, "1", is_owned), Err(HeaderError::Owned { .. })), "{name:?}");
        }
    }
}
