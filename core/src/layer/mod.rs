//! Layers below the framing: what changes all bytes of a stream on their way, such as TLS.
//!
//! [`Layered`](crate::Layered) puts a [`Layer`] below any protocol of a stream; the session is used as ever. `Open` comes
//! when the layer is open and, after it, the protocol;
//! [`Config::handshake_timeout`](crate::Config::handshake_timeout) covers both. Messages are framed as
//! without the layer, and what waits to be written is sealed as one batch when the bytes before it are gone.
//! A [`Layer`] is a state machine like everything here; `tls` (a module, and a feature) is one over rustls.
//!
//! What the layer changes for a session:
//! * an error of the layer is the close reason ([`CloseReason::Layer`](crate::CloseReason::Layer)). Messages that came
//!   before are delivered, answers to them can't be sent any more, and the layer's last word (an alert) is written;
//! * the end of the transport without the layer's own is such an error: somebody may have cut the stream off;
//! * a graceful close ends the layer before it ends the transport;
//! * idleness, and the bytes of [`Stats`](crate::Stats), count what is on the wire;
//! * of a batch that was written in part nobody knows which messages arrive: see
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

/// Why a layer failed.
pub type LayerError = Arc<dyn Error + Send + Sync>;

/// How many received bytes may wait until a layer can use them. A handshake message of TLS has at most 64 KiB.
pub(crate) const MAX_SEALED: usize = 128 * 1024;

/// The peer sends what a layer can't use.
#[derive(Debug, thiserror::Error)]
#[error("the layer can't use {held} received bytes, more than may wait: {MAX_SEALED}")]
pub(crate) struct TooMuchSealed {
    pub(crate) held: usize,
}

/// A machine that stands between a stream of bytes and the protocol above.
pub trait Layer {
    /// Unseals what it can from the front of `wire.received` into `plain`, and queues the layer's own bytes (handshake,
    /// alerts) in `wire.sealed`. Called with every received piece, once with nothing at the start, and again once bytes that
    /// there was no [room](Plain::room) for can be put. Returns true once the peer has closed the layer cleanly and all that it sent is
    /// unsealed; what follows is ignored.
    ///
    /// # Errors
    /// The peer broke the layer's rules or is not trusted. Any alert for the peer has been queued. The layer is not called
    /// again.
    fn unseal(&mut self, wire: &mut WireBuffers, plain: &mut Plain<'_>) -> Result<bool, LayerError>;

    /// Whether the layer's handshake is under way, so that nothing can be sealed yet.
    fn is_handshaking(&self) -> bool;

    /// Seals all of `plain`, at most 64 KiB.
    ///
    /// # Errors
    /// The layer can seal nothing more. It is not called again.
    fn seal(&mut self, plain: &[u8], wire: &mut WireBuffers) -> Result<(), LayerError>;

    /// Queues the layer's end: nothing is sealed after it. Called at most once. The peer may go on sending, and the layer
    /// goes on unsealing that.
    fn close(&mut self, wire: &mut WireBuffers);

    /// The transport has ended, and the layer did not end before.
    ///
    /// # Errors
    /// The layer has an end of its own, so the stream was cut off.
    fn handle_eof(&mut self) -> Result<(), LayerError>;

    /// Adds the facts of the layer to `opened`, once its handshake is done.
    fn describe(&mut self, opened: &mut Opened);

    /// Work that the bytes on the wire do not show, as [`Work::bytes`](crate::Work::bytes) counts it. 0 by default.
    fn worked(&self) -> u64 {
        0
    }

    /// The layer that there is: none where an `Option` is `None`. A session without a layer works as if there had never been
    /// one.
    #[doc(hidden)]
    fn as_layer(&mut self) -> Option<&mut dyn Layer>
    where
        Self: Sized,
    {
        Some(self)
    }
}

/// A layer, or none: for programs that choose when they run. With `None` no byte is copied.
impl<L: Layer> Layer for Option<L> {
    fn unseal(&mut self, wire: &mut WireBuffers, plain: &mut Plain<'_>) -> Result<bool, LayerError> {
        match self {
            Some(layer) => layer.unseal(wire, plain),
            None => {
                plain.put_slice(&wire.received);
                wire.received.clear();
                Ok(false)
            }
        }
    }

    fn is_handshaking(&self) -> bool {
        self.as_ref().is_some_and(L::is_handshaking)
    }

    fn seal(&mut self, plain: &[u8], wire: &mut WireBuffers) -> Result<(), LayerError> {
        match self {
            Some(layer) => layer.seal(plain, wire),
            None => {
                wire.sealed.put_slice(plain);
                Ok(())
            }
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
