//! Calls over the sessions of a pool: how they spread, wait, and move from one session to another.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use getty_core::Backoff;
use getty_core::rpc::Frame;
use getty_driver::rpc::{
    self, Call, CallLayer, CallNext, Caller, Code, Config, Dispatch, Executed, Inbound, Layer, Limit, Next,
    Outbound, Raw, Receiver, Response, Sender, Services, Status,
};
use getty_driver::{Pool, PoolOptions, Server};

use crate::basics::Running;
use crate::driver_common::runtimes::{TestRuntime, client, server, sleep, until};
use crate::erased::erased_each;
use crate::{on_every_runtime, on_one_runtime};

on_every_runtime!(
    calls_go_to_all_sessions,
    a_session_that_is_cut_loses_only_what_was_sent,
    a_shutdown_of_one_server_fails_no_call,
    calls_wait_for_the_first_session,
    waiting_calls_have_an_end,
    the_end_of_a_pool_ends_waiting_calls,
    the_last_caller_ends_the_sessions,
);

on_one_runtime!(
    calls_avoid_a_session_that_is_busy,
    waiting_calls_are_limited,
    a_call_moves_once_after_a_refusal_by_a_limit,
    streams_move_before_their_first_item,
    calls_that_send_a_stream_stay,
    a_repeated_call_is_not_repeated_downstream,
    a_layer_sees_a_call_that_moves_once,
);

const MS: Duration = Duration::from_millis(1);

/// A pool of `sessions` to `addresses`, and its caller.
macro_rules! pool {
    ($runtime:ty, $services:expr, $sessions:expr, $addresses:expr) => {{
        let (peers, caller) = rpc::peers::<$runtime>($services);
        let backoff = Backoff::new().first(10 * MS).cap(50 * MS);
        let options = PoolOptions::new().sessions($sessions).backoff(backoff);
        let addresses = $addresses.map(|address: SocketAddr| address.to_string());
        let pool = client::<$runtime>().pool(options).tcp(addresses, rpc::frames, peers).unwrap();
        (pool, caller)
    }};
}

async fn serve<R: TestRuntime, L>(listener: impl Fn() -> L + Send + 'static) -> Server<R>
where
    L: getty_driver::Listener<getty_core::Items<Frame>> + Send,
{
    server::<R>().tcp("127.0.0.1:0", rpc::frames, erased_each(listener)).await.unwrap()
}

/// Waits until a pool has all its sessions.
async fn all_open<R: TestRuntime>(pool: &Pool<R, Frame>) {
    pool.wait_all(Duration::from_secs(60)).await.unwrap();
}

/// An address on which nothing listens. The socket keeps it from being given to others.
fn dead() -> (SocketAddr, socket2::Socket) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    (socket.local_addr().unwrap().as_socket().unwrap(), socket)
}

/// Executions of each call, by its name.
type Executions = Arc<Mutex<HashMap<String, usize>>>;

/// Services that count executions. Every second call is answered after a pause.
macro_rules! counted {
    ($runtime:ty, $executions:expr, $pause:expr) => {{
        let (executions, pause): (Executions, Duration) = ($executions, $pause);
        Services::new().method("t.T/Count", Raw, move |_, name: String| {
            let count = {
                let mut executions = executions.lock().unwrap();
                let count = executions.entry(name.clone()).or_default();
                *count += 1;
                executions.len()
            };
            async move {
                if count % 2 == 0 {
                    sleep::<$runtime>(pause).await;
                }
                Ok::<_, Status>(name)
            }
        })
    }};
}

async fn count(caller: &Caller, name: &str) -> Result<String, Status> {
    caller.call("t.T/Count", Raw, name).await
}

/// Makes `each` calls one after the other from each of `callers`. Returns the names and their ends.
async fn load(
    caller: &Caller,
    callers: usize,
    each: usize,
    ended: &AtomicUsize,
) -> Vec<(String, Result<String, Status>)> {
    let callers = (0..callers).map(|number| async move {
        let mut ends = Vec::new();
        for call in 0..each {
            let name = format!("{number}-{call}");
            let end = count(caller, &name).await;
            ended.fetch_add(1, Ordering::SeqCst);
            ends.push((name, end));
        }
        ends
    });
    futures::future::join_all(callers).await.into_iter().flatten().collect()
}

