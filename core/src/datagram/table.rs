//! [`Table`]: who the peers of a socket are.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::hint::black_box;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use hashbrown::HashTable;

use super::Path;
use super::activity::Activity;
use super::ring::Rings;
use crate::{CloseReason, Timestamp};

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

/// What is known of a peer.
#[derive(Debug)]
pub(super) struct Peer {
    /// The latest way that its datagrams took.
    pub(super) path: Path,
    pub(super) activity: Activity,
    pub(super) messages: u64,
    pub(super) accepted: u64,
    pub(super) flushed: u64,
    pub(super) refused: u32,
    pub(super) flush_wanted: Option<NonZeroU64>,
    /// Why it is over, which is told when nothing of it waits any more.
    pub(super) ending: Option<Box<CloseReason>>,
    /// How many bytes may be sent to it while it may not be who it says.
    pub(super) allowance: u64,
    /// When it was last put at the end of the order.
    listed_at: Timestamp,
    /// Datagrams that wait to be sent.
    pub(super) waiting: u32,
    pub(super) pending: u16,
    /// It is in the queue of those that have something to tell.
    pub(super) ready: bool,
    pub(super) validated: bool,
    pub(super) paused: bool,
    pub(super) writable_wanted: bool,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    peer: Option<Peer>,
}

impl Slot {
    /// Reads from every part of what a datagram needs.
    #[inline]
    fn touched(&self) -> u64 {
        let Some(peer) = &self.peer else { return 0 };
        let counts =
            peer.messages ^ peer.accepted ^ peer.flushed ^ peer.allowance ^ peer.listed_at.as_nanos();
        let flags = u64::from(peer.pending) ^ u64::from(peer.waiting) ^ u64::from(peer.ending.is_some());
        u64::from(peer.path.peer.port())
            ^ u64::from(peer.path.local.is_some())
            ^ peer.activity.touched()
            ^ counts
            ^ flags
    }
}

/// Whose the datagrams of a batch are: an index for each, of which [`Table::is_at`] says whether it is right.
#[derive(Debug, Default)]
pub(super) struct Found {
    hashes: Vec<u64>,
    indices: Vec<u32>,
}

impl Found {
    /// The index that was found for this one.
    #[inline]
    pub(super) fn get(&self, number: usize) -> Option<u32> {
        self.indices.get(number).copied().filter(|&index| index != u32::MAX)
    }
}

/// Where a peer is that has this address, as far as a part of its hash can tell. Small, so that what is looked up stays in
/// the caches although the peers do not.
#[derive(Debug, Clone, Copy)]
struct Entry {
    tag: u32,
    index: u32,
}

/// Peers by address and by key, in the order in which they were last active.
#[derive(Debug)]
pub(super) struct Table {
    seed: [u64; 2],
    entries: HashTable<Entry>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// From the least to the most recently active, to the moment.
    order: Rings,
    /// Activity within this time counts as one moment, so that a busy peer is not moved with each datagram.
    moment: Duration,
    /// How many there are, those that are ending among them.
    len: usize,
}

impl Table {
    pub(super) fn new(seed: [u64; 2], moment: Duration) -> Self {
        Table {
            seed,
            entries: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            order: Rings::new(1),
            moment,
            len: 0,
        }
    }

