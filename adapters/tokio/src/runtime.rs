//! [`Tokio`]: the runtime.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Context;
use std::time::Instant;

use getty_driver::{Runtime, Spawn, TcpOptions};
use socket2::SockRef;

use crate::{TcpListener, TcpStream, Timer, UdpSocket};

/// The tokio runtime. Must be used inside a tokio runtime with I/O and time enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokio {}

impl Runtime for Tokio {
    type Timer = Timer;
    type TcpStream = TcpStream;
    type TcpListener = TcpListener;
    type UdpSocket = UdpSocket;
    type Spawner = Spawner;

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn timer(at: Instant) -> Timer {
        Timer::new(at)
    }

    fn yield_now(cx: &mut Context<'_>) {
        // One poll leaves the waker with the scheduler, which wakes the task after polling for events.
        let _ = pin!(tokio::task::yield_now()).poll(cx);
    }

    async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host(address).await?.collect())
    }

    fn tcp_listener(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        TcpListener::new(listener)
    }

    async fn tcp_connect(address: SocketAddr) -> io::Result<TcpStream> {
        tokio::net::TcpStream::connect(address).await.map(TcpStream::new)
    }

    fn apply(stream: &TcpStream, options: &TcpOptions) -> io::Result<()> {
        options.apply(&SockRef::from(stream.get_ref()))
    }

    fn udp_socket(socket: std::net::UdpSocket) -> io::Result<UdpSocket> {
        UdpSocket::new(socket)
    }
}

#[cfg(unix)]
impl getty_driver::UnixRuntime for Tokio {
    type UnixStream = crate::UnixStream;
    type UnixListener = crate::UnixListener;

    fn unix_listener(listener: std::os::unix::net::UnixListener) -> io::Result<crate::UnixListener> {
        crate::UnixListener::new(listener)
    }

    fn unix_stream(stream: std::os::unix::net::UnixStream) -> io::Result<crate::UnixStream> {
        tokio::net::UnixStream::from_std(stream).map(crate::UnixStream::new)
    }
}

/// Spawns tasks on the caller's runtime with [`tokio::spawn`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Spawner;

impl<F> Spawn<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn spawn(&self, future: F) {
        tokio::spawn(future);
    }
}

/// Spawns tasks on the caller's thread with [`tokio::task::spawn_local`], for futures, listeners and codecs
/// that are not `Send`.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalSpawner;

impl<F: Future + 'static> Spawn<F> for LocalSpawner {
    fn spawn(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
