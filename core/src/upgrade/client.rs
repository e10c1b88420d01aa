//! [`ClientRequest`]: a client's request, and the check of the response.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;

use super::accept::accept_key;
use super::error::HandshakeError;
#[cfg(feature = "deflate")]
use super::extension::Deflate;
use super::headers::{ACCEPT, EXTENSIONS, KEY, PROTOCOL, VERSION, check_ascii, is_owned};
use super::request::check_connection;
use crate::hidden::Hidden;
use crate::http::authority::{Authority, default_port};
use crate::http::head::{exactly_one, read_response};
use crate::http::headers::{check_value, is_token, list, lists, put_header};
use crate::http::{HeaderError, Headers, HttpError, excerpt};

/// A client's request: the URL, and what the client offers.
///
/// ```
/// use getty_core::websocket::ClientRequest;
///
/// let request = ClientRequest::new("wss://example.com/chat?room=1")?
///     .protocol("v2.chat.example.com")?
///     .header("Authorization", "Bearer 123")?;
/// assert_eq!((request.host(), request.port(), request.is_secure()), ("example.com", 443, true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ClientRequest {
    secure: bool,
    /// The host, without the brackets of an IPv6 address.
    host: String,
    port: u16,
    target: String,
    protocols: Vec<String>,
    origin: Option<String>,
    headers: Headers,
    #[cfg(feature = "deflate")]
    pub(crate) deflate: Option<Deflate>,
}

