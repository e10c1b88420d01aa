//! [`Call`]: a call as its handler sees it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use getty_core::Timestamp;
use getty_core::codec::Text;
use getty_core::rpc::{CallId, Metadata};

use crate::rpc::caller::Caller;
use crate::rpc::mailbox::Mailbox;
use crate::session::id::SessionId;

/// The connection of a call.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) session: SessionId,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) peer: Option<SocketAddr>,
    /// The time of the last turn, in nanoseconds.
    pub(crate) now: AtomicU64,
}

impl Connection {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.now.load(Ordering::Relaxed))
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
}

impl Call {
    pub(crate) fn new(
        connection: Arc<Connection>,
        id: CallId,
        method: Text,
        metadata: Metadata,
        deadline: Option<Timestamp>,
        attempt: u32,
    ) -> Self {
        Call { connection, id, method, metadata, deadline, attempt }
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
}
