//! Servers in exact time: failures to accept, grace periods, panics.

mod driver_common;

use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driver_common::fake::{self, Fake};
use driver_common::recorder::{Recorder, Then};
use driver_common::task::Task;
use driver_common::wire::{Wire, wire};
use driver_common::*;
use getty_core::codec::LengthDelimited;
use getty_driver::{Runtime, Server, ServerLimits, Spawn};

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

/// Executors end the process when a task panics while it is dropped.
#[test]
fn a_listener_that_panics_when_it_is_dropped_ends_its_session_and_nothing_else() {
    fake::block_on(async {
        let told = Arc::new(Mutex::new(0));
        let count = told.clone();
        let server = Server::<Fake>::builder()
            .on_panic(move |_, _| *count.lock().unwrap() += 1)
            .tcp("127.0.0.1:0", LengthDelimited::new, || Recorder::echo().0.panics_in("drop"))
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

/// Handshakes are what is limited, and there are none over plain TCP.
#[test]
fn connections_without_a_handshake_are_never_opening() {
    fake::block_on(async {
        let server = Server::<Fake>::builder()
            .limits(ServerLimits::new().max_opening(1))
            .tcp("127.0.0.1:0", LengthDelimited::new, || Recorder::echo().0)
            .await
            .unwrap();
        let clients: Vec<Wire> = (0..3)
            .map(|_| {
                let (io, wire) = wire();
                fake::incoming(Ok(io)); // all are there when the server looks
                wire
            })
            .collect();
        fake::run();
        let stats = server.stats();
        assert_eq!((stats.sessions, stats.opening, stats.refused.total()), (3, 0, 0));
        assert!(!clients.iter().any(Wire::is_dropped));
    });
}

#[test]
fn as_many_are_accepted_at_once_as_in_a_second() {
    for rate in [1, 2, 20] {
        fake::block_on(async {
            let server = Server::<Fake>::builder()
                .limits(ServerLimits::new().accepts_per_second(rate))
                .tcp("127.0.0.1:0", LengthDelimited::new, || Recorder::echo().0)
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
            // Who was quiet for long may have as many at once again, and no more.
            fake::sleep(secs(3600)).await;
            let _more: Vec<Wire> = (0..rate + 3).map(|_| fake_client()).collect();
            assert_eq!(accepted(), 3 + u64::from(rate));
            fake::sleep(secs(4)).await; // those that wait are not for the next server
        });
    }
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