impl ClientRequest {
    /// Makes a request for a `ws` or `wss` URL: `ws://host[:port][/path][?query]` (RFC 6455 section 3).
    ///
    /// The default port is 80, or 443 with `wss`. An IPv6 address may have a zone, as in
    /// `ws://[fe80::1%25eth0]` (RFC 6874) or in the common form `ws://[fe80::1%eth0]`; the zone is not sent
    /// to the server. The path and the query are sent unchanged. Percent-encode characters that are not
    /// allowed in a URL, and write a non-ASCII host name in punycode.
    ///
    /// # Errors
    ///
    /// [`UrlError`] if the URL has another form. User names, passwords and fragments are not supported.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        if let Some((at, char)) = url.char_indices().find(|(_, char)| !char.is_ascii_graphic()) {
            return Err(UrlError::Character { char, at });
        }
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let secure = scheme.eq_ignore_ascii_case("wss");
        let default = match default_port(scheme) {
            Some(port) if secure || scheme.eq_ignore_ascii_case("ws") => port,
            _ => return Err(UrlError::Scheme),
        };
        if rest.contains('#') {
            return Err(UrlError::Fragment);
        }
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(UrlError::UserInfo);
        }
        let (host, port) =
            host_and_port(authority).ok_or_else(|| UrlError::Host { found: authority.to_owned() })?;
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self {
            secure,
            host,
            port: port.unwrap_or(default),
            target: format!("{slash}{target}"),
            protocols: Vec::new(),
            origin: None,
            headers: Headers::default(),
            #[cfg(feature = "deflate")]
            deflate: None,
        })
    }

    /// The name or address to connect to. An IPv6 address is without brackets, and with its zone if it has
    /// one: `fe80::1%eth0`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the connection must be over TLS (`wss`).
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Offers a sub-protocol. May be called several times; the server prefers those offered first.
    ///
    /// # Errors
    ///
    /// [`SubprotocolError`] if the name is not a token, or is offered already.
    pub fn protocol(mut self, name: &str) -> Result<Self, SubprotocolError> {
        let name = name.to_owned();
        if !is_token(name.as_bytes()) {
            return Err(SubprotocolError::Name { name });
        }
        if self.protocols.contains(&name) {
            return Err(SubprotocolError::Repeated { name });
        }
        self.protocols.push(name);
        Ok(self)
    }

    /// Adds a header, such as `Authorization`, `Cookie` or `User-Agent`.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] if the name or the value can't be sent, or belongs to the handshake.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, HeaderError> {
        self.headers.push(name, value, is_owned)?;
        Ok(self)
    }

    /// Sets the `Origin` header, for example `https://example.com`. Non-browser clients need not send one,
    /// and by default none is sent.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] if the origin has control characters.
    pub fn origin(mut self, origin: &str) -> Result<Self, HeaderError> {
        check_value("Origin", origin)?;
        self.origin = Some(origin.to_owned());
        Ok(self)
    }

    /// Offers compression. By default none is offered.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn deflate(mut self, deflate: Deflate) -> Self {
        self.deflate = Some(deflate);
        self
    }

    /// Writes the request. `key` must be random and new for each connection. `extensions` is the value of
    /// `Sec-WebSocket-Extensions`.
    pub(crate) fn write_request(&self, key: [u8; 16], extensions: Option<&str>, out: &mut BytesMut) {
        out.extend_from_slice(format!("GET {} HTTP/1.1\r\n", self.target).as_bytes());
        put_header(out, "Host", self.host_header());
        put_header(out, "Upgrade", "websocket");
        put_header(out, "Connection", "Upgrade");
        put_header(out, KEY, STANDARD.encode(key));
        put_header(out, VERSION, "13");
        if !self.protocols.is_empty() {
            put_header(out, PROTOCOL, self.protocols.join(", "));
        }
        if let Some(extensions) = extensions {
            put_header(out, EXTENSIONS, extensions);
        }
        if let Some(origin) = &self.origin {
            put_header(out, "Origin", origin);
        }
        self.headers.write(out);
        out.extend_from_slice(b"\r\n");
    }

    /// Checks the response, which is the whole of `head`, to the request written with `key` (RFC 6455 section
    /// 4.1). `offered` says whether the request offered extensions; the caller checks which ones the server
    /// chose.
    pub(crate) fn check_response(
        &self,
        key: [u8; 16],
        offered: bool,
        head: &[u8],
    ) -> Result<Answer, HandshakeError> {
        let read = read_response(head)?;
        check_ascii(&read.headers)?;
        if read.status != 101 {
            let reason = excerpt(read.reason.as_bytes());
            return Err(HandshakeError::Status { status: read.status, reason, headers: read.headers });
        }
        if !read.http_1_1 {
            return Err(HttpError::Version { found: "HTTP/1.0".to_owned() }.into());
        }
        let headers = read.headers;
        // No body follows, whatever the headers say: a 1xx ends with its empty line (RFC 9112 section 6.3).
        let upgrade = exactly_one(&headers, "Upgrade")?;
        if !upgrade.eq_ignore_ascii_case("websocket") {
            return Err(HttpError::Invalid {
                header: "Upgrade",
                found: excerpt(upgrade.as_bytes()),
                expected: "\"websocket\"",
            }
            .into());
        }
        check_connection(&headers)?;
        let (found, expected) = (exactly_one(&headers, ACCEPT)?, accept_key(&STANDARD.encode(key)));
        if found != expected {
            return Err(HandshakeError::AcceptKey { found: excerpt(found.as_bytes()), expected });
        }
        let protocol = self.chosen_protocol(&headers)?;
        if let Some(found) = lists(&headers, EXTENSIONS).next().filter(|_| !offered) {
            return Err(HandshakeError::Extension { found: excerpt(found.as_bytes()) });
        }
        Ok(Answer { protocol, headers })
    }

    /// `host[:port]`, with the brackets of an IPv6 address, without its zone and the default port.
    fn host_header(&self) -> String {
        let is_default = self.port == if self.secure { 443 } else { 80 };
        let port = if is_default { String::new() } else { format!(":{}", self.port) };
        let host = self.host.split_once('%').map_or(&*self.host, |(address, _zone)| address);
        if host.contains(':') { format!("[{host}]{port}") } else { format!("{host}{port}") }
    }

    /// The sub-protocol of the response: an offered one, or none.
    fn chosen_protocol(&self, headers: &Headers) -> Result<Option<String>, HandshakeError> {
        let mut values = lists(headers, PROTOCOL);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(HttpError::Repeated { header: PROTOCOL }.into());
        }
        let mut chosen = list(value);
        match (chosen.next(), chosen.next()) {
            (Some(name), None) if self.protocols.iter().any(|offered| offered == name) => {
                Ok(Some(name.to_owned()))
            }
            _ => Err(HandshakeError::Protocol { found: excerpt(value.as_bytes()) }),
        }
    }
}

