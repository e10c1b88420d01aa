//! Faults around RPC over sockets: connections that are cut, bodies that cannot be read, panics, refusals,
//! and ends that go in any order. Each call ends exactly once, and says rightly whether it was executed.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use std::{io, thread};

use bytes::{BufMut, BytesMut};
use getty_driver::Server;
use getty_driver::rpc::{
    self, Code, Codec, CodecError, CodecName, Config, Dispatch, Encode, Executed, Inbound, Json, Layer, Next,
    Protobuf, Raw, Receiver, Response, Sender, Services, Status,
};
use socket2::SockRef;
use testkit::rpc_bytes::opening;

use crate::basics::{Running, connect, connected};
use crate::cuts::{Cut, Cutter};
use crate::driver_common::runtimes::{TestRuntime, client, in_time, server, until};
use crate::erased::erased_each;
use crate::{on_every_runtime, on_one_runtime};

on_every_runtime!(
    a_shutdown_under_calls_loses_none,
    a_cut_drops_handlers,
    calls_before_the_session_is_open,
    calls_that_never_find_a_session,
    callers_on_other_threads,
    waits_for_the_end_leave_nothing_behind,
    calls_to_a_server_that_reads_nothing_end_at_their_deadline,
);

on_one_runtime!(
    bad_bodies_end_their_calls_alone,
    panics_end_their_calls_alone,
    a_layer_refuses_all_shapes,
    a_request_too_large_for_the_server,
    a_server_without_methods_stays,
    metadata_of_answers_reaches_its_caller,
);

/// Executions of each call, by its name.
type Executions = Arc<Mutex<HashMap<String, usize>>>;

/// Services that count executions. Every second call is answered at once, the others in a later turn.
macro_rules! counted {
    ($executions:expr, $running:expr) => {{
        let (executions, running): (Executions, Running) = ($executions, $running);
        Services::new().method("t.T/Count", Raw, move |_, name: String| {
            *executions.lock().unwrap().entry(name.trim_end().to_owned()).or_default() += 1;
            let guard = running.enter();
            async move {
                let _guard = guard;
                if name.len() % 2 == 0 {
                    yield_once().await;
                }
                Ok::<_, Status>(name)
            }
        })
    }};
}

pub(crate) async fn yield_once() {
    let mut is_ready = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_ready, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Checks the end of a call against what the server did.
fn check(name: &str, result: &Result<String, Status>, executions: &HashMap<String, usize>) {
    let count = executions.get(name).copied().unwrap_or(0);
    assert!(count <= 1, "{name} was executed {count} times");
    match result {
        Ok(answer) => assert_eq!((answer.trim_end(), count), (name, 1)),
        Err(status) => match status.executed() {
            Executed::No => assert_eq!(count, 0, "{name}: {status}"),
            Executed::Yes => assert_eq!(count, 1, "{name}: {status}"),
            Executed::Maybe => {}
        },
    }
}

fn a_shutdown_under_calls_loses_none<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        for after in [0, 1, 50, 500] {
            let (executions, running) = (Executions::default(), Running::default());
            let (server, caller) = connected!(R, counted!(executions.clone(), running.clone()));
            let ended = Arc::new(AtomicUsize::new(0));
            let callers = (0..40).map(|caller_number| {
                let (caller, ended) = (caller.clone(), ended.clone());
                async move {
                    let mut results = Vec::new();
                    for call in 0..50 {
                        let name = format!("{caller_number}-{call}");
                        let body = format!("{name:<length$}", length = 20 + call);
                        let result = caller.call::<_, _, String>("t.T/Count", Raw, &body).await;
                        ended.fetch_add(1, Ordering::SeqCst);
                        results.push((name, result));
                        yield_once().await;
                    }
                    results
                }
            });
            let shutdown = async {
                until::<R>("calls have ended", || ended.load(Ordering::SeqCst) >= after).await;
                let summary = server.shutdown(Duration::from_secs(60)).await;
                assert_eq!(summary.aborted, 0);
            };
            let (results, ()) = futures::future::join(futures::future::join_all(callers), shutdown).await;
            caller.closed().await;
            let executions = executions.lock().unwrap();
            for (name, result) in results.iter().flatten() {
                check(name, result, &executions);
                if let Err(status) = result {
                    assert_eq!(status.executed(), Executed::No, "{status}");
                }
            }
        }
    }));
}

