//! [`Plain`]: the output of unsealing.

use bytes::BytesMut;

use crate::copy;
use crate::memory::Received;

/// Takes the bytes that a [`Layer`](super::Layer) has unsealed.
#[derive(Debug)]
pub struct Plain<'a> {
    to: To<'a>,
    room: usize,
    pieces: u64,
    bytes: usize,
}

#[derive(Debug)]
enum To<'a> {
    /// Drops the bytes, which are not wanted any longer.
    Nowhere,
    /// To the protocol.
    Protocol(&'a mut Received),
    /// To the next layer of a stack.
    Layer(&'a mut BytesMut),
}

impl<'a> Plain<'a> {
    /// Makes a `Plain` that writes to the protocol, or drops the bytes.
    pub(crate) fn new(received: Option<&'a mut Received>, room: usize) -> Self {
        match received {
            Some(received) => Plain { to: To::Protocol(received), room, pieces: 0, bytes: 0 },
            None => Plain { to: To::Nowhere, room: usize::MAX, pieces: 0, bytes: 0 },
        }
    }

    /// Makes a `Plain` that writes to the next layer.
    pub(super) fn between(received: &'a mut BytesMut, room: usize) -> Self {
        Plain { to: To::Layer(received), room, pieces: 0, bytes: 0 }
    }

    /// Room for more bytes. At 0, stop: keep the rest, or leave it in the
    /// [`WireBuffers`](super::WireBuffers). The layer is called again once the bytes are decoded.
    ///
    /// A layer whose bytes do not grow by unsealing may ignore this.
    pub fn room(&self) -> usize {
        self.room.saturating_sub(self.bytes)
    }

    /// Appends a copy of `bytes`, even if that exceeds the room.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.pieces += 1;
        self.bytes += bytes.len();
        match &mut self.to {
            To::Nowhere => {}
            To::Protocol(received) => received.append(bytes),
            To::Layer(received) => copy::append(received, bytes),
        }
    }

    /// Whether the bytes are dropped because the session is closing.
    pub(crate) fn is_unwanted(&self) -> bool {
        matches!(self.to, To::Nowhere)
    }

    /// The number of pieces appended, and of their bytes.
    pub(crate) fn put(&self) -> (u64, usize) {
        (self.pieces, self.bytes)
    }
}
