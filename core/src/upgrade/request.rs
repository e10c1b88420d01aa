//! [`Request`]: a request, as a server reads it.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::error::HandshakeError;
use super::headers::{KEY, PROTOCOL, VERSION, check_ascii, is_web_socket};
use crate::hidden::Hidden;
use crate::http::authority::{Authority, default_port};
use crate::http::body::check_no_body;
use crate::http::head::{at_most_one, exactly_one, read_request};
use crate::http::headers::{elements, is_token};
use crate::http::{Headers, HttpError, excerpt};

/// A request received by a server: an upgrade to WebSocket, or a plain one.
///
/// It is valid: what RFC 6455 section 4.2.1 and RFC 9112 require has been checked. The application has to
/// check the path, the cookies and everything else that only it knows. Neither kind has a body.
#[derive(Clone)]
pub struct Request {
    method: String,
    http_1_1: bool,
    target: String,
    headers: Headers,
}

impl Request {
    /// The method: `GET` for an upgrade; for a plain request any except `CONNECT`, in the case received. The
    /// response to `HEAD` is sent without its body.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The path. It begins with `/` and is neither decoded nor normalised (`%2e` and `..` stay as received).
    /// With the method `OPTIONS` it may be `*`.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&*self.target, |(path, _)| path)
    }

    /// The text after the first `?`, not decoded.
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// The path and the query: `/path?query`.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// All headers.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The `Host` header: `name[:port]`. Empty if a plain HTTP/1.0 request has none.
    pub fn host(&self) -> &str {
        self.headers.get("Host").unwrap_or_default()
    }

    /// The `Origin` header: the origin of the web page whose script made the request. Browsers always send
    /// one; other clients may send none, or any.
    pub fn origin(&self) -> Option<&str> {
        self.headers.get("Origin")
    }

    /// The sub-protocols that the client offers, in order of preference.
    pub fn protocols(&self) -> impl Iterator<Item = &str> {
        elements(&self.headers, PROTOCOL)
    }

    /// Whether the request asks for an upgrade to WebSocket. If not, it is a well-formed plain request.
    pub fn is_upgrade(&self) -> bool {
        self.key().is_some()
    }

    /// The error for a plain request if only upgrades are accepted.
    pub(crate) fn refuse_plain(&self) -> HandshakeError {
        check_get(&self.method, self.http_1_1).err().unwrap_or(HandshakeError::NotUpgrade)
    }

    /// The key that the response is computed from; `None` for a plain request.
    pub(super) fn key(&self) -> Option<&str> {
        self.headers.get(KEY)
    }
}

/// Hides the query and secret headers.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path())
            .field("query", &self.query().map(|_| Hidden))
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

/// Reads a request, which is the whole of `head`.
///
/// A request without the upgrade and without any `Sec-WebSocket-` header is plain. Any other must be a valid
/// upgrade, or is refused.
pub(crate) fn parse_request(head: &[u8]) -> Result<Request, HandshakeError> {
    let read = read_request(head)?;
    let headers = read.headers;
    check_ascii(&headers)?;
    let is_upgrade =
        headers.contains_token("Upgrade", "websocket") || headers.iter().any(|(name, _)| is_web_socket(name));
    // A successful response to CONNECT would begin a tunnel.
    if is_upgrade || read.method == "CONNECT" {
        check_get(read.method, read.http_1_1)?;
    }
    if let Err(body) = check_no_body(&headers) {
        // With another method than GET, the method is the error.
        return Err(check_get(read.method, true).err().unwrap_or(body.into()));
    }
    at_most_one(&headers, "Origin")?;
    let host = host(&headers, read.http_1_1)?;
    let target = match read.target {
        "*" if read.method == "OPTIONS" => "*".to_owned(),
        target => origin_form(target, host)?,
    };
    if is_upgrade {
        check_upgrade(&headers)?;
    }
    Ok(Request { method: read.method.to_owned(), http_1_1: read.http_1_1, target, headers })
}

