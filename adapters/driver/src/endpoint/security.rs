//! [`Security`]: the layer between the sockets of an endpoint and its protocols.

use std::io;

use getty_core::Protocol;
use getty_core::layer::Layer;

/// The layer below an endpoint's protocols: none, TLS, or an [`Option`] of TLS, chosen at run time. It
/// appears only in bounds; `tls` and `maybe_tls` of the builders set it.
pub trait Security {
    /// The layer of one session.
    type Layer: Layer;

    /// The protocol `P` on top of the layer, or `P` itself if there is never a layer.
    type Wrapped<P: Protocol>: Protocol<Messages = P::Messages>;

    /// Whether it provides what `wss` and `tls` in a URL require.
    fn is_secure(&self) -> bool;

    /// Makes the layer of the next session. For clients, `host` is the server's name.
    ///
    /// # Errors
    /// No certificate can be valid for `host`.
    fn layer(&self, host: &str) -> io::Result<Self::Layer>;

    /// Puts `layer` below `protocol`.
    fn wrap<P: Protocol>(layer: Self::Layer, protocol: P) -> Self::Wrapped<P>;
}

/// No layer: anyone who can read the network can read the messages.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plaintext;

impl Security for Plaintext {
    type Layer = ();
    type Wrapped<P: Protocol> = P;

    fn is_secure(&self) -> bool {
        false
    }

    fn layer(&self, _host: &str) -> io::Result<()> {
        Ok(())
    }

    fn wrap<P: Protocol>((): (), protocol: P) -> P {
        protocol
    }
}

/// The layer is boxed: a session without one is larger by one pointer, and copies nothing.
impl<T: Security> Security for Option<T> {
    type Layer = Option<Box<T::Layer>>;
    type Wrapped<P: Protocol> = P::Under<Self::Layer>;

    fn is_secure(&self) -> bool {
        self.as_ref().is_some_and(T::is_secure)
    }

    fn layer(&self, host: &str) -> io::Result<Self::Layer> {
        self.as_ref().map(|security| security.layer(host).map(Box::new)).transpose()
    }

    fn wrap<P: Protocol>(layer: Self::Layer, protocol: P) -> Self::Wrapped<P> {
        protocol.under(layer)
    }
}
