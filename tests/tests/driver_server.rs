//! Servers: their port, their sessions and their end. On a fake runtime for exact time, on real ones for sockets.

mod driver_common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use driver_common::fake::{self, Fake};
use driver_common::recorder::{Log, Recorder, Then};
use driver_common::runtimes::{TestRuntime, blocking, connect, until};
use driver_common::task::Task;
use driver_common::wire::{Wire, wire};
use driver_common::*;
use getty_core::Close;
use getty_core::codec::LengthDelimited;
use getty_driver::{Context, Listener, Runtime, Server, Spawn};

on_every_runtime!(
    clients_are_served_and_counted,
    a_shutdown_is_graceful,
    a_shutdown_aborts_who_ignores_it,
    dropping_a_server_aborts_and_closes_the_port,
    an_address_that_can_not_be_is_named,
);

async fn echo_server<R: TestRuntime>() -> (Server<R>, Log) {
    let log = Log::default();
    let kept = log.clone();
    let server = R::serve(Server::<R>::builder(), move || Recorder::echo().0.log_to(&kept)).await.unwrap();
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
        until::<R>("all has come", || log.count("on_message") == 100).await;
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
        let server = R::serve(Server::<R>::builder(), ignore).await.unwrap();
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
        until::<R>("it was told", || log.count("on_close") == 1).await;
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
        let (server, _) = echo_server::<R>().await;
        let taken = server.local_addr().to_string();
        for address in [taken.as_str(), "no such host.invalid:1", "127.0.0.1:notaport"] {
            let error = Server::<getty_tokio::Tokio>::builder()
                .tcp::<_, Bytes, _, _, _>(address, LengthDelimited::new, || Recorder::quiet().0)
                .await
                .unwrap_err();
            assert!(error.to_string().starts_with(&format!("can't listen on {address}: ")), "{error}");
        }
    });
}

// ---- on the fake runtime ----

async fn fake_server(listener: impl Fn() -> Recorder + 'static) -> Server<Fake> {
    Server::<Fake>::builder().tcp("127.0.0.1:0", LengthDelimited::new, listener).await.unwrap()
}

fn fake_client() -> Wire {
    let (io, wire) = wire();
    fake::incoming(Ok(io));
    fake::run();
    wire
}

#[test]
fn a_lack_of_descriptors_is_waited_out() {
    let emfile = || std::io::Error::from_raw_os_error(24);
    fake::block_on(async {
        let server = fake_server(|| Recorder::echo().0).await;
        fake::run();
        let calls = fake::accept_calls();
        (0..12).for_each(|_| fake::incoming(Err(emfile())));
        fake::run();
        assert_eq!(fake::accept_calls() - calls, 1, "it rests after the first failure");
        fake::sleep(secs(1)).await;
        let in_a_second = fake::accept_calls() - calls;
        assert!((5..=10).contains(&in_a_second), "longer each time: {in_a_second}");
        fake::sleep(secs(10)).await;
        let (io, wire) = wire();
        fake::incoming(Ok(io));
        fake::sleep(secs(1)).await; // no longer than the longest rest
        wire.send_frame("hello");
        fake::run();
        assert_eq!(wire.take_frames(), ["hello"]);
        // After a success the rests are short again.
        fake::incoming(Err(emfile()));
        let client = fake_client();
        fake::sleep(Duration::from_millis(5)).await;
        client.send_frame("again");
        fake::run();
        assert_eq!(client.take_frames(), ["again"]);
        assert_eq!(server.sessions(), 2);
    });
}

#[test]
fn a_connection_that_failed_before_it_was_accepted_is_skipped() {
    fake::block_on(async {
        let _server = fake_server(|| Recorder::echo().0).await;
        let kinds = [ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset, ErrorKind::Interrupted];
        kinds.iter().cycle().take(200).for_each(|&kind| fake::incoming(Err(kind.into())));
        let client = fake_client();
        client.send_frame("hello");
        fake::run();
        assert_eq!(client.take_frames(), ["hello"], "at once");
    });
}

#[test]
fn a_server_that_rests_can_be_ended() {
    fake::block_on(async {
        let server = fake_server(|| Recorder::echo().0).await;
        fake::incoming(Err(std::io::Error::from_raw_os_error(24)));
        fake::run();
        assert_eq!(server.shutdown(secs(5)).await.aborted, 0);
        assert_eq!(fake::tasks(), 0);
    });
}

#[test]
fn without_a_grace_period_only_sessions_count_as_aborted() {
    for sessions in 0..3 {
        fake::block_on(async {
            let server = fake_server(|| Recorder::new(|_, _| Then::Nothing).0).await;
            let clients: Vec<Wire> = (0..sessions).map(|_| fake_client()).collect();
            assert_eq!(server.shutdown(Duration::ZERO).await.aborted, sessions);
            assert!(clients.iter().all(Wire::is_dropped));
            assert_eq!(fake::tasks(), 0);
        });
    }
}

