//! [`Sender`] and [`Receiver`]: the streams of a call.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use getty_core::rpc::{Body, Code, CodecError, Coding, Decode, Encode, Executed, Status};

use crate::rpc::entry::{Item, Key};
use crate::rpc::error::MethodError;
use crate::rpc::mailbox::Mailbox;
use crate::rpc::outgoing::Outgoing;
use crate::rpc::posted::{Posted, Reads};

type Encoding<T> = Box<dyn Fn(&T, &mut BytesMut) -> Result<(), CodecError> + Send + Sync>;

/// The codec of a stream that is read, with the failure of its call.
trait Decoding<T, F>: Send + Sync {
    fn item(&self, body: Bytes) -> Result<T, CodecError>;

    fn failure(&self, status: Status) -> F;
}

/// A codec, and the error of the method.
struct Typed<C, E>(C, PhantomData<fn() -> E>);

impl<C: Decode<T>, T, E: MethodError<C>> Decoding<T, E::Failure> for Typed<C, E> {
    fn item(&self, body: Bytes) -> Result<T, CodecError> {
        self.0.decode(body)
    }

    fn failure(&self, status: Status) -> E::Failure {
        E::failure(status, &self.0)
    }
}

/// The stream of this side of a call. Dropping it ends the stream.
pub struct Sender<T> {
    mailbox: Arc<Mailbox>,
    key: Key,
    encode: Encoding<T>,
    coding: Coding,
}

impl<T> Sender<T> {
    pub(super) fn new<C: Encode<T>>(mailbox: Arc<Mailbox>, key: Key, codec: C, coding: Coding) -> Self {
        Sender { mailbox, key, encode: Box::new(move |item, dst| codec.encode(item, dst)), coding }
    }

    /// Sends an item. Waits while 64 KiB of items wait for the other side: that is the back-pressure.
    ///
    /// # Errors
    /// The call is over ([`Code::Cancelled`]), or the item cannot be encoded ([`Code::Internal`]). An item
    /// over the limit ends the call.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, the item was not sent.
    pub async fn send(&mut self, item: T) -> Result<(), Status> {
        let bytes = encoded(|dst| (self.encode)(&item, dst))?;
        let mut body = Some(Body { bytes, coding: self.coding });
        let sent = poll_fn(|cx| self.mailbox.poll_send(self.key, &mut body, cx)).await;
        sent.map_err(|()| Status::new(Code::Cancelled, "the call is over").with_executed(Executed::Maybe))
    }

    /// Ends the stream, as dropping it does.
    pub fn finish(self) {}
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.mailbox.finish(self.key);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

/// The stream of the other side of a call. For a caller it is also the call: dropping it before its end gives
/// the call up.
///
/// It is a [`Stream`] of results too.
pub struct Receiver<T, F = Status> {
    call: Outgoing,
    codec: Box<dyn Decoding<T, F>>,
    has_ended: bool,
}

impl<T> Receiver<T> {
    /// For the handler of a call.
    pub(super) fn new<C: Decode<T>>(mailbox: Arc<Mailbox>, key: Key, codec: C) -> Self {
        Self::of::<C, Status>(Outgoing::posted(Posted::new(mailbox, key), None), codec)
    }
}

impl<T, F> Receiver<T, F> {
    /// For the caller of a method with the error `E`.
    pub(super) fn of<C, E>(call: Outgoing, codec: C) -> Self
    where
        C: Decode<T>,
        E: MethodError<C, Failure = F> + 'static,
    {
        Receiver { call, codec: Box::new(Typed::<C, E>(codec, PhantomData)), has_ended: false }
    }

    /// Receives the next item. `None`: the stream has ended well.
    ///
    /// # Errors
    /// The failure with which the call ended; after it, `None`. An item that cannot be decoded ends the call
    /// with [`Code::InvalidArgument`].
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, no item is lost.
    pub async fn recv(&mut self) -> Result<Option<T>, F> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The pollable form of [`recv`](Self::recv).
    ///
    /// # Errors
    /// As for [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, F>> {
        self.poll_item(cx).map_err(|status| self.codec.failure(status))
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, Status>> {
        if self.has_ended {
            return Poll::Ready(Ok(None));
        }
        match ready!(self.call.poll(Reads::Items, cx)) {
            Item::Body(body) => Poll::Ready(match self.decode(body) {
                Ok(item) => Ok(Some(item)),
                Err(status) => {
                    self.has_ended = true;
                    self.call.give_up();
                    Err(status)
                }
            }),
            Item::End => {
                self.has_ended = true;
                Poll::Ready(Ok(None))
            }
            Item::Over(result) => {
                self.has_ended = true;
                Poll::Ready(result.map(|_| None))
            }
        }
    }

    fn decode(&self, body: Body) -> Result<T, Status> {
        let bytes = plain(body)?;
        let item = self.codec.item(bytes);
        item.map_err(|error| Status::new(Code::InvalidArgument, format!("an item: {error}")))
    }
}

impl<T, F> Stream for Receiver<T, F> {
    type Item = Result<T, F>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_recv(cx).map(Result::transpose)
    }
}

impl<T, F> fmt::Debug for Receiver<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

/// The bytes of a body that is not compressed.
pub(crate) fn plain(body: Body) -> Result<Bytes, Status> {
    if body.is_compressed() {
        let text = "this side does not decompress bodies (rpc::ConfigBuilder::deflate)";
        return Err(Status::new(Code::Unimplemented, text));
    }
    Ok(body.bytes)
}

/// Encodes into memory that the thread uses again once the body has been sent.
pub(crate) fn encoded(encode: impl FnOnce(&mut BytesMut) -> Result<(), CodecError>) -> Result<Bytes, Status> {
    thread_local! {
        static ARENA: std::cell::RefCell<BytesMut> = std::cell::RefCell::new(BytesMut::new());
    }
    /// Bodies are cut from blocks of this size.
    const BLOCK: usize = 16 * 1024;
    ARENA
        .with(|arena| {
            // An encoder that calls makes its own memory.
            let Ok(mut arena) = arena.try_borrow_mut() else {
                let mut own = BytesMut::new();
                return encode(&mut own).map(|()| own.freeze());
            };
            if arena.capacity() < BLOCK / 16 {
                arena.reserve(BLOCK);
            }
            arena.clear(); // an encoder that panicked has left something
            let result = encode(&mut arena);
            let body = arena.split();
            result.map(|()| body.freeze())
        })
        .map_err(|error| Status::new(Code::Internal, format!("a value cannot be encoded: {error}")))
}
