//! HTTP/1.1 (RFC 9110, RFC 9112): heads of requests and responses, read and written.
//!
//! Functions over whole heads, without state. A head ends where [`HeadScan`] says so; reading one is strict,
//! because a reader that forgives and a proxy that does not see two different requests in the same bytes.

pub(crate) mod authority;
pub(crate) mod body;
mod error;
pub(crate) mod head;
pub(crate) mod headers;

pub use error::HttpError;
pub(crate) use error::excerpt;
pub(crate) use head::HeadScan;
pub use headers::{HeaderError, Headers};
