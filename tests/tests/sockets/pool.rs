//! Pools on real runtimes: servers that end sessions, disappear and come back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use getty_core::codec::{Decoded, Decoder, Encoder, LengthDelimited, Sink, Source};
use getty_core::websocket::{ClientRequest, Message, ServerOptions, WebSocket, Whole};
use getty_core::{Backoff, Close, framed};
use getty_driver::tls::{ClientTls, Identity, ServerTls};
use getty_driver::{Client, Pool, PoolOptions, Server, Spawn};

use crate::driver_common::recorder::{Happening, Log, Recorder, Then};
use crate::driver_common::runtimes::{Own, TestRuntime, client, serve, server, until};
use crate::driver_common::socket::Socket;
use crate::driver_common::*;
use crate::on_every_runtime;
use crate::tls_common::World;

on_every_runtime!(
    it_is_kept_filled_while_the_server_ends_sessions,
    all_sessions_are_back_when_the_server_is,
    a_dead_address_does_not_matter,
    nothing_is_lost_when_addresses_change,
    what_this_end_closes_is_replaced_too,
    nothing_is_left_of_a_pool,
    panics_end_one_session,
    over_tls,
    a_handshake_that_fails_is_named,
    over_unix_sockets,
    over_web_sockets,
);

/// Options with short waits, to keep tests short.
fn options(sessions: usize) -> PoolOptions {
    let backoff = Backoff::new().first(Duration::from_millis(10)).cap(Duration::from_millis(50));
    PoolOptions::new().sessions(sessions).backoff(backoff)
}

fn pool<R: TestRuntime>(addresses: &[SocketAddr], sessions: usize) -> (Pool<R, Bytes>, Log) {
    let log = Log::default();
    let kept = log.clone();
    let listener = move || Recorder::quiet().0.log_to(&kept);
    let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    let pool = client::<R>().pool(options(sessions)).tcp(addresses, framed(LengthDelimited::new), listener);
    (pool.unwrap(), log)
}

/// A server whose sessions end on request.
async fn mortal<R: TestRuntime>(address: &str) -> Server<R> {
    let listener = || {
        let mortal = Recorder::new(|cx, happening| {
            match happening {
                Happening::Message(message) if message == "die" => cx.close(Close::abort()),
                Happening::Message(message) => drop(cx.send(message).unwrap()),
                _ => {}
            }
            Then::Default
        });
        mortal.0
    };
    server::<R>().tcp(address, framed(LengthDelimited::new), listener).await.unwrap()
}

/// An address on which nothing listens. The socket keeps it from being given to others.
fn dead() -> (SocketAddr, socket2::Socket) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    (socket.local_addr().unwrap().as_socket().unwrap(), socket)
}

fn it_is_kept_filled_while_the_server_ends_sessions<R: TestRuntime>() {
    R::block_on(async {
        let server = mortal::<R>("127.0.0.1:0").await;
        let (pool, log) = pool::<R>(&[server.local_addr()], 3);
        pool.wait_ready(secs(20)).await.unwrap();
        pool.send(Bytes::from("hello")).await.unwrap();
        until::<R>("the echo", || log.count("on_message: hello") == 1).await;
        for round in 1..=3 {
            pool.wait_all(secs(20)).await.unwrap();
            let sessions = pool.sessions();
            for session in &sessions {
                session.send(Bytes::from("die")).await.unwrap();
            }
            for session in &sessions {
                session.closed().await;
            }
            until::<R>("each is reported", || log.count("on_close") == 3 * round).await;
        }
        pool.wait_all(secs(20)).await.unwrap();
        until::<R>("the server has them all", || server.sessions() == 3).await;
        assert_eq!(pool.close(secs(5)).await.aborted, 0);
        assert_eq!((log.count("on_open"), log.count("on_close")), (12, 12));
    });
}

