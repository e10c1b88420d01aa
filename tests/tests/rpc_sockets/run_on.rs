//! Handlers that run on after their call was cancelled or its deadline has passed.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::{Duration, Instant};

use getty_driver::rpc::{
    Call, Caller, Code, Config, Executed, Limit, Origin, Raw, Receiver, Services, Status,
};

use crate::basics::{Running, connected};
use crate::driver_common::runtimes::{TestRuntime, in_time, sleep, until};
use crate::on_every_runtime;

on_every_runtime!(
    a_handler_runs_on_after_a_cancel,
    a_handler_runs_on_after_its_deadline,
    the_streams_of_a_handler_that_runs_on_are_over,
    a_handler_that_runs_on_may_panic,
    a_handler_that_runs_on_counts_until_its_end,
    what_a_handler_that_runs_on_holds_counts_until_its_end,
    a_layer_counts_a_handler_that_runs_on,
    a_handler_that_runs_on_ends_with_its_connection,
    other_threads_learn_the_end_of_every_call,
    a_cancel_comes_before_what_came_too_late,
    handlers_under_request_and_cancel_in_a_loop,
);

/// The end of all handlers of a test, which it sends.
#[derive(Clone, Default)]
struct Gate(Arc<futures::lock::Mutex<()>>);

/// Counts of what handlers have done.
#[derive(Clone, Default)]
struct Seen {
    running: Running,
    cancelled: Arc<AtomicUsize>,
    finished: Arc<AtomicUsize>,
}

impl Seen {
    fn cancelled(&self) -> usize {
        self.cancelled.load(Ordering::SeqCst)
    }

    fn finished(&self) -> usize {
        self.finished.load(Ordering::SeqCst)
    }
}

/// Waits to be polled when the call is cancelled. Nothing but the cancel wakes it.
async fn polled_at_cancel(call: &Call) {
    poll_fn(|_| if call.is_cancelled() { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Services with `Keep`, which runs on until it is cancelled and the gate is open, and `Echo`.
macro_rules! keeping {
    ($seen:expr, $gate:expr) => {{
        let (seen, gate): (Seen, Gate) = ($seen, $gate);
        Services::new()
            .method("t.T/Keep", Raw, move |call: Call, _: Vec<u8>| {
                let (seen, gate, guard) = (seen.clone(), gate.clone(), seen.running.enter());
                async move {
                    let _guard = guard;
                    call.run_on();
                    polled_at_cancel(&call).await;
                    seen.cancelled.fetch_add(1, Ordering::SeqCst);
                    drop(gate.0.lock().await);
                    seen.finished.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, Status>(())
                }
            })
            .method("t.T/Echo", Raw, |_call, text: String| async move { Ok::<_, Status>(text) })
    }};
}

async fn echoes(caller: &Caller) {
    assert_eq!(caller.call::<_, _, String>("t.T/Echo", Raw, "on").await.unwrap(), "on");
}

fn a_handler_runs_on_after_a_cancel<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (seen, gate) = (Seen::default(), Gate::default());
        let (_server, caller) = connected!(R, keeping!(seen.clone(), gate.clone()));
        let closed = gate.0.lock().await;
        let call = caller.call::<_, _, ()>("t.T/Keep", Raw, "").into_future();
        until::<R>("the handler runs", || seen.running.count() == 1).await;
        drop(call);
        until::<R>("the handler is woken", || seen.cancelled() == 1).await;
        echoes(&caller).await;
        assert_eq!((seen.running.count(), seen.finished()), (1, 0));
        drop(closed);
        until::<R>("the handler has ended", || seen.running.count() == 0).await;
        assert_eq!(seen.finished(), 1);
        echoes(&caller).await;
    }));
}

