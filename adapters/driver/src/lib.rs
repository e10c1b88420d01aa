//! Drives getty sessions over any stream and timer: listeners, handles, connections, servers and clients.
//!
//! The protocol is in [`core`] and does no I/O; a runtime's sockets and timers are in an adapter
//! (`getty-tokio`). This crate is what lies between and is the same for every runtime. Most programs depend
//! on an adapter, which re-exports everything here.
//!
//! # Three ways to use a session
//!
//! * **A listener is called** ([`Listener`]): each session has its own, in a task of its own. [`Server`]
//!   accepts connections and [`Client`] makes them. [`Listener::on_turn`] polls futures in that task.
//! * **A handle posts** ([`Handle`]): to send, pause and close from anywhere, through a bounded queue.
//! * **Messages are pulled** ([`Connection`]): it owns the session, has no task, and is a `Stream` and a
//!   `Sink` too. [`Connection::spawn`] moves it to a task and splits it in two halves.
//!
//! A [`Pool`] is a client with several sessions, to one address or more, that connects again whenever one
//! ends.
//!
//! # Shapes of endpoints
//!
//! An endpoint is handed a protocol: [`Framed`] of a codec, or `WebSocket`. A client makes one session: it is
//! given a protocol `p` and a listener `l`, or no listener, and its messages are pulled. A
//! [server](ServerBuilder) and a [pool](PoolBuilder) make many: they are given functions, `P` that makes
//! protocols and `L` that makes listeners. `P` is [`framed`] of a function that makes codecs,
//! `WebSocket::serving(options)`, or any closure ([`ProtocolFactory`]). TLS is a setting of the builder. A
//! WebSocket's URL says where to connect and whether with TLS, so those who connect to one give its request,
//! and the form `f` of its messages instead of a protocol. Datagrams have a codec `c`.
//!
//! | | server | pool | client | client, pulled |
//! |---|---|---|---|---|
//! | TCP | `tcp(a, P, L)` | `tcp(a, P, L)` | `tcp(a, p, l)` | `tcp_connection(a, p)` |
//! | Unix socket | `unix(a, P, L)` | `unix(a, P, L)` | `unix(a, p, l)` | `unix_connection(a, p)` |
//! | WebSocket | `tcp`, `unix` | `websocket(r, F, L)` | `websocket(r, f, l)` | `websocket_connection(r, f)` |
//! | UDP | `udp(a, c, l)` | | `udp(a, c, l)` | `udp_receiver(a, c)` |
//! | UDP, a session for each peer | `udp_peers(a, limits, c, L)` | | | |
//!
//! A listener of one type of items says what a codec of several encodes. Where it does not, the protocol
//! does: `framed::<_, String>(Lines::new)`, `Framed::<_, String>::new(Lines::new())`.
//!
//! # A stream of one's own
//!
//! Whatever implements [`Io`] can carry a session, and [`FuturesIo`] makes one of any stream of the
//! `futures-io` traits: [`Driver::new`] with a session, the stream and a listener gives a future, to be
//! spawned or awaited. The adapters' `drive` does that for their runtime.
//!
//! # Datagrams
//!
//! [`PacketDriver`] drives one session for a whole socket, [`PeersDriver`] one for each of its peers;
//! listeners, contexts and handles are the same. A socket implements [`PacketIo`], with [`BatchSocket`] as
//! what does the system calls.
//!
//! # How long things may take
//!
//! Each limit is for what it names, and changes none of the others.
//!
//! | what | set by | after it |
//! |---|---|---|
//! | posting an item | any timer around [`Handle::send`] | dropping the future posts nothing |
//! | sending one | [`Handle::send_flushed_until`] | the item is back, or under way; the session goes on |
//! | connecting: names, every address | [`ClientBuilder::connect_timeout`] | an error |
//! | handshakes (TLS, WebSocket) | [`Config::handshake_timeout`] | the session ends, and says why |
//! | silence | [`Config::idle_read`] | an event; the session goes on |
//! | half a message | [`Config::partial_frame_timeout`] | the session ends, and says why |
//! | a peer that does not read | [`Config::write_stall_timeout`] | the session ends, and says why |
//! | a peer that does not answer pings | [`Config::pong_timeout`] | the session ends, and says why |
//! | both ends' silence | [`Config::idle_timeout`] | the session is closed, and says why; off by default |
//! | closing | [`Config::close_timeout`] | the session is aborted |
//! | draining a session of a pool that needs its place | [`Config::close_timeout`] | the session is closed |
//! | waiting for a pool's sessions | [`Pool::wait_ready`] | an error; the pool goes on |
//! | shutting down | [`Server::shutdown`], [`Pool::close`] | what is left is aborted, and counted |
//!
//! [`Config::handshake_timeout`]: core::Config::handshake_timeout
//! [`Config::close_timeout`]: core::Config::close_timeout
//! [`Config::idle_timeout`]: core::ConfigBuilder::idle_timeout
//! [`Config::idle_read`]: core::ConfigBuilder::idle_read
//! [`Config::partial_frame_timeout`]: core::ConfigBuilder::partial_frame_timeout
//! [`Config::write_stall_timeout`]: core::ConfigBuilder::write_stall_timeout
//! [`Config::pong_timeout`]: core::ConfigBuilder::pong_timeout
//!
//! # What a turn costs
//!
//! One poll of a session's task reads the clock once, reads once, calls the listener for everything that
//! came, and writes once. It allocates nothing, takes no lock unless handles exist, and does not
//! touch the runtime's timer unless the session's next deadline changed. Buffers are the thread's, lent to
//! the session for the turn: an idle session holds none.
//!
//! # Systems
//!
//! | | Linux | macOS, Windows |
//! |---|---|---|
//! | tested | yes | not tried |
//! | socket options ([`TcpOptions`]) | all | by `socket2`, as far as the system has them |
//! | UDP in batches ([`BatchSocket`]) | receiving, runs and others | as far as `quinn-udp` has them |
//! | `SO_REUSEADDR` on listening sockets | set | set on Unix; not on Windows, where it means something else |
#![forbid(unsafe_code)]