fn calls_go_to_all_sessions<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        let executions = [Executions::default(), Executions::default()];
        let [one, two] = executions.clone().map(|executions| counted!(R, executions, MS));
        let one = serve::<R, _>(move || one.listener()).await;
        let two = serve::<R, _>(move || two.listener()).await;
        let (pool, caller) = pool!(R, Services::new(), 2, [one.local_addr(), two.local_addr()]);
        all_open(&pool).await;
        // One after the other, and many at once.
        for call in 0..100 {
            count(&caller, &format!("alone {call}")).await.unwrap();
        }
        let alone = executions.clone().map(|executions| executions.lock().unwrap().len());
        assert!(alone.iter().all(|share| (20..=80).contains(share)), "{alone:?}");
        let ended = AtomicUsize::new(0);
        for (name, end) in load(&caller, 50, 10, &ended).await {
            assert_eq!(end.unwrap(), name);
        }
        for (executions, alone) in executions.iter().zip(alone) {
            let share = executions.lock().unwrap().len() - alone;
            assert!((100..=400).contains(&share), "{share} of 500");
        }
    }));
}

/// Services with a method that says who it is, and one that never answers if `waits`.
macro_rules! named {
    ($name:literal, $waits:expr) => {{
        let waits: Option<Running> = $waits;
        Services::new()
            .method("t.T/Wait", Raw, move |_, (): ()| {
                let guard = waits.as_ref().map(Running::enter);
                async move {
                    if guard.is_some() {
                        std::future::pending::<()>().await;
                    }
                    Ok::<_, Status>(())
                }
            })
            .method("t.T/Name", Raw, |_, (): ()| async { Ok::<_, Status>($name.to_owned()) })
    }};
}

async fn name(caller: &Caller) -> Result<String, Status> {
    caller.call("t.T/Name", Raw, &()).await
}

fn calls_avoid_a_session_that_is_busy<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        let running = Running::default();
        let (one, two) = (named!("one", Some(running.clone())), named!("two", None));
        let one = serve::<R, _>(move || one.listener()).await;
        let two = serve::<R, _>(move || two.listener()).await;
        let (pool, caller) = pool!(R, Services::new(), 2, [one.local_addr(), two.local_addr()]);
        all_open(&pool).await;
        // Some of these stay with the first server, and the others are answered.
        let wait = || caller.call::<_, _, ()>("t.T/Wait", Raw, &()).into_future();
        let mut waiting: Vec<_> = (0..40).map(|_| wait()).collect();
        let mut answered = 0;
        while answered + running.count() < 40 {
            sleep::<R>(MS).await;
            let before = waiting.len();
            waiting.retain_mut(|call| call.now_or_never().is_none());
            answered += before - waiting.len();
        }
        assert!(running.count() > 5 && answered > 5, "{answered} of 40 answered");
        for _ in 0..20 {
            assert_eq!(name(&caller).await.unwrap(), "two");
        }
        drop(waiting);
        until::<R>("the first server is free", || running.count() == 0).await;
        let mut asked = 0;
        while name(&caller).await.unwrap() == "two" {
            asked += 1;
            assert!(asked < 1000, "the first server is not asked again");
        }
    }));
}

fn a_session_that_is_cut_loses_only_what_was_sent<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        // On a busy machine no call may be under way at the moment of a cut.
        let mut rounds = 0;
        while failures_of_a_cut::<R>().await == 0 {
            rounds += 1;
            assert!(rounds < 20, "no call has failed");
        }
    }));
}

/// Cuts one of two sessions under load. Returns the number of calls that failed.
async fn failures_of_a_cut<R: TestRuntime>() -> usize {
    let executions = Executions::default();
    let [one, two] = [(), ()].map(|()| counted!(R, executions.clone(), 20 * MS));
    let one = serve::<R, _>(move || one.listener()).await;
    let two = serve::<R, _>(move || two.listener()).await;
    let (pool, caller) = pool!(R, Services::new(), 2, [one.local_addr(), two.local_addr()]);
    all_open(&pool).await;
    let ended = AtomicUsize::new(0);
    let kill = async {
        until::<R>("calls have ended", || ended.load(Ordering::SeqCst) >= 500).await;
        drop(one);
    };
    // More than the servers take at once, so that calls wait to be sent.
    let (ends, ()) = futures::future::join(load(&caller, 800, 5, &ended), kill).await;
    let executions = executions.lock().unwrap();
    let mut failed = 0;
    for (name, end) in &ends {
        let count = executions.get(name).copied().unwrap_or(0);
        assert!(count <= 1, "{name} was executed {count} times");
        match end {
            Ok(_) => assert_eq!(count, 1),
            Err(status) => {
                assert_eq!((status.code(), status.executed()), (Code::Unavailable, Executed::Maybe));
                failed += 1;
            }
        }
    }
    assert!(failed <= 256, "{failed} calls failed, and at most 256 were with the server");
    failed
}

