//! RPC over real sockets: what touches the runtime, on every runtime; the rest on one.

#[path = "../driver_common/mod.rs"]
mod driver_common;
#[path = "../tls_common/mod.rs"]
mod tls_common;
#[path = "../tls_common/ends.rs"]
mod tls_ends;

mod basics;
mod calling;
mod compressed;
mod cuts;
mod erased;
mod faults;
mod first_bytes;
mod lists;
mod memory;
mod pages;
mod pool;
mod run_on;
mod services;
mod spawn;
mod streams;
mod types;
mod who;
