//! RPC in both directions over any session: calls, streams, deadlines, cancellation, and a known outcome.
//!
//! * [`Peer`] is one end of a connection, which calls and is called: frames in, frames out; no bytes, no
//!   clock. It owns the calls of both sides, their streams and deadlines, and bounds what the other end can
//!   cause by the limits of its [`Config`].
//! * [`Frames`] is the codec of [`Frame`]s, for a [`Session`](crate::Session) of any transport. `SPEC.md`
//!   beside this module defines the format, *getty rpc 2*.
//! * [`Codec`] turns values into the bodies of calls and back: [`Raw`], and `Json` and `Protobuf` with the
//!   features `json` and `protobuf`.
//! * A call that fails has a [`Status`]: a [`Code`] of gRPC, a text, and whether it was [`Executed`].
//!
//! The chapter [`embedding`] shows how to drive a peer beside a session. Two peers and one call, without a
//! transport between them:
//!
//! ```
//! use getty_core::Timestamp;
//! use getty_core::rpc::{CodecName, Config, Event, Peer, Reply, Request, Side};
//!
//! let now = Timestamp::ORIGIN;
//! let config = Config::builder().build()?;
//! let mut client = Peer::new(config.clone(), Side::Connecting, now);
//! let mut server = Peer::new(config, Side::Accepting, now);
//!
//! let call = client.call(now, Request::new("text/Length", CodecName::Raw, "hello"), None)?;
//! // Its limits and the request: a call does not wait for the first word of the other end.
//! while let Some(frame) = client.poll_frame(now) {
//!     server.handle_frame(now, frame)?;
//! }
//! while let Some(event) = server.poll_event() {
//!     if let Event::Request(id, request) = event {
//!         let body = request.body.bytes.len().to_string().into();
//!         server.respond(id, Ok(Reply { body, ..Reply::default() }));
//!     }
//! }
//! while let Some(frame) = server.poll_frame(now) {
//!     client.handle_frame(now, frame)?;
//! }
//! assert!(matches!(client.poll_event(), Some(Event::Hello(_))));
//! let Some(Event::Ended(ended, Ok(reply))) = client.poll_event() else { panic!("no answer") };
//! assert_eq!((ended, &reply.body.bytes[..]), (call, &b"5"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bodies;
mod budget;
mod calls;
mod codec;
mod codecs;
#[cfg(feature = "deflate")]
mod compression;
mod config;
mod connection;
#[doc = include_str!("embedding.md")]
pub mod embedding {}
mod event;
mod fault;
mod frame;
mod halves;
mod head;
mod inbound;
mod metadata;
mod peer;
mod protobuf;
mod receive;
mod slots;
mod status;
mod streams;
mod timers;
mod transmit;
mod wire;

#[cfg(not(feature = "deflate"))]
pub use bodies::Coders;
pub use calls::Refused;
#[cfg(feature = "json")]
pub use codec::Json;
#[cfg(feature = "protobuf")]
pub use codec::Protobuf;
pub use codec::{Codec, CodecError, Decode, Encode, Raw};
pub use codecs::{Codecs, OneOf};
#[cfg(feature = "deflate")]
pub use compression::Coders;
pub use config::{Config, ConfigBuilder};
pub use event::{CallId, Cancelled, Event};
pub use fault::PeerFault;
pub use frame::{
    Body, CodecName, Coding, Extra, Frame, FrameFault, GoAway, GoAwayCode, Hello, Invalid, Reply, Request,
    Trace,
};
pub use halves::ItemError;
pub use metadata::{Metadata, MetadataError};
pub use peer::{Peer, Side};
pub use status::{Code, Executed, Origin, Status};
pub use wire::{EncodeFrameError, Frames, FramesError};
