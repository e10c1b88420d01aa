//! Real runtimes: what a test needs in order to run on each of them, from one source.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use getty_core::Items;
use getty_core::codec::LengthDelimited;
use getty_core::websocket::{ClientRequest, Message, ServerOptions};
use getty_driver::{
    ClientBuilder, Connection, Handle, Paths, Receiver, Runtime, Server, ServerBuilder, Timer,
};

use super::recorder::Recorder;
use super::socket::Socket;
use super::{Plain, secs};

/// A runtime that tests run on. Its spawner's bounds hold for concrete types only, hence the methods.
pub trait TestRuntime: Runtime {
    /// Runs `future` on all threads of a runtime of its own.
    fn block_on<F: Future>(future: F) -> F::Output;

    fn spawn(future: impl Future<Output = ()> + Send + 'static);

    fn serve(
        builder: ServerBuilder<Self>,
        listeners: impl Fn() -> Recorder + Send + 'static,
    ) -> impl Future<Output = io::Result<Server<Self>>> {
        Self::serve_at("127.0.0.1:0", builder, listeners)
    }

    fn serve_at(
        address: &str,
        builder: ServerBuilder<Self>,
        listeners: impl Fn() -> Recorder + Send + 'static,
    ) -> impl Future<Output = io::Result<Server<Self>>>;

    fn connect(
        builder: ClientBuilder<Self>,
        address: &str,
        listener: Recorder,
    ) -> impl Future<Output = io::Result<Handle<Bytes>>>;

    fn spawn_connection(
        connection: Connection<Self, Self::TcpStream, Plain>,
    ) -> (Handle<Bytes>, Receiver<Bytes, Bytes>);

    fn serve_websocket(
        builder: ServerBuilder<Self>,
        options: ServerOptions,
        paths: Paths<Items<Message>>,
    ) -> impl Future<Output = io::Result<Server<Self>>>;

    /// Packages of the codec that `serve` has.
    fn serve_packages(
        builder: ServerBuilder<Self>,
        listeners: impl Fn() -> Recorder + Send + 'static,
    ) -> impl Future<Output = io::Result<Server<Self>>>;

    fn connect_websocket(
        builder: ClientBuilder<Self>,
        request: ClientRequest,
        listener: Socket,
    ) -> impl Future<Output = io::Result<Handle<Message>>>;

    fn connect_packages(
        builder: ClientBuilder<Self>,
        request: ClientRequest,
        listener: Recorder,
    ) -> impl Future<Output = io::Result<Handle<Bytes>>>;
}

/// `block_on` for a runtime whose tasks must be `Send`.
#[macro_export]
macro_rules! test_runtime {
    ($runtime:ty, |$future:ident| $block_on:expr, |$task:ident| $spawn:expr) => {
        impl $crate::driver_common::runtimes::TestRuntime for $runtime {
            fn block_on<F: Future>($future: F) -> F::Output {
                let $future = $crate::driver_common::runtimes::in_time::<$runtime, _>($future);
                $block_on
            }

            fn spawn($task: impl Future<Output = ()> + Send + 'static) {
                $spawn;
            }

            async fn serve_at(
                address: &str,
                builder: getty_driver::ServerBuilder<Self>,
                listeners: impl Fn() -> $crate::driver_common::recorder::Recorder + Send + 'static,
            ) -> std::io::Result<getty_driver::Server<Self>> {
                builder.tcp(address, getty_core::codec::LengthDelimited::new, listeners).await
            }

            async fn connect(
                builder: getty_driver::ClientBuilder<Self>,
                address: &str,
                listener: $crate::driver_common::recorder::Recorder,
            ) -> std::io::Result<getty_driver::Handle<bytes::Bytes>> {
                builder.tcp(address, getty_core::codec::LengthDelimited::new(), listener).await
            }

            fn spawn_connection(
                connection: getty_driver::Connection<Self, Self::TcpStream, $crate::driver_common::Plain>,
            ) -> (getty_driver::Handle<bytes::Bytes>, getty_driver::Receiver<bytes::Bytes, bytes::Bytes>)
            {
                connection.spawn(&Self::Spawner::default())
            }

            async fn serve_websocket(
                builder: getty_driver::ServerBuilder<Self>,
                options: getty_core::websocket::ServerOptions,
                paths: getty_driver::Paths<getty_core::Items<getty_core::websocket::Message>>,
            ) -> std::io::Result<getty_driver::Server<Self>> {
                builder.websocket("127.0.0.1:0", options, paths.into_listeners()).await
            }

            async fn serve_packages(
                builder: getty_driver::ServerBuilder<Self>,
                listeners: impl Fn() -> $crate::driver_common::recorder::Recorder + Send + 'static,
            ) -> std::io::Result<getty_driver::Server<Self>> {
                let options = getty_core::websocket::ServerOptions::new();
                let codec = getty_core::codec::LengthDelimited::new;
                let form = move || getty_core::websocket::Packages::new(codec());
                builder.websocket_of("127.0.0.1:0", options, form, listeners).await
            }

            async fn connect_websocket(
                builder: getty_driver::ClientBuilder<Self>,
                request: getty_core::websocket::ClientRequest,
                listener: $crate::driver_common::socket::Socket,
            ) -> std::io::Result<getty_driver::Handle<getty_core::websocket::Message>> {
                builder.websocket(request, listener).await
            }

            async fn connect_packages(
                builder: getty_driver::ClientBuilder<Self>,
                request: getty_core::websocket::ClientRequest,
                listener: $crate::driver_common::recorder::Recorder,
            ) -> std::io::Result<getty_driver::Handle<bytes::Bytes>> {
                let codec = getty_core::codec::LengthDelimited::new();
                builder.websocket_of(request, getty_core::websocket::Packages::new(codec), listener).await
            }
        }
    };
}

test_runtime!(
    getty_tokio::Tokio,
    |future| tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future),
    |task| tokio::spawn(task)
);

