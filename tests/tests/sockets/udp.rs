//! UDP servers and clients: on every runtime, and in scripts where the exact order matters.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use getty_core::codec::{LengthDelimited, Raw};
use getty_core::datagram::{PacketOptions, Packets, Path};
use getty_core::websocket::{ClientRequest, Packages, ServerOptions, WebSocket};
use getty_core::{Close, CloseReason, Config, Framed, SendError, framed};
use getty_driver::{Client, Handle, Listener, NotFlushed, PacketDriver, Server};

use crate::driver_common::fake::{self, Fake};
use crate::driver_common::packets::{Datagram, MemPackets, PacketWire, packets};
use crate::driver_common::recorder::{Happening, Log, Recorder, Then};
use crate::driver_common::runtimes::{TestRuntime, blocking, client, server, until};
use crate::driver_common::task::Task;
use crate::driver_common::*;
use crate::on_every_runtime;

on_every_runtime!(
    one_listener_serves_every_transport,
    handles_send_to_whom_they_name,
    what_is_sent_to_nobody_is_told_and_ends_nothing,
    a_shutdown_answers_what_is_here,
    dropping_the_server_frees_the_port,
    a_panic_ends_the_session,
    errors_name_the_address,
    a_receiver_takes_turns_with_the_socket,
);

/// A listener that echoes over any transport.
struct Echo;

impl Listener<Messages> for Echo {
    fn on_message(&mut self, cx: &mut getty_driver::Context<'_, Messages>, message: Bytes) {
        cx.send(message).unwrap();
    }
}

/// A socket of the standard library.
fn socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(secs(20))).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// The next datagram.
fn next(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 65_536];
    let n = socket.recv(&mut buffer).unwrap();
    buffer[..n].to_vec()
}

/// The next datagram, without blocking the runtime.
async fn next_of(socket: &UdpSocket) -> Vec<u8> {
    let socket = socket.try_clone().unwrap();
    blocking(move || next(&socket)).await
}

/// A listener that keeps the handle of its session once it is open.
fn keeping_its_handle() -> (Recorder, Log, Arc<Mutex<Option<Handle<Bytes>>>>) {
    let kept = Arc::<Mutex<Option<Handle<Bytes>>>>::default();
    let handle = kept.clone();
    let (listener, log) = Recorder::new(move |cx, happening| {
        if let Happening::Open = happening {
            *handle.lock().unwrap() = Some(cx.handle());
        }
        Then::Default
    });
    (listener, log, kept)
}

fn one_listener_serves_every_transport<R: TestRuntime>() {
    R::block_on(async {
        let any = "127.0.0.1:0";
        let tcp = server::<R>().tcp(any, framed(LengthDelimited::new), || Echo).await.unwrap();
        let packages = || Packages::new(LengthDelimited::new());
        let ws = server::<R>()
            .tcp(any, WebSocket::serving_of(packages, ServerOptions::new()), || Echo)
            .await
            .unwrap();
        let udp = server::<R>().udp(any, LengthDelimited::new(), Echo).await.unwrap();

        let hello = Bytes::from("hello");
        let mut over_tcp = client::<R>()
            .tcp_connection(&tcp.local_addr().to_string(), Framed::new(LengthDelimited::new()))
            .await
            .unwrap();
        over_tcp.send(hello.clone()).await.unwrap();
        assert_eq!(over_tcp.recv().await.unwrap().unwrap(), hello);
        let request = ClientRequest::new(&format!("ws://{}/", ws.local_addr())).unwrap();
        let mut over_ws = client::<R>().websocket_connection(request, packages()).await.unwrap();
        over_ws.send(hello.clone()).await.unwrap();
        assert_eq!(over_ws.recv().await.unwrap().unwrap(), hello);
        let address = udp.local_addr();
        let (handle, mut received) =
            client::<R>().udp_receiver(&address.to_string(), LengthDelimited::new()).await.unwrap();
        assert_eq!(handle.peer_addr(), Some(address));
        handle.send(hello.clone()).await.unwrap();
        assert_eq!(received.recv().await.unwrap().unwrap(), hello);
        assert_eq!(handle.send_flushed(hello.clone()).await.unwrap().get(), 2);
        assert_eq!(received.recv().await.unwrap().unwrap(), hello);

        assert_eq!(udp.sessions(), 1, "one session for all peers");
        handle.close(Close::graceful());
        assert!(handle.closed().await.is_clean());
        assert_eq!(received.recv().await.unwrap(), None);
        drop((over_tcp, over_ws));
        for server in [tcp, ws, udp] {
            assert_eq!(server.shutdown(secs(10)).await.aborted, 0);
        }
    });
}

