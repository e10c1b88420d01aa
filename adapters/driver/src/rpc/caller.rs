//! [`Caller`]: calls the other side of a connection.

use std::fmt;
use std::future::{Future, IntoFuture, Ready, poll_fn, ready};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use getty_core::codec::Text;
use getty_core::rpc::{Code, Codec, Decode, Encode, Executed, Metadata, Reply, Request, Status};

use crate::rpc::call::Call;
use crate::rpc::mailbox::{Key, Mailbox};
use crate::rpc::streams::{Receiver, Sender, encoded, plain};

/// Calls the other side of a connection. Cheap to clone; all clones use the same connection.
///
/// A call may be posted before the session is open: it waits for that. Its time limit counts from then on,
/// but is looked at only once the session is open or has failed to open.
pub struct Caller {
    mailbox: Arc<Mailbox>,
    timeout: Option<Duration>,
}

impl Caller {
    pub(crate) fn new(mailbox: Arc<Mailbox>) -> Self {
        mailbox.add_caller();
        Caller { mailbox, timeout: None }
    }

    /// Sets the time limit of calls that set none themselves. By default there is none.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
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
        self.calling(request, Unary { codec, answer: PhantomData })
    }

    /// Calls `method` with one value, for a stream of items. Await the result to get the [`Receiver`].
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
        self.calling(request, ServerStreaming { codec, item: PhantomData })
    }

    /// Calls `method` with a stream of items, for one answer. Await the result to get the [`Sender`] and the
    /// [`Answer`].
    pub fn client_streaming<C, T, A>(
        &self,
        method: impl Into<Text>,
        codec: C,
    ) -> Calling<ClientStreaming<C, T, A>>
    where
        C: Encode<T> + Decode<A>,
    {
        let request = Ok(Request { more: true, ..Request::new(method, codec.name(), bytes::Bytes::new()) });
        self.calling(request, ClientStreaming { codec, types: PhantomData })
    }

    /// Calls `method` with a stream of items, for another one. Await the result to get the [`Sender`] and the
    /// [`Receiver`].
    pub fn bidi_streaming<C, T, U>(
        &self,
        method: impl Into<Text>,
        codec: C,
    ) -> Calling<BidiStreaming<C, T, U>>
    where
        C: Encode<T> + Decode<U>,
    {
        let request = Ok(Request { more: true, ..Request::new(method, codec.name(), bytes::Bytes::new()) });
        self.calling(request, BidiStreaming { codec, types: PhantomData })
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

    /// Waits until the connection has ended, and returns the reason.
    pub async fn closed(&self) -> Status {
        let mut wait = EndWait { mailbox: &self.mailbox, place: None };
        poll_fn(|cx| wait.mailbox.poll_end(&mut wait.place, cx)).await
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.mailbox.is_over()
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
        let request = request.map(|request| Request { timeout: self.timeout, ..request });
        Calling { mailbox: self.mailbox.clone(), request, shape }
    }
}

/// A wait for the end of a connection, which leaves nothing behind when it is dropped.
struct EndWait<'a> {
    mailbox: &'a Mailbox,
    place: Option<usize>,
}

impl Drop for EndWait<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.mailbox.leave_end(place);
        }
    }
}

impl Clone for Caller {
    fn clone(&self) -> Self {
        let mut caller = Caller::new(self.mailbox.clone());
        caller.timeout = self.timeout;
        caller
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.mailbox.remove_caller();
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("is_closed", &self.is_closed()).finish_non_exhaustive()
    }
}

/// A call that has not begun: options, then `await`.
#[must_use = "a call begins when it is awaited"]
#[derive(Debug)]
pub struct Calling<S> {
    mailbox: Arc<Mailbox>,
    request: Result<Request, Status>,
    shape: S,
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

