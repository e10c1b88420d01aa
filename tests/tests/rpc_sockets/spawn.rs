//! Parts of handlers in tasks of their own.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::time::Duration;

use getty_driver::Spawn;
use getty_driver::rpc::{Call, Caller, Code, Executed, Limit, Raw, Services, Status};

use crate::basics::{Running, connected};
use crate::driver_common::runtimes::{Own, TestRuntime, in_time, sleep, until};
use crate::on_every_runtime;

on_every_runtime!(
    work_runs_elsewhere,
    work_runs_on_the_runtime,
    work_is_dropped_at_a_cancel,
    work_is_dropped_at_a_deadline,
    work_is_dropped_with_its_output,
    work_that_is_given_up_counts_until_it_has_ended,
    work_that_panics_fails_its_call_alone,
    work_that_the_spawner_drops_fails_its_call,
    work_runs_on_with_its_handler,
);

/// A thread for each future.
#[derive(Clone)]
struct Threads;

impl<F: Future + Send + 'static> Spawn<F> for Threads {
    fn spawn(&self, future: F) {
        std::thread::spawn(move || {
            smol::block_on(future);
        });
    }
}

/// Drops every future.
struct Nowhere;

impl<F> Spawn<F> for Nowhere {
    fn spawn(&self, _: F) {}
}

/// Services with `Work`, which does in another thread what `work` makes, and `Echo`.
macro_rules! working {
    ($running:expr, $work:expr) => {{
        let (running, work): (Running, _) = ($running, $work);
        Services::new()
            .method("t.T/Work", Raw, move |call: Call, (): ()| {
                let (guard, work) = (running.enter(), work());
                async move {
                    let _guard = guard;
                    call.spawn(&Threads, work).await
                }
            })
            .method("t.T/Echo", Raw, |_call, text: String| async move { Ok::<_, Status>(text) })
    }};
}

async fn echoes(caller: &Caller) {
    assert_eq!(caller.call::<_, _, String>("t.T/Echo", Raw, "on").await.unwrap(), "on");
}

/// A thread that waits for the test: a closed gate has a sender.
fn gate() -> (mpsc::Sender<()>, Arc<Mutex<mpsc::Receiver<()>>>) {
    let (open, gate) = mpsc::channel();
    (open, Arc::new(Mutex::new(gate)))
}

fn work_runs_elsewhere<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (open, gate) = gate();
        let services = working!(Running::default(), move || {
            let gate = gate.clone();
            async move {
                gate.lock().unwrap().recv().unwrap();
                "done".to_owned()
            }
        });
        let (_server, caller) = connected!(R, services);
        let calls = [(); 3].map(|()| caller.call::<_, _, String>("t.T/Work", Raw, &()).into_future());
        echoes(&caller).await; // although work blocks its threads
        calls.iter().for_each(|_| open.send(()).unwrap());
        for call in calls {
            assert_eq!(call.await.unwrap(), "done");
        }
    }));
}

fn work_runs_on_the_runtime<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let services = Services::new().method("t.T/Work", Raw, move |call: Call, text: String| async move {
            let (one, two) = futures::join!(
                call.spawn(&Own::<R>::new(), async move {
                    sleep::<R>(Duration::from_millis(2)).await;
                    text
                }),
                call.spawn(&Own::<R>::new(), async { "two" })
            );
            Ok::<_, Status>(format!("{} {}", one?, two?))
        });
        let (_server, caller) = connected!(R, services);
        for text in ["a", "b", "c"] {
            let answer: String = caller.call("t.T/Work", Raw, text).await.unwrap();
            assert_eq!(answer, format!("{text} two"));
        }
    }));
}

/// Work that never ends, with a guard.
fn endless(working: &Running) -> impl Fn() -> futures::future::BoxFuture<'static, ()> + Send + use<> {
    let working = working.clone();
    move || {
        let guard = working.enter();
        Box::pin(async move {
            let _guard = guard;
            pending().await
        })
    }
}

fn work_is_dropped_at_a_cancel<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (running, working) = (Running::default(), Running::default());
        let (_server, caller) = connected!(R, working!(running.clone(), endless(&working)));
        for _ in 0..3 {
            let call = caller.call::<_, _, ()>("t.T/Work", Raw, &()).into_future();
            until::<R>("the work runs", || working.count() == 1).await;
            drop(call);
            until::<R>("both are dropped", || working.count() + running.count() == 0).await;
            echoes(&caller).await;
        }
    }));
}