test_runtime!(getty_smol::Smol, |future| smol::block_on(future), |task| smol::spawn(task).detach());

test_runtime!(getty_async_std::AsyncStd, |future| async_std::task::block_on(future), |task| {
    async_std::task::spawn(task)
});

/// Makes a test of each function, on every runtime.
#[macro_export]
macro_rules! on_every_runtime {
    ($($test:ident),* $(,)?) => {
        mod on_tokio {
            $(#[test]
            fn $test() {
                super::$test::<getty_tokio::Tokio>();
            })*
        }

        mod on_smol {
            $(#[test]
            fn $test() {
                super::$test::<getty_smol::Smol>();
            })*
        }

        mod on_async_std {
            $(#[test]
            fn $test() {
                super::$test::<getty_async_std::AsyncStd>();
            })*
        }
    };
}

/// A connection to `address` of the plain codec.
pub async fn connect<R: Runtime>(address: std::net::SocketAddr) -> Connection<R, R::TcpStream, Plain> {
    let client = getty_driver::Client::<R>::builder();
    client.tcp_connection(&address.to_string(), LengthDelimited::new()).await.unwrap()
}

/// `future`, which must be done long before the end of the test run.
pub async fn in_time<R: Runtime, F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut timer = R::timer(R::now() + secs(30));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Pending => timer.poll(cx).map(|()| panic!("it hangs")),
        ready => ready,
    })
    .await
}

/// Waits until `condition` holds, looking again and again.
pub async fn until<R: Runtime>(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        sleep::<R>(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

pub async fn sleep<R: Runtime>(time: Duration) {
    let mut timer = R::timer(R::now() + time);
    poll_fn(|cx| timer.poll(cx)).await;
}

/// Runs something that blocks in a thread of its own.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = futures::channel::oneshot::channel();
    std::thread::spawn(move || {
        let _ = tell.send(work());
    });
    told.await.expect("the thread panicked")
}
