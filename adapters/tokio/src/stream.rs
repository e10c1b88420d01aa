//! [`TokioIo`]: tokio streams for getty.

use std::any::Any;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::buf::Limit;
use bytes::{BufMut, BytesMut};
use getty_driver::Io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net;

/// Any stream with tokio's traits as an [`Io`]: a socket, a TLS stream of another library, an in-memory pipe.
///
/// Addresses are known only for a [`tokio::net::TcpStream`]; see
/// [`Driver::with_addresses`](getty_driver::Driver::with_addresses).
#[derive(Debug)]
pub struct TokioIo<S> {
    stream: S,
    /// The last read of this turn took less than there was room for, so that the next one would only wait.
    read_short: bool,
}

/// A connected TCP socket.
pub type TcpStream = TokioIo<net::TcpStream>;

/// A connected Unix socket.
#[cfg(unix)]
pub type UnixStream = TokioIo<net::UnixStream>;

impl<S> TokioIo<S> {
    /// Wraps `stream`.
    pub fn new(stream: S) -> Self {
        TokioIo { stream, read_short: false }
    }

    /// The wrapped stream.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: 'static> TokioIo<S> {
    fn tcp(&self) -> Option<&net::TcpStream> {
        (&self.stream as &dyn Any).downcast_ref()
    }

    /// Waits for a socket to be readable. Other streams know that only by reading.
    fn poll_socket_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        #[cfg(unix)]
        if let Some(unix) = (&self.stream as &dyn Any).downcast_ref::<net::UnixStream>() {
            return unix.poll_read_ready(cx);
        }
        self.tcp().map_or(Poll::Ready(Ok(())), |tcp| tcp.poll_read_ready(cx))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Io for TokioIo<S> {
    fn begin_turn(&mut self) {
        self.read_short = false;
    }

    /// After a read that took less than there was room for, tokio knows whether there is more, and asking it
    /// costs less than another read.
    #[inline]
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.read_short { self.poll_socket_readable(cx) } else { Poll::Ready(Ok(())) }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut Limit<&mut BytesMut>) -> Poll<io::Result<usize>> {
        let room = buf.remaining_mut();
        // The future has no state: it polls the stream once, into uninitialised capacity, without `unsafe`.
        let read = ready!(pin!(self.stream.read_buf(buf)).poll(cx))?;
        self.read_short = read < room;
        Poll::Ready(Ok(read))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match pieces {
            [one] => Pin::new(&mut self.stream).poll_write(cx, one),
            many => Pin::new(&mut self.stream).poll_write_vectored(cx, many),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp()?.local_addr().ok()
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.tcp()?.peer_addr().ok()
    }
}