fn a_shutdown_of_one_server_fails_no_call<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        for after in [0, 300] {
            let executions = Executions::default();
            let [one, two] = [(), ()].map(|()| counted!(R, executions.clone(), MS));
            let one = serve::<R, _>(move || one.listener()).await;
            let two = serve::<R, _>(move || two.listener()).await;
            let (pool, caller) = pool!(R, Services::new(), 2, [one.local_addr(), two.local_addr()]);
            all_open(&pool).await;
            let ended = AtomicUsize::new(0);
            let shutdown = async {
                until::<R>("calls have ended", || ended.load(Ordering::SeqCst) >= after).await;
                assert_eq!(one.shutdown(Duration::from_secs(60)).await.aborted, 0);
            };
            let (ends, ()) = futures::future::join(load(&caller, 500, 4, &ended), shutdown).await;
            assert_eq!(ends.len(), 2000);
            let executions = executions.lock().unwrap();
            for (name, end) in ends {
                assert_eq!(end.unwrap(), name);
                assert_eq!(executions[&name], 1);
            }
        }
    }));
}

fn calls_wait_for_the_first_session<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        let (nobody, _socket) = dead();
        let (pool, caller) = pool!(R, Services::new(), 1, [nobody]);
        let services = named!("late", None).server_streaming(
            "t.T/Names",
            Raw,
            |_, (): (), mut out: Sender<String>| async move { out.send("late".to_owned()).await },
        );
        let server = serve::<R, _>(move || services.listener()).await;
        let names = futures::future::join_all((0..100).map(|_| name(&caller)));
        let stream = async {
            let mut names: Receiver<String> = caller.server_streaming("t.T/Names", Raw, &()).await?;
            names.recv().await
        };
        let limited = caller.call::<_, _, String>("t.T/Name", Raw, &()).timeout(Duration::from_secs(60));
        let mut waiting = Box::pin(async { futures::join!(names, stream, limited.into_future()) });
        assert!(futures::poll!(&mut waiting).is_pending());
        pool.set_addresses([server.local_addr().to_string()]);
        let (names, stream, limited) = waiting.await;
        for name in names {
            assert_eq!(name.unwrap(), "late");
        }
        assert_eq!((stream.unwrap().as_deref(), limited.as_deref()), (Some("late"), Ok("late")));
    }));
}

fn waiting_calls_have_an_end<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        let (nobody, _socket) = dead();
        let (_pool, caller) = pool!(R, Services::new(), 1, [nobody]);
        let caller = caller.with_connect_timeout(30 * MS);
        for (timeout, code) in [(None, Code::Unavailable), (Some(30 * MS), Code::DeadlineExceeded)] {
            let caller = match timeout {
                Some(timeout) => caller.clone().with_timeout(timeout).with_connect_timeout(Duration::MAX),
                None => caller.clone(),
            };
            let begun = R::now();
            let bidi = caller.bidi_streaming::<_, String, String>("t.T/Talk", Raw);
            let items = caller.server_streaming::<_, _, String>("t.T/Names", Raw, &());
            let (name, told, bidi, items) = futures::join!(
                name(&caller),
                caller.one_way("t.T/Name", Raw, &()).into_future(),
                bidi.into_future(),
                items.into_future()
            );
            assert!(R::now() - begun >= 30 * MS);
            let ends = [name.map(drop), told, bidi.map(drop), items.map(drop)];
            for status in ends.map(Result::unwrap_err) {
                assert_eq!((status.code(), status.executed()), (code, Executed::No), "{status}");
            }
        }
    }));
}

