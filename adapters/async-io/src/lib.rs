//! Sockets and timers on [`async-io`](async_io) for getty.
//!
//! This crate is the common part of the adapters for smol and async-std, which both use async-io's reactor.
//! Programs depend on one of those. With an executor of your own over async-io, depend on this crate and
//! implement [`Runtime`](getty_driver::Runtime) with it, as the adapters do.
#![deny(unsafe_code)]

mod any;
mod listener;
mod stream;
mod timer;
mod udp;

pub use any::{AnyIo, FindSocket};
pub use async_io::Async;
pub use getty_driver;

#[cfg(unix)]
pub use listener::UnixListener;
pub use listener::{ReactorListener, TcpListener};
#[cfg(unix)]
pub use stream::UnixStream;
pub use stream::{Stream, TcpStream, apply, connect};
pub use timer::Timer;
pub use udp::UdpSocket;
