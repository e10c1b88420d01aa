//! The limits of a server, and its list of sessions.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use getty_core::codec::{LengthDelimited, Raw};
use getty_core::datagram::PeerLimits;
use getty_core::{Close, Config, Framed, framed};
use getty_driver::tls::{ClientTls, Identity, ServerTls};
use getty_driver::{Server, ServerLimits};
use socket2::{Domain, Socket, Type};

use crate::driver_common::recorder::{Happening, Log, Recorder, Then};
use crate::driver_common::runtimes::{TestRuntime, blocking, client, connect, server, until};
use crate::driver_common::*;
use crate::on_every_runtime;
use crate::tls_common::World;

on_every_runtime!(
    those_beyond_the_limit_are_closed_at_once,
    an_address_has_its_share,
    handshakes_under_way_make_room_for_new_ones,
    an_address_that_has_its_share_takes_nobodys_place,
    more_connections_than_may_be_accepted_at_once_wait,
    sessions_tell_of_themselves,
    sessions_that_end_meanwhile_hold_up_nobody,
    who_comes_meanwhile_holds_up_nobody,
    peers_of_a_socket_are_listed,
);

async fn limited<R: TestRuntime>(limits: ServerLimits) -> Server<R> {
    let listener = || Recorder::echo().0;
    server::<R>().limits(limits).tcp("127.0.0.1:0", framed(LengthDelimited::new), listener).await.unwrap()
}

/// Connects from `source`. Returns the stream if an echo came back.
fn is_served(source: &str, address: SocketAddr) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&format!("{source}:0").parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    let sent = frame(b"hello");
    let mut echoed = vec![0; sent.len()];
    // If it is closed at once, either the write or the read may fail.
    (stream.write_all(&sent).is_ok() && stream.read_exact(&mut echoed).is_ok()).then_some(stream)
}

fn those_beyond_the_limit_are_closed_at_once<R: TestRuntime>() {
    R::block_on(async {
        let server = limited::<R>(ServerLimits::new().max_sessions(3)).await;
        let address = server.local_addr();
        let mut served: Vec<_> =
            blocking(move || (0..10).filter_map(|_| is_served("127.0.0.1", address)).collect()).await;
        assert_eq!(served.len(), 3);
        let stats = server.stats();
        assert_eq!((stats.sessions, stats.opening, stats.accepted), (3, 0, 10));
        assert_eq!((stats.refused.too_many, stats.refused.total(), stats.failures), (7, 7, 0));
        served.pop();
        until::<R>("one has left", || server.sessions() == 2).await;
        assert!(blocking(move || is_served("127.0.0.1", address)).await.is_some());
    });
}

fn an_address_has_its_share<R: TestRuntime>() {
    R::block_on(async {
        let server = limited::<R>(ServerLimits::new().max_sessions_per_address(2)).await;
        let address = server.local_addr();
        let served = blocking(move || {
            ["127.0.0.1", "127.0.0.2"]
                .map(|source| (0..4).filter_map(|_| is_served(source, address)).collect::<Vec<_>>())
        })
        .await;
        assert_eq!([served[0].len(), served[1].len()], [2, 2]);
        assert_eq!(server.stats().refused.too_many_of_address, 4);
        drop(served);
        until::<R>("all have left", || server.sessions() == 0).await;
        assert!(blocking(move || is_served("127.0.0.2", address)).await.is_some());
    });
}

/// A server over TLS that lets a handshake take longer than the test.
async fn over_tls<R: TestRuntime>(world: &World, limits: ServerLimits) -> (Server<R>, Log) {
    let identity = Identity::from_pem(world.server.certificate.as_bytes(), world.server.key.as_bytes());
    let log = Log::default();
    let kept = log.clone();
    let server = server::<R>()
        .limits(limits)
        .config(Config::builder().handshake_timeout(secs(60)).build().unwrap())
        .tls(ServerTls::new(identity.unwrap()).unwrap())
        .tcp("127.0.0.1:0", framed(LengthDelimited::new), move || Recorder::echo().0.log_to(&kept))
        .await;
    (server.unwrap(), log)
}

fn handshakes_under_way_make_room_for_new_ones<R: TestRuntime>() {
    R::block_on(async {
        let world = World::new();
        let (server, log) = over_tls::<R>(&world, ServerLimits::new().max_opening(2)).await;
        let address = server.local_addr();
        let mut silent = Vec::new();
        for n in 1..=2 {
            silent.push(TcpStream::connect(address).unwrap());
            until::<R>("it is opening", || server.stats().opening == n).await;
        }
        let tls = ClientTls::builder().roots_pem(world.authority.pem()).server_name("localhost").build();
        let (client, text) = (client::<R>().tls(tls.unwrap()), address.to_string());
        let connecting = client.tcp_connection(&text, Framed::new(LengthDelimited::new()));
        let mut client = connecting.await.unwrap();
        client.send(Bytes::from("hello")).await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), "hello");
        until::<R>("the oldest has left", || log.count("on_close: a newer session took its place") == 1)
            .await;
        let stats = server.stats();
        assert_eq!((stats.sessions, stats.opening, stats.displaced), (2, 1, 1));
        assert_eq!(stats.refused.total(), 0);
        let mut oldest = silent.remove(0);
        assert!(!matches!(blocking(move || oldest.read(&mut [0])).await, Ok(1..)));
        drop(silent);
        until::<R>("the other has left", || server.stats().opening == 0).await;
    });
}