fn waiting_calls_are_limited<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        let (nobody, _socket) = dead();
        for bytes in [false, true] {
            let config = Config::builder();
            let config = if bytes { config.max_waiting_bytes(1000) } else { config.max_waiting(3) };
            let services = Services::new().config(config.build().unwrap());
            let (_pool, caller) = pool!(R, services, 1, [nobody]);
            let text = "x".repeat(400);
            let call = || caller.call::<_, _, String>("t.T/Echo", Raw, &text).into_future();
            let mut waiting = [call(), call(), call()];
            for call in &mut waiting {
                assert!(futures::poll!(call).is_pending());
            }
            let status = call().await.unwrap_err();
            assert_eq!((status.code(), status.executed()), (Code::ResourceExhausted, Executed::No));
            let [given_up, others @ ..] = waiting;
            drop(given_up);
            assert!(futures::poll!(call()).is_pending());
            drop(others);
        }
    }));
}

fn the_end_of_a_pool_ends_waiting_calls<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        for closes in [false, true] {
            let (nobody, _socket) = dead();
            let (pool, caller) = pool!(R, Services::new(), 2, [nobody]);
            let mut waiting = Box::pin(name(&caller));
            assert!(futures::poll!(&mut waiting).is_pending());
            let mut closed = Box::pin(caller.closed());
            assert!(futures::poll!(&mut closed).is_pending() && !caller.is_closed());
            if closes {
                pool.close(Duration::from_secs(60)).await;
            } else {
                drop(pool);
            }
            for status in [waiting.await.unwrap_err(), name(&caller).await.unwrap_err()] {
                assert_eq!((status.code(), status.executed()), (Code::Unavailable, Executed::No));
            }
            assert_eq!(closed.await.code(), Code::Unavailable);
            assert!(caller.is_closed());
        }
    }));
}

/// Counts the calls that come, and refuses those of which no other has been refused before.
#[derive(Clone, Default)]
struct Refuses {
    code: Option<Code>,
    calls: Arc<AtomicUsize>,
}

impl Layer for Refuses {
    async fn dispatch<D: Dispatch>(&self, inbound: Inbound, next: Next<'_, D>) -> Response {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match self.code {
            Some(code) => Err(Status::new(code, "on purpose").with_executed(Executed::No)),
            None => next.run(inbound).await,
        }
    }
}

fn a_call_moves_once_after_a_refusal_by_a_limit<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        let attempt = |call: Call, (): ()| async move { Ok::<_, Status>(call.attempt().to_string()) };
        let calls = Arc::new(AtomicUsize::new(0));
        let refuses = Refuses { code: None, calls: calls.clone() };
        let counted = || Services::new().method("t.T/Attempt", Raw, attempt).layer(refuses.clone());
        let [one, two] = [(), ()].map(|()| counted().layer(Limit::new(0)));
        let one = serve::<R, _>(move || one.listener()).await;
        let two = serve::<R, _>(move || two.listener()).await;
        let free = counted();
        let free = serve::<R, _>(move || free.listener()).await;
        let call = |caller: &Caller| caller.call::<_, _, String>("t.T/Attempt", Raw, &()).into_future();

        // Alone it has the last word.
        let (pool, caller) = pool!(R, Services::new(), 1, [one.local_addr()]);
        all_open(&pool).await;
        let status = call(&caller).await.unwrap_err();
        assert_eq!((status.code(), status.executed()), (Code::ResourceExhausted, Executed::No));
        assert_eq!(calls.swap(0, Ordering::SeqCst), 1);

        let (pool, caller) = pool!(R, Services::new(), 2, [one.local_addr(), free.local_addr()]);
        all_open(&pool).await;
        let mut attempts = [0; 2];
        while attempts.contains(&0) {
            let attempt: usize = call(&caller).await.unwrap().parse().unwrap();
            attempts[attempt] += 1;
            assert!(attempts[0] + attempts[1] < 1000, "{attempts:?}");
        }
        assert_eq!(calls.swap(0, Ordering::SeqCst), attempts[0] + 2 * attempts[1]);

        let full = [one.local_addr(), two.local_addr(), one.local_addr()];
        let (pool, caller) = pool!(R, Services::new(), 3, full);
        all_open(&pool).await;
        let status = call(&caller).await.unwrap_err();
        assert_eq!((status.code(), status.executed()), (Code::ResourceExhausted, Executed::No));
        assert_eq!(calls.swap(0, Ordering::SeqCst), 2);
    }));
}

