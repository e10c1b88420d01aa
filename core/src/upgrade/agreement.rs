//! [`Upgrade`]: the result of the handshake.

use std::sync::Arc;

#[cfg(feature = "deflate")]
use super::extension::{Deflate, Params};
use super::request::Request;
use crate::http::Headers;

/// The result of the WebSocket handshake.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Upgrade {
    /// The chosen sub-protocol.
    pub protocol: Option<String>,
    /// The client's request; only on a server.
    pub request: Option<Arc<Request>>,
    /// The headers of the server's response; only on a client.
    pub headers: Option<Headers>,
    /// The negotiated compression, and this side's options.
    #[cfg(feature = "deflate")]
    pub(crate) deflate: Option<(Params, Deflate)>,
}

impl Upgrade {
    /// The negotiated compression.
    #[cfg(feature = "deflate")]
    pub fn deflate(&self) -> Option<&Params> {
        self.deflate.as_ref().map(|(params, _)| params)
    }
}
