//! The calling side of RPC over one connection: what waits for the session, and layers around calls.

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use getty_core::rpc::Reply;
use getty_driver::Server;
use getty_driver::rpc::{
    self, Answer, Call, CallLayer, CallNext, CallShape, Caller, Code, Config, Executed, Outbound, Raw,
    Receiver, Response, Sender, Services, Status, Trace,
};

use crate::basics::{Running, connected};
use crate::driver_common::runtimes::{TestRuntime, client, server, sleep, until};
use crate::erased::erased_each;
use crate::{on_every_runtime, on_one_runtime};

on_every_runtime!(a_layer_waits_before_the_call, a_layer_gives_calls_up, layers_are_dropped_with_their_call);

on_one_runtime!(
    the_calls_that_wait_for_the_session_are_limited,
    layers_are_around_calls_of_all_shapes,
    a_layer_refuses_calls_of_all_shapes,
    a_layer_answers_itself,
    a_layer_changes_the_end,
    a_layer_sets_what_goes_with_a_call,
);

/// Services with one method.
macro_rules! echo {
    () => {
        Services::new().method("t.T/Echo", Raw, |_, text: String| async move { Ok::<_, Status>(text) })
    };
}

#[track_caller]
fn assert_is_refused(end: Result<String, Status>) {
    let status = end.unwrap_err();
    assert_eq!((status.code(), status.executed()), (Code::ResourceExhausted, Executed::No), "{status}");
}

fn the_calls_that_wait_for_the_session_are_limited<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        let services = echo!();
        let server: Server<R> = server::<R>()
            .tcp("127.0.0.1:0", rpc::frames, erased_each(move || services.listener()))
            .await
            .unwrap();
        // The default number of calls, and bytes: one call more may begin while there are not too many.
        let few_bytes = Config::builder().max_waiting_bytes(10_000).build().unwrap();
        for (config, size, limit) in [(Config::builder().build().unwrap(), 10, 1024), (few_bytes, 3000, 4)] {
            let (peer, caller) = rpc::peer(Services::new().config(config));
            let text = "x".repeat(size);
            let call = || caller.call::<_, _, String>("t.T/Echo", Raw, &text).into_future();
            let mut calls: Vec<_> = (0..limit).map(|_| call()).collect();
            assert_is_refused(call().await);
            // Each that is given up makes room for one.
            drop(calls.split_off(limit - 2));
            calls.extend([call(), call()]);
            assert_is_refused(call().await);
            client::<R>().tcp(&server.local_addr().to_string(), rpc::frames(), peer).await.unwrap();
            for answer in futures::future::join_all(calls).await {
                assert_eq!(answer.unwrap(), text);
            }
        }
    }));
}

/// Services with all shapes. Each echoes, and says what has come as metadata.
macro_rules! shapes {
    ($running:expr) => {{
        let running: Running = $running;
        Services::new()
            .method("t.T/Unary", Raw, |call: Call, text: String| async move {
                call.reply_metadata("seen", seen(&call)).unwrap();
                Ok::<_, Status>(text)
            })
            .server_streaming("t.T/Server", Raw, |_, text: String, mut out: Sender<String>| async move {
                for _ in 0..100 {
                    out.send(text.clone()).await?;
                }
                Ok::<_, Status>(())
            })
            .client_streaming("t.T/Client", Raw, |_, mut texts: Receiver<String>| async move {
                let mut last = String::new();
                while let Some(text) = texts.recv().await? {
                    last = text;
                }
                Ok::<_, Status>(last)
            })
            .bidi_streaming(
                "t.T/Bidi",
                Raw,
                |_, mut texts: Receiver<String>, mut out: Sender<String>| async move {
                    while let Some(text) = texts.recv().await? {
                        out.send(text).await?;
                    }
                    Ok::<_, Status>(())
                },
            )
            .server_streaming("t.T/Wait", Raw, move |_, text: String, mut out: Sender<String>| {
                let guard = running.enter();
                async move {
                    let _guard = guard;
                    out.send(text).await?;
                    pending::<Result<(), Status>>().await
                }
            })
    }};
}

/// What a handler has seen of layers: metadata, whether there is a deadline, the trace and the attempt.
fn seen(call: &Call) -> String {
    let metadata: Vec<_> = call
        .metadata()
        .iter()
        .map(|(key, value)| format!("{key}={}", String::from_utf8_lossy(value)))
        .collect();
    format!("{} {} {}", metadata.join(","), call.remaining().is_some(), call.attempt())
}

