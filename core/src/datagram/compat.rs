//! Go getty's first datagram.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::SocketAddr;

/// The first datagram of Go getty's UDP client, which waits a second for a reply that never comes.
pub(super) const CONNECT_PING: &[u8] = b"connect-ping";

/// Maximum number of known peers.
const KNOWN: usize = 4096;

/// Recognises the first datagram of each peer, in memory of fixed size.
#[derive(Debug)]
pub(super) enum FirstOf {
    /// For a connected socket: whether its one peer has sent anything.
    One(bool),
    /// A fingerprint of the latest peer in each hash slot; 0 for none.
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
