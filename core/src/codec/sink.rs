//! [`Sink`]: the output of an encoder.

use std::collections::VecDeque;
use std::fmt;

use bytes::{Bytes, BytesMut};

use super::segments::{Chained, Segments};
use crate::copy;
use crate::hidden::HiddenBytes;
use crate::hint::likely;

/// Collects the bytes of one message from an [`Encoder`](super::Encoder).
///
/// A message may have many parts, written in order. Small parts are copied into one buffer; large [`Bytes`]
/// are chained: sent without copying.
pub struct Sink<'a> {
    gathered: &'a mut BytesMut,
    /// Length of `gathered` when the message began.
    start: usize,
    /// The chained payloads, and the position of the start of `gathered`.
    chain: Option<(&'a mut VecDeque<Chained>, u64)>,
    zero_copy_from: usize,
    chained: usize,
}

impl fmt::Debug for Sink<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("written", &HiddenBytes(self.written())).finish_non_exhaustive()
    }
}

impl<'a> Sink<'a> {
    /// Makes a sink that copies everything to `buffer`: for calling an encoder outside a session.
    pub fn new(buffer: &'a mut BytesMut) -> Self {
        Sink { start: buffer.len(), gathered: buffer, chain: None, zero_copy_from: usize::MAX, chained: 0 }
    }

    #[inline]
    pub(crate) fn queue(segments: &'a mut Segments, zero_copy_from: usize) -> Self {
        let Segments { gathered, chained, written } = segments;
        let chain = Some((chained, *written));
        Sink { start: gathered.len(), gathered, chain, zero_copy_from, chained: 0 }
    }

    /// Calls `write`, which is not inlined, with a sink of its own. If it got the address of this one, this
    /// one would lie in memory on every path.
    #[inline]
    pub(crate) fn apart<T>(&mut self, write: impl FnOnce(&mut Sink<'_>) -> T) -> T {
        let chain = self.chain.as_mut().map(|(chain, base)| (&mut **chain, *base));
        let mut sink = Sink { gathered: self.gathered, chain, ..*self };
        let result = write(&mut sink);
        self.chained = sink.chained;
        result
    }

    /// Writes a copy of `bytes`.
    #[inline]
    pub fn put_slice(&mut self, bytes: &[u8]) {
        copy::append(self.gathered, bytes);
    }

    /// Writes `payload`. Does not copy it if it has at least
    /// [`Config::zero_copy_from`](crate::Config::zero_copy_from) bytes.
    #[inline(always)]
    pub fn put_bytes(&mut self, payload: Bytes) {
        if likely(payload.len() < self.zero_copy_from || payload.is_empty()) {
            copy::append(self.gathered, &payload);
        } else if let Some((chain, base)) = &mut self.chain {
            self.chained += payload.len();
            push(chain, *base + self.gathered.len() as u64, payload);
        } else {
            copy::append(self.gathered, &payload);
        }
    }

    /// Writes a copy of `bytes`, modified by `change`.
    #[cfg(feature = "websocket")]
    #[inline]
    pub(crate) fn put_changed(&mut self, bytes: &[u8], change: impl FnOnce(&mut [u8])) {
        let from = self.gathered.len();
        copy::append(self.gathered, bytes);
        change(&mut self.gathered[from..]);
    }

    /// The buffer of copied bytes, for appending directly.
    #[cfg(all(feature = "deflate", feature = "websocket"))]
    pub(crate) fn gathered(&mut self) -> &mut BytesMut {
        self.gathered
    }

    /// Writes the output of `write` after a prefix, which depends on its length and may change copied bytes.
    /// With `copies`, nothing is chained. On an error nothing is written.
    #[cfg(feature = "websocket")]
    pub(crate) fn put_prefixed<E, Prefix: AsRef<[u8]>>(
        &mut self,
        copies: bool,
        write: impl FnOnce(&mut Sink<'_>) -> Result<(), E>,
        prefix: impl FnOnce(usize, &mut [u8]) -> Prefix,
    ) -> Result<(), E> {
        let from = self.gathered.len();
        let chained_before = self.chain.as_ref().map_or(0, |(chain, _)| chain.len());
        let zero_copy_from = if copies { usize::MAX } else { self.zero_copy_from };
        let chain = self.chain.as_mut().map(|(chain, base)| (&mut **chain, *base));
        let mut body = Sink { start: from, gathered: self.gathered, chain, zero_copy_from, chained: 0 };
        let written = write(&mut body);
        let (len, chained) = (body.written(), body.chained);
        if let Err(error) = written {
            self.gathered.truncate(from);
            if let Some((chain, _)) = &mut self.chain {
                chain.truncate(chained_before);
            }
            return Err(error);
        }
        self.chained += chained;
        let prefix = prefix(len, &mut self.gathered[from..]);
        let prefix = prefix.as_ref();
        let end = self.gathered.len();
        self.gathered.extend_from_slice(prefix);
        self.gathered.copy_within(from..end, from + prefix.len());
        self.gathered[from..from + prefix.len()].copy_from_slice(prefix);
        if let Some((chain, _)) = &mut self.chain {
            chain.iter_mut().skip(chained_before).for_each(|c| c.at += prefix.len() as u64);
        }
        Ok(())
    }

    /// The number of bytes of this message so far.
    #[inline]
    pub fn written(&self) -> usize {
        self.gathered.len() - self.start + self.chained
    }
}

#[inline(never)]
fn push(chain: &mut VecDeque<Chained>, at: u64, payload: Bytes) {
    chain.push_back(Chained { at, payload });
}
