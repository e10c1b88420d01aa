//! [`Outbound`]: the bytes that a session wants written.

use std::io::IoSlice;

use bytes::Buf;

use super::inner::Inner;

/// The bytes that a session wants written, in order.
///
/// Write [`chunk`](Buf::chunk), or several pieces at once from [`chunks_vectored`](Buf::chunks_vectored),
/// and call [`advance`](Buf::advance) with what the transport took.
#[derive(Debug)]
pub struct Outbound<'a> {
    inner: &'a mut Inner,
}

impl<'a> Outbound<'a> {
    pub(crate) fn new(inner: &'a mut Inner) -> Self {
        Outbound { inner }
    }
}

impl Buf for Outbound<'_> {
    fn remaining(&self) -> usize {
        match self.inner.layer_sealed() {
            Some(sealed) => sealed.len(),
            None => self.inner.outbox.queued(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self.inner.layer_sealed() {
            Some(sealed) => sealed,
            None => self.inner.buffers.as_ref().map_or(&[], |b| b.segments.chunk()),
        }
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        match (self.inner.layer_sealed(), dst) {
            (Some([]), _) | (_, []) => 0,
            (Some(sealed), [first, ..]) => {
                *first = IoSlice::new(sealed);
                1
            }
            (None, dst) => self.inner.buffers.as_ref().map_or(0, |b| b.segments.chunks_vectored(dst)),
        }
    }

    /// Counts `n` bytes as written; more than there are count as all.
    fn advance(&mut self, n: usize) {
        self.inner.count_written(n);
    }
}

impl Drop for Outbound<'_> {
    /// What is left could not be written: from now on its time is limited.
    fn drop(&mut self) {
        self.inner.watch_stall();
    }
}
