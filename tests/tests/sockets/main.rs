//! The driver over real sockets, on every runtime.

#[path = "../driver_common/mod.rs"]
mod driver_common;
#[path = "../tls_common/mod.rs"]
mod tls_common;

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
mod rpc;
mod rpc_calling;
mod rpc_cuts;
mod rpc_faults;
mod rpc_first_bytes;
mod rpc_lists;
mod rpc_memory;
mod rpc_pages;
mod rpc_pool;
mod rpc_run_on;
mod rpc_services;
mod rpc_spawn;
mod rpc_streams;
mod rpc_types;
mod rpc_who;
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
