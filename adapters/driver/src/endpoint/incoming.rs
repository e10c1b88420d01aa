//! [`TcpIncoming`] and [`UnixIncoming`]: incoming connections of a server.

use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};

#[cfg(unix)]
use crate::runtime::UnixRuntime;
use crate::runtime::{Accept, Runtime};
use crate::socket::tcp::TcpOptions;
#[cfg(unix)]
use crate::socket::unix::{Kind, SocketFile, UnixOptions};

/// Incoming connections of a TCP [`Server`](crate::Server). It appears only in bounds of
/// [`ServerBuilder`](crate::ServerBuilder)'s methods.
pub struct TcpIncoming<R: Runtime> {
    listener: R::TcpListener,
    options: TcpOptions,
}

impl<R: Runtime> TcpIncoming<R> {
    /// Listens on `address`. Returns the actual address too.
    pub(crate) fn listen(address: SocketAddr, options: TcpOptions) -> io::Result<(Self, SocketAddr)> {
        let socket = options.listen(address)?;
        let local = socket.local_addr()?;
        Ok((TcpIncoming { listener: R::tcp_listener(socket)?, options }, local))
    }
}

impl<R: Runtime> Accept for TcpIncoming<R> {
    type Stream = R::TcpStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<R::TcpStream>> {
        self.listener.poll_accept(cx).map_ok(|stream| {
            // Options fail only if the peer is already gone, which the session will find out.
            let _ = R::apply(&stream, &self.options);
            stream
        })
    }
}

/// Incoming connections of a [`Server`](crate::Server) on a Unix socket. It appears only in bounds of
/// [`ServerBuilder`](crate::ServerBuilder)'s methods.
#[cfg(unix)]
pub struct UnixIncoming<R: UnixRuntime> {
    /// Dropped before the socket, so that no client finds a file without a listener.
    _file: Option<SocketFile>,
    listener: R::UnixListener,
}

#[cfg(unix)]
impl<R: UnixRuntime> UnixIncoming<R> {
    /// Listens on `path`. Returns it too: absolute, unless it is an abstract name.
    pub(crate) fn listen(path: &Path, options: &UnixOptions) -> io::Result<(Self, PathBuf)> {
        let path = match Kind::of(path)? {
            Kind::Abstract => path.to_owned(),
            Kind::File => std::path::absolute(path)?,
        };
        let (socket, file) = options.listen(&path)?;
        Ok((UnixIncoming { _file: file, listener: R::unix_listener(socket)? }, path))
    }
}

#[cfg(unix)]
impl<R: UnixRuntime> Accept for UnixIncoming<R> {
    type Stream = R::UnixStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<R::UnixStream>> {
        self.listener.poll_accept(cx)
    }
}
