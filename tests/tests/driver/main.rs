//! The driver without sockets: the test controls streams, datagrams and time.

#[path = "../driver_common/mod.rs"]
mod driver_common;
#[path = "../tls_common/mod.rs"]
mod tls_common;

mod ahead;
mod cancel;
mod clock_jumps;
mod connection;
mod events;
mod factories;
mod half_close;
mod handle;
mod listener;
mod own_turn;
mod peers;
mod pool_addresses;
mod pool_time;
mod posting;
mod rpc;
mod send_until;
mod server_time;
mod spawned;
mod tls_flush;
mod turns;
mod wrappers;
