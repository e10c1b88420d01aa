//! Closing a session, and the reasons why one ends.

#[cfg(feature = "websocket")]
mod frame;
mod reason;

#[cfg(feature = "websocket")]
pub(crate) use frame::MAX_CONTROL;
#[cfg(feature = "websocket")]
pub use frame::{CloseCode, CloseFrame, ProtocolError};
pub use reason::CloseReason;

use std::error::Error;
use std::sync::Arc;

use crate::deadline::{Deadline, Idle};

/// The way to close a session, and the reason.
#[derive(Debug, Clone)]
pub struct Close {
    pub(crate) graceful: bool,
    pub(crate) drain: bool,
    pub(crate) reason: Option<CloseReason>,
    #[cfg(feature = "websocket")]
    pub(crate) frame: Option<Box<CloseFrame>>,
}

impl Close {
    fn new(graceful: bool, reason: Option<CloseReason>) -> Self {
        Close {
            graceful,
            drain: false,
            reason,
            #[cfg(feature = "websocket")]
            frame: None,
        }
    }

    /// Sends what was accepted for sending, half-closes, then reads and drops input until the peer ends its
    /// side too. [`Config::close_timeout`](crate::Config::close_timeout) limits all of it.
    ///
    /// Received messages that were not delivered are dropped; see [`with_drain`](Self::with_drain).
    pub fn graceful() -> Self {
        Close::new(true, None)
    }

    /// Drops everything and ends at once. The peer may see a reset.
    pub fn abort() -> Self {
        Close::new(false, None)
    }

    /// Closes gracefully because nothing moved. The close reason is the timeout.
    pub fn idle(idle: Idle) -> Self {
        let deadline = match idle {
            Idle::Read => Deadline::IdleRead,
            Idle::Write => Deadline::IdleWrite,
            Idle::Both => Deadline::IdleBoth,
        };
        Close::new(true, Some(CloseReason::Timeout(deadline)))
    }

    /// Closes gracefully because the listener refuses the session.
    pub fn refuse(error: Arc<dyn Error + Send + Sync>) -> Self {
        Close::new(true, Some(CloseReason::Refused(error)))
    }

    /// Closes gracefully because the peer broke the rules of the application's protocol, which the codec does
    /// not know. The close reason is [`CloseReason::Codec`].
    pub fn fault(error: Arc<dyn Error + Send + Sync>) -> Self {
        Close::new(true, Some(CloseReason::Codec(error)))
    }

    /// Ends at once because the session is not open yet and a newer session needs its place.
    pub fn displaced() -> Self {
        Close::new(false, Some(CloseReason::Displaced))
    }

    /// Ends because a callback of the listener panicked: at once, except for a close frame if the protocol
    /// has one (WebSocket: 1011) and the transport takes it.
    pub fn panicked() -> Self {
        Close::new(false, Some(CloseReason::Panicked))
    }

    /// Sets the close frame for a WebSocket peer; other protocols ignore it. By default the code is 1000 or
    /// fits the reason.
    #[cfg(feature = "websocket")]
    #[must_use]
    pub fn with_frame(mut self, frame: CloseFrame) -> Self {
        self.frame = Some(Box::new(frame));
        self
    }

    /// Whether to close gracefully, whether to drain, and the reason.
    pub(crate) fn into_parts(self) -> (bool, bool, Option<CloseReason>) {
        (self.graceful, self.drain, self.reason)
    }

    /// Whether messages accepted for sending are still sent.
    pub fn is_graceful(&self) -> bool {
        self.graceful
    }

    /// First delivers the whole messages that were already received. They may still be replied to.
    ///
    /// Nothing more is read. A paused session delivers nothing, so its messages are dropped.
    #[must_use]
    pub fn with_drain(mut self) -> Self {
        self.drain = true;
        self
    }
}
