//! How a session is closed, and why it ended.

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

/// How to close a session, and why.
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

    /// Sends what was accepted for sending, half-closes, then reads and drops what still comes until the
    /// peer has ended its side too, all within [`Config::close_timeout`](crate::Config::close_timeout).
    ///
    /// Received messages that were not delivered yet are dropped; see [`with_drain`](Self::with_drain).
    pub fn graceful() -> Self {
        Close::new(true, None)
    }

    /// Drops everything and ends at once. The peer may see a reset.
    pub fn abort() -> Self {
        Close::new(false, None)
    }

    /// Closes gracefully because nothing moved: the close reason is the timeout.
    pub fn idle(idle: Idle) -> Self {
        let deadline = match idle {
            Idle::Read => Deadline::IdleRead,
            Idle::Write => Deadline::IdleWrite,
            Idle::Both => Deadline::IdleBoth,
        };
        Close::new(true, Some(CloseReason::Timeout(deadline)))
    }

    /// Closes gracefully because the listener does not want the session.
    pub fn refuse(error: Arc<dyn Error + Send + Sync>) -> Self {
        Close::new(true, Some(CloseReason::Refused(error)))
    }

    /// Ends at once: it is not open yet, and a newer session needs its place.
    pub fn displaced() -> Self {
        Close::new(false, Some(CloseReason::Displaced))
    }

    /// Ends because a callback of the listener panicked: at once, but for a close frame where the protocol has one
    /// (WebSocket: 1011) and the transport takes it.
    pub fn panicked() -> Self {
        Close::new(false, Some(CloseReason::Panicked))
    }

    /// Tells a WebSocket peer why, in the close frame; other protocols ignore it. Without, the code is 1000, or what
    /// fits the reason.
    #[cfg(feature = "websocket")]
    #[must_use]
    pub fn with_frame(mut self, frame: CloseFrame) -> Self {
        self.frame = Some(Box::new(frame));
        self
    }

    /// Whether it is graceful, whether it drains, and why.
    pub(crate) fn into_parts(self) -> (bool, bool, Option<CloseReason>) {
        (self.graceful, self.drain, self.reason)
    }

    /// Whether what was accepted for sending is still sent.
    pub fn is_graceful(&self) -> bool {
        self.graceful
    }

    /// Before all else, delivers the whole messages that are already here; they may still be answered.
    ///
    /// Nothing more is read. A paused session delivers nothing, so its messages are dropped.
    #[must_use]
    pub fn with_drain(mut self) -> Self {
        self.drain = true;
        self
    }
}