fn all_sessions_are_back_when_the_server_is<R: TestRuntime>() {
    R::block_on(async {
        let first = serve::<R>(|| Recorder::echo().0).await;
        let address = first.local_addr();
        let (pool, log) = pool::<R>(&[address], 4);
        pool.wait_all(secs(20)).await.unwrap();
        first.shutdown(secs(5)).await;
        until::<R>("all have ended", || log.count("on_close") == 4).await;
        until::<R>("some attempts have failed", || pool.stats().addresses[0].failures > 3).await;
        assert!(pool.try_send(Bytes::new()).is_err());
        let sending = pool.send(Bytes::from("waits for the server"));
        let name = address.to_string();
        let (second, sent) = futures::join!(mortal::<R>(&name), sending);
        sent.unwrap();
        pool.wait_all(secs(20)).await.unwrap();
        until::<R>("the server has them all", || second.sessions() == 4).await;
        until::<R>("the echo", || log.count("on_message: waits for the server") == 1).await;
    });
}

fn a_dead_address_does_not_matter<R: TestRuntime>() {
    R::block_on(async {
        let server = serve::<R>(|| Recorder::echo().0).await;
        let (dead, _socket) = dead();
        let (pool, _) = pool::<R>(&[dead, server.local_addr()], 4);
        pool.wait_all(secs(20)).await.unwrap();
        let stats = pool.stats();
        assert_eq!((stats.addresses[0].open, stats.addresses[1].open), (0, 4));
        // With only this address, the error names it.
        let (pool, _) = self::pool::<R>(&[dead], 1);
        until::<R>("it was tried", || pool.stats().addresses[0].failures > 0).await;
        let error = pool.wait_ready(Duration::from_millis(300)).await.unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(&format!("0 of 1 sessions are open after 300ms: {dead}: ")), "{text}");
        assert!(text.contains("refused"), "{text}");
    });
}

fn nothing_is_lost_when_addresses_change<R: TestRuntime>() {
    const ROUNDS: usize = 20;
    R::block_on(async {
        let served = Log::default();
        let serve = async || {
            let kept = served.clone();
            let listener = move || Recorder::quiet().0.log_to(&kept);
            server::<R>().tcp("127.0.0.1:0", framed(LengthDelimited::new), listener).await.unwrap()
        };
        let servers = [serve().await, serve().await];
        let addresses = servers.each_ref().map(Server::local_addr);
        let (pool, log) = pool::<R>(&addresses[..1], 3);
        for round in 1..=ROUNDS {
            for _ in 0..10 {
                pool.send(Bytes::from("hello")).await.unwrap();
            }
            pool.set_addresses([addresses[round % 2].to_string()]);
        }
        until::<R>("all messages", || served.count("on_message: hello") == 10 * ROUNDS).await;
        let is_done = || pool.stats().closing == 0 && pool.stats().open == 3;
        until::<R>("the sessions that had to leave are over", is_done).await;
        assert_eq!(servers.each_ref().map(Server::sessions), [3, 0]);
        assert_eq!(log.count("on_close: closed by this end"), log.count("on_close"));
    });
}

fn what_this_end_closes_is_replaced_too<R: TestRuntime>() {
    R::block_on(async {
        let server = serve::<R>(|| Recorder::echo().0).await;
        let (pool, log) = pool::<R>(&[server.local_addr()], 1);
        pool.wait_ready(secs(20)).await.unwrap();
        let session = pool.get().unwrap();
        session.close(Close::graceful());
        assert!(session.closed().await.is_clean());
        until::<R>("another one", || pool.get().is_some_and(|other| other.id() != session.id())).await;
        assert_eq!(log.count("on_close: closed by this end"), 1);
    });
}

/// Counts tasks.
struct Counting<R>(Own<R>, Arc<AtomicUsize>);

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<R, F> Spawn<F> for Counting<R>
where
    R: TestRuntime,
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn spawn(&self, future: F) {
        self.1.fetch_add(1, Ordering::SeqCst);
        let counted = Counted(self.1.clone());
        self.0.spawn(async move {
            let output = future.await;
            drop(counted);
            output
        });
    }
}

