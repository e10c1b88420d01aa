//! [`Messages`]: the messages that an application receives and sends.

use std::marker::PhantomData;

/// The messages that an application receives and sends.
///
/// Listeners and handles depend on this and never on the wire: a listener for [`Items<Request,
/// Reply>`](Items) serves every transport that carries these.
pub trait Messages {
    /// A received message.
    type In;
    /// A message to send.
    type Out;
}

/// Received messages of type `I`, sent messages of type `O`. Only used as a type, never as a value.
#[derive(Debug)]
pub struct Items<I, O = I>(PhantomData<fn(I) -> O>);

impl<I, O> Messages for Items<I, O> {
    type In = I;
    type Out = O;
}
