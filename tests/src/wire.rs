//! The wires between the two ends of a [`Pair`](crate::pair::Pair).

use std::collections::VecDeque;
use std::time::Duration;

use getty_core::Timestamp;

use crate::Rng;

/// The behaviour of one wire.
#[derive(Debug, Clone)]
pub struct Wire {
    /// Time from a write to the earliest read of its bytes.
    pub latency: Duration,
    /// Bytes that fit between the two sessions ("kernel buffers"). A full wire takes no more.
    pub capacity: usize,
    /// The bytes that a read returns.
    pub split: Split,
}

impl Default for Wire {
    /// No latency, no limit, and reads return everything available.
    fn default() -> Self {
        Wire { latency: Duration::ZERO, capacity: usize::MAX, split: Split::Whole }
    }
}

/// The way reads split the bytes on a wire.
#[derive(Debug, Clone)]
pub enum Split {
    /// Everything that has arrived.
    Whole,
    /// At most this many bytes.
    Every(usize),
    /// From one byte to this many.
    Random(Rng, usize),
}

/// One direction of a pair.
pub(crate) struct Pipe {
    wire: Wire,
    /// Bytes in flight with their arrival time.
    pieces: VecDeque<(Timestamp, VecDeque<u8>)>,
    pub(crate) held: usize,
    end: Option<Timestamp>,
    /// The other end no longer reads: writing fails.
    pub(crate) broken: bool,
    /// The next read fails.
    reset: bool,
}

pub(crate) enum Arrived {
    Nothing,
    Bytes(Vec<u8>),
    End,
    Reset,
}

impl Pipe {
    pub(crate) fn new(wire: Wire) -> Self {
        Pipe { wire, pieces: VecDeque::new(), held: 0, end: None, broken: false, reset: false }
    }

    pub(crate) fn room(&self) -> usize {
        self.wire.capacity - self.held
    }

    pub(crate) fn push(&mut self, now: Timestamp, bytes: &[u8]) {
        let at = now + self.wire.latency;
        self.held += bytes.len();
        match self.pieces.back_mut() {
            Some((last, piece)) if *last == at => piece.extend(bytes),
            _ => self.pieces.push_back((at, bytes.iter().copied().collect())),
        }
    }

    pub(crate) fn pull(&mut self, now: Timestamp) -> Arrived {
        if self.reset {
            return Arrived::Reset;
        }
        let Some((at, piece)) = self.pieces.front_mut() else {
            return if self.end.take_if(|at| *at <= now).is_some() { Arrived::End } else { Arrived::Nothing };
        };
        if *at > now {
            return Arrived::Nothing;
        }
        let n = match &mut self.wire.split {
            Split::Whole => piece.len(),
            Split::Every(n) => (*n).min(piece.len()),
            Split::Random(rng, n) => (1 + rng.below(*n)).min(piece.len()),
        };
        let bytes: Vec<u8> = piece.drain(..n).collect();
        if piece.is_empty() {
            self.pieces.pop_front();
        }
        self.held -= n;
        Arrived::Bytes(bytes)
    }

    pub(crate) fn end(&mut self, now: Timestamp) {
        self.end = Some(now + self.wire.latency);
    }

    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        self.pieces.front().map(|(at, _)| *at).or(self.end)
    }

    pub(crate) fn reset(&mut self) {
        self.pieces.clear();
        self.held = 0;
        (self.broken, self.reset) = (true, true);
    }

    /// Removes the end that writes here and reads `incoming`. Unread bytes cause a reset.
    pub(crate) fn leave(&mut self, now: Timestamp, incoming: &mut Pipe) {
        if incoming.held > 0 {
            self.reset();
        } else if self.end.is_none() {
            self.end(now);
        }
        incoming.pieces.clear();
        incoming.held = 0;
        incoming.broken = true;
    }
}
