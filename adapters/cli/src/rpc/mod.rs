//! RPC: the echo service, and connections for calls.

pub mod dial;
pub mod echo;

use std::sync::Arc;

use getty_driver::core::{Config, ConfigBuilder, ConfigError};
use getty_driver::rpc;

use crate::codec::SizeOptions;
use crate::url::{Transport, Url};

/// Why udp URLs do not have RPC.
pub const NEEDS_STREAM: &str = "RPC needs a tcp, tls, unix, ws or wss URL";

/// The smallest --max-message: both sides may always send frames of that size.
const LEAST: u32 = 64 * 1024;

/// The header of a frame in bytes.
const HEADER: u32 = 12;

/// Checks that RPC is possible.
pub fn check<'a>(urls: impl IntoIterator<Item = &'a Url>, size: SizeOptions) -> Result<(), String> {
    if let Some(url) = urls.into_iter().find(|url| url.transport == Transport::Udp) {
        return Err(format!("{NEEDS_STREAM}: remove {url}"));
    }
    if !(LEAST..=i32::MAX as u32 - HEADER).contains(&size.max_message) {
        return Err(format!("RPC needs a --max-message of {LEAST} to {} bytes", i32::MAX as u32 - HEADER));
    }
    Ok(())
}

/// The limits of a session, of which each message is a frame.
pub fn session(size: SizeOptions) -> ConfigBuilder {
    let limit = size.limit() + HEADER as usize;
    Config::builder().max_frame(limit).max_message(limit)
}

/// The limits of calls.
pub fn limits(size: SizeOptions) -> Result<Arc<rpc::Config>, ConfigError> {
    let defaults = rpc::Config::builder();
    defaults.max_frame(size.max_message).max_item(size.limit()).build()
}
