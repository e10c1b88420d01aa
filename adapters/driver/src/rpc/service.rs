//! [`Service`]: methods that are added to a list together.

use std::future::Future;
use std::sync::Arc;

use crate::rpc::dispatch::{Dispatch, Inbound, Response};
use crate::rpc::either::Either;
use crate::rpc::handling::not_served;
use crate::rpc::method_info::MethodInfo;

/// Methods that are added to [`Services`](super::Services) together, by [`add`](super::Services::add).
///
/// ```
/// use getty_driver::rpc::{CallShape, CodecName, Dispatch, Inbound, MethodInfo, Response};
/// use getty_driver::rpc::{Service, Services, Status};
///
/// /// Two methods that are not there yet.
/// struct Later;
///
/// const METHODS: [&str; 2] = ["later.Later/One", "later.Later/Two"];
///
/// impl Service for Later {
///     fn methods(&self) -> Vec<MethodInfo> {
///         METHODS.map(|name| MethodInfo::new(name, CallShape::Unary, vec![CodecName::Raw])).to_vec()
///     }
///
///     fn has(&self, inbound: &Inbound) -> bool {
///         METHODS.contains(&inbound.method())
///     }
/// }
///
/// impl Dispatch for Later {
///     async fn dispatch(&self, inbound: Inbound) -> Response {
///         Err(Status::unavailable(format!("{} comes later", inbound.method())))
///     }
/// }
///
/// let services = Services::new().add(Later);
/// ```
pub trait Service: Dispatch + 'static {
    /// All methods, each once. Called when the service is added.
    fn methods(&self) -> Vec<MethodInfo>;

    /// Whether the call is for one of the methods. Called for each call that is for no method and service
    /// added later, so it should be quick; [`dispatch`](Dispatch::dispatch) gets those for which it is true.
    fn has(&self, inbound: &Inbound) -> bool;
}

impl<S: Service> Service for Option<S> {
    fn methods(&self) -> Vec<MethodInfo> {
        self.as_ref().map_or_else(Vec::new, Service::methods)
    }

    fn has(&self, inbound: &Inbound) -> bool {
        self.as_ref().is_some_and(|service| service.has(inbound))
    }
}

impl<S: Service> Dispatch for Option<S> {
    fn dispatch(&self, inbound: Inbound) -> impl Future<Output = Response> {
        match self {
            Some(service) => Either::Left { future: service.dispatch(inbound) },
            None => Either::Right { future: std::future::ready(not_served(&inbound)) },
        }
    }
}

/// The end of a list: no method.
#[derive(Debug)]
pub struct Nothing(pub(crate) ());

impl Dispatch for Nothing {
    fn dispatch(&self, inbound: Inbound) -> impl Future<Output = Response> {
        std::future::ready(not_served(&inbound))
    }
}

/// A service, and the list that it was added to.
#[derive(Debug)]
pub struct Added<D, S> {
    pub(crate) rest: Arc<D>,
    pub(crate) service: S,
}

impl<D: Dispatch, S: Service> Dispatch for Added<D, S> {
    fn dispatch(&self, inbound: Inbound) -> impl Future<Output = Response> {
        if self.service.has(&inbound) {
            Either::Left { future: self.service.dispatch(inbound) }
        } else {
            Either::Right { future: D::dispatch(&self.rest, inbound) }
        }
    }
}
