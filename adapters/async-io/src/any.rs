//! [`AnyIo`]: any stream as an `Io`, with extra support for sockets.

use std::any::Any;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::task::{Context, Poll};

use async_io::Async;
use bytes::BytesMut;
use bytes::buf::Limit;
use futures_io::{AsyncRead, AsyncWrite};
use getty_driver::{FuturesIo, Io};
use socket2::SockRef;

/// Finds the socket inside a stream, if the stream has one of a runtime's socket types.
pub type FindSocket = fn(&dyn Any) -> Option<SockRef<'_>>;

/// Any stream of the `futures-io` traits as an [`Io`].
///
/// For sockets it also knows the addresses and shuts down the sending side, which closing an [`Async`] or an
/// async-std socket does not do.
#[derive(Debug)]
pub struct AnyIo<S> {
    stream: FuturesIo<S>,
    find_socket: FindSocket,
}

impl<S> AnyIo<S> {
    /// Wraps `stream`. `find_socket` recognises the runtime's own sockets.
    pub fn new(stream: S, find_socket: FindSocket) -> Self {
        AnyIo { stream: FuturesIo::new(stream), find_socket }
    }
}

impl<S: 'static> AnyIo<S> {
    fn socket(&self) -> Option<SockRef<'_>> {
        let stream: &dyn Any = self.stream.get_ref();
        if let Some(tcp) = stream.downcast_ref::<Async<std::net::TcpStream>>() {
            return Some(SockRef::from(tcp));
        }
        #[cfg(unix)]
        if let Some(unix) = stream.downcast_ref::<Async<std::os::unix::net::UnixStream>>() {
            return Some(SockRef::from(unix));
        }
        (self.find_socket)(stream)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Io for AnyIo<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut Limit<&mut BytesMut>) -> Poll<io::Result<usize>> {
        self.stream.poll_read(cx, buf)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.stream.poll_write(cx, pieces)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.socket() {
            Some(socket) => Poll::Ready(socket.shutdown(Shutdown::Write)),
            None => self.stream.poll_shutdown(cx),
        }
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.socket()?.local_addr().ok()?.as_socket()
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.socket()?.peer_addr().ok()?.as_socket()
    }
}
