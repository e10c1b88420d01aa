//! [`MakeProtocol`]: what makes the protocols of an endpoint's sessions.

use std::io;
use std::marker::PhantomData;

use getty_core::codec::{Decoder, Encoder};
use getty_core::{Framed, StreamProtocol};

use crate::endpoint::security::Security;

/// Makes the protocol of each session of a [`Server`](crate::Server) or a [`Pool`](crate::Pool). It appears in
/// bounds only.
pub trait MakeProtocol {
    /// What the sessions speak.
    type Protocol: StreamProtocol;

    /// The protocol of the next session.
    ///
    /// # Errors
    /// There can be none: the connection is given up.
    fn make(&self) -> io::Result<Self::Protocol>;
}

/// Makes sessions of what `M` makes, on top of what lies below. It appears in bounds of
/// [`ServerBuilder`](crate::ServerBuilder)'s methods only.
#[derive(Debug)]
pub struct Covered<T, M> {
    pub(crate) security: T,
    pub(crate) protocol: M,
}

impl<T: Security, M: MakeProtocol> MakeProtocol for Covered<T, M> {
    type Protocol = T::Over<M::Protocol>;

    fn make(&self) -> io::Result<Self::Protocol> {
        self.security.cover("", self.protocol.make()?)
    }
}

/// Makes sessions of a codec. It appears in bounds of builders' methods only.
#[derive(Debug)]
pub struct FramedBy<MC, O> {
    pub(crate) codec: MC,
    pub(crate) out: PhantomData<fn(O)>,
}

impl<MC, C, O> MakeProtocol for FramedBy<MC, O>
where
    MC: Fn() -> C,
    C: Decoder + Encoder<O>,
{
    type Protocol = Framed<C, O>;

    fn make(&self) -> io::Result<Framed<C, O>> {
        Ok(Framed::new((self.codec)()))
    }
}
