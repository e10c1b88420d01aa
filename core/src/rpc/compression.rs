//! [`Compressing`] and [`Decompressing`]: bodies that are compressed on the wire.

use std::fmt;
use std::ops::ControlFlow;

use bytes::{Bytes, BytesMut};

use crate::deflate::{InflateError, PIECE, StreamCompressor, StreamInflater};
use crate::hidden::HiddenBytes;
use crate::rpc::frame::{Body, Coding};
use crate::rpc::status::Code;

/// The algorithm of a compressed body, in its first byte: DEFLATE (RFC 1951), one stream, which ends with the
/// body.
const DEFLATE: u8 = 1;

/// The smallest body that is compressed, in bytes.
const MIN_SIZE: usize = 1024;

/// A body that is being compressed, a piece at a time: compressing 1 MiB takes up to 50 ms.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use getty_core::rpc::{Body, Compressing};
///
/// fn compress(body: Vec<u8>) -> Body {
///     let mut state = Compressing::begin(body.into());
///     loop {
///         match state {
///             ControlFlow::Continue(compressing) => state = compressing.step(), // or in the next turn
///             ControlFlow::Break(body) => return body,
///         }
///     }
/// }
///
/// assert!(compress(vec![b'x'; 1024]).is_compressed());
/// assert!(!compress(vec![b'x'; 1023]).is_compressed());
/// ```
pub struct Compressing {
    body: Bytes,
    taken: usize,
    stream: StreamCompressor,
    out: BytesMut,
}

impl Compressing {
    /// Begins to compress a body with DEFLATE. One of less than 1 KiB stays as it is.
    pub fn begin(body: Bytes) -> ControlFlow<Body, Self> {
        if body.len() < MIN_SIZE {
            return ControlFlow::Break(body.into());
        }
        let out = BytesMut::from(&[DEFLATE][..]);
        ControlFlow::Continue(Compressing { body, taken: 0, stream: StreamCompressor::new(), out })
    }

    /// Compresses the next piece, of 64 KiB at most. The body comes out as it was if it does not get smaller.
    #[must_use = "a body that is not finished goes on with the next call"]
    pub fn step(mut self) -> ControlFlow<Body, Self> {
        let left = &self.body[self.taken..];
        let piece = &left[..left.len().min(PIECE)];
        let last = piece.len() == left.len();
        self.stream.compress(piece, last, &mut self.out);
        self.taken += piece.len();
        if self.out.len() >= self.body.len() {
            return ControlFlow::Break(self.body.into());
        }
        if last {
            return ControlFlow::Break(Body { bytes: self.out.freeze(), coding: Coding::Compressed });
        }
        ControlFlow::Continue(self)
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
///
/// ```
/// use std::ops::ControlFlow;
///
/// use bytes::Bytes;
/// use getty_core::rpc::{Body, Coding, DecompressError, Decompressing};
///
/// fn decompress(body: Body, limit: usize) -> Result<Bytes, DecompressError> {
///     let mut state = Decompressing::begin(body, limit)?;
///     loop {
///         match state {
///             ControlFlow::Continue(decompressing) => state = decompressing.step()?, // or in the next turn
///             ControlFlow::Break(bytes) => return Ok(bytes),
///         }
///     }
/// }
///
/// let bytes = Bytes::from_static(b"\x01\xf3\x48\xcd\xc9\xc9\x07\x00");
/// let hello = Body { bytes, coding: Coding::Compressed };
/// assert_eq!(decompress(hello.clone(), 5)?, "Hello");
/// assert_eq!(decompress(hello, 4), Err(DecompressError::TooLarge { limit: 4 }));
/// # Ok::<(), DecompressError>(())
/// ```
pub struct Decompressing {
    data: Bytes,
    taken: usize,
    stream: StreamInflater,
    out: BytesMut,
    limit: usize,
}

impl Decompressing {
    /// Begins to decompress a body to at most `limit` bytes. One that is not compressed comes out as it is.
    ///
    /// # Errors
    /// [`DecompressError::Algorithm`], [`DecompressError::Empty`].
    pub fn begin(body: Body, limit: usize) -> Result<ControlFlow<Bytes, Self>, DecompressError> {
        if !body.is_compressed() {
            return Ok(ControlFlow::Break(body.bytes));
        }
        match body.bytes.first() {
            Some(&DEFLATE) => {
                let (stream, out) = (StreamInflater::new(), BytesMut::new());
                Ok(ControlFlow::Continue(Decompressing { data: body.bytes, taken: 1, stream, out, limit }))
            }
            Some(&algorithm) => Err(DecompressError::Algorithm(algorithm)),
            None => Err(DecompressError::Empty),
        }
    }

    /// Decompresses the next piece: up to 16 KiB of the body, or as much of it as makes about 64 KiB.
    ///
    /// The buffer grows with what comes out, to at most the double of it and 16 KiB, and never beyond the
    /// limit and one byte.
    ///
    /// # Errors
    /// [`DecompressError::TooLarge`], [`DecompressError::Corrupt`].
    pub fn step(mut self) -> Result<ControlFlow<Bytes, Self>, DecompressError> {
        let left = &self.data[self.taken..];
        let (taken, ended) = self.stream.inflate(left, &mut self.out, self.limit)?;
        self.taken += taken;
        match (ended, self.taken == self.data.len()) {
            (true, true) => Ok(ControlFlow::Break(self.out.freeze())),
            (false, false) => Ok(ControlFlow::Continue(self)),
            // It breaks off, or goes on after its end.
            _ => Err(DecompressError::Corrupt),
        }
    }

    /// The bytes that have come out so far.
    pub fn decompressed(&self) -> usize {
        self.out.len()
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

/// A body that can't be decompressed. Its call fails; the others go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecompressError {
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
    pub fn code(&self) -> Code {
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
