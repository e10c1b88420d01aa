//! [`PeerFault`]: rules of the connection that a peer broke.

use crate::rpc::frame::{FrameFault, GoAwayCode};

/// A rule that the peer broke, or a time that it did not keep. The connection can't go on: send what
/// [`poll_frame`](super::Peer::poll_frame) has, which tells the peer, and close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerFault {
    /// The first frame was not Hello.
    #[error("the peer's first frame is not Hello")]
    NoHello,
    /// No frame came within [`ConfigBuilder::hello_timeout`](super::ConfigBuilder::hello_timeout).
    #[error("the peer's first frame did not come in time (hello_timeout): check that it speaks getty rpc 2")]
    HelloTimeout,
    /// Hello came twice.
    #[error("the peer sent Hello twice")]
    SecondHello,
    /// Hello or Calls go below the minimum of the protocol.
    #[error("the peer's limits are below the minimum: 16 calls, windows of 16 KiB, frames of 64 KiB")]
    Limits,
    /// A frame on an id that its sender may not use for it.
    #[error("a frame of kind {kind} on the id {id}, which is not for that")]
    Id {
        /// The kind of frame.
        kind: u8,
        /// The id.
        id: u32,
    },
    /// A request on the id of a call that is open.
    #[error("a request on the id {0} of a call that is not over")]
    RequestOpen(u32),
    /// An answer to a call that is not open.
    #[error("an answer on the id {0}, which is not open")]
    NotOpen(u32),
    /// A frame that breaks the rules of its kind.
    #[error("{0}")]
    Frame(#[from] FrameFault),
    /// Too many calls cancelled at once, malformed frames, or calls over the limit.
    #[error("too many cancelled or malformed calls, or calls over the limit")]
    EnhanceYourCalm,
    /// Nothing came in time after a ping.
    #[error("the peer is silent")]
    Silent,
    /// A cancelled call has had no answer for too long.
    #[error("the peer does not answer cancelled calls")]
    CancelIgnored,
}

impl PeerFault {
    pub(crate) fn code(&self) -> GoAwayCode {
        match self {
            PeerFault::EnhanceYourCalm => GoAwayCode::EnhanceYourCalm,
            PeerFault::HelloTimeout | PeerFault::Silent | PeerFault::CancelIgnored => GoAwayCode::Timeout,
            _ => GoAwayCode::Protocol,
        }
    }
}
