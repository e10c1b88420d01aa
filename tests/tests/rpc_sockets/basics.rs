//! RPC over sockets, on every runtime: all four shapes in both directions, deadlines, cancels, panics and
//! shutdown.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use getty_core::websocket::{ClientRequest, ServerOptions, WebSocket};
use getty_driver::Server;
use getty_driver::rpc::{self, Call, Caller, Code, Executed, Raw, Receiver, Sender, Services, Status};

use crate::driver_common::runtimes::{TestRuntime, client, in_time, server, sleep, until};
use crate::erased::{erased, erased_each};
use crate::tls_common::World;
use crate::tls_ends::{client_tls, server_tls};
use crate::{on_every_runtime, on_one_runtime};

on_every_runtime!(
    all_four_shapes,
    a_server_calls_its_client,
    a_deadline_ends_a_call_on_both_sides,
    a_dropped_call_drops_its_handler,
    calls_end_when_the_server_goes,
    the_last_caller_ends_the_connection,
    many_calls_at_once,
    over_websocket,
    over_tls,
    over_a_unix_socket,
);

on_one_runtime!(a_panic_ends_its_call_alone, what_is_not_served_is_said);

/// Serves `services` and connects to them.
macro_rules! connected {
    ($runtime:ty, $services:expr) => {{
        let services = $services;
        let server: getty_driver::Server<$runtime> = $crate::driver_common::runtimes::server::<$runtime>()
            .tcp(
                "127.0.0.1:0",
                getty_driver::rpc::frames,
                $crate::erased::erased_each(move || services.listener()),
            )
            .await
            .unwrap();
        let caller = $crate::basics::connect::<$runtime>(&server).await;
        (server, caller)
    }};
}

pub(crate) use connected;

pub(crate) async fn connect<R: TestRuntime>(server: &Server<R>) -> Caller {
    let (peer, caller) = rpc::peer(Services::new());
    client::<R>().tcp(&server.local_addr().to_string(), rpc::frames(), peer).await.unwrap();
    caller
}

fn all_four_shapes<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let services = Services::new()
            .method("t.T/Echo", Raw, |_call, text: String| async move { Ok::<_, Status>(text) })
            .server_streaming("t.T/Count", Raw, |_call, text: String, mut out: Sender<String>| async move {
                for number in 0..text.parse::<u32>().unwrap() {
                    out.send(number.to_string()).await?;
                }
                Ok::<_, Status>(())
            })
            .client_streaming("t.T/Sum", Raw, |_call, mut numbers: Receiver<String>| async move {
                let mut sum = 0u64;
                while let Some(number) = numbers.recv().await? {
                    sum += number.parse::<u64>().unwrap();
                }
                Ok::<_, Status>(sum.to_string())
            })
            .bidi_streaming(
                "t.T/Talk",
                Raw,
                |_call, mut lines: Receiver<String>, mut out: Sender<String>| async move {
                    while let Some(line) = lines.recv().await? {
                        out.send(line.to_uppercase()).await?;
                    }
                    Ok::<_, Status>(())
                },
            );
        let (server, caller) = connected!(R, services);
        let answer: String = caller.call("t.T/Echo", Raw, "hello").await.unwrap();
        assert_eq!(answer, "hello");

        let mut numbers: Receiver<String> = caller.server_streaming("t.T/Count", Raw, "10000").await.unwrap();
        let mut count = 0;
        while let Some(number) = numbers.recv().await.unwrap() {
            assert_eq!(number, count.to_string());
            count += 1;
        }
        assert_eq!(count, 10_000);

        let (mut sender, sum) = caller.client_streaming::<_, String, String>("t.T/Sum", Raw).await.unwrap();
        for number in 0..10_000 {
            sender.send(number.to_string()).await.unwrap();
        }
        drop(sender);
        assert_eq!(sum.await.unwrap(), "49995000");

        let (mut sender, mut lines) =
            caller.bidi_streaming::<_, String, String>("t.T/Talk", Raw).await.unwrap();
        for _ in 0..1000 {
            sender.send("a".repeat(1000)).await.unwrap();
            assert_eq!(lines.recv().await.unwrap().unwrap(), "A".repeat(1000));
        }
        drop(sender);
        assert_eq!(lines.recv().await.unwrap(), None);
        server.shutdown(Duration::from_secs(5)).await;
    }));
}

