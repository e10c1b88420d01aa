//! UDP in processes whose sandbox forbids some system calls, so that others are used instead. Each case runs
//! in a process of its own.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{self, Command};
use std::task::Poll;
use std::{env, thread};

use bytes::Bytes;
use getty_core::codec::Raw;
use getty_core::datagram::{PacketOptions, Packets, Path, PeerLimits, RecvBatch};
use getty_core::{Close, CloseReason, Event, framed};
use getty_driver::{PacketIo, Server, UdpOptions};

use crate::driver_common::fake::{self, Fake};
use crate::driver_common::namespace::{self, icmp};
use crate::driver_common::recorder::{Happening, Recorder, Then};
use crate::driver_common::runtimes::{TestRuntime, blocking, server};
use crate::driver_common::seccomp::Filter;
use crate::driver_common::task::Task;
use crate::driver_common::*;
use crate::on_every_runtime;

on_every_runtime!(
    what_is_received_keeps_its_boundaries_and_addresses,
    a_connected_socket_does_without_too,
    a_control_message_that_is_not_taken_is_left_out,
    an_error_of_the_network_is_not_taken_for_a_forbidden_call,
    nor_is_that_of_a_datagram_that_is_not_allowed,
    that_a_socket_is_dead_is_told,
);

/// Number of the case in the environment of its process.
const CASE: &str = "GETTY_TEST_CASE";

/// Runs the calling test again for each of `cases`, each in a process of its own. Returns the case in such a
/// process.
fn case<T: Copy>(cases: &[T]) -> Option<T> {
    if let Some(case) = env::var_os(CASE) {
        return Some(cases[case.to_str().unwrap().parse::<usize>().unwrap()]);
    }
    for case in 0..cases.len() {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", thread::current().name().unwrap()]).env(CASE, case.to_string());
        let done = command.output().unwrap();
        assert!(done.status.success(), "case {case}: {}", String::from_utf8_lossy(&done.stdout));
    }
    None
}

/// Makes calls fail from now on. If that is impossible, nothing is tested.
fn forbid(calls: &[libc::c_long], errno: i32) {
    if let Err(error) = Filter::new(calls, errno).install() {
        eprintln!("not tested: {error}");
        process::exit(0);
    }
}

type Calls = &'static [libc::c_long];

const RECEIVING: Calls = &[libc::SYS_recvmmsg];
const BATCHES: Calls = &[libc::SYS_recvmmsg, libc::SYS_sendmmsg];
const ALL_BUT_ONE: Calls = &[libc::SYS_recvmmsg, libc::SYS_sendmmsg, libc::SYS_sendmsg];

/// The forbidden calls, and the error that they return.
fn cases() -> Vec<(Calls, i32)> {
    let errors = [libc::ENOSYS, libc::EPERM, libc::EACCES];
    errors.iter().flat_map(|&errno| [RECEIVING, BATCHES, ALL_BUT_ONE].map(|calls| (calls, errno))).collect()
}

/// A socket of the runtime, and the session that queues and decodes its datagrams.
struct End<R: TestRuntime> {
    io: R::UdpSocket,
    packets: Packets<Raw>,
    /// Number of receives that returned datagrams.
    receives: usize,
}

impl<R: TestRuntime> End<R> {
    fn new(socket: UdpSocket) -> Self {
        let io = R::udp_socket(socket).unwrap();
        let options = PacketOptions::unconnected().with_connected(io.peer_addr().is_some());
        let packets = Packets::new(Raw, options, config(|c| c), getty_driver::now::<R>());
        End { io, packets, receives: 0 }
    }

    fn bind(ip: &str) -> Self {
        End::new(UdpOptions::new().bind((ip.parse::<IpAddr>().unwrap(), 0).into()).unwrap())
    }

    fn at(&self, ip: &str) -> SocketAddr {
        (ip.parse::<IpAddr>().unwrap(), self.io.local_addr().unwrap().port()).into()
    }

