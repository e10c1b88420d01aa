//! [`Slots`]: the calls of both sides, in recycled slots.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

#[cfg(feature = "deflate")]
use crate::rpc::bodies::Bodies;
use crate::rpc::event::{CallId, Cancelled};
use crate::rpc::frame::{Reply, Request};
use crate::rpc::status::Status;
use crate::rpc::streams::Streams;
use crate::stats::Seq;
use crate::time::Timestamp;

/// The number of ids of each side.
pub(crate) const MAX_SLOTS: usize = 65_536;

/// A call.
#[derive(Debug)]
pub(crate) struct Call {
    generation: u32,
    pub(crate) wire: u32,
    pub(crate) phase: Phase,
    /// Rings that this slot is in.
    queued: u8,
    /// Reports that are due, besides those that `content` and `streams` have.
    pub(crate) due: Due,
    /// The deadline, which is in the wheel until the call has ended.
    pub(crate) deadline: Option<Timestamp>,
    /// What is to be sent or reported.
    pub(crate) content: Content,
    /// Bytes counted for a request of this side that waits, or for an answer to the peer.
    pub(crate) bytes: usize,
    /// Bytes counted for the peer's request, until it is answered and its handler has ended.
    pub(crate) held: usize,
    /// The request as the session numbered it.
    pub(crate) seq: Option<Seq>,
    pub(crate) streams: Option<Box<Streams>>,
}

impl Call {
    fn new(generation: u32, phase: Phase, content: Content) -> Self {
        Call {
            generation,
            wire: 0,
            phase,
            queued: 0,
            due: Due::default(),
            deadline: None,
            content,
            bytes: 0,
            held: 0,
            seq: None,
            streams: None,
        }
    }
}

/// Reports and frames that a call owes.
#[derive(Debug, Default)]
pub(crate) struct Due {
    /// A frame that says that the call is given up.
    pub(crate) cancel: bool,
    pub(crate) cancelled: Option<Cancelled>,
    pub(crate) room: bool,
}

#[derive(Debug, Default)]
pub(crate) enum Content {
    #[default]
    None,
    Request(Request),
    Answer(Result<Reply, Status>),
}

/// The states of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Free,
    /// Of this side: the request was not sent.
    Waiting,
    /// Of this side: the request was sent, the answer has not come.
    Open,
    /// Of this side: over, but not reported yet.
    Ended,
    /// Of this side: given up, and the answer still to come.
    Abandoned,
    /// Of the peer: not reported yet.
    New,
    /// Of the peer: its handler runs.
    Running,
    /// Of the peer: the answer waits to be sent. `running`: the handler has not ended.
    Answered {
        running: bool,
    },
    /// Of the peer: the answer was sent, the handler has not ended.
    Held,
}

/// The lists of calls that have something to do. A slot is in each at most once. It may have nothing to do
/// any longer when its turn comes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ring {
    Events,
    Control,
    Answers,
    Requests,
    Items,
    /// The next body of the peer is to be decompressed.
    Inflate,
    /// The next body to send is to be compressed.
    Deflate,
}

const RINGS: usize = 7;

/// The calls of both sides.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    /// Made with the first call, and given up when there has been none for a while.
    table: Option<Box<Table>>,
    /// The generation of the call made last.
    generation: u32,
    /// Calls of this side that the peer has not answered.
    pub(crate) sent: u32,
    /// Those of them that this side has given up.
    pub(crate) abandoned: u32,
    /// Calls of the peer whose handler runs, or will.
    pub(crate) handled: u32,
}

/// The memory of calls.
#[derive(Debug, Default)]
struct Table {
    slots: Vec<Call>,
    free: Vec<u32>,
    /// The slots of the peer's calls that are not answered, by id.
    by_id: HashMap<u32, u32, BuildHasherDefault<IdHasher>>,
    rings: [VecDeque<u32>; RINGS],
    /// Bodies that are compressed or decompressed, or wait for that.
    #[cfg(feature = "deflate")]
    bodies: Option<Box<Bodies>>,
}

impl Slots {
    /// The number of calls, of both sides.
    pub(crate) fn len(&self) -> usize {
        self.table.as_ref().map_or(0, |table| table.slots.len() - table.free.len())
    }