fn a_server_calls_its_client<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let services = Services::new().method("t.T/Ask", Raw, |call: Call, (): ()| async move {
            let answer: String = call.peer().call("t.T/Name", Raw, "who").within(&call).await?;
            Ok::<_, Status>(format!("{answer} asked"))
        });
        let server = server::<R>()
            .tcp("127.0.0.1:0", rpc::frames, erased_each(move || services.listener()))
            .await
            .unwrap();
        let own = Services::new()
            .method("t.T/Name", Raw, |_call, _: String| async { Ok::<_, Status>("Ann".to_owned()) });
        let (peer, caller) = rpc::peer(own);
        let peer = erased(peer);
        client::<R>().tcp(&server.local_addr().to_string(), rpc::frames(), peer).await.unwrap();
        let answer: String = caller.call("t.T/Ask", Raw, &()).await.unwrap();
        assert_eq!(answer, "Ann asked");
        drop(server);
    }));
}

/// Counts handlers that have not ended.
#[derive(Clone, Default)]
pub(crate) struct Running(Arc<AtomicUsize>);

impl Running {
    pub(crate) fn enter(&self) -> Guard {
        self.0.fetch_add(1, Ordering::SeqCst);
        Guard(self.0.clone())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

pub(crate) struct Guard(Arc<AtomicUsize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Services with a method that never answers.
macro_rules! endless {
    ($running:expr) => {{
        let running: Running = $running;
        Services::new()
            .method("t.T/Wait", Raw, move |_call, (): ()| {
                let guard = running.enter();
                async move {
                    let _guard = guard;
                    std::future::pending::<Result<(), Status>>().await
                }
            })
            .method("t.T/Echo", Raw, |_call, text: String| async move { Ok::<_, Status>(text) })
            .method("t.T/Panic", Raw, |_call, (): ()| async move {
                if true {
                    panic!("on purpose");
                }
                Ok::<_, Status>(())
            })
    }};
}

fn a_deadline_ends_a_call_on_both_sides<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let running = Running::default();
        let (_server, caller) = connected!(R, endless!(running.clone()));
        let call = caller.call::<_, _, ()>("t.T/Wait", Raw, &()).timeout(Duration::from_millis(30));
        let status = call.await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_ne!(status.executed(), Executed::No); // each side ends the call; the first to do so is heard
        until::<R>("the handler is dropped", || running.count() == 0).await;
        assert_eq!(caller.call::<_, _, String>("t.T/Echo", Raw, "on").await.unwrap(), "on");
    }));
}

fn a_dropped_call_drops_its_handler<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let running = Running::default();
        let (_server, caller) = connected!(R, endless!(running.clone()));
        let call = caller.call::<_, _, ()>("t.T/Wait", Raw, &()).into_future();
        until::<R>("the handler runs", || running.count() == 1).await;
        drop(call);
        until::<R>("the handler is dropped", || running.count() == 0).await;
    }));
}

fn a_panic_ends_its_call_alone<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (_server, caller) = connected!(R, endless!(Running::default()));
        let waiting = caller.call::<_, _, ()>("t.T/Wait", Raw, &()).into_future();
        for _ in 0..3 {
            let status = caller.call::<_, _, ()>("t.T/Panic", Raw, &()).await.unwrap_err();
            assert_eq!((status.code(), status.executed()), (Code::Internal, Executed::Yes));
            assert!(!status.message().contains("purpose"), "{status}");
        }
        assert_eq!(caller.call::<_, _, String>("t.T/Echo", Raw, "on").await.unwrap(), "on");
        drop(waiting);
    }));
}

fn what_is_not_served_is_said<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (_server, caller) = connected!(R, endless!(Running::default()));
        let status = caller.call::<_, _, String>("t.T/Nothing", Raw, "x").await.unwrap_err();
        assert_eq!((status.code(), status.executed()), (Code::Unimplemented, Executed::No));
        assert!(status.message().contains("t.T/Nothing"), "{status}");
        let status = caller.call::<_, _, String>("t.T/Echo", rpc::Json, "x").await.unwrap_err();
        assert_eq!((status.code(), status.executed()), (Code::Unimplemented, Executed::No));
        assert!(status.message().contains("raw") && status.message().contains("json"), "{status}");
        let status = caller.call::<_, _, String>("t.T/Echo", Raw, &vec![0xffu8]).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }));
}