    fn push(&mut self, to: impl Into<Path>, text: &str) {
        self.packets.send_to(to, Bytes::copy_from_slice(text.as_bytes())).unwrap();
    }

    /// Sends everything that was pushed.
    async fn flush(&mut self) {
        let now = getty_driver::now::<R>();
        while self.packets.wants_write() {
            let outgoing = self.packets.outgoing(now);
            let n = poll_fn(|cx| self.io.poll_send(cx, outgoing)).await.unwrap();
            self.packets.handle_sent(now, n);
        }
    }

    async fn receive(&mut self) -> io::Result<Vec<(Path, String)>> {
        let mut batch = RecvBatch::new();
        poll_fn(|cx| self.io.poll_recv(cx, &mut batch)).await?;
        self.receives += 1;
        self.packets.handle_datagrams(getty_driver::now::<R>(), batch).unwrap();
        let mut messages = Vec::new();
        while let Some(event) = self.packets.poll_event() {
            if let Event::Message(bytes) = event {
                let text = String::from_utf8(bytes.to_vec()).unwrap();
                messages.push((self.packets.path().unwrap(), text));
            }
        }
        drop(self.packets.take_batch());
        Ok(messages)
    }

    async fn receive_all(&mut self, n: usize) -> Vec<(Path, String)> {
        let mut messages = Vec::new();
        while messages.len() < n {
            messages.extend(self.receive().await.unwrap());
        }
        messages
    }

    /// Checks that nothing is left to receive.
    async fn expect_nothing(&mut self) {
        let mut batch = RecvBatch::new();
        poll_fn(|cx| {
            assert!(self.io.poll_recv(cx, &mut batch).is_pending());
            Poll::Ready(())
        })
        .await;
    }
}

