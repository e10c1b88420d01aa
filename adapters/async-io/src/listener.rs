//! Listening TCP sockets.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use async_io::Async;
use getty_driver::{Accept, WatchedIo};

use crate::TcpStream;

/// A listening TCP socket.
#[derive(Debug)]
pub struct TcpListener(Async<std::net::TcpListener>);

impl TcpListener {
    /// Puts a listening socket into the reactor.
    ///
    /// # Errors
    /// The reactor does not take it.
    pub fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        Async::new(listener).map(TcpListener)
    }
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        loop {
            match self.0.get_ref().accept() {
                Ok((socket, _)) => {
                    return Poll::Ready(Async::new(socket).map(|socket| WatchedIo::new(socket.into())));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => ready!(self.0.poll_readable(cx))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().local_addr()
    }
}
