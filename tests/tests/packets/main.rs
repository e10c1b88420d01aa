//! Datagram sessions without a socket: one session for all peers, and one for each.

#[path = "../packets_common/mod.rs"]
mod packets_common;
#[path = "../peers_common/mod.rs"]
mod peers_common;

mod closing;
mod getty;
mod limits;
mod lossy;
mod messages;
mod peers;
mod rules;
mod script;
mod time;