/// Services with streams in each direction, and one that fails after its first item.
macro_rules! streams {
    ($refuses:expr) => {
        Services::new()
            .server_streaming("t.T/Names", Raw, |call: Call, (): (), mut out: Sender<String>| async move {
                for _ in 0..3 {
                    out.send(call.attempt().to_string()).await?;
                }
                Ok::<_, Status>(())
            })
            .server_streaming("t.T/Half", Raw, |_, (): (), mut out: Sender<String>| async move {
                out.send("half".to_owned()).await?;
                Err::<(), _>(Status::unavailable("the other half").with_executed(Executed::No))
            })
            .bidi_streaming(
                "t.T/Talk",
                Raw,
                |_, mut lines: Receiver<String>, mut out: Sender<String>| async move {
                    while let Some(line) = lines.recv().await? {
                        out.send(line).await?;
                    }
                    Ok::<_, Status>(())
                },
            )
            .layer($refuses)
    };
}

fn streams_move_before_their_first_item<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        let calls = Arc::new(AtomicUsize::new(0));
        let refuses = |code| Refuses { code, calls: calls.clone() };
        let (one, two, good) = (
            streams!(refuses(Some(Code::Unavailable))),
            streams!(refuses(Some(Code::Unavailable))),
            streams!(refuses(None)),
        );
        let one = serve::<R, _>(move || one.listener()).await;
        let two = serve::<R, _>(move || two.listener()).await;
        let good = serve::<R, _>(move || good.listener()).await;
        let addresses = [one.local_addr(), two.local_addr(), good.local_addr()];
        let (pool, caller) = pool!(R, Services::new(), 3, addresses);
        all_open(&pool).await;
        let mut seen = [0; 3];
        while seen.contains(&0) {
            calls.store(0, Ordering::SeqCst);
            let mut names: Receiver<String> = caller.server_streaming("t.T/Names", Raw, &()).await.unwrap();
            let mut attempts = Vec::new();
            while let Some(attempt) = names.recv().await.unwrap() {
                attempts.push(attempt.parse::<usize>().unwrap());
            }
            let moves = calls.load(Ordering::SeqCst) - 1;
            assert_eq!(attempts, [moves; 3]);
            seen[moves] += 1;
            assert!(seen[moves] < 1000, "{seen:?}");
        }
        // After its first item it stays, also with its first session.
        let mut moves = usize::MAX;
        while moves > 0 {
            calls.store(0, Ordering::SeqCst);
            let mut halves: Receiver<String> = caller.server_streaming("t.T/Half", Raw, &()).await.unwrap();
            assert_eq!(halves.recv().await.unwrap().as_deref(), Some("half"));
            moves = calls.load(Ordering::SeqCst) - 1;
            assert_eq!(halves.recv().await.unwrap_err().code(), Code::Unavailable);
            assert_eq!(halves.recv().await.unwrap(), None);
            assert_eq!(calls.load(Ordering::SeqCst), moves + 1);
        }
    }));
}

fn calls_that_send_a_stream_stay<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        let calls = Arc::new(AtomicUsize::new(0));
        let refuses = Refuses { code: Some(Code::Unavailable), calls: calls.clone() };
        let (one, good) = (streams!(refuses), streams!(Refuses::default()));
        let one = serve::<R, _>(move || one.listener()).await;
        let good = serve::<R, _>(move || good.listener()).await;
        let (pool, caller) = pool!(R, Services::new(), 2, [one.local_addr(), good.local_addr()]);
        all_open(&pool).await;
        let [mut answered, mut refused] = [0; 2];
        while answered == 0 || refused == 0 {
            let call = caller.bidi_streaming::<_, String, String>("t.T/Talk", Raw);
            let (mut sender, mut lines) = call.await.unwrap();
            let _ = sender.send("line".to_owned()).await;
            match lines.recv().await {
                Ok(line) => {
                    assert_eq!(line.unwrap(), "line");
                    answered += 1;
                }
                Err(status) => {
                    assert_eq!((status.code(), status.executed()), (Code::Unavailable, Executed::No));
                    refused += 1;
                }
            }
        }
        assert_eq!(calls.load(Ordering::SeqCst), refused);
    }));
}