/// A socket of the standard library.
fn peer(ip: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.set_read_timeout(Some(secs(20))).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// The next datagram, and its sender.
fn next(peer: &UdpSocket) -> (String, SocketAddr) {
    let mut buffer = [0; 1500];
    let (n, from) = peer.recv_from(&mut buffer).unwrap();
    (String::from_utf8(buffer[..n].to_vec()).unwrap(), from)
}

fn numbers(n: usize) -> Vec<String> {
    (0..n).map(|n| format!("{n:03}")).collect()
}

fn what_is_received_keeps_its_boundaries_and_addresses<R: TestRuntime>() {
    let Some((calls, errno)) = case(&cases()) else { return };
    R::block_on(async {
        // The last one is an IPv6 socket that serves IPv4 too.
        for (bound, here, peer_ip) in [
            ("0.0.0.0", "127.0.0.2", "127.0.0.1"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
            ("::", "::1", "::1"),
        ] {
            let (mut end, mut sender) = (End::<R>::bind(bound), End::<R>::bind(peer_ip));
            let (peer, peer_address) = peer(peer_ip);
            // A burst that the system has merged and other datagrams are already waiting when the first call
            // is refused.
            numbers(40).iter().for_each(|text| sender.push(end.at(here), text));
            sender.push(end.at(here), "x");
            sender.flush().await;
            for n in 0..20 {
                peer.send_to("y".repeat(n + 1).as_bytes(), end.at(here)).unwrap();
            }
            forbid(calls, errno);
            let got = end.receive_all(61).await;
            let expected =
                numbers(40).into_iter().chain(["x".to_owned()]).chain((1..=20).map(|n| "y".repeat(n)));
            assert!(got.iter().map(|(_, text)| text.clone()).eq(expected), "{got:?}");
            for (n, (path, _)) in got.iter().enumerate() {
                let from = if n <= 40 { sender.io.local_addr().unwrap() } else { peer_address };
                assert_eq!((path.peer, path.local), (from, Some(here.parse().unwrap())), "{n}");
            }
            end.expect_nothing().await;

            // The replies: runs and single datagrams, to one peer.
            let path = got[41].0;
            let answers = ["run", "run", "run", "1", "22", "333", "run", "run"];
            for answer in answers {
                end.push(path, answer);
            }
            end.flush().await;
            for answer in answers {
                let (text, from) = next(&peer);
                assert_eq!(text, answer);
                // Without control messages, the system chooses the source address.
                if calls != ALL_BUT_ONE {
                    assert_eq!(from, end.at(here));
                }
            }

            // It goes on working, also after waits.
            for n in 0..20 {
                let (peer, to) = (peer.try_clone().unwrap(), end.at(here));
                let sending = blocking(move || peer.send_to(&[b'a' + n], to).unwrap());
                let (got, _) = futures::join!(end.receive_all(1), sending);
                assert_eq!((got[0].0, got[0].1.as_bytes()), (path, &[b'a' + n][..]));
                end.expect_nothing().await;
            }
            numbers(40).iter().for_each(|text| sender.push(end.at(here), text));
            sender.flush().await;
            assert!(end.receive_all(40).await.into_iter().map(|(_, text)| text).eq(numbers(40)));
        }
    });
}

fn a_connected_socket_does_without_too<R: TestRuntime>() {
    let Some((calls, errno)) = case(&cases()) else { return };
    R::block_on(async {
        forbid(calls, errno);
        let (gone, address) = peer("127.0.0.1");
        drop(gone);
        let mut end = End::<R>::new(UdpOptions::new().connect(address).unwrap());
        end.packets.send(Bytes::from("anybody there?")).unwrap();
        end.flush().await;
        assert_eq!(end.receive().await.unwrap_err().raw_os_error(), Some(libc::ECONNREFUSED));
        let peer = UdpSocket::bind(address).unwrap();
        peer.set_read_timeout(Some(secs(20))).unwrap();
        let texts = ["run", "run", "run", "1", "22", "333", "4444"];
        for text in texts {
            end.packets.send(Bytes::from(text)).unwrap();
        }
        end.flush().await;
        assert_eq!(texts.map(|_| next(&peer).0), texts);
        for text in texts {
            peer.send_to(text.as_bytes(), end.io.local_addr().unwrap()).unwrap();
        }
        let got = end.receive_all(texts.len()).await;
        assert!(got.iter().all(|(path, _)| path.peer == address));
        assert!(got.iter().map(|(_, text)| text).eq(&texts));
    });
}

fn a_control_message_that_is_not_taken_is_left_out<R: TestRuntime>() {
    // A network card without checksums returns EIO for a run.
    let Some(calls) = case(&[&[libc::SYS_sendmsg][..], ALL_BUT_ONE]) else { return };
    R::block_on(async {
        forbid(calls, libc::EIO);
        for (bound, here) in [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("::", "::1")] {
            let (mut end, (peer, address)) = (End::<R>::bind(bound), peer(here));
            let path = Path::new(address).with_local(here.parse::<IpAddr>().unwrap());
            let texts = ["1", "22", "run", "run", "run", "4444"];
            for text in texts {
                end.push(path, text);
                if calls == ALL_BUT_ONE {
                    end.flush().await;
                }
            }
            end.flush().await;
            assert_eq!(texts.map(|_| next(&peer).0), texts);
        }
    });
}

fn an_error_of_the_network_is_not_taken_for_a_forbidden_call<R: TestRuntime>() {
    if !namespace::is_inside("ip link set lo up") {
        return;
    }
    R::block_on(async {
        let (peer, address) = peer("::1");
        let mut end = End::<R>::new(UdpOptions::new().connect(address).unwrap());
        let here = end.io.local_addr().unwrap();
        for round in 0..3 {
            // "Administratively prohibited" is EACCES, even before anything was received.
            icmp(1, 1, 0, here, address);
            assert_eq!(end.receive().await.unwrap_err().raw_os_error(), Some(libc::EACCES));
            for n in 1..=64 {
                peer.send_to("x".repeat(n).as_bytes(), here).unwrap();
            }
            end.receives = 0;
            end.receive_all(64).await;
            assert_eq!(end.receives, 2, "32 slots each, in round {round}");
            end.expect_nothing().await;
        }
    });
}

fn nor_is_that_of_a_datagram_that_is_not_allowed<R: TestRuntime>() {
    R::block_on(async {
        let (mut end, (peer, address)) = (End::<R>::bind("0.0.0.0"), peer("127.0.0.1"));
        let answer = Path::new(address).with_local(IpAddr::from([127, 0, 0, 2]));
        let broadcast = SocketAddr::from(([127, 255, 255, 255], 9));
        let now = getty_driver::now::<R>();
        // A datagram by itself, with others in one call, and as a run.
        for (texts, local) in [(&["x"][..], true), (&["x", "yy", "zzz"], false), (&["xx", "xx"], false)] {
            let to = Path::new(broadcast).with_local(local.then_some(IpAddr::from([127, 0, 0, 1])));
            texts.iter().for_each(|text| end.push(to, text));
            for _ in texts {
                let outgoing = end.packets.outgoing(now);
                let error = poll_fn(|cx| end.io.poll_send(cx, outgoing)).await.unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EACCES));
                end.packets.handle_unsent(now, error);
            }
            end.push(answer, "answer");
            end.flush().await;
            assert_eq!(next(&peer), ("answer".to_owned(), end.at("127.0.0.2")));
        }
    });
}

