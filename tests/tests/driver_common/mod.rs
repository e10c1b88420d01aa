//! What the tests of the driver need. Each file uses a part of it.
//!
//! | module | what it is for |
//! |---|---|
//! | [`wire`] | a stream in memory that does exactly what the test says |
//! | [`packets`] | the same for datagrams |
//! | [`task`] | a future that the test polls by hand, with a waker that counts |
//! | [`fake`] | a runtime of one thread, with a clock that moves only when told and timers that count |
//! | [`recorder`] | a listener that writes down its callbacks, and acts or panics where the test says |
//! | [`socket`] | the same for WebSocket |
//! | [`descriptors`] | the descriptors that this process holds |
//! | [`proxy`] | what stands between two ends, and lets them lose each other |
//! | [`namespace`] | a network of the test's own |
//! | [`seccomp`] | a process that may not make some calls |
//! | [`runtimes`] | real runtimes: what a test needs to run on each of them, from one source |
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

/// `payload` as the plain codec has it on the wire.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes(), payload].concat()
}

/// The payloads of the whole frames in `wire`, and what is left of it.
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

/// A driver on a wire and a fake clock, to be polled by hand.
pub fn driver(config: Arc<Config>, listener: Recorder) -> (Task<FakeDriver>, Wire) {
    let (io, wire) = wire();
    (Task::new(Driver::new(session(config), io, listener)), wire)
}

/// The same, with a connection.
pub fn connection(config: Arc<Config>) -> (FakeConnection, Wire) {
    let (io, wire) = wire();
    (Connection::new(session(config), io), wire)
}
