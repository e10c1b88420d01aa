//! DEFLATE (RFC 1951): messages compressed and decompressed one after another, as RFC 7692 section 7.2 has them.

mod compress;
mod inflate;

pub(crate) use compress::Compressor;
pub(crate) use inflate::Inflater;

pub use inflate::InflateError;

/// How a sync flush ends. It is the same for every message, so it does not go over the wire (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The least that a message counts as in [`Work::bytes`](crate::Work::bytes), in bytes: beginning and ending
/// one takes as long as decompressing about that many.
pub(crate) const LEAST_WORK: u64 = 16 * 1024;

/// A byte that is compressed counts as this many that are decompressed: compressing takes 4 to 20 times as
/// long.
pub(crate) const COMPRESSING: u64 = 4;

#[cfg(test)]
mod tests;
