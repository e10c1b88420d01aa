//! Tools to test getty sessions, and whatever is built on them, without sockets, sleeps or a wall clock.
//!
//! | module | what it is for |
//! |---|---|
//! | [`clock`] | time that moves only when told |
//! | [`pair`] | two sessions and the wires between them: latency, any split of bytes, a full pipe, a cut wire |
//! | [`scripted`] | one session on a transport that does what a script says: short, pending, failing, ending |
//! | [`lossy`] | datagram sessions by address, and a network that loses, doubles and delays what they send |
//! | [`alloc`] | counts allocations and live bytes of a piece of code |
//! | [`split`] | every codec must not care how its bytes are cut |
//! | [`script`] | any order of calls, made from bytes, against the promises of a session; also for fuzzers |
//! | [`packet_script`] | the same for datagram sessions |
//! | [`peers_script`] | the same for tables of peers |
//! | [`tls_script`] | the same for two sessions over TLS, and what somebody between them may do |
//! | [`corpus`] | the inputs that getty's own fuzz targets keep |
//! | [`websocket`] | WebSocket sessions that are open, or whose peer is written by hand; frames made by other code than getty's |
//!
//! Everything is deterministic. Where bytes are cut at random the [`Rng`] is seeded by the caller; a lossy network prints its
//! seed, and takes one.
//!
//! ```
//! use std::time::Duration;
//!
//! use bytes::Bytes;
//! use getty_core::codec::LengthDelimited;
//! use getty_core::{Close, Config, Event, Framed};
//! use testkit::pair::{Pair, Wire};
//!
//! let codec = || Framed::new(LengthDelimited::new());
//! let mut pair = Pair::new(codec(), codec(), Config::builder().build()?)
//!     .wires(Wire { latency: Duration::from_millis(20), ..Wire::default() });
//! pair.b.on_event(|session, now, event| match event {
//!     Event::Message(message) => drop(session.send(message.clone()).unwrap()),
//!     Event::ReadEnd => session.close(now, Close::graceful()),
//!     _ => {}
//! });
//! pair.a.session.send(Bytes::from("hello")).unwrap();
//! pair.settle();
//! assert_eq!(pair.a.messages(), ["hello"]);
//! assert_eq!(pair.clock.elapsed(), Duration::from_millis(40));
//!
//! pair.a.session.close(pair.clock.now(), Close::graceful());
//! pair.settle();
//! assert!(pair.a.close_reason().is_some_and(|reason| reason.is_clean()));
//! # Ok::<(), getty_core::ConfigError>(())
//! ```

pub mod alloc;
pub mod clock;
pub mod corpus;
pub mod lossy;
pub mod packet_script;
pub mod pair;
pub mod peers_script;
mod rng;
pub mod script;
pub mod scripted;
pub mod split;
pub mod tls_script;
pub mod websocket;
mod wire;

pub use rng::Rng;

/// The examples of the README, as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
