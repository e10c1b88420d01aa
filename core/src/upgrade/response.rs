//! [`Response`]: a server's response that does not accept.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::error::HandshakeError;
use super::headers::{VERSION, is_owned};
use crate::hidden::HiddenBytes;
use crate::http::headers::put_header;
use crate::http::{HeaderError, Headers, HttpError};

/// A response that a server sends instead of accepting an upgrade. It ends the connection.
///
/// ```
/// use getty_core::websocket::Response;
///
/// let response = Response::new(401)?.header("WWW-Authenticate", "Bearer")?.body("log in first\n");
/// assert_eq!(response.status(), 401);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Response {
    status: u16,
    headers: Headers,
    body: Bytes,
}

impl Response {
    /// Makes a response without headers and body. With 426 (Upgrade Required) the headers that name the
    /// protocol to upgrade to are added (RFC 6455 section 4.4).
    ///
    /// # Errors
    ///
    /// [`StatusError`] if `status` is not 200 to 599, and so not final.
    pub fn new(status: u16) -> Result<Self, StatusError> {
        match status {
            200..=599 => Ok(Self { status, headers: Headers::default(), body: Bytes::new() }),
            _ => Err(StatusError { status }),
        }
    }

    /// Adds a header, such as `Content-Type`. `Content-Length` and `Connection` are set automatically.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] if the name or the value can't be sent, or belongs to the handshake.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, HeaderError> {
        self.headers.push(name, value, is_owned)?;
        Ok(self)
    }

    /// Sets the body; empty by default. It is not sent with the statuses 204 and 304, which have none.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The response to a request that is refused: the status that belongs to the error, and its text.
    pub(crate) fn refusal(error: &HandshakeError) -> Self {
        let status = match error {
            HandshakeError::Origin { .. } => 403,
            HandshakeError::Method { .. } => 405,
            HandshakeError::WebSocketVersion { .. } | HandshakeError::NotUpgrade => 426,
            HandshakeError::Http(HttpError::HeadTooLong { .. } | HttpError::TooManyHeaders { .. }) => 431,
            HandshakeError::Http(HttpError::Version { .. }) => 505,
            _ => 400,
        };
        let mut headers = Headers::default();
        headers.push_received("Content-Type", b"text/plain; charset=utf-8");
        if let HandshakeError::Method { .. } = error {
            headers.push_received("Allow", b"GET");
        }
        Self { status, headers, body: Bytes::from(format!("{error}\n")) }
    }

    /// Writes the response as the last message on its connection. `to_head` omits the body, since it answers
    /// a HEAD (RFC 9110 section 9.3.2).
    pub(crate) fn write(&self, to_head: bool, out: &mut BytesMut) {
        out.extend_from_slice(format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status)).as_bytes());
        if self.status == 426 {
            put_header(out, "Upgrade", "websocket");
            put_header(out, "Connection", "Upgrade, close");
            put_header(out, VERSION, "13");
        } else {
            put_header(out, "Connection", "close");
        }
        let has_body = !matches!(self.status, 204 | 304);
        if has_body {
            put_header(out, "Content-Length", self.body.len().to_string());
        }
        self.headers.write(out);
        out.extend_from_slice(b"\r\n");
        if has_body && !to_head {
            out.extend_from_slice(&self.body);
        }
    }
}

/// Shows the size of the body, and hides secret headers.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("body", &HiddenBytes(self.body.len()))
            .finish()
    }
}

/// The status code is not that of a final response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the status {status} is not final: expected 200 to 599; to send 101, accept the request")]
pub struct StatusError {
    /// The status code.
    pub status: u16,
}

/// The reason phrase of a status code (RFC 9110 section 15); empty for uncommon codes.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(response: &Response) -> String {
        let mut out = BytesMut::new();
        response.write(false, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn is_written_with_its_length_and_ends_the_connection() {
        let response = Response::new(200).unwrap().header("Content-Type", "text/plain").unwrap().body("Grün");
        assert_eq!(
            wire(&response),
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\
            Content-Type: text/plain\r\n\r\nGrün"
        );
        assert_eq!(
            wire(&Response::new(499).unwrap()),
            "HTTP/1.1 499 \r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        let without = Response::new(204).unwrap().body("never sent");
        assert_eq!(wire(&without), "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    }

    #[test]
    fn only_final_statuses_can_be_answered() {
        for status in [0, 100, 101, 199, 600, u16::MAX] {
            assert_eq!(Response::new(status).unwrap_err(), StatusError { status });
        }
        assert!(Response::new(599).is_ok());
    }

    #[test]
    fn a_refusal_tells_why_and_what_instead() {
        let refusal = |error| wire(&Response::refusal(&error));
        assert_eq!(
            refusal(HandshakeError::NotUpgrade),
            "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\
            Sec-WebSocket-Version: 13\r\nContent-Length: 92\r\n\
            Content-Type: text/plain; charset=utf-8\r\n\r\n\
            this is a WebSocket endpoint: a request must ask for an upgrade, but this one is plain HTTP\n"
        );
        let post = refusal(HandshakeError::Method { found: "POST".to_owned() });
        assert!(post.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{post}");
        assert!(
            post.contains("\r\nAllow: GET\r\n\r\nthe handshake must be a GET, but the request is \"POST\"\n"),
            "{post}"
        );
        let mut head = BytesMut::new();
        Response::refusal(&HandshakeError::NotUpgrade).write(true, &mut head);
        let whole = refusal(HandshakeError::NotUpgrade);
        assert_eq!(whole.strip_prefix(std::str::from_utf8(&head).unwrap()).map(str::len), Some(92));
        // Text from the peer is returned on one line.
        let text =
            refusal(HandshakeError::Http(HttpError::Version { found: "HTTP/9\r\n\r\n<b>\u{85}".to_owned() }));
        assert!(
            text.ends_with("\r\n\r\nexpected HTTP/1.1, the peer speaks \"HTTP/9\\r\\n\\r\\n<b>\\u{85}\"\n")
        );
    }
}
