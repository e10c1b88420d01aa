//! RPC without a socket, on every runtime: what users write in their tests of services.

use std::future::{Future, IntoFuture, pending};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::{join, join_all, select};
use getty_driver::rpc::{self, Call, Code, Executed, Raw, Receiver, Sender, Services, Status};
use getty_tokio::Tokio;

use crate::basics::Running;
use crate::driver_common::runtimes::{TestRuntime, until};
use crate::{on_every_runtime, on_one_runtime};

on_every_runtime!(
    all_four_shapes_in_memory,
    deadlines_panics_and_dropped_calls,
    a_connection_that_is_old_goes_away,
    calls_end_when_it_is_dropped,
    a_full_pipe_stops_neither_side,
);

on_one_runtime!(a_handler_calls_back, on_connect_may_refuse, it_ends_with_the_last_caller);

fn all_four_shapes_in_memory<R: TestRuntime>() {
    R::block_on(async {
        let services = Services::new()
            .method("t.T/Echo", Raw, |call: Call, text: String| async move {
                assert_eq!((call.peer_addr(), call.local_addr()), (None, None));
                Ok::<_, Status>(text)
            })
            .server_streaming("t.T/Count", Raw, |_call, to: String, mut out: Sender<String>| async move {
                for number in 0..to.parse::<u32>().unwrap() {
                    out.send(number.to_string()).await?;
                }
                Ok::<_, Status>(())
            })
            .client_streaming("t.T/Sum", Raw, |_call, mut numbers: Receiver<String>| async move {
                let mut sum = 0;
                while let Some(number) = numbers.recv().await? {
                    sum += number.parse::<u64>().unwrap();
                }
                Ok::<_, Status>(sum.to_string())
            })
            .bidi_streaming("t.T/Talk", Raw, |_call, mut lines: Receiver<String>, mut out| async move {
                while let Some(line) = lines.recv().await? {
                    out.send(line.to_uppercase()).await?;
                }
                Ok::<_, Status>(())
            });
        let (caller, driving) = rpc::in_memory::<R>(services);
        R::spawn(driving);
        assert_eq!(caller.call::<_, _, String>("t.T/Echo", Raw, "hello").await.unwrap(), "hello");

        let mut numbers: Receiver<String> = caller.server_streaming("t.T/Count", Raw, "4000").await.unwrap();
        for number in 0..4000 {
            assert_eq!(numbers.recv().await.unwrap(), Some(number.to_string()));
        }
        assert_eq!(numbers.recv().await.unwrap(), None);

        let (mut sender, sum) = caller.client_streaming::<_, String, String>("t.T/Sum", Raw).await.unwrap();
        for number in 0..4000 {
            sender.send(number.to_string()).await.unwrap();
        }
        drop(sender);
        assert_eq!(sum.await.unwrap(), "7998000");

        let (mut sender, mut lines) =
            caller.bidi_streaming::<_, String, String>("t.T/Talk", Raw).await.unwrap();
        for _ in 0..3 {
            sender.send("a".repeat(200_000)).await.unwrap();
            assert_eq!(lines.recv().await.unwrap().unwrap(), "A".repeat(200_000));
        }
        drop(sender);
        assert_eq!(lines.recv().await.unwrap(), None);
    });
}

/// Services that ask the caller for its name.
macro_rules! asking {
    () => {
        Services::new().method("t.T/Ask", Raw, |call: Call, (): ()| async move {
            let name: String = call.peer().call("t.T/Name", Raw, "who").within(&call).await?;
            Ok::<_, Status>(format!("{name} asked"))
        })
    };
}

fn a_handler_calls_back<R: TestRuntime>() {
    R::block_on(async {
        let own = Services::new()
            .method("t.T/Name", Raw, |_call, _: String| async { Ok::<_, Status>("Ann".to_owned()) });
        let (caller, driving) = rpc::in_memory_with::<R>(asking!(), own);
        R::spawn(driving);
        assert_eq!(caller.call::<_, _, String>("t.T/Ask", Raw, &()).await.unwrap(), "Ann asked");

        let (caller, driving) = rpc::in_memory::<R>(asking!());
        R::spawn(driving);
        let status = caller.call::<_, _, String>("t.T/Ask", Raw, &()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains("t.T/Name"), "{status}");
    });
}

