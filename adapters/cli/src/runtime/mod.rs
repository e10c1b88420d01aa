//! The built-in runtimes, and what the program needs from one.

mod async_std;
mod smol;
mod tokio;

use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::time::Instant;

use clap::ValueEnum;
#[cfg(not(unix))]
use getty_driver::Runtime as Sockets;
#[cfg(unix)]
use getty_driver::UnixRuntime as Sockets;
use getty_driver::{Client, ClientBuilder, Server, ServerBuilder, Spawn, Timer};

/// A runtime, by its name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RuntimeName {
    Tokio,
    Smol,
    AsyncStd,
}

impl RuntimeName {
    pub fn as_str(self) -> &'static str {
        match self {
            RuntimeName::Tokio => "tokio",
            RuntimeName::Smol => "smol",
            RuntimeName::AsyncStd => "async-std",
        }
    }
}

/// Calls `$function::<R>(..)` for the runtime R of a [`RuntimeName`].
macro_rules! on_runtime {
    ($name:expr, $function:ident($($argument:expr),*)) => {
        match $name {
            $crate::runtime::RuntimeName::Tokio => $function::<getty_tokio::Tokio>($($argument),*),
            $crate::runtime::RuntimeName::Smol => $function::<getty_smol::Smol>($($argument),*),
            $crate::runtime::RuntimeName::AsyncStd => $function::<getty_async_std::AsyncStd>($($argument),*),
        }
    };
}
pub(crate) use on_runtime;

/// A built-in runtime.
#[cfg(unix)]
pub trait BuiltIn:
    Executor
    + Sockets<
        Timer: Send,
        TcpStream: Send,
        TcpListener: Send,
        UdpSocket: Send,
        UnixStream: Send,
        UnixListener: Send,
    >
{
}

#[cfg(unix)]
impl<R> BuiltIn for R where
    R: Executor
        + Sockets<
            Timer: Send,
            TcpStream: Send,
            TcpListener: Send,
            UdpSocket: Send,
            UnixStream: Send,
            UnixListener: Send,
        >
{
}

/// A built-in runtime.
#[cfg(not(unix))]
pub trait BuiltIn:
    Executor + Sockets<Timer: Send, TcpStream: Send, TcpListener: Send, UdpSocket: Send>
{
}

#[cfg(not(unix))]
impl<R> BuiltIn for R where
    R: Executor + Sockets<Timer: Send, TcpStream: Send, TcpListener: Send, UdpSocket: Send>
{
}

/// Runs tasks on a runtime.
pub trait Executor {
    /// Runs `future` in this thread, and spawned tasks on `threads` threads.
    ///
    /// # Errors
    /// The system refuses resources that the runtime needs.
    fn block_on<F: Future>(threads: usize, future: F) -> anyhow::Result<F::Output>;

    /// Runs `future` as a task on any thread. Within [`block_on_local`](Self::block_on_local) it stays on
    /// that thread, except on async-std, whose local executor takes no such futures. Must be called within
    /// one of the two.
    fn spawn<F>(future: F)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static;

    /// Runs `future` and locally spawned tasks, all in this thread.
    ///
    /// # Errors
    /// The system refuses resources that the runtime needs.
    fn block_on_local<F: Future>(future: F) -> anyhow::Result<F::Output>;

    /// Runs `future` as a task on this thread. Must be called within
    /// [`block_on_local`](Self::block_on_local).
    fn spawn_local<F: Future + 'static>(future: F)
    where
        F::Output: 'static;
}

/// Spawns with [`Executor::spawn`].
pub struct Spawner<R>(PhantomData<fn(R)>);

impl<R> Clone for Spawner<R> {
    fn clone(&self) -> Self {
        Spawner(PhantomData)
    }
}

impl<R, F> Spawn<F> for Spawner<R>
where
    R: Executor,
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn spawn(&self, future: F) {
        R::spawn(future);
    }
}

/// Spawns with [`Executor::spawn_local`].
pub struct LocalSpawner<R>(PhantomData<fn(R)>);

impl<R, F> Spawn<F> for LocalSpawner<R>
where
    R: Executor,
    F: Future + 'static,
    F::Output: 'static,
{
    fn spawn(&self, future: F) {
        R::spawn_local(future);
    }
}

pub fn server<R: BuiltIn>() -> ServerBuilder<R, Spawner<R>> {
    Server::builder().spawner(Spawner(PhantomData))
}

pub fn client<R: BuiltIn>() -> ClientBuilder<R, Spawner<R>> {
    Client::builder().spawner(Spawner(PhantomData))
}

/// Makes a client whose sessions stay on this thread.
pub fn local_client<R: BuiltIn>() -> ClientBuilder<R, LocalSpawner<R>> {
    Client::builder().spawner(LocalSpawner(PhantomData))
}

pub async fn sleep_until<R: BuiltIn>(at: Instant) {
    let mut timer = R::timer(at);
    poll_fn(|cx| timer.poll(cx)).await;
}