fn handles_send_to_whom_they_name<R: TestRuntime>() {
    R::block_on(async {
        let (listener, log, kept) = keeping_its_handle();
        let server = server::<R>().udp("127.0.0.1:0", Raw, listener).await.unwrap();
        until::<R>("the opening", || kept.lock().unwrap().is_some()).await;
        let handle = kept.lock().unwrap().clone().unwrap();
        assert_eq!((handle.local_addr(), handle.peer_addr()), (Some(server.local_addr()), None));
        let peers = [socket(), socket()];
        for (socket, address) in &peers {
            handle.try_send_to(*address, Bytes::from(address.to_string())).unwrap();
            handle.send_to(*address, Bytes::from("again")).await.unwrap();
            assert_eq!(next_of(socket).await, address.to_string().as_bytes());
            assert_eq!(next_of(socket).await, b"again");
        }
        handle.try_send(Bytes::from("to whom?")).unwrap();
        until::<R>("it is reported", || log.count("on_send_error: NoPeer") == 1).await;
        handle.try_send_to(peers[0].1, Bytes::from("it goes on")).unwrap();
        assert_eq!(next_of(&peers[0].0).await, b"it goes on");
        server.shutdown(secs(10)).await;
        assert!(matches!(handle.try_send_to(peers[0].1, Bytes::new()), Err(SendError::Closed(_))));
    });
}

fn what_is_sent_to_nobody_is_told_and_ends_nothing<R: TestRuntime>() {
    R::block_on(async {
        let address = socket().1; // closed
        let (listener, log) = Recorder::quiet();
        let handle = client::<R>().udp(&address.to_string(), Raw, listener).await.unwrap();
        handle.send(Bytes::from("hello")).await.unwrap();
        let told = format!(
            "on_dropped: 1 datagrams dropped, the latest of {address}: it did not arrive: Connection refused"
        );
        until::<R>("it is reported", || log.count(&told) == 1).await;
        let late = UdpSocket::bind(address).unwrap();
        late.set_read_timeout(Some(secs(20))).unwrap();
        handle.send(Bytes::from("again")).await.unwrap();
        assert_eq!(next_of(&late).await, b"again");
        late.send_to(b"here", handle.local_addr().unwrap()).unwrap();
        until::<R>("the answer", || log.count("on_message: here") == 1).await;
        handle.try_send_to(address, Bytes::from("x")).unwrap();
        until::<R>("it is connected", || log.count("on_send_error: Connected") == 1).await;
        assert!(!handle.is_closed());
        handle.close(Close::graceful());
        assert!(handle.closed().await.is_clean());
    });
}

fn a_shutdown_answers_what_is_here<R: TestRuntime>() {
    R::block_on(async {
        let (listener, log) = Recorder::echo();
        let server = server::<R>().udp("127.0.0.1:0", Raw, listener).await.unwrap();
        let (socket, _) = socket();
        socket.send_to(b"hello", server.local_addr()).unwrap();
        assert_eq!(next_of(&socket).await, b"hello");
        assert_eq!(server.shutdown(secs(10)).await.aborted, 0);
        assert_eq!(
            log.take(),
            ["on_open", "on_message: hello", "on_shutdown", "on_close: closed by this end"]
        );
    });
}

fn dropping_the_server_frees_the_port<R: TestRuntime>() {
    R::block_on(async {
        let (listener, log) = Recorder::echo();
        let server = server::<R>().udp("127.0.0.1:0", Raw, listener).await.unwrap();
        let address = server.local_addr();
        until::<R>("the opening", || log.count("on_open") == 1).await;
        assert_eq!(UdpSocket::bind(address).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(server);
        until::<R>("the end", || log.count("on_close") == 1).await;
        until::<R>("the port is free", || UdpSocket::bind(address).is_ok()).await;
        assert_eq!(log.count("on_shutdown"), 0);
    });
}

fn a_panic_ends_the_session<R: TestRuntime>() {
    R::block_on(async {
        let (listener, log) = Recorder::quiet();
        let panics = Log::default();
        let told = panics.clone();
        let server = server::<R>()
            .on_panic(move |_, panic| told.note(*panic.downcast_ref::<&str>().unwrap()))
            .udp("127.0.0.1:0", Raw, listener.panics_in("on_message"))
            .await
            .unwrap();
        let (socket, _) = socket();
        socket.send_to(b"hello", server.local_addr()).unwrap();
        until::<R>("the end", || server.sessions() == 0).await;
        assert_eq!(panics.take(), ["on_message"]);
        assert_eq!(log.take(), ["on_open", "on_message: hello"], "no callback after a panic");
        assert_eq!(server.shutdown(secs(10)).await.aborted, 0);
    });
}

fn errors_name_the_address<R: TestRuntime>() {
    R::block_on(async {
        let (_taken, address) = socket();
        let address = address.to_string();
        let error = server::<R>().udp(&address, Raw, Echo).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with(&format!("can't listen on {address}: ")), "{error}");
        let error = client::<R>().udp("no-such-host.invalid:1", Raw, Echo).await.unwrap_err().to_string();
        assert!(error.starts_with("can't connect to no-such-host.invalid:1: "), "{error}");
    });
}

