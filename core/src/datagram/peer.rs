//! [`Peer`]: the state of a peer.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::Path;
use super::activity::{Activity, Periods};
use crate::close::CloseReason;
use crate::time::Timestamp;

/// State used by each datagram from or to a peer. With many peers, memory access dominates, and this takes
/// two cache lines; rarely needed state is in [`Cold`].
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Peer {
    pub(super) activity: Activity,
    pub(super) messages: u64,
    pub(super) accepted: u64,
    packed_path: PackedPath,
    pub(super) generation: u32,
    /// Bytes that may be sent to the peer before its address is validated.
    pub(super) allowance: u32,
    /// Datagrams waiting to be sent.
    pub(super) waiting: u32,
    pub(super) pending: u16,
    /// Whether the slot holds a peer.
    pub(super) present: bool,
    /// Whether it is in the queue of peers with events.
    pub(super) ready: bool,
    pub(super) validated: bool,
    pub(super) paused: bool,
    /// Whether it is ending. The end is reported once none of its datagrams wait.
    pub(super) ending: bool,
    /// Whether [`Cold::flush_wanted`] is set.
    pub(super) flush_wanted: bool,
}

const _: () = assert!(size_of::<Peer>() <= 128);

/// State of a peer that datagrams do not touch.
#[derive(Debug)]
pub(super) struct Cold {
    pub(super) periods: Periods,
    /// The reason of its end.
    pub(super) reason: Option<Box<CloseReason>>,
    pub(super) flush_wanted: u64,
    /// Accepted datagrams that could not be sent.
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
            packed_path: PackedPath::new(path),
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

    /// The latest path of its datagrams.
    #[inline]
    pub(super) fn path(&self) -> Path {
        Path { peer: self.packed_path.peer(), local: self.packed_path.local }
    }

    #[inline]
    pub(super) fn address(&self) -> SocketAddr {
        self.packed_path.peer()
    }

    /// Records that its latest datagram was sent to `local`, this end's address.
    #[inline]
    pub(super) fn set_local(&mut self, local: Option<IpAddr>) {
        self.packed_path.local = local;
    }

    /// The number of accepted messages that no longer wait.
    #[inline]
    pub(super) fn done(&self) -> u64 {
        self.accepted - u64::from(self.waiting)
    }

    /// Whether `bytes` bytes may be sent to it, given that its address may be forged.
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
struct PackedPath {
    ip: IpAddr,
    local: Option<IpAddr>,
    port: u16,
    /// IPv6 only.
    flow_and_scope: [u32; 2],
}

impl PackedPath {
    fn new(path: Path) -> Self {
        let flow_and_scope = match path.peer {
            SocketAddr::V4(_) => [0; 2],
            SocketAddr::V6(v6) => [v6.flowinfo(), v6.scope_id()],
        };
        PackedPath { ip: path.peer.ip(), local: path.local, port: path.peer.port(), flow_and_scope }
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