#[test]
fn a_grace_period_may_be_for_ever() {
    fake::block_on(async {
        let server = fake_server(|| Recorder::echo().0).await;
        let client = fake_client();
        client.eof();
        assert_eq!(server.shutdown(Duration::MAX).await.aborted, 0);
    });
}

#[test]
fn a_shutdown_delivers_what_is_here_and_waits_for_its_grace() {
    let (_, log) = Recorder::quiet();
    let kept = log.clone();
    fake::block_on(async {
        let server = fake_server(move || Recorder::echo().0.log_to(&kept)).await;
        let (polite, silent) = (fake_client(), fake_client());
        polite.send_frame("last");
        silent.room(0);
        silent.send_frame("unwritten");
        fake::run();
        polite.eof();
        let start = Fake::now();
        let down = server.shutdown(secs(2)).await;
        assert_eq!(down.aborted, 1);
        assert_eq!(Fake::now() - start, secs(2));
        assert_eq!(polite.take_frames(), ["last"]);
        assert!(polite.is_dropped() && silent.is_dropped());
    });
    assert_eq!(log.count("on_close: closed by this end, not everything was sent"), 1);
}

#[test]
fn panics_end_their_session_and_nothing_else() {
    fake::block_on(async {
        let told = Arc::<Mutex<Vec<String>>>::default();
        let hook = told.clone();
        let count = std::cell::Cell::new(0_usize);
        let callbacks = ["on_open", "on_message", "on_close"];
        let server = Server::<Fake>::builder()
            .on_panic(move |id, panic| {
                hook.lock().unwrap().push(panic.downcast_ref::<&str>().unwrap().to_string());
                assert!(id.get() > 0);
                panic_quietly(); // a hook that panics itself changes nothing
            })
            .tcp("127.0.0.1:0", LengthDelimited::new, move || {
                count.set(count.get() + 1);
                match count.get() {
                    1 => Recorder::echo().0,
                    n => Recorder::echo().0.panics_in(callbacks[n % 3]),
                }
            })
            .await
            .unwrap();
        let steady = fake_client();
        for n in 0..1000 {
            let victim = fake_client();
            victim.send_frame("hello");
            victim.eof();
            fake::run();
            assert!(victim.is_dropped());
            if n % 100 == 0 {
                steady.send_frame("still here");
                fake::run();
                assert_eq!(steady.take_frames(), ["still here"]);
            }
        }
        assert_eq!(server.sessions(), 1);
        assert_eq!(told.lock().unwrap().len(), 1000);
        assert!(callbacks.iter().all(|callback| told.lock().unwrap().iter().any(|t| t == callback)));
        assert_eq!(fake::tasks(), 2, "the steady session and the server");
    });
}

fn panic_quietly() {
    std::panic::resume_unwind(Box::new("quiet"));
}

#[test]
fn a_factory_that_panics_costs_one_connection() {
    fake::block_on(async {
        let count = std::cell::Cell::new(0);
        let server = fake_server(move || {
            count.set(count.get() + 1);
            if count.get() <= 5 {
                panic_quietly();
            }
            Recorder::echo().0
        })
        .await;
        (0..5).for_each(|_| assert!(fake_client().is_dropped()));
        let client = fake_client();
        client.send_frame("hello");
        fake::run();
        assert_eq!(client.take_frames(), ["hello"]);
        assert_eq!(server.sessions(), 1);
    });
}

type Spawned = Rc<std::cell::RefCell<Vec<Task<std::pin::Pin<Box<dyn Future<Output = ()>>>>>>>;

/// Hands what is spawned to the test, to be polled by hand.
#[derive(Clone, Default)]
struct ByHand(Spawned);

impl<F: Future + 'static> Spawn<F> for ByHand {
    fn spawn(&self, future: F) {
        self.0.borrow_mut().push(Task::new(Box::pin(async { drop(future.await) })));
    }
}

#[test]
fn a_session_that_moved_to_another_task_still_hears_its_server() {
    fake::block_on(async {
        let spawned = ByHand::default();
        let server = Server::<Fake>::builder().spawner(spawned.clone());
        let server = server.tcp("127.0.0.1:0", LengthDelimited::new, || Recorder::echo().0).await.unwrap();
        let mut accepting = spawned.0.borrow_mut().remove(0);
        let (io, wire) = wire();
        fake::incoming(Ok(io));
        accepting.settle();
        let mut session = spawned.0.borrow_mut().remove(0);
        session.settle();
        session.change_waker();
        assert!(session.poll().is_pending());
        drop(server);
        assert!(session.is_woken());
        session.finish();
        accepting.finish();
        assert!(wire.is_dropped());
    });
}

/// A listener that can't leave its thread.
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
            .tcp("127.0.0.1:0", LengthDelimited::new, move || Local(kept.clone()))
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
