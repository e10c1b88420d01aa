//! getty network sessions on smol.
//!
//! ```no_run
//! use getty_smol::core::codec::LengthDelimited;
//! use getty_smol::{Context, Items, Listener, Server, framed};
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
//!     smol::block_on(async {
//!         let protocol = framed(LengthDelimited::new);
//!         let server = Server::builder().tcp("127.0.0.1:7000", protocol, || Echo).await?;
//!         println!("listening on {}", server.local_addr());
//!         std::future::pending().await
//!     })
//! }
//! ```
//!
//! Everything except the sockets and timers comes from [`getty_driver`](getty_async_io::getty_driver) and is
//! re-exported here. Codecs and configuration are in [`core`]. [`Spawner`] runs sessions as tasks of smol's
//! global executor. To use another executor, give the builder an [`OnExecutor`], or an [`OnLocalExecutor`]
//! for listeners that are not `Send`.
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
pub use runtime::{OnExecutor, OnLocalExecutor, Smol, Spawner};

/// A server on smol. See [`getty_driver::Server`](getty_async_io::getty_driver::Server).
pub type Server<A = std::net::SocketAddr> = getty_async_io::getty_driver::Server<Smol, A>;

/// A client on smol. See [`getty_driver::Client`](getty_async_io::getty_driver::Client).
pub type Client = getty_async_io::getty_driver::Client<Smol>;

/// Client sessions on smol that reconnect, sending messages `O`. See
/// [`getty_driver::Pool`](getty_async_io::getty_driver::Pool).
pub type Pool<O, A = String> = getty_async_io::getty_driver::Pool<Smol, O, A>;

/// A session of protocol `P` over the stream `S` whose messages are pulled. See
/// [`getty_driver::Connection`](getty_async_io::getty_driver::Connection).
pub type Connection<P, S = TcpStream> = getty_async_io::getty_driver::Connection<Smol, S, P>;
