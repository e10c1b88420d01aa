//! What holds for all calls of a server: layers, limits, deadlines, the age of connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use getty_driver::rpc::{self, Caller, Code, Executed, Limit, Raw, Services, Status};

use crate::driver_common::runtimes::{TestRuntime, client, in_time, server, until};
use crate::erased::erased_each;
use crate::{on_every_runtime, on_one_runtime};

on_every_runtime!(an_old_connection_goes_away, a_server_limits_the_time_of_calls);

on_one_runtime!(
    a_connection_can_be_refused,
    calls_over_a_limit_are_refused,
    a_session_takes_what_its_hello_says,
);

async fn connect<R: TestRuntime>(address: std::net::SocketAddr) -> Caller {
    let (peer, caller) = rpc::peer(Services::new());
    client::<R>().tcp(&address.to_string(), rpc::frames(), peer).await.unwrap();
    caller
}

/// Services with `Echo`, and `Wait`, which never answers.
macro_rules! services {
    () => {
        Services::new()
            .method("t.T/Echo", Raw, |_call, text: String| async move { Ok::<_, Status>(text) })
            .method("t.T/Wait", Raw, |_call, (): ()| std::future::pending::<Result<(), Status>>())
    };
}

fn a_connection_can_be_refused<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let connections = Arc::new(AtomicUsize::new(0));
        let services = services!().on_connect(move |_peer, _opened| {
            if connections.fetch_add(1, Ordering::SeqCst) == 0 { Ok(()) } else { Err("one is enough".into()) }
        });
        let server = server::<R>()
            .tcp("127.0.0.1:0", rpc::frames, erased_each(move || services.listener()))
            .await
            .unwrap();
        let first = connect::<R>(server.local_addr()).await;
        assert_eq!(first.call::<_, _, String>("t.T/Echo", Raw, "on").await.unwrap(), "on");
        let second = connect::<R>(server.local_addr()).await;
        let status = second.call::<_, _, String>("t.T/Echo", Raw, "on").await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        second.closed().await;
        assert_eq!(first.call::<_, _, String>("t.T/Echo", Raw, "on").await.unwrap(), "on");
    }));
}

fn an_old_connection_goes_away<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let services = services!().max_age(Duration::from_millis(50));
        let server = server::<R>()
            .tcp("127.0.0.1:0", rpc::frames, erased_each(move || services.listener()))
            .await
            .unwrap();
        let caller = connect::<R>(server.local_addr()).await;
        caller.closed().await;
        let status = caller.call::<_, _, String>("t.T/Echo", Raw, "on").await.unwrap_err();
        assert_eq!((status.code(), status.executed()), (Code::Unavailable, Executed::No));
        until::<R>("the session has ended", || server.sessions() == 0).await;
    }));
}

fn calls_over_a_limit_are_refused<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let services = services!().layer(Limit::new(2)).layer(Limit::new(1).of("t.T/Wait"));
        let server = server::<R>()
            .tcp("127.0.0.1:0", rpc::frames, erased_each(move || services.listener()))
            .await
            .unwrap();
        // On two connections: the limit is the server's.
        let [one, other] = [connect::<R>(server.local_addr()).await, connect::<R>(server.local_addr()).await];
        let waiting = one.call::<_, _, ()>("t.T/Wait", Raw, &()).into_future();
        // It runs before what is called after it on the same connection.
        assert_eq!(one.call::<_, _, String>("t.T/Echo", Raw, "on").await.unwrap(), "on");
        let status = other.call::<_, _, ()>("t.T/Wait", Raw, &()).await.unwrap_err();
        assert_eq!((status.code(), status.executed()), (Code::ResourceExhausted, Executed::No));
        assert!(status.message().contains("t.T/Wait"), "{status}");
        assert_eq!(other.call::<_, _, String>("t.T/Echo", Raw, "on").await.unwrap(), "on");
        drop(waiting);
        // Its place is free once the cancel has come.
        loop {
            let again = other.call::<_, _, ()>("t.T/Wait", Raw, &()).timeout(Duration::from_millis(20));
            match again.await.unwrap_err().code() {
                Code::ResourceExhausted => {}
                code => break assert_eq!(code, Code::DeadlineExceeded),
            }
        }
    }));
}

fn a_server_limits_the_time_of_calls<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let [min, default, max] = [1, 20, 40].map(Duration::from_millis);
        let services = services!().deadlines(min, max, default);
        let server = server::<R>()
            .tcp("127.0.0.1:0", rpc::frames, erased_each(move || services.listener()))
            .await
            .unwrap();
        let caller = connect::<R>(server.local_addr()).await;
        for timeout in [None, Some(Duration::from_secs(86_400))] {
            let mut call = caller.call::<_, _, ()>("t.T/Wait", Raw, &());
            if let Some(timeout) = timeout {
                call = call.timeout(timeout);
            }
            let status = call.await.unwrap_err();
            assert_eq!((status.code(), status.origin()), (Code::DeadlineExceeded, rpc::Origin::Peer));
        }
    }));
}

/// The callers of a server whose sessions take smaller frames learn it, and lose nothing but their call.
fn a_session_takes_what_its_hello_says<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let config = getty_core::Config::builder().max_frame(128 * 1024).build().unwrap();
        let services = services!();
        let server = server::<R>().config(config);
        let server =
            server.tcp("127.0.0.1:0", rpc::frames, erased_each(move || services.listener())).await.unwrap();
        let caller = connect::<R>(server.local_addr()).await;
        assert_eq!(caller.call::<_, _, String>("t.T/Echo", Raw, "on").await.unwrap(), "on");
        let large = "x".repeat(128 * 1024);
        let status = caller.call::<_, _, String>("t.T/Echo", Raw, &large).await.unwrap_err();
        assert_eq!((status.code(), status.executed()), (Code::ResourceExhausted, Executed::No));
        assert_eq!(caller.call::<_, _, String>("t.T/Echo", Raw, "on").await.unwrap(), "on");
    }));
}