fn a_handler_runs_on_after_its_deadline<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (seen, gate) = (Seen::default(), Gate::default());
        let [min, default, max] = [1, 20, 40].map(Duration::from_millis);
        let services = keeping!(seen.clone(), gate.clone()).deadlines(min, max, default);
        let (_server, caller) = connected!(R, services);
        let closed = gate.0.lock().await;
        let status = caller.call::<_, _, ()>("t.T/Keep", Raw, "").await.unwrap_err();
        assert_eq!((status.code(), status.executed()), (Code::DeadlineExceeded, Executed::Yes));
        assert_eq!(status.origin(), Origin::Peer, "the answer does not wait for the handler");
        // The handler of a one-way call has its answer, and its deadline all the same.
        caller.one_way("t.T/Keep", Raw, "").await.unwrap();
        until::<R>("both are woken", || seen.cancelled() == 2).await;
        assert_eq!(seen.running.count(), 2);
        drop(closed);
        until::<R>("both have ended", || seen.finished() == 2).await;
        echoes(&caller).await;
    }));
}

fn the_streams_of_a_handler_that_runs_on_are_over<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (seen, told) = (Seen::default(), Arc::new(AtomicUsize::new(0)));
        let (inside, codes) = (seen.clone(), told.clone());
        let services = keeping!(seen.clone(), Gate::default()).bidi_streaming(
            "t.T/Talk",
            Raw,
            move |call: Call, mut lines: Receiver<String>, mut out| {
                let (guard, codes) = (inside.running.enter(), codes.clone());
                async move {
                    let _guard = guard;
                    call.run_on();
                    let end = loop {
                        match lines.recv().await {
                            Ok(Some(line)) => out.send(line).await?,
                            Ok(None) => panic!("the stream has not ended well"),
                            Err(status) => break status,
                        }
                    };
                    let refused = out.send("late".to_owned()).await.unwrap_err();
                    if (end.code(), refused.code()) == (Code::Cancelled, Code::Cancelled) {
                        codes.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok::<_, Status>(())
                }
            },
        );
        let (_server, caller) = connected!(R, services);
        for round in 1..=3 {
            let (mut lines, mut echo) =
                caller.bidi_streaming::<_, String, String>("t.T/Talk", Raw).await.unwrap();
            lines.send("one".to_owned()).await.unwrap();
            assert_eq!(echo.recv().await.unwrap().unwrap(), "one");
            drop((lines, echo));
            until::<R>("the handler has ended", || seen.running.count() == 0).await;
            assert_eq!(told.load(Ordering::SeqCst), round);
            echoes(&caller).await;
        }
    }));
}

fn a_handler_that_runs_on_may_panic<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let seen = Seen::default();
        let inside = seen.clone();
        let config = Config::builder().max_calls(16).build().unwrap();
        let services = keeping!(seen.clone(), Gate::default()).config(config).method(
            "t.T/Panic",
            Raw,
            move |call: Call, (): ()| {
                let guard = inside.running.enter();
                async move {
                    let _guard = guard;
                    call.run_on();
                    call.cancelled().await;
                    if true {
                        panic!("on purpose");
                    }
                    Ok::<_, Status>(())
                }
            },
        );
        let (_server, caller) = connected!(R, services);
        // More than run at once: their places are free again.
        for _ in 0..40 {
            let call = caller.call::<_, _, ()>("t.T/Panic", Raw, &()).into_future();
            until::<R>("the handler runs", || seen.running.count() == 1).await;
            drop(call);
            until::<R>("the handler has ended", || seen.running.count() == 0).await;
        }
        echoes(&caller).await;
    }));
}

/// Begins calls of `Keep` and gives them up.
async fn keep<R: TestRuntime>(caller: &Caller, seen: &Seen, count: usize, body: &[u8]) {
    let (running, cancelled) = (seen.running.count(), seen.cancelled());
    let calls: Vec<_> =
        (0..count).map(|_| caller.call::<_, _, ()>("t.T/Keep", Raw, body).into_future()).collect();
    until::<R>("the handlers run", || seen.running.count() == running + count).await;
    drop(calls);
    until::<R>("the handlers are woken", || seen.cancelled() == cancelled + count).await;
}

