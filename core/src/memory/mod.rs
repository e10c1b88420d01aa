//! [`Memory`]: buffers that sessions share by turns.

mod runs;
mod wire;

pub(crate) use runs::{Kind, Run, Runs};
pub(crate) use wire::LayerBuffers;
pub use wire::{SealedBuf, WireBuffers};

use std::fmt;

use bytes::BytesMut;

use crate::codec::{self, Segments, Source};
use crate::copy;
use crate::hidden::HiddenBytes;

/// Room offered to one read. There is one arena per thread, so it may be large. With 64 KiB, echoing 16 KiB
/// messages 16 at a time took 6 % more CPU.
pub(crate) const READ_ARENA: usize = 128 * 1024;

/// Leftovers below this size move to a buffer of exactly their size, so that their arena goes to the next
/// session. Larger ones keep the arena. Thus a session never pins more than eight times what it holds.
const KEEP_ARENA_FROM: usize = READ_ARENA / 8;

/// Buffers for one turn of a session: a read arena, a write arena and a slab for small frames.
///
/// One thread needs one `Memory`, however many sessions it drives. Lend it to a session
/// ([`Session::lend`](crate::Session::lend)), let the session work, and take it back
/// ([`Session::take_back`](crate::Session::take_back)). Idle sessions then hold no buffer at all.
#[derive(Debug, Default)]
pub struct Memory(pub(crate) Box<Buffers>);

impl Memory {
    /// Makes empty buffers, which grow on first use.
    pub fn new() -> Self {
        Self::default()
    }
}

/// The largest read, in bytes, that is copied to the slab.
const SLAB_UP_TO: usize = 4 * 1024;

/// Frames from this size on are slices of the arena, unless the application turns out to keep them.
pub(crate) const SLICE_FROM: usize = 1024;

/// Buffers that grew beyond this are not kept for the next session.
const KEEP_UP_TO: usize = 4 * READ_ARENA;

/// The same limit for the queues of chained payloads and of sizes. Most sizes take two bytes.
const KEEP_ITEMS_UP_TO: usize = 1024;
const KEEP_SIZES_UP_TO: usize = 8 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pub(crate) received: Received,
    /// Bytes to send.
    pub(crate) segments: Segments,
    /// Sizes of the messages in `segments`, as runs of equal ones. The outbox has the last run.
    pub(crate) sizes: Runs,
    /// The bytes between a layer and the wire, if there is a layer.
    pub(crate) layer: LayerBuffers,
}

/// Received bytes that are not decoded yet.
///
/// The bytes of one small read are copied to the slab as a whole and decoded there; frames are slices of it.
/// Everything else is decoded where it was read, and only the small frames in it are copied to the slab, one
/// by one. Either way, keeping a small frame pins a block of the slab, not the arena.
#[derive(Default)]
pub(crate) struct Received {
    /// The bytes of a small read. If there are any, `read` is empty.
    slab: BytesMut,
    read: BytesMut,
    /// Size of the block that holds `read`, as far as it is known.
    block: usize,
    /// Number of reads to come for which frames that are a small part of the block are copied out of it.
    wary: u16,
}

/// Number of reads treated with caution after the application kept a slice of the arena. Such a slice then
/// pins at most 128 bytes per read.
const WARY_FOR: u16 = 1024;

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Received").field(&HiddenBytes(self.len())).finish()
    }
}

impl Received {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.slab.len() + self.read.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn clear(&mut self) {
        self.slab.clear();
        self.read.clear();
    }

    /// Appends `bytes`. Small pieces stay together in the slab, as those of a layer's records.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if self.read.is_empty() && Self::fits_slab(self.slab.len() + bytes.len()) {
            codec::append_to_slab(&mut self.slab, bytes);
        } else {
            self.spill();
            copy::append(&mut self.read, bytes);
        }
    }

    /// Returns the buffer to append to. `wanted` computes its room from the number of bytes it holds. Confirm
    /// with [`appended`](Self::appended).
    #[inline(always)]
    pub(crate) fn buffer(&mut self, wanted: impl FnOnce(usize) -> usize) -> &mut BytesMut {
        self.spill();
        self.wary = self.wary.saturating_sub(1);
        let held = self.read.len();
        let room = wanted(held);
        // Reserving less than the spare capacity costs nothing; a little room is not worth a read.
        if self.read.capacity() - held < room {
            self.make_room(room);
        }
        &mut self.read
    }

    #[inline(never)]
    fn make_room(&mut self, room: usize) {
        if self.read.try_reclaim(room) {
            return;
        }
        if self.read.len() + room <= self.block {
            // The block would suffice, but slices of it are kept.
            self.wary = WARY_FOR;
        }
        self.read.reserve(room);
        self.block = self.read.capacity();
    }

    /// Takes note of the last `n` bytes, which were appended to the buffer.
    #[inline(always)]
    pub(crate) fn appended(&mut self, n: usize) {
        if n == self.read.len() && Self::fits_slab(n) {
            codec::append_to_slab(&mut self.slab, &self.read);
            self.read.clear();
        }
    }

    fn fits_slab(bytes: usize) -> bool {
        (1..=SLAB_UP_TO).contains(&bytes)
    }

    /// The bytes for a decoder.
    #[inline]
    pub(crate) fn source(&mut self, max_frame: usize) -> Source<'_> {
        if !self.slab.is_empty() {
            Source::slicing(&mut self.slab, max_frame)
        } else {
            let slice_from = if self.wary > 0 { KEEP_ARENA_FROM } else { SLICE_FROM };
            Source::copying(&mut self.read, &mut self.slab, slice_from, max_frame)
        }
    }

    /// Drops the last `n` bytes that were appended to the buffer.
    pub(crate) fn truncate_by(&mut self, n: usize) {
        self.read.truncate(self.read.len().saturating_sub(n));
    }

    /// Forgets the size of the block if the buffer no longer begins at `before`.
    fn know_block_after(&mut self, before: *const u8) {
        if self.read.as_ptr() != before {
            self.block = 0;
        }
    }

    /// Moves what is left in the slab to the buffer, where more can be appended.
    #[inline]
    fn spill(&mut self) {
        if !self.slab.is_empty() {
            copy::append(&mut self.read, &self.slab);
            self.slab.clear();
        }
    }
}

