//! [`Table`]: the peers of a socket.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use super::Path;
use super::activity::Periods;
use super::lookup::Lookup;
use super::peer::{Cold, Peer};
use crate::ring::Rings;
use crate::time::Timestamp;

/// Identifies a peer of [`Peers`](super::Peers). Never reused, even after the peer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerKey {
    pub(super) index: u32,
    generation: u32,
}

impl PeerKey {
    /// A small number that no other present peer has: for indexing your own tables.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// The peers of a batch's datagrams: an index for each, to be checked with [`Table::is_at`].
#[derive(Debug, Default)]
pub(super) struct Found {
    hashes: Vec<u32>,
    indices: Vec<u32>,
}

impl Found {
    /// The index found for this datagram.
    #[inline]
    pub(super) fn get(&self, number: usize) -> Option<u32> {
        self.indices.get(number).copied().filter(|&index| index != u32::MAX)
    }
}

/// Peers by address and by key, and in the order of their last activity.
#[derive(Debug)]
pub(super) struct Table {
    seed: [u64; 2],
    /// Finds peers by a hash of the address. Kept small, to stay in the caches even if the peers do not.
    addresses: Lookup,
    peers: Vec<Peer>,
    /// The rest of each peer's state.
    colds: Vec<Cold>,
    free: Vec<u32>,
    /// From the least to the most recently active, at the precision of `moment`.
    order: Rings,
    /// Activity within this time counts as simultaneous, so that a busy peer is not moved with each datagram.
    moment: Duration,
    /// Start of the current moment: peers active since then are in place.
    moment_at: Timestamp,
    /// The number of peers, including ending ones.
    len: usize,
}

impl Table {
    pub(super) fn new(seed: [u64; 2], moment: Duration, now: Timestamp) -> Self {
        Table {
            seed,
            addresses: Lookup::default(),
            peers: Vec::new(),
            colds: Vec::new(),
            free: Vec::new(),
            order: Rings::new(1),
            moment,
            moment_at: now,
            len: 0,
        }
    }

    /// The number of peers with an address in the table, which ending ones lack.
    pub(super) fn known(&self) -> usize {
        self.addresses.len()
    }

    /// Whether there are no peers, not even ending ones.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more than the largest index.
    pub(super) fn slots(&self) -> usize {
        self.peers.len()
    }

    #[inline]
    pub(super) fn find(&self, address: SocketAddr) -> Option<u32> {
        self.addresses.find(hash(self.seed, address), |index| self.is_at(index, address))
    }

