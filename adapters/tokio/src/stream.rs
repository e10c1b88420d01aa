//! TCP sockets of tokio as getty wants them.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::BytesMut;
use bytes::buf::Limit;
use getty_driver::{Accept, Io};
use tokio::io::{AsyncReadExt, AsyncWrite};

/// A connected TCP socket.
#[derive(Debug)]
pub struct TcpStream(tokio::net::TcpStream);

impl From<tokio::net::TcpStream> for TcpStream {
    fn from(stream: tokio::net::TcpStream) -> Self {
        TcpStream(stream)
    }
}

impl AsRef<tokio::net::TcpStream> for TcpStream {
    fn as_ref(&self) -> &tokio::net::TcpStream {
        &self.0
    }
}

impl Io for TcpStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut Limit<&mut BytesMut>) -> Poll<io::Result<usize>> {
        // The future keeps no state: it is one poll of the socket into uninitialised room, without unsafe here.
        pin!(self.0.read_buf(buf)).poll(cx)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match pieces {
            [one] => Pin::new(&mut self.0).poll_write(cx, one),
            many => Pin::new(&mut self.0).poll_write_vectored(cx, many),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.0.local_addr().ok()
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.0.peer_addr().ok()
    }
}

/// A listening TCP socket.
#[derive(Debug)]
pub struct TcpListener(pub(crate) tokio::net::TcpListener);

impl Accept for TcpListener {
    type Stream = TcpStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        self.0.poll_accept(cx).map_ok(|(stream, _)| TcpStream(stream))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