fn calls_end_when_the_server_goes<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let running = Running::default();
        let (server, caller) = connected!(R, endless!(running.clone()));
        let call = caller.call::<_, _, ()>("t.T/Wait", Raw, &()).into_future();
        until::<R>("the handler runs", || running.count() == 1).await;
        server.shutdown(Duration::from_millis(50)).await;
        let status = call.await.unwrap_err();
        assert_eq!((status.code(), status.executed()), (Code::Unavailable, Executed::Maybe));
        let status = caller.call::<_, _, String>("t.T/Echo", Raw, "x").await.unwrap_err();
        assert_eq!((status.code(), status.executed()), (Code::Unavailable, Executed::No));
        caller.closed().await;
        until::<R>("the handler is dropped", || running.count() == 0).await;
    }));
}

fn the_last_caller_ends_the_connection<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (server, caller) = connected!(R, endless!(Running::default()));
        let other = caller.clone();
        drop(caller);
        assert_eq!(other.call::<_, _, String>("t.T/Echo", Raw, "on").await.unwrap(), "on");
        let last = other.call::<_, _, String>("t.T/Echo", Raw, "last").into_future();
        drop(other);
        assert_eq!(last.await.unwrap(), "last");
        until::<R>("the session has ended", || server.sessions() == 0).await;
    }));
}

fn many_calls_at_once<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let services = Services::new().method("t.T/Later", Raw, |_call, text: String| async move {
            sleep::<R>(Duration::from_millis(text.len() as u64 % 7)).await;
            Ok::<_, Status>(text)
        });
        let (_server, caller) = connected!(R, services);
        let calls = (0..2000).map(|i| {
            let caller = caller.clone();
            async move {
                let text = "x".repeat(i);
                let answer: Result<String, Status> = caller.call("t.T/Later", Raw, &text).await;
                match answer {
                    Ok(answer) => assert_eq!(answer, text),
                    Err(status) => {
                        assert_eq!(
                            (status.code(), status.executed()),
                            (Code::ResourceExhausted, Executed::No)
                        );
                    }
                }
            }
        });
        futures::future::join_all(calls).await;
    }));
}

/// Calls, and is called back.
async fn converse(caller: Caller) {
    for _ in 0..3 {
        let text = "x".repeat(100_000);
        assert_eq!(caller.call::<_, _, String>("t.T/Echo", Raw, &text).await.unwrap(), text);
    }
}

/// Services with one method. A function could not say that their futures are `Send`.
macro_rules! echo {
    () => {
        Services::new().method("t.T/Echo", Raw, |_call, text: String| async move { Ok::<_, Status>(text) })
    };
}

fn over_websocket<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let services = echo!();
        let protocol = WebSocket::serving_of(rpc::packages, ServerOptions::new());
        let server = server::<R>()
            .tcp("127.0.0.1:0", protocol, erased_each(move || services.listener()))
            .await
            .unwrap();
        for offers in [false, true] {
            let mut request = ClientRequest::new(&format!("ws://{}/", server.local_addr())).unwrap();
            if offers {
                request = request.protocol("getty-rpc.2").unwrap();
            }
            let (peer, caller) = rpc::peer(Services::new());
            client::<R>().websocket(request, rpc::packages(), peer).await.unwrap();
            converse(caller).await;
        }
    }));
}

fn over_tls<R: TestRuntime>() {
    // On the heap: without optimisation, certificates are checked deep in the stack.
    R::block_on(in_time::<R, _>(Box::pin(async {
        let services = echo!();
        let world = World::new();
        let server = server::<R>().tls(server_tls(&world));
        let server =
            server.tcp("127.0.0.1:0", rpc::frames, erased_each(move || services.listener())).await.unwrap();
        let (peer, caller) = rpc::peer(Services::new());
        let address = server.local_addr().to_string();
        client::<R>().tls(client_tls(&world)).tcp(&address, rpc::frames(), peer).await.unwrap();
        converse(caller).await;
    })));
}

fn over_a_unix_socket<R: TestRuntime + getty_driver::UnixRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let services = echo!();
        let path = std::env::temp_dir().join(format!("getty-rpc-{}-{}", R::NAME, std::process::id()));
        let server =
            server::<R>().unix(&path, rpc::frames, erased_each(move || services.listener())).unwrap();
        let (peer, caller) = rpc::peer(Services::new());
        client::<R>().unix(&path, rpc::frames(), peer).await.unwrap();
        converse(caller).await;
        drop(server);
    }));
}
