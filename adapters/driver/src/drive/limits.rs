//! [`ServerLimits`], and what a server tells of itself: [`ServerStats`], [`SessionInfo`].

use std::net::SocketAddr;
use std::time::Instant;

use getty_core::Stats;

use crate::session::id::SessionId;

/// Limits on the connections of a server. Those beyond a limit are closed as soon as they are accepted: they
/// cost no task. Before that, sessions that have not opened make room, the oldest first. Otherwise silent
/// connections would hold every place for as long as a handshake may take.
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

    /// How many sessions there may be. Default 100 000: idle, these take some 150 MB. While some of them are
    /// not open, the oldest of these makes room for the next one
    /// ([`CloseReason::Displaced`](getty_core::CloseReason::Displaced)); when all are, the next one is closed
    /// at once.
    #[must_use]
    pub fn max_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    /// How many of them may have a handshake under way (TLS, WebSocket). Default 10 000; at least 1. Each is
    /// over after [`Config::handshake_timeout`](getty_core::Config::handshake_timeout) at the latest, or when
    /// as many newer ones have come ([`CloseReason::Displaced`](getty_core::CloseReason::Displaced)).
    ///
    /// So a client that is slow, though honest, has as long as it takes others to fill all places: under a
    /// flood of 10 000 connections a second, one second with the default. To give it longer, slow the flood
    /// down ([`accepts_per_second`](Self::accepts_per_second)), or give each address a share
    /// ([`max_sessions_per_address`](Self::max_sessions_per_address)): one that has its share displaces
    /// nobody.
    #[must_use]
    pub fn max_opening(mut self, sessions: usize) -> Self {
        self.max_opening = sessions.max(1);
        self
    }

    /// How many sessions one address may have; of IPv6, one network of 64 bits, which one host may have to itself. `None`,
    /// the default, is no such limit: behind a proxy or a translator, all have one address.
    #[must_use]
    pub fn max_sessions_per_address(mut self, sessions: impl Into<Option<u32>>) -> Self {
        self.max_sessions_per_address = sessions.into();
        self
    }

    /// How many connections are accepted in a second, and how many at once. Those beyond wait with the system, in its queue
    /// of connections to be accepted. `None`, the default, is no such limit. At least 1.
    #[must_use]
    pub fn accepts_per_second(mut self, accepts: impl Into<Option<u32>>) -> Self {
        self.accepts_per_second = accepts.into().map(|accepts: u32| accepts.max(1));
        self
    }
}

/// What a server has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Sessions that there are.
    pub sessions: usize,
    /// Those of them that are not open yet: their handshake is under way.
    pub opening: usize,
    /// Connections accepted since it began, those that were refused included.
    pub accepted: u64,
    /// Those that were closed at once, for a limit.
    pub refused: Refused,
    /// Sessions that were not open yet and had to make room for newer ones, the oldest first: their reason is
    /// [`CloseReason::Displaced`](getty_core::CloseReason::Displaced). See [`ServerLimits::max_opening`].
    pub displaced: u64,
    /// How often accepting failed because the system could not, as when there are too many open files. It is tried again,
    /// after 5 ms at first and after a second at the most.
    pub failures: u64,
}

/// Connections that were closed at once, by the limit that was reached. See [`ServerLimits`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// [`ServerLimits::max_sessions`], all of them open.
    pub too_many: u64,
    /// [`ServerLimits::max_sessions_per_address`].
    pub too_many_of_address: u64,
}

impl Refused {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.too_many + self.too_many_of_address
    }
}

/// What an endpoint counts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counted {
    pub(crate) accepted: u64,
    pub(crate) refused: Refused,
    pub(crate) displaced: u64,
    pub(crate) failures: u64,
}

/// One session, as [`Server::list`](crate::Server::list) tells of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its number.
    pub id: SessionId,
    /// This end's address.
    pub local: Option<SocketAddr>,
    /// The peer's address. A session for all peers of a socket has none.
    pub peer: Option<SocketAddr>,
    /// Whether it is open: no handshake is under way, and it is not closing.
    pub is_open: bool,
    /// Since when it has been there.
    pub since: Instant,
    /// When the peer last gave a sign of life.
    pub last_active: Instant,
    /// What it has done, and what waits: [`Stats::queued`] to be sent, [`Stats::buffered`] to be decoded.
    pub stats: Stats,
}
