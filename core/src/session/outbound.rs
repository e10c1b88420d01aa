//! [`Outbound`]: the bytes that a session wants to write.

use std::io::IoSlice;

use bytes::Buf;

use super::state::State;

/// The bytes that a session wants to write, in order.
///
/// Write [`chunk`](Buf::chunk), or several pieces at once from [`chunks_vectored`](Buf::chunks_vectored).
/// Then call [`advance`](Buf::advance) with the number of bytes that the transport took.
#[derive(Debug)]
pub struct Outbound<'a> {
    state: &'a mut State,
}

impl<'a> Outbound<'a> {
    pub(super) fn new(state: &'a mut State) -> Self {
        Outbound { state }
    }
}

impl Buf for Outbound<'_> {
    #[inline(always)]
    fn remaining(&self) -> usize {
        match self.state.layer_sealed() {
            Some(sealed) => sealed.len(),
            None => self.state.outbox.queued(),
        }
    }

    #[inline(always)]
    fn chunk(&self) -> &[u8] {
        match self.state.layer_sealed() {
            Some(sealed) => sealed,
            None => self.state.buffers.as_ref().map_or(&[], |b| b.segments.chunk()),
        }
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        match (self.state.layer_sealed(), dst) {
            (Some([]), _) | (_, []) => 0,
            (Some(sealed), [first, ..]) => {
                *first = IoSlice::new(sealed);
                1
            }
            (None, dst) => self.state.buffers.as_ref().map_or(0, |b| b.segments.chunks_vectored(dst)),
        }
    }

    /// Counts `n` bytes as written, limited to the number of bytes there.
    #[inline(always)]
    fn advance(&mut self, n: usize) {
        self.state.count_written(n);
    }
}

impl Drop for Outbound<'_> {
    /// Limits the time of what could not be written.
    fn drop(&mut self) {
        self.state.watch_stall();
    }
}
