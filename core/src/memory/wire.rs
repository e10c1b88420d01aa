//! What lies between the wire and a layer.

use std::fmt;

use bytes::BytesMut;

use crate::copy;
use crate::hidden::HiddenBytes;

/// Bytes between the wire and a [`Layer`](crate::layer::Layer).
#[derive(Default)]
#[non_exhaustive]
pub struct Wire {
    /// Received, not opened yet.
    pub received: BytesMut,
    /// Sealed, not written yet.
    pub sealed: Sealed,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("received", &HiddenBytes(self.received.len()))
            .field("sealed", &self.sealed)
            .finish()
    }
}

/// The bytes of the wire, and what they stand for.
#[derive(Debug, Default)]
pub(crate) struct LayerBuffers {
    pub(crate) wire: Wire,
    /// How many plain bytes the sealed ones stand for.
    pub(crate) sealed_plain: usize,
    /// Some of it was written.
    pub(crate) partly_written: bool,
}

impl LayerBuffers {
    pub(crate) fn is_empty(&self) -> bool {
        self.wire.received.is_empty() && self.wire.sealed.is_empty()
    }

    /// Forgets what it holds, and gives up what grew beyond `keep`.
    pub(crate) fn reset(&mut self, keep: usize) {
        self.wire.received.clear();
        if self.wire.received.capacity() > keep {
            self.wire.received = BytesMut::new();
        }
        self.clear_sealed();
        if self.wire.sealed.bytes.len() > keep {
            self.wire.sealed = Sealed::default();
        }
    }

    /// Forgets what was sealed.
    pub(crate) fn clear_sealed(&mut self) {
        self.wire.sealed.clear();
        self.sealed_plain = 0;
        self.partly_written = false;
    }

    /// Leaves what it holds to `own`, which is empty, in memory of its own size.
    pub(crate) fn leave_to(&mut self, own: &mut LayerBuffers) {
        own.wire.received = copy::copy(&self.wire.received);
        own.wire.sealed = Sealed::default();
        own.wire.sealed.put_slice(self.wire.sealed.as_slice());
        own.sealed_plain = self.sealed_plain;
        own.partly_written = self.partly_written;
        self.wire.received.clear();
        self.clear_sealed();
    }

    /// Takes what `own` holds, into empty arenas.
    pub(crate) fn take_over(&mut self, own: &mut LayerBuffers) {
        self.wire.received.clear();
        copy::append(&mut self.wire.received, &own.wire.received);
        self.wire.sealed.clear();
        self.wire.sealed.put_slice(own.wire.sealed.as_slice());
        self.sealed_plain = own.sealed_plain;
        self.partly_written = own.partly_written;
        *own = LayerBuffers::default();
    }
}

/// Takes the bytes that a [`Layer`](crate::layer::Layer) wants on the wire.
#[derive(Default)]
pub struct Sealed {
    /// Once initialised, room stays so: nothing is zeroed per batch.
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sealed").field(&HiddenBytes(self.len())).finish()
    }
}

impl Sealed {
    /// Room for `len` bytes; say with [`filled`](Self::filled) how many of them were written.
    pub fn room(&mut self, len: usize) -> &mut [u8] {
        let end = self.to + len;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.to..end]
    }

    /// The first `len` bytes of the [`room`](Self::room) were written.
    pub fn filled(&mut self, len: usize) {
        self.to = (self.to + len).min(self.bytes.len());
    }

    /// Writes a copy of `bytes`.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.filled(bytes.len());
    }

    /// How many bytes wait to be written.
    pub fn len(&self) -> usize {
        self.to - self.from
    }

    /// Whether nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What waits to be written.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }

    /// The first `n` bytes were written.
    pub(crate) fn advance(&mut self, n: usize) {
        self.from += n.min(self.len());
        if self.is_empty() {
            self.clear();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.from = 0;
        self.to = 0;
    }
}