    /// Makes the call a part of `call`: it has no more time than is left of that one.
    pub fn within(self, call: &Call) -> Self {
        self.change(|request| {
            request.timeout = [request.timeout, call.remaining()].into_iter().flatten().min();
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

    /// Posts the call.
    fn post(self) -> Result<(Arc<Mailbox>, Key, S), Status> {
        let key = self.mailbox.call(self.request?)?;
        Ok((self.mailbox, key, self.shape))
    }
}

/// A call with one value, for one answer.
#[derive(Debug)]
pub struct Unary<C, A> {
    codec: C,
    answer: PhantomData<fn() -> A>,
}

impl<C: Decode<A>, A> Calling<Unary<C, A>> {
    /// Makes the call, and returns the metadata of the answer with it.
    ///
    /// # Errors
    /// As for the call itself.
    pub async fn with_metadata(self) -> Result<(A, Metadata), Status> {
        let mut answer = self.into_future();
        let reply = poll_fn(|cx| answer.poll_reply(cx)).await?;
        let metadata = reply.metadata.clone();
        Ok((answer.decode(reply)?, metadata))
    }
}

impl<C: Decode<A>, A> IntoFuture for Calling<Unary<C, A>> {
    type Output = Result<A, Status>;
    type IntoFuture = Answer<C, A>;

    fn into_future(self) -> Answer<C, A> {
        let codec = self.shape.codec.clone();
        Answer {
            call: self.post().map(|(mailbox, key, _)| Open { mailbox, key }),
            codec,
            answer: PhantomData,
        }
    }
}

/// A call with one value, for a stream.
#[derive(Debug)]
pub struct ServerStreaming<C, T> {
    codec: C,
    item: PhantomData<fn() -> T>,
}

impl<C: Decode<T>, T> IntoFuture for Calling<ServerStreaming<C, T>> {
    type Output = Result<Receiver<T>, Status>;
    type IntoFuture = Ready<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        ready(self.post().map(|(mailbox, key, shape)| Receiver::new(mailbox, key, shape.codec)))
    }
}

/// A call with a stream, for one answer.
#[derive(Debug)]
pub struct ClientStreaming<C, T, A> {
    codec: C,
    types: PhantomData<fn(T) -> A>,
}

impl<C: Encode<T> + Decode<A>, T, A> IntoFuture for Calling<ClientStreaming<C, T, A>> {
    type Output = Result<(Sender<T>, Answer<C, A>), Status>;
    type IntoFuture = Ready<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        ready(self.post().map(|(mailbox, key, shape)| {
            let codec = shape.codec;
            let sender = Sender::new(mailbox.clone(), key, codec.clone());
            (sender, Answer { call: Ok(Open { mailbox, key }), codec, answer: PhantomData })
        }))
    }
}

/// A call with a stream, for another one.
#[derive(Debug)]
pub struct BidiStreaming<C, T, U> {
    codec: C,
    types: PhantomData<fn(T) -> U>,
}

impl<C: Encode<T> + Decode<U>, T, U> IntoFuture for Calling<BidiStreaming<C, T, U>> {
    type Output = Result<(Sender<T>, Receiver<U>), Status>;
    type IntoFuture = Ready<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        ready(self.post().map(|(mailbox, key, shape)| {
            let sender = Sender::new(mailbox.clone(), key, shape.codec.clone());
            (sender, Receiver::new(mailbox, key, shape.codec))
        }))
    }
}

/// A call for no answer.
#[derive(Debug)]
pub struct OneWay(());

impl IntoFuture for Calling<OneWay> {
    type Output = Result<(), Status>;
    type IntoFuture = Answer<Taken, ()>;

    fn into_future(self) -> Self::IntoFuture {
        let call = self.post().map(|(mailbox, key, _)| Open { mailbox, key });
        Answer { call, codec: Taken(()), answer: PhantomData }
    }
}

/// The codec of the answer that a one-way call was taken, which has no content.
#[derive(Debug, Clone)]
pub struct Taken(());

impl Codec for Taken {
    fn name(&self) -> getty_core::rpc::CodecName {
        getty_core::rpc::CodecName::Raw
    }
}

impl Decode<()> for Taken {
    fn decode(&self, _: bytes::Bytes) -> Result<(), getty_core::rpc::CodecError> {
        Ok(())
    }
}

/// The answer to a call, when it comes. Dropping it gives the call up: the other side drops its handler.
#[must_use = "a call whose answer is dropped is given up"]
pub struct Answer<C, A> {
    call: Result<Open, Status>,
    codec: C,
    answer: PhantomData<fn() -> A>,
}

/// A call that was posted. Dropping it gives the call up.
#[derive(Debug)]
struct Open {
    mailbox: Arc<Mailbox>,
    key: Key,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.mailbox.drop_call(self.key);
    }
}

impl<C: Decode<A>, A> Answer<C, A> {
    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reply, Status>> {
        match &self.call {
            Ok(open) => open.mailbox.poll_result(open.key, cx),
            Err(status) => Poll::Ready(Err(status.clone())),
        }
    }

    fn decode(&self, reply: Reply) -> Result<A, Status> {
        let bytes = plain(reply.body)?;
        self.codec.decode(bytes).map_err(|error| Status::new(Code::Internal, format!("the answer: {error}")))
    }
}

// The codec is never pinned.
impl<C, A> Unpin for Answer<C, A> {}

impl<C: Decode<A>, A> Future for Answer<C, A> {
    type Output = Result<A, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = self.get_mut();
        answer.poll_reply(cx).map(|reply| answer.decode(reply?))
    }
}

impl<C, A> fmt::Debug for Answer<C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

/// The failure of a call whose method has an error type of its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError<E> {
    /// The method's own error.
    #[error("{0}")]
    App(E),
    /// Any other failure.
    #[error("{0}")]
    Status(Status),
}

impl<E> CallError<E> {
    /// Reads the method's own error from a status, if it has one that `codec` can read.
    pub fn from_status<C: Decode<E>>(status: Status, codec: &C) -> Self {
        if status.details().is_empty() {
            return CallError::Status(status);
        }
        match codec.decode(status.details().clone()) {
            Ok(error) => CallError::App(error),
            Err(_) => CallError::Status(status),
        }
    }

    /// Whether the call was executed.
    pub fn executed(&self) -> Executed {
        match self {
            CallError::App(_) => Executed::Yes,
            CallError::Status(status) => status.executed(),
        }
    }
}
