//! [`RecvBatch`]: datagrams received together.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use bytes::BytesMut;

use super::Outgoing;

/// The source or destination of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Path {
    /// The peer's address.
    pub peer: SocketAddr,
    /// This end's address, if the system reports it. On a machine with several addresses, a reply leaves from
    /// the address that was asked.
    pub local: Option<IpAddr>,
}

impl Path {
    /// Makes a path to or from `peer`; the system chooses this end's address.
    pub fn new(peer: SocketAddr) -> Self {
        Path { peer, local: None }
    }

    /// Sets this end's address.
    #[must_use]
    pub fn with_local(mut self, local: impl Into<Option<IpAddr>>) -> Self {
        self.local = local.into();
        self
    }
}

impl From<SocketAddr> for Path {
    fn from(peer: SocketAddr) -> Self {
        Path::new(peer)
    }
}

/// Received datagrams and their memory.
///
/// One thread needs one batch, for any number of sockets. The reader of a socket fills the slots and hands
/// the batch to [`Packets::handle_datagrams`](crate::datagram::Packets::handle_datagrams). It comes back once
/// every datagram has been handled. Replies use the batch's memory too, if it is still there when they are
/// sent: so send first, then take the batch back. Each slot fits any datagram, so none is truncated. The
/// memory is 2 MiB of address space; the system backs only what has been written to.
pub struct RecvBatch(Box<Memory>);

struct Memory {
    room: Vec<u8>,
    received: Vec<Received>,
    /// Index in `received` of the first datagram not used up.
    next: usize,
    /// The first slot that was not filled.
    free: usize,
    /// Block that small datagrams are copied to. Always empty between calls: only its spare capacity counts.
    slab: BytesMut,
    /// Buffer for replies while the batch is with a session. Always empty: only its memory counts.
    spare: Outgoing,
}

/// Contents of one slot: `len` bytes from `start`, in datagrams of `stride` bytes; the last may be shorter.
#[derive(Debug, Clone, Copy)]
struct Received {
    path: Path,
    start: usize,
    len: usize,
    stride: usize,
}

impl RecvBatch {
    /// The number of slots.
    pub const SLOTS: usize = 32;

    /// Bytes of each slot: more than any datagram, and as much as systems coalesce.
    pub const SLOT_SIZE: usize = 64 * 1024;

    /// Makes an empty batch.
    pub fn new() -> Self {
        RecvBatch(Box::new(Memory {
            room: vec![0; RecvBatch::SLOTS * RecvBatch::SLOT_SIZE],
            received: Vec::with_capacity(RecvBatch::SLOTS),
            next: 0,
            free: 0,
            slab: BytesMut::new(),
            spare: Outgoing::default(),
        }))
    }

    /// The memory of all slots.
    pub fn slots(&mut self) -> impl ExactSizeIterator<Item = &mut [u8]> {
        self.0.room.chunks_exact_mut(RecvBatch::SLOT_SIZE)
    }

    /// Records that `len` bytes were received to the slot `slot`, in datagrams of `stride` bytes each; the
    /// last may be shorter. Ignored for an invalid slot; `len` is cut at the slot's end.
    pub fn filled(&mut self, slot: usize, path: Path, len: usize, stride: usize) {
        if slot < RecvBatch::SLOTS {
            let len = len.min(RecvBatch::SLOT_SIZE);
            let start = slot * RecvBatch::SLOT_SIZE;
            self.0.received.push(Received { path, start, len, stride: stride.max(1) });
            self.0.free = self.0.free.max(slot + 1);
        }
    }

    /// Adds a copy of a datagram to the next free slot. Returns `false` if no slot is free or `bytes` exceeds
    /// a slot.
    pub fn copy_from(&mut self, path: Path, bytes: &[u8]) -> bool {
        let slot = self.0.free;
        let Some(room) = self.slots().nth(slot).and_then(|slot| slot.get_mut(..bytes.len())) else {
            return false;
        };
        room.copy_from_slice(bytes);
        self.filled(slot, path, bytes.len(), bytes.len());
        true
    }

    /// Whether all datagrams were handled.
    pub fn is_empty(&self) -> bool {
        self.0.next == self.0.received.len()
    }

    /// Drops all datagrams.
    pub fn clear(&mut self) {
        self.0.received.clear();
        (self.0.next, self.0.free) = (0, 0);
    }

