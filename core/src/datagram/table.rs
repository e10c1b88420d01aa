//! [`Table`]: who the peers of a socket are.

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

/// A peer of [`Peers`](super::Peers): unique there, also after it has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerKey {
    pub(super) index: u32,
    generation: u32,
}

impl PeerKey {
    /// A small number that no other peer has at the same time: for tables of one's own.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// Whose the datagrams of a batch are: an index for each, of which [`Table::is_at`] says whether it is right.
#[derive(Debug, Default)]
pub(super) struct Found {
    hashes: Vec<u32>,
    indices: Vec<u32>,
}

impl Found {
    /// The index that was found for this one.
    #[inline]
    pub(super) fn get(&self, number: usize) -> Option<u32> {
        self.indices.get(number).copied().filter(|&index| index != u32::MAX)
    }
}

/// Peers by address and by key, in the order in which they were last active.
#[derive(Debug)]
pub(super) struct Table {
    seed: [u64; 2],
    /// By a hash of the address. Small, so that what is looked up stays in the caches although the peers do not.
    addresses: Lookup,
    peers: Vec<Peer>,
    /// The rest of each.
    colds: Vec<Cold>,
    free: Vec<u32>,
    /// From the least to the most recently active, to the moment.
    order: Rings,
    /// Activity within this time counts as one moment, so that a busy peer is not moved with each datagram.
    moment: Duration,
    /// When the present moment began: who was active since is in its place.
    moment_at: Timestamp,
    /// How many there are, those that are ending among them.
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

    /// How many peers have an address here, which those that are ending have not.
    pub(super) fn known(&self) -> usize {
        self.addresses.len()
    }

    /// Whether there is no peer, nor one that is ending.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more than the greatest index.
    pub(super) fn slots(&self) -> usize {
        self.peers.len()
    }

    #[inline]
    pub(super) fn find(&self, address: SocketAddr) -> Option<u32> {
        self.addresses.find(hash(self.seed, address), |index| self.is_at(index, address))
    }

    /// Finds many at once; see [`Found`]. Looked up one after the other in between other work, each would wait for memory by
    /// itself. Here there are short loops of one kind of access each, and the waiting overlaps.
    pub(super) fn find_all(&self, addresses: impl Iterator<Item = SocketAddr>, found: &mut Found) {
        found.hashes.clear();
        found.hashes.extend(addresses.map(|address| hash(self.seed, address)));
        found.indices.clear();
        // Reads a bit of each, so that all of them are on their way.
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

    /// Whether this peer is there still and has this address.
    #[inline]
    pub(super) fn is_at(&self, index: u32, address: SocketAddr) -> bool {
        self.get(index).is_some_and(|peer| peer.address() == address && !peer.ending)
    }

    /// The peer of `key`, unless it has gone.
    #[inline]
    pub(super) fn of(&mut self, key: PeerKey) -> Option<&mut Peer> {
        self.get_mut(key.index).filter(|peer| peer.generation == key.generation)
    }

    /// The same to look at.
    #[inline]
    pub(super) fn at(&self, key: PeerKey) -> Option<&Peer> {
        self.get(key.index).filter(|peer| peer.generation == key.generation)
    }

    /// The rest of a peer that is there.
    pub(super) fn cold(&self, index: u32) -> &Cold {
        &self.colds[index as usize]
    }

    pub(super) fn cold_mut(&mut self, index: u32) -> &mut Cold {
        &mut self.colds[index as usize]
    }

    /// All of a peer.
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

    /// The peer is active now, and was last at `before`.
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

    /// The one that was active the longest time ago.
    pub(super) fn least_recent(&self) -> Option<u32> {
        self.order.first(0)
    }

    /// From here on its address is nobody's; it stays until it is removed.
    pub(super) fn forget_address(&mut self, index: u32) {
        let Some(peer) = self.get(index) else { return };
        let hash = hash(self.seed, peer.address());
        self.addresses.remove(hash, index);
        self.order.remove(index);
    }

    /// The peer is gone.
    pub(super) fn remove(&mut self, index: u32) {
        self.forget_address(index);
        if let Some((peer, cold)) = self.whole(index) {
            peer.present = false;
            cold.reason = None;
            self.free.push(index);
            self.len -= 1;
        }
    }

    /// Every peer's index, those that are ending among them.
    pub(super) fn indices(&self) -> impl Iterator<Item = u32> {
        (0..self.peers.len() as u32).filter(|&index| self.get(index).is_some())
    }
}

/// Hashes with a secret, so that nobody can choose addresses that fall together: a SipHash whose own key is known; what is
/// written first makes its state a secret.
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
