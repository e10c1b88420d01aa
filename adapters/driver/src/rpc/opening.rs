//! [`Opening`]: a connection that opens.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use getty_core::rpc::Frame;
use getty_core::{Config, Opened};

use crate::session::context::SessionData;
use crate::session::id::SessionId;

/// A connection that opens, for [`Services::on_connect`](super::Services::on_connect): its facts, and a place
/// for what all its calls need to know.
pub struct Opening<'a> {
    pub(crate) opened: &'a Opened,
    pub(crate) session: &'a mut SessionData<Frame>,
    pub(crate) config: &'a Config,
}

impl<'a> Opening<'a> {
    /// The addresses, and the results of the handshakes of TLS and WebSocket.
    pub fn opened(&self) -> &'a Opened {
        self.opened
    }

    /// The number of the session, unique in this process.
    pub fn session_id(&self) -> SessionId {
        self.session.id
    }

    /// The attribute of type `T` of the session, if one was set.
    pub fn attribute<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.session.shared.as_ref()?.attribute()
    }

    /// Stores `value` with the session under its type, for [`Call::attribute`](super::Call::attribute);
    /// returns the previous value. A session with attributes takes one more lock in each turn, which nobody
    /// contends for.
    pub fn set_attribute<T: Any + Send + Sync>(&mut self, value: T) -> Option<Arc<T>> {
        self.session.shared(self.config).set_attribute(value)
    }
}

impl fmt::Debug for Opening<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening")
            .field("session_id", &self.session_id())
            .field("opened", self.opened)
            .finish_non_exhaustive()
    }
}