    /// Lends memory for replies to `outgoing`, if it has nothing to send.
    pub(super) fn lend(&mut self, outgoing: &mut Outgoing) {
        if outgoing.is_empty() {
            *outgoing = std::mem::take(&mut self.0.spare);
        }
    }

    /// Takes the memory back, if nothing waits in it.
    pub(super) fn take_back(&mut self, outgoing: &mut Outgoing) {
        if outgoing.is_empty() {
            self.0.spare = std::mem::take(outgoing).spare();
        }
    }

    /// The source of the next datagram.
    pub(super) fn next_path(&self) -> Option<Path> {
        self.0.received.get(self.0.next).map(|received| received.path)
    }

    /// The source of each slot's datagrams.
    pub(super) fn paths(&self) -> impl Iterator<Item = Path> {
        self.0.received.iter().map(|received| received.path)
    }

    /// The slot of the next datagram, counted as in [`paths`](Self::paths).
    pub(super) fn position(&self) -> usize {
        self.0.next
    }

    /// Takes the next datagram, copied to memory that may be kept. Returns only its size if that exceeds
    /// `limit`.
    pub(super) fn take(&mut self, limit: usize) -> Option<(Path, Result<BytesMut, usize>)> {
        let Memory { room, received, next, slab, .. } = &mut *self.0;
        let received = received.get_mut(*next)?;
        let path = received.path;
        let n = received.len.min(received.stride);
        let range = received.start..received.start + n;
        received.start += n;
        received.len -= n;
        if received.len == 0 {
            *next += 1;
        }
        if n > limit {
            return Some((path, Err(n)));
        }
        Some((path, Ok(crate::codec::copy_to_slab(slab, &room[range]))))
    }
}

impl Default for RecvBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RecvBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0.received[self.0.next..]).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(port: u16) -> Path {
        Path::new(([127, 0, 0, 1], port).into())
    }

    fn all(batch: &mut RecvBatch, limit: usize) -> Vec<(u16, Result<Vec<u8>, usize>)> {
        let datagrams = std::iter::from_fn(|| batch.take(limit));
        datagrams.map(|(path, bytes)| (path.peer.port(), bytes.map(|b| b.to_vec()))).collect()
    }

    #[test]
    fn joined_datagrams_come_apart() {
        let mut batch = RecvBatch::new();
        batch.slots().nth(1).unwrap()[..5].copy_from_slice(b"aabbc");
        batch.slots().nth(3).unwrap()[..4].copy_from_slice(b"ddee");
        batch.filled(1, path(1), 5, 2);
        batch.filled(3, path(2), 4, 2);
        let expected = [(1, "aa"), (1, "bb"), (1, "c"), (2, "dd"), (2, "ee")];
        let got = all(&mut batch, 9);
        assert_eq!(got, expected.map(|(port, text)| (port, Ok(text.as_bytes().to_vec()))));
        assert!(batch.is_empty());
    }

    #[test]
    fn empty_and_large_datagrams_are_datagrams() {
        let mut batch = RecvBatch::new();
        let largest = vec![7; RecvBatch::SLOT_SIZE];
        for bytes in [&b""[..], b"ab", b"abc", &largest] {
            assert!(batch.copy_from(path(1), bytes));
        }
        assert!(!batch.copy_from(path(1), &[0; RecvBatch::SLOT_SIZE + 1]));
        let sizes = [Ok(vec![]), Ok(b"ab".to_vec()), Err(3), Err(RecvBatch::SLOT_SIZE)];
        assert_eq!(all(&mut batch, 2), sizes.map(|size| (1, size)));
    }

    #[test]
    fn what_can_not_be_is_ignored() {
        let mut batch = RecvBatch::new();
        batch.filled(RecvBatch::SLOTS, path(1), 1, 1);
        assert!(batch.is_empty());
        batch.filled(0, path(1), usize::MAX, 0);
        assert_eq!(all(&mut batch, 1).len(), RecvBatch::SLOT_SIZE, "a stride of 0 counts as 1");
        batch.clear();
        for n in 0..RecvBatch::SLOTS + 1 {
            assert_eq!(batch.copy_from(path(1), b"x"), n < RecvBatch::SLOTS);
        }
    }
}
