//! The tasks of sessions: they move bytes, call listeners, and follow an endpoint.

pub(crate) mod actor;
pub(crate) mod connection;
pub(crate) mod driver;
mod engine;
#[cfg(feature = "rpc")]
pub(crate) mod joined;
pub(crate) mod limits;
pub(crate) mod members;
pub(crate) mod observe;
pub(crate) mod packet_driver;
mod packet_engine;
mod peer_waker;
pub(crate) mod peers_driver;
pub(crate) mod slots;
mod stream_engine;
mod task;
mod timing;
mod trouble;
mod turn;
