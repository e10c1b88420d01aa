//! [`AsyncStd`]: the runtime.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use async_std::net::ToSocketAddrs;
use async_std::task;
use getty_async_io::Async;
use getty_async_io::getty_driver::{Runtime, Spawn, TcpOptions};
use getty_async_io::{TcpListener, TcpStream, Timer, UdpSocket};

/// The async-std runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsyncStd {}

impl Runtime for AsyncStd {
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
        Ok(address.to_socket_addrs().await?.collect())
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
impl getty_async_io::getty_driver::UnixRuntime for AsyncStd {
    type UnixStream = getty_async_io::UnixStream;
    type UnixListener = getty_async_io::UnixListener;

    fn unix_listener(listener: std::os::unix::net::UnixListener) -> io::Result<Self::UnixListener> {
        Async::new(listener).map(getty_async_io::UnixListener::from)
    }

    fn unix_stream(stream: std::os::unix::net::UnixStream) -> io::Result<Self::UnixStream> {
        Async::new(stream).map(Into::into)
    }
}

/// Spawns tasks on async-std's global executor with [`async_std::task::spawn`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Spawner;

impl<F> Spawn<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn spawn(&self, future: F) {
        task::spawn(future);
    }
}
