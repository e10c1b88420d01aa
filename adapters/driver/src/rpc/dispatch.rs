//! [`Dispatch`]: what answers the calls of a peer.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use getty_core::Timestamp;
use getty_core::rpc::{Body, CallId, CodecName, Metadata, Reply, Request, Status};

use crate::rpc::call::{Call, Connection};
use crate::rpc::mailbox::{Key, Mailbox};

/// The answer to a call: the body of the result in the codec of the call, with metadata.
pub type Response = Result<Reply, Status>;

/// Answers the calls of a peer. [`Services`](super::Services) does; layers are around it.
///
/// Its future runs in the task of the session, beside the other calls of the same connection. It is dropped
/// when the call is cancelled or its deadline passes.
pub trait Dispatch {
    /// Answers a call.
    fn dispatch(&self, inbound: Inbound) -> impl Future<Output = Response>;
}

impl<D: Dispatch> Dispatch for Arc<D> {
    fn dispatch(&self, inbound: Inbound) -> impl Future<Output = Response> {
        (**self).dispatch(inbound)
    }
}

/// A call of the peer on its way to its handler.
#[derive(Debug)]
pub struct Inbound {
    pub(crate) request: Request,
    pub(crate) id: CallId,
    pub(crate) connection: Arc<Connection>,
    pub(crate) deadline: Option<Timestamp>,
    /// The streams, if there are any yet.
    pub(crate) streams: Option<Key>,
}

impl Inbound {
    /// Service and method: `pkg.Service/Method`.
    pub fn method(&self) -> &str {
        self.request.method.as_str()
    }

    /// Whether the call is for the method `name`. Cheaper than [`method`](Self::method), which looks for
    /// valid UTF-8 again.
    pub(crate) fn is_for(&self, name: &str) -> bool {
        self.request.method.as_bytes() == name.as_bytes()
    }

    /// The codec of the bodies of this call.
    pub fn codec(&self) -> &CodecName {
        &self.request.codec
    }

    /// The caller's metadata.
    pub fn metadata(&self) -> &Metadata {
        self.request.metadata()
    }

    /// The size of the request value in bytes.
    pub fn body_len(&self) -> usize {
        self.request.body.bytes.len()
    }

    /// Address of the caller, if the transport has one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.connection.peer
    }

    /// What the handler gets to see of the call, and the request value.
    pub(crate) fn into_call(self) -> (Call, Body) {
        let Inbound { request, id, connection, deadline, .. } = self;
        let attempt = request.attempt();
        let metadata = request.metadata().clone();
        let Request { method, body, .. } = request;
        (Call::new(connection, id, method, metadata, deadline, attempt), body)
    }

    pub(crate) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.connection.mailbox
    }

    /// The streams of this call, made with the first use.
    pub(crate) fn streams(&mut self) -> Key {
        let mailbox = &self.connection.mailbox;
        *self.streams.get_or_insert_with(|| mailbox.answer_stream(self.id))
    }
}
