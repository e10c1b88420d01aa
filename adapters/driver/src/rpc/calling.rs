//! [`Calling`]: a call that has not begun.

use std::future::{IntoFuture, poll_fn};
use std::marker::PhantomData;
use std::time::Duration;

use getty_core::rpc::{Code, Coding, Decode, Encode, Executed, Metadata, Request, Status, Trace};

use crate::rpc::answer::{Answer, Taken};
use crate::rpc::call::Call;
use crate::rpc::call_layer::{CallLayers, CallShape, Outbound};
use crate::rpc::error::MethodError;
use crate::rpc::layered::Layered;
use crate::rpc::opening_call::{Opened, OpeningCall, Streaming};
use crate::rpc::outgoing::Outgoing;
use crate::rpc::posted::Reads;
use crate::rpc::route::Route;
use crate::rpc::streams::{Receiver, Sender};

/// A call that has not begun: options, then `await`.
#[must_use = "a call begins when it is awaited"]
#[derive(Debug)]
pub struct Calling<S> {
    pub(super) route: Route,
    pub(super) layers: Option<CallLayers>,
    pub(super) request: Result<Request, Status>,
    pub(super) shape: S,
}

impl<S> Calling<S> {
    /// Sets the time limit of the call, which begins when it is awaited. What is left of it goes with the
    /// request, and both sides end the call when it is over.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.change(|request| {
            request.timeout = Some(timeout);
            Ok(())
        })
    }

    /// Adds metadata. A key or value over the limits fails the call ([`Code::InvalidArgument`]).
    pub fn metadata(self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.change(|request| request.metadata_mut().insert(key, value).map_err(|error| error.to_string()))
    }

    /// Sets whether what this side sends for the call may be compressed, the value or the items of its
    /// stream: as [`Caller::send_compressed`](super::Caller::send_compressed) does for all calls.
    #[cfg(feature = "deflate")]
    pub fn send_compressed(self, compressed: bool) -> Self {
        self.change(|request| {
            request.body.coding = if compressed { Coding::Compressible } else { Coding::Plain };
            Ok(())
        })
    }

    /// Sets the trace that the call belongs to, in the form of W3C Trace Context.
    pub fn trace(self, trace: Trace) -> Self {
        self.change(|request| {
            request.set_trace(Some(trace));
            Ok(())
        })
    }

    /// Makes the call a part of `call`: it has no more time than is left of that one, and belongs to the same
    /// [trace](Call::trace). If that one is a
    /// repetition, this one says so too ([`Call::attempt`]), and is not repeated after a refusal by a limit,
    /// so that attempts do not multiply from service to service.
    pub fn within(self, call: &Call) -> Self {
        self.change(|request| {
            request.timeout = [request.timeout, call.remaining()].into_iter().flatten().min();
            request.set_attempt(request.attempt().max(call.attempt()));
            if let Some(trace) = call.trace() {
                request.set_trace(Some(trace.clone()));
            }
            Ok(())
        })
    }

    fn change(mut self, change: impl FnOnce(&mut Request) -> Result<(), String>) -> Self {
        if let Ok(request) = &mut self.request {
            if let Err(text) = change(request) {
                self.request = Err(Status::new(Code::InvalidArgument, text).with_executed(Executed::No));
            }
        }
        self
    }

    /// Begins a call for one answer.
    fn begin(self, shape: CallShape) -> Outgoing {
        match (self.request, self.layers) {
            (Ok(request), None) => Outgoing::begin(self.route, request, Reads::Answer),
            (Ok(request), Some(layers)) => {
                Outgoing::layered(Layered::new(layers, self.route, Outbound::new(request, shape)))
            }
            (Err(status), _) => Outgoing::ended(Err(status)),
        }
    }

    /// Begins a call with streams.
    fn open(self) -> OpeningCall<S>
    where
        S: Streaming,
    {
        OpeningCall::new(self.route, self.layers, self.request, self.shape)
    }
}