fn nothing_is_left_of_a_pool<R: TestRuntime>() {
    R::block_on(async {
        let server = serve::<R>(|| Recorder::echo().0).await;
        let (dead, _socket) = dead();
        let tasks = Arc::new(AtomicUsize::new(0));
        let pool = |address: SocketAddr| {
            let spawner = Counting(Own::<R>::new(), tasks.clone());
            let hour = Backoff::new().first(secs(3600)).cap(secs(3600));
            Client::<R>::builder()
                .spawner(spawner)
                .pool(PoolOptions::new().sessions(3).backoff(hour))
                .tcp([address.to_string()], framed(LengthDelimited::new), || Recorder::quiet().0)
                .unwrap()
        };
        for is_dropped in [false, true] {
            for address in [dead, server.local_addr()] {
                let pool: Pool<R, Bytes> = pool(address);
                if address == dead {
                    until::<R>("they wait", || pool.stats().waiting == 3).await;
                } else {
                    pool.wait_all(secs(20)).await.unwrap();
                }
                assert_eq!(tasks.load(Ordering::SeqCst), 3);
                if is_dropped {
                    drop(pool);
                } else {
                    assert_eq!(pool.close(secs(20)).await.aborted, 0);
                }
                until::<R>("no task is left", || tasks.load(Ordering::SeqCst) == 0).await;
                until::<R>("no session is left", || server.sessions() == 0).await;
            }
        }
        // Next, a pool that is dropped while it connects.
        drop(pool(server.local_addr()));
        until::<R>("no task is left", || tasks.load(Ordering::SeqCst) == 0).await;
        until::<R>("no session is left", || server.sessions() == 0).await;
    });
}

/// Panics at items that begin with `!`.
#[derive(Debug, Default)]
struct Fragile(LengthDelimited);

impl Decoder for Fragile {
    type Item = Bytes;
    type Error = <LengthDelimited as Decoder>::Error;

    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<Bytes>, Self::Error> {
        if src.get(4) == Some(&b'!') {
            std::panic::resume_unwind(Box::new("the codec"));
        }
        self.0.decode(src)
    }
}

impl Encoder<Bytes> for Fragile {
    type Error = <LengthDelimited as Encoder<Bytes>>::Error;

    fn encode(&mut self, item: Bytes, dst: &mut Sink<'_>) -> Result<(), Self::Error> {
        self.0.encode(item, dst)
    }
}

fn panics_end_one_session<R: TestRuntime>() {
    R::block_on(async {
        let server = serve::<R>(|| Recorder::echo().0).await;
        let (panics, made) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (count, log) = (panics.clone(), Log::default());
        let (kept, maker) = (log.clone(), made.clone());
        // Making the first listener fails. Those after it panic at a message.
        let listener = move || {
            if maker.fetch_add(1, Ordering::SeqCst) == 0 {
                std::panic::resume_unwind(Box::new("no listener"));
            }
            let fragile = Recorder::new(|_, happening| {
                if let Happening::Message(message) = happening
                    && message == "panic"
                {
                    std::panic::resume_unwind(Box::new("the listener"));
                }
                Then::Default
            });
            fragile.0.log_to(&kept)
        };
        let pool = client::<R>()
            .on_panic(move |_, _| {
                count.fetch_add(1, Ordering::SeqCst);
            })
            .pool(options(1))
            .tcp([server.local_addr().to_string()], framed(Fragile::default), listener)
            .unwrap();
        for (round, poison) in ["panic", "!codec"].into_iter().enumerate() {
            pool.send(Bytes::from(poison)).await.unwrap();
            until::<R>("it panics", || panics.load(Ordering::SeqCst) == round + 2).await;
        }
        pool.send(Bytes::from("well")).await.unwrap();
        until::<R>("it goes on", || log.count("on_message: well") == 1).await;
        assert_eq!(made.load(Ordering::SeqCst), 4);
    });
}

fn server_tls(world: &World) -> ServerTls {
    let signed = &world.server;
    ServerTls::new(Identity::from_pem(signed.certificate.as_bytes(), signed.key.as_bytes()).unwrap()).unwrap()
}

