//! Reports of calls through the layers `Traced` and `Measured`.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::{IntoFuture, pending};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use getty_driver::rpc::{
    self, Call, CallLayer, CallNext, Caller, Code, Dispatch, Inbound, Layer, Measured, Next, Outbound, Raw,
    Receiver, Response, Sender, Services, Status, Trace, Traced,
};
use getty_tokio::{Client, Server};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Notes the spans of calls, and the messages of the application in each.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    all: Vec<Fields>,
    entered: Vec<usize>,
    /// Wants none.
    is_deaf: bool,
}

type Fields = BTreeMap<String, String>;

struct Fill<'a>(&'a mut Fields);

impl Visit for Fill<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}").trim_matches('"').to_owned();
        let before = self.0.insert(field.name().to_owned(), value);
        assert_eq!(before, None, "{} is recorded once", field.name());
    }
}

impl Spans {
    fn take(&self) -> Vec<Fields> {
        std::mem::take(&mut self.0.lock().unwrap().all)
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_wanted = metadata.is_event() && metadata.target() == "application"
            || metadata.is_span() && (metadata.target(), metadata.name()) == ("getty", "rpc");
        is_wanted && !self.0.lock().unwrap().is_deaf
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::new();
        span.record(&mut Fill(&mut fields));
        let mut state = self.0.lock().unwrap();
        state.all.push(fields);
        Id::from_u64(state.all.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        values.record(&mut Fill(&mut self.0.lock().unwrap().all[span.into_u64() as usize - 1]));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut state = self.0.lock().unwrap();
        let span = *state.entered.last().expect("the application speaks in a span");
        event.record(&mut Fill(&mut state.all[span - 1]));
    }

    fn enter(&self, span: &Id) {
        self.0.lock().unwrap().entered.push(span.into_u64() as usize);
    }

    fn exit(&self, _: &Id) {
        self.0.lock().unwrap().entered.pop();
    }
}

/// Runs everything on this thread, which alone has the subscriber and the recorder.
fn on_one_thread(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

/// Serves `services` and connects to them, with services of the client's own.
macro_rules! connected {
    ($services:expr) => {
        connected!($services, Services::new())
    };
    ($services:expr, $own:expr) => {{
        let services = $services;
        let server = Server::builder().tcp("127.0.0.1:0", rpc::frames, move || services.listener());
        let server = server.await.unwrap();
        let (peer, caller) = rpc::peer($own);
        Client::builder().tcp(&server.local_addr().to_string(), rpc::frames(), peer).await.unwrap();
        (server, caller)
    }};
}

/// A message in the middle of a handler, in another poll than the first.
async fn speak(text: &str) {
    tokio::task::yield_now().await;
    tracing::info!(target: "application", "{text}");
}

/// All four shapes, and methods that end in other ways.
macro_rules! shapes {
    () => {
        Services::new()
            .method("t.T/Echo", Raw, |_, text: String| async move {
                speak(&text).await;
                Ok::<_, Status>(text)
            })
            .server_streaming("t.T/Down", Raw, |_, text: String, mut out: Sender<String>| async move {
                speak(&text).await;
                out.send(text).await
            })
            .client_streaming("t.T/Up", Raw, |_, mut lines: Receiver<String>| async move {
                let text = lines.recv().await?.unwrap();
                speak(&text).await;
                Ok::<_, Status>(text)
            })
            .bidi_streaming(
                "t.T/Talk",
                Raw,
                |_, mut lines: Receiver<String>, mut out: Sender<String>| async move {
                    while let Some(text) = lines.recv().await? {
                        speak(&text).await;
                        out.send(text).await?;
                    }
                    Ok::<_, Status>(())
                },
            )
            .method("t.T/Fail", Raw, |_, (): ()| async { Err::<(), _>(Status::not_found("nothing")) })
            .method("t.T/Wait", Raw, |_, (): ()| pending::<Result<(), Status>>())
            .method("t.T/Panic", Raw, |_, (): ()| async {
                if true {
                    panic!("on purpose");
                }
                Ok::<_, Status>(())
            })
    };
}

/// Calls the method of each shape. Returns the codes of the answers.
async fn call_all_shapes(caller: &Caller) -> [Option<Code>; 4] {
    let unary = caller.call::<_, _, String>("t.T/Echo", Raw, "one").await;
    let mut down: Receiver<String> = caller.server_streaming("t.T/Down", Raw, "two").await.unwrap();
    let down = match down.recv().await {
        Ok(item) => {
            assert_eq!(item.unwrap(), "two");
            down.recv().await.map(drop)
        }
        Err(status) => Err(status),
    };
    let (mut lines, answer) = caller.client_streaming::<_, String, String>("t.T/Up", Raw).await.unwrap();
    let _ = lines.send("three".to_owned()).await;
    let up = answer.await;
    let (mut lines, mut talk) = caller.bidi_streaming::<_, String, String>("t.T/Talk", Raw).await.unwrap();
    let _ = lines.send("four".to_owned()).await;
    let talk = match talk.recv().await {
        Ok(item) => {
            assert_eq!(item.unwrap(), "four");
            drop(lines);
            talk.recv().await.map(drop)
        }
        Err(status) => Err(status),
    };
    [unary.map(drop), down, up.map(drop), talk].map(|end| end.err().map(|status| status.code()))
}

/// Calls that end otherwise: each method with its code.
async fn call_to_other_ends(caller: &Caller) -> [(&'static str, &'static str); 5] {
    caller.call::<_, _, ()>("t.T/Fail", Raw, &()).await.unwrap_err();
    caller.call::<_, _, ()>("t.T/Nothing", Raw, &()).await.unwrap_err();
    caller.call::<_, _, ()>("t.T/Panic", Raw, &()).await.unwrap_err();
    let mut wait = Box::pin(caller.call::<_, _, ()>("t.T/Wait", Raw, &()).into_future());
    assert!(futures::poll!(&mut wait).is_pending());
    drop(caller.call::<_, _, ()>("t.T/Fail", Raw, &()).await); // what is called after it is answered after it
    drop(wait);
    // The server's deadline, since the caller would give up at its own.
    caller.call::<_, _, ()>("t.T/Wait", Raw, &()).await.unwrap_err();
    [
        ("t.T/Fail", "not_found"),
        ("t.T/Nothing", "unimplemented"),
        ("t.T/Panic", "internal"),
        ("t.T/Wait", "cancelled"),
        ("t.T/Wait", "deadline_exceeded"),
    ]
}

/// Refuses every call.
struct Refuse;

impl Layer for Refuse {
    async fn dispatch<D: Dispatch>(&self, _: Inbound, _: Next<'_, D>) -> Response {
        Err(Status::permission_denied("nobody may"))
    }
}

impl CallLayer for Refuse {
    async fn call(&self, _: Outbound, _: CallNext<'_>) -> Response {
        Err(Status::permission_denied("nobody may"))
    }
}

const DEADLINE: Duration = Duration::from_millis(50);

#[test]
fn every_call_of_every_shape_has_a_span() {
    let spans = Spans::default();
    let _subscribed = tracing::subscriber::set_default(spans.clone());
    on_one_thread(async {
        let services = shapes!().deadlines(Duration::ZERO, Duration::MAX, DEADLINE).layer(Traced::new());
        let (_server, caller) = connected!(services);
        assert_eq!(call_all_shapes(&caller).await, [None; 4]);
        let shapes = spans.take();
        let said = |field: &str| shapes.iter().map(|span| span[field].as_str()).collect::<Vec<_>>();
        assert_eq!(said("method"), ["t.T/Echo", "t.T/Down", "t.T/Up", "t.T/Talk"]);
        assert_eq!(said("code"), ["ok"; 4]);
        assert_eq!(said("message"), ["one", "two", "three", "four"], "handlers are polled in their spans");
        for (at, span) in shapes.iter().enumerate() {
            assert!(span["peer"].starts_with("127.0.0.1:"), "{span:?}");
            assert!(!span.contains_key("parent_id"), "{span:?}");
            assert_eq!((span["trace_id"].len(), span["span_id"].len()), (32, 16), "{span:?}");
            let others = || shapes[..at].iter();
            assert!(others().all(|other| other["trace_id"] != span["trace_id"]));
            assert!(others().all(|other| other["span_id"] != span["span_id"]));
        }
    });
}

#[test]
fn a_span_says_how_its_call_ended() {
    let spans = Spans::default();
    let _subscribed = tracing::subscriber::set_default(spans.clone());
    on_one_thread(async {
        let services = shapes!().deadlines(Duration::ZERO, Duration::MAX, DEADLINE).layer(Traced::new());
        let (_server, caller) = connected!(services);
        let expected = call_to_other_ends(&caller).await;
        let spans = spans.take();
        let ends: Vec<_> =
            spans.iter().map(|span| (span["method"].as_str(), span["code"].as_str())).collect();
        for end in expected {
            assert!(ends.contains(&end), "{end:?} in {ends:?}");
        }
        assert_eq!(ends.len(), expected.len() + 1);
    });
}

#[test]
fn what_a_layer_below_refuses_has_a_span_and_what_one_above_refuses_has_none() {
    let spans = Spans::default();
    let _subscribed = tracing::subscriber::set_default(spans.clone());
    on_one_thread(async {
        let (_server, caller) = connected!(shapes!().layer(Traced::new()).layer(Refuse));
        assert_eq!(call_all_shapes(&caller).await, [Some(Code::PermissionDenied); 4]);
        let codes: Vec<_> = spans.take().iter().map(|span| span["code"].clone()).collect();
        assert_eq!(codes, ["permission_denied"; 4]);
        let (_server, caller) = connected!(shapes!().layer(Refuse).layer(Traced::new()));
        assert_eq!(call_all_shapes(&caller).await, [Some(Code::PermissionDenied); 4]);
        assert_eq!(spans.take().len(), 0);
    });
}

/// Calls to and fro. The server has spans, the client hands their trace on.
#[test]
fn a_trace_goes_on_through_calls_within_calls() {
    let spans = Spans::default();
    let _subscribed = tracing::subscriber::set_default(spans.clone());
    on_one_thread(async {
        let on = |to: &'static str| {
            move |call: Call, (): ()| async move {
                let answer: String = call.peer().call(to, Raw, &()).within(&call).await?;
                Ok::<_, Status>(answer)
            }
        };
        let services = Services::new()
            .method("t.T/Begin", Raw, on("t.T/There"))
            .method("t.T/Back", Raw, on("t.T/Last"))
            .layer(Traced::new());
        let own = Services::new().method("t.T/There", Raw, on("t.T/Back")).method(
            "t.T/Last",
            Raw,
            |call: Call, (): ()| async move {
                let trace = call.trace().unwrap();
                assert!(trace.is_sampled());
                Ok::<_, Status>(format!("{:016x} of {:032x}", trace.parent_id(), trace.trace_id()))
            },
        );
        let (_server, caller) = connected!(services, own);
        for _ in 0..2 {
            let last: String = caller.call("t.T/Begin", Raw, &()).await.unwrap();
            let [begin, back] = spans.take().try_into().unwrap();
            assert_eq!([&begin["method"], &back["method"]], ["t.T/Begin", "t.T/Back"]);
            assert_eq!(back["trace_id"], begin["trace_id"]);
            assert_eq!(back["parent_id"], begin["span_id"]);
            assert_ne!(back["span_id"], begin["span_id"]);
            assert_eq!(last, format!("{} of {}", back["span_id"], begin["trace_id"]));
        }
    });
}

#[test]
fn where_no_span_is_wanted_no_trace_begins() {
    let spans = Spans::default();
    spans.0.lock().unwrap().is_deaf = true;
    let _subscribed = tracing::subscriber::set_default(spans);
    on_one_thread(async {
        let services = Services::new()
            .method("t.T/Has", Raw, |call: Call, (): ()| async move {
                Ok::<_, Status>(call.trace().is_some().to_string())
            })
            .layer(Traced::new());
        let (_server, caller) = connected!(services);
        assert_eq!(caller.call::<_, _, String>("t.T/Has", Raw, &()).await.unwrap(), "false");
        let traced = caller.layer(Traced::new());
        assert_eq!(traced.call::<_, _, String>("t.T/Has", Raw, &()).await.unwrap(), "false");
    });
}

/// Speaks before each call.
struct Speak;

impl CallLayer for Speak {
    async fn call(&self, outbound: Outbound, next: CallNext<'_>) -> Response {
        speak(outbound.method()).await;
        next.run(outbound).await
    }
}

/// Spans of one side.
fn of_side<'a>(spans: &'a [Fields], side: &str) -> Vec<&'a Fields> {
    spans.iter().filter(|span| span["side"] == side).collect()
}