fn on_connect_may_refuse<R: TestRuntime>() {
    R::block_on(async {
        let services = asking!().on_connect(|_peer, _opened| Err("not today".into()));
        let (caller, driving) = rpc::in_memory::<R>(services);
        let call = caller.call::<_, _, String>("t.T/Ask", Raw, &()).into_future();
        let (answer, ()) = join(call, driving).await;
        let status = answer.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(caller.is_closed());
    });
}

/// Services with a method that never answers, one that panics, and one that echoes.
macro_rules! endless {
    ($running:expr) => {{
        let running: Running = $running;
        Services::new()
            .method("t.T/Wait", Raw, move |_call, (): ()| {
                let guard = running.enter();
                async move {
                    let _guard = guard;
                    pending::<Result<(), Status>>().await
                }
            })
            .method("t.T/Panic", Raw, |_call, text: String| async move {
                if !text.is_empty() {
                    panic!("on purpose");
                }
                Ok::<_, Status>(())
            })
            .method("t.T/Echo", Raw, |_call, text: String| async move { Ok::<_, Status>(text) })
    }};
}

fn deadlines_panics_and_dropped_calls<R: TestRuntime>() {
    R::block_on(async {
        let running = Running::default();
        let (caller, driving) = rpc::in_memory::<R>(endless!(running.clone()));
        R::spawn(driving);
        let late = caller.call::<_, _, ()>("t.T/Wait", Raw, &()).timeout(Duration::from_millis(30)).await;
        assert_eq!(late.unwrap_err().code(), Code::DeadlineExceeded);
        until::<R>("the late handler is dropped", || running.count() == 0).await;

        let given_up = caller.call::<_, _, ()>("t.T/Wait", Raw, &()).into_future();
        until::<R>("the handler runs", || running.count() == 1).await;
        drop(given_up);
        until::<R>("the handler is dropped", || running.count() == 0).await;

        let status = caller.call::<_, _, ()>("t.T/Panic", Raw, "now").await.unwrap_err();
        assert_eq!((status.code(), status.executed()), (Code::Internal, Executed::Yes));
        assert_eq!(caller.call::<_, _, String>("t.T/Echo", Raw, "on").await.unwrap(), "on");
    });
}

fn a_connection_that_is_old_goes_away<R: TestRuntime>() {
    R::block_on(async {
        let services = endless!(Running::default()).max_age(Duration::from_millis(50));
        let (caller, driving) = rpc::in_memory::<R>(services);
        driving.await;
        let status = caller.call::<_, _, String>("t.T/Echo", Raw, "late").await.unwrap_err();
        assert_eq!((status.code(), status.executed()), (Code::Unavailable, Executed::No));
    });
}

fn it_ends_with_the_last_caller<R: TestRuntime>() {
    R::block_on(async {
        let (caller, driving) = rpc::in_memory::<R>(endless!(Running::default()));
        let other = caller.clone();
        let last = async move {
            drop(caller);
            assert_eq!(other.call::<_, _, String>("t.T/Echo", Raw, "on").await.unwrap(), "on");
            let last = other.call::<_, _, String>("t.T/Echo", Raw, "last").into_future();
            drop(other);
            last.await.unwrap()
        };
        assert_eq!(join(last, driving).await.0, "last");
    });
}

