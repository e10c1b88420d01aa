//! Layers below the framing, which transform all bytes of a stream, such as TLS.
//!
//! [`Layered`](crate::Layered) puts a [`Layer`] below any stream protocol. The session is used as before.
//! `Open` comes once the layer, and after it the protocol, has opened;
//! [`Config::handshake_timeout`](crate::Config::handshake_timeout) covers both. Messages are framed as
//! without the layer. Queued bytes are sealed as one batch once the batch before them is written. A [`Layer`]
//! is a state machine like everything here; `tls` (a module and a feature) is one over rustls.
//!
//! A layer changes these things for a session:
//! * An error of the layer is the close reason ([`CloseReason::Layer`](crate::CloseReason::Layer)). Messages
//!   that came before are delivered, replies to them can't be sent any longer, and the layer's last bytes (an
//!   alert) are written.
//! * The end of the transport without the layer's own end is such an error, since the stream may have been
//!   cut off.
//! * A graceful close closes the layer before it ends the transport.
//! * Idleness, and the bytes of [`Stats`](crate::Stats), count bytes on the wire.
//! * If a batch is partly written, it is unknown which of its messages arrive: see
//!   [`Progress::unknown`](crate::Progress::unknown).

mod plain;
mod stack;
#[cfg(feature = "tls")]
pub mod tls;

use std::error::Error;
use std::sync::Arc;

use crate::event::Opened;
pub use crate::memory::{SealedBuf, WireBuffers};
pub use plain::Plain;
pub use stack::Stack;

/// The error of a failed layer.
pub type LayerError = Arc<dyn Error + Send + Sync>;

/// The largest number of received bytes that a layer may leave unused. A TLS handshake message has at most 64
/// KiB.
pub(crate) const MAX_SEALED: usize = 128 * 1024;

/// The peer sends bytes that the layer can't use.
#[derive(Debug, thiserror::Error)]
#[error("the layer can't use {held} received bytes: expected a whole record within {MAX_SEALED}")]
pub(crate) struct TooMuchSealed {
    pub(crate) held: usize,
}

/// A state machine between a stream of bytes and the protocol above it.
pub trait Layer {
    /// Unseals as much as possible from the front of `wire.received` into `plain`, and queues the layer's own
    /// bytes (handshake, alerts) in `wire.sealed`.
    ///
    /// Called with every received piece, once with nothing at the start, and again when there is
    /// [room](Plain::room) for the bytes that did not fit. Returns true once the peer has closed the layer
    /// cleanly and everything it sent is unsealed; what follows is ignored.
    ///
    /// # Errors
    /// The peer broke the layer's rules or is not trusted. Any alert for the peer has been queued. The layer
    /// is not called again.
    fn unseal(&mut self, wire: &mut WireBuffers, plain: &mut Plain<'_>) -> Result<bool, LayerError>;

    /// Whether the layer's handshake is under way, so that nothing can be sealed yet.
    fn is_handshaking(&self) -> bool;

    /// Seals all of `plain`, at most 64 KiB.
    ///
    /// # Errors
    /// The layer can't seal further bytes. It is not called again.
    fn seal(&mut self, plain: &[u8], wire: &mut WireBuffers) -> Result<(), LayerError>;

    /// Queues the layer's end, after which nothing is sealed. Called at most once. The peer may go on
    /// sending, and the layer goes on unsealing.
    fn close(&mut self, wire: &mut WireBuffers);

    /// Handles the end of the transport, if the peer has not closed the layer before.
    ///
    /// # Errors
    /// The layer has its own end, so the stream was cut off.
    fn handle_eof(&mut self) -> Result<(), LayerError>;

    /// Adds the layer's facts to `opened`, once its handshake is done.
    fn describe(&mut self, opened: &mut Opened);

    /// Work that the bytes on the wire do not show, counted as in [`Work::bytes`](crate::Work::bytes). The
    /// default is 0.
    fn worked(&self) -> u64 {
        0
    }

    /// The actual layer: none for an `Option` that is `None`. A session without a layer works as if it had
    /// never had one.
    #[doc(hidden)]
    fn as_layer(&mut self) -> Option<&mut dyn Layer>
    where
        Self: Sized,
    {
        Some(self)
    }
}

/// No layer: what is sealed and unsealed stays as it is. A session with it works as if it had none.
impl Layer for () {
    fn unseal(&mut self, wire: &mut WireBuffers, plain: &mut Plain<'_>) -> Result<bool, LayerError> {
        plain.put_slice(&wire.received);
        wire.received.clear();
        Ok(false)
    }

    fn is_handshaking(&self) -> bool {
        false
    }

    fn seal(&mut self, plain: &[u8], wire: &mut WireBuffers) -> Result<(), LayerError> {
        wire.sealed.put_slice(plain);
        Ok(())
    }

    fn close(&mut self, _: &mut WireBuffers) {}

    fn handle_eof(&mut self) -> Result<(), LayerError> {
        Ok(())
    }

    fn describe(&mut self, _: &mut Opened) {}

    fn as_layer(&mut self) -> Option<&mut dyn Layer> {
        None
    }
}

/// An optional layer, for programs that choose at run time. With `None` no byte is copied.
impl<L: Layer> Layer for Option<L> {
    fn unseal(&mut self, wire: &mut WireBuffers, plain: &mut Plain<'_>) -> Result<bool, LayerError> {
        match self {
            Some(layer) => layer.unseal(wire, plain),
            None => ().unseal(wire, plain),
        }
    }

    fn is_handshaking(&self) -> bool {
        self.as_ref().is_some_and(L::is_handshaking)
    }

    fn seal(&mut self, plain: &[u8], wire: &mut WireBuffers) -> Result<(), LayerError> {
        match self {
            Some(layer) => layer.seal(plain, wire),
            None => ().seal(plain, wire),
        }
    }

    fn close(&mut self, wire: &mut WireBuffers) {
        if let Some(layer) = self {
            layer.close(wire);
        }
    }

    fn handle_eof(&mut self) -> Result<(), LayerError> {
        self.as_mut().map_or(Ok(()), L::handle_eof)
    }

    fn describe(&mut self, opened: &mut Opened) {
        if let Some(layer) = self {
            layer.describe(opened);
        }
    }

    fn worked(&self) -> u64 {
        self.as_ref().map_or(0, L::worked)
    }

    fn as_layer(&mut self) -> Option<&mut dyn Layer> {
        self.as_mut().and_then(L::as_layer)
    }
}

impl<L: Layer> Layer for Box<L> {
    fn unseal(&mut self, wire: &mut WireBuffers, plain: &mut Plain<'_>) -> Result<bool, LayerError> {
        (**self).unseal(wire, plain)
    }

    fn is_handshaking(&self) -> bool {
        (**self).is_handshaking()
    }

    fn seal(&mut self, plain: &[u8], wire: &mut WireBuffers) -> Result<(), LayerError> {
        (**self).seal(plain, wire)
    }

    fn close(&mut self, wire: &mut WireBuffers) {
        (**self).close(wire);
    }

    fn handle_eof(&mut self) -> Result<(), LayerError> {
        (**self).handle_eof()
    }

    fn describe(&mut self, opened: &mut Opened) {
        (**self).describe(opened);
    }

    fn worked(&self) -> u64 {
        (**self).worked()
    }

    fn as_layer(&mut self) -> Option<&mut dyn Layer> {
        (**self).as_layer()
    }
}
