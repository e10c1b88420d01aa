//! [`Segments`]: bytes that wait to be written.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use crate::hidden::HiddenBytes;

/// Bytes to send, in order: copied bytes with zero-copy payloads between them.
#[derive(Default)]
pub(crate) struct Segments {
    /// All copied bytes, in order.
    pub(crate) gathered: BytesMut,
    /// Payloads that were not copied, in order.
    pub(crate) chained: VecDeque<Chained>,
    /// Copied bytes written and dropped so far: the origin of `Chained::at`.
    pub(crate) written: u64,
}

impl Segments {
    pub(crate) fn is_empty(&self) -> bool {
        self.gathered.is_empty() && self.chained.is_empty()
    }

    /// The first piece to write.
    pub(crate) fn chunk(&self) -> &[u8] {
        match self.chained.front() {
            None => &self.gathered,
            Some(first) if first.at == self.written => &first.payload,
            Some(first) => &self.gathered[..(first.at - self.written) as usize],
        }
    }

    /// Fills `dst` with the pieces to write, in order.
    pub(crate) fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let mut put = |piece: &'a [u8]| {
            if !piece.is_empty() && filled < dst.len() {
                dst[filled] = IoSlice::new(piece);
                filled += 1;
            }
            filled < dst.len()
        };
        let mut from = 0;
        for chained in &self.chained {
            let to = (chained.at - self.written) as usize;
            if !put(&self.gathered[from..to]) || !put(&chained.payload) {
                return filled;
            }
            from = to;
        }
        put(&self.gathered[from..]);
        filled
    }

    /// Drops the first `n` bytes.
    #[inline]
    pub(crate) fn advance(&mut self, n: usize) {
        if self.chained.is_empty() && n == self.gathered.len() {
            self.written += n as u64;
            self.gathered.clear();
        } else {
            self.advance_by_parts(n);
        }
    }

    fn advance_by_parts(&mut self, mut n: usize) {
        while n > 0 {
            let step = match self.chained.front_mut() {
                None => self.skip_gathered(n),
                Some(first) if first.at > self.written => {
                    let before = (first.at - self.written) as usize;
                    self.skip_gathered(n.min(before))
                }
                Some(first) => {
                    let step = n.min(first.payload.len());
                    first.payload.advance(step);
                    if first.payload.is_empty() {
                        self.chained.pop_front();
                    }
                    step
                }
            };
            if step == 0 {
                break; // counted wrong: stop rather than spin
            }
            n -= step;
        }
    }

    fn skip_gathered(&mut self, n: usize) -> usize {
        let n = n.min(self.gathered.len());
        self.gathered.advance(n);
        self.written += n as u64;
        n
    }

    /// Marks the end of the queue, to return to it.
    pub(crate) fn mark(&self) -> (usize, usize) {
        (self.gathered.len(), self.chained.len())
    }

    /// Takes back everything that was added since `mark`.
    pub(crate) fn rollback(&mut self, (gathered, chained): (usize, usize)) {
        self.gathered.truncate(gathered);
        self.chained.truncate(chained);
    }
}

impl fmt::Debug for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segments")
            .field("gathered", &HiddenBytes(self.gathered.len()))
            .field("chained", &HiddenBytes(self.chained.iter().map(|c| c.payload.len()).sum()))
            .finish_non_exhaustive()
    }
}

/// A payload that is sent without copying.
pub(crate) struct Chained {
    /// Number of copied bytes before the payload, counted as in `Segments::written`.
    pub(crate) at: u64,
    pub(crate) payload: Bytes,
}
