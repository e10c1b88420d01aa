//! [`Event`]: reports of a [`Peer`](super::Peer), and the names of calls in them.

use std::time::Duration;

use crate::rpc::frame::{Body, GoAway, Hello, Reply, Request};
use crate::rpc::status::Status;

/// A call of either side, in one [`Peer`](super::Peer). Commands about a call that is over do nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl CallId {
    /// The number of the call among those that are open at the same time: small, and used again after its
    /// end. For tables of calls.
    pub fn slot(self) -> usize {
        self.slot as usize
    }
}

/// A report of a [`Peer`](super::Peer).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The peer has said its limits: it speaks this protocol.
    Hello(Hello),
    /// The peer calls. Answer with [`respond`](super::Peer::respond). A one-way call is already answered;
    /// [`release`](super::Peer::release) it once it is done.
    Request(CallId, Request),
    /// A call of this side is over. Exactly one for each call that was not given up by
    /// [`cancel`](super::Peer::cancel).
    Ended(CallId, Result<Reply, Status>),
    /// An item of the stream of the other side. Report it as [`consumed`](super::Peer::consumed) once it is
    /// taken, so that the other side may send more.
    Item(CallId, Body),
    /// The caller has ended its stream. Only of calls that began with
    /// [`more`](Request::more).
    End(CallId),
    /// A call of the peer is over before it was answered: drop its handler, then
    /// [`release`](super::Peer::release) it.
    Cancelled(CallId, Cancelled),
    /// There is room on a stream again, after an item was refused.
    Room(CallId),
    /// The peer goes away: it takes no further calls.
    GoAway(GoAway),
    /// Both sides go away and no call is open: the connection can be closed.
    Drained,
    /// The peer answered a ping after this time.
    Rtt(Duration),
}

/// The reason why a call of the peer was cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cancelled {
    /// The caller gave it up.
    ByCaller,
    /// Its deadline has passed.
    Deadline,
    /// The caller broke a rule of its streams.
    Fault,
    /// The connection has ended.
    Closed,
}
