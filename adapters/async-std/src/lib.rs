//! getty network sessions on async-std.
//!
//! **async-std is discontinued upstream** (RUSTSEC-2025-0052): this adapter is for programs that still use
//! it. New programs should use `getty-smol`, which runs on the same reactor; moving takes a change of one
//! `use`.
//!
//! ```no_run
//! use getty_async_std::core::codec::LengthDelimited;
//! use getty_async_std::{Context, Items, Listener, Server, framed};
//! use bytes::Bytes;
//!
//! struct Echo;
//!
//! impl Listener<Items<Bytes>> for Echo {
//!     fn on_message(&mut self, cx: &mut Context<'_, Items<Bytes>>, message: Bytes) {
//!         let _ = cx.send(message); // refused only if the session is closing
//!     }
//! }
//!
//! fn main() -> std::io::Result<()> {
//!     async_std::task::block_on(async {
//!         let protocol = framed(LengthDelimited::new);
//!         let server = Server::builder().tcp("127.0.0.1:7000", protocol, || Echo).await?;
//!         println!("listening on {}", server.local_addr());
//!         std::future::pending().await
//!     })
//! }
//! ```
//!
//! Everything except the sockets and timers comes from [`getty_driver`](getty_async_io::getty_driver) and is
//! re-exported here. Codecs and configuration are in [`core`]. [`Spawner`] runs sessions as tasks of
//! async-std's global executor. Listeners must be `Send`: async-std's single-threaded executor is behind a
//! feature marked unstable.
#![forbid(unsafe_code)]

mod drive;
#[cfg(feature = "rpc")]
pub mod rpc;
mod runtime;

pub use getty_async_io::getty_driver::*;
pub use getty_async_io::{TcpListener, TcpStream, Timer};
#[cfg(unix)]
pub use getty_async_io::{UnixListener, UnixStream};

pub use drive::drive;
pub use runtime::{AsyncStd, Spawner};

/// A server on async-std. See [`getty_driver::Server`](getty_async_io::getty_driver::Server).
pub type Server<A = std::net::SocketAddr> = getty_async_io::getty_driver::Server<AsyncStd, A>;

/// A client on async-std. See [`getty_driver::Client`](getty_async_io::getty_driver::Client).
pub type Client = getty_async_io::getty_driver::Client<AsyncStd>;

/// Client sessions on async-std that reconnect, sending messages `O`. See
/// [`getty_driver::Pool`](getty_async_io::getty_driver::Pool).
pub type Pool<O, A = String> = getty_async_io::getty_driver::Pool<AsyncStd, O, A>;

/// A session of protocol `P` over the stream `S` whose messages are pulled. See
/// [`getty_driver::Connection`](getty_async_io::getty_driver::Connection).
pub type Connection<P, S = TcpStream> = getty_async_io::getty_driver::Connection<AsyncStd, S, P>;
