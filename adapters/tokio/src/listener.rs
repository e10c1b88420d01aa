//! Listening sockets on tokio for getty.

use std::io;
use std::task::{Context, Poll};

use getty_driver::Accept;
use tokio::net;

use crate::TcpStream;
#[cfg(unix)]
use crate::UnixStream;

/// A listening TCP socket.
#[derive(Debug)]
pub struct TcpListener(net::TcpListener);

impl TcpListener {
    pub(crate) fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        net::TcpListener::from_std(listener).map(TcpListener)
    }
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        self.0.poll_accept(cx).map_ok(|(stream, _)| TcpStream::new(stream))
    }
}

/// A listening Unix socket.
#[cfg(unix)]
#[derive(Debug)]
pub struct UnixListener(net::UnixListener);

#[cfg(unix)]
impl UnixListener {
    pub(crate) fn new(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        net::UnixListener::from_std(listener).map(UnixListener)
    }
}

#[cfg(unix)]
impl Accept for UnixListener {
    type Stream = UnixStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<UnixStream>> {
        self.0.poll_accept(cx).map_ok(|(stream, _)| UnixStream::new(stream))
    }
}