fn a_repeated_call_is_not_repeated_downstream<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        // Behind the first servers are two that refuse by a limit.
        let calls = Arc::new(AtomicUsize::new(0));
        let full = || Refuses { code: Some(Code::ResourceExhausted), calls: calls.clone() };
        let (one, two) = (streams!(full()), streams!(full()));
        let one = serve::<R, _>(move || one.listener()).await;
        let two = serve::<R, _>(move || two.listener()).await;
        let (behind, within) = pool!(R, Services::new(), 2, [one.local_addr(), two.local_addr()]);
        all_open(&behind).await;
        let front = |refuses: Refuses, within: Caller| {
            Services::new()
                .method("t.T/Ask", Raw, move |call: Call, (): ()| {
                    let within = within.clone();
                    async move {
                        let ask = within.call::<_, _, String>("t.T/Names", Raw, &()).within(&call);
                        assert_eq!(ask.await.unwrap_err().code(), Code::ResourceExhausted);
                        Ok::<_, Status>(call.attempt().to_string())
                    }
                })
                .layer(refuses)
        };
        let (refusing, good) = (
            front(Refuses { code: Some(Code::Unavailable), ..Refuses::default() }, within.clone()),
            front(Refuses::default(), within),
        );
        let refusing = serve::<R, _>(move || refusing.listener()).await;
        let good = serve::<R, _>(move || good.listener()).await;
        let addresses = [refusing.local_addr(), good.local_addr()];
        let (pool, caller) = pool!(R, Services::new(), 2, addresses);
        all_open(&pool).await;
        // The first attempt is made twice behind the front, and a repeated one once.
        let mut seen = [0; 2];
        while seen.contains(&0) {
            calls.store(0, Ordering::SeqCst);
            let answer: String = caller.call("t.T/Ask", Raw, &()).await.unwrap();
            let attempt: usize = answer.parse().unwrap();
            assert_eq!(calls.load(Ordering::SeqCst), 2 - attempt);
            seen[attempt] += 1;
            assert!(seen[attempt] < 1000, "{seen:?}");
        }
    }));
}

/// Counts calls.
struct Counts(Arc<AtomicUsize>);

impl CallLayer for Counts {
    async fn call(&self, outbound: Outbound, next: CallNext<'_>) -> Response {
        self.0.fetch_add(1, Ordering::SeqCst);
        next.run(outbound).await
    }
}

fn a_layer_sees_a_call_that_moves_once<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        let [served, seen] = [(), ()].map(|()| Arc::new(AtomicUsize::new(0)));
        let refuses = |code| Refuses { code, calls: served.clone() };
        let (one, good) = (streams!(refuses(Some(Code::Unavailable))), streams!(refuses(None)));
        let one = serve::<R, _>(move || one.listener()).await;
        let good = serve::<R, _>(move || good.listener()).await;
        let (pool, caller) = pool!(R, Services::new(), 2, [one.local_addr(), good.local_addr()]);
        all_open(&pool).await;
        let caller = caller.layer(Counts(seen.clone()));
        let mut calls = 0;
        while served.load(Ordering::SeqCst) == calls {
            let mut names: Receiver<String> = caller.server_streaming("t.T/Names", Raw, &()).await.unwrap();
            let mut items = 0;
            while names.recv().await.unwrap().is_some() {
                items += 1;
            }
            assert_eq!(items, 3);
            calls += 1;
            assert!(calls < 1000, "no call has moved");
        }
        assert_eq!(seen.load(Ordering::SeqCst), calls);
    }));
}

fn the_last_caller_ends_the_sessions<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        for serves in [false, true] {
            let services = named!("one", None);
            let server = serve::<R, _>(move || services.listener()).await;
            let (pool, caller) = if serves {
                pool!(R, named!("own", None), 2, [server.local_addr(); 1])
            } else {
                pool!(R, Services::new(), 2, [server.local_addr(); 1])
            };
            all_open(&pool).await;
            let other = caller.clone();
            drop(caller);
            assert_eq!(name(&other).await.unwrap(), "one");
            let before: Vec<_> = pool.sessions().iter().map(|handle| handle.id()).collect();
            let is_there = || pool.sessions().iter().any(|handle| before.contains(&handle.id()));
            drop(other);
            if serves {
                sleep::<R>(20 * MS).await; // nothing is to happen
                assert!(is_there());
            } else {
                until::<R>("the sessions have gone away", || !is_there()).await;
            }
        }
    }));
}
