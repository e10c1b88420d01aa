//! Network sessions as pure state machines: framing, heartbeats, idle detection, back-pressure and graceful
//! close, without sockets, clocks, threads or a runtime.
//!
//! A [`Session`] is one conversation with one peer. You hand it what happened (bytes came, time passed, the
//! stream ended) and ask it what to do (events to handle, bytes to write, when to wake up). It runs the same
//! on tokio, on a bare `epoll` loop, in a simulator with virtual time and in a fuzzer. For ready-made drivers
//! see the crates `getty-tokio` and `getty-driver`; this one is for those who have an event loop of their own.
//!
//! # Two sessions in memory
//!
//! All there is to driving a session, with memory in the place of a network:
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
//! /// Moves everything that `from` wants to send to `to`. An event loop has a socket between the two.
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
//!     // 1. What happened: here that is time, and the bytes that `transfer` brings below.
//!     client.handle_timeout(now);
//!     server.handle_timeout(now);
//!     // 2. Events, until there are none.
//!     while let Some(event) = server.poll_event() {
//!         match event {
//!             Event::Message(message) => {
//!                 server.send(message)?; // echo
//!             }
//!             Event::ReadEnd => server.close(now, Close::graceful()), // the peer is done, and so are we
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
//! The four kinds of calls, their order and the rule of time stand at [`Session`]; in short:
//!
//! * Nothing calls back. Everything that the application is told comes out of
//!   [`poll_event`](Session::poll_event), one event at a time; the state moves when the event is polled.
//! * Any number of inputs and commands may come between polls, in any order, and a poll too many does no harm.
//! * Time is an argument. Traffic never moves a deadline: [`poll_timeout`](Session::poll_timeout) changes only
//!   when a deadline is set for the first time or passes. Bring what the transport holds before
//!   [`handle_timeout`](Session::handle_timeout): what came in time counts, however late the loop is.
//! * [`Event::Closed`] is the last event, comes exactly once, and says who ended the session and why.
//! * What a peer sends can end the session, and can do nothing else: no panic, no unbounded memory, no busy
//!   loop.
//! * Misuse of [`send`](Session::send) is an `Err` that leaves the session as it was. Other calls out of place are
//!   ignored, except that input brought while [`wants_read`](Session::wants_read) is false is kept, however much.
//!
//! # Driving a session over a socket
//!
//! The chapter [`embedding`] walks through an echo server on `mio`: the order of a turn, what edge-triggered readiness
//! asks for, deadlines of many sessions, fairness. Two more examples beside it in the repository's `core/examples` are a
//! thread per session on blocking sockets of the standard library (`std_echo.rs`), and hours of a conversation in memory
//! under virtual time (`memory_echo.rs`).
//!
//! # Memory and limits
//!
//! Every buffer, queue and wait that a peer can influence has a limit in [`Config`], with a default. Buffers
//! grow with the bytes that arrive, never with what a header promises. An idle session that works in lent
//! memory holds no buffer at all, and the steady path allocates nothing.
//!
//! # Systems
//!
//! The crate uses nothing of the operating system. It is built and tested on Linux; on other systems it has
//! not been tried.
#![forbid(unsafe_code)]

mod backoff;
mod close;
pub mod codec;
mod config;
mod copy;
pub mod datagram;
mod deadline;
#[cfg(feature = "deflate")]
mod deflate;
mod dropped;
#[doc = include_str!("embedding.md")]
pub mod embedding {}
mod error;
mod event;
mod framed;
mod hidden;
#[cfg(feature = "websocket")]
mod http;
pub mod layer;
mod layered;
mod memory;
mod messages;
mod pending;
mod ring;
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
pub use error::{ConfigError, DecoderFault, EncodedTooLarge, IoFailure, SendError};
pub use event::{Event, Opened};
pub use framed::Framed;
pub use layered::Layered;
pub use memory::Memory;
pub use messages::{Items, Messages};
pub use session::{In, Out, Outbound, Protocol, Protocol as StreamProtocol, Session};
pub use stats::{Accepted, Flow, Progress, Seq, Stats, Work};
pub use time::Timestamp;
