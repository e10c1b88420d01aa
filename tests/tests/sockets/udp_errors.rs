//! Errors of UDP sockets: those about one datagram, those that stay, and those after which the socket is
//! dead.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use getty_core::codec::Raw;
use getty_core::datagram::{PacketOptions, Packets, Path, PeerLimits};
use getty_core::{CloseReason, Config, Seq};
use getty_driver::{NotFlushed, PacketDriver, Server};
use socket2::{Domain, Protocol, SockAddr};

use crate::driver_common::fake::{self, Fake};
use crate::driver_common::namespace::{icmp, raw, udp_header};
use crate::driver_common::packets::{MemPackets, PacketWire, packets};
use crate::driver_common::recorder::{Happening, Log, Recorder, Then};
use crate::driver_common::runtimes::{TestRuntime, blocking, client, server, until};
use crate::driver_common::task::Task;
use crate::driver_common::*;
use crate::on_every_runtime;

on_every_runtime!(icmp_errors_end_no_session, a_peer_at_port_0_ends_no_session);

/// Errors after which the socket is useless.
const FATAL: [i32; 5] = [libc::EBADF, libc::ENOTSOCK, libc::EFAULT, libc::ENOSYS, libc::EINVAL];

/// Errors that a connected socket returns when receiving, after an ICMP or ICMPv6 message.
const ICMP: [i32; 10] = [
    libc::ECONNREFUSED,
    libc::EHOSTUNREACH,
    libc::ENETUNREACH,
    libc::ENOPROTOOPT,
    libc::EMSGSIZE,
    libc::EOPNOTSUPP,
    libc::EHOSTDOWN,
    libc::ENONET,
    libc::EPROTO,
    libc::EACCES,
];

/// All system errors, except those that only mean to try again.
fn errors() -> impl Iterator<Item = i32> {
    (1..=133).filter(|errno| ![libc::EINTR, libc::EAGAIN].contains(errno))
}

fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

fn address(port: u16) -> SocketAddr {
    ([10, 0, 0, 1], port).into()
}

fn text(port: u16, text: &str) -> (Path, Vec<u8>) {
    (Path::new(address(port)), text.as_bytes().to_vec())
}

type FakePackets = PacketDriver<Fake, MemPackets, Raw, Bytes, Recorder>;

/// A driver that has opened, on a socket in memory. If `connected`, the socket is connected to `address(2)`.
fn opened(connected: bool) -> (Task<FakePackets>, PacketWire, Log) {
    let (listener, log) = Recorder::quiet();
    let (io, wire) = packets(Some(address(1)), connected.then(|| address(2)));
    let options = PacketOptions::unconnected().with_connected(connected);
    let packets = Packets::new(Raw, options, Config::default().into(), getty_driver::now::<Fake>());
    let mut task = Task::new(PacketDriver::new(packets, io, listener));
    task.settle();
    assert_eq!(log.take(), ["on_open"]);
    (task, wire, log)
}

/// A server with a session for each peer, the wire of its socket, the log of its listeners, and the log of
/// dropped datagrams.
fn fake_peers() -> (Server<Fake>, PacketWire, Log, Log) {
    let (log, dropped) = (Log::default(), Log::default());
    let (written, told) = (log.clone(), dropped.clone());
    let builder = Server::<Fake>::builder().on_dropped(move |dropped| told.note(dropped.to_string()));
    let listener = move |_| Some(Recorder::echo().0.log_to(&written));
    let server = fake::block_on(builder.udp_peers("127.0.0.1:0", PeerLimits::new(), Raw, listener)).unwrap();
    let wire = fake::udp_wire();
    wire.receives([text(2, "hello")]);
    fake::run();
    assert_eq!(log.take(), ["on_open", "on_message: hello"]);
    (server, wire, log, dropped)
}

#[test]
fn an_error_of_receiving_is_told_and_ends_nothing() {
    for errno in errors().filter(|errno| !FATAL.contains(errno)) {
        for connected in [false, true] {
            let (mut task, wire, log) = opened(connected);
            wire.recv_fails(error(errno));
            wire.receives([text(2, "hello")]);
            assert!(task.run().is_pending(), "{}", error(errno));
            let told = log.take();
            assert_eq!((told.len(), &*told[1]), (2, "on_message: hello"), "{told:?}");
            assert!(told[0].starts_with("on_dropped: 1 datagrams"), "{told:?}");
            assert!(told[0].contains(&error(errno).to_string()), "{told:?}");
        }
        let (_server, wire, log, dropped) = fake_peers();
        wire.recv_fails(error(errno));
        wire.receives([text(2, "again")]);
        fake::run();
        assert_eq!(log.take(), ["on_message: again"], "{}", error(errno));
        let told = dropped.take();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(&error(errno).to_string()), "{told:?}");
    }
}

