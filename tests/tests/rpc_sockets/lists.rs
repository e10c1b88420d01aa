//! Lists of services that are added to others, and the layers around them.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use getty_driver::rpc::{
    CallShape, Caller, Code, CodecName, Config, Dispatch, Executed, Inbound, Layer, Limit, MethodInfo, Next,
    Raw, Receiver, Response, Sender, Service, Services, Status,
};

use crate::basics::connected;
use crate::driver_common::runtimes::{TestRuntime, in_time};
use crate::on_one_runtime;

on_one_runtime!(
    services_of_every_kind_are_added,
    an_outer_layer_covers_everything,
    a_layer_of_a_list_covers_what_is_its_own,
);

/// Counts calls, and refuses those with the metadata `refuse`.
#[derive(Clone, Default)]
struct Watch(Arc<AtomicUsize>);

impl Watch {
    fn take(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

impl Layer for Watch {
    async fn dispatch<D: Dispatch>(&self, inbound: Inbound, next: Next<'_, D>) -> Response {
        self.0.fetch_add(1, Ordering::SeqCst);
        if inbound.metadata().get("refuse").is_some() {
            return Err(Status::permission_denied("asked for").with_executed(Executed::No));
        }
        next.run(inbound).await
    }
}

/// A service as a macro makes one: both methods answer their name.
struct Pair;

const PAIR: [&str; 2] = ["p.Pair/One", "p.Pair/Two"];

impl Service for Pair {
    fn methods(&self) -> Vec<MethodInfo> {
        PAIR.map(|name| MethodInfo::new(name, CallShape::Unary, vec![CodecName::Raw])).to_vec()
    }

    fn has(&self, inbound: &Inbound) -> bool {
        PAIR.iter().any(|method| inbound.is_for(method))
    }
}

impl Dispatch for Pair {
    async fn dispatch(&self, inbound: Inbound) -> Response {
        let is_served = inbound.is_served();
        let text = format!("{} {is_served}", inbound.method());
        Err(Status::new(Code::Aborted, text))
    }
}

/// A list of all shapes, each with the name of the list.
macro_rules! list {
    ($name:literal) => {
        Services::new()
            .method(concat!($name, "/Echo"), Raw, |_, text: String| async move { Ok::<_, Status>(text) })
            .server_streaming(
                concat!($name, "/Down"),
                Raw,
                |_, text: String, mut out: Sender<String>| async move { out.send(text).await },
            )
            .client_streaming(concat!($name, "/Up"), Raw, |_, mut lines: Receiver<String>| async move {
                Ok::<_, Status>(lines.recv().await?.unwrap_or_default())
            })
            .bidi_streaming(
                concat!($name, "/Talk"),
                Raw,
                |_, mut lines: Receiver<String>, mut out: Sender<String>| async move {
                    while let Some(line) = lines.recv().await? {
                        out.send(line).await?;
                    }
                    Ok::<_, Status>(())
                },
            )
    };
}

/// Calls the four methods of a list. Returns the codes of those that failed.
async fn call_all(caller: &Caller, list: &str, refuse: bool) -> Vec<Code> {
    let mut ends = Vec::new();
    let call = caller.call::<_, _, String>(format!("{list}/Echo"), Raw, "one");
    ends.push(
        if refuse { call.metadata("refuse", "") } else { call }.await.map(|text| assert_eq!(text, "one")),
    );
    let down = caller.server_streaming(format!("{list}/Down"), Raw, "two");
    let mut down: Receiver<String> = if refuse { down.metadata("refuse", "") } else { down }.await.unwrap();
    ends.push(down.recv().await.map(|text| assert_eq!(text.unwrap(), "two")));
    let up = caller.client_streaming::<_, String, String>(format!("{list}/Up"), Raw);
    let (mut lines, answer) = if refuse { up.metadata("refuse", "") } else { up }.await.unwrap();
    let _ = lines.send("three".to_owned()).await;
    ends.push(answer.await.map(|text| assert_eq!(text, "three")));
    let talk = caller.bidi_streaming::<_, String, String>(format!("{list}/Talk"), Raw);
    let (mut lines, mut talk) = if refuse { talk.metadata("refuse", "") } else { talk }.await.unwrap();
    let _ = lines.send("four".to_owned()).await;
    ends.push(talk.recv().await.map(|text| assert_eq!(text.unwrap(), "four")));
    ends.into_iter().filter_map(|end| end.err().map(|status| status.code())).collect()
}

fn services_of_every_kind_are_added<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let innermost = list!("c.C");
        let none = Some(list!("d.D")).filter(|_| false);
        let services = list!("a.A").add(list!("b.B").add(Some(innermost)).add(none)).add(Pair);
        let services = services.method("a.A/Last", Raw, |_, (): ()| async { Ok::<_, Status>(()) });
        let (_server, caller) = connected!(R, services);
        for list in ["a.A", "b.B", "c.C"] {
            assert_eq!(call_all(&caller, list, false).await, []);
        }
        caller.call::<_, _, ()>("a.A/Last", Raw, &()).await.unwrap();
        for method in PAIR {
            let status = caller.call::<_, _, ()>(method, Raw, &()).await.unwrap_err();
            assert_eq!((status.code(), status.message()), (Code::Aborted, format!("{method} true").as_str()));
        }
        for method in ["d.D/Echo", "b.B/Ech", "b.B/Echo ", "p.Pair/Three", "A"] {
            let status = caller.call::<_, _, ()>(method, Raw, &()).await.unwrap_err();
            assert_eq!((status.code(), status.executed()), (Code::Unimplemented, Executed::No));
            assert!(status.message().contains(method), "{status}");
        }
    }));
}

