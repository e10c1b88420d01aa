//! [`Deadline`]: the deadlines of a session; [`Idle`]: the direction that was quiet.

use std::fmt;

/// The deadlines of a session. See the periods of [`Config`](crate::Config).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Deadline {
    /// The session must have opened.
    Handshake,
    /// The next [`Event::Cron`](crate::Event::Cron) is due.
    Cron,
    /// Bytes must have been received.
    IdleRead,
    /// Bytes must have been sent.
    IdleWrite,
    /// Bytes must have moved in either direction.
    IdleBoth,
    /// Bytes must have moved in either direction, or the session is closed.
    Idle,
    /// An incomplete frame, or message of several frames, must have made progress.
    PartialFrame,
    /// The next ping is due (WebSocket).
    Heartbeat,
    /// The peer must have answered a ping, or sent anything else since (WebSocket).
    Pong,
    /// The transport must have taken queued bytes.
    WriteStall,
    /// A graceful close must be done.
    Close,
}

impl Deadline {
    pub(crate) const ALL: [Deadline; 11] = [
        Deadline::Handshake,
        Deadline::Cron,
        Deadline::IdleRead,
        Deadline::IdleWrite,
        Deadline::IdleBoth,
        Deadline::Idle,
        Deadline::PartialFrame,
        Deadline::Heartbeat,
        Deadline::Pong,
        Deadline::WriteStall,
        Deadline::Close,
    ];
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Deadline::Handshake => "the handshake was not done in time (Config::handshake_timeout)",
            Deadline::Cron => "cron",
            Deadline::IdleRead => "nothing was received (Config::idle_read)",
            Deadline::IdleWrite => "nothing was sent (Config::idle_write)",
            Deadline::IdleBoth => "nothing was received or sent (Config::idle_both)",
            Deadline::Idle => "nothing was received or sent (Config::idle_timeout)",
            Deadline::PartialFrame => "a frame stayed incomplete (Config::partial_frame_timeout)",
            Deadline::Heartbeat => "heartbeat",
            Deadline::Pong => "the peer did not answer a ping (Config::pong_timeout)",
            Deadline::WriteStall => "the peer took no bytes (Config::write_stall_timeout)",
            Deadline::Close => "the close was not done in time (Config::close_timeout)",
        })
    }
}

/// The direction in which nothing moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Idle {
    /// Nothing was received for [`Config::idle_read`](crate::Config::idle_read).
    Read,
    /// Nothing was sent for [`Config::idle_write`](crate::Config::idle_write).
    Write,
    /// Nothing was received or sent for [`Config::idle_both`](crate::Config::idle_both).
    Both,
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Idle::Read => "nothing was received",
            Idle::Write => "nothing was sent",
            Idle::Both => "nothing was received or sent",
        })
    }
}
