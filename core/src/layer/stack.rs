//! [`Stack`]: two layers as one.

use std::sync::Arc;

use super::{Layer, LayerError, MAX_SEALED, Plain, TooMuchSealed, WireBuffers};
use crate::event::Opened;

/// Bytes sealed at a time.
const BATCH: usize = 64 * 1024;

/// Two layers as one: `Outer` is next to the wire, `Inner` next to the protocol.
///
/// The handshake of `Inner` begins once `Outer` has opened. A close closes `Inner` first.
#[derive(Debug, Clone, Default)]
pub struct Stack<Outer, Inner> {
    outer: Outer,
    inner: Inner,
    /// The peer has closed the outer layer.
    outer_ended: bool,
}

impl<Outer: Layer, Inner: Layer> Stack<Outer, Inner> {
    /// Puts `inner` on top of `outer`.
    pub fn new(outer: Outer, inner: Inner) -> Self {
        Stack { outer, inner, outer_ended: false }
    }

    /// The layer next to the wire.
    pub fn outer(&self) -> &Outer {
        &self.outer
    }

    /// The layer next to the protocol.
    pub fn inner(&self) -> &Inner {
        &self.inner
    }

    fn unseal_both(
        &mut self,
        wire: &mut WireBuffers,
        between: &mut WireBuffers,
        plain: &mut Plain<'_>,
    ) -> Result<bool, LayerError> {
        loop {
            let room = MAX_SEALED.saturating_sub(between.received.len());
            let mut middle = Plain::between(&mut between.received, room);
            let was_open = !self.outer.is_handshaking();
            if !self.outer_ended {
                match self.outer.unseal(wire, &mut middle) {
                    Ok(ended) => self.outer_ended = ended,
                    Err(error) => {
                        // What came before the fault counts; the inner layer can't answer it any longer.
                        if was_open {
                            let _ = self.inner.unseal(between, plain);
                            between.sealed.clear();
                        }
                        return Err(error);
                    }
                }
            }
            let is_full = middle.room() == 0;
            if self.outer.is_handshaking() {
                return Ok(self.outer_ended);
            }
            let held = between.received.len();
            let ended = self.inner.unseal(between, plain);
            self.seal_between(wire, between)?;
            if ended? {
                return Ok(true);
            }
            if plain.room() == 0 {
                return Ok(false);
            }
            if is_full {
                if between.received.len() == held {
                    return Err(Arc::new(TooMuchSealed { held }));
                }
            } else if self.outer_ended && plain.is_unwanted() {
                return Ok(true); // the session closes: how the peer ends is no longer of interest
            } else if self.outer_ended {
                return self.inner.handle_eof().map(|()| true);
            } else {
                return Ok(false);
            }
        }
    }

    /// Seals the inner layer's output with the outer layer.
    fn seal_between(&mut self, wire: &mut WireBuffers, between: &mut WireBuffers) -> Result<(), LayerError> {
        while !between.sealed.is_empty() {
            let sealed = between.sealed.as_slice();
            let n = sealed.len().min(BATCH);
            self.outer.seal(&sealed[..n], wire)?;
            between.sealed.advance(n);
        }
        Ok(())
    }
}

impl<Outer: Layer, Inner: Layer> Layer for Stack<Outer, Inner> {
    fn unseal(&mut self, wire: &mut WireBuffers, plain: &mut Plain<'_>) -> Result<bool, LayerError> {
        let mut between = wire.take_between();
        let ended = self.unseal_both(wire, &mut between, plain);
        wire.put_back(between);
        ended
    }

    fn is_handshaking(&self) -> bool {
        self.outer.is_handshaking() || self.inner.is_handshaking()
    }

    fn seal(&mut self, plain: &[u8], wire: &mut WireBuffers) -> Result<(), LayerError> {
        let mut between = wire.take_between();
        let sealed = self.inner.seal(plain, &mut between);
        let sealed = self.seal_between(wire, &mut between).and(sealed);
        wire.put_back(between);
        sealed
    }

    fn close(&mut self, wire: &mut WireBuffers) {
        let mut between = wire.take_between();
        self.inner.close(&mut between);
        // If it can't be sealed any longer, the stream looks cut off to the peer.
        let _ = self.seal_between(wire, &mut between);
        wire.put_back(between);
        self.outer.close(wire);
    }

    fn handle_eof(&mut self) -> Result<(), LayerError> {
        if !self.outer_ended {
            self.outer.handle_eof()?;
        }
        self.inner.handle_eof()
    }

    fn describe(&mut self, opened: &mut Opened) {
        self.outer.describe(opened);
        self.inner.describe(opened);
    }

    fn worked(&self) -> u64 {
        self.outer.worked() + self.inner.worked()
    }

    fn as_layer(&mut self) -> Option<&mut dyn Layer> {
        match (self.outer.as_layer().is_some(), self.inner.as_layer().is_some()) {
            (true, true) => Some(self),
            (true, false) => self.outer.as_layer(),
            (false, _) => self.inner.as_layer(),
        }
    }
}
