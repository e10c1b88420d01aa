//! The opening handshake (RFC 6455 section 4): the heads that the two sides exchange, read and written.
//!
//! Functions over whole heads, without state. A head ends where [`HeadScan`] says so; reading one is strict,
//! because a reader that forgives and a proxy that does not see two different requests in the same bytes.

mod accept;
mod authority;
mod client;
mod error;
mod head;
mod headers;
mod origin;
mod request;
mod response;

pub use accept::{Accept, AcceptError, accept_key};
pub use client::{ClientRequest, UrlError};
pub use error::HandshakeError;
pub use headers::{HeaderError, Headers};
pub use origin::OriginPolicy;
pub use request::Request;
pub use response::{Response, StatusError};

#[cfg(any(test, feature = "deflate"))]
pub(crate) use self::headers::extension_values;
pub(crate) use self::{
    accept::write_accept, client::is_interim_response, head::HeadScan, request::parse_request,
};