#[test]
fn a_call_has_a_span_on_each_side() {
    let spans = Spans::default();
    let _subscribed = tracing::subscriber::set_default(spans.clone());
    on_one_thread(async {
        let (_server, caller) = connected!(shapes!().layer(Traced::new()));
        let caller = caller.layer(Traced::new()).layer(Speak);
        assert_eq!(call_all_shapes(&caller).await, [None; 4]);
        let spans = spans.take();
        let (calls, handlers) = (of_side(&spans, "client"), of_side(&spans, "server"));
        assert_eq!((calls.len(), handlers.len()), (4, 4));
        for (call, handler) in calls.iter().zip(handlers) {
            assert_eq!(call["method"], handler["method"]);
            assert_eq!(call["message"], call["method"], "inner layers are polled in the span");
            assert_eq!(call["code"], "ok");
            assert!(!call.contains_key("parent_id") && !call.contains_key("peer"), "{call:?}");
            assert_eq!((&handler["trace_id"], &handler["parent_id"]), (&call["trace_id"], &call["span_id"]));
            assert_ne!(handler["span_id"], call["span_id"]);
        }
    });
}

#[test]
fn the_span_of_a_call_says_how_it_ended() {
    let spans = Spans::default();
    let _subscribed = tracing::subscriber::set_default(spans.clone());
    on_one_thread(async {
        let services = shapes!().deadlines(Duration::ZERO, Duration::MAX, DEADLINE).layer(Traced::new());
        let (_server, caller) = connected!(services);
        let traced = caller.layer(Traced::new());
        let ends = || {
            let spans = spans.take();
            let ends = of_side(&spans, "client")
                .into_iter()
                .map(|span| (span["method"].clone(), span["code"].clone()));
            ends.collect::<Vec<_>>()
        };
        let expected = call_to_other_ends(&traced).await;
        let all = ends();
        for (method, code) in expected {
            assert!(all.contains(&(method.to_owned(), code.to_owned())), "{method}: {code} in {all:?}");
        }
        assert_eq!(all.len(), expected.len() + 1);

        let is_one = |method: &str, code: &str| assert_eq!(ends(), [(method.to_owned(), code.to_owned())]);
        traced.call::<_, _, ()>("t.T/Wait", Raw, &()).timeout(Duration::from_millis(1)).await.unwrap_err();
        is_one("t.T/Wait", "deadline_exceeded"); // its own deadline
        let mut unread: Receiver<String> = traced.server_streaming("t.T/Down", Raw, "on").await.unwrap();
        unread.recv().await.unwrap().unwrap();
        drop(unread);
        is_one("t.T/Down", "cancelled"); // its end was not read
        traced.layer(Refuse).call::<_, _, ()>("t.T/Echo", Raw, &()).await.unwrap_err();
        is_one("t.T/Echo", "permission_denied"); // by a layer further in
    });
}

