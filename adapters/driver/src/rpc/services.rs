//! [`Services`]: what a side serves.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use getty_core::Items;
use getty_core::rpc::{Codec, Config, Decode, Encode, Frame, Side, Status};

use crate::rpc::call::Call;
use crate::rpc::caller::Caller;
use crate::rpc::dispatch::{Dispatch, Inbound, Response};
use crate::rpc::either::Either;
use crate::rpc::handling::{answer, call, choose, ended, receiver, sender, value};
use crate::rpc::layer::{Layer, Layers};
use crate::rpc::listener::{RpcListener, Terms};
use crate::rpc::mailbox::Mailbox;
use crate::rpc::method_info::MethodInfo;
use crate::rpc::names::Names;
use crate::rpc::opening::Opening;
use crate::rpc::service::{Added, Nothing, Service};
use crate::rpc::streams::{Receiver, Sender};
use crate::rpc::team::Source;
use crate::session::listener::{Listener, Refuse};

/// The services of a side: a list of methods and services, and layers around them.
///
/// ```
/// use getty_driver::rpc::{Raw, Services, Status};
///
/// let services = Services::new()
///     .method("test.Echo/Echo", Raw, |_call, text: String| async move { Ok::<_, Status>(text) });
/// ```
///
/// A list is a [`Service`] too, so that parts of a program can make lists of their own:
///
/// ```
/// use getty_driver::rpc::{Limit, Raw, Services, Status};
///
/// # let has_admin = true;
/// let admin = Services::new()
///     .method("admin.Admin/Build", Raw, |_call, (): ()| async { Ok::<_, Status>("42".to_owned()) })
///     .layer(Limit::new(1)); // of the calls to this part
/// let services = Services::new()
///     .method("test.Echo/Echo", Raw, |_call, text: String| async move { Ok::<_, Status>(text) })
///     .add(has_admin.then_some(admin))
///     .layer(Limit::new(1000)); // of all calls
/// ```
///
/// Cheap to share: [`listener`](Self::listener) makes a listener for one session after the other.
/// Each method is a part of the list's type: a crate that adds more than 32 of them may need
/// `#![recursion_limit = "256"]`.
pub struct Services<D = Nothing, L = ()> {
    /// One reference for each connection.
    served: Arc<Served<D, L>>,
    methods: Arc<Names>,
    terms: Arc<Terms>,
    /// The setting of connections that was made last.
    set: Option<&'static str>,
}

/// A list of methods, and the layers around it.
struct Served<D, L> {
    dispatch: Arc<D>,
    layers: Arc<L>,
}

/// [`Services`] with one more method.
pub type With<D, L, C, H, S> = Services<Method<D, C, H, S>, L>;

impl Services {
    /// Makes an empty list, with the default limits.
    pub fn new() -> Self {
        Services {
            served: Arc::new(Served { dispatch: Arc::new(Nothing(())), layers: Arc::new(()) }),
            methods: Arc::default(),
            terms: Arc::default(),
            set: None,
        }
    }
}

impl Default for Services {
    fn default() -> Self {
        Self::new()
    }
}

impl<D: Dispatch + 'static, L: Layers + 'static> Services<D, L> {
    /// Sets the limits of each connection. Frames are limited by the session's `Config::max_frame` and
    /// `max_message` too; a session with less than 64 KiB is refused.
    #[must_use]
    pub fn config(mut self, config: Arc<Config>) -> Self {
        self.terms_mut().config = config;
        self.set = Some("config");
        self
    }

    /// Sets the limits of the time of calls: a shorter time is raised to `min`, a longer one cut to `max`,
    /// and a call without any has `default`. By default there is no limit, and a caller may keep a handler at
    /// work for as long as it likes.
    ///
    /// # Panics
    /// Panics unless `min <= default <= max`.
    #[must_use]
    pub fn deadlines(mut self, min: Duration, max: Duration, default: Duration) -> Self {
        let config = self.terms.config.to_builder().deadlines(min, max, default).build();
        self.terms_mut().config = config.unwrap_or_else(|error| panic!("{error}"));
        self.set = Some("deadlines");
        self
    }

