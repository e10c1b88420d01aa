//! getty network sessions on tokio.
//!
//! An echo server, with a 4-byte length before each message:
//!
//! ```no_run
//! use bytes::Bytes;
//! use getty_tokio::core::codec::LengthDelimited;
//! use getty_tokio::{Context, Items, Listener, Server, framed};
//!
//! struct Echo;
//!
//! impl Listener<Items<Bytes>> for Echo {
//!     fn on_message(&mut self, cx: &mut Context<'_, Items<Bytes>>, message: Bytes) {
//!         let _ = cx.send(message); // refused only if the session is closing
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> std::io::Result<()> {
//!     let server = Server::builder().tcp("127.0.0.1:7000", framed(LengthDelimited::new), || Echo).await?;
//!     println!("listening on {}", server.local_addr());
//!     tokio::signal::ctrl_c().await?;
//!     server.shutdown(std::time::Duration::from_secs(5)).await;
//!     Ok(())
//! }
//! ```
//!
//! A client that pulls its messages:
//!
//! ```no_run
//! # async fn client() -> Result<(), Box<dyn std::error::Error>> {
//! use bytes::Bytes;
//! use getty_tokio::core::codec::LengthDelimited;
//! use getty_tokio::{Client, Framed};
//!
//! let protocol = Framed::new(LengthDelimited::new());
//! let mut connection = Client::builder().tcp_connection("127.0.0.1:7000", protocol).await?;
//! connection.send(Bytes::from("hello")).await?;
//! println!("{:?}", connection.recv().await?);
//! # Ok(()) }
//! ```
//!
//! Everything except the sockets and timers comes from [`getty_driver`] and is re-exported here. Codecs and
//! configuration are in [`core`]. The tokio runtime must have I/O and time enabled. [`Spawner`] runs sessions
//! as tasks of that runtime. [`LocalSpawner`] keeps them on one thread, for listeners that are not `Send`.
#![forbid(unsafe_code)]

mod drive;
mod listener;
#[cfg(feature = "rpc")]
pub mod rpc;
mod runtime;
mod stream;
mod timer;
mod udp;

pub use getty_driver::*;

pub use drive::drive;
pub use listener::TcpListener;
#[cfg(unix)]
pub use listener::UnixListener;
pub use runtime::{LocalSpawner, Spawner, Tokio};
#[cfg(unix)]
pub use stream::UnixStream;
pub use stream::{TcpStream, TokioIo};
pub use timer::Timer;
pub use udp::UdpSocket;

/// A server on tokio. See [`getty_driver::Server`].
pub type Server<A = std::net::SocketAddr> = getty_driver::Server<Tokio, A>;

/// A client on tokio. See [`getty_driver::Client`].
pub type Client = getty_driver::Client<Tokio>;

/// Client sessions on tokio that reconnect, sending messages `O`. See [`getty_driver::Pool`].
pub type Pool<O, A = String> = getty_driver::Pool<Tokio, O, A>;

/// A session of protocol `P` over the stream `S` whose messages are pulled. See [`getty_driver::Connection`].
pub type Connection<P, S = TcpStream> = getty_driver::Connection<Tokio, S, P>;