    #[inline]
    fn table(&mut self) -> &mut Table {
        // Out of the way, so that each look into the table is the few instructions that it takes.
        #[cold]
        #[inline(never)]
        fn empty() -> Box<Table> {
            Box::default()
        }
        self.table.get_or_insert_with(empty)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether memory is held, for calls or for those to come.
    pub(crate) fn has_memory(&self) -> bool {
        self.table.is_some()
    }

    /// The bodies that are compressed or decompressed, or wait for that.
    #[cfg(feature = "deflate")]
    pub(crate) fn bodies(&mut self) -> &mut Option<Box<Bodies>> {
        &mut self.table().bodies
    }

    /// Whether there are such bodies.
    #[cfg(feature = "deflate")]
    #[inline]
    pub(crate) fn has_bodies(&self) -> bool {
        self.table.as_ref().is_some_and(|table| table.bodies.is_some())
    }

    /// Gives up all memory. Only without calls, and once the work for them has ended.
    pub(crate) fn trim(&mut self) {
        #[cfg(feature = "deflate")]
        if self.has_bodies() {
            return;
        }
        if self.is_empty() {
            self.table = None;
        }
    }

    /// The number of the peer's calls without an answer.
    pub(crate) fn unanswered(&self) -> usize {
        self.table.as_ref().map_or(0, |table| table.by_id.len())
    }

    /// Whether the next slot is beyond those that have an id.
    pub(crate) fn is_full(&self) -> bool {
        let next = |table: &Table| table.free.last().map_or(table.slots.len(), |&slot| slot as usize);
        self.table.as_deref().map_or(0, next) >= MAX_SLOTS
    }

    /// The number of slots that there are, used or not.
    pub(crate) fn count(&self) -> usize {
        self.table.as_ref().map_or(0, |table| table.slots.len())
    }

    /// Makes a call.
    #[inline(always)]
    pub(crate) fn insert(&mut self, phase: Phase, content: Content) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let table = self.table();
        let Some(slot) = table.free.pop() else {
            table.slots.push(Call::new(generation, phase, content));
            return table.slots.len() as u32 - 1;
        };
        // Set field by field: a whole call would be copied.
        let call = &mut table.slots[slot as usize];
        call.generation = generation;
        call.wire = 0;
        call.phase = phase;
        call.due = Due::default();
        call.deadline = None;
        call.content = content;
        (call.bytes, call.held) = (0, 0);
        call.seq = None;
        slot
    }

    /// Enters the id of a call of the peer.
    pub(crate) fn enter(&mut self, id: u32, slot: u32) {
        let table = self.table();
        table.slots[slot as usize].wire = id;
        table.by_id.insert(id, slot);
    }

    /// The slot of a call of the peer that has no answer.
    pub(crate) fn find(&self, id: u32) -> Option<u32> {
        self.table.as_ref()?.by_id.get(&id).copied()
    }

    /// Ends the use of a call's id by the peer.
    pub(crate) fn leave(&mut self, id: u32) {
        self.table().by_id.remove(&id);
    }

    /// Frees a slot.
    pub(crate) fn remove(&mut self, slot: u32) {
        let table = self.table();
        let call = &mut table.slots[slot as usize];
        call.phase = Phase::Free;
        call.content = Content::None;
        call.streams = None;
        table.free.push(slot);
    }

    /// The name of the call in a slot that exists.
    pub(crate) fn id(&mut self, slot: u32) -> CallId {
        CallId { slot, generation: self.at(slot).generation }
    }

    /// The slot of `id`, if that call is not over.
    pub(crate) fn slot(&self, id: CallId) -> Option<u32> {
        let call = self.get(id.slot)?;
        (call.generation == id.generation && call.phase != Phase::Free).then_some(id.slot)
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&Call> {
        self.table.as_ref()?.slots.get(slot as usize)
    }

    /// The call in a slot that exists.
    #[inline]
    pub(crate) fn at(&mut self, slot: u32) -> &mut Call {
        &mut self.table().slots[slot as usize]
    }

    /// The call of this side in `slot`, if it has this id and was not answered.
    pub(crate) fn open(&mut self, slot: u32, id: u32) -> Option<&mut Call> {
        let call = self.table.as_mut()?.slots.get_mut(slot as usize)?;
        (matches!(call.phase, Phase::Open | Phase::Abandoned) && call.wire == id).then_some(call)
    }

    /// Puts a slot at the end of a ring, unless it is there.
    pub(crate) fn push(&mut self, ring: Ring, slot: u32) {
        let table = self.table();
        let call = &mut table.slots[slot as usize];
        let bit = 1 << ring as u8;
        if call.queued & bit == 0 {
            call.queued |= bit;
            table.rings[ring as usize].push_back(slot);
        }
    }

    fn ring(&self, ring: Ring) -> Option<&VecDeque<u32>> {
        self.table.as_ref().map(|table| &table.rings[ring as usize])
    }

    /// The first slot of a ring.
    pub(crate) fn first(&self, ring: Ring) -> Option<u32> {
        self.ring(ring)?.front().copied()
    }

    /// Whether a ring is not empty.
    pub(crate) fn has(&self, ring: Ring) -> bool {
        self.ring(ring).is_some_and(|ring| !ring.is_empty())
    }

    /// Takes the first slot of a ring.
    pub(crate) fn pop(&mut self, ring: Ring) -> Option<u32> {
        let table = self.table.as_mut()?;
        let slot = table.rings[ring as usize].pop_front()?;
        table.slots[slot as usize].queued &= !(1 << ring as u8);
        Some(slot)
    }
}

/// Spreads ids. A peer can choose ids that collide, but has only as many as it may have calls.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u32(byte.into()));
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}