    /// Calls `decide` when a connection opens, with the way to call the other side, and the [`Opening`]. An
    /// error refuses the connection.
    ///
    /// What is decided once for all calls of a connection becomes an attribute, which handlers and layers
    /// read:
    ///
    /// ```
    /// use getty_driver::rpc::{Call, Raw, Services, Status};
    ///
    /// struct Network(&'static str);
    ///
    /// let services = Services::new()
    ///     .method("test.Where/Am", Raw, |call: Call, (): ()| async move {
    ///         let network = call.attribute::<Network>().map_or("nowhere", |network| network.0);
    ///         Ok::<_, Status>(network.to_owned())
    ///     })
    ///     .on_connect(|_peer, opening| {
    ///         let Some(address) = opening.opened().peer else { return Err("who are you?".into()) };
    ///         let is_near = address.ip().is_loopback();
    ///         opening.set_attribute(Network(if is_near { "near" } else { "far" }));
    ///         Ok(())
    ///     });
    /// ```
    #[must_use]
    pub fn on_connect<F>(mut self, decide: F) -> Self
    where
        F: Fn(Caller, &mut Opening<'_>) -> Result<(), Refuse> + Send + Sync + 'static,
    {
        self.terms_mut().on_connect = Some(Arc::new(decide));
        self.set = Some("on_connect");
        self
    }

    /// Sets the age at which a connection goes away, give or take a tenth, so that its callers connect anew:
    /// for servers behind a balancer. Calls under way finish. By default connections live for any time.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.terms_mut().max_age = Some(age);
        self.set = Some("max_age");
        self
    }

    /// Adds a method (`pkg.Service/Method`) with one value, for one answer.
    ///
    /// # Panics
    /// Panics if there is a method of this name already.
    pub fn method<C, Q, A, E, H, F>(
        self,
        name: &str,
        codec: C,
        handler: H,
    ) -> With<D, L, C, H, shape::Unary<Q>>
    where
        C: Decode<Q> + Encode<A>,
        H: Fn(Call, Q) -> F + 'static,
        F: Future<Output = Result<A, E>>,
        E: Into<Status>,
        Q: 'static,
    {
        self.with(name, codec, handler)
    }

    /// Adds a method with one value, for a stream of items.
    ///
    /// # Panics
    /// Panics if there is a method of this name already.
    pub fn server_streaming<C, Q, T, E, H, F>(
        self,
        name: &str,
        codec: C,
        handler: H,
    ) -> With<D, L, C, H, shape::ServerStreaming<Q, T>>
    where
        C: Decode<Q> + Encode<T>,
        H: Fn(Call, Q, Sender<T>) -> F + 'static,
        F: Future<Output = Result<(), E>>,
        E: Into<Status>,
        Q: 'static,
        T: 'static,
    {
        self.with(name, codec, handler)
    }

    /// Adds a method with a stream of items, for one answer.
    ///
    /// # Panics
    /// Panics if there is a method of this name already.
    pub fn client_streaming<C, T, A, E, H, F>(
        self,
        name: &str,
        codec: C,
        handler: H,
    ) -> With<D, L, C, H, shape::ClientStreaming<T>>
    where
        C: Decode<T> + Encode<A>,
        H: Fn(Call, Receiver<T>) -> F + 'static,
        F: Future<Output = Result<A, E>>,
        E: Into<Status>,
        T: 'static,
    {
        self.with(name, codec, handler)
    }

    /// Adds a method with a stream of items, for another one.
    ///
    /// # Panics
    /// Panics if there is a method of this name already.
    pub fn bidi_streaming<C, T, U, E, H, F>(
        self,
        name: &str,
        codec: C,
        handler: H,
    ) -> With<D, L, C, H, shape::BidiStreaming<T, U>>
    where
        C: Decode<T> + Encode<U>,
        H: Fn(Call, Receiver<T>, Sender<U>) -> F + 'static,
        F: Future<Output = Result<(), E>>,
        E: Into<Status>,
        T: 'static,
        U: 'static,
    {
        self.with(name, codec, handler)
    }

    fn with<C, H, S>(mut self, name: &str, codec: C, handler: H) -> With<D, L, C, H, S>
    where
        C: Codec,
        S: shape::Shape,
    {
        let name: Arc<str> = name.into();
        let method = MethodInfo::new(name.clone(), S::SHAPE, vec![codec.name()]);
        Arc::make_mut(&mut self.methods).insert(method);
        self.map(|rest| Method { rest, name, codec, handler, shape: PhantomData })
    }

    /// Adds a service with all its methods: what a macro has made of a trait, another list, or an `Option` of
    /// one. `None` adds nothing.
    ///
    /// The layers of a list that is added are around its own methods, and within those of this list.
    ///
    /// # Panics
    /// Panics if there is a method of one of its names already. Panics if it is a list with settings of
    /// connections ([`config`](Self::config), [`deadlines`](Self::deadlines),
    /// [`on_connect`](Self::on_connect), [`max_age`](Self::max_age)): those belong to the outermost list.
    #[expect(clippy::should_implement_trait, reason = "nobody takes a list for a number")]
    pub fn add<S: Service>(mut self, service: S) -> Services<Added<D, S>, L> {
        let methods = Arc::make_mut(&mut self.methods);
        service.methods().into_iter().for_each(|method| methods.insert(method));
        self.map(|rest| Added { rest, service })
    }

