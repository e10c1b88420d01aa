//! The driver over real sockets, on every runtime.

#[path = "../driver_common/mod.rs"]
mod driver_common;
#[path = "../tls_common/mod.rs"]
mod tls_common;
#[path = "../tls_common/ends.rs"]
mod tls_ends;

mod client;
mod faults;
mod half_close;
mod half_open;
mod handle_threads;
mod interop;
mod limits;
mod own_turn;
mod peers;
mod peers_crowd;
mod pool;
mod server;
#[cfg(unix)]
mod streams;
mod tls;
mod udp;
#[cfg(target_os = "linux")]
mod udp_errors;
#[cfg(target_os = "linux")]
mod udp_forbidden;
mod udp_io;
mod udp_slow;
#[cfg(unix)]
mod unix;
mod websocket;