fn a_receiver_takes_turns_with_the_socket<R: TestRuntime>() {
    R::block_on(async {
        let (peer, address) = socket();
        let client = client::<R>().config(config(|c| c.handle_queue(4)));
        let (handle, mut received) = client.udp_receiver(&address.to_string(), Raw).await.unwrap();
        for n in 0..10u8 {
            peer.send_to(&[n], handle.local_addr().unwrap()).unwrap();
        }
        until::<R>("the queue is full", || handle.stats().received.messages == 4).await;
        for n in 0..10u8 {
            assert_eq!(received.recv().await.unwrap().unwrap(), vec![n]);
        }
        drop(received);
        handle.send(Bytes::from("still sending")).await.unwrap();
        assert_eq!(next_of(&peer).await, b"still sending");
    });
}

// Tests in a script, on sockets in memory.

type FakePackets<L> = PacketDriver<Fake, MemPackets, Raw, Bytes, L>;

fn address(port: u16) -> SocketAddr {
    ([10, 0, 0, 1], port).into()
}

fn path(port: u16) -> Path {
    Path::new(address(port))
}

/// A driver on a socket in memory, polled by hand. The socket is connected if `peer` is given.
fn driver_of<L: Listener<Messages>>(
    peer: Option<SocketAddr>,
    config: Arc<Config>,
    listener: L,
) -> (Task<FakePackets<L>>, PacketWire) {
    let (io, wire) = packets(Some(address(1)), peer);
    let options = PacketOptions::unconnected().with_connected(peer.is_some());
    let packets = Packets::new(Raw, options, config, getty_driver::now::<Fake>());
    (Task::new(PacketDriver::new(packets, io, listener)), wire)
}

fn texts(datagrams: Vec<Datagram>) -> Vec<(Option<Path>, String)> {
    datagrams.into_iter().map(|(path, bytes)| (path, String::from_utf8(bytes).unwrap())).collect()
}

fn text(path: Path, text: &str) -> (Path, Vec<u8>) {
    (path, text.as_bytes().to_vec())
}

#[test]
fn each_message_of_a_batch_has_its_path() {
    let here = IpAddr::from([10, 0, 0, 9]);
    let (listener, log) = Recorder::new(|cx, happening| {
        if let Happening::Message(message) = happening {
            let path = cx.path().unwrap();
            assert_eq!(cx.peer_addr(), Some(path.peer));
            assert_eq!(cx.local_addr(), Some(address(1)));
            cx.send(message.clone()).unwrap();
            cx.send_to(address(99), message).unwrap();
        } else {
            assert_eq!((cx.path(), cx.peer_addr()), (None, None));
            assert!(matches!(cx.send(Bytes::from("x")), Err(SendError::NoPeer(_))));
        }
        Then::Default
    });
    let (mut task, wire) = driver_of(None, config(|c| c.cron_period(secs(1))), listener);
    let paths = [path(10).with_local(here), path(11), path(10)];
    wire.receives([text(paths[0], "a"), text(paths[1], "b"), text(paths[2], "c")]);
    task.settle();
    fake::advance(secs(1));
    task.settle();
    assert_eq!(log.take(), ["on_open", "on_message: a", "on_message: b", "on_message: c", "on_cron"]);
    let sent = texts(wire.take_sent());
    let expected = paths
        .iter()
        .zip(["a", "b", "c"])
        .flat_map(|(&path, text)| [path, Path::new(address(99))].map(|path| (Some(path), text.to_owned())));
    assert_eq!(sent, expected.collect::<Vec<_>>());
    assert_eq!(wire.send_calls(), 1, "all in one send");
}