impl Buffers {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.received.is_empty() && self.segments.is_empty() && self.layer.is_empty()
    }

    /// Frees what grew beyond a thread's fair share. The buffers are empty.
    #[inline]
    pub(crate) fn trim(&mut self) {
        let grew = (self.received.read.capacity() > KEEP_UP_TO)
            | (self.segments.gathered.capacity() > KEEP_UP_TO)
            | (self.segments.chained.capacity() > KEEP_ITEMS_UP_TO)
            | self.sizes.is_larger_than(KEEP_SIZES_UP_TO)
            | self.layer.wants_reset(KEEP_UP_TO);
        if grew {
            self.reset();
        }
    }

    /// Empties the buffers, and frees those that grew beyond a thread's fair share.
    #[inline(never)]
    pub(crate) fn reset(&mut self) {
        self.received.slab.clear();
        for buffer in [&mut self.received.read, &mut self.segments.gathered] {
            buffer.clear();
            if buffer.capacity() > KEEP_UP_TO {
                *buffer = BytesMut::new();
            }
        }
        self.layer.reset(KEEP_UP_TO);
        if self.segments.chained.capacity() > 0 {
            self.segments.chained.clear();
            self.segments.chained.shrink_to(KEEP_ITEMS_UP_TO);
        }
        self.sizes.reset(KEEP_SIZES_UP_TO);
    }

    /// Moves everything from a session's own buffers into empty arenas. `own` may get an arena in exchange.
    pub(crate) fn take_over(&mut self, own: &mut Buffers) {
        fn adopt(arena: &mut BytesMut, own: &mut BytesMut) {
            if own.len() < KEEP_ARENA_FROM {
                arena.clear();
                copy::append(arena, own);
                *own = BytesMut::new();
            } else {
                std::mem::swap(arena, own);
            }
        }
        own.received.spill();
        let arena = self.received.read.as_ptr();
        adopt(&mut self.received.read, &mut own.received.read);
        self.received.know_block_after(arena);
        adopt(&mut self.segments.gathered, &mut own.segments.gathered);
        if !own.layer.is_empty() {
            self.layer.take_over(&mut own.layer);
        }
        self.exchange_queues(own);
    }

    /// Moves everything to `own`, in memory of exactly its size unless it is large, and keeps the larger
    /// buffers.
    pub(crate) fn leave_to(&mut self, own: &mut Buffers) {
        fn settle(arena: &mut BytesMut, own: &mut BytesMut) {
            if arena.len() < KEEP_ARENA_FROM.max(arena.capacity() / 4) {
                let copy = copy::copy(arena);
                let spare = std::mem::replace(own, copy);
                arena.clear();
                if spare.capacity() > arena.capacity() {
                    *arena = spare;
                }
            } else {
                std::mem::swap(arena, own);
            }
        }
        self.received.spill();
        let arena = self.received.read.as_ptr();
        settle(&mut self.received.read, &mut own.received.read);
        self.received.know_block_after(arena);
        own.received.block = 0;
        settle(&mut self.segments.gathered, &mut own.segments.gathered);
        if !self.layer.is_empty() {
            self.layer.leave_to(&mut own.layer);
        }
        self.exchange_queues(own);
    }

    fn exchange_queues(&mut self, other: &mut Buffers) {
        std::mem::swap(&mut self.segments.written, &mut other.segments.written);
        std::mem::swap(&mut self.segments.chained, &mut other.segments.chained);
        std::mem::swap(&mut self.sizes, &mut other.sizes);
    }

    /// Copies chained payloads that, as far as is known, are a small part of the block they pin. A write that
    /// would block may hold them for long.
    pub(crate) fn unpin(&mut self) {
        let Segments { gathered, chained, written } = &mut self.segments;
        if chained.iter().all(|c| c.payload.len() >= KEEP_ARENA_FROM) {
            return;
        }
        let small: usize = chained.iter().map(|c| c.payload.len()).filter(|&n| n < KEEP_ARENA_FROM).sum();
        let mut copied = BytesMut::with_capacity(gathered.len() + small);
        let mut from = 0;
        let mut inserted = 0;
        chained.retain_mut(|c| {
            let to = (c.at - *written) as usize;
            copy::append(&mut copied, &gathered[from..to]);
            from = to;
            if c.payload.len() < KEEP_ARENA_FROM {
                copy::append(&mut copied, &c.payload);
                inserted += c.payload.len() as u64;
                return false;
            }
            c.at += inserted;
            true
        });
        copy::append(&mut copied, &gathered[from..]);
        *gathered = copied;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_stay_together_in_the_slab() {
        let mut received = Received::default();
        received.append(b"ab");
        received.append(b"cd");
        assert_eq!((&received.slab[..], received.read.len()), (&b"abcd"[..], 0));
        received.append(&[b'e'; SLAB_UP_TO]);
        assert_eq!((received.slab.len(), &received.read[..5]), (0, &b"abcde"[..]));
        assert_eq!(received.len(), 4 + SLAB_UP_TO);
    }
}
