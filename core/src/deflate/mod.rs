//! DEFLATE (RFC 1951): messages one after another, as RFC 7692 section 7.2 defines, and streams that end.

#[cfg(feature = "websocket")]
mod compress;
#[cfg(feature = "websocket")]
mod inflate;
#[cfg(feature = "rpc")]
mod stream;
mod zlib;

#[cfg(feature = "websocket")]
pub(crate) use compress::Compressor;
#[cfg(feature = "websocket")]
pub(crate) use inflate::Inflater;
#[cfg(feature = "rpc")]
pub(crate) use stream::{StreamCompressor, StreamInflater};

pub use zlib::InflateError;

/// The end of a sync flush. It is the same for every message, so it is not sent (RFC 7692 section 7.2.1).
#[cfg(feature = "websocket")]
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The least that a message to decompress counts in [`Work::bytes`](crate::Work::bytes): beginning and ending
/// one takes as long as decompressing about this many bytes. One to compress takes four times as long.
pub(crate) const LEAST_WORK: u64 = 16 * 1024;

/// The weight of a byte to compress, in decompressed ones: compressing takes 4 to 20 times as long.
pub(crate) const COMPRESSING: u64 = 16;

/// The weight of a byte of compressed data that adds nothing to the output, in decompressed bytes. Blocks
/// without data take up to 70 ns per byte.
pub(crate) const EMPTY_BYTE: u64 = 16;

/// The most that is compressed, or decompressed, in one go. The slowest data takes 50 and 7 ns per byte.
pub(crate) const PIECE: usize = 64 * 1024;

/// The most compressed data that is taken in one go.
const PIECE_OF_INPUT: usize = 16 * 1024;

#[cfg(all(test, feature = "websocket"))]
mod tests;
