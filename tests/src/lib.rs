//! Tools to test getty sessions, and everything built on them, without sockets, sleeps or a wall clock.
//!
//! | module | purpose |
//! |---|---|
//! | [`clock`] | time that moves only on request |
//! | [`pair`] | two sessions and the wires between them: latency, splits, a full pipe, a cut |
//! | [`scripted`] | one session on a transport that follows a script: short, pending, failing, ending |
//! | [`lossy`] | datagram sessions by address, and a network that loses, duplicates and delays datagrams |
//! | [`alloc`] | counts allocations and live bytes of a piece of code |
//! | [`split`] | checks that a codec does not depend on how its bytes are split |
//! | [`script`] | any order of calls, made from bytes, against a session's guarantees; for fuzzers too |
//! | [`packet_script`] | the same for datagram sessions |
//! | [`peers_script`] | the same for tables of peers |
//! | [`tls_script`] | the same for two sessions over TLS, with an attacker between them |
//! | [`rpc`] | two RPC peers with their sessions and the pipes between them |
//! | [`rpc_script`] | any order of calls, cancels and faults on two RPC peers, made from bytes |
//! | [`corpus`] | the inputs that the fuzz targets keep |
//! | [`websocket`] | open WebSocket sessions, hand-written peers, independently made frames |
//!
//! Everything is deterministic. The caller seeds the [`Rng`] that splits bytes at random. A lossy network
//! prints its seed, and accepts one.
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
//!     Event::Eof => session.close(now, Close::graceful()),
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
pub mod rpc;
pub mod rpc_bytes;
pub mod rpc_script;
pub mod script;
pub mod scripted;
pub mod split;
pub mod tls_script;
pub mod websocket;
mod wire;

pub use rng::Rng;

/// The README's examples, as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
