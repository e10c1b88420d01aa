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

#[cfg(test)]
mod tests;
