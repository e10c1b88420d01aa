//! [`Source`]: the input of a decoder.

use std::fmt;
use std::ops::Deref;

use bytes::{Buf, Bytes, BytesMut};

use crate::hidden::HiddenBytes;

/// Size of the block that small frames are copied to.
const SLAB_SIZE: usize = 8 * 1024;

/// Received bytes that are not decoded yet, oldest first. Dereferences to a slice.
///
/// A decoder looks at the slice and then consumes a frame: as [`Bytes`] with [`take`](Self::take), or by
/// reading it and calling [`advance`](Self::advance).
pub struct Source<'a> {
    buffer: &'a mut BytesMut,
    /// The block for frames below the given size, unless the buffer is in it itself.
    slab: Option<(&'a mut BytesMut, usize)>,
    max_frame: usize,
    /// The weight of a message that weighs more than the bytes consumed for it here.
    weight: usize,
}

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&HiddenBytes(self.len())).finish()
    }
}

impl<'a> Source<'a> {
    /// Makes a source over `buffer`, without a limit: for calling a decoder outside a session.
    pub fn new(buffer: &'a mut BytesMut) -> Self {
        Source { buffer, slab: None, max_frame: usize::MAX, weight: 0 }
    }

    #[inline]
    pub(crate) fn copying(
        buffer: &'a mut BytesMut,
        slab: &'a mut BytesMut,
        slice_from: usize,
        max_frame: usize,
    ) -> Self {
        Source { buffer, slab: Some((slab, slice_from)), max_frame, weight: 0 }
    }

    #[inline]
    pub(crate) fn slicing(buffer: &'a mut BytesMut, max_frame: usize) -> Self {
        Source { buffer, slab: None, max_frame, weight: 0 }
    }

    /// The same bytes, for a call that is not inlined. If it got the address of this source, this one would
    /// lie in memory on every path. What the call [weighs](Self::weight) is lost.
    #[inline]
    pub(crate) fn apart(&mut self) -> Source<'_> {
        let slab = self.slab.as_mut().map(|(slab, slice_from)| (&mut **slab, *slice_from));
        Source { buffer: self.buffer, slab, max_frame: self.max_frame, weight: self.weight }
    }

    /// Consumes the first `n` bytes, or all if there are fewer, and returns them as [`Bytes`].
    ///
    /// The bytes may be kept as long as you like. Large frames are slices of the receive buffer, at no cost.
    /// Frames below 1 KiB are copied to a block shared by small frames, so that keeping one does not keep 128
    /// KiB of receive buffer alive. Once slices turn out to be kept, this applies to frames below 16 KiB.
    #[inline]
    pub fn take(&mut self, n: usize) -> Bytes {
        self.take_mut(n).freeze()
    }

    /// Does the same, with mutable bytes.
    #[inline]
    pub(crate) fn take_mut(&mut self, n: usize) -> BytesMut {
        let n = n.min(self.buffer.len());
        match &mut self.slab {
            Some((slab, slice_from)) if n < *slice_from => {
                let frame = copy_to_slab(slab, &self.buffer[..n]);
                self.buffer.advance(n);
                frame
            }
            _ => self.buffer.split_to(n),
        }
    }

    /// Consumes a header of `header` bytes and returns the `n` bytes after it: [`advance`](Self::advance) and
    /// [`take`](Self::take) in one. All of them must be there.
    #[inline(always)]
    pub(crate) fn take_after(&mut self, header: usize, n: usize) -> Bytes {
        match &mut self.slab {
            Some((slab, slice_from)) if n < *slice_from => {
                let frame = copy_to_slab(slab, &self.buffer[header..header + n]);
                self.buffer.advance(header + n);
                frame.freeze()
            }
            _ => {
                // Cutting the header off afterwards saves a change of the buffer.
                let mut frame = self.buffer.split_to(header + n).freeze();
                frame.advance(header);
                frame
            }
        }
    }

    /// Consumes everything up to the end of `range` and returns the bytes in it, after `check` has modified
    /// and accepted them. Otherwise consumes nothing.
    #[cfg(feature = "websocket")]
    #[inline(always)]
    pub(crate) fn take_checked(
        &mut self,
        range: std::ops::Range<usize>,
        check: impl FnOnce(&mut [u8]) -> bool,
    ) -> Option<BytesMut> {
        match &mut self.slab {
            Some((slab, slice_from)) if range.len() < *slice_from => {
                append_to_slab(slab, self.buffer.get(range.clone())?);
                if !check(slab) {
                    slab.clear();
                    return None;
                }
                self.buffer.advance(range.end);
                Some(slab.split())
            }
            _ => {
                let good = check(self.buffer.get_mut(range.clone())?);
                good.then(|| {
                    self.buffer.advance(range.start);
                    self.buffer.split_to(range.len())
                })
            }
        }
    }

    /// The bytes, for modification in place.
    #[cfg(feature = "websocket")]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer
    }

    /// Consumes the first `n` bytes, or all if there are fewer.
    #[inline]
    pub fn advance(&mut self, n: usize) {
        self.buffer.advance(n.min(self.buffer.len()));
    }

    /// Sets the weight of a message that came compressed or in several frames.
    #[cfg(feature = "websocket")]
    pub(crate) fn weigh(&mut self, bytes: usize) {
        self.weight = bytes;
    }

    /// The weight of the decoded message, for which `consumed` bytes were consumed.
    #[inline]
    pub(crate) fn weight(&self, consumed: usize) -> usize {
        self.weight.max(consumed)
    }

    /// The session's limit for a frame in bytes on the wire, [`Config::max_frame`](crate::Config::max_frame).
    /// A decoder that reads a frame's length in its header refuses a larger one at once, before buffering
    /// anything for it.
    #[inline]
    pub fn max_frame(&self) -> usize {
        self.max_frame
    }
}