async fn is_refused(caller: &Caller, method: &'static str, body: &[u8]) {
    let status = caller.call::<_, _, ()>(method, Raw, body).await.unwrap_err();
    assert_eq!((status.code(), status.executed()), (Code::ResourceExhausted, Executed::No), "{status}");
}

fn a_handler_that_runs_on_counts_until_its_end<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (seen, gate) = (Seen::default(), Gate::default());
        let config = Config::builder().max_calls(16).build().unwrap();
        let (_server, caller) = connected!(R, keeping!(seen.clone(), gate.clone()).config(config));
        let closed = gate.0.lock().await;
        keep::<R>(&caller, &seen, 16, b"").await;
        is_refused(&caller, "t.T/Echo", b"").await;
        assert_eq!(seen.running.count(), 16);
        drop(closed);
        until::<R>("the handlers have ended", || seen.finished() == 16).await;
        echoes(&caller).await;
    }));
}

fn what_a_handler_that_runs_on_holds_counts_until_its_end<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (seen, gate) = (Seen::default(), Gate::default());
        let large = vec![0; 1 << 20];
        let pending = Config::default().max_pending_bytes();
        let count = pending / large.len() - 1; // with their heads, one more is too much
        let (_server, caller) = connected!(R, keeping!(seen.clone(), gate.clone()));
        let closed = gate.0.lock().await;
        keep::<R>(&caller, &seen, count, &large).await;
        keep::<R>(&caller, &seen, 1, &large[..large.len() / 2]).await;
        is_refused(&caller, "t.T/Keep", &large).await;
        echoes(&caller).await;
        drop(closed);
        until::<R>("the handlers have ended", || seen.finished() == count + 1).await;
        keep::<R>(&caller, &seen, 1, &large).await;
    }));
}

fn a_layer_counts_a_handler_that_runs_on<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (seen, gate) = (Seen::default(), Gate::default());
        let services = keeping!(seen.clone(), gate.clone()).layer(Limit::new(1));
        let (_server, caller) = connected!(R, services);
        let closed = gate.0.lock().await;
        keep::<R>(&caller, &seen, 1, b"").await;
        is_refused(&caller, "t.T/Echo", b"").await;
        drop(closed);
        until::<R>("the handler has ended", || seen.running.count() == 0).await;
        echoes(&caller).await;
    }));
}

fn a_handler_that_runs_on_ends_with_its_connection<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (seen, gate) = (Seen::default(), Gate::default());
        let (server, caller) = connected!(R, keeping!(seen.clone(), gate.clone()));
        let _closed = gate.0.lock().await;
        keep::<R>(&caller, &seen, 2, b"").await;
        let open = caller.call::<_, _, ()>("t.T/Keep", Raw, "").into_future();
        until::<R>("the handler runs", || seen.running.count() == 3).await;
        server.shutdown(Duration::from_millis(50)).await;
        until::<R>("the handlers are dropped", || seen.running.count() == 0).await;
        assert_eq!(seen.finished(), 0);
        assert_eq!(open.await.unwrap_err().code(), Code::Unavailable);
    }));
}

/// Handlers give their calls to a thread, which waits for the end of each.
fn other_threads_learn_the_end_of_every_call<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (calls, given) = mpsc::channel::<Call>();
        let ends = calls.clone();
        let services = Services::new()
            .method("t.T/Wait", Raw, move |call: Call, (): ()| {
                calls.send(call).unwrap();
                std::future::pending::<Result<(), Status>>()
            })
            .method("t.T/Echo", Raw, move |call: Call, text: String| {
                ends.send(call).unwrap();
                async move { Ok::<_, Status>(text) }
            });
        let (server, caller) = connected!(R, services);
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            for call in given {
                smol::block_on(call.cancelled());
                tell.send(call.is_cancelled()).unwrap();
            }
        });
        let told = || told.try_recv().is_ok_and(|is_cancelled| is_cancelled);
        for _ in 0..3 {
            echoes(&caller).await;
            until::<R>("the thread knows of the end", told).await;
            let call = caller.call::<_, _, ()>("t.T/Wait", Raw, &()).into_future();
            let other = caller.call::<_, _, String>("t.T/Echo", Raw, "on").await;
            assert_eq!((other.unwrap().as_str(), told()), ("on", false), "one call after the other");
            drop(call);
            for _ in 0..2 {
                until::<R>("the thread knows of the cancel, and of the other call", told).await;
            }
        }
        let _open = caller.call::<_, _, ()>("t.T/Wait", Raw, &()).into_future();
        assert_eq!(caller.call::<_, _, String>("t.T/Echo", Raw, "on").await.unwrap(), "on");
        drop(server);
        caller.closed().await;
        for _ in 0..2 {
            until::<R>("the thread knows of the end of the connection", told).await;
        }
    }));
}