#[test]
fn a_connected_session_answers_without_naming_anybody() {
    let (listener, log) = Recorder::new(|cx, happening| {
        assert_eq!(cx.peer_addr(), Some(address(2)));
        match happening {
            Happening::Open => drop(cx.send(Bytes::from("first")).unwrap()),
            Happening::Message(message) => {
                assert!(matches!(cx.send_to(address(3), message.clone()), Err(SendError::Connected(_))));
                cx.send(message).unwrap();
            }
            _ => {}
        }
        Then::Default
    });
    let (mut task, wire) = driver_of(Some(address(2)), Config::default().into(), listener);
    wire.receives([text(path(2), "hello")]);
    task.settle();
    assert_eq!(texts(wire.take_sent()), [(None, "first".to_owned()), (None, "hello".to_owned())]);
    let handle = task.get_mut().handle();
    handle.try_send_to(address(3), Bytes::from("x")).unwrap();
    handle.try_send(Bytes::from("y")).unwrap();
    task.settle();
    assert_eq!(texts(wire.take_sent()), [(None, "y".to_owned())]);
    assert_eq!(log.take(), ["on_open", "on_message: hello", "on_send_error: Connected"]);
}

#[test]
fn drops_are_reported_once_a_second_at_most() {
    let (listener, log) = Recorder::quiet();
    let (mut task, wire) = driver_of(None, config(|c| c.max_datagram(10)), listener);
    wire.receives([text(path(2), ""), text(path(3), "larger than ten"), text(path(2), "good")]);
    wire.recv_fails(ErrorKind::ConnectionRefused);
    task.settle();
    let told = log.take();
    assert_eq!(told[..2], ["on_open", "on_message: good"]);
    assert_eq!(
        told[2],
        "on_dropped: 2 datagrams dropped, the latest of 10.0.0.1:3: 15 bytes, \
                         more than the limit of 10 (Config::max_datagram)"
    );
    for _ in 0..9 {
        wire.receives([text(path(2), "")]);
        fake::advance(100 * MS);
        task.settle();
    }
    assert_eq!(log.take(), [""; 0], "not yet");
    fake::advance(100 * MS);
    task.settle();
    assert_eq!(log.take(), ["on_dropped: 10 datagrams dropped, the latest of 10.0.0.1:2: it was empty"]);
    fake::advance(secs(10));
    task.settle();
    assert!(log.is_empty(), "nothing was dropped");
}

#[test]
fn cron_and_idle_come_in_time() {
    let (listener, log) = Recorder::echo();
    let (mut task, wire) =
        driver_of(None, config(|c| c.cron_period(secs(2)).idle_read(secs(3)).idle_both(secs(5))), listener);
    task.settle();
    fake::advance(secs(1));
    wire.receives([text(path(2), "hello")]);
    task.settle();
    for _ in 0..6 {
        fake::advance(secs(1));
        task.settle();
        log.note("a second");
    }
    let second = "a second";
    let expected = [
        "on_open",
        "on_message: hello",
        "on_cron",
        second,
        second,
        "on_cron",
        "on_idle: Read",
        second,
        second,
        "on_cron",
        "on_idle: Both",
        second,
        second,
    ];
    assert_eq!(log.take(), expected);
    assert!(!task.get_mut().handle().is_closed());
}

#[test]
fn a_full_socket_makes_senders_wait() {
    let (listener, log) = Recorder::new(|cx, happening| {
        if let Happening::Message(_) = happening {
            while cx.send_to(address(3), Bytes::from(vec![b's'; 1000])).is_ok() {}
        }
        Then::Default
    });
    let (mut task, wire) = driver_of(None, config(|c| c.watermarks(4000, 8000).max_queued(16_000)), listener);
    let handle = task.get_mut().handle();
    wire.set_room(0);
    task.settle();
    let mut posted = 0;
    while handle.try_send_to(address(2), Bytes::from(vec![b'h'; 1000])).is_ok() {
        posted += 1;
        task.settle();
    }
    assert!((8..=9).contains(&posted), "up to the high watermark: {posted}");
    let late = handle.clone();
    let mut waiting = Task::new(async move { late.send_to(address(2), Bytes::from("late")).await });
    waiting.settle();
    // A session that filled its queue itself still receives. Its listener is refused at the hard limit, and
    // hears when there is room.
    wire.receives([text(path(2), "fill up")]);
    task.settle();
    assert_eq!(log.take(), ["on_open", "on_message: fill up"]);
    waiting.settle();
    wire.set_room(2);
    task.settle();
    assert_eq!((wire.take_sent().len(), log.count("on_writable")), (2, 0), "still above the low watermark");
    wire.set_room(None);
    task.settle();
    assert_eq!(log.take(), ["on_writable"]);
    waiting.finish().unwrap();
    task.settle();
    let sent = wire.take_sent();
    assert_eq!(sent.last(), Some(&(Some(path(2)), b"late".to_vec())));
}