/// A call within a handler, back to the side that called it.
#[test]
fn spans_of_calls_and_handlers_are_a_chain() {
    let spans = Spans::default();
    let _subscribed = tracing::subscriber::set_default(spans.clone());
    on_one_thread(async {
        let begin = |call: Call, (): ()| async move {
            let peer = call.peer().layer(Traced::new());
            let sampled: String = peer.call("t.T/Back", Raw, &()).within(&call).await?;
            Ok::<_, Status>(sampled)
        };
        let back = |call: Call, (): ()| async move {
            Ok::<_, Status>(call.trace().unwrap().is_sampled().to_string())
        };
        let services = Services::new().method("t.T/Begin", Raw, begin).layer(Traced::new());
        let own = Services::new().method("t.T/Back", Raw, back).layer(Traced::new());
        let (_server, caller) = connected!(services, own);
        let call = caller.layer(Traced::new()).call::<_, _, String>("t.T/Begin", Raw, &());
        let is_sampled = call.trace(Trace::new(0xABC, 0xDEF, false)).await.unwrap();
        assert_eq!(is_sampled, "false", "that is for the beginning of the trace to decide");
        let mut around = format!("{:016x}", 0xDEF);
        let chain = spans.take();
        assert_eq!(chain.len(), 4);
        for (span, end) in chain.iter().zip([
            ("client", "t.T/Begin"),
            ("server", "t.T/Begin"),
            ("client", "t.T/Back"),
            ("server", "t.T/Back"),
        ]) {
            assert_eq!((span["side"].as_str(), span["method"].as_str()), end);
            assert_eq!((&span["trace_id"], &span["parent_id"]), (&format!("{:032x}", 0xABC), &around));
            around.clone_from(&span["span_id"]);
        }
    });
}

