//! UDP sockets: batches in both directions, on every runtime, with sockets of the standard library at the
//! other end.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use getty_core::codec::Raw;
use getty_core::datagram::{PacketOptions, Packets, Path, RecvBatch};
use getty_core::{Config, Event};
use getty_driver::{PacketIo, UdpOptions};

use crate::driver_common::runtimes::{TestRuntime, blocking};
use crate::driver_common::*;
use crate::on_every_runtime;

on_every_runtime!(
    every_size_goes_both_ways,
    a_hundred_are_received_in_few_calls,
    a_run_arrives_as_separate_datagrams,
    large_datagrams_of_one_size_arrive_too,
    many_peers_get_their_own,
    runs_and_others_keep_their_order,
    ipv6_works_alike,
    ipv6_is_sent_in_fragments,
    a_connected_socket_knows_its_peer_only,
    a_refused_datagram_is_told,
    one_that_is_too_large_is_an_error_of_its_own,
    answers_leave_from_the_address_that_was_asked,
    an_address_that_is_not_here_is_not_insisted_on,
    one_port_serves_several_sockets,
    a_group_is_heard_and_answered,
    waiting_wakes,
    a_burst_waits_in_the_receive_buffer,
    a_small_send_buffer_loses_nothing,
);

/// A socket of the runtime, and the session that queues and decodes its datagrams.
struct End<R: TestRuntime> {
    io: R::UdpSocket,
    packets: Packets<Raw>,
    /// Number of receives that returned datagrams.
    receives: usize,
    /// Number of sends attempted.
    sends: usize,
}

impl<R: TestRuntime> End<R> {
    fn new(socket: UdpSocket) -> Self {
        let io = R::udp_socket(socket).unwrap();
        let options = match io.peer_addr() {
            Some(_) => PacketOptions::connected(),
            None => PacketOptions::unconnected(),
        };
        let mib = 1 << 20;
        let config = config(|c| c.max_datagram(65_535).watermarks(mib, 4 * mib).max_queued(16 * mib));
        End { io, packets: packets::<R>(options, config), receives: 0, sends: 0 }
    }

    /// Binds to `ip`, on a free port.
    fn bind(ip: &str) -> Self {
        Self::bind_by(&UdpOptions::new(), ip)
    }

    fn bind_by(options: &UdpOptions, ip: &str) -> Self {
        End::new(options.bind(at(ip, 0)).unwrap())
    }

    fn address(&self) -> SocketAddr {
        self.io.local_addr().unwrap()
    }

    fn push(&mut self, to: impl Into<Path>, bytes: impl Into<Vec<u8>>) {
        self.packets.send_to(to, Bytes::from(bytes.into())).unwrap();
    }