mod drive;
mod endpoint;
#[cfg(feature = "rpc")]
pub mod rpc;
mod runtime;
mod session;
mod socket;

pub use getty_core as core;
pub use getty_core::{Framed, Items, Messages, framed};

pub use drive::connection::{Connection, FlushError, SinkError};
pub use drive::driver::Driver;
pub use drive::limits::{Refused, ServerLimits, ServerStats, SessionInfo};
pub use drive::packet_driver::PacketDriver;
pub use drive::peers_driver::PeersDriver;
pub use endpoint::accept::{AcceptTask, SpawnServer};
pub use endpoint::client::{Client, ClientBuilder};
pub use endpoint::connect::ConnectTcp;
#[cfg(unix)]
pub use endpoint::connect::ConnectUnix;
pub use endpoint::factory::{ListenerFactory, ListenerOf, MessagesOf, ProtocolFactory};
pub use endpoint::incoming::TcpIncoming;
#[cfg(unix)]
pub use endpoint::incoming::UnixIncoming;
#[cfg(feature = "websocket")]
pub use endpoint::paths::{PathListener, Paths};
#[cfg(unix)]
pub use endpoint::pool::DialUnix;
#[cfg(feature = "websocket")]
pub use endpoint::pool::DialWebSocket;
pub use endpoint::pool::{
    AddressStats, Dial, DialTcp, NotReady, NotReadyWhy, Pool, PoolBuilder, PoolClosed, PoolOptions,
    PoolStats, PoolTask, Select, Target,
};
pub use endpoint::security::{Plaintext, Security};
pub use endpoint::server::{Server, ServerBuilder, Shutdown};
#[cfg(feature = "tls")]
pub use endpoint::tls;
#[cfg(feature = "rpc")]
pub use endpoint::wait::{Wait, Waits};
#[cfg(unix)]
pub use runtime::UnixRuntime;
pub use runtime::clock::now;
pub use runtime::futures::FuturesIo;
pub use runtime::io::{Io, PacketIo, Timer};
#[cfg(feature = "websocket")]
pub use runtime::random::system_random;
pub use runtime::{Accept, Runtime, Spawn};
pub use session::context::Context;
pub use session::handle::{Handle, NotFlushed};
pub use session::id::SessionId;
pub use session::listener::{Listener, Refuse};
pub use session::receiver::{Forward, Receiver};
pub use socket::address::AddressError;
pub use socket::tcp::TcpOptions;
pub use socket::udp::{BatchSocket, UdpOptions};
#[cfg(unix)]
pub use socket::unix::UnixOptions;