/// The metrics of calls: counters and gauges, and the numbers of times.
fn counted(snapshotter: &Snapshotter) -> BTreeMap<String, f64> {
    let all = snapshotter.snapshot().into_vec().into_iter().map(|(key, _, _, value)| {
        let labels: String = key.key().labels().map(|l| format!("{{{}={}}}", l.key(), l.value())).collect();
        let value = match value {
            DebugValue::Counter(n) => n as f64,
            DebugValue::Gauge(n) => n.into_inner(),
            DebugValue::Histogram(times) => {
                assert!(times.iter().all(|time| (0.0..60.0).contains(&time.into_inner())), "{times:?}");
                times.len() as f64
            }
        };
        (format!("{}{labels}", key.key().name()), value)
    });
    all.filter(|(name, _)| name.starts_with("getty_rpc")).collect()
}

fn measured<F: Future<Output = ()>>(work: impl FnOnce(Snapshotter) -> F) {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || on_one_thread(work(snapshotter)));
}

fn expected(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value)).collect()
}

#[test]
fn calls_of_every_shape_are_counted_and_timed() {
    measured(|snapshotter| async move {
        let (_server, caller) = connected!(shapes!().layer(Measured::new()));
        for _ in 0..2 {
            assert_eq!(call_all_shapes(&caller).await, [None; 4]);
        }
        let mut all = vec![("getty_rpc_calls{side=server}".to_owned(), 0.0)];
        for method in ["t.T/Echo", "t.T/Down", "t.T/Up", "t.T/Talk"] {
            all.push((format!("getty_rpc_call_seconds{{side=server}}{{method={method}}}"), 2.0));
            all.push((format!("getty_rpc_calls_total{{side=server}}{{method={method}}}{{code=ok}}"), 2.0));
        }
        assert_eq!(counted(&snapshotter), all.into_iter().collect());
        let _wait = caller.call::<_, _, ()>("t.T/Wait", Raw, &()).into_future();
        caller.call::<_, _, String>("t.T/Echo", Raw, "on").await.unwrap();
        assert_eq!(counted(&snapshotter)["getty_rpc_calls{side=server}"], 1.0, "one handler runs");
    });
}