/// Checks the method and version of an upgrade (RFC 6455 section 4.2.1 number 1).
fn check_get(method: &str, http_1_1: bool) -> Result<(), HandshakeError> {
    if method != "GET" {
        return Err(HandshakeError::Method { found: excerpt(method.as_bytes()) });
    }
    if !http_1_1 {
        return Err(HttpError::Version { found: "HTTP/1.0".to_owned() }.into());
    }
    Ok(())
}

/// The `Host` header, which HTTP/1.0 does not require.
fn host(headers: &Headers, http_1_1: bool) -> Result<Option<Authority<'_>>, HandshakeError> {
    let header = "Host";
    let host = match at_most_one(headers, header)? {
        Some(host) => host,
        None if http_1_1 => return Err(HttpError::Missing { header }.into()),
        None => return Ok(None),
    };
    let authority = Authority::parse(host).ok_or_else(|| HttpError::Invalid {
        header,
        found: excerpt(host.as_bytes()),
        expected: "a host name or an address, and perhaps a port",
    })?;
    Ok(Some(authority))
}

/// The path and the query of a request target. The absolute form, which clients send to proxies, must name
/// the same host as the `Host` header (RFC 9112 section 3.2.2). Two hosts in one request could get past a
/// proxy's rules.
fn origin_form(target: &str, host: Option<Authority<'_>>) -> Result<String, HandshakeError> {
    let invalid = || HandshakeError::Target { found: excerpt(target.as_bytes()) };
    if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(invalid());
    }
    if target.starts_with('/') {
        return Ok(target.to_owned());
    }
    let (scheme, rest) = target.split_once("://").ok_or_else(invalid)?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let same_host = match (Authority::parse(authority), host) {
        (Some(named), Some(host)) => named.is_same(host, default_port(scheme)),
        _ => false,
    };
    if !["http", "ws"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) || !same_host {
        return Err(invalid());
    }
    Ok(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
}

/// Checks the headers of an upgrade (RFC 6455 section 4.2.1 numbers 3 to 8).
fn check_upgrade(headers: &Headers) -> Result<(), HandshakeError> {
    let header = "Upgrade";
    let upgrade = exactly_one(headers, header)?;
    if !headers.contains_token(header, "websocket") {
        return Err(HttpError::Invalid {
            header,
            found: excerpt(upgrade.as_bytes()),
            expected: "\"websocket\"",
        }
        .into());
    }
    check_connection(headers)?;
    if !headers.all(VERSION).eq([b"13"]) {
        let found = headers.all(VERSION).collect::<Vec<_>>().join(&b", "[..]);
        return Err(HandshakeError::WebSocketVersion { found: excerpt(&found) });
    }
    let key = exactly_one(headers, KEY)?;
    // Only canonical base64 is accepted: 24 characters, padded, without unused bits.
    if !STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
        return Err(HttpError::Invalid {
            header: KEY,
            found: excerpt(key.as_bytes()),
            expected: "16 bytes in base64, 24 characters",
        }
        .into());
    }
    check_protocols(headers)
}

/// Checks that `Connection`, a list that may span several headers, contains `upgrade`.
pub(super) fn check_connection(headers: &Headers) -> Result<(), HandshakeError> {
    let header = "Connection";
    let Some(connection) = headers.get(header) else { return Err(HttpError::Missing { header }.into()) };
    if !headers.contains_token(header, "upgrade") {
        return Err(HttpError::Invalid {
            header,
            found: excerpt(connection.as_bytes()),
            expected: "\"Upgrade\" among others",
        }
        .into());
    }
    Ok(())
}

fn check_protocols(headers: &Headers) -> Result<(), HandshakeError> {
    // A head has room for thousands of names: too many to compare each with each.
    let mut seen = BTreeSet::new();
    for name in elements(headers, PROTOCOL) {
        let invalid =
            |expected| HttpError::Invalid { header: PROTOCOL, found: excerpt(name.as_bytes()), expected };
        if !is_token(name.as_bytes()) {
            return Err(invalid("names of letters, digits and !#$%&'*+-.^_`|~").into());
        }
        if !seen.insert(name) {
            return Err(invalid("each name once").into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
