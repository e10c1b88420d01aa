//! UDP servers with a session for each peer, over real sockets.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use bytes::Bytes;
use getty_core::Close;
use getty_core::codec::Raw;
use getty_core::datagram::{Path, PeerLimits};
use getty_driver::{Handle, Server, UdpOptions};

use crate::driver_common::recorder::{Happening, Log, Recorder, Then};
use crate::driver_common::runtimes::{TestRuntime, blocking, server, until};
use crate::driver_common::*;
use crate::on_every_runtime;

on_every_runtime!(
    each_peer_has_a_session_of_its_own,
    handles_send_to_their_peer,
    who_is_not_let_in_costs_nothing,
    a_peer_is_closed_and_comes_back_as_a_new_one,
    a_shutdown_tells_every_session_and_ends,
    a_dropped_server_aborts,
    a_panic_ends_its_session_only,
    cron_and_idle_are_each_peers_own,
    evicted_peers_are_told,
    a_reply_is_no_larger_than_allowed_before_the_peer_is_validated,
    who_opens_while_the_server_shuts_down_is_told_too,
    several_servers_share_a_port,
);

/// A client that waits long enough for replies.
fn socket<R: TestRuntime>(server: &Server<R>) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.local_addr()).unwrap();
    socket.set_read_timeout(Some(secs(20))).unwrap();
    socket
}

/// Sends `text` and returns the reply.
async fn ask(socket: &UdpSocket, text: &'static str) -> Vec<u8> {
    let socket = socket.try_clone().unwrap();
    blocking(move || {
        socket.send(text.as_bytes()).unwrap();
        let mut answer = [0; 2000];
        let n = socket.recv(&mut answer).unwrap();
        answer[..n].to_vec()
    })
    .await
}

async fn echo_server<R: TestRuntime>(limits: PeerLimits) -> (Server<R>, Log) {
    let log = Log::default();
    let kept = log.clone();
    let listener = move |_| Some(Recorder::echo().0.log_to(&kept));
    (server::<R>().udp_peers("127.0.0.1:0", limits, Raw, listener).await.unwrap(), log)
}

fn each_peer_has_a_session_of_its_own<R: TestRuntime>() {
    R::block_on(async {
        let (server, log) = echo_server::<R>(PeerLimits::new()).await;
        let clients: Vec<UdpSocket> = (0..10).map(|_| socket(&server)).collect();
        for round in ["one", "two", "three"] {
            for client in &clients {
                assert_eq!(ask(client, round).await, round.as_bytes());
            }
        }
        assert_eq!((server.sessions(), log.count("on_open"), log.count("on_message")), (10, 10, 30));
        assert_eq!(server.shutdown(secs(10)).await.aborted, 0);
        assert_eq!((log.count("on_shutdown"), log.count("on_close: closed by this end")), (10, 10));
    });
}

fn handles_send_to_their_peer<R: TestRuntime>() {
    R::block_on(async {
        let handles = Arc::new(Mutex::new(Vec::<Handle<Bytes>>::new()));
        let kept = handles.clone();
        let listener = move |_| {
            let kept = kept.clone();
            Some(
                Recorder::new(move |cx, happening| {
                    if let Happening::Open = happening {
                        assert_eq!(cx.handle().peer_addr(), cx.peer_addr());
                        kept.lock().unwrap().push(cx.handle());
                    }
                    Then::Default
                })
                .0,
            )
        };
        let server = server::<R>().udp_peers("127.0.0.1:0", PeerLimits::new(), Raw, listener).await.unwrap();
        let clients: Vec<UdpSocket> = (0..3).map(|_| socket(&server)).collect();
        for client in &clients {
            client.send(b"hello").unwrap();
        }
        until::<R>("all are there", || handles.lock().unwrap().len() == 3).await;
        let handles = handles.lock().unwrap().clone();
        for client in clients {
            let peer = client.local_addr().unwrap();
            let handle = handles.iter().find(|handle| handle.peer_addr() == Some(peer)).unwrap();
            assert_eq!(handle.send_flushed(Bytes::from("to you")).await.unwrap().get(), 1);
            let mut answer = [0; 9];
            assert_eq!(client.recv(&mut answer).unwrap(), 6);
            handle.close(Close::graceful());
            assert!(handle.closed().await.is_clean());
            assert!(handle.try_send(Bytes::new()).is_err());
        }
        until::<R>("no session is left", || server.sessions() == 0).await;
    });
}