/// Bytes under the name of another codec.
#[derive(Clone)]
struct Named(CodecName);

impl Codec for Named {
    fn name(&self) -> CodecName {
        self.0.clone()
    }
}

impl Encode<[u8]> for Named {
    fn encode(&self, value: &[u8], dst: &mut BytesMut) -> Result<(), CodecError> {
        dst.put_slice(value);
        Ok(())
    }
}

impl rpc::Decode<Vec<u8>> for Named {
    fn decode(&self, body: bytes::Bytes) -> Result<Vec<u8>, CodecError> {
        Ok(body.to_vec())
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Point {
    #[prost(string, tag = "1")]
    name: String,
}

fn bad_bodies_end_their_calls_alone<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let services = Services::new()
            .method("t.T/Add", Json, |_, (a, b): (i64, i64)| async move { Ok::<_, Status>(a + b) })
            .method("t.T/Any", Json, |_, _: serde_json::Value| async move { Ok::<_, Status>(1) })
            .client_streaming("t.T/Sum", Json, |_, mut numbers: Receiver<i64>| async move {
                let mut sum = 0;
                while let Some(number) = numbers.recv().await? {
                    sum += number;
                }
                Ok::<_, Status>(sum)
            })
            .method("t.T/Point", Protobuf, |_, point: Point| async move { Ok::<_, Status>(point) });
        let (_server, caller) = connected!(R, services);
        let nested = [vec![b'['; 10_000], vec![b']'; 10_000]].concat();
        let bad: [(&'static str, CodecName, &[u8]); 6] = [
            ("t.T/Add", CodecName::Json, b"[1, \"two\"]"),
            ("t.T/Add", CodecName::Json, b"[1, 2"),
            ("t.T/Add", CodecName::Json, b""),
            ("t.T/Any", CodecName::Json, &nested),
            ("t.T/Point", CodecName::Protobuf, b"\x0a\x05abc"),
            ("t.T/Point", CodecName::Protobuf, b"\x0a\x02\xff\xff"),
        ];
        let other = caller.call::<_, _, i64>("t.T/Add", Json, &(1, 1)).into_future();
        for (method, codec, body) in bad {
            let status = caller.call::<_, _, Vec<u8>>(method, Named(codec), body).await.unwrap_err();
            assert_eq!((status.code(), status.executed()), (Code::InvalidArgument, Executed::No), "{status}");
        }
        // An item that cannot be read, and one after it.
        let (mut sender, sum) = caller.client_streaming::<_, String, i64>("t.T/Sum", Json).await.unwrap();
        sender.send("one".to_owned()).await.unwrap();
        let _ = sender.send("two".to_owned()).await;
        let status = sum.await.unwrap_err();
        assert_eq!((status.code(), status.executed()), (Code::InvalidArgument, Executed::Yes), "{status}");
        // An answer that cannot be read.
        let status = caller.call::<_, _, String>("t.T/Add", Json, &(1, 1)).await.unwrap_err();
        assert_eq!((status.code(), status.executed()), (Code::Internal, Executed::Yes), "{status}");
        assert_eq!(other.await.unwrap(), 2);
        let point = Point { name: "here".to_owned() };
        assert_eq!(caller.call::<_, _, Point>("t.T/Point", Protobuf, &point).await.unwrap(), point);
    }));
}

/// A codec that writes half a value and panics.
#[derive(Clone)]
struct Broken;

impl Codec for Broken {
    fn name(&self) -> CodecName {
        CodecName::Raw
    }
}

impl Encode<String> for Broken {
    fn encode(&self, _: &String, dst: &mut BytesMut) -> Result<(), CodecError> {
        dst.put_slice(b"half a value");
        panic!("on purpose: an encoder");
    }
}

impl rpc::Decode<String> for Broken {
    fn decode(&self, _: bytes::Bytes) -> Result<String, CodecError> {
        panic!("on purpose: a decoder");
    }
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("on purpose: a drop");
        }
    }
}

