//! Real runtimes, and the helpers to run one test on each of them.

use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use getty_core::codec::LengthDelimited;
use getty_driver::{
    Client, ClientBuilder, Connection, Framed, Runtime, Server, ServerBuilder, Spawn, Timer, UnixRuntime,
    framed,
};

use super::recorder::Recorder;
use super::{Plain, secs};

/// Any task. Futures are boxed so that executors are compiled once, and not for each future of the tests.
type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A runtime that tests run on.
pub trait TestRuntime:
    UnixRuntime<
        Timer: Send,
        TcpStream: Send,
        TcpListener: Send,
        UdpSocket: Send,
        UnixStream: Send,
        UnixListener: Send,
    >
{
    /// The name, also in the names of tests: see [`on_every_runtime`].
    const NAME: &str;

    /// Runs `future` on the runtime, with all its threads.
    fn run<F: Future>(future: F) -> F::Output;

    /// Spawns with the adapter's own spawner.
    fn spawn<F>(future: F)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static;

    /// Runs `future`, and panics if it takes too long.
    fn block_on<F: Future>(future: F) -> F::Output {
        let future: Pin<Box<dyn Future<Output = F::Output> + '_>> = Box::pin(future);
        Self::run(in_time::<Self, _>(future))
    }
}

impl TestRuntime for getty_tokio::Tokio {
    const NAME: &str = "tokio";

    fn run<F: Future>(future: F) -> F::Output {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().unwrap().block_on(future)
    }

    fn spawn<F>(future: F)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        getty_tokio::Spawner.spawn(Box::pin(future) as Task<F::Output>);
    }
}

impl TestRuntime for getty_smol::Smol {
    const NAME: &str = "smol";

    fn run<F: Future>(future: F) -> F::Output {
        smol::block_on(future)
    }

    fn spawn<F>(future: F)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        getty_smol::Spawner.spawn(Box::pin(future) as Task<F::Output>);
    }
}

impl TestRuntime for getty_async_std::AsyncStd {
    const NAME: &str = "async_std";

    fn run<F: Future>(future: F) -> F::Output {
        async_std::task::block_on(future)
    }

    fn spawn<F>(future: F)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        getty_async_std::Spawner.spawn(Box::pin(future) as Task<F::Output>);
    }
}

/// Spawns with the adapter's own spawner. What that promises for each future can't be expressed for
/// `R::Spawner` in general.
#[derive(Debug)]
pub struct Own<R>(PhantomData<fn(R)>);

impl<R> Own<R> {
    pub fn new() -> Self {
        Own(PhantomData)
    }
}

impl<R> Clone for Own<R> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<R, F> Spawn<F> for Own<R>
where
    R: TestRuntime,
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn spawn(&self, future: F) {
        R::spawn(future);
    }
}

pub fn server<R: TestRuntime>() -> ServerBuilder<R, Own<R>> {
    Server::builder().spawner(Own::new())
}

pub fn client<R: TestRuntime>() -> ClientBuilder<R, Own<R>> {
    Client::builder().spawner(Own::new())
}

/// Serves the plain codec on a free port.
pub async fn serve<R: TestRuntime>(listeners: impl Fn() -> Recorder + Send + 'static) -> Server<R> {
    server::<R>().tcp("127.0.0.1:0", framed(LengthDelimited::new), listeners).await.unwrap()
}

/// Makes a test of each function on every runtime.
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

/// Makes a test of each function on tokio alone: for what does not touch the runtime. What concerns timers,
/// tasks, sockets, or the drop of futures is for [`on_every_runtime`].
#[macro_export]
macro_rules! on_one_runtime {
    ($($test:ident),* $(,)?) => {
        mod on_one_runtime {
            $(#[test]
            fn $test() {
                super::$test::<getty_tokio::Tokio>();
            })*
        }
    };
}

/// Connects to `address` with the plain codec.
pub async fn connect<R: Runtime>(address: std::net::SocketAddr) -> Connection<R, R::TcpStream, Plain> {
    let client = Client::<R>::builder();
    client.tcp_connection(&address.to_string(), Framed::new(LengthDelimited::new())).await.unwrap()
}

/// Awaits `future`, and panics if it takes too long.
pub async fn in_time<R: Runtime, F: Future>(future: F) -> F::Output {
    within::<R, F>(secs(120), future).await
}

/// Awaits `future`, and panics after `limit`.
pub async fn within<R: Runtime, F: Future>(limit: Duration, future: F) -> F::Output {
    let mut future = pin!(future);
    let mut timer = R::timer(R::now() + limit);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Pending => timer.poll(cx).map(|()| panic!("it hangs")),
        ready => ready,
    })
    .await
}

/// Waits until `condition` holds, checking it again and again, for much longer than it should take on a busy
/// machine.
pub async fn until<R: Runtime>(what: &str, mut condition: impl FnMut() -> bool) {
    let patience = R::now() + secs(60);
    while !condition() {
        assert!(R::now() < patience, "never: {what}");
        sleep::<R>(Duration::from_millis(5)).await;
    }
}

pub async fn sleep<R: Runtime>(time: Duration) {
    let mut timer = R::timer(R::now() + time);
    poll_fn(|cx| timer.poll(cx)).await;
}

/// Runs blocking work in a thread of its own.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = futures::channel::oneshot::channel();
    std::thread::spawn(move || {
        let _ = tell.send(work());
    });
    told.await.expect("the thread panicked")
}
