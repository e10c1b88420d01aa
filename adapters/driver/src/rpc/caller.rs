//! [`Caller`]: calls the other side of a connection.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use getty_core::codec::Text;
use getty_core::rpc::{Coding, Decode, Encode, Executed, Request, Status};

use crate::rpc::call_layer::{CallLayer, CallLayers};
use crate::rpc::calling::{BidiStreaming, Calling, ClientStreaming, OneWay, ServerStreaming, Unary};
use crate::rpc::mailbox::Mailbox;
use crate::rpc::route::Route;
use crate::rpc::streams::encoded;
use crate::rpc::team::Team;

/// Calls the other side of a connection, or of those of a pool ([`peers`](super::peers)). Cheap to clone; all
/// clones use the same.
///
/// # Before the connection is open
/// A call may be posted before the session is open: it waits for that. Its time limit counts from then on,
/// but is looked at only once the session is open or has failed to open. As many calls wait as for an open
/// session ([`ConfigBuilder::max_waiting`](super::ConfigBuilder::max_waiting), by default 1024, and 16 MiB).
/// One more is refused at once ([`ResourceExhausted`](super::Code::ResourceExhausted), not executed). This
/// holds for one connection; [`peers`](super::peers) says what holds for a pool.
pub struct Caller {
    route: Route,
    timeout: Option<Duration>,
    layers: Option<CallLayers>,
    /// Whether what is sent may be compressed.
    coding: Coding,
}

impl Caller {
    /// Calls over one session.
    pub(crate) fn new(mailbox: Arc<Mailbox>) -> Self {
        Self::by(Route::One(mailbox), None, None, Coding::Plain)
    }

    /// Calls over the sessions of a pool.
    pub(super) fn of_team(team: Arc<Team>) -> Self {
        Self::by(Route::to_pool(team), None, None, Coding::Plain)
    }

    fn by(route: Route, timeout: Option<Duration>, layers: Option<CallLayers>, coding: Coding) -> Self {
        route.add_caller();
        Caller { route, timeout, layers, coding }
    }

    /// Sets the time limit of calls that set none themselves. By default there is none.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets whether what this side sends in its calls may be compressed with DEFLATE: values, and the items
    /// of streams. By default nothing is. [`Calling::send_compressed`] sets it for one call.
    ///
    /// A body is compressed if the other side takes that
    /// ([`ConfigBuilder::deflate`](super::ConfigBuilder::deflate) there), if it has at least 1 KiB, and if it
    /// gets smaller. Whether the answers are compressed is for the other side to decide; this one takes such
    /// if its own `deflate` is set. What is sent before the first word of the other side goes as it is.
    ///
    /// Do not compress what has a secret beside something that others choose: to those who see the traffic,
    /// the length of the compressed body tells something about the secret (CRIME, BREACH).
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn send_compressed(mut self, compressed: bool) -> Self {
        self.coding = if compressed { Coding::Compressible } else { Coding::Plain };
        self
    }

