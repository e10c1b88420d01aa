//! [`Plain`]: what a layer has unsealed.

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
    /// The bytes are not wanted any longer.
    Nowhere,
    /// To the protocol.
    Protocol(&'a mut Received),
    /// To the next layer of a stack.
    Layer(&'a mut BytesMut),
}

impl<'a> Plain<'a> {
    /// To the protocol, or nowhere.
    pub(crate) fn new(received: Option<&'a mut Received>, room: usize) -> Self {
        match received {
            Some(received) => Plain { to: To::Protocol(received), room, pieces: 0, bytes: 0 },
            None => Plain { to: To::Nowhere, room: usize::MAX, pieces: 0, bytes: 0 },
        }
    }

    /// To the next layer.
    pub(super) fn between(received: &'a mut BytesMut, room: usize) -> Self {
        Plain { to: To::Layer(received), room, pieces: 0, bytes: 0 }
    }

    /// How many more bytes there is room for. At 0, stop: leave in the [`WireBuffers`](super::WireBuffers), or keep, what is
    /// not unsealed yet. The layer is called again once the bytes are decoded.
    ///
    /// A layer whose bytes can't become more by unsealing may ignore it.
    pub fn room(&self) -> usize {
        self.room.saturating_sub(self.bytes)
    }

    /// Takes a copy of `bytes`, also where that is more than there is room for.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.pieces += 1;
        self.bytes += bytes.len();
        match &mut self.to {
            To::Nowhere => {}
            To::Protocol(received) => received.append(bytes),
            To::Layer(received) => copy::append(received, bytes),
        }
    }

    /// Whether the bytes are dropped: the session is closing.
    #[cfg(feature = "tls")]
    pub(crate) fn is_unwanted(&self) -> bool {
        matches!(self.to, To::Nowhere)
    }

    /// How many pieces were put, and their bytes.
    pub(crate) fn put(&self) -> (u64, usize) {
        (self.pieces, self.bytes)
    }
}
