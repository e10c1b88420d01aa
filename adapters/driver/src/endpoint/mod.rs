//! Endpoints: servers, clients and pools, which create sessions.

pub(crate) mod accept;
pub(crate) mod client;
pub(crate) mod connect;
pub(crate) mod factory;
pub(crate) mod incoming;
#[cfg(feature = "websocket")]
pub(crate) mod paths;
pub(crate) mod pool;
mod resolve;
pub(crate) mod security;
pub(crate) mod server;
mod settings;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "rpc")]
pub(crate) mod wait;
#[cfg(feature = "websocket")]
pub(crate) mod websocket;