#[test]
fn a_socket_that_is_none_ends_the_session() {
    for errno in FATAL {
        for connected in [false, true] {
            let (mut task, wire, log) = opened(connected);
            wire.recv_fails(error(errno));
            let reason = task.finish();
            assert!(
                matches!(*reason, CloseReason::Io(failure) if failure.raw_os_error == Some(errno)),
                "{reason:?}"
            );
            assert_eq!(log.take(), [format!("on_close: transport: {}", error(errno))]);
        }
        let (server, wire, log, dropped) = fake_peers();
        wire.recv_fails(error(errno));
        fake::run();
        assert_eq!(log.take(), [format!("on_close: transport: {}", error(errno))]);
        assert!(dropped.is_empty() && server.sessions() == 0 && wire.is_closed());
    }
}

/// Posts "bad" and "good" for `address(2)`. Returns their outcomes if the socket is connected.
fn post(task: &mut Task<FakePackets>, connected: bool) -> Option<[Outcome; 2]> {
    let handle = task.get_mut().handle();
    if !connected {
        for text in ["bad", "good"] {
            handle.try_send_to(address(2), Bytes::from(text)).unwrap();
        }
        return None;
    }
    let mut senders = ["bad", "good"].map(|text| {
        let handle = handle.clone();
        Box::pin(async move { handle.send_flushed(Bytes::from(text)).await })
            as Pin<Box<dyn Future<Output = _>>>
    });
    let waker = Waker::noop();
    for sender in &mut senders {
        assert!(sender.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    Some(senders)
}

type Outcome = Pin<Box<dyn Future<Output = Result<Seq, NotFlushed<Bytes>>>>>;

#[test]
fn an_error_of_sending_is_that_datagram_s() {
    // A peer may claim that its port is 0, and sending there gives EINVAL. That must not end the session that
    // others use.
    for errno in errors().filter(|errno| *errno == libc::EINVAL || !FATAL.contains(errno)) {
        for connected in [false, true] {
            let (mut task, wire, log) = opened(connected);
            // On a connected socket, these errors may be about an earlier datagram.
            let fails = if connected && ICMP.contains(&errno) { 2 } else { 1 };
            (0..fails).for_each(|_| wire.send_fails(error(errno)));
            let senders = post(&mut task, connected);
            assert!(task.run().is_pending(), "{}", error(errno));
            if let Some([bad, good]) = senders.map(|senders| senders.map(|sender| Task::new(sender).finish()))
            {
                assert!(
                    matches!(bad, Err(NotFlushed::Unsent(_, failure)) if failure.raw_os_error == Some(errno)),
                    "{bad:?}"
                );
                assert_eq!(good.unwrap().get(), 2);
            }
            assert_eq!(wire.take_sent().iter().map(|(_, bytes)| &bytes[..]).collect::<Vec<_>>(), [b"good"]);
            let told = log.take();
            assert!(told.len() == 1 && told[0].starts_with("on_dropped: 1 datagrams"), "{told:?}");
            assert!(told[0].contains(&error(errno).to_string()), "{told:?}");
        }
    }
}

#[test]
fn on_a_connected_socket_it_may_be_about_an_earlier_one() {
    for errno in ICMP {
        let (mut task, wire, log) = opened(true);
        wire.send_fails(error(errno));
        let senders = post(&mut task, true).unwrap();
        task.settle();
        for sender in senders {
            Task::new(sender).finish().unwrap();
        }
        assert_eq!(wire.take_sent().len(), 2, "{}", error(errno));
        let told = log.take();
        assert!(told.len() == 1 && told[0].starts_with("on_dropped: 1 datagrams"), "{told:?}");
        assert!(told[0].contains(&error(errno).to_string()), "{told:?}");
        // Alternating errors do not make it retry one datagram without end.
        for n in [errno, libc::ECONNREFUSED, libc::EHOSTUNREACH, errno, libc::ECONNREFUSED] {
            wire.send_fails(error(n));
        }
        drop(post(&mut task, true));
        task.settle();
        assert!(wire.send_calls() <= 2 + 6, "{}", wire.send_calls());
    }
}

#[test]
fn a_socket_that_is_none_ends_the_session_when_it_sends() {
    for errno in FATAL.into_iter().filter(|errno| *errno != libc::EINVAL) {
        for connected in [false, true] {
            let (mut task, wire, log) = opened(connected);
            wire.send_fails(error(errno));
            drop(post(&mut task, connected));
            let reason = task.finish();
            assert!(
                matches!(*reason, CloseReason::Io(failure) if failure.raw_os_error == Some(errno)),
                "{reason:?}"
            );
            assert_eq!(log.take(), [format!("on_close: transport: {}", error(errno))]);
        }
    }
}

#[test]
fn that_the_path_is_narrower_is_said() {
    let (mut task, wire, log) = opened(true);
    wire.recv_fails(error(libc::EMSGSIZE));
    task.settle();
    let told = log.take();
    assert!(
        told[0].contains("Message too long") && told[0].contains("the path's MTU is smaller"),
        "{told:?}"
    );
}

/// Calls `step` every millisecond until it returns a value. Returns that value, the number of receives, and
/// the time that passed.
fn until_it_ends<T>(wire: &PacketWire, mut step: impl FnMut() -> Option<T>) -> (T, usize, Duration) {
    let before = wire.recv_calls();
    let mut passed = Duration::ZERO;
    loop {
        if let Some(end) = step() {
            return (end, wire.recv_calls() - before, passed);
        }
        assert!(passed < secs(60), "no end after {} calls", wire.recv_calls() - before);
        fake::advance(MS);
        passed += MS;
    }
}

#[test]
fn an_error_that_stays_ends_the_session_after_some_rest() {
    for errno in [libc::EIO, libc::ENOMEM, libc::EPERM, libc::ECONNREFUSED] {
        for connected in [false, true] {
            let (mut task, wire, log) = opened(connected);
            wire.recv_breaks(errno);
            let (reason, calls, passed) = until_it_ends(&wire, || match task.run() {
                Poll::Ready(reason) => Some(reason),
                Poll::Pending => None,
            });
            assert!(
                matches!(*reason, CloseReason::Io(failure) if failure.raw_os_error == Some(errno)),
                "{reason:?}"
            );
            assert!(calls <= 30, "{calls} calls");
            assert!((secs(3)..secs(10)).contains(&passed), "{passed:?}");
            let told = log.take();
            assert!(told[0].starts_with("on_dropped: 1 datagrams"), "{told:?}");
            assert_eq!(told[1..], [format!("on_close: transport: {}", error(errno))], "{told:?}");
        }
        let (server, wire, log, dropped) = fake_peers();
        wire.recv_breaks(errno);
        let (_, calls, passed) = until_it_ends(&wire, || {
            fake::run();
            (server.sessions() == 0).then_some(())
        });
        assert!(calls <= 30 && (secs(3)..secs(10)).contains(&passed), "{calls} calls, {passed:?}");
        assert_eq!(log.take(), [format!("on_close: transport: {}", error(errno))]);
        assert_eq!(dropped.count("1 datagrams"), 1);
        assert!(wire.is_closed());
    }
}

#[test]
fn an_error_that_passes_ends_nothing() {
    let (mut task, wire, log) = opened(false);
    let handle = task.get_mut().handle();
    for round in 0..10 {
        wire.recv_breaks(libc::ENOBUFS);
        for _ in 0..2000 {
            task.settle();
            fake::advance(MS);
        }
        // Meanwhile, sending still works.
        handle.try_send_to(address(2), Bytes::from("hello")).unwrap();
        task.settle();
        assert_eq!(wire.take_sent().len(), 1);
        wire.recv_breaks(None);
        if round % 2 == 0 {
            wire.receives([text(2, "here")]);
        }
        fake::advance(secs(3));
        task.settle();
        assert_eq!(log.count("on_message: here"), round / 2 + 1, "round {round}");
        let calls = wire.recv_calls();
        fake::advance(secs(100));
        task.settle();
        assert_eq!(wire.recv_calls(), calls, "the rest is over");
    }
}

#[test]
fn errors_that_come_one_by_one_end_nothing() {
    // The other end does not exist, so nothing is ever received.
    let (mut task, wire, log) = opened(true);
    for _ in 0..10_000 {
        wire.recv_fails(error(libc::ECONNREFUSED));
        task.settle();
        fake::advance(MS);
    }
    task.settle();
    fake::advance(secs(1));
    task.settle();
    let counts = log.take().into_iter().map(|told| {
        let number = told.strip_prefix("on_dropped: ").and_then(|told| told.split_once(' ')).unwrap().0;
        number.parse::<usize>().unwrap()
    });
    assert_eq!(counts.sum::<usize>(), 10_000);
}

#[test]
fn a_socket_that_rests_is_not_looked_after_when_nothing_is_wanted_of_it() {
    let (mut task, wire, _log) = opened(false);
    let handle = task.get_mut().handle();
    wire.recv_breaks(libc::EIO);
    task.settle();
    handle.pause();
    task.settle();
    let calls = wire.recv_calls();
    for _ in 0..100 {
        fake::advance(secs(1));
        task.settle();
    }
    assert_eq!(wire.recv_calls(), calls);
    wire.recv_breaks(None);
    wire.receives([text(2, "hello")]);
    handle.resume();
    task.settle();
    assert_eq!(handle.stats().received.messages, 1);
}

/// Whether this process has a network of its own, where it may send anything.
fn has_network() -> bool {
    namespace::is_inside("ip link set lo up")
}

fn icmp_errors_end_no_session<R: TestRuntime>() {
    if !has_network() {
        return;
    }
    let v4 = IpAddr::from(Ipv4Addr::LOCALHOST);
    let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
    let of_v4 = [
        (3, 2, 0, libc::ENOPROTOOPT),
        (3, 3, 0, libc::ECONNREFUSED),
        (3, 4, 1400, libc::EMSGSIZE),
        (3, 6, 0, libc::ENETUNREACH),
        (3, 7, 0, libc::EHOSTDOWN),
        (3, 8, 0, libc::ENONET),
        (3, 10, 0, libc::EHOSTUNREACH),
        (3, 13, 0, libc::EHOSTUNREACH),
        (12, 0, 0, libc::EPROTO),
    ];
    let of_v6 = [
        (1, 1, 0, libc::EACCES),
        (1, 4, 0, libc::ECONNREFUSED),
        (2, 0, 1280, libc::EMSGSIZE),
        (4, 0, 0, libc::EPROTO),
        (4, 1, 0, libc::EPROTO),
    ];
    let all = of_v4.map(|error| (v4, error)).into_iter().chain(of_v6.map(|error| (v6, error)));
    R::block_on(async {
        for (ip, (kind, code, rest, errno)) in all {
            let peer = UdpSocket::bind((ip, 0)).unwrap();
            let peer_address = peer.local_addr().unwrap();
            // On request, it sends a run of datagrams that are larger than the path's new MTU.
            let (listener, log) = Recorder::new(|cx, happening| {
                if let Happening::Message(message) = happening
                    && message == "run"
                {
                    for n in 0..4 {
                        cx.send(Bytes::from(vec![n; 1450])).unwrap();
                    }
                }
                Then::Default
            });
            let handle = client::<R>().udp(&peer_address.to_string(), Raw, listener).await.unwrap();
            until::<R>("the opening", || log.count("on_open") == 1).await;
            let address = handle.local_addr().unwrap();
            icmp(kind, code, rest, address, peer_address);
            let what = format!("{kind}/{code} is told");
            until::<R>(&what, || log.count("on_dropped") == 1 || log.count("on_close") == 1).await;
            let told = log.take();
            assert!(told[1].starts_with("on_dropped: 1 datagrams"), "{kind}/{code}: {told:?}");
            assert!(told[1].contains(&error(errno).to_string()), "{kind}/{code}: {told:?}");
            assert_eq!(told[1].contains("MTU"), errno == libc::EMSGSIZE, "{kind}/{code}: {told:?}");
            for n in 0..3 {
                peer.send_to(&[n], address).unwrap();
                until::<R>("a message", || log.count(&format!("on_message: \\x0{n}")) == 1).await;
                handle.send(Bytes::from_owner([n])).await.unwrap();
                let (mut buffer, socket) = ([0], peer.try_clone().unwrap());
                assert_eq!(blocking(move || (socket.recv(&mut buffer).unwrap(), buffer)).await, (1, [n]));
            }
            peer.send_to(b"run", address).unwrap();
            for n in 0..4 {
                let (mut buffer, socket) = ([0; 1500], peer.try_clone().unwrap());
                let received = blocking(move || (socket.recv(&mut buffer).unwrap(), buffer)).await;
                assert_eq!((received.0, received.1[1449]), (1450, n), "{kind}/{code}");
            }
            assert!(!handle.is_closed());
        }
    });
}

fn a_peer_at_port_0_ends_no_session<R: TestRuntime>() {
    if !has_network() {
        return;
    }
    R::block_on(async {
        let dropped = Log::default();
        let told = dropped.clone();
        let (listener, log) = Recorder::echo();
        let one = server::<R>().udp("127.0.0.1:0", Raw, listener).await.unwrap();
        let builder = server::<R>().on_dropped(move |dropped| told.note(dropped.to_string()));
        let echo = |_| Some(Recorder::echo().0);
        let each = builder.udp_peers("127.0.0.1:0", PeerLimits::new(), Raw, echo).await.unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        for server in [one.local_addr(), each.local_addr()] {
            let mut packet = udp_header(0, server.port());
            packet[5] = 9;
            packet.push(b'!');
            let nowhere = SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0)));
            raw(Domain::IPV4, Protocol::UDP).send_to(&packet, &nowhere).unwrap();
            let no_answer = || log.count("on_dropped: 1") + dropped.count("1 datagrams") == 1;
            until::<R>("there is no answer", no_answer).await;
            drop((log.take(), dropped.take()));
            peer.send_to(b"hello", server).unwrap();
            let (mut buffer, socket) = ([0; 9], peer.try_clone().unwrap());
            assert_eq!(blocking(move || socket.recv(&mut buffer).unwrap()).await, 5);
        }
    });
}