/// Makes a call of each shape. Returns their ends.
async fn each_shape(caller: &Caller) -> [Result<String, Status>; 5] {
    let text = "x".repeat(1000);
    let unary = async { caller.call::<_, _, String>("t.T/Unary", Raw, &text).await };
    let one_way = async { caller.one_way("t.T/Unary", Raw, &text).await.map(|()| "taken".to_owned()) };
    let of_server = async {
        let mut texts: Receiver<String> = caller.server_streaming("t.T/Server", Raw, &text).await?;
        let mut count = 0;
        while let Some(item) = texts.recv().await? {
            assert_eq!(item, text);
            count += 1;
        }
        assert_eq!(texts.recv().await.unwrap(), None);
        Ok(count.to_string())
    };
    let of_client = async {
        let (mut sender, answer): (_, Answer<_, String>) = caller.client_streaming("t.T/Client", Raw).await?;
        for _ in 0..100 {
            let _ = sender.send(text.clone()).await;
        }
        drop(sender);
        answer.await
    };
    let bidi = async {
        let (mut sender, mut texts): (_, Receiver<String>) = caller.bidi_streaming("t.T/Bidi", Raw).await?;
        let mut count = 0;
        for _ in 0..100 {
            if sender.send(text.clone()).await.is_err() {
                break;
            }
            count += usize::from(texts.recv().await?.is_some());
        }
        drop(sender);
        assert_eq!(texts.recv().await?, None);
        Ok(count.to_string())
    };
    [unary.await, one_way.await, of_server.await, of_client.await, bidi.await]
}

const SHAPES: [CallShape; 5] = [
    CallShape::Unary,
    CallShape::OneWay,
    CallShape::ServerStreaming,
    CallShape::ClientStreaming,
    CallShape::BidiStreaming,
];

/// What layers have seen, in order.
type Seen = Arc<Mutex<Vec<String>>>;

/// Notes what it sees, and whether it was dropped before the end.
struct Notes(&'static str, Seen);

struct Dropped<'a>(&'a Notes, bool);

impl Notes {
    fn note(&self, what: &str) {
        self.1.lock().unwrap().push(format!("{} {what}", self.0));
    }
}

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.note("dropped");
        }
    }
}

impl CallLayer for Notes {
    async fn call(&self, outbound: Outbound, next: CallNext<'_>) -> Response {
        let mut dropped = Dropped(self, false);
        self.note(&format!(
            "{:?} {} {} {}",
            outbound.shape(),
            outbound.method(),
            outbound.codec(),
            outbound.body_len()
        ));
        let end = next.run(outbound).await;
        dropped.1 = true;
        self.note(if end.is_ok() { "ok" } else { "failed" });
        end
    }
}

/// Polls what comes next only when that was woken.
struct Sparing;

impl CallLayer for Sparing {
    async fn call(&self, outbound: Outbound, next: CallNext<'_>) -> Response {
        let mut calls = FuturesUnordered::from_iter([next.run(outbound)]);
        calls.next().await.unwrap()
    }
}

/// Handles of calls are held in futures that move between threads, by reference too.
const _: fn() = || {
    fn send_and_sync<T: Send + Sync>() {}
    send_and_sync::<(Caller, Answer<Raw, String>, Sender<String>, Receiver<String>)>();
};

fn layers_are_around_calls_of_all_shapes<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        let (_server, caller) = connected!(R, shapes!(Running::default()));
        let seen = Seen::default();
        let layered = caller.clone().layer(Notes("outer", seen.clone()));
        let layered = layered.layer(Sparing).layer(Notes("inner", seen.clone()));
        let expected = each_shape(&caller).await.map(Result::unwrap);
        assert!(seen.lock().unwrap().is_empty(), "another clone has no layers");
        assert_eq!(each_shape(&layered).await.map(Result::unwrap), expected);
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        assert_eq!(seen.len(), 20, "{seen:?}");
        let methods = ["Unary", "Unary", "Server", "Client", "Bidi"];
        for (i, (shape, method)) in SHAPES.into_iter().zip(methods).enumerate() {
            let size = if i < 3 { 1000 } else { 0 };
            let call = format!("{shape:?} t.T/{method} raw {size}");
            let [began, ended] = [("outer", "inner"), ("inner", "outer")];
            let expected = [
                format!("{} {call}", began.0),
                format!("{} {call}", began.1),
                format!("{} ok", ended.0),
                format!("{} ok", ended.1),
            ];
            assert_eq!(seen[4 * i..][..4], expected);
        }
        // The metadata of an answer is there too.
        let (_, metadata) =
            layered.call::<_, _, String>("t.T/Unary", Raw, "x").with_metadata().await.unwrap();
        assert!(metadata.get("seen").is_some());
    }));
}

