//! The bits of what waits to be polled: of events, and of a message that is still being encoded.

pub(crate) const OPEN: u16 = 1;
pub(crate) const CRON: u16 = 2;
pub(crate) const IDLE_READ: u16 = 4;
pub(crate) const IDLE_WRITE: u16 = 8;
pub(crate) const IDLE_BOTH: u16 = 16;
pub(crate) const WRITABLE: u16 = 32;
pub(crate) const FLUSHED: u16 = 64;
pub(crate) const EOF: u16 = 128;
pub(crate) const PONG: u16 = 256;
/// No event: the message sent last is still being encoded, and everything else waits for it.
pub(crate) const ENCODING: u16 = 1024;
#[cfg(feature = "websocket")]
pub(crate) const REQUEST: u16 = 512;
