//! What a session speaks: the application's messages, and how they lie on the wire.

use std::error::Error;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::CloseReason;
use crate::codec::{Decoded, Sink, Source};

/// The messages that an application receives and sends.
///
/// Listeners and handles know this and never the wire: whatever serves [`Items<Request, Reply>`](Items) does
/// so over every transport that carries these.
pub trait Messages {
    /// A received message.
    type In;
    /// A message to send.
    type Out;
}

/// Messages of type `I` in and of type `O` out. A name for types, never a value.
#[derive(Debug)]
pub struct Items<I, O = I>(PhantomData<fn(I) -> O>);

impl<I, O> Messages for Items<I, O> {
    type In = I;
    type Out = O;
}

/// A received message of protocol `P`.
pub type In<P> = <<P as Protocol>::Messages as Messages>::In;

/// A message to send over protocol `P`.
pub type Out<P> = <<P as Protocol>::Messages as Messages>::Out;

/// How messages lie on the wire. Implemented here only: for [`Framed`](crate::Framed).
pub trait Protocol: Sealed {
    /// What the application sees.
    type Messages: Messages;
}

/// A [`Protocol`] on a stream of bytes.
pub trait StreamProtocol: Protocol {
    /// Consumes one message from `src`, if a whole one is there.
    #[doc(hidden)]
    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<In<Self>>, CloseReason>;

    /// Consumes one message from what is left at the end of the stream, if there is one.
    #[doc(hidden)]
    fn decode_eof(&mut self, src: &mut Source<'_>) -> Result<Option<In<Self>>, CloseReason>;

    /// Writes one message to `dst`.
    #[doc(hidden)]
    fn encode(&mut self, item: Out<Self>, dst: &mut Sink<'_>) -> Result<(), Arc<dyn Error + Send + Sync>>;

    /// The size that `encode` will write, if that is cheap to tell.
    #[doc(hidden)]
    fn encoded_len(&self, item: &Out<Self>) -> Option<usize>;
}

/// Keeps [`Protocol`] to this crate, so that its methods may change.
#[doc(hidden)]
pub trait Sealed {}