/// A call that is over cannot run on.
fn a_cancel_comes_before_what_came_too_late<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (calls, given) = mpsc::channel::<Call>();
        let running = Running::default();
        let counted = running.clone();
        let services = Services::new().method("t.T/Wait", Raw, move |call: Call, (): ()| {
            let guard = counted.enter();
            calls.send(call).unwrap();
            async move {
                let _guard = guard;
                std::future::pending::<Result<(), Status>>().await
            }
        });
        let (_server, caller) = connected!(R, services);
        for _ in 0..3 {
            let call = caller.call::<_, _, ()>("t.T/Wait", Raw, &()).into_future();
            until::<R>("the handler runs", || running.count() == 1).await;
            drop(call);
            until::<R>("the handler is dropped", || running.count() == 0).await;
            let call = given.recv().unwrap();
            assert!(call.is_cancelled());
            call.run_on();
            assert!(call.is_cancelled());
        }
    }));
}

/// `GETTY_RPC_RUN_ON` sets the seconds that it takes.
fn handlers_under_request_and_cancel_in_a_loop<R: TestRuntime>() {
    const CALLS: u32 = 16;
    let long = std::env::var("GETTY_RPC_RUN_ON").ok();
    let seconds = long.map(|text| text.parse().expect("GETTY_RPC_RUN_ON is a number of seconds"));
    R::run(async {
        let (running, peak) = (Running::default(), Arc::new(AtomicUsize::new(0)));
        let begun = Arc::new(AtomicUsize::new(0));
        let (alive, most, all) = (running.clone(), peak.clone(), begun.clone());
        // As much of it as can be: the budget for cancels would end the connection.
        let config = Config::builder().max_calls(CALLS).resets(u32::MAX, u32::MAX).build().unwrap();
        let services = Services::new().config(config).method("t.T/Keep", Raw, move |call: Call, (): ()| {
            let guard = alive.enter();
            let number = all.fetch_add(1, Ordering::SeqCst);
            most.fetch_max(alive.count(), Ordering::SeqCst);
            async move {
                let _guard = guard;
                call.run_on();
                call.cancelled().await;
                sleep::<R>(Duration::from_millis(number as u64 % 4)).await;
                Ok::<_, Status>(())
            }
        });
        let (_server, caller) = connected!(R, services);
        let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let mut rounds = 0;
        while end.map_or(rounds < 50, |end| Instant::now() < end) {
            rounds += 1;
            until::<R>("there is room", || running.count() < CALLS as usize).await;
            let before = begun.load(Ordering::SeqCst);
            let calls: Vec<_> =
                (0..2 * CALLS).map(|_| caller.call::<_, _, ()>("t.T/Keep", Raw, &()).into_future()).collect();
            until::<R>("a handler begins", || begun.load(Ordering::SeqCst) > before).await;
            drop(calls);
        }
        until::<R>("the handlers have ended", || running.count() == 0).await;
        let most = peak.load(Ordering::SeqCst);
        assert!((2..=CALLS as usize).contains(&most), "{most} at once");
        assert!(begun.load(Ordering::SeqCst) >= rounds, "{rounds} rounds");
    });
}
