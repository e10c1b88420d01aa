//! [`Dispatch`]: what answers the calls of a peer.

use std::any::Any;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use getty_core::Timestamp;
#[cfg(feature = "tls")]
use getty_core::layer::tls::TlsFacts;
use getty_core::rpc::{Body, CallId, CodecName, Coding, Metadata, Reply, Request, Status, Trace};

use crate::rpc::call::Call;
use crate::rpc::entry::Key;
use crate::rpc::extensions::Extensions;
use crate::rpc::mailbox::Mailbox;
use crate::rpc::names::Names;
use crate::rpc::place::Seat;

/// The answer to a call: the body of the result in the codec of the call, with metadata.
pub type Response = Result<Reply, Status>;

/// Answers the calls of a peer. [`Services`](super::Services) does; layers are around it.
///
/// Its future runs in the task of the session, beside the other calls of the same connection. It is dropped
/// when the call is cancelled or its deadline passes, unless the handler [runs on](Call::run_on).
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
    pub(crate) seat: Seat,
    pub(crate) deadline: Option<Timestamp>,
    /// The streams, if there are any yet.
    pub(crate) streams: Option<Key>,
    /// Whether the items that are sent may be compressed.
    pub(crate) items: Coding,
    pub(crate) extensions: Extensions,
}

impl Inbound {
    /// Service and method: `pkg.Service/Method`.
    pub fn method(&self) -> &str {
        self.request.method.as_str()
    }

    /// Whether the call is for the method `name`. Cheaper than [`method`](Self::method), which looks for
    /// valid UTF-8 again.
    pub fn is_for(&self, name: &str) -> bool {
        self.request.method.as_bytes() == name.as_bytes()
    }

    /// The name of the method, if it is one of the service `service` (`pkg.Service`).
    #[inline]
    pub fn method_of(&self, service: &str) -> Option<&[u8]> {
        self.request.method.as_bytes().strip_prefix(service.as_bytes())?.strip_prefix(b"/")
    }

    /// The place of the method in a list.
    pub(crate) fn position(&self, names: &Names) -> Option<usize> {
        names.position(self.request.method.as_bytes())
    }

    /// Whether the method is served on this connection, by any of its services. A name that is not is the
    /// caller's invention: it must not become a key of something that is kept, such as a label of metrics.
    pub fn is_served(&self) -> bool {
        self.position(&self.seat.connection().served).is_some()
    }

    /// The trace that the call is a part of, if its caller named one.
    pub fn trace(&self) -> Option<&Trace> {
        self.request.trace()
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
        self.seat.connection().peer
    }

    /// Gives the call a value, for layers further in and for the handler, which read it with
    /// [`extension`](Self::extension) and [`Call::extension`]. It hides an earlier one of the same type. Each
    /// costs an allocation.
    pub fn set_extension<T: Any + Send + Sync>(&mut self, value: T) {
        self.extensions.set(value);
    }

    /// The value of type `T` that a layer further out has set for this call.
    pub fn extension<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.extensions.get()
    }

    /// The attribute of type `T` of the session, as for [`Call::attribute`].
    pub fn attribute<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.seat.connection().attribute()
    }

    /// The result of the TLS handshake, as for [`Call::tls`].
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<&TlsFacts> {
        self.seat.connection().tls()
    }

    /// What the handler gets to see of the call, and the request value.
    pub(crate) fn into_call(self) -> (Call, Body) {
        let Inbound { request, id, seat, deadline, extensions, .. } = self;
        let Request { method, extra, body, .. } = request;
        (Call::new(seat, id, method, extra, deadline, extensions), body)
    }

    pub(crate) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.seat.connection().mailbox
    }

    /// The streams of this call, made with the first use.
    pub(crate) fn streams(&mut self) -> Key {
        let mailbox = &self.seat.connection().mailbox;
        *self.streams.get_or_insert_with(|| mailbox.answer_stream(self.id))
    }
}
