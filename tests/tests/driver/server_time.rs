//! Servers on an exact clock: failures to accept, grace periods, panics.

use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use getty_core::codec::LengthDelimited;
use getty_core::websocket::{Packages, ServerOptions, Verdict, WebSocket};
use getty_driver::tls::{Identity, ServerTls};
use getty_driver::{Runtime, Server, ServerLimits, Spawn, framed};

use crate::driver_common::fake::{self, Fake};
use crate::driver_common::recorder::{Log, Recorder, Then};
use crate::driver_common::socket::Socket;
use crate::driver_common::task::Task;
use crate::driver_common::wire::{Wire, wire};
use crate::driver_common::*;
use crate::tls_common::World;

async fn fake_server(listener: impl Fn() -> Recorder + 'static) -> Server<Fake> {
    Server::<Fake>::builder().tcp("127.0.0.1:0", framed(LengthDelimited::new), listener).await.unwrap()
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
        assert_eq!(fake::accept_calls() - calls, 1, "the server rests after the first failure");
        fake::sleep(secs(1)).await;
        let in_a_second = fake::accept_calls() - calls;
        assert!((5..=10).contains(&in_a_second), "rests grow longer: {in_a_second}");
        fake::sleep(secs(10)).await;
        let (io, wire) = wire();
        fake::incoming(Ok(io));
        fake::sleep(secs(1)).await; // as long as the longest rest
        wire.send_frame("hello");
        fake::run();
        assert_eq!(wire.take_frames(), ["hello"]);
        // After a success, rests are short again.
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
                panic_quietly(); // a panic in the hook changes nothing
            })
            .tcp("127.0.0.1:0", framed(LengthDelimited::new), move || {
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

/// Executors abort the process if a task panics while it is dropped.
#[test]
fn a_listener_that_panics_when_it_is_dropped_ends_its_session_and_nothing_else() {
    fake::block_on(async {
        let told = Arc::new(Mutex::new(0));
        let count = told.clone();
        let server = Server::<Fake>::builder()
            .on_panic(move |_, _| *count.lock().unwrap() += 1)
            .tcp("127.0.0.1:0", framed(LengthDelimited::new), || Recorder::echo().0.panics_in("drop"))
            .await
            .unwrap();
        for panics in 1..=3 {
            let client = fake_client();
            client.eof();
            fake::run();
            assert!(client.is_dropped());
            assert_eq!((server.sessions(), *told.lock().unwrap()), (0, panics));
        }
        let _client = fake_client();
        fake::drop_tasks();
        assert_eq!((server.sessions(), *told.lock().unwrap()), (0, 4));
    });
}

/// The limit is for handshakes, and there are none over plain TCP.
#[test]
fn connections_without_a_handshake_are_never_opening() {
    fake::block_on(async {
        let server = Server::<Fake>::builder()
            .limits(ServerLimits::new().max_opening(1))
            .tcp("127.0.0.1:0", framed(LengthDelimited::new), || Recorder::echo().0)
            .await
            .unwrap();
        let clients: Vec<Wire> = (0..3)
            .map(|_| {
                let (io, wire) = wire();
                fake::incoming(Ok(io)); // all are there when the server accepts
                wire
            })
            .collect();
        fake::run();
        let stats = server.stats();
        assert_eq!((stats.sessions, stats.opening, stats.refused.total()), (3, 0, 0));
        assert!(!clients.iter().any(Wire::is_dropped));
    });
}

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A server with a handshake, and the log of its listeners.
async fn websocket_server(limits: ServerLimits) -> (Server<Fake>, Log) {
    let log = Log::default();
    let kept = log.clone();
    let listener = move || Recorder::echo().0.log_to(&kept);
    let form = || Packages::new(LengthDelimited::new());
    let builder = Server::<Fake>::builder().limits(limits);
    (
        builder
            .tcp("127.0.0.1:0", WebSocket::serving_of(form, ServerOptions::new()), listener)
            .await
            .unwrap(),
        log,
    )
}

/// Whether the client is accepted at once.
fn is_let_in(client: &Wire) -> bool {
    client.send(UPGRADE);
    fake::run();
    client.take_written().starts_with(b"HTTP/1.1 101 ")
}

const DISPLACED: &str = "on_close: a newer session took its place before it was open \
    (ServerLimits::max_opening, max_sessions)";

#[test]
fn silent_connections_make_room_for_new_ones_the_oldest_first() {
    fake::block_on(async {
        let (server, log) = websocket_server(ServerLimits::new()).await;
        let silent: Vec<Wire> = (0..10_000).map(|_| fake_client()).collect();
        assert_eq!((server.stats().opening, server.stats().displaced), (10_000, 0));
        let honest: Vec<Wire> = (0..100).map(|_| fake_client()).collect();
        assert!(honest.iter().all(is_let_in));
        let stats = server.stats();
        assert_eq!((stats.sessions, stats.opening, stats.displaced), (10_000, 9_900, 100));
        assert_eq!((stats.accepted, stats.refused.total()), (10_100, 0));
        assert!(silent[..100].iter().all(Wire::is_dropped), "the oldest are dropped");
        assert!(!silent[100..].iter().any(Wire::is_dropped));
        assert_eq!(log.count(DISPLACED), 100);
    });
}

#[test]
fn only_what_is_not_open_makes_room_wherever_it_is_in_the_order() {
    fake::block_on(async {
        let (server, log) = websocket_server(ServerLimits::new().max_opening(4)).await;
        let clients: Vec<Wire> = (0..4).map(|_| fake_client()).collect();
        assert!(is_let_in(&clients[0]) && is_let_in(&clients[2]));
        clients[3].eof();
        fake::run();
        assert_eq!((server.stats().opening, log.count("on_close")), (1, 1));
        let more: Vec<Wire> = (0..6).map(|_| fake_client()).collect();
        // Of client 1 and six more, the four latest are left.
        assert!(clients[1].is_dropped() && more[..2].iter().all(Wire::is_dropped));
        assert!(!clients[0].is_dropped() && !clients[2].is_dropped());
        assert!(more[2..].iter().all(is_let_in));
        let stats = server.stats();
        assert_eq!((stats.sessions, stats.opening, stats.displaced), (6, 0, 3));
        assert_eq!(server.shutdown(secs(10)).await.aborted, 0);
    });
}

/// Silent sessions take up `max_sessions` just as they take up `max_opening`.
#[test]
fn sessions_that_are_not_open_make_room_for_others_and_open_ones_do_not() {
    fake::block_on(async {
        let (server, _) = websocket_server(ServerLimits::new().max_sessions(3)).await;
        let silent: Vec<Wire> = (0..3).map(|_| fake_client()).collect();
        let honest: Vec<Wire> = (0..3).map(|_| fake_client()).collect();
        assert!(honest.iter().all(is_let_in));
        assert!(silent.iter().all(Wire::is_dropped));
        let late = fake_client();
        assert!(late.is_dropped() && !honest.iter().any(Wire::is_dropped));
        let stats = server.stats();
        assert_eq!((stats.sessions, stats.displaced, stats.refused.too_many), (3, 3, 1));
    });
}

/// If the system grants few descriptors, they run out long before any limit is reached.
#[test]
fn a_session_that_is_not_open_gives_its_descriptor_when_there_are_no_more() {
    fake::block_on(async {
        let (server, log) = websocket_server(ServerLimits::new()).await;
        let open = fake_client();
        assert!(is_let_in(&open));
        let silent: Vec<Wire> = (0..3).map(|_| fake_client()).collect();
        fake::incoming(Err(std::io::Error::from_raw_os_error(24)));
        fake::run();
        assert!(silent[0].is_dropped(), "the oldest is dropped");
        assert!(!silent[1..].iter().chain([&open]).any(Wire::is_dropped));
        let honest = fake_client();
        fake::sleep(Duration::from_millis(5)).await; // the first rest
        assert!(is_let_in(&honest));
        // Other failures end no session.
        fake::incoming(Err(ErrorKind::PermissionDenied.into()));
        fake::run();
        let stats = server.stats();
        assert_eq!((stats.sessions, stats.displaced, stats.failures), (4, 1, 2));
        assert_eq!(log.count(DISPLACED), 1);
    });
}

/// All connections come in one turn of the accepting task, before any session has had a turn.
#[test]
fn connections_that_come_at_once_displace_each_other() {
    fake::block_on(async {
        let (server, _) = websocket_server(ServerLimits::new().max_opening(1).max_sessions(2)).await;
        let clients: Vec<Wire> = (0..50)
            .map(|_| {
                let (io, wire) = wire();
                fake::incoming(Ok(io));
                wire
            })
            .collect();
        fake::run();
        assert!(clients[..49].iter().all(Wire::is_dropped) && !clients[49].is_dropped());
        assert!(is_let_in(&clients[49]));
        let stats = server.stats();
        assert_eq!((stats.sessions, stats.opening, stats.displaced), (1, 0, 49));
        // A session that is displaced while its request is on the way is not accepted either.
        let early = fake_client();
        let (io, newer) = wire();
        fake::incoming(Ok(io));
        assert!(!is_let_in(&early) && early.is_dropped());
        assert!(is_let_in(&newer));
        let stats = server.stats();
        assert_eq!((stats.sessions, stats.opening, stats.displaced), (2, 0, 50));
    });
}

#[test]
fn as_many_are_accepted_at_once_as_in_a_second() {
    for rate in [1, 2, 20] {
        fake::block_on(async {
            let server = Server::<Fake>::builder()
                .limits(ServerLimits::new().accepts_per_second(rate))
                .tcp("127.0.0.1:0", framed(LengthDelimited::new), || Recorder::echo().0)
                .await
                .unwrap();
            let _clients: Vec<Wire> = (0..rate + 3).map(|_| fake_client()).collect();
            let each = secs(1) / rate;
            let accepted = || server.stats().accepted - u64::from(rate);
            assert_eq!(accepted(), 0);
            fake::sleep(each - Duration::from_nanos(1)).await;
            assert_eq!(accepted(), 0);
            for more in 1..=3 {
                fake::sleep(each).await;
                fake::run();
                assert_eq!(accepted(), more);
            }
            // After a long quiet time, as many as in a second are accepted at once, and no more.
            fake::sleep(secs(3600)).await;
            let _more: Vec<Wire> = (0..rate + 3).map(|_| fake_client()).collect();
            assert_eq!(accepted(), 3 + u64::from(rate));
            fake::sleep(secs(4)).await; // connections that still wait must not reach the next server
        });
    }
}

type Spawned = Rc<std::cell::RefCell<Vec<Task<std::pin::Pin<Box<dyn Future<Output = ()>>>>>>>;

/// Gives spawned tasks to the test, which polls them by hand.
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
        let server =
            server.tcp("127.0.0.1:0", framed(LengthDelimited::new), || Recorder::echo().0).await.unwrap();
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

fn starts_with(wire: &Wire, text: &str) -> bool {
    wire.take_written().starts_with(text.as_bytes())
}

#[test]
fn a_shutdown_does_not_wait_for_sessions_that_are_not_open() {
    fake::block_on(async {
        let (server, log) = websocket_server(ServerLimits::new()).await;
        let clients: Vec<Wire> = (0..3).map(|_| fake_client()).collect();
        clients[1].send(&UPGRADE[..30]);
        clients[2].send(b"no request\r\n\r\n"); // refused, but the client has not ended its side
        fake::run();
        assert!(starts_with(&clients[2], "HTTP/1.1 400 ") && !clients[2].is_dropped());
        let start = Fake::now();
        assert_eq!(server.shutdown(secs(5)).await.aborted, 0);
        assert_eq!(Fake::now() - start, Duration::ZERO);
        assert!(clients.iter().all(|client| client.is_shut_down() && client.is_dropped()));
        assert_eq!((log.count("on_close"), log.count("on_close: handshake")), (3, 1));
    });
}

#[test]
fn a_shutdown_does_not_wait_for_handshakes_of_tls() {
    let world = World::new();
    let identity = Identity::from_pem(world.server.certificate.as_bytes(), world.server.key.as_bytes());
    let tls = ServerTls::new(identity.unwrap()).unwrap();
    fake::block_on(async {
        let builder = Server::<Fake>::builder().tls(tls);
        let server =
            builder.tcp("127.0.0.1:0", framed(LengthDelimited::new), || Recorder::echo().0).await.unwrap();
        let clients: Vec<Wire> = (0..3).map(|_| fake_client()).collect();
        clients[1].send(&[22, 3, 1, 2, 0, 1, 0]); // the beginning of a ClientHello
        clients[2].send(b"GET / HTTP/1.1\r\n\r\n");
        fake::run();
        assert_eq!(server.sessions(), 3);
        let start = Fake::now();
        assert_eq!(server.shutdown(secs(5)).await.aborted, 0);
        assert_eq!(Fake::now() - start, Duration::ZERO);
        assert!(clients.iter().all(Wire::is_dropped));
    });
}

/// Its last bytes are written. If the peer takes nothing, the close timeout ends the wait.
#[test]
fn a_session_that_is_not_open_says_its_last_word_at_a_shutdown() {
    for (room, takes) in [(None, Duration::ZERO), (Some(0), secs(5))] {
        fake::block_on(async {
            let builder = Server::<Fake>::builder();
            let listener = || Socket::new(&Log::default()).request(|_, _| Verdict::Defer);
            let server =
                builder.tcp("127.0.0.1:0", WebSocket::serving(ServerOptions::new()), listener).await.unwrap();
            let client = fake_client();
            client.room(room);
            client.send(UPGRADE);
            fake::run();
            let start = Fake::now();
            assert_eq!(server.shutdown(secs(60)).await.aborted, 0);
            assert_eq!(Fake::now() - start, takes);
            assert_eq!(starts_with(&client, "HTTP/1.1 503 "), room.is_none());
        });
    }
}

/// The deadlines of closes that begin with the shutdown pass when its grace period ends. Either may be
/// noticed first.
#[test]
fn sessions_that_end_with_the_grace_are_counted_whoever_is_first() {
    for sessions_first in [true, false] {
        fake::block_on(async {
            let builder = Server::<Fake>::builder().config(config(|c| c.close_timeout(secs(2))));
            let listener = || Recorder::echo().0;
            let server = builder.tcp("127.0.0.1:0", framed(LengthDelimited::new), listener).await.unwrap();
            let clients: Vec<Wire> = (0..5).map(|_| fake_client()).collect();
            clients[0].eof();
            let mut shutdown = Task::new(server.shutdown(secs(2)));
            assert!(shutdown.run().is_pending());
            fake::run();
            fake::sleep(secs(1)).await;
            clients[1].eof();
            fake::run();
            fake::jump(Fake::now() + secs(1));
            if sessions_first {
                fake::run();
            }
            let down = loop {
                if let std::task::Poll::Ready(down) = shutdown.run() {
                    break down;
                }
                fake::run();
            };
            assert_eq!(down.aborted, 3, "sessions first: {sessions_first}");
            assert!(clients.iter().all(Wire::is_dropped));
        });
    }
}

/// One setting closes idle sessions, whatever their listener does. A peer that is still there gets the
/// reason.
#[test]
fn idle_sessions_of_a_server_are_closed() {
    fake::block_on(async {
        let log = Log::default();
        let kept = log.clone();
        let listener = move || Recorder::echo().0.log_to(&kept);
        let form = || Packages::new(LengthDelimited::new());
        let builder = Server::<Fake>::builder().config(config(|c| c.idle_timeout(secs(60))));
        let server = builder
            .tcp("127.0.0.1:0", WebSocket::serving_of(form, ServerOptions::new()), listener)
            .await
            .unwrap();
        let (idle, gone, busy) = (fake_client(), fake_client(), fake_client());
        assert!([&idle, &gone, &busy].into_iter().all(is_let_in));
        for _ in 0..2 {
            fake::sleep(secs(30)).await;
            busy.send(&[0x89, 0x80, 0, 0, 0, 0]); // a ping is a sign of life
            fake::run();
        }
        let reason = b"nothing was received or sent";
        let close = [&[0x88, 2 + reason.len() as u8, 0x03, 0xe9], &reason[..]].concat();
        assert_eq!(idle.take_written(), close);
        idle.send(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]);
        idle.eof();
        fake::run();
        assert_eq!(server.sessions(), 2, "the first idle session has done its closing handshake");
        fake::sleep(secs(5)).await;
        fake::run();
        assert_eq!(server.sessions(), 1, "the other has reached its close timeout");
        let told = "on_close: timed out: nothing was received or sent (Config::idle_timeout)";
        assert_eq!((log.count(told), log.count("on_close")), (2, 2));
        assert!(idle.is_dropped() && gone.is_dropped() && !busy.is_dropped());
    });
}