fn work_is_dropped_at_a_deadline<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (running, working) = (Running::default(), Running::default());
        let [min, default, max] = [1, 20, 40].map(Duration::from_millis);
        let services = working!(running.clone(), endless(&working)).deadlines(min, max, default);
        let (_server, caller) = connected!(R, services);
        let status = caller.call::<_, _, ()>("t.T/Work", Raw, &()).await.unwrap_err();
        assert_eq!((status.code(), status.executed()), (Code::DeadlineExceeded, Executed::Yes));
        until::<R>("both are dropped", || working.count() + running.count() == 0).await;
        echoes(&caller).await;
    }));
}

fn work_is_dropped_with_its_output<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let working = Running::default();
        let work = endless(&working);
        let services = Services::new().method("t.T/Work", Raw, move |call: Call, (): ()| {
            let (work, working) = (work(), working.clone());
            async move {
                {
                    let mut output = pin!(call.spawn(&Threads, work));
                    poll_fn(|cx| {
                        assert!(output.as_mut().poll(cx).is_pending());
                        Poll::Ready(())
                    })
                    .await;
                }
                until::<R>("the work is dropped", || working.count() == 0).await;
                Ok::<_, Status>(())
            }
        });
        let (_server, caller) = connected!(R, services);
        caller.call::<_, _, ()>("t.T/Work", Raw, &()).await.unwrap();
    }));
}

/// Work that blocks its thread cannot be dropped before it comes back.
fn work_that_is_given_up_counts_until_it_has_ended<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (running, working) = (Running::default(), Running::default());
        let (open, gate) = gate();
        let counted = working.clone();
        let services = working!(running.clone(), move || {
            let (gate, working) = (gate.clone(), counted.clone());
            async move {
                let _guard = working.enter();
                gate.lock().unwrap().recv().unwrap();
                pending::<()>().await;
            }
        });
        let (_server, caller) = connected!(R, services.layer(Limit::new(1)));
        let call = caller.call::<_, _, ()>("t.T/Work", Raw, &()).into_future();
        until::<R>("the work runs", || working.count() == 1).await;
        drop(call);
        // What is sent after a cancel is read after it.
        for _ in 0..3 {
            let status = caller.call::<_, _, String>("t.T/Echo", Raw, "on").await.unwrap_err();
            assert_eq!((status.code(), status.executed()), (Code::ResourceExhausted, Executed::No));
        }
        assert_eq!((running.count(), working.count()), (1, 1));
        open.send(()).unwrap();
        until::<R>("both are dropped", || working.count() + running.count() == 0).await;
        echoes(&caller).await;
    }));
}

fn work_that_panics_fails_its_call_alone<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let services = working!(Running::default(), || async {
            if true {
                panic!("on purpose");
            }
        });
        let (_server, caller) = connected!(R, services);
        for _ in 0..3 {
            let status = caller.call::<_, _, ()>("t.T/Work", Raw, &()).await.unwrap_err();
            assert_eq!((status.code(), status.executed()), (Code::Internal, Executed::Yes));
            assert!(!status.message().contains("purpose"), "{status}");
            echoes(&caller).await;
        }
    }));
}

fn work_that_the_spawner_drops_fails_its_call<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let services = Services::new().method("t.T/Work", Raw, |call: Call, (): ()| async move {
            call.spawn(&Nowhere, async { Ok::<_, Status>(()) }).await?
        });
        let (_server, caller) = connected!(R, services);
        let status = caller.call::<_, _, ()>("t.T/Work", Raw, &()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
    }));
}

fn work_runs_on_with_its_handler<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (running, working) = (Running::default(), Running::default());
        let (open, gate) = gate();
        let (done, ends) = mpsc::channel();
        let (inside, counted) = (running.clone(), working.clone());
        let services = Services::new().method("t.T/Work", Raw, move |call: Call, (): ()| {
            let (guard, gate, working, done) = (inside.enter(), gate.clone(), counted.clone(), done.clone());
            async move {
                let _guard = guard;
                call.run_on();
                let own = call.clone();
                let work = async move {
                    let _guard = working.enter();
                    own.cancelled().await;
                    gate.lock().unwrap().recv().unwrap();
                    smol::future::yield_now().await;
                    "done"
                };
                done.send(call.spawn(&Threads, work).await).unwrap();
                // Also what begins after the cancel.
                done.send(call.spawn(&Threads, async { "after" }).await).unwrap();
                Ok::<_, Status>(())
            }
        });
        let (_server, caller) = connected!(R, services);
        let call = caller.call::<_, _, ()>("t.T/Work", Raw, &()).into_future();
        until::<R>("the work runs", || working.count() == 1).await;
        drop(call);
        open.send(()).unwrap();
        until::<R>("both have ended", || working.count() + running.count() == 0).await;
        let outputs: Vec<_> = ends.try_iter().map(Result::unwrap).collect();
        assert_eq!(outputs, ["done", "after"]);
    }));
}