fn panics_end_their_calls_alone<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let running = Running::default();
        let (waits, drops) = (running.clone(), running.clone());
        let gate = Arc::new(AtomicBool::new(false));
        let opened = gate.clone();
        let services = Services::new()
            .method("t.T/Echo", Raw, |_, text: String| async move { Ok::<_, Status>(text) })
            .method("t.T/Early", Raw, |_, (): ()| {
                if true {
                    panic!("on purpose: before the future");
                }
                async { Ok::<_, Status>(()) }
            })
            .method("t.T/Encode", Broken, |_, _: Unread| async { Ok::<_, Status>(String::new()) })
            .method("t.T/Decode", Broken, |_, _: String| async { Ok::<_, Status>(String::new()) })
            .server_streaming("t.T/Stream", Raw, |_, (): (), mut out: Sender<String>| async move {
                out.send("one".to_owned()).await?;
                yield_once().await;
                if true {
                    panic!("on purpose: in a stream");
                }
                Ok::<_, Status>(())
            })
            .method("t.T/Wait", Raw, move |_, text: String| {
                let (guard, gate) = (waits.enter(), opened.clone());
                async move {
                    let _guard = guard;
                    until::<R>("the gate is open", || gate.load(Ordering::SeqCst)).await;
                    Ok::<_, Status>(text)
                }
            })
            .method("t.T/Drop", Raw, move |_, (): ()| {
                let held = (drops.enter(), PanicsWhenDropped);
                async move {
                    let _held = held;
                    std::future::pending::<Result<(), Status>>().await
                }
            });
        let (_server, caller) = connected!(R, services);
        let others: Vec<_> = (0..9)
            .map(|i| caller.call::<_, _, String>("t.T/Wait", Raw, &format!("{i}")).into_future())
            .collect();
        until::<R>("nine run", || running.count() == 9).await;
        for _ in 0..3 {
            for method in ["t.T/Early", "t.T/Encode", "t.T/Decode"] {
                let status = caller.call::<_, _, ()>(method, Raw, &()).await.unwrap_err();
                assert_eq!((status.code(), status.executed()), (Code::Internal, Executed::Yes), "{status}");
                assert!(!status.message().contains("purpose"), "{status}");
                let text = "after it".to_owned();
                assert_eq!(caller.call::<_, _, String>("t.T/Echo", Raw, &text).await.unwrap(), text);
            }
            let mut items: Receiver<String> = caller.server_streaming("t.T/Stream", Raw, &()).await.unwrap();
            assert_eq!(items.recv().await.unwrap(), Some("one".to_owned()));
            assert_eq!(items.recv().await.unwrap_err().code(), Code::Internal);
            let call = caller.call::<_, _, ()>("t.T/Drop", Raw, &()).into_future();
            until::<R>("ten run", || running.count() == 10).await;
            drop(call);
            until::<R>("nine run", || running.count() == 9).await;
        }
        gate.store(true, Ordering::SeqCst);
        for (i, other) in others.into_iter().enumerate() {
            assert_eq!(other.await.unwrap(), i.to_string());
        }
        // A handler whose drop panics does not stop the end of its session either.
        let call = caller.call::<_, _, ()>("t.T/Drop", Raw, &()).into_future();
        until::<R>("it runs", || running.count() == 1).await;
        drop(_server);
        assert_eq!(call.await.unwrap_err().code(), Code::Unavailable);
        until::<R>("it is dropped", || running.count() == 0).await;
    }));
}

/// A value that [`Broken`] does not read.
struct Unread;

impl rpc::Decode<Unread> for Broken {
    fn decode(&self, _: bytes::Bytes) -> Result<Unread, CodecError> {
        Ok(Unread)
    }
}

/// Refuses calls that do not say the word.
struct Password;

impl Layer for Password {
    async fn dispatch<D: Dispatch>(&self, inbound: Inbound, next: Next<'_, D>) -> Response {
        if inbound.metadata().get("password") != Some(b"sesame".as_slice()) {
            return Err(Status::unauthenticated("the password is wrong").with_executed(Executed::No));
        }
        next.run(inbound).await
    }
}