impl<S: Shape> Calling<S> {
    /// Sets the error type of the method, for a method that has one of its own: the call fails with a
    /// [`CallError`](super::CallError) of it. What a macro makes of a trait does this itself.
    ///
    /// ```
    /// # use std::fmt;
    /// use getty_driver::rpc::{self, CallError, Caller, Json};
    ///
    /// #[derive(Debug, serde::Serialize, serde::Deserialize, rpc::Error)]
    /// #[rpc(code = NotFound)]
    /// struct NoRoom {
    ///     name: String,
    /// }
    ///
    /// # impl fmt::Display for NoRoom {
    /// #     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "no room {}", self.name) }
    /// # }
    /// # async fn f(caller: Caller) {
    /// let size: Result<u32, _> = caller.call("house.Rooms/Size", Json, "blue").with_error::<NoRoom>().await;
    /// match size {
    ///     Ok(size) => println!("{size} m2"),
    ///     Err(CallError::App(NoRoom { name })) => println!("there is no room {name}"),
    ///     Err(CallError::Status(status)) => println!("{status}"),
    /// }
    /// # }
    /// ```
    pub fn with_error<E>(self) -> Calling<S::With<E>> {
        let Calling { route, layers, request, shape } = self;
        Calling { route, layers, request, shape: shape.with() }
    }
}

/// The shape of a call whose method may have an error type of its own.
pub trait Shape {
    /// The shape with this error type.
    type With<E>;

    #[doc(hidden)]
    fn with<E>(self) -> Self::With<E>;
}

/// A call with one value, for one answer.
#[derive(Debug)]
pub struct Unary<C, A, E = Status> {
    codec: C,
    result: PhantomData<fn() -> (A, E)>,
}

impl<C, A> Unary<C, A> {
    pub(super) fn new(codec: C) -> Self {
        Unary { codec, result: PhantomData }
    }
}

impl<C, A, E> Shape for Unary<C, A, E> {
    type With<N> = Unary<C, A, N>;

    fn with<N>(self) -> Unary<C, A, N> {
        Unary { codec: self.codec, result: PhantomData }
    }
}

impl<C: Decode<A>, A, E: MethodError<C>> Calling<Unary<C, A, E>> {
    /// Makes the call, and returns the metadata of the answer with it.
    ///
    /// # Errors
    /// As for the call itself.
    pub async fn with_metadata(self) -> Result<(A, Metadata), E::Failure> {
        let mut answer = self.into_future();
        let read = async {
            let reply = poll_fn(|cx| answer.call.poll_answer(cx)).await?;
            let metadata = reply.metadata.clone();
            Ok((answer.decode(reply)?, metadata))
        };
        let read = read.await;
        read.map_err(|status| answer.failure(status))
    }
}

impl<C: Decode<A>, A, E: MethodError<C>> IntoFuture for Calling<Unary<C, A, E>> {
    type Output = Result<A, E::Failure>;
    type IntoFuture = Answer<C, A, E>;

    fn into_future(self) -> Answer<C, A, E> {
        let codec = self.shape.codec.clone();
        Answer::new(self.begin(CallShape::Unary), codec)
    }
}

/// A call with one value, for a stream.
#[derive(Debug)]
pub struct ServerStreaming<C, T, E = Status> {
    codec: C,
    types: PhantomData<fn() -> (T, E)>,
}

impl<C, T> ServerStreaming<C, T> {
    pub(super) fn new(codec: C) -> Self {
        ServerStreaming { codec, types: PhantomData }
    }
}

impl<C, T, E> Shape for ServerStreaming<C, T, E> {
    type With<N> = ServerStreaming<C, T, N>;

    fn with<N>(self) -> ServerStreaming<C, T, N> {
        ServerStreaming { codec: self.codec, types: PhantomData }
    }
}

impl<C: Decode<T>, T, E: MethodError<C> + 'static> IntoFuture for Calling<ServerStreaming<C, T, E>> {
    type Output = Result<Receiver<T, E::Failure>, E::Failure>;
    type IntoFuture = OpeningCall<ServerStreaming<C, T, E>>;

    fn into_future(self) -> Self::IntoFuture {
        self.open()
    }
}

impl<C: Decode<T>, T, E: MethodError<C> + 'static> Streaming for ServerStreaming<C, T, E> {
    type Handles = Receiver<T, E::Failure>;
    type Failure = E::Failure;

    const SHAPE: CallShape = CallShape::ServerStreaming;

    fn handles(self, opened: Opened, _: Coding) -> Self::Handles {
        Receiver::of::<C, E>(opened.outgoing, self.codec)
    }

    fn failure(&self, status: Status) -> E::Failure {
        E::failure(status, &self.codec)
    }
}

