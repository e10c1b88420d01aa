//! [`Call`]: a call as its handler sees it.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use getty_core::Timestamp;
use getty_core::codec::Text;
#[cfg(feature = "tls")]
use getty_core::layer::tls::TlsFacts;
use getty_core::rpc::{CallId, Frame, Metadata};

use crate::rpc::caller::Caller;
use crate::rpc::extensions::Extensions;
use crate::rpc::mailbox::Mailbox;
use crate::session::id::SessionId;
use crate::session::shared::Shared;

/// The connection of a call.
pub(crate) struct Connection {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) session: SessionId,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) peer: Option<SocketAddr>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Box<TlsFacts>>,
    /// What the session shares with others, its attributes among it. Set once there is any.
    pub(crate) shared: OnceLock<Arc<Shared<Frame>>>,
    /// The time of the last turn, in nanoseconds.
    pub(crate) now: AtomicU64,
}

impl Connection {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.now.load(Ordering::Relaxed))
    }

    pub(crate) fn attribute<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.shared.get()?.attribute()
    }

    #[cfg(feature = "tls")]
    pub(crate) fn tls(&self) -> Option<&TlsFacts> {
        self.tls.as_deref()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("session", &self.session)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// A call as its handler sees it: what the caller said beside the request value, and the way back.
#[derive(Debug, Clone)]
pub struct Call {
    connection: Arc<Connection>,
    id: CallId,
    method: Text,
    metadata: Metadata,
    deadline: Option<Timestamp>,
    attempt: u32,
    extensions: Extensions,
}

impl Call {
    pub(crate) fn new(
        connection: Arc<Connection>,
        id: CallId,
        method: Text,
        metadata: Metadata,
        deadline: Option<Timestamp>,
        attempt: u32,
        extensions: Extensions,
    ) -> Self {
        Call { connection, id, method, metadata, deadline, attempt, extensions }
    }

    /// Service and method: `pkg.Service/Method`.
    pub fn method(&self) -> &str {
        self.method.as_str()
    }

    /// The caller's metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The time left until the deadline; `None` without one. Zero once it has passed.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(self.connection.now()))
    }

    /// Failed attempts of the caller before this one.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Adds metadata to the answer.
    ///
    /// # Errors
    /// [`MetadataError`](super::MetadataError) names the limit.
    pub fn reply_metadata(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), super::MetadataError> {
        self.connection.mailbox.add_reply_metadata(self.id, key, value.as_ref())
    }

    /// Calls back on the same connection.
    pub fn peer(&self) -> Caller {
        Caller::new(self.connection.mailbox.clone())
    }

    /// The number of the session, unique in this process.
    pub fn session_id(&self) -> SessionId {
        self.connection.session
    }

    /// The local address, if the transport has one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.connection.local
    }

    /// The peer's address, if the transport has one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.connection.peer
    }
    /// The value of type `T` that a [layer](super::Layer) has set for this call with
    /// [`Inbound::set_extension`](super::Inbound::set_extension): who calls, for example.
    pub fn extension<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.extensions.get()
    }

    /// The attribute of type `T` of the session: set by [`Services::on_connect`](super::Services::on_connect)
    /// through [`Opening::set_attribute`](super::Opening::set_attribute), or by a listener around that of the
    /// services through [`Context::set_attribute`](crate::Context::set_attribute). None once the session has
    /// ended.
    pub fn attribute<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.connection.attribute()
    }

    /// The result of the TLS handshake: the client's certificates as far as
    /// [`ClientCertificates`](crate::tls::ClientCertificates) has them verified, the name it asked for, the
    /// application protocol. `None` without TLS, and behind a proxy that ends it.
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<&TlsFacts> {
        self.connection.tls()
    }
}