/// Reads the authority of a URL. An IPv6 address may have a zone.
fn host_and_port(authority: &str) -> Option<(String, Option<u16>)> {
    let Some((address, rest)) = authority.split_once('%') else {
        let Authority { host, port } = Authority::parse(authority)?;
        return Some((host.to_owned(), port));
    };
    let (zone, port) = rest.split_once(']').filter(|_| address.starts_with('['))?;
    let zone = read_zone(zone)?;
    let without = format!("{address}]{port}");
    let Authority { host, port } = Authority::parse(&without)?;
    Some((format!("{host}%{zone}"), port))
}

/// Reads a zone after its `%`: either `25` and the percent-encoded zone (RFC 6874 section 2), or the plain
/// zone.
fn read_zone(text: &str) -> Option<String> {
    let mut zone = String::new();
    match text.strip_prefix("25").filter(|encoded| !encoded.is_empty()) {
        None => zone.push_str(text),
        Some(encoded) => {
            let mut pieces = encoded.split('%');
            zone.push_str(pieces.next()?);
            for piece in pieces {
                let (digits, rest) = piece.split_at_checked(2)?;
                zone.push(char::from(u8::from_str_radix(digits, 16).ok()?));
                zone.push_str(rest);
            }
        }
    }
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    (!zone.is_empty() && zone.bytes().all(is_unreserved)).then_some(zone)
}

/// Hides the query and secret headers.
impl fmt::Debug for ClientRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, query) = match self.target.split_once('?') {
            Some((path, _)) => (path, Some(Hidden)),
            None => (&*self.target, None),
        };
        f.debug_struct("ClientRequest")
            .field("secure", &self.secure)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("path", &path)
            .field("query", &query)
            .field("protocols", &self.protocols.len()) // one of them may be a token
            .field("origin", &self.origin)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

/// Whether `head` is an interim response: a 1xx other than 101 (RFC 9110 section 15.2). HTTP/1.0 has none.
pub(crate) fn is_interim_response(head: &[u8]) -> Result<bool, HandshakeError> {
    let read = read_response(head)?;
    Ok(read.http_1_1 && (100..200).contains(&read.status) && read.status != 101)
}

/// A server's acceptance.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The chosen sub-protocol, one of those offered.
    pub(crate) protocol: Option<String>,
    pub(crate) headers: Headers,
}

/// Errors of offering a sub-protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubprotocolError {
    /// The name is not a token (RFC 6455 section 4.1 number 10).
    #[error("{name:?} is not a sub-protocol's name: expected letters, digits and !#$%&'*+-.^_`|~")]
    Name {
        /// The name.
        name: String,
    },
    /// The sub-protocol is offered already.
    #[error("the sub-protocol {name:?} is offered already")]
    Repeated {
        /// The name.
        name: String,
    },
}

/// Errors of parsing a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// The URL does not begin with `ws://` or `wss://`.
    #[error("expected a URL that begins with ws:// or wss://")]
    Scheme,
    /// The URL has a character that is not allowed.
    #[error(
        "{char:?} at byte {at} is not allowed in a URL: percent-encode it, or use punycode in a \
        host name"
    )]
    Character {
        /// The character.
        char: char,
        /// Its position in bytes.
        at: usize,
    },
    /// The URL has a fragment, which WebSocket URLs can't have (RFC 6455 section 3).
    #[error("a WebSocket URL can't have a fragment: leave it out, or encode \"#\" as %23")]
    Fragment,
    /// The URL has a user name or a password.
    #[error("a WebSocket URL can't have a user name or password: send an Authorization header")]
    UserInfo,
    /// The host or the port is invalid.
    #[error(
        "{found:?} is not a valid host: expected a name, an IPv4 address or an IPv6 address in brackets, \
        which may have a zone ([fe80::1%eth0]); a colon and a port up to 65535 may follow"
    )]
    Host {
        /// The text in its place.
        found: String,
    },
}

#[cfg(test)]
mod tests;
