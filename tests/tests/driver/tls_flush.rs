//! A flush over TLS, on a wire that the test controls, when a fault follows the last message.

use bytes::{Buf, Bytes};
use getty_core::codec::LengthDelimited;
use getty_core::{Config, Event, Framed, Protocol, Session, Timestamp};
use getty_driver::Connection;

use crate::driver_common::fake::Fake;
use crate::driver_common::task::Task;
use crate::driver_common::wire::wire;
use crate::tls_common::World;

fn written<P: Protocol>(session: &mut Session<P>, now: Timestamp) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let mut outbound = session.outbound(now);
        if !outbound.has_remaining() {
            return all;
        }
        let n = outbound.chunk().len();
        all.extend_from_slice(outbound.chunk());
        outbound.advance(n);
    }
}

#[test]
fn what_a_fault_of_the_peer_takes_along_is_not_told_as_flushed() {
    let world = World::new();
    let config = std::sync::Arc::new(Config::default());
    let now = getty_driver::now::<Fake>();
    let plain = || Framed::<LengthDelimited>::new(LengthDelimited::new());
    let mut peer =
        Session::new(crate::tls_common::server(world.server_config(), plain()), config.clone(), now);
    let (io, wire) = wire();
    let session = Session::new(crate::tls_common::client(world.client_config(), plain()), config, now);
    let mut connection: Connection<Fake, _, _> = Connection::new(session, io);
    let mut opened = Task::new(connection.opened());
    while opened.run().is_pending() {
        peer.handle_input(now, &wire.take_written());
        wire.send(&written(&mut peer, now));
    }
    drop(opened);
    Task::new(connection.flush()).finish().unwrap();
    peer.handle_input(now, &wire.take_written());
    wire.send(&written(&mut peer, now));

    wire.room(0);
    for n in [1, 2] {
        Task::new(connection.feed(Bytes::from(vec![n; 60_000]))).finish().unwrap();
    }
    peer.send(Bytes::from("m")).unwrap();
    let mut bytes = written(&mut peer, now);
    bytes.extend_from_slice(&[99; 40]);
    wire.send(&bytes);
    assert_eq!(Task::new(connection.recv()).finish().unwrap().unwrap(), "m");
    wire.room(None);
    let flushed = Task::new(connection.flush()).finish();
    peer.handle_input(now, &wire.take_written());
    let came = std::iter::from_fn(|| peer.poll_event()).filter(|e| matches!(e, Event::Message(_))).count();
    assert!(flushed.is_err(), "{flushed:?} although {came} of 2 messages arrived");
}
