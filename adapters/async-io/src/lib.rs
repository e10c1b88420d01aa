//! Sockets and timers of [`async-io`](async_io) as getty wants them.
//!
//! This is what the adapters for smol and async-std have in common, whose reactor it is. A program depends on one of
//! those; whoever has an executor of their own over async-io takes this and implements
//! [`Runtime`](getty_driver::Runtime) with it, as they do.
#![forbid(unsafe_code)]

mod listener;
mod stream;
mod timer;

pub use getty_driver;

pub use listener::TcpListener;
pub use stream::{Reactor, TcpStream, apply, connect};
pub use timer::Timer;