fn client_tls(world: &World) -> ClientTls {
    ClientTls::builder().roots_pem(world.authority.pem()).server_name("localhost").build().unwrap()
}

async fn tls_echo<R: TestRuntime>(world: &World) -> Server<R> {
    let server = server::<R>().tls(server_tls(world));
    server.tcp("127.0.0.1:0", framed(LengthDelimited::new), || Recorder::echo().0).await.unwrap()
}

fn over_tls<R: TestRuntime>() {
    R::block_on(async {
        let world = World::new();
        let server = tls_echo::<R>(&world).await;
        let (log, tls) = (Log::default(), client_tls(&world));
        let kept = log.clone();
        let pool = client::<R>()
            .tls(tls)
            .pool(options(2))
            .tcp([server.local_addr().to_string()], framed(LengthDelimited::new), move || {
                Recorder::quiet().0.log_to(&kept)
            })
            .unwrap();
        pool.wait_all(secs(20)).await.unwrap();
        pool.send(Bytes::from("sealed")).await.unwrap();
        until::<R>("the echo", || log.count("on_message: sealed") == 1).await;
        assert_eq!(pool.close(secs(20)).await.aborted, 0);
    });
}

/// No session is open or usable before the server has shown its certificate.
fn a_handshake_that_fails_is_named<R: TestRuntime>() {
    R::block_on(async {
        let server = tls_echo::<R>(&World::new()).await;
        let somebody_else = World::new();
        let pool = client::<R>()
            .tls(client_tls(&somebody_else))
            .pool(options(2))
            .tcp([server.local_addr().to_string()], framed(LengthDelimited::new), || Recorder::quiet().0)
            .unwrap();
        let failed = || pool.stats().addresses[0].failures >= 3;
        until::<R>("it has failed and tried again", failed).await;
        assert!(pool.get().is_none());
        assert!(pool.try_send(Bytes::new()).is_err());
        let error = pool.wait_ready(Duration::from_millis(10)).await.unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
    });
}

#[cfg(not(unix))]
fn over_unix_sockets<R: TestRuntime>() {}

#[cfg(unix)]
fn over_unix_sockets<R: TestRuntime>() {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    R::block_on(async {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("getty-pool-{}-{number}", std::process::id()));
        let serve =
            || server::<R>().unix(&path, framed(LengthDelimited::new), || Recorder::echo().0).unwrap();
        let first = serve();
        let log = Log::default();
        let kept = log.clone();
        let pool = client::<R>()
            .pool(options(2))
            .unix([&path], framed(LengthDelimited::new), move || Recorder::quiet().0.log_to(&kept))
            .unwrap();
        pool.wait_all(secs(20)).await.unwrap();
        first.shutdown(secs(5)).await;
        until::<R>("all have ended", || log.count("on_close") == 2).await;
        let _second = serve();
        pool.send(Bytes::from("again")).await.unwrap();
        until::<R>("the echo", || log.count("on_message: again") == 1).await;
    });
}

fn over_web_sockets<R: TestRuntime>() {
    R::block_on(async {
        let served = Log::default();
        let kept = served.clone();
        let server = server::<R>()
            .tcp("127.0.0.1:0", WebSocket::serving(ServerOptions::new()), move || Socket::echo(&kept))
            .await
            .unwrap();
        let log = Log::default();
        let kept = log.clone();
        let request = ClientRequest::new(&format!("ws://{}/", server.local_addr())).unwrap();
        let pool = client::<R>()
            .pool(options(2))
            .websocket([request], || Whole, move || Socket::new(&kept))
            .unwrap();
        pool.wait_all(secs(20)).await.unwrap();
        pool.send(Message::from("framed")).await.unwrap();
        until::<R>("the echo", || log.count("on_message") == 1).await;
        let session = pool.get().unwrap();
        session.close(Close::abort());
        session.closed().await;
        pool.wait_all(secs(20)).await.unwrap();
        assert_eq!(pool.close(secs(20)).await.aborted, 0);
    });
}