#[test]
fn every_end_is_counted_with_its_code() {
    measured(|snapshotter| async move {
        let services = shapes!().deadlines(Duration::ZERO, Duration::MAX, DEADLINE).layer(Measured::new());
        let (_server, caller) = connected!(services);
        call_to_other_ends(&caller).await;
        assert_eq!(
            counted(&snapshotter),
            expected(&[
                ("getty_rpc_calls{side=server}", 0.0),
                ("getty_rpc_call_seconds{side=server}{method=t.T/Fail}", 2.0),
                ("getty_rpc_call_seconds{side=server}{method=t.T/Panic}", 1.0),
                ("getty_rpc_call_seconds{side=server}{method=t.T/Wait}", 2.0),
                ("getty_rpc_call_seconds{side=server}{method=other}", 1.0),
                ("getty_rpc_calls_total{side=server}{method=t.T/Fail}{code=not_found}", 2.0),
                ("getty_rpc_calls_total{side=server}{method=t.T/Panic}{code=internal}", 1.0),
                ("getty_rpc_calls_total{side=server}{method=t.T/Wait}{code=cancelled}", 1.0),
                ("getty_rpc_calls_total{side=server}{method=t.T/Wait}{code=deadline_exceeded}", 1.0),
                ("getty_rpc_calls_total{side=server}{method=other}{code=unimplemented}", 1.0),
            ])
        );
    });
}

