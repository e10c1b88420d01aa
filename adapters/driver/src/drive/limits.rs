//! [`ServerLimits`], and a server's reports: [`ServerStats`], [`SessionInfo`].

use std::net::SocketAddr;
use std::time::Instant;

use getty_core::Stats;

use crate::session::id::SessionId;

/// Limits on the connections of a server. Connections beyond a limit are closed as soon as they are
/// accepted, and cost no task. Before that, sessions that have not opened yet make room, the oldest first.
/// Otherwise silent connections would hold every place for the duration of the handshake timeout.
#[derive(Debug, Clone)]
pub struct ServerLimits {
    pub(crate) max_sessions: usize,
    pub(crate) max_opening: usize,
    pub(crate) max_sessions_per_address: Option<u32>,
    pub(crate) accepts_per_second: Option<u32>,
}

impl Default for ServerLimits {
    fn default() -> Self {
        ServerLimits {
            max_sessions: 100_000,
            max_opening: 10_000,
            max_sessions_per_address: None,
            accepts_per_second: None,
        }
    }
}

impl ServerLimits {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Maximum number of sessions. Default 100 000, which take some 150 MB when idle. If some of them are
    /// not open yet, the oldest of those makes room for the next one
    /// ([`CloseReason::Displaced`](getty_core::CloseReason::Displaced)). If all are open, the next one is
    /// closed at once.
    #[must_use]
    pub fn max_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    /// Maximum number of sessions with a handshake in progress (TLS, WebSocket). Default 10 000,
    /// minimum 1. Each ends after [`Config::handshake_timeout`](getty_core::Config::handshake_timeout) at the
    /// latest, or when that number of newer ones has come
    /// ([`CloseReason::Displaced`](getty_core::CloseReason::Displaced)).
    ///
    /// So a slow but honest client has only the time that others need to fill all places: with the default
    /// and a flood of 10 000 connections a second, one second. To give it longer, slow the flood down
    /// ([`accepts_per_second`](Self::accepts_per_second)), or limit each address
    /// ([`max_sessions_per_address`](Self::max_sessions_per_address)): an address at its limit displaces no
    /// others.
    #[must_use]
    pub fn max_opening(mut self, sessions: usize) -> Self {
        self.max_opening = sessions.max(1);
        self
    }

    /// Maximum number of sessions per address. For IPv6, per /64 network, which a single host may own.
    /// Default `None`, no limit: behind a proxy or an address translator, all clients share one address.
    #[must_use]
    pub fn max_sessions_per_address(mut self, sessions: impl Into<Option<u32>>) -> Self {
        self.max_sessions_per_address = sessions.into();
        self
    }

    /// Connections accepted per second, and the burst size. Further ones wait in the system's accept queue.
    /// Default `None`, no limit. At least 1.
    #[must_use]
    pub fn accepts_per_second(mut self, accepts: impl Into<Option<u32>>) -> Self {
        self.accepts_per_second = accepts.into().map(|accepts: u32| accepts.max(1));
        self
    }
}

/// Statistics of a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Current sessions.
    pub sessions: usize,
    /// Current sessions that are not open yet: their handshake is in progress.
    pub opening: usize,
    /// Connections accepted since the server began, including refused ones.
    pub accepted: u64,
    /// Connections closed at once because of a limit.
    pub refused: Refused,
    /// Sessions that were not open yet and made room for newer ones, the oldest first. Their reason is
    /// [`CloseReason::Displaced`](getty_core::CloseReason::Displaced). See [`ServerLimits::max_opening`].
    pub displaced: u64,
    /// Failures to accept caused by the system, such as too many open files. The server retries after 5 ms
    /// at first, and after at most one second.
    pub failures: u64,
}

/// Connections closed at once, by the limit that was reached. See [`ServerLimits`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// [`ServerLimits::max_sessions`], with all sessions open.
    pub too_many: u64,
    /// [`ServerLimits::max_sessions_per_address`].
    pub too_many_of_address: u64,
}

impl Refused {
    /// The sum over all limits.
    pub fn total(&self) -> u64 {
        self.too_many + self.too_many_of_address
    }
}

/// Counters of an endpoint.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counted {
    pub(crate) accepted: u64,
    pub(crate) refused: Refused,
    pub(crate) displaced: u64,
    pub(crate) failures: u64,
}

/// One session, as [`Server::list`](crate::Server::list) reports it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The session's number.
    pub id: SessionId,
    /// The local address.
    pub local: Option<SocketAddr>,
    /// The peer's address. `None` for a session that serves all peers of a socket.
    pub peer: Option<SocketAddr>,
    /// Whether the session is open: no handshake is in progress, and it is not closing.
    pub is_open: bool,
    /// The time at which the session began.
    pub since: Instant,
    /// The time of the peer's last sign of life.
    pub last_active: Instant,
    /// Statistics of the session. [`Stats::queued`] waits to be sent, [`Stats::buffered`] to be decoded.
    pub stats: Stats,
}
