//! Sockets: their options, their addresses, and system calls. Knows no runtime.

pub(crate) mod address;
pub(crate) mod tcp;
pub(crate) mod udp;
#[cfg(unix)]
pub(crate) mod unix;
