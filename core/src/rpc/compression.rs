//! [`Compressing`] and [`Decompressing`]: a body on its way to its form on the wire, and back.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::deflate::{
    COMPRESSING, EMPTY_BYTE, InflateError, LEAST_WORK, PIECE, StreamCompressor, StreamInflater,
};
use crate::hidden::HiddenBytes;
use crate::rpc::frame::{Body, Coding};
use crate::rpc::status::Code;

/// The algorithm of a compressed body, in its first byte: DEFLATE (RFC 1951), one stream, which ends with the
/// body.
const DEFLATE: u8 = 1;

/// A compressor and a decompressor, of about 300 KiB together, for one body after the other. Both are made
/// with their first use.
///
/// A program has one for each thread, and lends it to [`Peer::work`](super::Peer::work): connections hold
/// nothing of it between two bodies. A body that takes several turns keeps what it uses until it is done.
#[derive(Default)]
pub struct Coders {
    compressor: Option<StreamCompressor>,
    inflater: Option<StreamInflater>,
}

impl fmt::Debug for Coders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coders")
            .field("compressor", &self.compressor.is_some())
            .field("inflater", &self.inflater.is_some())
            .finish()
    }
}

/// A body that is being compressed, a piece at a time: compressing 1 MiB takes up to 50 ms.
pub(super) struct Compressing {
    body: Bytes,
    taken: usize,
    stream: StreamCompressor,
    out: BytesMut,
}

impl Compressing {
    /// Begins to compress a body with DEFLATE.
    pub(super) fn begin(body: Bytes, coders: &mut Coders) -> Self {
        let out = BytesMut::from(&[DEFLATE][..]);
        let stream = coders.compressor.take().unwrap_or_else(StreamCompressor::new);
        Compressing { body, taken: 0, stream, out }
    }

    /// Compresses the next piece, of 64 KiB at most. Returns the work, as [`Work::bytes`](crate::Work::bytes)
    /// counts it, and the body once it is done: as it was if it does not get smaller.
    pub(super) fn step(&mut self) -> (u64, Option<Body>) {
        let left = &self.body[self.taken..];
        let piece = &left[..left.len().min(PIECE)];
        let last = piece.len() == left.len();
        self.stream.compress(piece, last, &mut self.out);
        self.taken += piece.len();
        let work = COMPRESSING * (piece.len() as u64).max(LEAST_WORK / 4);
        if self.out.len() >= self.body.len() {
            return (work, Some(self.body.clone().into()));
        }
        let bytes = last.then(|| std::mem::take(&mut self.out).freeze());
        (work, bytes.map(|bytes| Body { bytes, coding: Coding::Compressed }))
    }

    /// Whether this is what `body` becomes.
    pub(super) fn is_of(&self, body: &Body) -> bool {
        is_same(&self.body, &body.bytes)
    }

    /// Ends, done or not, and gives the compressor back.
    pub(super) fn end(mut self, coders: &mut Coders) {
        self.stream.reset();
        coders.compressor = Some(self.stream);
    }
}

impl fmt::Debug for Compressing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressing")
            .field("body", &HiddenBytes(self.body.len()))
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

/// A body that is being decompressed, a piece at a time, within a limit.
pub(super) struct Decompressing {
    data: Bytes,
    taken: usize,
    stream: StreamInflater,
    out: BytesMut,
    limit: usize,
}

impl Decompressing {
    /// Begins to decompress the bytes of a compressed body to at most `limit` bytes.
    ///
    /// # Errors
    /// [`DecompressError::Algorithm`], [`DecompressError::Empty`].
    pub(super) fn begin(data: Bytes, limit: usize, coders: &mut Coders) -> Result<Self, DecompressError> {
        match data.first() {
            Some(&DEFLATE) => {
                let stream = coders.inflater.take().unwrap_or_else(StreamInflater::new);
                Ok(Decompressing { data, taken: 1, stream, out: BytesMut::new(), limit })
            }
            Some(&algorithm) => Err(DecompressError::Algorithm(algorithm)),
            None => Err(DecompressError::Empty),
        }
    }