fn an_outer_layer_covers_everything<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (first, last) = (Watch::default(), Watch::default());
        let services = Services::new().layer(first.clone()).add(list!("a.A").add(list!("b.B")));
        let services = services.layer(last.clone()).add(list!("c.C"));
        let (_server, caller) = connected!(R, services);
        for list in ["a.A", "b.B", "c.C"] {
            assert_eq!(call_all(&caller, list, false).await, []);
            assert_eq!((first.take(), last.take()), (4, 4));
            assert_eq!(call_all(&caller, list, true).await, [Code::PermissionDenied; 4]);
            assert_eq!(
                (first.take(), last.take()),
                (4, 0),
                "the layer added first is the first to see a call"
            );
        }
        let status = caller.call::<_, _, ()>("no.No/No", Raw, &()).await.unwrap_err();
        assert_eq!((status.code(), first.take(), last.take()), (Code::Unimplemented, 1, 1));
    }));
}

fn a_layer_of_a_list_covers_what_is_its_own<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let watch = Watch::default();
        let waiting = Services::new()
            .layer(Limit::new(1))
            .method("w.W/Wait", Raw, |_, (): ()| std::future::pending::<Result<(), Status>>());
        let middle = list!("b.B").layer(watch.clone()).add(list!("c.C"));
        let services = list!("a.A").add(middle).add(waiting);
        let (_server, caller) = connected!(R, services);
        for (list, covered) in [("a.A", 0), ("b.B", 4), ("c.C", 4)] {
            assert_eq!(call_all(&caller, list, false).await, []);
            assert_eq!(watch.take(), covered, "{list}");
        }
        let _one = caller.call::<_, _, ()>("w.W/Wait", Raw, &()).into_future();
        let status = caller.call::<_, _, ()>("w.W/Wait", Raw, &()).await.unwrap_err();
        assert_eq!((status.code(), status.executed()), (Code::ResourceExhausted, Executed::No));
        assert_eq!(call_all(&caller, "a.A", false).await, []);
        assert_eq!(watch.take(), 0);
    }));
}

/// The text of the panic while a list is built.
fn panics<T>(build: impl FnOnce() -> T) -> String {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(build()))).unwrap_err();
    panic.downcast_ref::<String>().unwrap().clone()
}

#[test]
fn a_name_is_served_once() {
    let double =
        |text: String| assert!(text.contains("is in the list twice") && text.contains("b.B/"), "{text}");
    double(panics(|| list!("a.A").add(list!("b.B")).add(list!("b.B"))));
    double(panics(|| list!("b.B").add(Some(list!("a.A").add(list!("b.B"))))));
    let one = || Services::new().method("p.Pair/Two", Raw, |_, (): ()| async { Ok::<_, Status>(()) });
    for text in [panics(|| one().add(Pair)), panics(|| Services::new().add(Pair).add(Pair))] {
        assert!(text.contains("p.Pair/"), "{text}");
    }
}

#[test]
fn settings_of_connections_belong_to_the_outermost_list() {
    const MAX: Duration = Duration::MAX;
    let named = |name: &str, text: String| assert!(text.contains(&format!("`{name}`")), "{text}");
    named("config", panics(|| Services::new().add(list!("a.A").config(Arc::new(Config::default())))));
    named("deadlines", panics(|| Services::new().add(Some(list!("a.A").deadlines(MAX, MAX, MAX)))));
    named("on_connect", panics(|| Services::new().add(list!("a.A").on_connect(|_, _| Ok(())))));
    named("max_age", panics(|| Services::new().add(list!("a.A").max_age(MAX).layer(Limit::new(1)))));
    drop(Services::new().max_age(MAX).add(list!("a.A")));
}
