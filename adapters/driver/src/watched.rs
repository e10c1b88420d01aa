//! [`WatchedIo`]: a socket of the standard library under the eyes of a reactor.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::task::{Context, Poll, ready};

use bytes::buf::Limit;
use bytes::{BufMut, BytesMut};

use crate::{Io, scratch};

/// A non-blocking socket, and the reactor that tells when it is ready.
pub trait Watched: Unpin {
    /// The socket.
    type Socket: Socket;

    /// The socket.
    fn socket(&self) -> &Self::Socket;

    /// Waits until there is something to read, the end of the stream included.
    ///
    /// # Errors
    /// The reactor can't watch the socket.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Waits until there is room to write.
    ///
    /// # Errors
    /// The reactor can't watch the socket.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A connected stream socket of the standard library, in non-blocking mode.
pub trait Socket {
    /// Reads once.
    ///
    /// # Errors
    /// The system's, [`ErrorKind::WouldBlock`] among them.
    fn read(&self, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes once.
    ///
    /// # Errors
    /// The system's, [`ErrorKind::WouldBlock`] among them.
    fn write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Ends the sending side.
    ///
    /// # Errors
    /// The system's.
    fn shutdown(&self) -> io::Result<()>;

    /// This end's address, if it is one of the internet.
    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// The peer's address, if it is one of the internet.
    fn peer_addr(&self) -> Option<SocketAddr> {
        None
    }
}

impl Socket for TcpStream {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut socket = self;
        Read::read(&mut socket, buf)
    }

    fn write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        write(self, pieces)
    }

    fn shutdown(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr().ok()
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer_addr().ok()
    }
}

#[cfg(unix)]
impl Socket for std::os::unix::net::UnixStream {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut socket = self;
        Read::read(&mut socket, buf)
    }

    fn write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        write(self, pieces)
    }

    fn shutdown(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

fn write(mut socket: impl Write, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    match pieces {
        [one] => socket.write(one),
        many => socket.write_vectored(many),
    }
}

/// A watched socket as an [`Io`], which makes no system call that would only say "not now".
#[derive(Debug)]
pub struct WatchedIo<W> {
    watched: W,
    /// There may be something to read: the last read did not say otherwise.
    readable: bool,
}

impl<W> WatchedIo<W> {
    /// A stream over `watched`.
    pub fn new(watched: W) -> Self {
        // A server's first bytes are often there when it accepts, a client's never; a try costs little.
        WatchedIo { watched, readable: true }
    }

    /// What it is made of.
    pub fn watched(&self) -> &W {
        &self.watched
    }
}

impl<W: Watched> Io for WatchedIo<W> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.readable {
            ready!(self.watched.poll_readable(cx))?;
            self.readable = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut Limit<&mut BytesMut>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_readable(cx))?;
            let result = scratch::lend(|scratch| {
                let room = buf.remaining_mut().min(scratch.len());
                let n = self.watched.socket().read(&mut scratch[..room])?;
                buf.put_slice(&scratch[..n]);
                // A read that did not fill the room has taken all; the end of the stream stays readable.
                self.readable = n == room || n == 0;
                Ok(n)
            });
            match result {
                Err(error) if is_for_later(&error) => self.readable = error.kind() == ErrorKind::Interrupted,
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            match self.watched.socket().write(pieces) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_for_later(&error) => ready!(self.watched.poll_writable(cx))?,
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.watched.socket().shutdown())
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.watched.socket().local_addr()
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.watched.socket().peer_addr()
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
