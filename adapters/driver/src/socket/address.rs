//! [`AddressError`]: an error with the address that it concerns.

use std::fmt;
use std::io;

/// An error with the address that it concerns. Errors of [`Server`](crate::Server) and
/// [`Client`](crate::Client) hold one: use [`io::Error::get_ref`] and a downcast.
#[derive(Debug, thiserror::Error)]
#[error("can't {what} {address}: {source}")]
pub struct AddressError {
    what: &'static str,
    address: String,
    source: io::Error,
}

impl AddressError {
    /// Wraps `source` in an error of the same kind.
    pub(crate) fn wrap(what: &'static str, address: impl fmt::Display, source: io::Error) -> io::Error {
        io::Error::new(source.kind(), AddressError { what, address: address.to_string(), source })
    }

    /// The system's error, with its code if it has one.
    pub fn io_error(&self) -> &io::Error {
        &self.source
    }
}