    /// Changes what answers calls.
    fn map<N>(self, change: impl FnOnce(Arc<D>) -> N) -> Services<N, L> {
        let Services { served, methods, terms, set } = self;
        let dispatch = Arc::new(change(served.dispatch.clone()));
        let served = Arc::new(Served { dispatch, layers: served.layers.clone() });
        Services { served, methods, terms, set }
    }

    /// Puts a layer around all methods and services, whenever they are added. The layer added first sees a
    /// call first.
    pub fn layer<N: Layer>(self, layer: N) -> Services<D, (Arc<L>, N)> {
        let Services { served, methods, terms, set } = self;
        let layers = Arc::new((served.layers.clone(), layer));
        let served = Arc::new(Served { dispatch: served.dispatch.clone(), layers });
        Services { served, methods, terms, set }
    }

    fn terms_mut(&mut self) -> &mut Terms {
        Arc::make_mut(&mut self.terms)
    }

    /// Makes a listener for one session of a server.
    pub fn listener(&self) -> impl Listener<Items<Frame>> + use<D, L> {
        self.end(Side::Accepting, Mailbox::new(&self.terms.config))
    }

    /// Makes one end of a connection.
    pub(crate) fn end(&self, side: Side, mailbox: Arc<Mailbox>) -> impl Listener<Items<Frame>> + use<D, L> {
        self.end_in(side, mailbox, None)
    }

    /// Makes one end of a connection, which may be one of a pool.
    pub(super) fn end_in(
        &self,
        side: Side,
        mailbox: Arc<Mailbox>,
        source: Option<Arc<Source>>,
    ) -> impl Listener<Items<Frame>> + use<D, L> {
        let served = self.served.clone();
        let methods = self.methods.clone();
        RpcListener::new(self.terms.clone(), side, methods, mailbox, source, move |inbound| {
            let served = served.clone();
            async move { served.layers.run(inbound, &served.dispatch).await }
        })
    }

    /// The limits of each connection.
    pub(super) fn limits(&self) -> &Arc<Config> {
        &self.terms.config
    }
}

/// Makes one end of a connection: a listener for the session, and a [`Caller`] for calls to the other side.
/// For the side that connects; [`Call::peer`] is the way back from the other.
pub fn peer<D, L>(services: Services<D, L>) -> (impl Listener<Items<Frame>>, Caller)
where
    D: Dispatch + 'static,
    L: Layers + 'static,
{
    let mailbox = Mailbox::new(&services.terms.config);
    let caller = Caller::new(mailbox.clone());
    (services.end(Side::Connecting, mailbox), caller)
}

impl<D, L> Clone for Services<D, L> {
    fn clone(&self) -> Self {
        let Services { served, methods, terms, set } = self;
        Services { served: served.clone(), methods: methods.clone(), terms: terms.clone(), set: *set }
    }
}

impl<D, L> fmt::Debug for Services<D, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").field("methods", &self.methods).finish_non_exhaustive()
    }
}

impl<D: Dispatch, L: Layers> Dispatch for Services<D, L> {
    fn dispatch(&self, inbound: Inbound) -> impl Future<Output = Response> {
        self.served.layers.run(inbound, &self.served.dispatch)
    }
}

impl<D: Dispatch + 'static, L: Layers + 'static> Service for Services<D, L> {
    fn methods(&self) -> Vec<MethodInfo> {
        if let Some(set) = self.set {
            panic!("`{set}` is set in a list that is added to another: set it in the outermost one");
        }
        self.methods.iter().cloned().collect()
    }

    fn has(&self, inbound: &Inbound) -> bool {
        inbound.position(&self.methods).is_some()
    }
}

/// A method, and the list that it was added to.
pub struct Method<D, C, H, S> {
    rest: Arc<D>,
    name: Arc<str>,
    codec: C,
    handler: H,
    shape: PhantomData<fn() -> S>,
}

impl<D, C, H, S> fmt::Debug for Method<D, C, H, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Method").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The shapes of methods.
pub mod shape {
    use std::marker::PhantomData;

    use crate::rpc::call_layer::CallShape;

    /// A shape, as a type.
    pub trait Shape {
        /// The same as a value.
        const SHAPE: CallShape;
    }

