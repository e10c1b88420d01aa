//! Go getty's first datagram.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::SocketAddr;

/// What Go getty's UDP client sends first, and waits a second in vain for an answer to.
pub(super) const CONNECT_PING: &[u8] = b"connect-ping";

/// How many peers are known at the most.
const KNOWN: usize = 4096;

/// Tells the first datagram of a peer from the later ones, in memory of a fixed size.
#[derive(Debug)]
pub(super) enum FirstOf {
    /// The one peer of a connected socket: whether it has sent something.
    One(bool),
    /// A fingerprint of the latest peer in each of the places that peers fall into; 0 where there was none.
    Many(Box<[u32]>),
}

impl FirstOf {
    pub(super) fn new(connected: bool) -> Self {
        if connected { FirstOf::One(false) } else { FirstOf::Many(vec![0; KNOWN].into()) }
    }

    /// Whether this datagram is the first of `peer`.
    pub(super) fn is_first(&mut self, peer: SocketAddr) -> bool {
        match self {
            FirstOf::One(seen) => !std::mem::replace(seen, true),
            FirstOf::Many(places) => {
                let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(peer);
                let (place, fingerprint) = (hash as usize % KNOWN, (hash >> 32) as u32 | 1);
                std::mem::replace(&mut places[place], fingerprint) != fingerprint
            }
        }
    }
}
