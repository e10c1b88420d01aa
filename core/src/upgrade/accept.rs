//! [`Accept`]: a server's acceptance of an upgrade.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use sha1::{Digest, Sha1};

use super::headers::{ACCEPT, EXTENSIONS, PROTOCOL, is_owned};
use super::request::Request;
use crate::http::headers::put_header;
use crate::http::{HeaderError, Headers};

/// The acceptance of an upgrade, with an optional sub-protocol and additional headers. The default has
/// neither.
///
/// ```
/// use getty_core::websocket::Accept;
///
/// let accept = Accept::new().protocol("mqtt").header("Set-Cookie", "id=1; Secure; HttpOnly")?;
/// # Ok::<(), getty_core::websocket::HeaderError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Accept {
    protocol: Option<String>,
    headers: Headers,
}

impl Accept {
    /// Accepts without a sub-protocol and additional headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Chooses a sub-protocol, which must be one of [`Request::protocols`]; any other is refused as
    /// [`AcceptError::Protocol`].
    pub fn protocol(mut self, name: impl Into<String>) -> Self {
        self.protocol = Some(name.into());
        self
    }

    /// The chosen sub-protocol.
    pub(crate) fn chosen(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Adds a header to the response.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] if the name or the value can't be sent, or belongs to the handshake.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, HeaderError> {
        self.headers.push(name, value, is_owned)?;
        Ok(self)
    }
}

/// Errors of accepting a request, which is still pending.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The request is plain HTTP.
    #[error("the request does not ask for an upgrade: answer it with a Response")]
    NotUpgrade,
    /// The client did not offer the sub-protocol.
    #[error("the client did not offer the sub-protocol {name:?}: choose one of Request::protocols, or none")]
    Protocol {
        /// The chosen sub-protocol.
        name: String,
    },
}

/// Computes the `Sec-WebSocket-Accept` value that answers a `Sec-WebSocket-Key` (RFC 6455 section 4.2.2
/// number 5).
///
/// ```
/// # use getty_core::websocket::accept_key;
/// assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
pub fn accept_key(key: &str) -> String {
    const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// Writes the response that accepts `request`, with `extensions` as its `Sec-WebSocket-Extensions`. Writes
/// nothing on error.
pub(crate) fn write_accept(
    request: &Request,
    accept: &Accept,
    extensions: Option<&str>,
    out: &mut BytesMut,
) -> Result<(), AcceptError> {
    let key = request.key().ok_or(AcceptError::NotUpgrade)?;
    if let Some(name) =
        accept.protocol.as_ref().filter(|&name| request.protocols().all(|other| other != name))
    {
        return Err(AcceptError::Protocol { name: name.clone() });
    }
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    put_header(out, "Upgrade", "websocket");
    put_header(out, "Connection", "Upgrade");
    put_header(out, ACCEPT, accept_key(key));
    if let Some(name) = &accept.protocol {
        put_header(out, PROTOCOL, name);
    }
    if let Some(extensions) = extensions {
        put_header(out, EXTENSIONS, extensions);
    }
    accept.headers.write(out);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::parse_request;
    use super::*;

    /// The example of RFC 6455 section 1.2.
    const HEAD: &[u8] = b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
        Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";

    #[test]
    fn the_example_of_the_rfc_is_accepted_as_there() {
        let request = parse_request(HEAD).unwrap();
        let mut out = BytesMut::new();
        write_accept(&request, &Accept::new().protocol("chat"), None, &mut out).unwrap();
        assert_eq!(
            &out[..],
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
        );

        let accept = Accept::new().header("X-One", "1").unwrap();
        out.clear();
        write_accept(&request, &accept, Some("permessage-deflate"), &mut out).unwrap();
        let lines = "xOo=\r\nSec-WebSocket-Extensions: permessage-deflate\r\nX-One: 1\r\n\r\n";
        assert!(out.ends_with(lines.as_bytes()), "{out:?}");
    }

    #[test]
    fn only_what_was_asked_for_can_be_accepted() {
        let mut out = BytesMut::new();
        let request = parse_request(HEAD).unwrap();
        for name in ["Chat", "chat, superchat", "", "chat\r\nX: 1"] {
            let refused = write_accept(&request, &Accept::new().protocol(name), None, &mut out);
            assert_eq!(refused, Err(AcceptError::Protocol { name: name.to_owned() }));
        }
        let plain = parse_request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(write_accept(&plain, &Accept::new(), None, &mut out), Err(AcceptError::NotUpgrade));
        assert!(out.is_empty());
        assert!(Accept::new().header("Connection", "close").is_err());
    }
}
