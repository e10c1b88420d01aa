//! Sessions over datagrams, usually UDP.
//!
//! Codecs and events are the same as over a stream. The differences: messages come from many peers over one
//! socket, they get lost, and source addresses may be forged. [`Packets`] is one session for a whole socket,
//! connected to one peer or open to all. [`Peers`] has a session for each peer, within limits that hold
//! whatever is sent from forged addresses.
//!
//! Datagrams are received and sent in batches, since system calls dominate their cost: [`RecvBatch`] is
//! filled by one `recvmmsg` call, and each [`Transmit`] of [`Outgoing`] is sent by one call with segmentation
//! offload.

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
mod state;
mod table;

pub use crate::dropped::{DropCounts, DropReason, Dropped};
pub use batch::{Path, RecvBatch};
pub use outgoing::{Outgoing, Transmit};
pub use packets::{PacketOptions, Packets};
pub use peers::{PeerLimits, Peers, PeersEvent};
pub use table::PeerKey;