fn an_address_that_has_its_share_takes_nobodys_place<R: TestRuntime>() {
    R::block_on(async {
        let world = World::new();
        let limits = ServerLimits::new().max_opening(2).max_sessions_per_address(2);
        let (server, _) = over_tls::<R>(&world, limits).await;
        let address = server.local_addr();
        let _silent: Vec<_> = (0..5).map(|_| TcpStream::connect(address).unwrap()).collect();
        until::<R>("all were seen", || server.stats().accepted == 5).await;
        let stats = server.stats();
        assert_eq!((stats.refused.too_many_of_address, stats.displaced), (3, 0));
        blocking(move || is_served("127.0.0.2", address)).await; // it fails, since it speaks no TLS
        until::<R>("another address is accepted", || server.stats().displaced == 1).await;
    });
}

fn more_connections_than_may_be_accepted_at_once_wait<R: TestRuntime>() {
    R::block_on(async {
        let server = limited::<R>(ServerLimits::new().accepts_per_second(20)).await;
        let address = server.local_addr();
        let began = std::time::Instant::now();
        let served: Vec<_> =
            blocking(move || (0..30).filter_map(|_| is_served("127.0.0.1", address)).collect()).await;
        assert_eq!(served.len(), 30, "none is refused");
        // 20 are accepted at once, and the last of the other 10 after 450 ms at the earliest.
        assert!(began.elapsed() >= 400 * MS, "{:?}", began.elapsed());
    });
}

fn sessions_tell_of_themselves<R: TestRuntime>() {
    R::block_on(async {
        let log = Log::default();
        let kept = log.clone();
        // The messages of this listener are not read, so they are queued.
        let listener = move || {
            let (recorder, _) = Recorder::new(|cx, happening| {
                if let Happening::Message(_) = happening {
                    (0..20).for_each(|_| drop(cx.send(Bytes::from(vec![0; 1 << 20]))));
                }
                Then::Default
            });
            recorder.log_to(&kept)
        };
        let config = Config::builder().watermarks(1, 2).max_queued(64 << 20).build().unwrap();
        let builder = server::<R>().config(config);
        let server = builder.tcp("127.0.0.1:0", framed(LengthDelimited::new), listener).await.unwrap();
        assert!(server.list().await.is_empty());
        let mut idle = connect::<R>(server.local_addr()).await;
        idle.opened().await.unwrap();
        let mut busy = TcpStream::connect(server.local_addr()).unwrap();
        let address = busy.local_addr().unwrap();
        busy.write_all(&frame(b"fill")).unwrap();
        until::<R>("the message came", || log.count("on_message") == 1).await;
        let mut all = server.list().await;
        all.sort_by_key(|info| info.stats.queued);
        let [quiet, full] = &all[..] else { panic!("expected two sessions: {all:?}") };
        assert!(quiet.id != full.id && quiet.is_open && full.is_open);
        assert_eq!(full.local, Some(server.local_addr()));
        assert_eq!(full.peer, Some(address));
        assert_eq!((quiet.stats.queued, quiet.stats.received.messages), (0, 0));
        assert!(full.stats.queued > 1 << 20 && full.stats.received.messages == 1, "{full:?}");
        assert!(full.last_active >= full.since && quiet.last_active >= quiet.since);
    });
}

fn sessions_that_end_meanwhile_hold_up_nobody<R: TestRuntime>() {
    R::block_on(async {
        let server = limited::<R>(ServerLimits::new()).await;
        for _ in 0..20 {
            let mut clients = Vec::new();
            for _ in 0..10 {
                clients.push(connect::<R>(server.local_addr()).await);
            }
            let closing = async {
                for mut client in clients {
                    client.close(Close::abort()).await;
                }
            };
            let (all, (), again) = futures::join!(server.list(), closing, server.list());
            assert!(all.len() <= 10 && again.len() <= 10);
            until::<R>("all have left", || server.sessions() == 0).await;
        }
        assert!(server.list().await.is_empty());
    });
}

fn who_comes_meanwhile_holds_up_nobody<R: TestRuntime>() {
    R::block_on(async {
        let server = limited::<R>(ServerLimits::new()).await;
        let connect = || async {
            let mut client = connect::<R>(server.local_addr()).await;
            client.send(Bytes::from("hello")).await.unwrap();
            client.recv().await.unwrap();
            client
        };
        let _one = connect().await;
        for _ in 0..20 {
            let mut list = std::pin::pin!(server.list());
            let early = futures::poll!(list.as_mut()).is_ready();
            let _other = connect().await;
            if !early {
                assert!(!list.await.is_empty());
            }
        }
    });
}

fn peers_of_a_socket_are_listed<R: TestRuntime>() {
    R::block_on(async {
        let builder = server::<R>();
        let make = |_| Some(Recorder::echo().0);
        let server = builder.udp_peers("127.0.0.1:0", PeerLimits::new(), Raw, make).await.unwrap();
        let address = server.local_addr().to_string();
        let mut clients = Vec::new();
        for _ in 0..3 {
            let (recorder, log) = Recorder::quiet();
            let handle = client::<R>().udp(&address, Raw, recorder).await.unwrap();
            handle.send(Bytes::from("hello")).await.unwrap();
            until::<R>("the echo came", || log.count("on_message") == 1).await;
            clients.push(handle);
        }
        let mut told: Vec<_> = server.list().await.into_iter().map(|info| info.peer).collect();
        let mut expected: Vec<_> = clients.iter().map(|handle| handle.local_addr()).collect();
        told.sort();
        expected.sort();
        assert_eq!(told, expected);
        let stats = server.stats();
        assert_eq!((stats.sessions, stats.opening), (3, 0));
    });
}
