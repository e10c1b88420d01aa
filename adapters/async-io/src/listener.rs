//! Listening sockets.

use std::io::{self, ErrorKind};
use std::task::{Context, Poll, ready};

use async_io::Async;
use getty_driver::Accept;

use crate::TcpStream;

/// A listening socket in async-io's reactor.
#[derive(Debug)]
pub struct ReactorListener<L>(Async<L>);

/// A listening TCP socket.
pub type TcpListener = ReactorListener<std::net::TcpListener>;

/// A listening Unix socket.
#[cfg(unix)]
pub type UnixListener = ReactorListener<std::os::unix::net::UnixListener>;

impl<L> From<Async<L>> for ReactorListener<L> {
    fn from(listener: Async<L>) -> Self {
        ReactorListener(listener)
    }
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        let socket = ready!(self.poll_socket(cx, std::net::TcpListener::accept))?;
        Poll::Ready(Async::new(socket).map(Into::into))
    }
}

#[cfg(unix)]
impl Accept for UnixListener {
    type Stream = crate::UnixStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<crate::UnixStream>> {
        let socket = ready!(self.poll_socket(cx, std::os::unix::net::UnixListener::accept))?;
        Poll::Ready(Async::new(socket).map(Into::into))
    }
}

impl<L> ReactorListener<L> {
    fn poll_socket<S, A>(
        &mut self,
        cx: &mut Context<'_>,
        accept: impl Fn(&L) -> io::Result<(S, A)>,
    ) -> Poll<io::Result<S>> {
        loop {
            match accept(self.0.get_ref()) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => ready!(self.0.poll_readable(cx))?,
                result => return Poll::Ready(result.map(|(socket, _)| socket)),
            }
        }
    }
}