    /// Sends everything that was pushed.
    async fn flush(&mut self) -> io::Result<()> {
        let now = getty_driver::now::<R>();
        while self.packets.wants_write() {
            let outgoing = self.packets.outgoing(now);
            let sent = poll_fn(|cx| self.io.poll_send(cx, outgoing)).await;
            self.sends += 1;
            match sent {
                Ok(n) => {
                    assert!((1..=outgoing.len()).contains(&n));
                    self.packets.handle_sent(now, n);
                }
                Err(error) => {
                    self.packets.handle_unsent(now, error.kind());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Receives once.
    async fn receive(&mut self) -> io::Result<Vec<(Path, Bytes)>> {
        let mut batch = RecvBatch::new();
        poll_fn(|cx| self.io.poll_recv(cx, &mut batch)).await?;
        self.receives += 1;
        Ok(self.take(batch))
    }

    /// The messages in a received batch.
    fn take(&mut self, batch: RecvBatch) -> Vec<(Path, Bytes)> {
        assert!(!batch.is_empty(), "a receive must return a datagram");
        self.packets.handle_datagrams(getty_driver::now::<R>(), batch).unwrap();
        let mut messages = Vec::new();
        while let Some(event) = self.packets.poll_event() {
            if let Event::Message(bytes) = event {
                messages.push((self.packets.path().unwrap(), bytes));
            }
        }
        drop(self.packets.take_batch());
        messages
    }

    /// Receives until there are `n` messages.
    async fn receive_all(&mut self, n: usize) -> Vec<(Path, Bytes)> {
        let mut messages = Vec::new();
        while messages.len() < n {
            messages.extend(self.receive().await.unwrap());
        }
        assert_eq!(messages.len(), n);
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

fn packets<R: TestRuntime>(options: PacketOptions, config: Arc<Config>) -> Packets<Raw> {
    Packets::new(Raw, options, config, getty_driver::now::<R>())
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// A socket of the standard library.
struct Peer(UdpSocket);

impl Peer {
    fn bind(ip: &str) -> Self {
        let socket = UdpSocket::bind(at(ip, 0)).unwrap();
        socket.set_read_timeout(Some(secs(20))).unwrap();
        socket2::SockRef::from(&socket).set_recv_buffer_size(1 << 20).unwrap();
        Peer(socket)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    fn recv(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; 70_000];
        let (n, from) = self.0.recv_from(&mut buffer).unwrap();
        buffer.truncate(n);
        (buffer, from)
    }

    fn texts(&self, n: usize) -> Vec<String> {
        (0..n).map(|_| String::from_utf8(self.recv().0).unwrap()).collect()
    }

    fn expect_nothing(&self) {
        self.0.set_nonblocking(true).unwrap();
        let mut buffer = [0; 1];
        assert_eq!(self.0.recv(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

fn pattern(n: usize, size: usize) -> Vec<u8> {
    (0..size).map(|i| (i * 7 + n) as u8).collect()
}

fn every_size_goes_both_ways<R: TestRuntime>() {
    R::block_on(async {
        let (mut end, peer) = (End::<R>::bind("127.0.0.1"), Peer::bind("127.0.0.1"));
        let sizes = [1, 2, 100, 1_452, 1_453, 1_472, 1_473, 8_192, 32_768, 65_506, 65_507];
        for (n, size) in sizes.into_iter().enumerate() {
            peer.0.send_to(&pattern(n, size), end.address()).unwrap();
            let got = end.receive_all(1).await;
            assert_eq!((got[0].0.peer, &got[0].1[..]), (peer.address(), &pattern(n, size)[..]));
            end.push(peer.address(), pattern(n + 1, size));
            end.flush().await.unwrap();
            assert_eq!(peer.recv(), (pattern(n + 1, size), end.address()));
        }
        peer.0.send_to(&[], end.address()).unwrap();
        assert!(
            end.receive().await.unwrap().is_empty(),
            "an empty datagram is received, but is not a message"
        );
        assert_eq!(end.packets.dropped().total(), 1);
        end.push(peer.address(), []);
        end.push(peer.address(), []);
        end.flush().await.unwrap();
        assert_eq!((peer.recv().0.len(), peer.recv().0.len()), (0, 0));
    });
}

fn a_hundred_are_received_in_few_calls<R: TestRuntime>() {
    R::block_on(async {
        let (mut end, peer) = (End::<R>::bind("127.0.0.1"), Peer::bind("127.0.0.1"));
        for n in 0..100 {
            peer.0.send_to(&pattern(n, n + 1), end.address()).unwrap();
        }
        for (n, (path, bytes)) in end.receive_all(100).await.into_iter().enumerate() {
            assert_eq!((path.peer, &bytes[..]), (peer.address(), &pattern(n, n + 1)[..]));
        }
        if cfg!(target_os = "linux") {
            assert_eq!(end.receives, 4, "32 slots each");
        }
        end.expect_nothing().await;
    });
}

fn a_run_arrives_as_separate_datagrams<R: TestRuntime>() {
    R::block_on(async {
        let (mut end, peer) = (End::<R>::bind("127.0.0.1"), Peer::bind("127.0.0.1"));
        let mut other = End::<R>::bind("127.0.0.1");
        for n in 0..150 {
            end.push(peer.address(), format!("{n:03}"));
        }
        end.push(peer.address(), "x");
        let expected: Vec<_> = (0..150).map(|n| format!("{n:03}")).chain(["x".to_owned()]).collect();
        end.flush().await.unwrap();
        assert_eq!(peer.texts(151), expected);

        // To a socket that receives them merged.
        for n in 0..150 {
            end.push(other.address(), format!("{n:03}"));
        }
        end.push(other.address(), "x");
        end.flush().await.unwrap();
        let got = other.receive_all(151).await;
        assert!(got.iter().all(|(path, _)| path.peer == end.address()));
        assert!(got.iter().map(|(_, bytes)| &bytes[..]).eq(expected.iter().map(String::as_bytes)));
        if cfg!(target_os = "linux") {
            assert_eq!((end.sends, other.receives), (2, 1));
        }
    });
}

fn large_datagrams_of_one_size_arrive_too<R: TestRuntime>() {
    R::block_on(async {
        let (mut end, peer) = (End::<R>::bind("127.0.0.1"), Peer::bind("127.0.0.1"));
        for n in 0..12 {
            end.push(peer.address(), pattern(n, 9_000));
        }
        end.flush().await.unwrap();
        for n in 0..12 {
            assert_eq!(peer.recv().0, pattern(n, 9_000));
        }
    });
}

fn many_peers_get_their_own<R: TestRuntime>() {
    R::block_on(async {
        let mut end = End::<R>::bind("127.0.0.1");
        for (count, peers) in [(2, 2), (8, 3), (9, 9), (200, 7)] {
            let peers: Vec<_> = (0..peers).map(|_| Peer::bind("127.0.0.1")).collect();
            for n in 0..count {
                end.push(peers[n % peers.len()].address(), pattern(n, n * 5 + 1));
            }
            end.sends = 0;
            end.flush().await.unwrap();
            assert_eq!(end.sends, 1);
            for n in 0..count {
                assert_eq!(peers[n % peers.len()].recv(), (pattern(n, n * 5 + 1), end.address()));
            }
            peers.iter().for_each(Peer::expect_nothing);
        }
    });
}

fn runs_and_others_keep_their_order<R: TestRuntime>() {
    R::block_on(async {
        for ip in ["127.0.0.1", "0.0.0.0"] {
            let (mut end, peer) = (End::<R>::bind(ip), Peer::bind("127.0.0.1"));
            let local = "127.0.0.1".parse::<std::net::IpAddr>().unwrap();
            let mut expected = Vec::new();
            for n in 0..400 {
                // Single datagrams, runs of all lengths, and large ones; half of them with a given source
                // address.
                let size = [1, 3, 3, 3, 2, 9, 9, 2_000, 2_000, 1][n / 3 % 10];
                let path = Path::new(peer.address()).with_local((n % 50 < 25).then_some(local));
                end.push(path, pattern(n, size));
                expected.push(pattern(n, size));
            }
            end.flush().await.unwrap();
            assert_eq!((0..400).map(|_| peer.recv().0).collect::<Vec<_>>(), expected);
        }
    });
}

fn ipv6_works_alike<R: TestRuntime>() {
    if UdpSocket::bind("[::1]:0").is_err() {
        return eprintln!("not tested: no IPv6");
    }
    R::block_on(async {
        for ip in ["::1", "::"] {
            let (mut end, peer) = (End::<R>::bind(ip), Peer::bind("::1"));
            for n in 0..40 {
                peer.0.send_to(&pattern(n, n + 1), at("::1", end.address().port())).unwrap();
            }
            for (path, bytes) in end.receive_all(40).await {
                assert_eq!((path.peer, path.local), (peer.address(), Some("::1".parse().unwrap())));
                end.push(path, bytes);
            }
            (0..40).for_each(|_| end.push(peer.address(), "run"));
            end.flush().await.unwrap();
            for n in 0..40 {
                assert_eq!(peer.recv(), (pattern(n, n + 1), at("::1", end.address().port())));
            }
            assert_eq!(peer.texts(40), ["run"; 40]);
        }
        // An IPv6 socket serves IPv4 peers too, if the system allows it.
        let (mut end, peer) = (End::<R>::bind("::"), Peer::bind("127.0.0.1"));
        if peer.0.send_to(b"mapped", at("127.0.0.1", end.address().port())).is_ok()
            && !socket2::SockRef::from(&UdpSocket::bind("[::]:0").unwrap()).only_v6().unwrap()
        {
            let got = end.receive_all(1).await;
            end.push(got[0].0, "answer");
            end.flush().await.unwrap();
            assert_eq!(peer.recv(), (b"answer".to_vec(), at("127.0.0.1", end.address().port())));
        }
    });
}

fn ipv6_is_sent_in_fragments<R: TestRuntime>() {
    if UdpSocket::bind("[::1]:0").is_err() || !cfg!(target_os = "linux") {
        return eprintln!("not tested: no IPv6, or no fragmentation of its packets");
    }
    R::block_on(async {
        let (mut end, peer) = (End::<R>::bind("::1"), Peer::bind("::1"));
        // With its headers, this is larger than a packet of the loopback interface.
        end.push(peer.address(), pattern(1, 65_527));
        end.flush().await.unwrap();
        assert_eq!(peer.recv().0, pattern(1, 65_527));
    });
}

fn a_connected_socket_knows_its_peer_only<R: TestRuntime>() {
    R::block_on(async {
        let (peer, stranger) = (Peer::bind("127.0.0.1"), Peer::bind("127.0.0.1"));
        let mut end = End::<R>::new(UdpOptions::new().connect(peer.address()).unwrap());
        assert_eq!(end.io.peer_addr(), Some(peer.address()));
        stranger.0.send_to(b"hello?", end.address()).unwrap();
        peer.0.send_to(b"hello", end.address()).unwrap();
        let got = end.receive_all(1).await;
        assert_eq!((got[0].0.peer, &got[0].1[..]), (peer.address(), &b"hello"[..]));
        end.expect_nothing().await;

        // A single datagram, a run, and different sizes.
        let texts = ["1", "22", "22", "22", "2", "333", "4444", ""];
        for group in [&texts[..1], &texts[1..4], &texts[..]] {
            for text in group {
                end.packets.send(Bytes::from(*text)).unwrap();
            }
            end.flush().await.unwrap();
            assert_eq!(peer.texts(group.len()), group);
        }
    });
}

fn a_refused_datagram_is_told<R: TestRuntime>() {
    R::block_on(async {
        let closed = Peer::bind("127.0.0.1").address();
        let mut end = End::<R>::new(UdpOptions::new().connect(closed).unwrap());
        end.packets.send(Bytes::from("anybody there?")).unwrap();
        end.flush().await.unwrap();
        assert_eq!(end.receive().await.unwrap_err().kind(), ErrorKind::ConnectionRefused);

        // The socket is still usable: the port may be in use by now.
        let peer = UdpSocket::bind(closed).unwrap();
        peer.send_to(b"now", end.address()).unwrap();
        assert_eq!(end.receive_all(1).await[0].1, "now");
    });
}

fn one_that_is_too_large_is_an_error_of_its_own<R: TestRuntime>() {
    R::block_on(async {
        let (mut end, peer) = (End::<R>::bind("127.0.0.1"), Peer::bind("127.0.0.1"));
        for run in [false, true] {
            // With or without datagrams that share its call.
            let before = if run { 2 } else { 1 };
            (0..before).for_each(|_| end.push(peer.address(), "before"));
            end.push(peer.address(), pattern(1, 65_508));
            if run {
                (0..3).for_each(|_| end.push(peer.address(), "after!"));
            } else {
                ["a", "ft", "er!"].iter().for_each(|&text| end.push(peer.address(), text));
            }
            let error = end.flush().await.unwrap_err();
            assert_ne!(error.kind(), ErrorKind::WouldBlock);
            assert_eq!(end.packets.outgoing(getty_driver::now::<R>()).len(), 3);
            end.flush().await.unwrap();
            let after = if run { ["after!"; 3] } else { ["a", "ft", "er!"] };
            assert_eq!(
                (peer.texts(before), peer.texts(3)),
                (vec!["before".to_owned(); before], after.map(String::from).into())
            );
        }
    });
}

fn answers_leave_from_the_address_that_was_asked<R: TestRuntime>() {
    if UdpSocket::bind("127.0.0.2:0").is_err() {
        return eprintln!("not tested: no 127.0.0.2");
    }
    R::block_on(async {
        let (mut end, peer) = (End::<R>::bind("0.0.0.0"), Peer::bind("127.0.0.1"));
        let port = end.address().port();
        let asked = ["127.0.0.2", "127.0.0.1", "127.0.0.3", "127.0.0.2"];
        for (n, ip) in asked.into_iter().enumerate() {
            peer.0.send_to(&pattern(n, n + 1), at(ip, port)).unwrap();
        }
        let questions = end.receive_all(4).await;
        for ((path, question), ip) in questions.into_iter().zip(asked) {
            assert_eq!(path.local, Some(ip.parse().unwrap()));
            end.push(path, question);
            end.push(path, "run");
            end.push(path, "run");
        }
        end.flush().await.unwrap();
        for (n, ip) in asked.into_iter().enumerate() {
            assert_eq!(peer.recv(), (pattern(n, n + 1), at(ip, port)));
            let run = (b"run".to_vec(), at(ip, port));
            assert_eq!((peer.recv(), peer.recv()), (run.clone(), run));
        }
    });
}

fn an_address_that_is_not_here_is_not_insisted_on<R: TestRuntime>() {
    R::block_on(async {
        let (mut end, peer) = (End::<R>::bind("0.0.0.0"), Peer::bind("127.0.0.1"));
        // An address reserved for documentation stands for an interface that has gone, or for a broadcast
        // address.
        let gone = Path::new(peer.address()).with_local(std::net::IpAddr::from([203, 0, 113, 7]));
        for text in ["one", "and", "run", "end!"] {
            end.push(gone, text);
        }
        end.flush().await.unwrap();
        assert_eq!(peer.texts(4), ["one", "and", "run", "end!"]);
    });
}

#[cfg(not(unix))]
fn one_port_serves_several_sockets<R: TestRuntime>() {}

#[cfg(unix)]
fn one_port_serves_several_sockets<R: TestRuntime>() {
    R::block_on(async {
        let options = UdpOptions::new().reuse_port(true);
        let one = End::<R>::bind_by(&options, "127.0.0.1");
        let port = one.address();
        assert_eq!(UdpOptions::new().bind(port).unwrap_err().kind(), ErrorKind::AddrInUse);
        let mut ends = [one, End::<R>::new(options.bind(port).unwrap())];
        let peers: Vec<_> = (0..64).map(|_| Peer::bind("127.0.0.1")).collect();
        for peer in &peers {
            peer.0.send_to(b"x", port).unwrap();
        }
        let mut got = Vec::new();
        while got.len() < peers.len() {
            let mut batch = RecvBatch::new();
            let ready = poll_fn(|cx| {
                let mut ready = ends.iter_mut().enumerate().filter_map(|(n, end)| {
                    let Poll::Ready(result) = end.io.poll_recv(cx, &mut batch) else { return None };
                    result.unwrap();
                    Some(n)
                });
                ready.next().map_or(Poll::Pending, Poll::Ready)
            });
            let messages = ends[ready.await].take(batch);
            got.extend(messages.iter().map(|(path, _)| path.peer.port()));
        }
        let mut expected: Vec<_> = peers.iter().map(|peer| peer.address().port()).collect();
        got.sort_unstable();
        expected.sort_unstable();
        assert_eq!(got, expected);
        if cfg!(target_os = "linux") {
            assert!(ends.iter().all(|end| end.packets.stats().received.bytes > 0));
        }
    });
}

fn a_group_is_heard_and_answered<R: TestRuntime>() {
    let group = Ipv4Addr::new(224, 0, 0, 251);
    let options = UdpOptions::new()
        .join_v4(group, Ipv4Addr::LOCALHOST)
        .multicast_interface_v4(Ipv4Addr::LOCALHOST)
        .multicast_ttl(1)
        .multicast_loop(true);
    let Ok(socket) = options.bind(at("0.0.0.0", 0)) else {
        return eprintln!("not tested: the loopback interface can't join a group");
    };
    R::block_on(async {
        let mut end = End::<R>::new(socket);
        let to_group = SocketAddr::from((group, end.address().port()));
        let mut sender = End::<R>::new(options.bind(at("127.0.0.1", 0)).unwrap());
        sender.push(to_group, "who is there?");
        if sender.flush().await.is_err() {
            return eprintln!("not tested: the loopback interface can't send to a group");
        }
        let got = end.receive_all(1).await;
        assert_eq!((got[0].0.peer, &got[0].1[..]), (sender.address(), &b"who is there?"[..]));
        assert_eq!(got[0].0.local, None, "replies never leave from a group's address");
        end.push(got[0].0, "me");
        end.flush().await.unwrap();
        assert_eq!(sender.receive_all(1).await[0].1, "me");

        // The loopback interface returns everything, whatever the socket asks for.
        let options = options.multicast_loop(false).multicast_ttl(7);
        let socket = options.bind(at("127.0.0.1", 0)).unwrap();
        let socket = socket2::SockRef::from(&socket);
        assert_eq!((socket.multicast_loop_v4().unwrap(), socket.multicast_ttl_v4().unwrap()), (false, 7));
    });
}

fn waiting_wakes<R: TestRuntime>() {
    R::block_on(async {
        let (mut end, peer) = (End::<R>::bind("127.0.0.1"), Peer::bind("127.0.0.1"));
        let to = end.address();
        for n in 0..50 {
            // Everything has been received, so the next receive has to wait.
            end.expect_nothing().await;
            let peer = peer.0.try_clone().unwrap();
            let sending = blocking(move || peer.send_to(&pattern(n, 10), to).unwrap());
            let (got, _) = futures::join!(end.receive_all(1), sending);
            assert_eq!(got[0].1, pattern(n, 10));
        }
    });
}

fn a_burst_waits_in_the_receive_buffer<R: TestRuntime>() {
    R::block_on(async {
        let (mut end, peer) = (End::<R>::bind("127.0.0.1"), Peer::bind("127.0.0.1"));
        for n in 0..500 {
            peer.0.send_to(&pattern(n, 16), end.address()).unwrap();
        }
        for (n, (_, bytes)) in end.receive_all(500).await.into_iter().enumerate() {
            assert_eq!(bytes, pattern(n, 16));
        }
        end.expect_nothing().await;
    });
    let size = |options: UdpOptions| {
        let socket = options.bind(at("127.0.0.1", 0)).unwrap();
        socket2::SockRef::from(&socket).recv_buffer_size().unwrap()
    };
    let of_the_system =
        socket2::SockRef::from(&UdpSocket::bind("127.0.0.1:0").unwrap()).recv_buffer_size().unwrap();
    assert_eq!(size(UdpOptions::new().receive_buffer(None)), of_the_system);
    assert!(size(UdpOptions::new()) > of_the_system);
    assert!(size(UdpOptions::new().receive_buffer(20_000)) < of_the_system);
}

/// How much the system takes with a small buffer depends on the interface. Loopback passes each datagram on
/// at once, so the buffer may or may not delay sending. In either case nothing is lost.
fn a_small_send_buffer_loses_nothing<R: TestRuntime>() {
    R::block_on(async {
        let peer = Peer::bind("127.0.0.1");
        let mut end = End::<R>::bind_by(&UdpOptions::new().send_buffer(1), "127.0.0.1");
        for round in 0..20 {
            for n in 0..40 {
                // Single datagrams and runs, in total larger than the buffer.
                end.push(peer.address(), pattern(n, [1_000, 1_000, 20, 1_000, 3_000][n / 4 % 5]));
            }
            end.flush().await.unwrap();
            for n in 0..40 {
                let expected = pattern(n, [1_000, 1_000, 20, 1_000, 3_000][n / 4 % 5]);
                assert_eq!(peer.recv(), (expected, end.address()), "{n} of round {round}");
            }
        }
        assert_eq!(end.packets.dropped().total(), 0);
    });
}
