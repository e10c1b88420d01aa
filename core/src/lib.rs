//! Network sessions as pure state machines: framing, heartbeats, idle detection, back-pressure and graceful
//! close, without sockets, clocks, threads or a runtime.
//!
//! A [`Session`] is one conversation with one peer. You give it inputs (bytes came, time passed, the stream
//! ended) and ask it what to do (events to handle, bytes to write, when to wake up). It runs the same on
//! tokio, on a bare `epoll` loop, in a simulator with virtual time and in a fuzzer. For ready-made drivers
//! see the crates `getty-tokio` and `getty-driver`; use this one with an event loop of your own.
//!
//! # Two sessions in memory
//!
//! Driving a session takes no more than this, with memory instead of a network:
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use bytes::{Buf, Bytes};
//! use getty_core::codec::LengthDelimited;
//! use getty_core::{Close, Config, Event, Framed, Session, Timestamp};
//!
//! type Peer = Session<Framed<LengthDelimited>>;
//!
//! /// Moves all output of `from` to `to`. An event loop has a socket between the two.
//! fn transfer(from: &mut Peer, to: &mut Peer, now: Timestamp) {
//!     let mut outbound = from.outbound(now);
//!     while outbound.has_remaining() {
//!         let n = outbound.chunk().len(); // as many as the socket would take
//!         to.handle_input(now, outbound.chunk());
//!         outbound.advance(n);
//!     }
//!     drop(outbound);
//!     if from.wants_shutdown() {
//!         to.handle_eof(now);
//!         from.handle_shutdown(now);
//!     }
//! }
//!
//! let config = Config::builder().cron_period(Duration::from_secs(1)).build()?;
//! let mut now = Timestamp::ORIGIN;
//! let mut client = Peer::new(Framed::new(LengthDelimited::new()), config, now);
//! let mut server = Peer::new(Framed::new(LengthDelimited::new()), Arc::new(Config::default()), now);
//! let mut log = Vec::new();
//!
//! client.send(Bytes::from_static(b"hello"))?;
//! while !(client.is_closed() && server.is_closed()) {
//!     // 1. Inputs: here time, and the bytes that `transfer` moves below.
//!     client.handle_timeout(now);
//!     server.handle_timeout(now);
//!     // 2. Events, until there are none.
//!     while let Some(event) = server.poll_event() {
//!         match event {
//!             Event::Message(message) => {
//!                 server.send(message)?; // echo
//!             }
//!             Event::Eof => server.close(now, Close::graceful()), // the peer is done, and so are we
//!             _ => {}
//!         }
//!     }
//!     while let Some(event) = client.poll_event() {
//!         match event {
//!             Event::Open(_) => log.push("open".to_owned()),
//!             Event::Message(message) => log.push(format!("echo of {} bytes", message.len())),
//!             Event::Cron => {
//!                 log.push("cron".to_owned());
//!                 client.close(now, Close::graceful());
//!             }
//!             Event::Closed(reason) => log.push(reason.to_string()),
//!             _ => {}
//!         }
//!     }
//!     // 3. Bytes to write.
//!     transfer(&mut client, &mut server, now);
//!     transfer(&mut server, &mut client, now);
//!     // 4. Wait for the transport or for the next deadline. In memory, time can jump there.
//!     if log.len() == 2 {
//!         now = client.poll_timeout().unwrap_or(now);
//!     }
//! }
//! assert_eq!(log, ["open", "echo of 5 bytes", "cron", "closed by this end"]);
//! assert_eq!(now.since_origin(), Duration::from_secs(1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The contract
//!
//! [`Session`] documents the four kinds of calls, their order and the rule of time. In short:
//!
//! * There are no callbacks. All reports to the application come from [`poll_event`](Session::poll_event),
//!   one event at a time; the state changes when the event is polled.
//! * Any number of inputs and commands may come between polls, in any order; an extra poll is harmless.
//! * Time is an argument. Traffic never moves a deadline: [`poll_timeout`](Session::poll_timeout) changes
//!   only when a deadline is set for the first time or passes. Hand in all data that the transport has before
//!   calling [`handle_timeout`](Session::handle_timeout): data that came in time counts, however late the
//!   loop is.
//! * [`Event::Closed`] is the last event, comes exactly once, and says who ended the session and why.
//! * A peer can end the session with what it sends, but cannot cause a panic, unbounded memory use or a busy
//!   loop.
//! * Misuse of [`send`](Session::send) is an `Err` that leaves the session as it was. Other misplaced calls
//!   are ignored, except that input given while [`wants_read`](Session::wants_read) is false is kept, however
//!   much it is.
//!
//! # Driving a session over a socket
//!
//! The chapter [`embedding`] walks through an echo server on `mio`: the order of a turn, edge-triggered
//! readiness, the deadlines of many sessions, and fairness. The repository's `core/examples` has two more
//! examples: a thread per session on blocking sockets of the standard library (`std_echo.rs`), and hours of
//! conversation in memory under virtual time (`memory_echo.rs`). With the feature `rpc`, the chapter
//! `rpc::embedding` adds calls to a session.
//!
//! # Memory and limits
//!
//! Every buffer, queue and wait that a peer can influence has a limit in [`Config`], with a default. Buffers
//! grow with the bytes that arrive, never with the length that a header announces. An idle session that works
//! in lent memory holds no buffer, and steady traffic causes no allocations.
//!
//! # Systems
//!
//! The crate uses no services of the operating system. It is tested on Linux; other systems are untested.
#![forbid(unsafe_code)]

mod backoff;
mod close;
pub mod codec;
mod config;
mod copy;
pub mod datagram;
mod deadline;
#[cfg(all(feature = "deflate", any(feature = "websocket", feature = "rpc")))]
mod deflate;
mod dropped;
#[doc = include_str!("embedding.md")]
pub mod embedding {}
mod error;
mod event;
mod framed;
mod hidden;
mod hint;
#[cfg(feature = "websocket")]
mod http;
pub mod layer;
mod layered;
mod memory;
mod messages;
mod pending;
mod ring;
#[cfg(feature = "rpc")]
pub mod rpc;
mod session;
mod stats;
mod time;
#[cfg(feature = "websocket")]
mod upgrade;
#[cfg(feature = "websocket")]
pub mod websocket;
mod wheel;

pub use backoff::{Backoff, Retry};
pub use close::{Close, CloseReason};
pub use config::{Config, ConfigBuilder};
pub use deadline::{Deadline, Idle};
pub use error::{ConfigError, DecoderFault, EncodedTooLarge, HalfCloseError, IoFailure, SendError};
pub use event::{Event, Opened};
pub use framed::{Framed, framed};
pub use layered::Layered;
pub use memory::Memory;
pub use messages::{Items, Messages};
pub use session::{In, IntoProtocol, Out, Outbound, Protocol, Session};
pub use stats::{Accepted, Flow, Progress, Seq, Stats, Work};
pub use time::Timestamp;
