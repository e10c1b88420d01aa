//! RPC in both directions: services and callers over any session.
//!
//! [`Services`] is what a side serves, a [`Caller`] calls the other side. Both sides of a connection can do
//! both: [`peer`] makes a listener and a caller for the side that connects, [`Services::listener`] the
//! listener of a server's session, and [`Call::peer`] is the way back. Transport, TLS and runtime are the
//! endpoint's:
//!
//! ```
//! use getty_driver::rpc::{self, Call, Raw, Services, Status};
//! use getty_driver::{Client, Runtime, Server};
//!
//! # #[derive(Clone, Default)]
//! # struct Nobody;
//! # impl<F> getty_driver::Spawn<F> for Nobody { fn spawn(&self, _: F) {} }
//! # async fn f<R: Runtime>() -> Result<(), Box<dyn std::error::Error>> {
//! let services = Services::new().method("room.Room/Join", Raw, |call: Call, name: String| async move {
//!     let screen: String = call.peer().call("screen.Screen/Size", Raw, &()).within(&call).await?;
//!     Ok::<_, Status>(format!("{name} has a screen of {screen}"))
//! });
//! # let spawner = Nobody;
//! let server = Server::<R>::builder().spawner(spawner);
//! let server = server.tcp("127.0.0.1:0", rpc::frames, move || services.listener()).await?;
//!
//! let own = Services::new()
//!     .method("screen.Screen/Size", Raw, |_call, (): ()| async { Ok::<_, Status>("80x25".to_owned()) });
//! let (peer, caller) = rpc::peer(own);
//! # let spawner = Nobody;
//! let client = Client::<R>::builder().spawner(spawner);
//! client.tcp(&server.local_addr().to_string(), rpc::frames(), peer).await?;
//! let answer: String = caller.call("room.Room/Join", Raw, "Ann").await?;
//! # Ok(()) }
//! ```
//!
//! A [trait](macro@service) is a service too, with a client of its own.
//!
//! # Guide
//!
//! * [`guide::serving`]: methods, handlers, layers, who calls, and the end.
//! * [`guide::calling`]: options, streams, failures, pools, and tests.
//! * `guide::errors`, `guide::versions`: what goes wrong, and what may change (feature `json`).
//! * `guide::from_tarpc`, `guide::from_tonic`: what is called what here (feature `json`).
//!
//! The task of a session is `Send` exactly if all its handlers are. A function that returns
//! `Services<impl Dispatch>` hides whether they are: make the list where the endpoint is made.
//!
//! # Limits
//!
//! [`Config`] has them, with defaults; SECURITY.md lists them. What is over a limit is refused as not
//! executed.

mod answer;
#[cfg(any(feature = "metrics", feature = "tracing"))]
mod at_end;
mod boxed;
#[cfg(feature = "json")]
mod builtin;
mod call;
mod call_layer;
mod caller;
mod calling;
mod calls;
#[cfg(feature = "deflate")]
mod compressed;
mod desk;
mod dispatch;
mod either;
mod entry;
mod error;
mod extensions;
#[doc(hidden)]
pub mod generated;
pub mod guide;
mod handlers;
mod handling;
#[cfg(feature = "json")]
pub mod health;
mod layer;
mod layered;
mod limit;
mod listener;
mod load;
mod mailbox;
#[cfg(feature = "metrics")]
mod measured;
mod memory;
mod method_info;
#[cfg(feature = "metrics")]
mod method_metrics;
mod moving;
mod names;
mod open;
mod opening;
mod opening_call;
mod outgoing;
mod peers;
mod place;
mod posted;
#[cfg(feature = "json")]
pub mod reflection;
mod route;
mod service;
mod services;
mod streams;
mod task;
mod team;
#[cfg(feature = "tracing")]
mod traced;

use getty_core::Framed;
#[cfg(feature = "websocket")]
use getty_core::websocket::Packages;

#[cfg(feature = "json")]
pub use getty_core::rpc::Json;
#[cfg(feature = "protobuf")]
pub use getty_core::rpc::Protobuf;
pub use getty_core::rpc::{
    Code, Codec, CodecError, CodecName, Codecs, Config, ConfigBuilder, Decode, Encode, Executed, Frames,
    Metadata, MetadataError, OneOf, Origin, Raw, Status, Trace,
};

#[doc = include_str!("error_macro.md")]
pub use getty_macros::Error;
#[doc = include_str!("service_macro.md")]
pub use getty_macros::service;

pub use answer::Answer;
pub use call::Call;
pub use call_layer::{CallLayer, CallNext, CallShape, Outbound};
pub use caller::Caller;
pub use calling::{BidiStreaming, Calling, ClientStreaming, OneWay, ServerStreaming, Unary};
#[cfg(feature = "deflate")]
pub use compressed::Compressed;
pub use dispatch::{Dispatch, Inbound, Response};
pub use error::{CallError, MethodError};
pub use layer::{Layer, Layers, Next};
pub use limit::Limit;
#[cfg(feature = "metrics")]
pub use measured::Measured;
pub use memory::{in_memory, in_memory_with};
pub use method_info::MethodInfo;
pub use opening::Opening;
pub use opening_call::OpeningCall;
pub use peers::peers;
pub use service::Service;
pub use services::{Services, peer};
pub use streams::{Receiver, Sender};
pub use task::{Spawned, Task};
#[cfg(feature = "tracing")]
pub use traced::Traced;

/// Makes the protocol of an RPC session over a stream of bytes: `rpc::frames` is what servers take,
/// `rpc::frames()` what clients take.
pub fn frames() -> Framed<Frames> {
    Framed::new(Frames::new())
}

/// Makes the form of an RPC session over WebSocket: one frame in each binary message. Servers take
/// `WebSocket::serving_of(rpc::packages, ServerOptions::new())`, clients
/// [`ClientBuilder::websocket`](crate::ClientBuilder::websocket) with `rpc::packages()`. The sub-protocol
/// `getty-rpc.2` is accepted if it is offered.
#[cfg(feature = "websocket")]
pub fn packages() -> Packages<Frames> {
    Packages::new(Frames::in_messages())
}
