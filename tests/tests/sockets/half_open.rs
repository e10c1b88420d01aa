//! Peers that vanish without a FIN or a reset, as when their host loses power or the network fails. Each end
//! can notice only by its own deadlines.
//!
//! A proxy loses the connection in one of two ways: bytes are swallowed, or no longer taken. One test cuts a
//! real network instead.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use getty_core::codec::LengthDelimited;
use getty_core::websocket::{ClientRequest, Message, ServerOptions, WebSocket, Whole};
use getty_core::{Backoff, Close, Config, Framed, Idle, SendError, framed};
use getty_driver::tls::{ClientTls, Identity, ServerTls};
use getty_driver::{
    ClientBuilder, Handle, NotFlushed, Pool, PoolOptions, Server, ServerBuilder, ServerLimits, TcpOptions,
};

use crate::driver_common::proxy::{Links, Loss, Proxy};
use crate::driver_common::recorder::{Happening, Log, Recorder, Then};
use crate::driver_common::runtimes::{Own, TestRuntime, client, server, until};
use crate::driver_common::socket::Socket;
use crate::driver_common::*;
use crate::on_every_runtime;
use crate::tls_common::World;

on_every_runtime!(
    who_vanished_is_let_go_and_leaves_a_free_place,
    both_ends_miss_the_pong,
    a_stalled_write_ends_the_session_and_tells_the_fate_of_each_message,
    a_pool_replaces_what_it_lost,
    a_graceful_close_ends_by_its_deadline,
    a_shutdown_ends_with_its_grace,
    the_network_goes_away_and_comes_back,
);

const LOSSES: [Loss; 2] = [Loss::Swallowed, Loss::NotTaken];

const NO_PONG: &str = "on_close: timed out: the peer did not answer a ping (Config::pong_timeout)";
const STALLED: &str = "on_close: timed out: the peer took no bytes (Config::write_stall_timeout)";
const NOT_CLOSED: &str = "on_close: timed out: the close was not done in time (Config::close_timeout)";

/// Every way of losing a peer, with and without TLS.
fn all_ways() -> impl Iterator<Item = (Loss, Option<World>)> {
    LOSSES.into_iter().flat_map(|loss| [(loss, None), (loss, Some(World::new()))])
}

/// Serves the plain codec, over TLS if `world` is given.
async fn serve<R: TestRuntime>(
    builder: ServerBuilder<R, Own<R>>,
    world: Option<&World>,
    listener: impl Fn() -> Recorder + Send + 'static,
) -> Server<R> {
    let address = "127.0.0.1:0";
    let Some(World { server, .. }) = world else {
        return builder.tcp(address, framed(LengthDelimited::new), listener).await.unwrap();
    };
    let identity = Identity::from_pem(server.certificate.as_bytes(), server.key.as_bytes()).unwrap();
    let builder = builder.tls(ServerTls::new(identity).unwrap());
    builder.tcp(address, framed(LengthDelimited::new), listener).await.unwrap()
}

/// Connects a client and waits for its first echo, so that the session is open at both ends.
async fn connect<R: TestRuntime>(
    builder: ClientBuilder<R, Own<R>>,
    world: Option<&World>,
    address: SocketAddr,
) -> (Handle<Bytes>, Log) {
    let (recorder, log) = Recorder::quiet();
    let (address, protocol) = (address.to_string(), Framed::new(LengthDelimited::new()));
    let connected = match world {
        None => builder.tcp(&address, protocol, recorder).await,
        Some(world) => {
            let tls = ClientTls::builder().roots_pem(world.authority.pem()).server_name("localhost");
            builder.tls(tls.build().unwrap()).tcp(&address, protocol, recorder).await
        }
    };
    let handle = connected.unwrap();
    handle.send(Bytes::from("hello")).await.unwrap();
    until::<R>("the echo", || log.count("on_message: hello") == 1).await;
    (handle, log)
}

