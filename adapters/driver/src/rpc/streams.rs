//! [`Sender`] and [`Receiver`]: the streams of a call.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use getty_core::rpc::{Body, Code, CodecError, Coding, Decode, Encode, Executed, Status};

use crate::rpc::entry::{Item, Key};
use crate::rpc::mailbox::Mailbox;
use crate::rpc::outgoing::Outgoing;
use crate::rpc::posted::{Posted, Reads};

type Encoding<T> = Box<dyn Fn(&T, &mut BytesMut) -> Result<(), CodecError> + Send + Sync>;
type Decoding<T> = Box<dyn Fn(Bytes) -> Result<T, CodecError> + Send + Sync>;

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
pub struct Receiver<T> {
    call: Outgoing,
    decode: Decoding<T>,
    has_ended: bool,
}

impl<T> Receiver<T> {
    /// For the handler of a call.
    pub(super) fn new<C: Decode<T>>(mailbox: Arc<Mailbox>, key: Key, codec: C) -> Self {
        Self::of(Outgoing::posted(Posted::new(mailbox, key), None), codec)
    }

    /// For the caller.
    pub(super) fn of<C: Decode<T>>(call: Outgoing, codec: C) -> Self {
        let decode = Box::new(move |body| codec.decode(body));
        Receiver { call, decode, has_ended: false }
    }

    /// Receives the next item. `None`: the stream has ended well.
    ///
    /// # Errors
    /// The status with which the call ended; after it, `None`. An item that cannot be decoded ends the call
    /// with [`Code::InvalidArgument`].
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, no item is lost.
    pub async fn recv(&mut self) -> Result<Option<T>, Status> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The pollable form of [`recv`](Self::recv).
    ///
    /// # Errors
    /// As for [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, Status>> {
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
        (self.decode)(bytes).map_err(|error| Status::new(Code::InvalidArgument, format!("an item: {error}")))
    }
}

impl<T> Stream for Receiver<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_recv(cx).map(Result::transpose)
    }
}

impl<T> fmt::Debug for Receiver<T> {
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
