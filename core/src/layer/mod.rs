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
#[cfg(feature = "tls")]
pub mod tls;

use std::error::Error;
use std::sync::Arc;

use crate::event::Opened;
pub use crate::memory::{Sealed, Wire};
pub use plain::Plain;

/// Why a layer failed.
pub type LayerError = Arc<dyn Error + Send + Sync>;

/// A machine that stands between a stream of bytes and the protocol above.
pub trait Layer {
    /// Takes what it can use from the front of what `wire` received, writes what that says to `plain`, and seals what the
    /// layer itself has to say, if anything. Called with every received piece, and once with an empty one at the start. Says
    /// whether the peer has ended the layer in due form; what comes after that is ignored.
    ///
    /// # Errors
    /// The peer broke the layer's rules or is not to be trusted. What the peer is to be told is sealed still. Nothing
    /// is asked of the layer any more.
    fn open(&mut self, wire: &mut Wire, plain: &mut Plain<'_>) -> Result<bool, LayerError>;

    /// Whether the layer's handshake is done, so that bytes can be sealed.
    fn is_open(&self) -> bool;

    /// Seals all of `plain`, at most 64 KiB.
    ///
    /// # Errors
    /// It can't any more. Nothing is asked of the layer any more.
    fn seal(&mut self, plain: &[u8], wire: &mut Wire) -> Result<(), LayerError>;

    /// Tells the peer that nothing more follows. Called once at the most, and nothing is sealed after.
    fn close(&mut self, wire: &mut Wire);

    /// The transport has ended, and the layer did not say so before.
    ///
    /// # Errors
    /// That is an error, since the layer has an end of its own.
    fn handle_eof(&mut self) -> Result<(), LayerError>;

    /// Adds what is known of the open layer to `opened`.
    fn describe(&mut self, opened: &mut Opened);
}

/// Nothing, or a layer: for programs that choose when they run.
impl<L: Layer> Layer for Option<L> {
    fn open(&mut self, wire: &mut Wire, plain: &mut Plain<'_>) -> Result<bool, LayerError> {
        match self {
            Some(layer) => layer.open(wire, plain),
            None => {
                plain.put_slice(&wire.received);
                wire.received.clear();
                Ok(false)
            }
        }
    }

    fn is_open(&self) -> bool {
        self.as_ref().is_none_or(L::is_open)
    }

    fn seal(&mut self, plain: &[u8], wire: &mut Wire) -> Result<(), LayerError> {
        match self {
            Some(layer) => layer.seal(plain, wire),
            None => {
                wire.sealed.put_slice(plain);
                Ok(())
            }
        }
    }

    fn close(&mut self, wire: &mut Wire) {
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
}
