//! [`Call`]: a call as its handler sees it.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use getty_core::Timestamp;
use getty_core::codec::Text;
#[cfg(feature = "tls")]
use getty_core::layer::tls::TlsFacts;
use getty_core::rpc::{CallId, Extra, Frame, Metadata, Trace};

use crate::rpc::caller::Caller;
use crate::rpc::extensions::Extensions;
use crate::rpc::mailbox::Mailbox;
use crate::rpc::names::Names;
use crate::rpc::place::Seat;
use crate::rpc::task::{Spawned, Task, spawned};
use crate::runtime::Spawn;
use crate::session::id::SessionId;
use crate::session::shared::Shared;

/// The connection of a call.
pub(crate) struct Connection {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) session: SessionId,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) peer: Option<SocketAddr>,
    /// What this side serves.
    pub(crate) served: Arc<Names>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Arc<TlsFacts>>,
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
    seat: Seat,
    id: CallId,
    method: Text,
    extra: Option<Box<Extra>>,
    deadline: Option<Timestamp>,
    extensions: Extensions,
}

impl Call {
    pub(crate) fn new(
        seat: Seat,
        id: CallId,
        method: Text,
        extra: Option<Box<Extra>>,
        deadline: Option<Timestamp>,
        extensions: Extensions,
    ) -> Self {
        Call { seat, id, method, extra, deadline, extensions }
    }

    fn connection(&self) -> &Connection {
        self.seat.connection()
    }

    /// Service and method: `pkg.Service/Method`.
    pub fn method(&self) -> &str {
        self.method.as_str()
    }

    /// The caller's metadata.
    pub fn metadata(&self) -> &Metadata {
        static NONE: Metadata = Metadata::new();
        self.extra.as_ref().map_or(&NONE, |extra| &extra.metadata)
    }

    /// The place of this call in a trace, which calls made [within](super::Calling::within) it go on from:
    /// what the caller sent, or what `Traced`, a layer of the feature `tracing`, has made of it.
    pub fn trace(&self) -> Option<&Trace> {
        self.extra.as_ref()?.trace.as_ref()
    }

    /// The time left until the deadline; `None` without one. Zero once it has passed.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(self.connection().now()))
    }

    /// Failed attempts of the caller before this one.
    pub fn attempt(&self) -> u32 {
        self.extra.as_ref().map_or(0, |extra| extra.attempt)
    }

    /// Lets the handler of this call run on, with the layers around it, when the caller gives the call up or
    /// its deadline passes: for work that must not stop halfway. By default the handler is dropped then.
    ///
    /// The caller has its answer at that moment all the same. The handler is woken, so that it can look
    /// [whether it was cancelled](Self::is_cancelled); its streams are over. It counts against
    /// [`Config::max_calls`](super::Config::max_calls), `max_pending_bytes` and every
    /// [`Limit`](super::Limit) until it has ended, so a caller that gives up and calls again starts no more
    /// handlers than those allow.
    ///
    /// A handler that runs on still ends with the task of its session, that is, with the connection. What
    /// must outlive that belongs in a task of the application's own.
    ///
    /// Nothing happens if the call is over already.
    pub fn run_on(&self) {
        self.seat.run_on();
    }

    /// Whether nobody waits for the answer any longer: the caller gave the call up, its deadline has passed,
    /// the connection has ended, or the handler has. For handlers that [run on](Self::run_on), and for their
    /// threads and tasks.
    pub fn is_cancelled(&self) -> bool {
        self.seat.is_over()
    }

    /// Waits, in any task or thread, until the call [is cancelled](Self::is_cancelled).
    ///
    /// # Cancel safety
    /// The future can be dropped and made again at any time.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + Sync + Unpin + use<> {
        self.seat.watch()
    }

    /// Runs `future`, a part of the handler, in a task of its own, and returns what it returns: for work that
    /// keeps a processor busy, which would stop the other calls of the connection.
    ///
    /// ```
    /// use getty_driver::rpc::{Call, Raw, Services, Status};
    /// # #[derive(Clone)]
    /// # struct Spawner;
    /// # impl<F> getty_driver::Spawn<F> for Spawner { fn spawn(&self, _: F) {} }
    ///
    /// async fn render(page: String) -> String {
    ///     page // after a while
    /// }
    ///
    /// # let spawner = Spawner;
    /// let services = Services::new().method("page.Page/Render", Raw, move |call: Call, page: String| {
    ///     let spawner = spawner.clone();
    ///     async move { call.spawn(&spawner, render(page)).await }
    /// });
    /// ```
    ///
    /// A cancel or deadline wakes the task, which drops `future` at its next `.await`. The handler, with its
    /// layers and limits, is dropped only after that: work that was given up counts for as long as it lasts.
    /// Where the handler [runs on](Self::run_on), so does this part of it. Dropping the future that this
    /// returns drops `future` as well, but the call does not wait for that.
    ///
    /// Use it where an answer takes more than about a millisecond of computing. For less, the way to another
    /// thread and back costs more than it gains. What blocks a thread belongs in the runtime's pool for that,
    /// not here.
    ///
    /// # Errors
    /// [`Internal`](super::Code::Internal): `future` panicked. [`Cancelled`](super::Code::Cancelled): it was
    /// dropped, because the call is over. [`Unavailable`](super::Code::Unavailable): the spawner dropped it.
    pub fn spawn<S, F>(&self, spawner: &S, future: F) -> Spawned<F::Output>
    where
        S: Spawn<Task<F>>,
        F: Future,
    {
        spawned(&self.seat, spawner, future)
    }

    /// What is served on this connection.
    #[cfg(feature = "json")]
    pub(crate) fn served(&self) -> &Names {
        &self.connection().served
    }

    /// Adds metadata to the answer.
    ///
    /// # Errors
    /// [`MetadataError`](super::MetadataError) names the limit.
    pub fn reply_metadata(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), super::MetadataError> {
        self.connection().mailbox.add_reply_metadata(self.id, key, value.as_ref())
    }

    /// Calls back on the same connection.
    pub fn peer(&self) -> Caller {
        Caller::new(self.connection().mailbox.clone())
    }

    /// The number of the session, unique in this process.
    pub fn session_id(&self) -> SessionId {
        self.connection().session
    }

    /// The local address, if the transport has one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.connection().local
    }

    /// The peer's address, if the transport has one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.connection().peer
    }

    /// The value of type `T` that a [layer](super::Layer) has set for this call with
    /// [`Inbound::set_extension`](super::Inbound::set_extension): who calls, for example.
    pub fn extension<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.extensions.get()
    }

    /// The attribute of type `T` of the session: set by [`Services::on_connect`](super::Services::on_connect)
    /// through [`Opening::set_attribute`](super::Opening::set_attribute), or by a listener around that of the
    /// services through [`Context::set_attribute`](crate::Context::set_attribute). `None` once the session
    /// has ended.
    pub fn attribute<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.connection().attribute()
    }

    /// The result of the TLS handshake: the client's certificates as far as
    /// [`ClientCertificates`](crate::tls::ClientCertificates) has them verified, the name it asked for, the
    /// application protocol. `None` without TLS, and behind a proxy that ends it.
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<&TlsFacts> {
        self.connection().tls()
    }
}