/// Ends each call itself.
struct Ends(Response);

impl CallLayer for Ends {
    async fn call(&self, _: Outbound, _: CallNext<'_>) -> Response {
        self.0.clone()
    }
}

fn a_layer_refuses_calls_of_all_shapes<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        let (_server, caller) = connected!(R, shapes!(Running::default()));
        let seen = Seen::default();
        let refusal = Status::unauthenticated("no token").with_executed(Executed::No);
        let caller = caller.layer(Notes("outer", seen.clone())).layer(Ends(Err(refusal.clone())));
        let caller = caller.layer(Notes("inner", seen.clone()));
        for end in each_shape(&caller).await {
            assert_eq!(end.unwrap_err(), refusal);
        }
        assert!(caller.bidi_streaming::<_, String, String>("t.T/Bidi", Raw).await.is_err());
        let seen = seen.lock().unwrap();
        assert!(seen.iter().all(|note| note.starts_with("outer")), "{seen:?}");
        assert_eq!(seen.iter().filter(|note| note.ends_with("failed")).count(), 6);
    }));
}

fn a_layer_answers_itself<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        let (_server, caller) = connected!(R, shapes!(Running::default()));
        let reply = Reply { body: bytes::Bytes::from("cached").into(), ..Reply::default() };
        let caller = caller.layer(Ends(Ok(reply)));
        let ends = each_shape(&caller).await.map(Result::unwrap);
        assert_eq!(ends, ["cached", "taken", "0", "cached", "0"]);
    }));
}

/// Replaces the end of each call.
struct Replaces(Status);

impl CallLayer for Replaces {
    async fn call(&self, outbound: Outbound, next: CallNext<'_>) -> Response {
        next.run(outbound).await.and(Err(self.0.clone()))
    }
}

fn a_layer_changes_the_end<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        let (_server, caller) = connected!(R, shapes!(Running::default()));
        let status = Status::data_loss("replaced");
        let caller = caller.layer(Replaces(status.clone()));
        for end in each_shape(&caller).await {
            assert_eq!(end.unwrap_err(), status);
        }
        // The items come first.
        let mut texts: Receiver<String> = caller.server_streaming("t.T/Server", Raw, "x").await.unwrap();
        for _ in 0..100 {
            assert_eq!(texts.recv().await.unwrap().as_deref(), Some("x"));
        }
        assert_eq!(texts.recv().await.unwrap_err(), status);
        assert_eq!(texts.recv().await.unwrap(), None);
    }));
}

/// Waits for a token before the call.
struct Token<R> {
    token: futures::lock::Mutex<Option<futures::channel::oneshot::Receiver<String>>>,
    pause: Duration,
    runtime: std::marker::PhantomData<fn(R)>,
}

impl<R: TestRuntime> CallLayer for Token<R> {
    async fn call(&self, mut outbound: Outbound, next: CallNext<'_>) -> Response {
        sleep::<R>(self.pause).await;
        if let Some(token) = self.token.lock().await.take() {
            outbound.add_metadata("token", token.await.unwrap()).unwrap();
        }
        next.run(outbound).await
    }
}

fn a_layer_waits_before_the_call<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        let (_server, caller) = connected!(R, shapes!(Running::default()));
        let (give, token) = futures::channel::oneshot::channel();
        let layer = |token, pause| Token::<R> {
            token: futures::lock::Mutex::new(token),
            pause,
            runtime: std::marker::PhantomData,
        };
        let waits = caller.clone().layer(layer(Some(token), Duration::ZERO));
        let call = waits.call::<_, _, String>("t.T/Unary", Raw, "x").with_metadata();
        let mut call = Box::pin(call);
        sleep::<R>(Duration::from_millis(1)).await;
        assert!(futures::poll!(&mut call).is_pending());
        give.send("sesame".to_owned()).unwrap();
        let (_, metadata) = call.await.unwrap();
        assert_eq!(metadata.get("seen"), Some(&b"token=sesame false 0"[..]));
        // The time in the layer counts.
        let slow = caller.layer(layer(None, Duration::from_millis(40)));
        let call = slow.call::<_, _, String>("t.T/Unary", Raw, "x").timeout(Duration::from_millis(20));
        let status = call.await.unwrap_err();
        assert_eq!((status.code(), status.executed()), (Code::DeadlineExceeded, Executed::No));
        let items = slow.server_streaming::<_, _, String>("t.T/Server", Raw, "x");
        assert!(items.await.unwrap().recv().await.unwrap().is_some());
    }));
}

