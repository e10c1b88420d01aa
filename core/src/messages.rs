//! [`Messages`]: what an application receives and sends.

use std::marker::PhantomData;

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
