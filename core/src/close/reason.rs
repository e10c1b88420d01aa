//! [`CloseReason`]: the reason why a session ended.

use std::error::Error;
use std::sync::Arc;

#[cfg(feature = "websocket")]
use super::frame::{CloseCode, CloseFrame, ProtocolError};
use crate::deadline::Deadline;
use crate::error::{DecoderFault, IoFailure};
#[cfg(feature = "websocket")]
use crate::upgrade::HandshakeError;

/// The reason why a session ended, and the side that ended it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// This end closed it.
    #[error("closed by this end{}", if *.flushed { "" } else { ", not everything was sent" })]
    Local {
        /// Whether the transport took everything that was accepted for sending.
        flushed: bool,
    },
    /// The peer ended its stream.
    #[error("closed by the peer{}", if *.mid_frame { ": something was cut off" } else { "" })]
    Eof {
        /// Whether a frame or an opening handshake was cut off or (WebSocket) the close frame is missing.
        mid_frame: bool,
    },
    /// The peer closed with a close frame.
    #[cfg(feature = "websocket")]
    #[error("closed by the peer: {0}")]
    Peer(CloseFrame),
    /// The opening handshake failed.
    #[cfg(feature = "websocket")]
    #[error("handshake: {0}")]
    Handshake(Arc<HandshakeError>),
    /// The peer broke the protocol.
    #[cfg(feature = "websocket")]
    #[error("protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// A deadline passed.
    #[error("timed out: {0}")]
    Timeout(Deadline),
    /// The listener refused the session when it opened.
    #[error("refused by the listener: {0}")]
    Refused(Arc<dyn Error + Send + Sync>),
    /// The peer sent bytes that can't be decoded.
    #[error("codec: {0}")]
    Codec(Arc<dyn Error + Send + Sync>),
    /// The decoder broke its contract, or would need more memory than allowed.
    #[error("codec: {0}")]
    Decoder(#[from] DecoderFault),
    /// Another peer took the place of this one, which had been inactive the longest (datagrams;
    /// [`PeerLimits::max_peers`](crate::datagram::PeerLimits::max_peers)).
    #[error("evicted to make room for another peer (PeerLimits::max_peers)")]
    Evicted,
    /// A newer session took the place of this one, which was not open yet. The server had reached its limit
    /// of opening sessions or of all sessions (`ServerLimits::max_opening` and `max_sessions` of the driver),
    /// or the system had no descriptor left.
    #[error("a newer session took its place before it was open (ServerLimits::max_opening, max_sessions)")]
    Displaced,
    /// A callback of the listener, or the codec, panicked.
    #[error("the listener or the codec panicked")]
    Panicked,
    /// The layer below the protocol (such as TLS) failed: the peer is not trusted, broke the layer's rules or
    /// cut it off.
    #[error("{0}")]
    Layer(Arc<dyn Error + Send + Sync>),
    /// The transport failed.
    #[error("transport: {0}")]
    Io(IoFailure),
}

impl CloseReason {
    /// Whether one of the two sides closed the session and nothing was cut off.
    pub fn is_clean(&self) -> bool {
        match self {
            CloseReason::Local { flushed: true } | CloseReason::Eof { mid_frame: false } => true,
            #[cfg(feature = "websocket")]
            CloseReason::Peer(frame) => frame.code.is_none_or(CloseCode::is_clean),
            _ => false,
        }
    }
}

#[cfg(feature = "websocket")]
impl From<ProtocolError> for Box<CloseReason> {
    #[cold]
    fn from(error: ProtocolError) -> Self {
        Box::new(error.into())
    }
}
