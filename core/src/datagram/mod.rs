//! Sessions over datagrams: UDP, as a rule.
//!
//! A codec is the same as over a stream, and so are the events; what differs is that messages come from many peers over one
//! socket, that they get lost, and that nobody has to be who they say they are. [`Packets`] is one session for a whole
//! socket, connected to one peer or talking to any; [`Peers`] has a session for each peer, within limits that hold whatever
//! is sent from invented addresses.
//!
//! Datagrams come and go in batches, because a system call is what they cost: [`RecvBatch`] is filled by one call of
//! `recvmmsg`, and each [`Transmit`] of [`Outgoing`] is what one call with segmentation offload takes.

mod activity;
mod batch;
mod compat;
mod drops;
mod inbox;
mod lookup;
mod outgoing;
mod packets;
mod peer;
mod peers;
mod socket;
mod table;

pub use crate::dropped::{DropCounts, DropReason, Dropped};
pub use batch::{Path, RecvBatch};
pub use outgoing::{Outgoing, Transmit};
pub use packets::{PacketOptions, Packets};
pub use peers::{PeerLimits, Peers, PeersEvent};
pub use table::PeerKey;
