//! [`Upgrade`]: what the two sides agreed on.

use std::sync::Arc;

#[cfg(feature = "deflate")]
use super::extension::{Deflate, Params};
use super::request::Request;
use crate::http::Headers;

/// What the two sides of a WebSocket agreed on.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Upgrade {
    /// The sub-protocol.
    pub protocol: Option<String>,
    /// On a server, what the client asked for.
    pub request: Option<Arc<Request>>,
    /// On a client, the headers of the server's answer.
    pub headers: Option<Headers>,
    /// What was agreed on compression, and the options of this side.
    #[cfg(feature = "deflate")]
    pub(crate) deflate: Option<(Params, Deflate)>,
}

impl Upgrade {
    /// What was agreed on compression.
    #[cfg(feature = "deflate")]
    pub fn deflate(&self) -> Option<&Params> {
        self.deflate.as_ref().map(|(params, _)| params)
    }
}
