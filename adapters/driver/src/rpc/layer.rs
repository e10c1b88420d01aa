//! [`Layer`]: code around all calls of a peer.

use std::future::Future;
use std::sync::Arc;

use crate::rpc::dispatch::{Dispatch, Inbound, Response};

/// Code around all calls of a peer, of every shape: authentication, limits, tracing.
///
/// ```
/// use getty_driver::rpc::{Code, Dispatch, Inbound, Layer, Next, Response, Status};
///
/// /// Lets in who knows the word.
/// struct Password(&'static str);
///
/// impl Layer for Password {
///     async fn dispatch<D: Dispatch>(&self, inbound: Inbound, next: Next<'_, D>) -> Response {
///         if inbound.metadata().get("password") != Some(self.0.as_bytes()) {
///             return Err(Status::new(Code::Unauthenticated, "the password is wrong"));
///         }
///         next.run(inbound).await
///     }
/// }
/// ```
pub trait Layer: 'static {
    /// Answers a call, usually by what comes [next](Next::run).
    fn dispatch<D: Dispatch>(&self, inbound: Inbound, next: Next<'_, D>) -> impl Future<Output = Response>;
}

/// What comes after a layer: another one, or the services.
#[derive(Debug)]
pub struct Next<'a, D>(&'a D);

impl<'a, D: Dispatch> Next<'a, D> {
    /// Answers the call.
    pub fn run(self, inbound: Inbound) -> impl Future<Output = Response> + use<'a, D> {
        self.0.dispatch(inbound)
    }
}

/// The layers of [`Services`](super::Services): none, or a list and one more. A function that takes any
/// services names it: `fn f(services: Services<impl Dispatch, impl Layers>)`.
pub trait Layers {
    /// Answers a call: the layers one after the other, then `inner`.
    #[doc(hidden)]
    fn run<D: Dispatch>(&self, inbound: Inbound, inner: &D) -> impl Future<Output = Response>;
}

impl Layers for () {
    fn run<D: Dispatch>(&self, inbound: Inbound, inner: &D) -> impl Future<Output = Response> {
        inner.dispatch(inbound)
    }
}

impl<O: Layers, L: Layer> Layers for (Arc<O>, L) {
    async fn run<D: Dispatch>(&self, inbound: Inbound, inner: &D) -> Response {
        self.0.run(inbound, &Around { layer: &self.1, inner }).await
    }
}

/// A layer around something that answers calls.
struct Around<'a, L, D> {
    layer: &'a L,
    inner: &'a D,
}

impl<L: Layer, D: Dispatch> Dispatch for Around<'_, L, D> {
    fn dispatch(&self, inbound: Inbound) -> impl Future<Output = Response> {
        self.layer.dispatch(inbound, Next(self.inner))
    }
}
