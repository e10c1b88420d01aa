//! HTTP/1.1 (RFC 9110, RFC 9112): reading and writing the heads of requests and responses.
//!
//! Functions over whole heads, without state. [`HeadScan`] finds the end of a head. Reading is strict: a
//! lenient reader behind a strict proxy would see a different request in the same bytes.

pub(crate) mod authority;
pub(crate) mod body;
mod error;
pub(crate) mod head;
pub(crate) mod headers;

pub use error::HttpError;
pub(crate) use error::excerpt;
pub(crate) use head::HeadScan;
pub use headers::{HeaderError, Headers};