/// Ending an idle session is up to the listener. This listener does so once its peer is lost. A message tells
/// it to lose the peer, so that earlier silence does not matter.
fn who_vanished_is_let_go_and_leaves_a_free_place<R: TestRuntime>() {
    R::block_on(async {
        for (loss, world) in all_ways() {
            let served = Log::default();
            let links = Arc::<OnceLock<Links>>::default();
            let (kept, losing) = (served.clone(), links.clone());
            let listener = move || {
                let (losing, mut is_lost) = (losing.clone(), false);
                let recorder = Recorder::new(move |cx, happening| {
                    match happening {
                        Happening::Message(message) if message == "vanish" => {
                            losing.get().unwrap().lose(loss);
                            is_lost = true;
                        }
                        Happening::Message(message) => drop(cx.send(message).unwrap()),
                        Happening::Idle(Idle::Read) if is_lost => cx.close(Close::abort()),
                        _ => {}
                    }
                    Then::Default
                });
                recorder.0.log_to(&kept)
            };
            let limits = ServerLimits::new().max_sessions(1);
            let builder = server::<R>().limits(limits).config(config(|c| c.idle_read(100 * MS)));
            let server = serve(builder, world.as_ref(), listener).await;
            let proxy = Proxy::to(server.local_addr());
            assert!(links.set(proxy.links()).is_ok());

            let (lost, log) = connect(client::<R>(), world.as_ref(), proxy.address()).await;
            lost.send(Bytes::from("vanish")).await.unwrap();
            until::<R>("its place is free", || server.sessions() == 0).await;
            assert_eq!(served.count("on_close: closed by this end"), 1);
            assert_eq!(
                (log.count("on_close"), lost.is_closed()),
                (0, false),
                "the other end has not noticed"
            );

            let _next = connect(client::<R>(), world.as_ref(), proxy.address()).await;
            let stats = server.stats();
            assert_eq!((stats.sessions, stats.accepted, stats.refused.total()), (1, 2, 0));
        }
    });
}

/// Pings often, with much more time for the reply, so that a busy machine causes no timeout.
fn heartbeats() -> Arc<Config> {
    config(|c| c.heartbeat_period(20 * MS).pong_timeout(secs(2)))
}

async fn serve_websocket<R: TestRuntime>(builder: ServerBuilder<R, Own<R>>, log: &Log) -> Server<R> {
    let log = log.clone();
    builder
        .tcp("127.0.0.1:0", WebSocket::serving(ServerOptions::new()), move || Socket::echo(&log))
        .await
        .unwrap()
}

fn url(address: SocketAddr) -> ClientRequest {
    ClientRequest::new(&format!("ws://{address}/")).unwrap()
}

fn both_ends_miss_the_pong<R: TestRuntime>() {
    R::block_on(async {
        let lose = async |loss| {
            let (served, log) = (Log::default(), Log::default());
            let server = serve_websocket(server::<R>().config(heartbeats()), &served).await;
            let proxy = Proxy::to(server.local_addr());
            let client = client::<R>().config(heartbeats());
            let handle = client.websocket(url(proxy.address()), Whole, Socket::new(&log)).await.unwrap();
            let answered = || served.count("on_pong") >= 3 && log.count("on_pong") >= 3;
            until::<R>("pings are answered", answered).await;
            proxy.lose(loss);
            until::<R>("both notice", || served.count("on_close") + log.count("on_close") == 2).await;
            assert_eq!((served.count(NO_PONG), log.count(NO_PONG)), (1, 1), "{:?}", log.take().pop());
            until::<R>("nothing is left", || server.sessions() == 0 && handle.is_closed()).await;
        };
        futures::join!(lose(Loss::Swallowed), lose(Loss::NotTaken));
    });
}

fn a_stalled_write_ends_the_session_and_tells_the_fate_of_each_message<R: TestRuntime>() {
    const SIZE: usize = 5 << 20;
    R::block_on(async {
        let server = serve(server::<R>(), None, || Recorder::echo().0).await;
        let proxy = Proxy::to(server.local_addr());
        // The session's queue has room for two messages, and the system's buffers have room for none.
        let config = config(|c| {
            c.write_stall_timeout(secs(1)).watermarks(1 << 20, SIZE + 1000).max_queued(2 * SIZE + 1000)
        });
        let options = TcpOptions::new().send_buffer(8 * 1024);
        let builder = client::<R>().config(config).tcp_options(options);
        let (handle, log) = connect(builder, None, proxy.address()).await;
        proxy.lose(Loss::NotTaken);
        let send = |byte| handle.send_flushed(Bytes::from(vec![byte; SIZE]));
        let (first, second, third) = futures::join!(send(1), send(2), send(3));
        let Err(NotFlushed::Partly(first)) = first else { panic!("{first:?}") };
        let Err(NotFlushed::Unwritten(second)) = second else { panic!("{second:?}") };
        assert!(first < second);
        // The item that the session did not accept is given back from wherever it waited.
        let back = match third {
            Err(NotFlushed::Dropped) => handle.take_unsent(),
            Err(NotFlushed::NotSent(SendError::Closed(item))) => vec![item],
            third => panic!("{third:?}"),
        };
        assert_eq!(back, [vec![3; SIZE]]);
        assert_eq!(log.take(), ["on_open", "on_message: hello", STALLED]);
    });
}

fn pool<R: TestRuntime>(address: SocketAddr, log: &Log) -> Pool<R, Message, ClientRequest> {
    let log = log.clone();
    let backoff = Backoff::new().first(10 * MS).cap(50 * MS);
    let client = client::<R>().config(heartbeats()).connect_timeout(200 * MS);
    client
        .pool(PoolOptions::new().backoff(backoff))
        .websocket([url(address)], || Whole, move || Socket::new(&log))
        .unwrap()
}