    impl<Q> Shape for Unary<Q> {
        const SHAPE: CallShape = CallShape::Unary;
    }

    impl<Q, T> Shape for ServerStreaming<Q, T> {
        const SHAPE: CallShape = CallShape::ServerStreaming;
    }

    impl<T> Shape for ClientStreaming<T> {
        const SHAPE: CallShape = CallShape::ClientStreaming;
    }

    impl<T, U> Shape for BidiStreaming<T, U> {
        const SHAPE: CallShape = CallShape::BidiStreaming;
    }

    /// One value, one answer.
    #[derive(Debug)]
    pub struct Unary<Q>(PhantomData<fn(Q)>);
    /// One value, a stream of items.
    #[derive(Debug)]
    pub struct ServerStreaming<Q, T>(PhantomData<fn(Q) -> T>);
    /// A stream of items, one answer.
    #[derive(Debug)]
    pub struct ClientStreaming<T>(PhantomData<fn(T)>);
    /// A stream of items, another one.
    #[derive(Debug)]
    pub struct BidiStreaming<T, U>(PhantomData<fn(T) -> U>);
}

impl<D, C, H, Q, A, E, F> Dispatch for Method<D, C, H, shape::Unary<Q>>
where
    D: Dispatch,
    C: Decode<Q> + Encode<A>,
    H: Fn(Call, Q) -> F,
    F: Future<Output = Result<A, E>>,
    E: Into<Status>,
{
    fn dispatch(&self, inbound: Inbound) -> impl Future<Output = Response> {
        if !inbound.is_for(&self.name) {
            return Either::Right { future: D::dispatch(&self.rest, inbound) };
        }
        let future = async move {
            let codec = choose(&self.codec, &inbound)?;
            let (call, value) = value(inbound, &codec)?;
            answer((self.handler)(call, value).await.map_err(Into::<Status>::into), &codec)
        };
        Either::Left { future }
    }
}

impl<D, C, H, Q, T, E, F> Dispatch for Method<D, C, H, shape::ServerStreaming<Q, T>>
where
    D: Dispatch,
    C: Decode<Q> + Encode<T>,
    H: Fn(Call, Q, Sender<T>) -> F,
    F: Future<Output = Result<(), E>>,
    E: Into<Status>,
{
    fn dispatch(&self, inbound: Inbound) -> impl Future<Output = Response> {
        if !inbound.is_for(&self.name) {
            return Either::Right { future: D::dispatch(&self.rest, inbound) };
        }
        let future = async move {
            let mut inbound = inbound;
            let codec = choose(&self.codec, &inbound)?;
            let sender = sender(&mut inbound, &codec);
            let (call, value) = value(inbound, &codec)?;
            ended((self.handler)(call, value, sender).await.map_err(Into::<Status>::into), &codec)
        };
        Either::Left { future }
    }
}

impl<D, C, H, T, A, E, F> Dispatch for Method<D, C, H, shape::ClientStreaming<T>>
where
    D: Dispatch,
    C: Decode<T> + Encode<A>,
    H: Fn(Call, Receiver<T>) -> F,
    F: Future<Output = Result<A, E>>,
    E: Into<Status>,
{
    fn dispatch(&self, inbound: Inbound) -> impl Future<Output = Response> {
        if !inbound.is_for(&self.name) {
            return Either::Right { future: D::dispatch(&self.rest, inbound) };
        }
        let future = async move {
            let mut inbound = inbound;
            let codec = choose(&self.codec, &inbound)?;
            let receiver = receiver(&mut inbound, &codec);
            answer((self.handler)(call(inbound), receiver).await.map_err(Into::<Status>::into), &codec)
        };
        Either::Left { future }
    }
}

impl<D, C, H, T, U, E, F> Dispatch for Method<D, C, H, shape::BidiStreaming<T, U>>
where
    D: Dispatch,
    C: Decode<T> + Encode<U>,
    H: Fn(Call, Receiver<T>, Sender<U>) -> F,
    F: Future<Output = Result<(), E>>,
    E: Into<Status>,
{
    fn dispatch(&self, inbound: Inbound) -> impl Future<Output = Response> {
        if !inbound.is_for(&self.name) {
            return Either::Right { future: D::dispatch(&self.rest, inbound) };
        }
        let future = async move {
            let mut inbound = inbound;
            let codec = choose(&self.codec, &inbound)?;
            let receiver = receiver(&mut inbound, &codec);
            let sender = sender(&mut inbound, &codec);
            ended((self.handler)(call(inbound), receiver, sender).await.map_err(Into::<Status>::into), &codec)
        };
        Either::Left { future }
    }
}
