//! Heads of messages: finding their end, and reading them.

use memchr::memchr;

use super::error::{HttpError, excerpt};
use super::headers::{Headers, is_token_byte};

/// The largest number of headers in a head.
pub(crate) const MAX_HEADERS: usize = 100;

/// Finds the end of a head that arrives in pieces.
///
/// It remembers how far it has searched, so that a head that arrives byte by byte costs no more than one that
/// arrives at once (CVE-2023-43669 was such a flaw).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HeadScan {
    /// Bytes searched without finding an end.
    scanned: usize,
}

impl HeadScan {
    /// Returns the length of the head at the start of `bytes`, including the empty line at its end; `None` if
    /// it is incomplete. `bytes` starts at the same byte in every call.
    ///
    /// # Errors
    ///
    /// [`HttpError::NotHttp`] and [`HttpError::BareLineFeed`], as soon as they are certain. A peer that has
    /// nothing more to send then gets its answer without waiting for a timeout.
    pub(crate) fn find(&mut self, bytes: &[u8]) -> Result<Option<usize>, HttpError> {
        match bytes.first() {
            Some(&byte) if !is_token_byte(byte) => return Err(HttpError::NotHttp { byte }),
            _ => {}
        }
        while let Some(found) = memchr(b'\n', bytes.get(self.scanned..).unwrap_or_default()) {
            self.scanned += found + 1;
            let lines = &bytes[..self.scanned];
            if !lines.ends_with(b"\r\n") {
                return Err(HttpError::BareLineFeed);
            }
            if lines.ends_with(b"\r\n\r\n") {
                return Ok(Some(self.scanned));
            }
        }
        self.scanned = bytes.len();
        Ok(None)
    }
}

/// The head of a request (RFC 9112).
pub(crate) struct RequestHead<'a> {
    /// Whether the version is 1.1; otherwise it is 1.0.
    pub(crate) http_1_1: bool,
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) headers: Headers,
}

/// The head of a response (RFC 9112).
pub(crate) struct ResponseHead<'a> {
    pub(crate) http_1_1: bool,
    pub(crate) status: u16,
    pub(crate) reason: &'a str,
    pub(crate) headers: Headers,
}

/// Reads the head of a request, which is the whole of `head`.
pub(crate) fn read_request(head: &[u8]) -> Result<RequestHead<'_>, HttpError> {
    check_lines(head)?;
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut fields);
    check_parsed(request.parse(head), head, |line| line.splitn(3, |&byte| byte == b' ').nth(2))?;
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(INCOMPLETE);
    };
    Ok(RequestHead { http_1_1: minor == 1, method, target, headers: received(request.headers) })
}

/// Reads the head of a response, which is the whole of `head`.
pub(crate) fn read_response(head: &[u8]) -> Result<ResponseHead<'_>, HttpError> {
    check_lines(head)?;
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut fields);
    check_parsed(response.parse(head), head, |line| line.split(|&byte| byte == b' ').next())?;
    let (Some(minor), Some(status), Some(reason)) = (response.version, response.code, response.reason) else {
        return Err(INCOMPLETE);
    };
    Ok(ResponseHead { http_1_1: minor == 1, status, reason, headers: received(response.headers) })
}

/// The value of a header that may come at most once.
pub(crate) fn at_most_one<'a>(
    headers: &'a Headers,
    header: &'static str,
) -> Result<Option<&'a str>, HttpError> {
    match headers.all(header).nth(1) {
        Some(_) => Err(HttpError::Repeated { header }),
        None => Ok(headers.get(header)),
    }
}

/// The value of a header that must come exactly once.
pub(crate) fn exactly_one<'a>(headers: &'a Headers, header: &'static str) -> Result<&'a str, HttpError> {
    at_most_one(headers, header)?.ok_or(HttpError::Missing { header })
}

const INCOMPLETE: HttpError = HttpError::Malformed { reason: "it does not end where it should" };

/// Refuses what httparse accepts: empty lines before the head, and line ends without CR.
fn check_lines(head: &[u8]) -> Result<(), HttpError> {
    match HeadScan::default().find(head)? {
        Some(length) if length == head.len() => Ok(()),
        _ => Err(INCOMPLETE),
    }
}

/// Checks that httparse parsed the whole of `head`. `version` finds the version in the first line.
fn check_parsed(
    parsed: httparse::Result<usize>,
    head: &[u8],
    version: impl FnOnce(&[u8]) -> Option<&[u8]>,
) -> Result<(), HttpError> {
    let reason = match parsed {
        Ok(httparse::Status::Complete(length)) if length == head.len() => return Ok(()),
        Ok(_) => return Err(INCOMPLETE),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(HttpError::TooManyHeaders { limit: MAX_HEADERS });
        }
        Err(httparse::Error::Version) => {
            let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
            match version(line) {
                Some(found) if found.starts_with(b"HTTP/") => {
                    return Err(HttpError::Version { found: excerpt(found) });
                }
                _ => "the first line has no HTTP version",
            }
        }
        Err(httparse::Error::HeaderName) => {
            "a header name has an invalid character, or a space before or after it"
        }
        Err(httparse::Error::HeaderValue) => "a header value has a control character",
        Err(httparse::Error::NewLine) => "a line does not end with CR LF",
        Err(httparse::Error::Token) => "the first line is not a request: expected \"GET /path HTTP/1.1\"",
        Err(httparse::Error::Status) => {
            "the first line is not a status line: expected \"HTTP/1.1 101 Switching Protocols\""
        }
    };
    Err(HttpError::Malformed { reason })
}

fn received(fields: &[httparse::Header<'_>]) -> Headers {
    let mut headers = Headers::default();
    for field in fields {
        headers.push_received(field.name, field.value);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_an_empty_line_however_it_arrives() {
        let wire = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /\r\n\r\n";
        for piece in [1, 2, 3, 7, wire.len()] {
            let mut scan = HeadScan::default();
            let found = (0..=wire.len()).step_by(piece).find_map(|end| scan.find(&wire[..end]).unwrap());
            assert_eq!(found, Some(27), "in pieces of {piece}");
        }
        assert_eq!(HeadScan::default().find(&wire[..26]), Ok(None));
        assert_eq!(HeadScan::default().find(b""), Ok(None));
    }

    #[test]
    fn what_can_not_be_a_head_is_refused_at_once() {
        for byte in (0..=u8::MAX).filter(|&byte| !is_token_byte(byte)) {
            assert_eq!(HeadScan::default().find(&[byte]), Err(HttpError::NotHttp { byte }));
        }
        for bytes in ["\r\nGET / HTTP/1.1\r\n", " GET", "\0GET", "\u{16}\u{3}\u{1}"] {
            assert!(matches!(HeadScan::default().find(bytes.as_bytes()), Err(HttpError::NotHttp { .. })));
        }
        for bytes in ["GET / HTTP/1.1\n", "GET / HTTP/1.1\r\nHost: a\n", "GET / HTTP/1.1\r\nHost: a\r\n\n"] {
            assert_eq!(HeadScan::default().find(bytes.as_bytes()), Err(HttpError::BareLineFeed));
        }
    }

    /// CVE-2023-43669: each byte is searched once, however many pieces a head arrives in.
    #[test]
    fn a_head_is_not_scanned_again() {
        let wire = [b"GET / HTTP/1.1\r\nA: ".as_slice(), &[b'a'; 10_000]].concat();
        let mut scan = HeadScan::default();
        for end in 0..=wire.len() {
            assert_eq!(scan.find(&wire[..end]), Ok(None));
            assert_eq!(scan.scanned, end);
        }
    }
}
