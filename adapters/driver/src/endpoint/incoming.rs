//! [`TcpIncoming`] and [`UnixIncoming`]: the connections that come to a server.

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

/// The connections of a TCP [`Server`](crate::Server). It appears in bounds of
/// [`ServerBuilder`](crate::ServerBuilder)'s methods only.
pub struct TcpIncoming<R: Runtime> {
    listener: R::TcpListener,
    options: TcpOptions,
}

impl<R: Runtime> TcpIncoming<R> {
    /// Listens on `address`.
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
            // A socket that takes no options is one whose peer has gone; its session will find out.
            let _ = R::apply(&stream, &self.options);
            stream
        })
    }
}

/// The connections of a [`Server`](crate::Server) on a Unix socket. It appears in bounds of
/// [`ServerBuilder`](crate::ServerBuilder)'s methods only.
#[cfg(unix)]
pub struct UnixIncoming<R: UnixRuntime> {
    /// Dropped before the socket: nobody should find a file that leads nowhere.
    _file: Option<SocketFile>,
    listener: R::UnixListener,
}

#[cfg(unix)]
impl<R: UnixRuntime> UnixIncoming<R> {
    /// Listens on `path`, and gives it as an absolute one, unless it is abstract.
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
