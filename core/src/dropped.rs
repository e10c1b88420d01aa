//! [`Dropped`]: reports of dropped and undeliverable datagrams.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::error::IoFailure;

/// A report of dropped and undeliverable datagrams, at most one per second.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Dropped {
    /// Counts since the last report, by reason.
    pub counts: DropCounts,
    /// The reason of the latest one.
    pub reason: DropReason,
    /// The peer of the latest one, if known.
    pub peer: Option<SocketAddr>,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} datagrams dropped, the latest ", self.counts.total())?;
        match self.peer {
            Some(peer) => write!(f, "of {peer}: {}", self.reason),
            None => write!(f, "because {}", self.reason),
        }
    }
}

/// The reason why a datagram was dropped or not delivered.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum DropReason {
    /// A received datagram was empty.
    Empty,
    /// A received datagram was larger than allowed.
    Oversized {
        /// Its size in bytes.
        bytes: usize,
        /// [`Config::max_datagram`](crate::Config::max_datagram).
        limit: usize,
    },
    /// A received datagram can't be decoded.
    Undecodable(Arc<dyn Error + Send + Sync>),
    /// A received datagram ended within a frame.
    Incomplete {
        /// Its size in bytes, or the bytes left after complete frames.
        bytes: usize,
    },
    /// A received datagram had bytes after its frame.
    Trailing {
        /// The number of these bytes.
        bytes: usize,
    },
    /// A received datagram was Go getty's `connect-ping`, which is not a message.
    ConnectPing,
    /// A received datagram was from an unknown peer that the application did not admit.
    NotAdmitted,
    /// A received datagram was from an unknown peer, with too many new ones within a second.
    TooManyNew {
        /// [`PeerLimits::new_per_second`](crate::datagram::PeerLimits::new_per_second).
        limit: u32,
    },
    /// A received datagram was from an unknown peer, with the maximum number of peers present.
    TooManyPeers {
        /// [`PeerLimits::max_peers`](crate::datagram::PeerLimits::max_peers).
        limit: usize,
    },
    /// A received datagram was for a peer session that is paused.
    Paused,
    /// A datagram could not be sent, or the network reported that an earlier one did not arrive.
    Unsent(IoFailure),
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DropReason::Empty => f.write_str("it was empty"),
            DropReason::Oversized { bytes, limit } => {
                write!(f, "{bytes} bytes, more than the limit of {limit} (Config::max_datagram)")
            }
            DropReason::Undecodable(error) => write!(f, "it can't be decoded: {error}"),
            DropReason::Incomplete { bytes } => write!(f, "its {bytes} bytes end within a frame"),
            DropReason::Trailing { bytes } => write!(f, "it had {bytes} bytes after its frame"),
            DropReason::ConnectPing => f.write_str("it was Go getty's connect-ping"),
            DropReason::NotAdmitted => f.write_str("its peer was not admitted"),
            DropReason::TooManyNew { limit } => {
                write!(f, "more than {limit} new peers within a second (PeerLimits::new_per_second)")
            }
            DropReason::TooManyPeers { limit } => {
                write!(f, "the limit of {limit} peers is reached (PeerLimits::max_peers)")
            }
            DropReason::Paused => f.write_str("its peer's session is paused"),
            DropReason::Unsent(failure) => write!(f, "it did not arrive: {failure}"),
        }
    }
}

/// Counts of dropped and undeliverable datagrams, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DropCounts {
    /// Received and empty.
    pub empty: u64,
    /// Received and larger than allowed.
    pub oversized: u64,
    /// Received and not as the codec expects: undecodable, incomplete, or with bytes after the frame.
    pub undecodable: u64,
    /// Received Go getty `connect-ping`s, which are not messages.
    pub connect_pings: u64,
    /// Received from peers that were not admitted.
    pub strangers: u64,
    /// Received while the peer's session was paused.
    pub paused: u64,
    /// Not sent, or reported by the network as not delivered.
    pub unsent: u64,
}

impl DropCounts {
    /// The sum of all counts.
    pub fn total(&self) -> u64 {
        let DropCounts { empty, oversized, undecodable, connect_pings, strangers, paused, unsent } = self;
        empty + oversized + undecodable + connect_pings + strangers + paused + unsent
    }

    pub(crate) fn of(&mut self, reason: &DropReason) -> &mut u64 {
        match reason {
            DropReason::Empty => &mut self.empty,
            DropReason::Oversized { .. } => &mut self.oversized,
            DropReason::Undecodable(_) | DropReason::Incomplete { .. } | DropReason::Trailing { .. } => {
                &mut self.undecodable
            }
            DropReason::ConnectPing => &mut self.connect_pings,
            DropReason::NotAdmitted | DropReason::TooManyNew { .. } | DropReason::TooManyPeers { .. } => {
                &mut self.strangers
            }
            DropReason::Paused => &mut self.paused,
            DropReason::Unsent(_) => &mut self.unsent,
        }
    }
}
