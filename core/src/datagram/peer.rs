//! [`Peer`]: what is known of a peer.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::Path;
use super::activity::{Activity, Periods};
use crate::close::CloseReason;
use crate::time::Timestamp;

/// What a datagram of a peer, or to it, reads and writes. Among many peers the memory of each is waited for, and this is
/// two cache lines of it; what is rarely needed is [`Cold`].
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Peer {
    pub(super) activity: Activity,
    pub(super) messages: u64,
    pub(super) accepted: u64,
    way: Way,
    pub(super) generation: u32,
    /// How many bytes may be sent to it while it may not be who it says.
    pub(super) allowance: u32,
    /// Datagrams that wait to be sent.
    pub(super) waiting: u32,
    pub(super) pending: u16,
    /// Whether this is a peer; else it is room for one.
    pub(super) present: bool,
    /// It is in the queue of those that have something to tell.
    pub(super) ready: bool,
    pub(super) validated: bool,
    pub(super) paused: bool,
    /// It is over, which is told when nothing of it waits any more.
    pub(super) ending: bool,
    /// There is a [`Cold::flush_wanted`].
    pub(super) flush_wanted: bool,
}

const _: () = assert!(size_of::<Peer>() <= 128);

/// What is known of a peer and that datagrams leave alone.
#[derive(Debug)]
pub(super) struct Cold {
    pub(super) periods: Periods,
    /// Why it is over.
    pub(super) reason: Option<Box<CloseReason>>,
    pub(super) flush_wanted: u64,
    /// Datagrams that were accepted and could not be sent.
    pub(super) unsent: u64,
    pub(super) refused: u32,
    pub(super) writable_wanted: bool,
}

impl Cold {
    pub(super) fn new(periods: Periods) -> Self {
        Cold { periods, reason: None, flush_wanted: 0, unsent: 0, refused: 0, writable_wanted: false }
    }
}

impl Peer {
    pub(super) fn new(path: Path, generation: u32, now: Timestamp) -> Self {
        Peer {
            activity: Activity::new(now),
            messages: 0,
            accepted: 0,
            way: Way::new(path),
            generation,
            allowance: 0,
            waiting: 0,
            pending: 0,
            present: true,
            ready: false,
            validated: false,
            paused: false,
            ending: false,
            flush_wanted: false,
        }
    }

    /// The latest way that its datagrams took.
    #[inline]
    pub(super) fn path(&self) -> Path {
        Path { peer: self.way.peer(), local: self.way.local }
    }

    #[inline]
    pub(super) fn address(&self) -> SocketAddr {
        self.way.peer()
    }

    /// A datagram of it came to this end's address.
    #[inline]
    pub(super) fn came_to(&mut self, local: Option<IpAddr>) {
        self.way.local = local;
    }

    /// How many of the accepted messages do not wait any more.
    #[inline]
    pub(super) fn done(&self) -> u64 {
        self.accepted - u64::from(self.waiting)
    }

    /// Whether so many bytes may be sent to it, as far as it is known to be who it says.
    #[inline]
    pub(super) fn may_get(&self, bytes: usize) -> bool {
        self.validated || u32::try_from(bytes).is_ok_and(|bytes| bytes <= self.allowance)
    }

    /// Reads from each of its cache lines.
    #[inline]
    pub(super) fn touched(&self) -> u64 {
        self.messages ^ u64::from(self.waiting) ^ u64::from(self.flush_wanted)
    }
}

/// A [`Path`] in less memory.
#[derive(Debug)]
struct Way {
    ip: IpAddr,
    local: Option<IpAddr>,
    port: u16,
    /// Of IPv6.
    flow_and_scope: [u32; 2],
}

impl Way {
    fn new(path: Path) -> Self {
        let flow_and_scope = match path.peer {
            SocketAddr::V4(_) => [0; 2],
            SocketAddr::V6(v6) => [v6.flowinfo(), v6.scope_id()],
        };
        Way { ip: path.peer.ip(), local: path.local, port: path.peer.port(), flow_and_scope }
    }

    #[inline]
    fn peer(&self) -> SocketAddr {
        let [flow, scope] = self.flow_and_scope;
        match self.ip {
            IpAddr::V4(ip) => SocketAddrV4::new(ip, self.port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, self.port, flow, scope).into(),
        }
    }
}