fn who_is_not_let_in_costs_nothing<R: TestRuntime>() {
    R::block_on(async {
        let dropped = Arc::new(AtomicUsize::new(0));
        let told = dropped.clone();
        let builder = server::<R>().on_dropped(move |dropped| {
            told.fetch_add(dropped.counts.strangers as usize, Ordering::SeqCst);
        });
        let refuse = |_| None::<Recorder>;
        let server = builder.udp_peers("127.0.0.1:0", PeerLimits::new(), Raw, refuse).await.unwrap();
        socket(&server).send(b"hello").unwrap();
        until::<R>("it is reported", || dropped.load(Ordering::SeqCst) == 1).await;
        assert_eq!(server.sessions(), 0);
        assert_eq!(server.shutdown(secs(10)).await.aborted, 0);
    });
}

fn a_peer_is_closed_and_comes_back_as_a_new_one<R: TestRuntime>() {
    R::block_on(async {
        let log = Log::default();
        let kept = log.clone();
        let listener = move |_| {
            let answers_once = Recorder::new(|cx, happening| {
                if let Happening::Message(message) = happening {
                    cx.send(message).unwrap();
                    cx.close(Close::graceful());
                }
                Then::Default
            });
            Some(answers_once.0.log_to(&kept))
        };
        let server = server::<R>().udp_peers("127.0.0.1:0", PeerLimits::new(), Raw, listener).await.unwrap();
        let client = socket(&server);
        assert_eq!(ask(&client, "one").await, b"one");
        until::<R>("it is closed", || log.count("on_close: closed by this end") == 1).await;
        assert_eq!(ask(&client, "two").await, b"two");
        until::<R>("it is closed again", || log.count("on_close: closed by this end") == 2).await;
        assert_eq!(log.count("on_open"), 2);
    });
}

fn a_shutdown_tells_every_session_and_ends<R: TestRuntime>() {
    R::block_on(async {
        let log = Log::default();
        let kept = log.clone();
        let stays = move |_| Some(Recorder::new(|_, _| Then::Nothing).0.log_to(&kept));
        let server = server::<R>().udp_peers("127.0.0.1:0", PeerLimits::new(), Raw, stays).await.unwrap();
        let client = socket(&server);
        client.send(b"hello").unwrap();
        until::<R>("its message arrives", || log.count("on_message") == 1).await;
        assert_eq!(server.shutdown(MS * 50).await.aborted, 1);
        assert_eq!((log.count("on_shutdown"), log.count("on_close")), (1, 1));
    });
}

fn a_dropped_server_aborts<R: TestRuntime>() {
    R::block_on(async {
        let (server, log) = echo_server::<R>(PeerLimits::new()).await;
        let client = socket(&server);
        assert_eq!(ask(&client, "hello").await, b"hello");
        let address = server.local_addr();
        drop(server);
        until::<R>("the session ends", || log.count("on_close") == 1).await;
        until::<R>("the port is free", || UdpSocket::bind(address).is_ok()).await;
    });
}