    /// How many peers have an address here, which those that are ending have not.
    pub(super) fn known(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no peer, nor one that is ending.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more than the greatest index.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    #[inline]
    pub(super) fn find(&self, address: SocketAddr) -> Option<u32> {
        let hash = hash(self.seed, address);
        let entry =
            self.entries.find(hash, |entry| entry.tag == tag(hash) && self.is_at(entry.index, address));
        entry.map(|entry| entry.index)
    }

    /// Finds many at once; see [`Found`]. Looked up one after the other in between other work, each would wait for memory by
    /// itself. Here there are short loops of one kind of access each, and the waiting overlaps.
    pub(super) fn find_all(&self, addresses: impl Iterator<Item = SocketAddr>, found: &mut Found) {
        found.hashes.clear();
        found.hashes.extend(addresses.map(|address| hash(self.seed, address)));
        found.indices.clear();
        found.indices.extend(found.hashes.iter().map(|&hash| {
            let entry = self.entries.find(hash, |entry| entry.tag == tag(hash));
            entry.map_or(u32::MAX, |entry| entry.index)
        }));
        let slots = found.indices.iter().filter_map(|&index| self.slots.get(index as usize));
        // Reads a bit of each, so that all of them are on their way.
        black_box(slots.fold(0, |sum: u64, slot| sum ^ slot.touched()));
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&Peer> {
        self.slots.get(index as usize)?.peer.as_ref()
    }

    /// Whether this peer is there still and has this address.
    #[inline]
    pub(super) fn is_at(&self, index: u32, address: SocketAddr) -> bool {
        self.get(index).is_some_and(|peer| peer.path.peer == address && peer.ending.is_none())
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Peer> {
        self.slots.get_mut(index as usize)?.peer.as_mut()
    }

    /// The peer of `key`, unless it has gone.
    #[inline]
    pub(super) fn of(&mut self, key: PeerKey) -> Option<&mut Peer> {
        let slot = self.slots.get_mut(key.index as usize)?;
        slot.peer.as_mut().filter(|_| slot.generation == key.generation)
    }

    /// The same to look at.
    pub(super) fn at(&self, key: PeerKey) -> Option<&Peer> {
        let slot = self.slots.get(key.index as usize)?;
        slot.peer.as_ref().filter(|_| slot.generation == key.generation)
    }

    #[inline]
    pub(super) fn key(&self, index: u32) -> PeerKey {
        let generation = self.slots.get(index as usize).map_or(0, |slot| slot.generation);
        PeerKey { index, generation }
    }

    pub(super) fn insert(&mut self, path: Path, activity: Activity, now: Timestamp) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, peer: None });
            self.order.grow(self.slots.len());
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.peer = Some(Peer {
            path,
            activity,
            messages: 0,
            accepted: 0,
            flushed: 0,
            refused: 0,
            flush_wanted: None,
            ending: None,
            allowance: 0,
            listed_at: now,
            waiting: 0,
            pending: 0,
            ready: false,
            validated: false,
            paused: false,
            writable_wanted: false,
        });
        let (seed, slots) = (self.seed, &self.slots);
        let hash = hash(seed, path.peer);
        self.entries.insert_unique(hash, Entry { tag: tag(hash), index }, |entry| rehash(seed, slots, entry));
        self.order.push(0, index);
        self.len += 1;
        index
    }

    /// The peer was active.
    #[inline]
    pub(super) fn touch(&mut self, index: u32, now: Timestamp) {
        let moment = self.moment;
        let Some(peer) = self.get_mut(index) else { return };
        if peer.listed_at + moment <= now {
            peer.listed_at = now;
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
        let hash = hash(self.seed, peer.path.peer);
        if let Ok(entry) = self.entries.find_entry(hash, |entry| entry.index == index) {
            entry.remove();
        }
        self.order.remove(index);
    }

    /// The peer is gone.
    pub(super) fn remove(&mut self, index: u32) {
        self.forget_address(index);
        if self.slots.get_mut(index as usize).is_some_and(|slot| slot.peer.take().is_some()) {
            self.free.push(index);
            self.len -= 1;
        }
    }

    /// Every peer's index, those that are ending among them.
    pub(super) fn indices(&self) -> impl Iterator<Item = u32> {
        (0..self.slots.len() as u32).filter(|&index| self.get(index).is_some())
    }
}

/// Hashes with a secret, so that nobody can choose addresses that fall together: a SipHash whose own key is known; what is
/// written first makes its state a secret.
#[inline]
fn hash(seed: [u64; 2], address: SocketAddr) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(seed[0]);
    hasher.write_u64(seed[1]);
    match address {
        SocketAddr::V4(v4) => hasher.write_u64(u64::from(v4.ip().to_bits()) << 16 | u64::from(v4.port())),
        SocketAddr::V6(v6) => v6.hash(&mut hasher),
    }
    hasher.finish()
}

/// A part of the hash that the table itself does not use.
#[inline]
fn tag(hash: u64) -> u32 {
    (hash >> 16) as u32
}

/// The hash of an entry whose peer is there.
fn rehash(seed: [u64; 2], slots: &[Slot], entry: &Entry) -> u64 {
    let peer = slots.get(entry.index as usize).and_then(|slot| slot.peer.as_ref());
    peer.map_or(0, |peer| hash(seed, peer.path.peer))
}
