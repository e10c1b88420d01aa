//! [`Security`]: what lies between the sockets of an endpoint and its protocols.

use std::io;

use getty_core::StreamProtocol;

/// Nothing, or TLS. It appears in bounds of [`ServerBuilder`](crate::ServerBuilder)'s and
/// [`ClientBuilder`](crate::ClientBuilder)'s methods only; `tls` of either sets it.
pub trait Security {
    /// What a session of `P` speaks then.
    type Over<P: StreamProtocol>: StreamProtocol<Messages = P::Messages>;

    /// Whether it is what `wss` and `tls` in a URL ask for.
    const IS_SECURE: bool;

    /// Puts a session's protocol on top. `host` is the server's name, at the client's end.
    ///
    /// # Errors
    /// The host is no name that a certificate could be for.
    fn cover<P: StreamProtocol>(&self, host: &str, protocol: P) -> io::Result<Self::Over<P>>;
}

/// Nothing: what can read the network can read the messages.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plaintext;

impl Security for Plaintext {
    type Over<P: StreamProtocol> = P;

    const IS_SECURE: bool = false;

    fn cover<P: StreamProtocol>(&self, _host: &str, protocol: P) -> io::Result<P> {
        Ok(protocol)
    }
}
