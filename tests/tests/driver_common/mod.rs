//! Helpers of the driver's tests. Each file uses a part of them.
//!
//! | module | contents |
//! |---|---|
//! | [`wire`] | a stream in memory that the test controls |
//! | [`packets`] | the same for datagrams |
//! | [`task`] | a future that the test polls by hand, with a waker that counts |
//! | [`fake`] | a runtime with one thread, whose clock moves only on request and whose timers count |
//! | [`recorder`] | a listener that notes its callbacks, and acts or panics as the test wants |
//! | [`socket`] | the same for WebSocket |
//! | [`descriptors`] | the descriptors of this process |
//! | [`proxy`] | a proxy that can lose the connection between two ends |
//! | [`namespace`] | a network of the test's own |
//! | [`seccomp`] | a filter that forbids system calls |
//! | [`runtimes`] | the real runtimes, to run one test on each of them |
#![allow(dead_code, unused_imports)]

pub mod descriptors;
pub mod fake;
pub mod namespace;
pub mod packets;
pub mod proxy;
pub mod recorder;
pub mod runtimes;
#[cfg(target_os = "linux")]
pub mod seccomp;
pub mod socket;
pub mod task;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use getty_core::codec::LengthDelimited;
use getty_core::{Config, ConfigBuilder, Framed, Items, Session};
use getty_driver::{Connection, Driver};

use fake::Fake;
use recorder::Recorder;
use task::Task;
use wire::{MemIo, Wire, wire};

pub type Plain = Framed<LengthDelimited>;
pub type Messages = Items<Bytes>;
pub type FakeDriver = Driver<Fake, MemIo, Plain, Recorder>;
pub type FakeConnection = Connection<Fake, MemIo, Plain>;

pub const MS: Duration = Duration::from_millis(1);

pub fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// `payload` in the framing of the plain codec.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes(), payload].concat()
}

/// The payloads of the whole frames in `wire`, and the bytes after them.
pub fn frames(mut wire: &[u8]) -> (Vec<Vec<u8>>, &[u8]) {
    let mut payloads = Vec::new();
    while let Some((length, rest)) = wire.split_first_chunk::<4>() {
        let Some((payload, rest)) = rest.split_at_checked(u32::from_be_bytes(*length) as usize) else {
            break;
        };
        payloads.push(payload.to_vec());
        wire = rest;
    }
    (payloads, wire)
}

pub fn config(set: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Arc<Config> {
    set(Config::builder()).build().unwrap()
}

pub fn session(config: Arc<Config>) -> Session<Plain> {
    Session::new(Framed::new(LengthDelimited::new()), config, getty_driver::now::<Fake>())
}

/// A driver on a wire and a fake clock, polled by hand.
pub fn driver(config: Arc<Config>, listener: Recorder) -> (Task<FakeDriver>, Wire) {
    let (io, wire) = wire();
    (Task::new(Driver::new(session(config), io, listener)), wire)
}

/// A connection on a wire and a fake clock.
pub fn connection(config: Arc<Config>) -> (FakeConnection, Wire) {
    let (io, wire) = wire();
    (Connection::new(session(config), io), wire)
}
