//! UDP servers with a session for each peer: items posted through handles, and full sockets.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use getty_core::codec::Raw;
use getty_core::datagram::{Path, PeerLimits};
use getty_core::{Config, SendError};
use getty_driver::{Handle, NotFlushed, Server};

use crate::driver_common::fake::{self, Fake};
use crate::driver_common::packets::{Datagram, PacketWire};
use crate::driver_common::recorder::{Happening, Recorder, Then};
use crate::driver_common::task::Task;
use crate::driver_common::*;

fn path(port: u16) -> Path {
    Path::new(SocketAddr::from(([192, 0, 2, 1], port)))
}

/// The text and the destination port of each datagram that was sent.
fn take_sent(wire: &PacketWire) -> Vec<(u16, String)> {
    let port_and_text =
        |(path, bytes): Datagram| (path.unwrap().peer.port(), String::from_utf8(bytes).unwrap());
    wire.take_sent().into_iter().map(port_and_text).collect()
}

/// A server on the fake runtime, its socket, and a handle of each peer on `ports`.
fn peers(config: Arc<Config>, ports: [u16; 2]) -> (Server<Fake>, PacketWire, [Handle<Bytes>; 2]) {
    let handles = Arc::new(Mutex::new(Vec::new()));
    let kept = handles.clone();
    let listener = move |_| {
        let kept = kept.clone();
        let recorder = Recorder::new(move |cx, happening| {
            if let Happening::Open = happening {
                cx.validate_peer();
                kept.lock().unwrap().push(cx.handle());
            }
            Then::Default
        });
        Some(recorder.0)
    };
    let builder = Server::<Fake>::builder().config(config);
    let server = fake::block_on(builder.udp_peers("127.0.0.1:0", PeerLimits::new(), Raw, listener)).unwrap();
    let wire = fake::udp_wire();
    wire.receives(ports.map(|port| (path(port), b"hello".to_vec())));
    fake::run();
    let handles = std::mem::take(&mut *handles.lock().unwrap());
    (server, wire, handles.try_into().unwrap())
}

/// A configuration with room for only a few queued datagrams.
fn small() -> Arc<Config> {
    config(|c| c.watermarks(256, 512).max_queued(4096))
}

#[test]
fn who_waits_for_a_datagram_that_can_not_be_sent_is_told() {
    let (_server, wire, [a, b]) = peers(Config::default().into(), [2, 3]);
    wire.send_fails(ErrorKind::PermissionDenied);
    let mut senders = [&a, &b, &a].map(|handle| Task::new(handle.send_flushed(Bytes::from("x"))));
    senders.iter_mut().for_each(Task::settle);
    fake::run();
    let [first, other, second] = senders.map(|mut sender| sender.finish());
    assert!(
        matches!(first, Err(NotFlushed::Unsent(seq, failure)) if seq.get() == 1 && failure.kind == ErrorKind::PermissionDenied),
        "{first:?}"
    );
    assert_eq!((other.unwrap().get(), second.unwrap().get()), (1, 2));
    assert_eq!(a.stats().sent.operations, 1);
}

#[test]
fn a_handle_that_is_always_full_does_not_keep_out_the_others() {
    let (_server, wire, [busy, other]) = peers(small(), [2, 3]);
    wire.set_room(0);
    let fill = || while busy.try_send(Bytes::from("news")).is_ok() {};
    fill();
    other.try_send(Bytes::from("once")).unwrap();
    let mut sent = Vec::new();
    for _ in 0..10 {
        fake::run();
        wire.set_room(5);
        fake::run();
        fill();
        sent.extend(take_sent(&wire));
    }
    assert!(sent.contains(&(3, "once".to_owned())), "{sent:?}");
    assert!(sent.len() > 40, "{}", sent.len());
}

/// The only event is that the socket has room again: no datagram arrives and nothing is posted.
#[test]
fn what_was_posted_while_the_socket_was_full_goes_out_when_it_has_room() {
    let (_server, wire, handles) = peers(small(), [2, 3]);
    wire.set_room(0);
    for number in 0..100 {
        handles.iter().for_each(|handle| handle.try_send(Bytes::from(number.to_string())).unwrap());
    }
    fake::run();
    assert!(matches!(handles[0].try_send(Bytes::new()), Err(SendError::Blocked(_))));
    wire.set_room(None);
    fake::run();
    let sent = take_sent(&wire);
    for port in [2, 3] {
        let texts = sent.iter().filter(|(to, _)| *to == port).map(|(_, text)| text.clone());
        assert!(texts.eq((0..100).map(|number| number.to_string())), "{sent:?}");
    }
}

/// A peer that had nothing queued when the others filled the socket.
#[test]
fn who_waited_for_room_that_others_took_is_told_when_there_is_some() {
    let (_server, wire, [busy, other]) = peers(small(), [2, 3]);
    for round in 0..3 {
        wire.set_room(0);
        while busy.try_send(Bytes::from("news")).is_ok() {
            fake::run();
        }
        wire.receives([(path(3), b"a turn".to_vec())]);
        fake::run();
        let mut send = Task::new(other.send(Bytes::from("waiting")));
        send.settle();
        wire.set_room(None);
        fake::run();
        send.finish().unwrap();
        fake::run();
        let sent = take_sent(&wire);
        assert_eq!(sent.last(), Some(&(3, "waiting".to_owned())), "in round {round}: {sent:?}");
    }
}
