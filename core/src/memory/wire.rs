//! What lies between the wire and a layer.

use std::fmt;

use bytes::BytesMut;

use crate::copy;
use crate::hidden::HiddenBytes;

/// Bytes between the wire and a [`Layer`](crate::layer::Layer).
#[derive(Default)]
#[non_exhaustive]
pub struct WireBuffers {
    /// Received, not unsealed yet.
    pub received: BytesMut,
    /// Sealed, not written yet.
    pub sealed: SealedBuf,
    /// The bytes between the layers of a [`Stack`](crate::layer::Stack).
    between: Option<Box<WireBuffers>>,
}

impl WireBuffers {
    /// Lends out the bytes between the layers of a stack. They come back with [`put_back`](Self::put_back).
    pub(crate) fn take_between(&mut self) -> Box<WireBuffers> {
        self.between.take().unwrap_or_default()
    }

    pub(crate) fn put_back(&mut self, between: Box<WireBuffers>) {
        self.between = Some(between);
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.received.is_empty()
            && self.sealed.is_empty()
            && (self.between.is_none() || self.is_empty_between())
    }

    #[cold]
    fn is_empty_between(&self) -> bool {
        self.between.as_ref().is_none_or(|between| between.is_empty())
    }

    fn clear(&mut self) {
        self.received.clear();
        self.sealed.clear();
        if let Some(between) = &mut self.between {
            between.clear();
        }
    }

    /// Whether it has ever been used.
    #[inline]
    fn has_memory(&self) -> bool {
        self.received.capacity() > 0 || !self.sealed.bytes.is_empty() || self.between.is_some()
    }

    /// Gives up what grew beyond `keep`.
    fn shrink(&mut self, keep: usize) {
        if self.received.capacity() > keep {
            self.received = BytesMut::new();
        }
        if self.sealed.bytes.len() > keep {
            self.sealed = SealedBuf::default();
        }
        if let Some(between) = &mut self.between {
            between.shrink(keep);
        }
    }

    /// Appends a copy of what `other` holds, in memory of its own size if this holds nothing.
    fn append(&mut self, other: &WireBuffers) {
        if self.received.capacity() == 0 {
            self.received = copy::copy(&other.received);
        } else {
            copy::append(&mut self.received, &other.received);
        }
        self.sealed.put_slice(other.sealed.as_slice());
        if let Some(between) = other.between.as_ref().filter(|between| !between.is_empty()) {
            self.between.get_or_insert_default().append(between);
        }
    }
}

impl fmt::Debug for WireBuffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireBuffers")
            .field("received", &HiddenBytes(self.received.len()))
            .field("sealed", &self.sealed)
            .field("between", &self.between)
            .finish()
    }
}

/// The bytes of the wire, and what they stand for.
#[derive(Debug, Default)]
pub(crate) struct LayerBuffers {
    pub(crate) wire: WireBuffers,
    /// How many plain bytes the sealed ones stand for.
    pub(crate) sealed_plain: usize,
    /// Some of it was written.
    pub(crate) partly_written: bool,
}

impl LayerBuffers {
    pub(crate) fn is_empty(&self) -> bool {
        self.wire.is_empty()
    }

    /// Forgets what it holds, and gives up what grew beyond `keep`.
    #[inline]
    pub(crate) fn reset(&mut self, keep: usize) {
        if self.wire.has_memory() {
            self.wire.clear();
            self.wire.shrink(keep);
        }
        self.clear_sealed();
    }

    /// Forgets what was sealed.
    pub(crate) fn clear_sealed(&mut self) {
        self.wire.sealed.clear();
        self.sealed_plain = 0;
        self.partly_written = false;
    }

    /// Leaves what it holds to `own`, which is empty, in memory of its own size.
    pub(crate) fn leave_to(&mut self, own: &mut LayerBuffers) {
        own.wire = WireBuffers::default();
        own.wire.append(&self.wire);
        own.sealed_plain = self.sealed_plain;
        own.partly_written = self.partly_written;
        self.wire.clear();
        self.clear_sealed();
    }

    /// Takes what `own` holds, into empty arenas.
    pub(crate) fn take_over(&mut self, own: &mut LayerBuffers) {
        self.wire.clear();
        self.wire.append(&own.wire);
        self.sealed_plain = own.sealed_plain;
        self.partly_written = own.partly_written;
        *own = LayerBuffers::default();
    }
}

/// Takes the bytes that a [`Layer`](crate::layer::Layer) wants on the wire.
#[derive(Default)]
pub struct SealedBuf {
    /// Once initialised, room stays so: nothing is zeroed per batch.
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl fmt::Debug for SealedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SealedBuf").field(&HiddenBytes(self.len())).finish()
    }
}

impl SealedBuf {
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

    /// Drops what was written after the first `len` bytes that wait.
    #[cfg(feature = "tls")]
    pub(crate) fn truncate(&mut self, len: usize) {
        self.to = self.to.min(self.from + len);
    }

    pub(crate) fn clear(&mut self) {
        self.from = 0;
        self.to = 0;
    }
}