impl Deref for Source<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.buffer
    }
}

/// Copies `bytes` to the slab. Its blocks are reused once none of their frames is kept.
pub(crate) fn copy_to_slab(slab: &mut BytesMut, bytes: &[u8]) -> BytesMut {
    append_to_slab(slab, bytes);
    slab.split()
}

/// Appends `bytes` to the slab.
#[inline]
pub(crate) fn append_to_slab(slab: &mut BytesMut, bytes: &[u8]) {
    if slab.capacity() - slab.len() < bytes.len() {
        slab.reserve(SLAB_SIZE.max(bytes.len()));
    }
    slab.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::SLICE_FROM;

    #[test]
    fn a_small_frame_leaves_the_receive_buffer_and_a_large_one_shares_it() {
        let mut buffer = BytesMut::from(&vec![7u8; 4096][..]);
        let block = buffer.as_ptr() as usize..buffer.as_ptr() as usize + buffer.capacity();
        let mut slab = BytesMut::new();
        let mut src = Source::copying(&mut buffer, &mut slab, SLICE_FROM, usize::MAX);
        let small = src.take(SLICE_FROM - 1);
        let large = src.take(SLICE_FROM);
        assert!(!block.contains(&(small.as_ptr() as usize)));
        assert!(block.contains(&(large.as_ptr() as usize)));
        assert_eq!(src.len(), 4096 - 2 * SLICE_FROM + 1);
    }

    #[test]
    fn the_slab_is_used_again_when_its_frames_are_gone() {
        let mut slab = BytesMut::with_capacity(SLAB_SIZE);
        let first = slab.as_ptr();
        for _ in 0..100 {
            let mut buffer = BytesMut::from(&[1u8; 500][..]);
            drop(Source::copying(&mut buffer, &mut slab, SLICE_FROM, usize::MAX).take(500));
        }
        slab.reserve(SLAB_SIZE);
        assert_eq!(slab.as_ptr(), first, "a new block was allocated although no frame was kept");
    }

    #[test]
    fn consuming_too_much_consumes_all() {
        let mut buffer = BytesMut::from(&b"abc"[..]);
        let mut src = Source::new(&mut buffer);
        src.advance(1);
        assert_eq!(src.take(9), "bc");
        src.advance(1);
        assert!(src.is_empty());
    }
}