const NO_RECEIVING: Calls = &[libc::SYS_recvmmsg, libc::SYS_recvmsg];

fn that_a_socket_is_dead_is_told<R: TestRuntime>() {
    let Some(()) = case(&[()]) else { return };
    forbid(NO_RECEIVING, libc::ENOSYS);
    R::block_on(async {
        let one = server::<R>().udp("127.0.0.1:0", Raw, Recorder::quiet().0).await.unwrap();
        let listener = |_| Some(Recorder::quiet().0);
        let each = server::<R>().udp_peers("127.0.0.1:0", PeerLimits::new(), Raw, listener).await.unwrap();
        for server in [one, each] {
            let reason = server.ended().await;
            assert!(
                matches!(reason, CloseReason::Io(failure) if failure.raw_os_error == Some(libc::ENOSYS)),
                "{reason:?}"
            );
            let again = server.ended().await;
            assert_eq!(again.to_string(), reason.to_string());
            assert_eq!(server.shutdown(secs(1)).await.aborted, 0);
        }
    });
}

#[test]
fn a_server_that_works_has_not_ended() {
    let (listener, _log) = Recorder::new(|cx, happening| {
        if let Happening::Message(message) = happening
            && message == "end"
        {
            cx.close(Close::graceful());
        }
        Then::Default
    });
    let udp = fake::block_on(Server::<Fake>::builder().udp("127.0.0.1:0", Raw, listener)).unwrap();
    let wire = fake::udp_wire();
    let tcp = Server::<Fake>::builder().tcp("127.0.0.1:0", framed(|| Raw), || Recorder::quiet().0);
    let tcp = fake::block_on(tcp).unwrap();
    let (mut udp_ended, mut tcp_ended) = (Task::new(udp.ended()), Task::new(tcp.ended()));
    for text in ["hello", "end"] {
        fake::run();
        udp_ended.settle();
        tcp_ended.settle();
        wire.receives([(Path::new(([10, 0, 0, 1], 2).into()), text.as_bytes().to_vec())]);
    }
    fake::run();
    // The listener has closed the only session.
    assert!(udp_ended.finish().is_clean());
    fake::incoming(Err(io::Error::from_raw_os_error(libc::EMFILE)));
    fake::run();
    tcp_ended.settle();
    fake::drop_tasks();
    assert!(matches!(tcp_ended.finish(), CloseReason::Local { flushed: false }));
}
