//! The buffers between the wire and a layer.

use std::fmt;

#[cfg(feature = "tls")]
use bytes::Buf;
use bytes::BytesMut;

use crate::copy;
use crate::hidden::HiddenBytes;

/// Bytes between the wire and a [`Layer`](crate::layer::Layer).
#[derive(Default)]
#[non_exhaustive]
pub struct WireBuffers {
    /// Bytes received and not unsealed yet.
    pub received: BytesMut,
    /// Bytes sealed and not written yet.
    pub sealed: SealedBuf,
    /// The bytes between the layers of a [`Stack`](crate::layer::Stack).
    between: Option<Box<WireBuffers>>,
}

impl WireBuffers {
    /// Removes the first `n` received bytes.
    #[cfg(feature = "tls")]
    pub(crate) fn used(&mut self, n: usize) {
        if n >= self.received.len() {
            self.received.clear(); // unlike `advance`, this keeps the whole room for the next read
        } else {
            self.received.advance(n);
        }
    }

    /// Takes the bytes between the layers of a stack. Return them with [`put_back`](Self::put_back).
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

    /// Bytes that were received and wait for a layer.
    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        self.received.len() + if self.between.is_some() { self.waiting_between() } else { 0 }
    }

    #[cold]
    fn waiting_between(&self) -> usize {
        self.between.as_ref().map_or(0, |between| between.waiting())
    }

    fn clear(&mut self) {
        self.received.clear();
        self.sealed.clear();
        if let Some(between) = &mut self.between {
            between.clear();
        }
    }

    /// Whether the buffers were ever used.
    #[inline]
    fn has_memory(&self) -> bool {
        self.received.capacity() > 0 || !self.sealed.bytes.is_empty() || self.between.is_some()
    }

    /// Frees buffers that grew beyond `keep`.
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

    /// Appends a copy of `other`, in memory of exactly its size if this is empty.
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

/// The bytes between wire and layer, and the size of their content.
#[derive(Debug, Default)]
pub(crate) struct LayerBuffers {
    pub(crate) wire: WireBuffers,
    /// Number of plain bytes in the sealed ones.
    pub(crate) sealed_plain: usize,
    /// Some of the sealed bytes were written.
    pub(crate) partly_written: bool,
}

impl LayerBuffers {
    /// Whether empty buffers have to be reset: they grew beyond `keep`, or count what is gone.
    #[inline]
    pub(crate) fn wants_reset(&self, keep: usize) -> bool {
        (self.wire.received.capacity() > keep)
            | (self.wire.sealed.bytes.len() > keep)
            | self.wire.between.is_some()
            | (self.sealed_plain > 0)
            | self.partly_written
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.wire.is_empty()
    }

    /// Empties the buffers, and frees those that grew beyond `keep`.
    #[inline]
    pub(crate) fn reset(&mut self, keep: usize) {
        if self.wire.has_memory() {
            self.wire.clear();
            self.wire.shrink(keep);
        }
        self.clear_sealed();
    }

    /// Drops the sealed bytes.
    pub(crate) fn clear_sealed(&mut self) {
        self.wire.sealed.clear();
        self.sealed_plain = 0;
        self.partly_written = false;
    }

    /// Moves everything to `own`, which is empty, in memory of exactly its size.
    pub(crate) fn leave_to(&mut self, own: &mut LayerBuffers) {
        own.wire = WireBuffers::default();
        own.wire.append(&self.wire);
        own.sealed_plain = self.sealed_plain;
        own.partly_written = self.partly_written;
        self.wire.clear();
        self.clear_sealed();
    }

    /// Moves everything from `own` into empty arenas.
    pub(crate) fn take_over(&mut self, own: &mut LayerBuffers) {
        self.wire.clear();
        self.wire.append(&own.wire);
        self.sealed_plain = own.sealed_plain;
        self.partly_written = own.partly_written;
        *own = LayerBuffers::default();
    }
}

/// The bytes that a [`Layer`](crate::layer::Layer) writes to the wire.
#[derive(Default)]
pub struct SealedBuf {
    /// Stays initialised, so that nothing is zeroed per batch.
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
    /// Returns room for `len` bytes. Confirm with [`filled`](Self::filled) how many were written.
    pub fn room(&mut self, len: usize) -> &mut [u8] {
        let end = self.to + len;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.to..end]
    }

    /// Takes the first `len` bytes of the [`room`](Self::room) as written.
    pub fn filled(&mut self, len: usize) {
        self.to = (self.to + len).min(self.bytes.len());
    }

    /// Appends a copy of `bytes`.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.filled(bytes.len());
    }

    /// The number of bytes that wait to be written.
    pub fn len(&self) -> usize {
        self.to - self.from
    }

    /// Whether no bytes wait to be written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that wait to be written.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }

    /// Removes the first `n` bytes, which were written.
    pub(crate) fn advance(&mut self, n: usize) {
        self.from += n.min(self.len());
        if self.is_empty() {
            self.clear();
        }
    }

    /// Keeps the first `len` waiting bytes and drops the rest.
    #[cfg(feature = "tls")]
    pub(crate) fn truncate(&mut self, len: usize) {
        self.to = self.to.min(self.from + len);
    }

    pub(crate) fn clear(&mut self) {
        self.from = 0;
        self.to = 0;
    }
}
