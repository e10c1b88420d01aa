//! [`Dropped`]: datagrams that came to nothing.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::error::IoFailure;

/// A report on datagrams that came to nothing, at most one a second.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Dropped {
    /// How many since the last report, by what was wrong.
    pub counts: DropCounts,
    /// What was wrong with the latest of them.
    pub reason: DropReason,
    /// Whose it was, if that is known.
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

/// Why a datagram came to nothing.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum DropReason {
    /// A received one was empty.
    Empty,
    /// A received one was larger than is allowed.
    Oversized {
        /// Its size.
        bytes: usize,
        /// [`Config::max_datagram`](crate::Config::max_datagram).
        limit: usize,
    },
    /// A received one can't be decoded.
    Undecodable(Arc<dyn Error + Send + Sync>),
    /// A received one ended within a frame.
    Incomplete {
        /// Its size, or what was left of it after whole frames.
        bytes: usize,
    },
    /// Behind the frame of a received one there was more.
    Trailing {
        /// How much.
        bytes: usize,
    },
    /// A received one was Go getty's `connect-ping`, which is no message.
    ConnectPing,
    /// A received one was of a peer that nobody knew, and the application did not let it in.
    NotAdmitted,
    /// A received one was of a peer that nobody knew, and too many new ones came within a second.
    TooManyNew {
        /// [`PeerLimits::new_per_second`](crate::datagram::PeerLimits::new_per_second).
        limit: u32,
    },
    /// A received one was of a peer that nobody knew, and there are as many as may be.
    TooManyPeers {
        /// [`PeerLimits::max_peers`](crate::datagram::PeerLimits::max_peers).
        limit: usize,
    },
    /// A received one was of a peer whose session is paused.
    Paused,
    /// One could not be sent, or the network said that an earlier one did not arrive.
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
            DropReason::Incomplete { bytes } => write!(f, "the frame in its {bytes} bytes is not whole"),
            DropReason::Trailing { bytes } => write!(f, "{bytes} bytes came behind its frame"),
            DropReason::ConnectPing => f.write_str("it was Go getty's connect-ping"),
            DropReason::NotAdmitted => f.write_str("its peer was not admitted"),
            DropReason::TooManyNew { limit } => {
                write!(f, "more than {limit} new peers within a second (PeerLimits::new_per_second)")
            }
            DropReason::TooManyPeers { limit } => {
                write!(f, "there are {limit} peers already (PeerLimits::max_peers)")
            }
            DropReason::Paused => f.write_str("its peer's session is paused"),
            DropReason::Unsent(failure) => write!(f, "it did not arrive: {failure}"),
        }
    }
}

/// How many datagrams came to nothing, by what was wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DropCounts {
    /// Received, and empty.
    pub empty: u64,
    /// Received, and larger than is allowed.
    pub oversized: u64,
    /// Received, and not what the codec expects: not decodable, not whole, or with more behind the frame.
    pub undecodable: u64,
    /// Received, and no message: Go getty's `connect-ping`.
    pub connect_pings: u64,
    /// Received of somebody who was not let in.
    pub strangers: u64,
    /// Received while the peer's session was paused.
    pub paused: u64,
    /// Not sent, or reported by the network as not arrived.
    pub unsent: u64,
}

impl DropCounts {
    /// All together.
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
