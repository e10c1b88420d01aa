//! Allocations and memory of everything, by count.
//!
//! Counts are per thread, and so per test.

#[path = "../common/mod.rs"]
mod common;
#[path = "../driver_common/mod.rs"]
mod driver_common;
#[path = "../packets_common/mod.rs"]
mod packets_common;
#[path = "../peers_common/mod.rs"]
mod peers_common;

mod driver;
mod frames;
mod packets;
mod peers;
mod rpc;
mod rpc_bodies;
mod rpc_driver;
mod session;
mod udp;
mod websocket;

use testkit::alloc::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
