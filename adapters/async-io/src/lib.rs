//! Sockets and timers of [`async-io`](async_io) as getty wants them.
//!
//! This is what the adapters for smol and async-std have in common, whose reactor it is. A program depends on one of
//! those; whoever has an executor of their own over async-io takes this and implements
//! [`Runtime`](getty_driver::Runtime) with it, as they do.
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
