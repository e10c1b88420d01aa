//! [`Calling`]: a call that has not begun.

use std::future::{IntoFuture, poll_fn};
use std::marker::PhantomData;
use std::time::Duration;

use getty_core::rpc::{Code, Coding, Decode, Encode, Executed, Metadata, Request, Status, Trace};

use crate::rpc::answer::{Answer, Taken};
use crate::rpc::call::Call;
use crate::rpc::call_layer::{CallLayers, CallShape, Outbound};
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

/// A call with one value, for one answer.
#[derive(Debug)]
pub struct Unary<C, A> {
    pub(super) codec: C,
    pub(super) answer: PhantomData<fn() -> A>,
}

impl<C: Decode<A>, A> Calling<Unary<C, A>> {
    /// Makes the call, and returns the metadata of the answer with it.
    ///
    /// # Errors
    /// As for the call itself.
    pub async fn with_metadata(self) -> Result<(A, Metadata), Status> {
        let mut answer = self.into_future();
        let reply = poll_fn(|cx| answer.call.poll_answer(cx)).await?;
        let metadata = reply.metadata.clone();
        Ok((answer.decode(reply)?, metadata))
    }
}

impl<C: Decode<A>, A> IntoFuture for Calling<Unary<C, A>> {
    type Output = Result<A, Status>;
    type IntoFuture = Answer<C, A>;

    fn into_future(self) -> Answer<C, A> {
        let codec = self.shape.codec.clone();
        Answer::new(self.begin(CallShape::Unary), codec)
    }
}

/// A call with one value, for a stream.
#[derive(Debug)]
pub struct ServerStreaming<C, T> {
    pub(super) codec: C,
    pub(super) item: PhantomData<fn() -> T>,
}

impl<C: Decode<T>, T> IntoFuture for Calling<ServerStreaming<C, T>> {
    type Output = Result<Receiver<T>, Status>;
    type IntoFuture = OpeningCall<ServerStreaming<C, T>>;

    fn into_future(self) -> Self::IntoFuture {
        self.open()
    }
}

impl<C: Decode<T>, T> Streaming for ServerStreaming<C, T> {
    type Handles = Receiver<T>;

    const SHAPE: CallShape = CallShape::ServerStreaming;

    fn handles(self, opened: Opened, _: Coding) -> Self::Handles {
        Receiver::of(opened.outgoing, self.codec)
    }
}

/// A call with a stream, for one answer.
#[derive(Debug)]
pub struct ClientStreaming<C, T, A> {
    pub(super) codec: C,
    pub(super) types: PhantomData<fn(T) -> A>,
}

impl<C: Encode<T> + Decode<A>, T, A> IntoFuture for Calling<ClientStreaming<C, T, A>> {
    type Output = Result<(Sender<T>, Answer<C, A>), Status>;
    type IntoFuture = OpeningCall<ClientStreaming<C, T, A>>;

    fn into_future(self) -> Self::IntoFuture {
        self.open()
    }
}

impl<C: Encode<T> + Decode<A>, T, A> Streaming for ClientStreaming<C, T, A> {
    type Handles = (Sender<T>, Answer<C, A>);

    const SHAPE: CallShape = CallShape::ClientStreaming;

    fn handles(self, opened: Opened, items: Coding) -> Self::Handles {
        let Opened { sending, outgoing } = opened;
        let sender = Sender::new(sending.mailbox, sending.key, self.codec.clone(), items);
        (sender, Answer::new(outgoing, self.codec))
    }
}

/// A call with a stream, for another one.
#[derive(Debug)]
pub struct BidiStreaming<C, T, U> {
    pub(super) codec: C,
    pub(super) types: PhantomData<fn(T) -> U>,
}

impl<C: Encode<T> + Decode<U>, T, U> IntoFuture for Calling<BidiStreaming<C, T, U>> {
    type Output = Result<(Sender<T>, Receiver<U>), Status>;
    type IntoFuture = OpeningCall<BidiStreaming<C, T, U>>;

    fn into_future(self) -> Self::IntoFuture {
        self.open()
    }
}

impl<C: Encode<T> + Decode<U>, T, U> Streaming for BidiStreaming<C, T, U> {
    type Handles = (Sender<T>, Receiver<U>);

    const SHAPE: CallShape = CallShape::BidiStreaming;

    fn handles(self, opened: Opened, items: Coding) -> Self::Handles {
        let Opened { sending, outgoing } = opened;
        let sender = Sender::new(sending.mailbox, sending.key, self.codec.clone(), items);
        (sender, Receiver::of(outgoing, self.codec))
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
