//! [`Plain`]: what a layer has opened.

use crate::memory::Received;

/// Takes the bytes that a [`Layer`](super::Layer) has opened.
#[derive(Debug)]
pub struct Plain<'a> {
    /// `None` where what comes is not wanted any more.
    received: Option<&'a mut Received>,
    pieces: u64,
    bytes: usize,
}

impl<'a> Plain<'a> {
    pub(crate) fn new(received: Option<&'a mut Received>) -> Self {
        Plain { received, pieces: 0, bytes: 0 }
    }

    /// Takes a copy of `bytes`.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.pieces += 1;
        self.bytes += bytes.len();
        if let Some(received) = &mut self.received {
            received.append(bytes);
        }
    }

    /// How many pieces were put, and their bytes.
    pub(crate) fn put(&self) -> (u64, usize) {
        (self.pieces, self.bytes)
    }
}
