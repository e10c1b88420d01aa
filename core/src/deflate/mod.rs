//! DEFLATE (RFC 1951): compresses and decompresses messages one after another, as RFC 7692 section 7.2
//! defines.

mod compress;
mod inflate;

pub(crate) use compress::Compressor;
pub(crate) use inflate::Inflater;

pub use inflate::InflateError;

/// The end of a sync flush. It is the same for every message, so it is not sent (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The least that a message to decompress counts in [`Work::bytes`](crate::Work::bytes): beginning and ending
/// one takes as long as decompressing about this many bytes. One to compress takes four times as long.
pub(crate) const LEAST_WORK: u64 = 16 * 1024;

/// The weight of a byte to compress, in decompressed ones: compressing takes 4 to 20 times as long.
pub(crate) const COMPRESSING: u64 = 16;

/// The most that is compressed, or decompressed, in one go. The slowest data takes 50 and 7 ns per byte.
pub(crate) const PIECE: usize = 64 * 1024;

#[cfg(test)]
mod tests;
