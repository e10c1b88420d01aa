//! [`CloseReason`]: who ended a session, and why.

use std::error::Error;
use std::sync::Arc;

#[cfg(feature = "websocket")]
use super::frame::{CloseCode, CloseFrame, ProtocolError};
use crate::deadline::Deadline;
use crate::error::{DecoderFault, IoFailure};
#[cfg(feature = "websocket")]
use crate::upgrade::HandshakeError;

/// Why a session is over: who ended it, and why.
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
        /// Whether something was cut off: a frame, an opening handshake, or (WebSocket) the close frame is missing.
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
    /// What the peer sent can't be decoded.
    #[error("codec: {0}")]
    Codec(Arc<dyn Error + Send + Sync>),
    /// The decoder broke its contract, or would need more memory than allowed.
    #[error("codec: {0}")]
    Decoder(#[from] DecoderFault),
    /// Another peer took the place of this one, which was active the longest time ago (datagrams;
    /// [`PeerLimits::max_peers`](crate::datagram::PeerLimits::max_peers)).
    #[error("there was no room for it any more (PeerLimits::max_peers)")]
    Evicted,
    /// It was not open yet, and a newer session took its place: the server had as many opening sessions, or
    /// sessions in all, as it takes (`ServerLimits::max_opening` and `max_sessions` of the driver), or the
    /// system had no descriptor left.
    #[error("a newer session took its place before it was open (ServerLimits::max_opening, max_sessions)")]
    Displaced,
    /// A callback of the listener panicked, or the codec did.
    #[error("the listener or the codec panicked")]
    Panicked,
    /// The layer below the protocol failed, such as TLS: the peer is not to be trusted, broke its rules, or cut it off.
    #[error("{0}")]
    Layer(Arc<dyn Error + Send + Sync>),
    /// The transport failed.
    #[error("transport: {0}")]
    Io(IoFailure),
}

impl CloseReason {
    /// Whether the session ended as one of the two sides wished, with nothing cut off.
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
