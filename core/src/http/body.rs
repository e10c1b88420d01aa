//! Bodies of messages.

use super::error::{HttpError, excerpt};
use super::head::at_most_one;
use super::headers::Headers;

/// Checks that no body follows. Messages can be smuggled in bytes that one side takes for a body and the
/// other for frames.
pub(crate) fn check_no_body(headers: &Headers) -> Result<(), HttpError> {
    let body = |header, found: &[u8]| Err(HttpError::Body { header, found: excerpt(found) });
    if let Some(coding) = headers.all("Transfer-Encoding").next() {
        return body("Transfer-Encoding", coding);
    }
    match at_most_one(headers, "Content-Length")? {
        None | Some("0") => Ok(()),
        Some(length) => body("Content-Length", length.as_bytes()),
    }
}
