//! [`Solo`]: one end of a session, with the test as its wire.

use std::sync::Arc;

use bytes::Buf;
use getty_core::Layered;
use getty_core::layer::tls::Tls;
use getty_core::{Config, Session};
use testkit::clock::Clock;

use crate::common::{Plain, plain, words};
use crate::tls_common::*;

pub type Secure = Layered<Tls, Plain>;

fn config() -> Arc<Config> {
    Config::builder().build().unwrap()
}

/// A session and its clock, with the test as its wire.
pub struct Solo {
    pub session: Session<Secure>,
    pub clock: Clock,
}

impl Solo {
    pub fn new(protocol: Secure) -> Self {
        let clock = Clock::new();
        Solo { session: Session::new(protocol, config(), clock.now()), clock }
    }

    pub fn written(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let mut outbound = self.session.outbound(self.clock.now());
            if !outbound.has_remaining() {
                return all;
            }
            let n = outbound.chunk().len();
            all.extend_from_slice(outbound.chunk());
            outbound.advance(n);
        }
    }

    pub fn input(&mut self, bytes: &[u8]) {
        self.session.handle_input(self.clock.now(), bytes);
    }

    pub fn poll(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.session.poll_event()).map(|event| words(&event)).collect()
    }
}

/// Two ends that have completed their handshake.
pub fn shaken(world: &World) -> (Solo, Solo) {
    let mut client = Solo::new(client(world.client_config(), plain()));
    let mut server = Solo::new(server(world.server_config(), plain()));
    for _ in 0..4 {
        server.input(&client.written());
        client.input(&server.written());
    }
    assert_eq!((client.poll(), server.poll()), (vec!["Open".to_owned()], vec!["Open".to_owned()]));
    (client, server)
}
