//! Sockets: their options, their addresses, and system calls. Does not depend on a runtime.

pub(crate) mod address;
pub(crate) mod tcp;
pub(crate) mod udp;
#[cfg(unix)]
pub(crate) mod unix;