/// Gives each call up when the number is not zero any longer.
struct Hasty<R>(Arc<AtomicUsize>, std::marker::PhantomData<fn(R)>);

impl<R: TestRuntime> CallLayer for Hasty<R> {
    async fn call(&self, outbound: Outbound, next: CallNext<'_>) -> Response {
        let told = async {
            while self.0.load(Ordering::SeqCst) == 0 {
                sleep::<R>(Duration::from_millis(1)).await;
            }
        };
        let call = std::pin::pin!(next.run(outbound));
        match futures::future::select(call, std::pin::pin!(told)).await {
            futures::future::Either::Left((end, _)) => end,
            futures::future::Either::Right(_) => Err(Status::aborted("given up")),
        }
    }
}

fn a_layer_gives_calls_up<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        let running = Running::default();
        let (_server, caller) = connected!(R, shapes!(running.clone()));
        let told = Arc::new(AtomicUsize::new(0));
        let caller = caller.layer(Hasty::<R>(told.clone(), std::marker::PhantomData));
        let mut texts: Receiver<String> = caller.server_streaming("t.T/Wait", Raw, "x").await.unwrap();
        assert_eq!(texts.recv().await.unwrap().as_deref(), Some("x"));
        assert_eq!(running.count(), 1);
        told.store(1, Ordering::SeqCst);
        assert_eq!(texts.recv().await.unwrap_err().code(), Code::Aborted);
        assert_eq!(texts.recv().await.unwrap(), None);
        until::<R>("the handler is dropped", || running.count() == 0).await;
    }));
}

fn layers_are_dropped_with_their_call<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        let running = Running::default();
        let (_server, caller) = connected!(R, shapes!(running.clone()));
        let seen = Seen::default();
        let caller =
            caller.layer(Notes("outer", seen.clone())).layer(Sparing).layer(Notes("inner", seen.clone()));
        let mut texts: Receiver<String> = caller.server_streaming("t.T/Wait", Raw, "x").await.unwrap();
        assert_eq!(texts.recv().await.unwrap().as_deref(), Some("x"));
        let streams = caller.bidi_streaming::<_, String, String>("t.T/Bidi", Raw).await.unwrap();
        let mut call = Box::pin(caller.call::<_, _, String>("t.T/Wait", Raw, "x").into_future());
        assert!(futures::poll!(&mut call).is_pending());
        until::<R>("both run", || running.count() == 2).await;
        assert!(!seen.lock().unwrap().iter().any(|note| note.ends_with("dropped")));
        drop((call, streams, texts));
        let dropped = seen.lock().unwrap().iter().filter(|note| note.ends_with("dropped")).count();
        assert_eq!(dropped, 6);
        until::<R>("the handlers are dropped", || running.count() == 0).await;
    }));
}

/// Sets what can be set.
struct Sets;

impl CallLayer for Sets {
    async fn call(&self, mut outbound: Outbound, next: CallNext<'_>) -> Response {
        assert_eq!(outbound.timeout(), None);
        outbound.set_timeout(Some(Duration::from_secs(60)));
        let trace = outbound.trace().expect("the caller has set it").clone();
        assert_eq!(trace.parent, [7; 25]);
        outbound.set_trace(None);
        assert_eq!(outbound.trace(), None);
        outbound.set_trace(Some(trace));
        assert_eq!(outbound.metadata().get("mine"), Some(&b"1"[..]));
        outbound.add_metadata("its", "2").unwrap();
        assert!(outbound.add_metadata("NOT A KEY", "2").is_err());
        assert_eq!(outbound.attempt(), 0);
        next.run(outbound).await
    }
}

fn a_layer_sets_what_goes_with_a_call<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        let (_server, caller) = connected!(R, shapes!(Running::default()));
        let caller = caller.layer(Sets);
        let trace = Trace { parent: [7; 25], state: Default::default() };
        let call = caller.call::<_, _, String>("t.T/Unary", Raw, "x").metadata("mine", "1").trace(trace);
        let (_, metadata) = call.with_metadata().await.unwrap();
        assert_eq!(metadata.get("seen"), Some(&b"mine=1,its=2 true 0"[..]));
    }));
}