/// A call with a stream, for one answer.
#[derive(Debug)]
pub struct ClientStreaming<C, T, A, E = Status> {
    codec: C,
    types: PhantomData<fn(T) -> (A, E)>,
}

impl<C, T, A> ClientStreaming<C, T, A> {
    pub(super) fn new(codec: C) -> Self {
        ClientStreaming { codec, types: PhantomData }
    }
}

impl<C, T, A, E> Shape for ClientStreaming<C, T, A, E> {
    type With<N> = ClientStreaming<C, T, A, N>;

    fn with<N>(self) -> ClientStreaming<C, T, A, N> {
        ClientStreaming { codec: self.codec, types: PhantomData }
    }
}

impl<C, T, A, E> IntoFuture for Calling<ClientStreaming<C, T, A, E>>
where
    C: Encode<T> + Decode<A>,
    E: MethodError<C>,
{
    type Output = Result<(Sender<T>, Answer<C, A, E>), E::Failure>;
    type IntoFuture = OpeningCall<ClientStreaming<C, T, A, E>>;

    fn into_future(self) -> Self::IntoFuture {
        self.open()
    }
}

impl<C: Encode<T> + Decode<A>, T, A, E: MethodError<C>> Streaming for ClientStreaming<C, T, A, E> {
    type Handles = (Sender<T>, Answer<C, A, E>);
    type Failure = E::Failure;

    const SHAPE: CallShape = CallShape::ClientStreaming;

    fn handles(self, opened: Opened, items: Coding) -> Self::Handles {
        let Opened { sending, outgoing } = opened;
        let sender = Sender::new(sending.mailbox, sending.key, self.codec.clone(), items);
        (sender, Answer::new(outgoing, self.codec))
    }

    fn failure(&self, status: Status) -> E::Failure {
        E::failure(status, &self.codec)
    }
}

/// A call with a stream, for another one.
#[derive(Debug)]
pub struct BidiStreaming<C, T, U, E = Status> {
    codec: C,
    types: PhantomData<fn(T) -> (U, E)>,
}

impl<C, T, U> BidiStreaming<C, T, U> {
    pub(super) fn new(codec: C) -> Self {
        BidiStreaming { codec, types: PhantomData }
    }
}

impl<C, T, U, E> Shape for BidiStreaming<C, T, U, E> {
    type With<N> = BidiStreaming<C, T, U, N>;

    fn with<N>(self) -> BidiStreaming<C, T, U, N> {
        BidiStreaming { codec: self.codec, types: PhantomData }
    }
}

impl<C, T, U, E> IntoFuture for Calling<BidiStreaming<C, T, U, E>>
where
    C: Encode<T> + Decode<U>,
    E: MethodError<C> + 'static,
{
    type Output = Result<(Sender<T>, Receiver<U, E::Failure>), E::Failure>;
    type IntoFuture = OpeningCall<BidiStreaming<C, T, U, E>>;

    fn into_future(self) -> Self::IntoFuture {
        self.open()
    }
}

impl<C: Encode<T> + Decode<U>, T, U, E: MethodError<C> + 'static> Streaming for BidiStreaming<C, T, U, E> {
    type Handles = (Sender<T>, Receiver<U, E::Failure>);
    type Failure = E::Failure;

    const SHAPE: CallShape = CallShape::BidiStreaming;

    fn handles(self, opened: Opened, items: Coding) -> Self::Handles {
        let Opened { sending, outgoing } = opened;
        let sender = Sender::new(sending.mailbox, sending.key, self.codec.clone(), items);
        (sender, Receiver::of::<C, E>(outgoing, self.codec))
    }

    fn failure(&self, status: Status) -> E::Failure {
        E::failure(status, &self.codec)
    }
}

/// A call for no answer.
#[derive(Debug)]
pub struct OneWay(pub(super) ());

impl IntoFuture for Calling<OneWay> {
    type Output = Result<(), Status>;
    type IntoFuture = Answer<Taken, ()>;

    fn into_future(self) -> Self::IntoFuture {
        Answer::new(self.begin(CallShape::OneWay), Taken(()))
    }
}