fn a_layer_refuses_all_shapes<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let begun = Arc::new(AtomicUsize::new(0));
        let begin = || {
            let begun = begun.clone();
            move || {
                begun.fetch_add(1, Ordering::SeqCst);
            }
        };
        let (unary, server_stream, client_stream, bidi) = (begin(), begin(), begin(), begin());
        let services = Services::new()
            .method("t.T/Unary", Raw, move |_, text: String| {
                unary();
                async move { Ok::<_, Status>(text) }
            })
            .layer(Password)
            .server_streaming("t.T/Server", Raw, move |_, text: String, mut out: Sender<String>| {
                server_stream();
                async move { out.send(text).await }
            })
            .client_streaming("t.T/Client", Raw, move |_, mut items: Receiver<String>| {
                client_stream();
                async move { Ok::<_, Status>(items.recv().await?.unwrap_or_default()) }
            })
            .bidi_streaming(
                "t.T/Bidi",
                Raw,
                move |_, mut items: Receiver<String>, mut out: Sender<String>| {
                    bidi();
                    async move {
                        while let Some(item) = items.recv().await? {
                            out.send(item).await?;
                        }
                        Ok::<_, Status>(())
                    }
                },
            );
        let (_server, caller) = connected!(R, services);
        for password in ["", "guess", "sesame"] {
            let text = "x".to_owned();
            let mut ends = Vec::new();
            let call = caller.call::<_, _, String>("t.T/Unary", Raw, &text).metadata("password", password);
            ends.push(call.await);
            let call = caller.server_streaming::<_, _, String>("t.T/Server", Raw, &text);
            let mut items = call.metadata("password", password).await.unwrap();
            ends.push(items.recv().await.map(Option::unwrap));
            let call = caller.client_streaming::<_, String, String>("t.T/Client", Raw);
            let (mut sender, answer) = call.metadata("password", password).await.unwrap();
            let _ = sender.send(text.clone()).await;
            ends.push(answer.await);
            let call = caller.bidi_streaming::<_, String, String>("t.T/Bidi", Raw);
            let (mut sender, mut items) = call.metadata("password", password).await.unwrap();
            let _ = sender.send(text.clone()).await;
            ends.push(items.recv().await.map(Option::unwrap));
            for end in ends {
                match end {
                    Ok(answer) => assert_eq!((&*answer, password), ("x", "sesame")),
                    Err(status) => {
                        assert_ne!(password, "sesame");
                        assert_eq!((status.code(), status.executed()), (Code::Unauthenticated, Executed::No));
                    }
                }
            }
            let expected = if password == "sesame" { 4 } else { 0 };
            assert_eq!(begun.load(Ordering::SeqCst), expected);
        }
    }));
}

fn a_cut_drops_handlers<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let running = Running::default();
        let counted = running.clone();
        let services = Services::new().bidi_streaming(
            "t.T/Wait",
            Raw,
            move |_, items: Receiver<String>, out: Sender<String>| {
                let guard = counted.enter();
                async move {
                    let _held = (guard, items, out);
                    std::future::pending::<Result<(), Status>>().await
                }
            },
        );
        let server = server::<R>()
            .tcp("127.0.0.1:0", rpc::frames, erased_each(move || services.listener()))
            .await
            .unwrap();
        let cut = Cut { after: 3000, of_client: true, resets: false };
        let cutter = Cutter::to(server.local_addr(), cut);
        let (peer, caller) = rpc::peer(Services::new());
        client::<R>().tcp(&cutter.address().to_string(), rpc::frames(), peer).await.unwrap();
        let mut streams = Vec::new();
        for _ in 0..10 {
            streams.push(caller.bidi_streaming::<_, String, String>("t.T/Wait", Raw).await.unwrap());
        }
        until::<R>("all run", || running.count() == 10).await;
        let (mut sender, mut items) = streams.pop().unwrap();
        while sender.send("x".repeat(1000)).await.is_ok() {}
        assert_eq!(items.recv().await.unwrap_err().code(), Code::Unavailable);
        for (mut sender, mut items) in streams {
            let status = items.recv().await.unwrap_err();
            assert_eq!((status.code(), status.executed()), (Code::Unavailable, Executed::Maybe));
            assert_eq!(items.recv().await.unwrap(), None);
            assert!(sender.send(String::new()).await.is_err());
        }
        until::<R>("all are dropped", || running.count() == 0).await;
    }));
}

/// Services with one method.
macro_rules! echo {
    () => {
        Services::new().method("t.T/Echo", Raw, |_, text: String| async move { Ok::<_, Status>(text) })
    };
}