#[test]
fn what_a_layer_below_refuses_is_counted_and_what_one_above_refuses_is_not() {
    measured(|snapshotter| async move {
        let (_server, caller) = connected!(shapes!().layer(Measured::new()).layer(Refuse));
        assert_eq!(call_all_shapes(&caller).await, [Some(Code::PermissionDenied); 4]);
        let refused = |method: &str| {
            format!("getty_rpc_calls_total{{side=server}}{{method={method}}}{{code=permission_denied}}")
        };
        let counted = counted(&snapshotter);
        for method in ["t.T/Echo", "t.T/Down", "t.T/Up", "t.T/Talk"] {
            assert_eq!(counted[&refused(method)], 1.0);
        }
    });
    measured(|snapshotter| async move {
        let (_server, caller) = connected!(shapes!().layer(Refuse).layer(Measured::new()));
        assert_eq!(call_all_shapes(&caller).await, [Some(Code::PermissionDenied); 4]);
        assert_eq!(counted(&snapshotter), expected(&[]));
    });
}

/// Also the methods of lists that were added, whatever list the layer is in.
#[test]
fn names_that_callers_invent_make_no_labels() {
    measured(|snapshotter| async move {
        let inner = Services::new()
            .method("in.In/Echo", Raw, |_, text: String| async move { Ok::<_, Status>(text) })
            .layer(Measured::new());
        let (_server, caller) = connected!(shapes!().add(inner).layer(Measured::new()));
        caller.call::<_, _, String>("t.T/Echo", Raw, "on").await.unwrap();
        caller.call::<_, _, String>("in.In/Echo", Raw, "on").await.unwrap();
        for number in 0..2000 {
            let method = format!("t.T/Echo{number}");
            let status = caller.call::<_, _, String>(method, Raw, "on").await.unwrap_err();
            assert_eq!(status.code(), Code::Unimplemented);
        }
        assert_eq!(
            counted(&snapshotter),
            expected(&[
                ("getty_rpc_calls{side=server}", 0.0),
                ("getty_rpc_call_seconds{side=server}{method=t.T/Echo}", 1.0),
                ("getty_rpc_call_seconds{side=server}{method=in.In/Echo}", 2.0), // by two layers
                ("getty_rpc_call_seconds{side=server}{method=other}", 2000.0),
                ("getty_rpc_calls_total{side=server}{method=t.T/Echo}{code=ok}", 1.0),
                ("getty_rpc_calls_total{side=server}{method=in.In/Echo}{code=ok}", 2.0),
                ("getty_rpc_calls_total{side=server}{method=other}{code=unimplemented}", 2000.0),
            ])
        );
    });
}