    /// Sets the time for which a call without a time limit waits while no session of a pool is open. Default
    /// 10 s. Then it ends with [`Unavailable`](super::Code::Unavailable), not executed. It holds for callers
    /// over a pool only.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.route.set_patience(timeout);
        self
    }

    /// Puts a layer around all calls of this caller and its later clones, inside the layers that it has: the
    /// layer added first sees a call first. With layers a call allocates, for each of them and for the whole;
    /// a caller without any does not.
    #[must_use]
    pub fn layer(mut self, layer: impl CallLayer) -> Self {
        self.layers = Some(CallLayers::with(self.layers.as_ref(), layer));
        self
    }

    /// Calls `method` (`pkg.Service/Method`) with one value, for one answer. Await the result.
    ///
    /// ```
    /// # async fn f(caller: getty_driver::rpc::Caller) -> Result<(), getty_driver::rpc::Status> {
    /// use getty_driver::rpc::Raw;
    ///
    /// let answer: String = caller.call("test.Echo/Echo", Raw, "hello").await?;
    /// # Ok(()) }
    /// ```
    pub fn call<C, Q, A>(&self, method: impl Into<Text>, codec: C, value: &Q) -> Calling<Unary<C, A>>
    where
        C: Encode<Q> + Decode<A>,
        Q: ?Sized,
    {
        let request = self.request(method, &codec, value);
        self.calling(request, Unary::new(codec))
    }

    /// Calls `method` with one value, for a stream of items. Await the result to get the
    /// [`Receiver`](super::Receiver).
    pub fn server_streaming<C, Q, T>(
        &self,
        method: impl Into<Text>,
        codec: C,
        value: &Q,
    ) -> Calling<ServerStreaming<C, T>>
    where
        C: Encode<Q> + Decode<T>,
        Q: ?Sized,
    {
        let request = self.request(method, &codec, value);
        self.calling(request, ServerStreaming::new(codec))
    }

    /// Calls `method` with a stream of items, for one answer. Await the result to get the
    /// [`Sender`](super::Sender) and the [`Answer`](super::Answer).
    pub fn client_streaming<C, T, A>(
        &self,
        method: impl Into<Text>,
        codec: C,
    ) -> Calling<ClientStreaming<C, T, A>>
    where
        C: Encode<T> + Decode<A>,
    {
        let request = Ok(Request { more: true, ..Request::new(method, codec.name(), bytes::Bytes::new()) });
        self.calling(request, ClientStreaming::new(codec))
    }

    /// Calls `method` with a stream of items, for another one. Await the result to get the
    /// [`Sender`](super::Sender) and the [`Receiver`](super::Receiver).
    pub fn bidi_streaming<C, T, U>(
        &self,
        method: impl Into<Text>,
        codec: C,
    ) -> Calling<BidiStreaming<C, T, U>>
    where
        C: Encode<T> + Decode<U>,
    {
        let request = Ok(Request { more: true, ..Request::new(method, codec.name(), bytes::Bytes::new()) });
        self.calling(request, BidiStreaming::new(codec))
    }

    /// Tells `method` a value, for no answer. Await the result to learn that the other side has taken the
    /// call; it does not say whether its handler succeeded.
    pub fn one_way<C, Q>(&self, method: impl Into<Text>, codec: C, value: &Q) -> Calling<OneWay>
    where
        C: Encode<Q>,
        Q: ?Sized,
    {
        let request = self.request(method, &codec, value);
        self.calling(request.map(|request| Request { one_way: true, ..request }), OneWay(()))
    }

    /// Waits until the connection has ended, or no session of the pool can open any longer. Returns the
    /// reason.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn closed(&self) -> Status {
        self.route.closed().await
    }

    /// Whether the connection has ended, or no session of the pool can open any longer.
    pub fn is_closed(&self) -> bool {
        self.route.is_closed()
    }

    fn request<C, Q>(&self, method: impl Into<Text>, codec: &C, value: &Q) -> Result<Request, Status>
    where
        C: Encode<Q>,
        Q: ?Sized,
    {
        let body = encoded(|dst| codec.encode(value, dst));
        let body = body.map_err(|status| status.with_executed(Executed::No))?;
        Ok(Request::new(method, codec.name(), body))
    }

    fn calling<S>(&self, request: Result<Request, Status>, shape: S) -> Calling<S> {
        let request = request.map(|mut request| {
            request.timeout = self.timeout;
            request.body.coding = self.coding;
            request
        });
        Calling { route: self.route.clone(), layers: self.layers.clone(), request, shape }
    }
}

impl Clone for Caller {
    fn clone(&self) -> Self {
        Self::by(self.route.clone(), self.timeout, self.layers.clone(), self.coding)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.route.remove_caller();
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("is_closed", &self.is_closed()).finish_non_exhaustive()
    }
}
