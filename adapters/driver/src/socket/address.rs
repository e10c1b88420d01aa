//! [`AddressError`]: what went wrong with an address.

use std::fmt;
use std::io;

/// What went wrong with an address. Errors of [`Server`](crate::Server) and [`Client`](crate::Client) hold one:
/// [`io::Error::get_ref`] and a downcast give it.
#[derive(Debug, thiserror::Error)]
#[error("can't {what} {address}: {source}")]
pub struct AddressError {
    what: &'static str,
    address: String,
    source: io::Error,
}

impl AddressError {
    /// As an error of the same kind as `source`.
    pub(crate) fn wrap(what: &'static str, address: impl fmt::Display, source: io::Error) -> io::Error {
        io::Error::new(source.kind(), AddressError { what, address: address.to_string(), source })
    }

    /// The system's error, with its code where there is one.
    pub fn io_error(&self) -> &io::Error {
        &self.source
    }
}