fn calls_end_when_it_is_dropped<R: TestRuntime>() {
    R::block_on(async {
        let running = Running::default();
        let (caller, driving) = rpc::in_memory::<R>(endless!(running.clone()));
        let call = caller.call::<_, _, ()>("t.T/Wait", Raw, &()).into_future();
        let runs = until::<R>("the handler runs", || running.count() == 1);
        select(pin!(runs), Box::pin(driving)).await; // and drops the future
        let status = call.await.unwrap_err();
        assert_eq!((status.code(), status.executed()), (Code::Unavailable, Executed::Maybe));
        assert_eq!(running.count(), 0);

        let (caller, driving) = rpc::in_memory::<R>(endless!(running.clone()));
        let call = caller.call::<_, _, ()>("t.T/Wait", Raw, &()).into_future();
        drop(driving);
        let status = call.await.unwrap_err();
        assert_eq!((status.code(), status.executed()), (Code::Unavailable, Executed::No));
    });
}

/// Far more than the pipe holds, both ways at once.
fn a_full_pipe_stops_neither_side<R: TestRuntime>() {
    R::block_on(async {
        let services = || {
            Services::new()
                .method("t.T/Echo", Raw, |_call, text: bytes::Bytes| async move { Ok::<_, Status>(text) })
        };
        let both = services().method("t.T/Both", Raw, |call: Call, (): ()| async move {
            let calls = (0..200).map(|_| {
                call.peer().call::<_, _, bytes::Bytes>("t.T/Echo", Raw, &vec![7; 16 * 1024]).into_future()
            });
            for answer in join_all(calls).await {
                assert_eq!(answer?.len(), 16 * 1024);
            }
            Ok::<_, Status>(())
        });
        let (caller, driving) = rpc::in_memory_with::<R>(both, services());
        R::spawn(driving);
        let theirs = caller.call::<_, _, ()>("t.T/Both", Raw, &()).into_future();
        let ours = (0..200)
            .map(|_| caller.call::<_, _, bytes::Bytes>("t.T/Echo", Raw, &vec![7; 16 * 1024]).into_future());
        let (theirs, ours) = join(theirs, join_all(ours)).await;
        theirs.unwrap();
        assert!(ours.into_iter().all(|answer| answer.unwrap().len() == 16 * 1024));
    });
}

/// Handlers that are not `Send` make a future that is not: it is polled beside the test.
#[test]
fn local_handlers_are_polled_in_place() {
    let count = Rc::new(());
    let kept = count.clone();
    let services = Services::new().method("t.T/Count", Raw, move |_call, (): ()| {
        let count = kept.clone();
        async move { Ok::<_, Status>(Rc::strong_count(&count).to_string()) }
    });
    Tokio::run(async {
        let (caller, driving) = getty_tokio::rpc::in_memory(services);
        let call = async move { caller.call::<_, _, String>("t.T/Count", Raw, &()).await.unwrap() };
        let (answer, ()) = join(call, driving).await;
        assert_eq!(answer, "3");
    });
}

/// The future is `Send` if the handlers are; the function of each runtime is the same.
#[test]
fn each_adapter_has_it() {
    fn is_sent<F: Future<Output = ()> + Send + 'static>(driving: F) {
        let mut driving = Box::pin(driving);
        assert_eq!(driving.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending);
    }
    let services = || endless!(Running::default());
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = tokio.enter();
    let (_tokio, driving) = getty_tokio::rpc::in_memory(services());
    is_sent(driving);
    let (_smol, driving) = getty_smol::rpc::in_memory(services());
    is_sent(driving);
    let (_async_std, driving) = getty_async_std::rpc::in_memory_with(services(), services());
    is_sent(driving);
}

/// Tokio's paused clock is the clock of deadlines.
#[tokio::test(start_paused = true)]
async fn deadlines_pass_in_virtual_time() {
    let (caller, driving) = getty_tokio::rpc::in_memory(endless!(Running::default()));
    tokio::spawn(driving);
    let hour = Duration::from_secs(3600);
    let began = tokio::time::Instant::now();
    let status = caller.call::<_, _, ()>("t.T/Wait", Raw, &()).timeout(hour).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(began.elapsed() >= hour - Duration::from_secs(60), "{:?}", began.elapsed());
}
