//! [`CallLayer`]: code around the calls of a caller.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use getty_core::rpc::{CodecName, Metadata, MetadataError, Request, Trace};

use crate::rpc::dispatch::Response;
use crate::rpc::layered::Inside;

/// Code around the calls of a [`Caller`](super::Caller), of every shape: credentials, measuring, limits,
/// another status. Add it with [`Caller::layer`](super::Caller::layer).
///
/// ```
/// use std::sync::Arc;
///
/// use getty_driver::rpc::{CallLayer, CallNext, Outbound, Response, Status};
///
/// # struct Tokens;
/// # impl Tokens { async fn get(&self) -> Result<String, Status> { Ok(String::new()) } }
/// /// Adds a token to each call, which may have to be fetched first.
/// struct Bearer(Arc<Tokens>);
///
/// impl CallLayer for Bearer {
///     async fn call(&self, mut outbound: Outbound, next: CallNext<'_>) -> Response {
///         let token = self.0.get().await?;
///         let added = outbound.add_metadata("authorization", format!("Bearer {token}"));
///         added.map_err(|error| Status::internal(error.to_string()))?;
///         next.run(outbound).await
///     }
/// }
/// ```
///
/// # The life of a call
/// The future lives as long as the call, and its result is the end of the call: the answer, for a stream
/// what comes after the last item. A layer that does not call [`next`](CallNext::run) refuses the call. If
/// the call is given up, the future is dropped; if the layer drops the future of what comes next, the call
/// is given up.
///
/// Who reads the call drives the future: awaiting a stream, until the call is posted, and then its
/// [`Receiver`](super::Receiver) or [`Answer`](super::Answer), not its [`Sender`](super::Sender).
///
/// # Time
/// The time limit of a call counts from when it is awaited, in layers too. It is looked at once the call is
/// posted: a layer that waits for something else limits that itself.
pub trait CallLayer: Send + Sync + 'static {
    /// Makes a call, usually by what comes [next](CallNext::run).
    fn call(&self, outbound: Outbound, next: CallNext<'_>) -> impl Future<Output = Response> + Send;
}

/// [`CallLayer`] as an object.
trait AnyLayer: Send + Sync {
    fn call<'a>(
        &'a self,
        outbound: Outbound,
        next: CallNext<'a>,
    ) -> Pin<Box<dyn Future<Output = Response> + Send + 'a>>;
}

impl<L: CallLayer> AnyLayer for L {
    fn call<'a>(
        &'a self,
        outbound: Outbound,
        next: CallNext<'a>,
    ) -> Pin<Box<dyn Future<Output = Response> + Send + 'a>> {
        Box::pin(CallLayer::call(self, outbound, next))
    }
}

/// The layers of a caller. The first one sees a call first.
#[derive(Clone)]
pub(super) struct CallLayers(Arc<[Arc<dyn AnyLayer>]>);

impl CallLayers {
    /// These layers and one more, inside of them.
    pub(super) fn with(layers: Option<&Self>, layer: impl CallLayer) -> Self {
        let before = layers.map_or(&[][..], |layers| &layers.0);
        let added: Arc<dyn AnyLayer> = Arc::new(layer);
        CallLayers(before.iter().cloned().chain([added]).collect())
    }
}

impl fmt::Debug for CallLayers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallLayers").field(&self.0.len()).finish()
    }
}

/// What comes after a layer: another one, or the call itself.
pub struct CallNext<'a> {
    layers: &'a [Arc<dyn AnyLayer>],
    inside: &'a Inside,
}

impl<'a> CallNext<'a> {
    pub(super) fn new(layers: &'a CallLayers, inside: &'a Inside) -> Self {
        CallNext { layers: &layers.0, inside }
    }

    /// Makes the call, and waits for its end.
    ///
    /// # Cancel safety
    /// Dropping the future gives the call up.
    pub async fn run(self, outbound: Outbound) -> Response {
        match self.layers.split_first() {
            Some((layer, layers)) => layer.call(outbound, CallNext { layers, ..self }).await,
            None => self.inside.call(outbound.into_request()).await,
        }
    }
}

impl fmt::Debug for CallNext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallNext").field("layers", &self.layers.len()).finish_non_exhaustive()
    }
}

/// The shape of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallShape {
    /// One value, one answer.
    Unary,
    /// One value, no answer.
    OneWay,
    /// One value, a stream of items.
    ServerStreaming,
    /// A stream of items, one answer.
    ClientStreaming,
    /// A stream of items, another one.
    BidiStreaming,
}

/// A call on its way to the other side, as layers see it.
#[derive(Debug)]
pub struct Outbound {
    request: Request,
    shape: CallShape,
    /// When the call was awaited.
    begun: Instant,
}

impl Outbound {
    pub(super) fn new(request: Request, shape: CallShape) -> Self {
        Outbound { request, shape, begun: Instant::now() }
    }

    /// Service and method: `pkg.Service/Method`.
    pub fn method(&self) -> &str {
        self.request.method.as_str()
    }

    /// The shape of the call.
    pub fn shape(&self) -> CallShape {
        self.shape
    }

    /// The codec of the bodies of this call.
    pub fn codec(&self) -> &CodecName {
        &self.request.codec
    }

    /// The size of the request value in bytes; 0 for a call that sends a stream.
    pub fn body_len(&self) -> usize {
        self.request.body.bytes.len()
    }

    /// The metadata that goes with the call.
    pub fn metadata(&self) -> &Metadata {
        self.request.metadata()
    }

    /// Adds metadata.
    ///
    /// # Errors
    /// [`MetadataError`] names the limit.
    pub fn add_metadata(&mut self, key: &str, value: impl AsRef<[u8]>) -> Result<(), MetadataError> {
        self.request.metadata_mut().insert(key, value)
    }

    /// The time limit, counted from when the call was awaited; `None` without one.
    pub fn timeout(&self) -> Option<Duration> {
        self.request.timeout
    }

    /// Sets the time limit, counted from when the call was awaited.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.request.timeout = timeout;
    }

    /// The trace that the call belongs to.
    pub fn trace(&self) -> Option<&Trace> {
        self.request.trace()
    }

    /// Sets the trace that the call belongs to.
    pub fn set_trace(&mut self, trace: Option<Trace>) {
        self.request.set_trace(trace);
    }

    /// Failed attempts before this one, as far as the caller made them itself. A call that moves between the
    /// sessions of a pool passes the layers once.
    pub fn attempt(&self) -> u32 {
        self.request.attempt()
    }

    fn into_request(self) -> Request {
        let passed = self.begun.elapsed();
        let timeout = self.request.timeout.map(|timeout| timeout.saturating_sub(passed));
        Request { timeout, ..self.request }
    }
}
