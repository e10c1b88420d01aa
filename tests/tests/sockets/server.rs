//! Servers: their port, their sessions and their shutdown, over real sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use getty_core::codec::LengthDelimited;
use getty_core::{Close, framed};
use getty_driver::{Context, Listener, Server};

use crate::driver_common::recorder::{Log, Recorder, Then};
use crate::driver_common::runtimes::{TestRuntime, blocking, connect, serve, server, until};
use crate::driver_common::*;
use crate::on_every_runtime;

on_every_runtime!(
    clients_are_served_and_counted,
    a_shutdown_is_graceful,
    a_shutdown_aborts_who_ignores_it,
    dropping_a_server_aborts_and_closes_the_port,
    an_address_that_can_not_be_is_named,
    servers_may_share_a_port,
);

async fn echo_server<R: TestRuntime>() -> (Server<R>, Log) {
    let log = Log::default();
    let kept = log.clone();
    let server = serve::<R>(move || Recorder::echo().0.log_to(&kept)).await;
    (server, log)
}

fn clients_are_served_and_counted<R: TestRuntime>() {
    R::block_on(async {
        let (server, log) = echo_server::<R>().await;
        assert_ne!(server.local_addr().port(), 0);
        assert_eq!(server.sessions(), 0);
        let mut clients = Vec::new();
        for n in 0..20 {
            let mut client = connect::<R>(server.local_addr()).await;
            client.send(Bytes::from(n.to_string())).await.unwrap();
            assert_eq!(client.recv().await.unwrap().unwrap(), n.to_string());
            clients.push(client);
        }
        assert_eq!(server.sessions(), 20);
        clients.truncate(5);
        until::<R>("sessions end", || server.sessions() == 5).await;
        assert_eq!(log.count("on_close: closed by the peer"), 15);
    });
}

fn a_shutdown_is_graceful<R: TestRuntime>() {
    R::block_on(async {
        let (server, log) = echo_server::<R>().await;
        let mut client = connect::<R>(server.local_addr()).await;
        for n in 0..100 {
            client.feed(Bytes::from(n.to_string())).await.unwrap();
        }
        client.flush().await.unwrap();
        until::<R>("all messages have come", || log.count("on_message") == 100).await;
        let address = server.local_addr();
        let (down, ()) = futures::join!(server.shutdown(secs(20)), async {
            for n in 0..100 {
                assert_eq!(client.recv().await.unwrap().unwrap(), n.to_string(), "echoes come first");
            }
            assert!(client.recv().await.unwrap().is_none(), "then a clean end");
            assert!(client.close(Close::graceful()).await.is_clean());
        });
        assert_eq!(down.aborted, 0);
        assert_eq!(log.count("on_shutdown"), 1);
        assert_eq!(log.take().last().unwrap(), "on_close: closed by this end");
        blocking(move || {
            assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused)
        })
        .await;
    });
}

fn a_shutdown_aborts_who_ignores_it<R: TestRuntime>() {
    R::block_on(async {
        let log = Log::default();
        let kept = log.clone();
        let ignore = move || Recorder::new(|_, _| Then::Nothing).0.log_to(&kept);
        let server = serve::<R>(ignore).await;
        let clients = futures::future::join_all((0..3).map(|_| connect::<R>(server.local_addr()))).await;
        until::<R>("they are there", || log.count("on_open") == 3).await;
        let down = server.shutdown(Duration::from_millis(50)).await;
        assert_eq!(down.aborted, 3);
        assert_eq!((log.count("on_shutdown"), log.count("on_close")), (3, 3));
        drop(clients);
    });
}

fn dropping_a_server_aborts_and_closes_the_port<R: TestRuntime>() {
    R::block_on(async {
        let (server, log) = echo_server::<R>().await;
        let address = server.local_addr();
        let mut client = connect::<R>(address).await;
        client.send(Bytes::from("hello")).await.unwrap();
        client.recv().await.unwrap().unwrap();
        drop(server);
        assert!(!matches!(client.recv().await, Ok(Some(_))), "the session is gone");
        until::<R>("it is reported", || log.count("on_close") == 1).await;
        for _ in 0..100 {
            let refused = blocking(move || TcpStream::connect(address).is_err()).await;
            if refused {
                return;
            }
        }
        panic!("the port is still open");
    });
}

fn an_address_that_can_not_be_is_named<R: TestRuntime>() {
    R::block_on(async {
        let (running, _) = echo_server::<R>().await;
        let taken = running.local_addr().to_string();
        for address in [taken.as_str(), "no such host.invalid:1", "127.0.0.1:notaport"] {
            let serving = server::<R>().tcp(address, framed(LengthDelimited::new), || Recorder::quiet().0);
            let error = serving.await.err().unwrap();
            assert!(error.to_string().starts_with(&format!("can't listen on {address}: ")), "{error}");
        }
    });
}

/// A listener that can't be moved to another thread.
struct Local(Rc<std::cell::RefCell<Vec<Bytes>>>);

impl Listener<Messages> for Local {
    fn on_message(&mut self, cx: &mut Context<'_, Messages>, message: Bytes) {
        self.0.borrow_mut().push(message.clone());
        cx.send(message).unwrap();
    }
}

#[test]
fn a_local_spawner_takes_listeners_that_are_not_send() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let seen = Rc::<std::cell::RefCell<Vec<Bytes>>>::default();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let kept = Rc::clone(&seen);
        let server = getty_tokio::Server::builder()
            .spawner(getty_tokio::LocalSpawner)
            .tcp("127.0.0.1:0", framed(LengthDelimited::new), move || Local(kept.clone()))
            .await
            .unwrap();
        let address = server.local_addr();
        let echoed = blocking(move || {
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(&frame(b"hello")).unwrap();
            let mut echoed = [0; 9];
            client.read_exact(&mut echoed).unwrap();
            echoed
        });
        assert_eq!(echoed.await.to_vec(), frame(b"hello"));
        assert_eq!(server.shutdown(secs(10)).await.aborted, 0);
    });
    assert_eq!(*seen.borrow(), ["hello"]);
}

#[cfg(not(target_os = "linux"))]
fn servers_may_share_a_port<R: TestRuntime>() {}

#[cfg(target_os = "linux")]
fn servers_may_share_a_port<R: TestRuntime>() {
    R::block_on(async {
        let options = || getty_driver::TcpOptions::new().reuse_port(true);
        let listener = || Recorder::echo().0;
        let one = server::<R>().tcp_options(options());
        let one = one.tcp("127.0.0.1:0", framed(LengthDelimited::new), listener).await.unwrap();
        let address = one.local_addr().to_string();
        let two = server::<R>().tcp_options(options());
        let two = two.tcp(&address, framed(LengthDelimited::new), listener).await.unwrap();
        let without = server::<R>().tcp(&address, framed(LengthDelimited::new), listener).await;
        assert_eq!(
            without.unwrap_err().kind(),
            ErrorKind::AddrInUse,
            "all servers on a port need the option"
        );
        let mut clients = Vec::new();
        while one.sessions() == 0 || two.sessions() == 0 {
            let mut client = connect::<R>(one.local_addr()).await;
            client.send(Bytes::from("hello")).await.unwrap();
            assert_eq!(client.recv().await.unwrap().unwrap(), "hello");
            clients.push(client);
            assert!(clients.len() < 200, "one server gets all connections");
        }
        one.shutdown(secs(0)).await;
        let mut client = connect::<R>(two.local_addr()).await;
        client.send(Bytes::from("to the other")).await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), "to the other");
    });
}
