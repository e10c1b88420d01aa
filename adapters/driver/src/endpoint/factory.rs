//! [`ProtocolFactory`] and [`ListenerFactory`]: functions that make the parts of an endpoint's sessions.

use std::io;

use getty_core::{IntoProtocol, Messages, Protocol};

use crate::session::listener::Listener;

/// A function that makes the protocol of each session of a [`Server`](crate::Server) or a
/// [`Pool`](crate::Pool): `Fn() -> P`, or `Fn() -> io::Result<P>` if it can fail.
/// [`framed`](getty_core::framed) and `WebSocket::serving` return such functions.
pub trait ProtocolFactory {
    /// The protocol of the sessions.
    type Protocol: Protocol;

    /// Makes the protocol of the next session.
    ///
    /// # Errors
    /// The protocol cannot be made, and the connection is abandoned.
    fn make(&self) -> io::Result<Self::Protocol>;
}

impl<F, N> ProtocolFactory for F
where
    F: Fn() -> N,
    N: IntoProtocol,
{
    type Protocol = N::Protocol;

    fn make(&self) -> io::Result<N::Protocol> {
        self().into_protocol()
    }
}

/// A function that makes the listener of each session of a [`Server`](crate::Server) or a
/// [`Pool`](crate::Pool): `Fn() -> L`.
pub trait ListenerFactory<M: Messages> {
    /// The listener of a session.
    type Listener: Listener<M>;

    /// Makes the listener of the next session.
    fn make(&self) -> Self::Listener;
}

impl<F, L, M> ListenerFactory<M> for F
where
    F: Fn() -> L,
    L: Listener<M>,
    M: Messages,
{
    type Listener = L;

    fn make(&self) -> L {
        self()
    }
}

/// The messages of the protocols that `F` makes.
pub type MessagesOf<F> = <<F as ProtocolFactory>::Protocol as Protocol>::Messages;

/// The listeners that `K` makes for the protocols that `F` makes.
pub type ListenerOf<F, K> = <K as ListenerFactory<MessagesOf<F>>>::Listener;
