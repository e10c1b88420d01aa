//! [`Smol`]: the runtime.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::{self, Rc};
use std::sync::{Arc, Weak};
use std::time::Instant;

use getty_async_io::getty_driver::{Runtime, Spawn, TcpOptions};
use getty_async_io::{TcpListener, TcpStream, Timer, UdpSocket};
use smol::{Async, Executor, LocalExecutor};

/// The smol runtime. Its reactor runs inside `smol::block_on`, or else on a thread of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Smol {}

impl Runtime for Smol {
    type Timer = Timer;
    type TcpStream = TcpStream;
    type TcpListener = TcpListener;
    type UdpSocket = UdpSocket;
    type Spawner = Spawner;

    fn now() -> Instant {
        Instant::now()
    }

    fn timer(at: Instant) -> Timer {
        Timer::new(at)
    }

    async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
        let address = address.to_owned();
        smol::unblock(move || Ok(address.to_socket_addrs()?.collect())).await
    }

    fn tcp_listener(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        Async::new(listener).map(TcpListener::from)
    }

    async fn tcp_connect(address: SocketAddr) -> io::Result<TcpStream> {
        getty_async_io::connect(address).await
    }

    fn apply(stream: &TcpStream, options: &TcpOptions) -> io::Result<()> {
        getty_async_io::apply(stream, options)
    }

    fn udp_socket(socket: std::net::UdpSocket) -> io::Result<UdpSocket> {
        UdpSocket::new(socket)
    }
}

#[cfg(unix)]
impl getty_async_io::getty_driver::UnixRuntime for Smol {
    type UnixStream = getty_async_io::UnixStream;
    type UnixListener = getty_async_io::UnixListener;

    fn unix_listener(listener: std::os::unix::net::UnixListener) -> io::Result<Self::UnixListener> {
        Async::new(listener).map(getty_async_io::UnixListener::from)
    }

    fn unix_stream(stream: std::os::unix::net::UnixStream) -> io::Result<Self::UnixStream> {
        Async::new(stream).map(Into::into)
    }
}

/// Spawns tasks on smol's global executor with [`smol::spawn`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Spawner;

impl<F> Spawn<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn spawn(&self, future: F) {
        smol::spawn(future).detach();
    }
}

/// Spawns tasks on the caller's executor. Keeps no strong reference: dropping the executor ends its sessions.
#[derive(Debug, Clone)]
pub struct OnExecutor(Weak<Executor<'static>>);

impl OnExecutor {
    /// Spawns on `executor`.
    pub fn new(executor: &Arc<Executor<'static>>) -> Self {
        OnExecutor(Arc::downgrade(executor))
    }
}

impl<F> Spawn<F> for OnExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn spawn(&self, future: F) {
        if let Some(executor) = self.0.upgrade() {
            executor.spawn(future).detach();
        }
    }
}

/// Spawns tasks on a local executor of the caller, for futures, listeners and codecs that are not `Send`.
/// Holds no strong reference to it: its sessions end when it is dropped.
#[derive(Debug, Clone)]
pub struct OnLocalExecutor(rc::Weak<LocalExecutor<'static>>);

impl OnLocalExecutor {
    /// Spawns on `executor`.
    pub fn new(executor: &Rc<LocalExecutor<'static>>) -> Self {
        OnLocalExecutor(Rc::downgrade(executor))
    }
}

impl<F: Future + 'static> Spawn<F> for OnLocalExecutor
where
    F::Output: 'static,
{
    fn spawn(&self, future: F) {
        if let Some(executor) = self.0.upgrade() {
            executor.spawn(future).detach();
        }
    }
}