fn calls_before_the_session_is_open<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let services = echo!();
        let server: Server<R> = server::<R>()
            .tcp("127.0.0.1:0", rpc::frames, erased_each(move || services.listener()))
            .await
            .unwrap();
        let (peer, caller) = rpc::peer(Services::new());
        let text = "early".to_owned();
        let call = || caller.call::<_, _, String>("t.T/Echo", Raw, &text);
        for _ in 0..1000 {
            drop(call().into_future());
        }
        let limits = [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(60), Duration::MAX];
        let calls: Vec<_> = limits.into_iter().map(|limit| call().timeout(limit).into_future()).collect();
        let unlimited = call().into_future();
        client::<R>().tcp(&server.local_addr().to_string(), rpc::frames(), peer).await.unwrap();
        drop(caller);
        let ends = futures::future::join_all(calls).await;
        for (limit, end) in limits.into_iter().zip(ends) {
            if limit < Duration::from_secs(1) {
                let status = end.unwrap_err();
                assert_eq!((status.code(), status.executed()), (Code::DeadlineExceeded, Executed::No));
            } else {
                assert_eq!(end.unwrap(), text);
            }
        }
        assert_eq!(unlimited.await.unwrap(), text);
        until::<R>("the last caller is gone", || server.sessions() == 0).await;
    }));
}

fn calls_that_never_find_a_session<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for way in 0..2 {
            let (peer, caller) = rpc::peer(Services::new());
            let call = caller.call::<_, _, String>("t.T/Echo", Raw, "x").into_future();
            let (mut sender, mut items) =
                caller.bidi_streaming::<_, String, String>("t.T/Echo", Raw).await.unwrap();
            if way == 0 {
                drop(peer);
            } else {
                assert!(client::<R>().tcp(&free.to_string(), rpc::frames(), peer).await.is_err());
            }
            for status in [call.await.unwrap_err(), items.recv().await.unwrap_err()] {
                assert_eq!((status.code(), status.executed()), (Code::Unavailable, Executed::No));
            }
            assert!(sender.send("x".to_owned()).await.is_err());
            assert_eq!(caller.closed().await.code(), Code::Unavailable);
            let status = caller.call::<_, _, String>("t.T/Echo", Raw, "x").await.unwrap_err();
            assert_eq!((status.code(), status.executed()), (Code::Unavailable, Executed::No));
        }
    }));
}

fn a_request_too_large_for_the_server<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let config = Config::builder().max_frame(64 * 1024).build().unwrap();
        let services = echo!().config(config);
        let server: Server<R> = server::<R>()
            .tcp("127.0.0.1:0", rpc::frames, erased_each(move || services.listener()))
            .await
            .unwrap();
        let (peer, caller) = rpc::peer(Services::new());
        let big = "x".repeat(100_000);
        // Before the limits of the server are known, and after.
        let early = caller.call::<_, _, String>("t.T/Echo", Raw, &big).into_future();
        client::<R>().tcp(&server.local_addr().to_string(), rpc::frames(), peer).await.unwrap();
        for call in [early, caller.call("t.T/Echo", Raw, &big).into_future()] {
            let status = call.await.unwrap_err();
            assert_eq!((status.code(), status.executed()), (Code::ResourceExhausted, Executed::No));
        }
        assert_eq!(caller.call::<_, _, String>("t.T/Echo", Raw, "on").await.unwrap(), "on");
    }));
}

fn a_server_without_methods_stays<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (_server, caller) = connected!(R, Services::new());
        for _ in 0..3 {
            let status = caller.call::<_, _, String>("t.T/Echo", Raw, "x").await.unwrap_err();
            assert_eq!((status.code(), status.executed()), (Code::Unimplemented, Executed::No));
        }
    }));
}

fn callers_on_other_threads<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (server, caller) = connected!(R, echo!());
        let threads: Vec<_> = (0..3)
            .map(|number| {
                let caller = caller.clone();
                thread::spawn(move || {
                    smol::block_on(async {
                        for call in 0..200 {
                            let text = format!("{number}-{call}");
                            let answer = caller.call::<_, _, String>("t.T/Echo", Raw, &text).await;
                            assert_eq!(answer.unwrap(), text);
                            drop(caller.clone());
                        }
                    });
                })
            })
            .collect();
        let other = connect::<R>(&server).await;
        assert_eq!(other.call::<_, _, String>("t.T/Echo", Raw, "on").await.unwrap(), "on");
        until::<R>("all threads have ended", || threads.iter().all(thread::JoinHandle::is_finished)).await;
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        // The same call is polled here first, and then elsewhere.
        let mut call = caller.call::<_, _, String>("t.T/Echo", Raw, "moved").into_future();
        let _ = pin!(&mut call).poll(&mut Context::from_waker(Waker::noop()));
        let moved = thread::spawn(move || smol::block_on(call));
        drop((caller, other));
        until::<R>("it has ended", || moved.is_finished()).await;
        // Polled to its end above, it is over; else it has its answer.
        if let Ok(answer) = moved.join().unwrap() {
            assert_eq!(answer, "moved");
        }
        until::<R>("the last callers are gone", || server.sessions() == 0).await;
    }));
}

