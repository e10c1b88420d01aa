//! Half-closes: items posted meanwhile, transports that are slow to end their side, and peers that are gone.

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use getty_core::codec::Raw;
use getty_core::datagram::{PacketOptions, Packets};
use getty_core::{CloseReason, Config, HalfCloseError, SendError};
use getty_driver::{PacketDriver, now};

use crate::driver_common::fake::Fake;
use crate::driver_common::packets::packets;
use crate::driver_common::recorder::Recorder;
use crate::driver_common::task::Task;
use crate::driver_common::wire::{Answer, Op};
use crate::driver_common::*;

#[test]
fn who_posts_during_a_half_close_waits_and_gets_the_item_back() {
    let (listener, _log) = Recorder::quiet();
    let (mut task, wire) = driver(config(|c| c.watermarks(10, 100)), listener);
    let handle = task.get_mut().handle();
    wire.room(0);
    task.settle();
    (0..3).for_each(|_| handle.try_send(Bytes::from(vec![b'x'; 100])).unwrap());
    let mut half_close = Task::new(handle.half_close());
    half_close.settle();
    let mut send = Task::new(handle.send(Bytes::from("waiting")));
    for _ in 0..2 {
        assert!(matches!(handle.try_send(Bytes::from("x")), Err(SendError::Blocked(back)) if back == "x"));
        send.settle();
        task.settle(); // not all that was posted before has room yet
        half_close.settle();
    }
    wire.room(None);
    task.settle();
    half_close.finish().unwrap();
    assert!(matches!(send.finish(), Err(SendError::Closed(back)) if back == "waiting"));
    assert!(matches!(handle.try_send(Bytes::from("x")), Err(SendError::Closed(back)) if back == "x"));
    assert_eq!(wire.take_frames(), vec!["x".repeat(100); 3]);
    assert!(wire.is_shut_down());
}

/// Datagrams have no half-close.
#[test]
fn what_waits_for_a_half_close_that_is_refused_goes_out() {
    let (listener, _log) = Recorder::quiet();
    let peer = "192.0.2.7:7".parse().unwrap();
    let (io, wire) = packets(None, None);
    let machine = Packets::new(Raw, PacketOptions::unconnected(), Arc::default(), now::<Fake>());
    let mut task = Task::new(PacketDriver::<Fake, _, _, _, _>::new(machine, io, listener));
    let handle = task.get_mut().handle();
    task.settle();
    let mut half_close = Task::new(handle.half_close());
    half_close.settle();
    let mut send = Task::new(handle.send_to(peer, Bytes::from("waiting")));
    send.settle();
    assert!(matches!(handle.try_send_to(peer, Bytes::from("tried")), Err(SendError::Blocked(_))));
    task.settle();
    assert_eq!(half_close.finish(), Err(HalfCloseError::Unsupported));
    send.finish().unwrap();
    handle.try_send_to(peer, Bytes::from("after")).unwrap();
    task.settle();
    let sent: Vec<_> = wire.take_sent().into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(sent, [b"waiting".to_vec(), b"after".to_vec()]);
}

#[test]
fn a_connection_receives_while_its_transport_takes_time_to_end_its_side() {
    let (mut connection, wire) = connection(Config::default().into());
    Task::new(connection.send(Bytes::from("question"))).finish().unwrap();
    connection.half_close().unwrap();
    (0..10).for_each(|_| wire.answer(Op::Shutdown, Answer::Pending));
    for answer in ["one", "two", "three"] {
        let mut recv = Task::new(connection.recv());
        recv.settle();
        wire.send_frame(answer);
        assert_eq!(recv.finish().unwrap().unwrap(), answer);
        assert!(!wire.is_shut_down());
    }
    let mut recv = Task::new(connection.recv());
    for _ in 0..10 {
        recv.settle();
        wire.wake();
    }
    recv.settle();
    assert!(wire.is_shut_down());
    wire.eof();
    assert_eq!(recv.finish().unwrap(), None);
}

/// A transport whose peer is gone reports that it is not connected. The bytes that the peer sent before are
/// still there.
#[test]
fn a_connection_receives_the_answer_of_a_peer_that_has_gone() {
    let (mut connection, wire) = connection(Config::default().into());
    connection.half_close().unwrap();
    wire.answer(Op::Shutdown, Answer::Fails(ErrorKind::NotConnected));
    wire.send_frame("answer");
    wire.eof();
    assert_eq!(Task::new(connection.recv()).finish().unwrap().unwrap(), "answer");
    assert_eq!(Task::new(connection.recv()).finish().unwrap(), None, "a clean end");
}

#[test]
fn so_does_a_listener() {
    let (listener, log) = Recorder::quiet();
    let (mut task, wire) = driver(Config::default().into(), listener);
    let handle = task.get_mut().handle();
    task.settle();
    handle.pause(); // so that the answer waits
    let mut half_close = Task::new(handle.half_close());
    half_close.settle();
    wire.answer(Op::Shutdown, Answer::Fails(ErrorKind::NotConnected));
    wire.send_frame("answer");
    wire.eof();
    task.settle();
    half_close.finish().unwrap();
    assert_eq!(log.take(), ["on_open"]);
    handle.resume();
    let reason = task.finish();
    assert!(matches!(*reason, CloseReason::Eof { mid_frame: false }), "{reason}");
    assert_eq!(log.take()[..2], ["on_message: answer", "on_eof"]);
}