    /// Decompresses the next piece: up to 16 KiB of the body, or as much of it as makes about 64 KiB. Returns
    /// the work, as [`Work::bytes`](crate::Work::bytes) counts it, and the body once it is done.
    ///
    /// The buffer grows with what comes out, to at most the double of it and 16 KiB, and never beyond the
    /// limit and one byte.
    ///
    /// # Errors
    /// [`DecompressError::TooLarge`], [`DecompressError::Corrupt`].
    pub(super) fn step(&mut self) -> (u64, Result<Option<Bytes>, DecompressError>) {
        let before = self.out.len();
        let left = &self.data[self.taken..];
        let (taken, ended) = match self.stream.inflate(left, &mut self.out, self.limit) {
            Ok(inflated) => inflated,
            Err(error) => return (PIECE as u64, Err(error.into())),
        };
        self.taken += taken;
        let made = (self.out.len() - before) as u64;
        let work = (made + EMPTY_BYTE * (taken as u64).saturating_sub(made)).max(LEAST_WORK);
        let result = match (ended, self.taken == self.data.len()) {
            (true, true) => Ok(Some(std::mem::take(&mut self.out).freeze())),
            (false, false) => Ok(None),
            // It breaks off, or goes on after its end.
            _ => Err(DecompressError::Corrupt),
        };
        (work, result)
    }

    /// The bytes that have come out so far and are still here.
    pub(super) fn decompressed(&self) -> usize {
        self.out.len()
    }

    /// Whether this is what `body` becomes.
    pub(super) fn is_of(&self, body: &Body) -> bool {
        is_same(&self.data, &body.bytes)
    }

    /// Ends, done or not, and gives the decompressor back.
    pub(super) fn end(mut self, coders: &mut Coders) {
        self.stream.reset();
        coders.inflater = Some(self.stream);
    }
}

impl fmt::Debug for Decompressing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressing")
            .field("data", &HiddenBytes(self.data.len()))
            .field("taken", &self.taken)
            .field("decompressed", &self.out.len())
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// Whether two are the same bytes in memory.
fn is_same(a: &Bytes, b: &Bytes) -> bool {
    std::ptr::eq(&a[..], &b[..])
}

/// The reason why a body can't be decompressed. Its call fails; the others go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecompressError {
    /// The algorithm is not known.
    #[error("a body is compressed with algorithm {0}: only 1 is known, DEFLATE")]
    Algorithm(u8),
    /// There is no first byte, which names the algorithm.
    #[error("a compressed body is empty: expected the algorithm in its first byte")]
    Empty,
    /// There is more than the limit once decompressed. It was decompressed up to the limit only.
    #[error("a compressed body is larger than the limit of {limit} bytes once decompressed")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The data is not DEFLATE (RFC 1951), breaks off, or goes on after the end of its stream.
    #[error(
        "a compressed body is corrupt: expected one stream of DEFLATE (RFC 1951), which ends with the body"
    )]
    Corrupt,
}

impl DecompressError {
    /// The code with which the call fails: Unimplemented for an algorithm, ResourceExhausted for the limit,
    /// Internal for what no peer sends that keeps to the rules.
    pub(super) fn code(&self) -> Code {
        match self {
            DecompressError::Algorithm(_) => Code::Unimplemented,
            DecompressError::TooLarge { .. } => Code::ResourceExhausted,
            DecompressError::Empty | DecompressError::Corrupt => Code::Internal,
        }
    }
}

impl From<InflateError> for DecompressError {
    fn from(error: InflateError) -> Self {
        match error {
            InflateError::TooLarge { limit } => DecompressError::TooLarge { limit },
            _ => DecompressError::Corrupt,
        }
    }
}

#[cfg(test)]
mod tests;
