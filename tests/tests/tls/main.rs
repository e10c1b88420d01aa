//! TLS below a protocol, in memory and under virtual time.

#[path = "../common/mod.rs"]
mod common;
#[path = "../tls_common/mod.rs"]
mod tls_common;

mod faults;
mod script;
mod sessions;
mod solo;