fn metadata_of_answers_reaches_its_caller<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let services = Services::new().method("t.T/Tag", Raw, |call: rpc::Call, text: String| async move {
            call.reply_metadata("tag", &text).unwrap();
            yield_once().await;
            if text == "wait" {
                return std::future::pending().await;
            }
            Ok::<_, Status>(text)
        });
        let (_server, caller) = connected!(R, services);
        for number in 0..50 {
            drop(caller.call::<_, _, String>("t.T/Tag", Raw, "wait").into_future());
            let text = number.to_string();
            let call = caller.call::<_, _, String>("t.T/Tag", Raw, &text).with_metadata();
            let (answer, metadata) = call.await.unwrap();
            assert_eq!((&answer, metadata.get("tag")), (&text, Some(text.as_bytes())));
        }
    }));
}

#[test]
fn a_dropped_runtime_ends_its_calls() {
    type R = getty_tokio::Tokio;
    let running = Running::default();
    let (calls, streams, caller) = R::block_on(async {
        let counted = running.clone();
        let wait = move |_: rpc::Call, mut items: Receiver<String>| {
            let guard = counted.enter();
            async move {
                let _guard = guard;
                while items.recv().await?.is_some() {}
                Ok::<_, Status>(())
            }
        };
        let config = Config::builder().max_calls(16).build().unwrap();
        let services = Services::new().client_streaming("t.T/Wait", Raw, wait).config(config);
        let (_server, caller) = connected!(R, services);
        let mut calls = Vec::new();
        let mut streams = Vec::new();
        for _ in 0..20 {
            let (sender, answer) = caller.client_streaming::<_, String, ()>("t.T/Wait", Raw).await.unwrap();
            calls.push(answer);
            streams.push(sender);
        }
        until::<R>("as many run as may", || running.count() == 16).await;
        (calls, streams, caller)
    });
    let ends = smol::block_on(in_time::<getty_smol::Smol, _>(futures::future::join_all(calls)));
    for (place, end) in ends.into_iter().enumerate() {
        let status = end.unwrap_err();
        let expected = if place < 16 { Executed::Maybe } else { Executed::No };
        assert_eq!((status.code(), status.executed()), (Code::Unavailable, expected), "call {place}");
    }
    assert_eq!(running.count(), 0);
    assert!(caller.is_closed());
    drop(streams);
}

struct Sleeper;

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {}
}

fn waits_for_the_end_leave_nothing_behind<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (_server, caller) = connected!(R, echo!());
        let sleeper = Arc::new(Sleeper);
        for _ in 0..10 {
            let waker = Waker::from(sleeper.clone());
            let mut wait = pin!(caller.closed());
            assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        assert_eq!(Arc::strong_count(&sleeper), 1);
        assert_eq!(caller.call::<_, _, String>("t.T/Echo", Raw, "on").await.unwrap(), "on");
    }));
}

/// containerd/ttrpc-rust#317: the time of a call counts from the call, whether it waits for its place, for
/// the socket or for the answer.
fn calls_to_a_server_that_reads_nothing_end_at_their_deadline<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
        let (peer, caller) = rpc::peer(Services::new());
        client::<R>().tcp(&listener.local_addr().unwrap().to_string(), rpc::frames(), peer).await.unwrap();
        let (mut silent, _) = listener.accept().unwrap();
        io::Write::write_all(&mut silent, &opening()).unwrap();
        let body = "x".repeat(40_000);
        let limit = Duration::from_millis(100);
        let start = R::now();
        let call = || caller.call::<_, _, String>("t.T/Echo", Raw, &body).timeout(limit).into_future();
        let calls: Vec<_> = (0..300).map(|_| call()).collect();
        let mut not_sent = 0;
        for end in futures::future::join_all(calls).await {
            let status = end.unwrap_err();
            assert_eq!(status.code(), Code::DeadlineExceeded);
            assert_ne!(status.executed(), Executed::Yes);
            not_sent += usize::from(status.executed() == Executed::No);
        }
        assert!(R::now() >= start + limit, "a call ends early");
        assert!((1..300).contains(&not_sent), "{not_sent} calls were not sent");
        assert!(!caller.is_closed());
    }));
}
