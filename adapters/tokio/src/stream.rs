//! [`TokioIo`]: tokio streams for getty.

use std::any::Any;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::BytesMut;
use bytes::buf::Limit;
use getty_driver::Io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net;

/// Any stream with tokio's traits as an [`Io`]: a socket, a TLS stream of another library, an in-memory pipe.
///
/// Addresses are known only for a [`tokio::net::TcpStream`]; see
/// [`Driver::with_addresses`](getty_driver::Driver::with_addresses).
#[derive(Debug)]
pub struct TokioIo<S>(S);

/// A connected TCP socket.
pub type TcpStream = TokioIo<net::TcpStream>;

/// A connected Unix socket.
#[cfg(unix)]
pub type UnixStream = TokioIo<net::UnixStream>;

impl<S> TokioIo<S> {
    /// Wraps `stream`.
    pub fn new(stream: S) -> Self {
        TokioIo(stream)
    }

    /// The wrapped stream.
    pub fn get_ref(&self) -> &S {
        &self.0
    }
}

impl<S: 'static> TokioIo<S> {
    fn tcp(&self) -> Option<&net::TcpStream> {
        (&self.0 as &dyn Any).downcast_ref()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Io for TokioIo<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut Limit<&mut BytesMut>) -> Poll<io::Result<usize>> {
        // The future has no state: it polls the stream once, into uninitialised capacity, without `unsafe`.
        pin!(self.0.read_buf(buf)).poll(cx)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match pieces {
            [one] => Pin::new(&mut self.0).poll_write(cx, one),
            many => Pin::new(&mut self.0).poll_write_vectored(cx, many),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp()?.local_addr().ok()
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.tcp()?.peer_addr().ok()
    }
}
