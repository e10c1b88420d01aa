//! permessage-deflate (RFC 7692): how it is agreed on, and the two directions of a session that has agreed.

mod compress;
mod inflate;
mod negotiation;

pub(crate) use compress::Compressor;
pub(crate) use inflate::Inflater;

pub use inflate::InflateError;
pub use negotiation::{Deflate, NegotiationError, Params};

/// How a sync flush ends. It is the same for every message, so it does not go over the wire (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The least that a compressed message counts as in [`Work::bytes`](crate::Work::bytes), in bytes: about as many are
/// decompressed in the time that it takes to begin and end a message.
pub(crate) const LEAST_WORK: u64 = 16 * 1024;

#[cfg(test)]
mod tests;