/// Sends `text` through a session of the pool, and waits for its echo.
async fn echo<R: TestRuntime>(pool: &Pool<R, Message, ClientRequest>, log: &Log, text: &'static str) {
    pool.wait_all(secs(20)).await.unwrap();
    pool.send(Message::text(text)).await.unwrap();
    until::<R>("the echo", || log.count(&format!("on_message: {text}")) == 1).await;
}

fn without_pongs(log: &Log) -> Vec<String> {
    log.take().into_iter().filter(|event| event != "on_pong").collect()
}

fn a_pool_replaces_what_it_lost<R: TestRuntime>() {
    R::block_on(async {
        let lose = async |loss| {
            let (served, log) = (Log::default(), Log::default());
            let server = serve_websocket(server::<R>(), &served).await;
            let proxy = Proxy::to(server.local_addr());
            let pool = pool::<R>(proxy.address(), &log);
            echo(&pool, &log, "hello").await;
            proxy.lose(loss);
            until::<R>("it notices", || log.count("on_close") == 1).await;
            echo(&pool, &log, "again").await;
            let expected = ["on_open", "on_message: hello", NO_PONG, "on_open", "on_message: again"];
            assert_eq!(without_pongs(&log), expected);
            assert_eq!(server.sessions(), 2, "the server, which sends no pings, has not noticed");
            assert_eq!(served.count("on_close"), 0);
        };
        futures::join!(lose(Loss::Swallowed), lose(Loss::NotTaken));
    });
}

fn a_graceful_close_ends_by_its_deadline<R: TestRuntime>() {
    R::block_on(async {
        for (loss, world) in all_ways() {
            let server = serve(server::<R>(), world.as_ref(), || Recorder::echo().0).await;
            let proxy = Proxy::to(server.local_addr());
            let builder = client::<R>().config(config(|c| c.close_timeout(100 * MS)));
            let (handle, log) = connect(builder, world.as_ref(), proxy.address()).await;
            proxy.lose(loss);
            handle.close(Close::graceful());
            handle.closed().await;
            assert_eq!(log.take(), ["on_open", "on_message: hello", NOT_CLOSED], "{loss:?}");
            assert_eq!(server.sessions(), 1, "the server has not noticed");
        }
    });
}

fn a_shutdown_ends_with_its_grace<R: TestRuntime>() {
    R::block_on(async {
        for (loss, world) in all_ways() {
            // Each case ends by the earlier of two limits: the close timeout of the session, or the grace
            // period.
            for (close, grace, aborted, reason) in
                [(100 * MS, secs(60), 0, NOT_CLOSED), (secs(60), 100 * MS, 1, "on_close: closed by this end")]
            {
                let served = Log::default();
                let kept = served.clone();
                let builder = server::<R>().config(config(|c| c.close_timeout(close)));
                let server = serve(builder, world.as_ref(), move || Recorder::echo().0.log_to(&kept)).await;
                let proxy = Proxy::to(server.local_addr());
                let (handle, _) = connect(client::<R>(), world.as_ref(), proxy.address()).await;
                proxy.lose(loss);
                assert_eq!(server.shutdown(grace).await.aborted, aborted, "{loss:?}");
                let told = served.take();
                assert_eq!(told, ["on_open", "on_message: hello", "on_shutdown", reason], "{loss:?}");
                assert!(!handle.is_closed(), "the client has not noticed");
            }
        }
    });
}

fn set_network(up: &str) {
    assert!(Command::new("ip").args(["link", "set", "lo", up]).status().unwrap().success());
}

/// Without a proxy: packets are lost, and connections can't be made.
fn the_network_goes_away_and_comes_back<R: TestRuntime>() {
    if !namespace::is_inside("ip link set lo up") {
        return;
    }
    R::block_on(async {
        let (served, log) = (Log::default(), Log::default());
        let limits = ServerLimits::new().max_sessions(1);
        let server = serve_websocket(server::<R>().limits(limits).config(heartbeats()), &served).await;
        let pool = pool::<R>(server.local_addr(), &log);
        echo(&pool, &log, "hello").await;
        set_network("down");
        until::<R>("both notice", || served.count(NO_PONG) + log.count(NO_PONG) == 2).await;
        until::<R>("it tries again", || pool.stats().addresses[0].failures > 3).await;
        assert_eq!(without_pongs(&log), ["on_open", "on_message: hello", NO_PONG]);
        set_network("up");
        echo(&pool, &log, "again").await;
        assert_eq!(without_pongs(&log), ["on_open", "on_message: again"]);
        assert_eq!((server.sessions(), server.stats().refused.total()), (1, 0));
    });
}