#[test]
fn calls_of_every_shape_are_counted_and_timed_by_their_caller() {
    measured(|snapshotter| async move {
        let (_server, caller) = connected!(shapes!());
        let caller = caller.layer(Measured::new());
        for _ in 0..2 {
            assert_eq!(call_all_shapes(&caller).await, [None; 4]);
        }
        let mut all = vec![("getty_rpc_calls{side=client}".to_owned(), 0.0)];
        for method in ["t.T/Echo", "t.T/Down", "t.T/Up", "t.T/Talk"] {
            all.push((format!("getty_rpc_call_seconds{{side=client}}{{method={method}}}"), 2.0));
            all.push((format!("getty_rpc_calls_total{{side=client}}{{method={method}}}{{code=ok}}"), 2.0));
        }
        assert_eq!(counted(&snapshotter), all.into_iter().collect());
        let mut wait = Box::pin(caller.call::<_, _, ()>("t.T/Wait", Raw, &()).into_future());
        assert!(futures::poll!(&mut wait).is_pending());
        assert_eq!(counted(&snapshotter)["getty_rpc_calls{side=client}"], 1.0, "one call is under way");
    });
}

#[test]
fn every_end_is_counted_with_its_code_by_its_caller() {
    measured(|snapshotter| async move {
        let (_server, caller) = connected!(shapes!().deadlines(Duration::ZERO, Duration::MAX, DEADLINE));
        let measured = caller.layer(Measured::new());
        call_to_other_ends(&measured).await;
        measured.layer(Refuse).call::<_, _, ()>("t.T/Echo", Raw, &()).await.unwrap_err();
        assert_eq!(
            counted(&snapshotter),
            expected(&[
                ("getty_rpc_calls{side=client}", 0.0),
                ("getty_rpc_call_seconds{side=client}{method=t.T/Echo}", 1.0),
                ("getty_rpc_call_seconds{side=client}{method=t.T/Fail}", 2.0),
                ("getty_rpc_call_seconds{side=client}{method=t.T/Nothing}", 1.0),
                ("getty_rpc_call_seconds{side=client}{method=t.T/Panic}", 1.0),
                ("getty_rpc_call_seconds{side=client}{method=t.T/Wait}", 2.0),
                ("getty_rpc_calls_total{side=client}{method=t.T/Echo}{code=permission_denied}", 1.0),
                ("getty_rpc_calls_total{side=client}{method=t.T/Fail}{code=not_found}", 2.0),
                ("getty_rpc_calls_total{side=client}{method=t.T/Nothing}{code=unimplemented}", 1.0),
                ("getty_rpc_calls_total{side=client}{method=t.T/Panic}{code=internal}", 1.0),
                ("getty_rpc_calls_total{side=client}{method=t.T/Wait}{code=cancelled}", 1.0),
                ("getty_rpc_calls_total{side=client}{method=t.T/Wait}{code=deadline_exceeded}", 1.0),
            ])
        );
    });
}

#[test]
fn a_caller_that_makes_names_up_makes_few_labels() {
    measured(|snapshotter| async move {
        let (_server, caller) = connected!(Services::new());
        let caller = caller.layer(Measured::new()).layer(Refuse);
        for _ in 0..2 {
            for number in 0..1000 {
                caller.call::<_, _, ()>(format!("t.T/Echo{number}"), Raw, &()).await.unwrap_err();
            }
        }
        let mut counted = counted(&snapshotter);
        counted.retain(|name, _| name.starts_with("getty_rpc_calls_total"));
        let other = "getty_rpc_calls_total{side=client}{method=other}{code=permission_denied}";
        assert_eq!(counted.remove(other), Some(2.0 * (1000.0 - 256.0)));
        assert_eq!(counted.len(), 256);
        assert!(counted.values().all(|&calls| calls == 2.0), "a name keeps its label");
    });
}
