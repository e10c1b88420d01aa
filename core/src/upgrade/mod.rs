//! The opening handshake of WebSocket (RFC 6455 section 4): the heads that the two sides exchange, and the
//! result.
//!
//! Functions over whole heads, without state.

mod accept;
mod agreement;
mod client;
mod error;
#[cfg(feature = "deflate")]
mod extension;
mod headers;
mod origin;
mod request;
mod response;
mod verdict;

pub(crate) use accept::write_accept;
pub use accept::{Accept, AcceptError, accept_key};
pub use agreement::Upgrade;
pub(crate) use client::is_interim_response;
pub use client::{ClientRequest, SubprotocolError, UrlError};
pub use error::HandshakeError;
#[cfg(feature = "deflate")]
pub use extension::{Deflate, NegotiationError, Params};
#[cfg(any(test, feature = "deflate"))]
pub(crate) use headers::extension_values;
pub use origin::OriginPolicy;
pub use request::Request;
pub(crate) use request::parse_request;
pub use response::{Response, StatusError};
pub use verdict::{RespondError, Verdict};