fn a_panic_ends_its_session_only<R: TestRuntime>() {
    for callback in ["on_message", "drop"] {
        R::block_on(async {
            let panics = Arc::new(AtomicUsize::new(0));
            let count = panics.clone();
            let builder = server::<R>().on_panic(move |_, _| {
                count.fetch_add(1, Ordering::SeqCst);
            });
            let log = Log::default();
            let kept = log.clone();
            let first = AtomicUsize::new(0);
            let listener = move |_| {
                let bad = first.fetch_add(1, Ordering::SeqCst) == 0;
                let recorder = Recorder::new(move |cx, happening| {
                    match happening {
                        Happening::Message(_) if bad => cx.close(Close::abort()),
                        Happening::Message(message) => drop(cx.send(message).unwrap()),
                        _ => {}
                    }
                    Then::Default
                });
                let recorder = recorder.0.log_to(&kept);
                Some(if bad { recorder.panics_in(callback) } else { recorder })
            };
            let server = builder.udp_peers("127.0.0.1:0", PeerLimits::new(), Raw, listener).await.unwrap();
            let (bad, good) = (socket(&server), socket(&server));
            bad.send(b"boom").unwrap();
            until::<R>("it is reported", || panics.load(Ordering::SeqCst) == 1).await;
            assert_eq!(ask(&good, "hello").await, b"hello");
            assert_eq!(ask(&bad, "again").await, b"again", "it is served as a new peer");
            assert_eq!(server.sessions(), 2);
        });
    }
}

fn cron_and_idle_are_each_peers_own<R: TestRuntime>() {
    R::block_on(async {
        let log = Log::default();
        let kept = log.clone();
        let listener = move |_| {
            let ends_when_idle = Recorder::new(|cx, happening| {
                if let Happening::Idle(idle) = happening {
                    cx.close(Close::idle(idle));
                }
                Then::Default
            });
            Some(ends_when_idle.0.log_to(&kept))
        };
        let config = config(|c| c.cron_period(MS * 20).idle_read(MS * 100));
        let builder = server::<R>().config(config);
        let server = builder.udp_peers("127.0.0.1:0", PeerLimits::new(), Raw, listener).await.unwrap();
        let clients = [socket(&server), socket(&server)];
        for client in &clients {
            client.send(b"hello").unwrap();
        }
        until::<R>("both end", || log.count("on_close: timed out: nothing was received") == 2).await;
        assert!(log.count("on_cron") >= 1); // missed ticks are not made up for
        assert_eq!(server.sessions(), 0);
    });
}

fn evicted_peers_are_told<R: TestRuntime>() {
    R::block_on(async {
        let (server, log) = echo_server::<R>(PeerLimits::new().max_peers(2)).await;
        let clients: Vec<UdpSocket> = (0..3).map(|_| socket(&server)).collect();
        for client in &clients {
            assert_eq!(ask(client, "hello").await, b"hello");
        }
        assert_eq!((server.sessions(), log.count("on_close: evicted to make room for another peer")), (2, 1));
    });
}

fn a_reply_is_no_larger_than_allowed_before_the_peer_is_validated<R: TestRuntime>() {
    R::block_on(async {
        let listener = |_| {
            Some(
                Recorder::new(|cx, happening| {
                    if let Happening::Message(message) = happening {
                        assert!(cx.send(Bytes::from(vec![b'x'; 3 * message.len() + 1])).is_err());
                        if message == "secret" {
                            cx.validate_peer();
                            cx.send(Bytes::from(vec![b'x'; 1000])).unwrap();
                        } else {
                            cx.send(Bytes::from(vec![b'y'; 3 * message.len()])).unwrap();
                        }
                    }
                    Then::Default
                })
                .0,
            )
        };
        let server = server::<R>().udp_peers("127.0.0.1:0", PeerLimits::new(), Raw, listener).await.unwrap();
        let client = socket(&server);
        assert_eq!(ask(&client, "hello").await.len(), 15);
        assert_eq!(ask(&client, "secret").await.len(), 1000);
    });
}

/// The address of peers that are not admitted.
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 9, 9, 9));

/// Addresses of peers whose messages block the server.
const HOLD_UP: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(127, 2, 0, 1)), IpAddr::V4(Ipv4Addr::new(127, 2, 0, 2))];

