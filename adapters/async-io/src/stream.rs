//! Connected sockets.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use async_io::Async;
use getty_driver::{TcpOptions, Watched, WatchedIo};
use socket2::SockRef;

/// A connected TCP socket.
pub type TcpStream = WatchedIo<Reactor<std::net::TcpStream>>;

/// A connected Unix socket.
#[cfg(unix)]
pub type UnixStream = WatchedIo<Reactor<std::os::unix::net::UnixStream>>;

/// A socket in the reactor of async-io.
#[derive(Debug)]
pub struct Reactor<S>(Async<S>);

impl<S> From<Async<S>> for Reactor<S> {
    fn from(socket: Async<S>) -> Self {
        Reactor(socket)
    }
}

impl<S: getty_driver::Socket> Watched for Reactor<S> {
    type Socket = S;

    fn socket(&self) -> &S {
        self.0.get_ref()
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_readable(cx)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_writable(cx)
    }
}

/// Connects to `address`.
///
/// # Errors
/// The system's.
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    Async::<std::net::TcpStream>::connect(address).await.map(|socket| WatchedIo::new(Reactor(socket)))
}

/// Applies `options` to a connected socket.
///
/// # Errors
/// The system does not take an option.
pub fn apply(stream: &TcpStream, options: &TcpOptions) -> io::Result<()> {
    options.apply(&SockRef::from(stream.watched().0.get_ref()))
}