#[test]
fn a_turn_is_bounded() {
    let (listener, log) = Recorder::echo();
    let (mut task, wire) = driver_of(None, Config::default().into(), listener);
    for _ in 0..100 {
        wire.receives((0..32).map(|n| text(path(n), "hello")));
    }
    let mut turns = 0;
    while task.is_woken() {
        turns += 1;
        assert!(task.poll().is_pending());
        let messages = log.take().iter().filter(|event| event.starts_with("on_message")).count();
        assert!(messages <= 128, "{messages} in one turn");
    }
    assert!(turns >= 25, "{turns} turns");
    assert_eq!(wire.take_sent().len(), 3200);
    // A turn of dropped datagrams is bounded too.
    for _ in 0..100 {
        wire.receives((0..32).map(|n| text(path(n), "")));
    }
    let before = wire.recv_calls();
    assert!(task.poll().is_pending());
    assert!(task.is_woken() && wire.recv_calls() - before <= 16, "{} receives", wire.recv_calls() - before);
    task.settle();
}

/// A server on the fake runtime, and the wire of its socket.
fn fake_server(listener: Recorder, config: Arc<Config>) -> (Server<Fake>, PacketWire) {
    let starting = Server::<Fake>::builder().config(config).udp("127.0.0.1:0", Raw, listener);
    let server = fake::block_on(starting).unwrap();
    (server, fake::udp_wire())
}

#[test]
fn a_shutdown_waits_for_queued_datagrams() {
    let (listener, log) = Recorder::echo();
    let (server, wire) = fake_server(listener, Config::default().into());
    wire.set_room(0);
    wire.receives([text(path(2), "one"), text(path(3), "two")]);
    fake::run();
    let mut shutdown = Task::new(server.shutdown(secs(4)));
    shutdown.settle();
    fake::run();
    shutdown.settle();
    assert_eq!(log.take(), ["on_open", "on_message: one", "on_message: two", "on_shutdown"]);
    fake::advance(secs(3));
    wire.set_room(None);
    fake::run();
    assert_eq!(shutdown.finish().aborted, 0);
    let expected = [(Some(path(2)), "one".to_owned()), (Some(path(3)), "two".to_owned())];
    assert_eq!(texts(wire.take_sent()), expected);
    assert!(wire.is_closed());
}

#[test]
fn who_waits_for_a_datagram_that_can_not_be_sent_is_told() {
    let (listener, log) = Recorder::echo();
    let (mut task, wire) = driver_of(Some(address(2)), Config::default().into(), listener);
    let handle = task.get_mut().handle();
    task.settle();
    let mut senders = ["one", "two", "three"].map(|text| Task::new(handle.send_flushed(Bytes::from(text))));
    senders.iter_mut().for_each(Task::settle);
    wire.set_room(1);
    task.settle();
    wire.send_fails(ErrorKind::PermissionDenied);
    wire.set_room(None);
    task.settle();
    let [one, two, three] = senders.map(|mut sender| sender.finish());
    assert_eq!((one.unwrap().get(), three.unwrap().get()), (1, 3));
    let error = two.unwrap_err();
    assert_eq!(
        error.to_string(),
        "not sent: the socket refused the datagram of message 2: permission denied"
    );
    assert!(
        matches!(error, NotFlushed::Unsent(seq, failure) if seq.get() == 2 && failure.kind == ErrorKind::PermissionDenied),
        "{error:?}"
    );
    assert_eq!(texts(wire.take_sent()), [(None, "one".to_owned()), (None, "three".to_owned())]);
    assert_eq!(log.count("on_dropped"), 1);
}

#[test]
fn a_shutdown_is_over_when_the_grace_period_is() {
    let (listener, log) = Recorder::echo();
    let (server, wire) = fake_server(listener, config(|c| c.close_timeout(secs(60))));
    wire.set_room(0);
    wire.receives([text(path(2), "never sent")]);
    fake::run();
    assert_eq!(fake::block_on(server.shutdown(secs(4))).aborted, 1);
    assert!(wire.is_closed() && wire.take_sent().is_empty());
    assert_eq!(log.count("on_close"), 1);
}

#[test]
fn a_dropped_task_tells_its_handles() {
    let starting = Client::<Fake>::builder().udp("127.0.0.1:9", Raw, Recorder::quiet().0);
    let handle = fake::block_on(starting).unwrap();
    fake::run();
    fake::drop_tasks();
    assert!(matches!(fake::block_on(handle.closed()), CloseReason::Local { flushed: false }));
    assert!(fake::udp_wire().is_closed());
}