    /// Finds many peers at once; see [`Found`]. Single lookups between other work would each wait for memory.
    /// Here short loops make one kind of access each, so the waits overlap.
    pub(super) fn find_all(&self, addresses: impl Iterator<Item = SocketAddr>, found: &mut Found) {
        found.hashes.clear();
        found.hashes.extend(addresses.map(|address| hash(self.seed, address)));
        found.indices.clear();
        // Reads a bit of each, so that all reads are in flight.
        black_box(found.hashes.iter().fold(0, |sum, &hash| sum ^ self.addresses.touched(hash)));
        found
            .indices
            .extend(found.hashes.iter().map(|&hash| self.addresses.find(hash, |_| true).unwrap_or(u32::MAX)));
        let indices = || found.indices.iter().filter(|&&index| index != u32::MAX);
        let peers = indices().filter_map(|&index| self.peers.get(index as usize));
        black_box(peers.fold(0, |sum: u64, peer| sum ^ peer.touched()));
        black_box(indices().fold(0, |sum: u32, &index| sum ^ self.order.touched(index)));
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&Peer> {
        self.peers.get(index as usize).filter(|peer| peer.present)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Peer> {
        self.peers.get_mut(index as usize).filter(|peer| peer.present)
    }

    /// Whether this peer is still present and has this address.
    #[inline]
    pub(super) fn is_at(&self, index: u32, address: SocketAddr) -> bool {
        self.get(index).is_some_and(|peer| peer.address() == address && !peer.ending)
    }

    /// The peer of `key`, unless it has gone.
    #[inline]
    pub(super) fn of(&mut self, key: PeerKey) -> Option<&mut Peer> {
        self.get_mut(key.index).filter(|peer| peer.generation == key.generation)
    }

    /// Returns the peer for reading.
    #[inline]
    pub(super) fn at(&self, key: PeerKey) -> Option<&Peer> {
        self.get(key.index).filter(|peer| peer.generation == key.generation)
    }

    /// The rest of the state of a peer that is present.
    pub(super) fn cold(&self, index: u32) -> &Cold {
        &self.colds[index as usize]
    }

    pub(super) fn cold_mut(&mut self, index: u32) -> &mut Cold {
        &mut self.colds[index as usize]
    }

    /// The complete state of a peer.
    pub(super) fn whole(&mut self, index: u32) -> Option<(&mut Peer, &mut Cold)> {
        let peer = self.peers.get_mut(index as usize).filter(|peer| peer.present)?;
        Some((peer, self.colds.get_mut(index as usize)?))
    }

    #[inline]
    pub(super) fn key(&self, index: u32) -> PeerKey {
        let generation = self.peers.get(index as usize).map_or(0, |peer| peer.generation);
        PeerKey { index, generation }
    }

    pub(super) fn insert(&mut self, path: Path, periods: Periods, now: Timestamp) -> u32 {
        let cold = Cold::new(periods);
        let index = match self.free.pop() {
            Some(index) => {
                let generation = self.peers[index as usize].generation.wrapping_add(1);
                self.peers[index as usize] = Peer::new(path, generation, now);
                self.colds[index as usize] = cold;
                index
            }
            None => {
                self.peers.push(Peer::new(path, 1, now));
                self.colds.push(cold);
                self.order.grow(self.peers.len());
                self.peers.len() as u32 - 1
            }
        };
        self.addresses.insert(hash(self.seed, path.peer), index);
        self.order.push(0, index);
        self.len += 1;
        index
    }

    /// Records that the peer is active now, and was last at `before`.
    #[inline]
    pub(super) fn touch(&mut self, index: u32, before: Timestamp, now: Timestamp) {
        if self.moment_at + self.moment <= now {
            self.moment_at = now;
        }
        if before < self.moment_at {
            self.order.remove(index);
            self.order.push(0, index);
        }
    }

    /// The least recently active peer.
    pub(super) fn least_recent(&self) -> Option<u32> {
        self.order.first(0)
    }

    /// Removes the peer's address from the table; the peer stays until it is removed.
    pub(super) fn forget_address(&mut self, index: u32) {
        let Some(peer) = self.get(index) else { return };
        let hash = hash(self.seed, peer.address());
        self.addresses.remove(hash, index);
        self.order.remove(index);
    }

    /// Removes the peer.
    pub(super) fn remove(&mut self, index: u32) {
        self.forget_address(index);
        if let Some((peer, cold)) = self.whole(index) {
            peer.present = false;
            cold.reason = None;
            self.free.push(index);
            self.len -= 1;
        }
    }

    /// The indices of all peers, including ending ones.
    pub(super) fn indices(&self) -> impl Iterator<Item = u32> {
        (0..self.peers.len() as u32).filter(|&index| self.get(index).is_some())
    }
}

/// Hashes with a secret seed, so that addresses can't be chosen to collide: a SipHash with a known key, whose
/// state becomes secret because the seed is written first.
#[inline]
fn hash(seed: [u64; 2], address: SocketAddr) -> u32 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(seed[0]);
    hasher.write_u64(seed[1]);
    match address {
        SocketAddr::V4(v4) => hasher.write_u64(u64::from(v4.ip().to_bits()) << 16 | u64::from(v4.port())),
        SocketAddr::V6(v6) => v6.hash(&mut hasher),
    }
    hasher.finish() as u32
}