/// A turn has a limit of events, and an admitted peer causes several of them. With some refused peers before
/// it, the turn ends between its admission and its opening.
fn who_opens_while_the_server_shuts_down_is_told_too<R: TestRuntime>() {
    if UdpSocket::bind("127.1.0.1:0").is_err() {
        return eprintln!("not tested: the loopback interface has one address");
    }
    for refused in 0..4 {
        R::block_on(async {
            let log = Log::default();
            let kept = log.clone();
            let (go_on, gate) = mpsc::channel();
            let (tell, held_up) = mpsc::channel();
            let gate = Arc::new(Mutex::new((tell, gate)));
            let listener = move |path: Path| {
                let gate = gate.clone();
                let holds_up = HOLD_UP.contains(&path.peer.ip());
                let quiet = Recorder::new(move |_, happening| {
                    if let (Happening::Message(_), true) = (happening, holds_up) {
                        let (tell, gate) = &*gate.lock().unwrap();
                        tell.send(()).unwrap();
                        gate.recv().unwrap();
                    }
                    Then::Default
                });
                (path.peer.ip() != STRANGER).then(|| quiet.0.log_to(&kept))
            };
            let server =
                server::<R>().udp_peers("127.0.0.1:0", PeerLimits::new(), Raw, listener).await.unwrap();
            let send = |from: IpAddr| {
                UdpSocket::bind((from, 0)).unwrap().send_to(b"x", server.local_addr()).unwrap();
            };
            send(HOLD_UP[0]);
            // This needs no timer, which might be blocked as well.
            let wait = |held_up: mpsc::Receiver<()>| {
                blocking(move || {
                    held_up.recv().unwrap();
                    held_up
                })
            };
            let held_up = wait(held_up).await;
            (0..refused).for_each(|_| send(STRANGER));
            send(HOLD_UP[1]);
            // More events than a turn handles, but no more datagrams than the socket holds.
            for number in 0..500u16 {
                let [high, low] = number.to_be_bytes();
                send(IpAddr::from([127, 1, high, low]));
            }
            go_on.send(()).unwrap();
            wait(held_up).await; // now in the turn that finds the rest
            let release = async { go_on.send(()).unwrap() };
            let (end, ()) = futures::join!(server.shutdown(secs(10)), release);
            let opened = log.count("on_open");
            assert!((300..500).contains(&opened), "{opened}");
            assert_eq!((end.aborted, log.count("on_shutdown")), (0, opened));
            assert_eq!(log.count("on_close: closed by this end"), opened);
        });
    }
}

#[cfg(not(unix))]
fn several_servers_share_a_port<R: TestRuntime>() {}

#[cfg(unix)]
fn several_servers_share_a_port<R: TestRuntime>() {
    R::block_on(async {
        let mut servers = Vec::<Server<R>>::new();
        for _ in 0..3 {
            let address = servers.first().map_or("127.0.0.1:0".parse().unwrap(), Server::local_addr);
            let builder = server::<R>().udp_options(UdpOptions::new().reuse_port(true));
            let echo = |_| Some(Recorder::echo().0);
            servers
                .push(builder.udp_peers(&address.to_string(), PeerLimits::new(), Raw, echo).await.unwrap());
        }
        let clients: Vec<UdpSocket> = (0..60).map(|_| socket(&servers[0])).collect();
        for round in ["one", "two"] {
            for client in &clients {
                assert_eq!(ask(client, round).await, round.as_bytes());
            }
        }
        let sessions: Vec<usize> = servers.iter().map(Server::sessions).collect();
        assert_eq!(sessions.iter().sum::<usize>(), 60, "each client reached the same server twice");
        if cfg!(target_os = "linux") {
            assert!(sessions.iter().all(|&sessions| sessions > 0), "{sessions:?}");
        }
        let address = servers[0].local_addr();
        for server in servers {
            assert_eq!(server.shutdown(secs(10)).await.aborted, 0);
        }
        assert!(UdpSocket::bind(address).is_ok(), "the port is free");
    });
}
