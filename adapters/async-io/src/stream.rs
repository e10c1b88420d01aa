//! Connected sockets.

use std::io::{self, ErrorKind, IoSlice, Write};
use std::net::{Shutdown, SocketAddr};
use std::task::{Context, Poll, ready};

use async_io::Async;
use bytes::buf::Limit;
use bytes::{BufMut, BytesMut};
use getty_driver::{Io, TcpOptions};
use socket2::SockRef;

/// A connected TCP socket.
pub type TcpStream = Stream<std::net::TcpStream>;

/// A connected Unix socket.
#[cfg(unix)]
pub type UnixStream = Stream<std::os::unix::net::UnixStream>;

/// A standard library socket in async-io's reactor, as an [`Io`]. It wastes at most one system call per turn,
/// one that returns "would block".
///
/// The reactor alone is not enough. It counts an event only if it arrives in a later round than the
/// registration (smol-rs/async-io#156), so a task that is late is repeatedly reported "not ready" while its
/// bytes wait. Each turn therefore tries one read, whatever the reactor reports.
#[derive(Debug)]
pub struct Stream<S> {
    socket: Async<S>,
    /// Whether there may be something to read: set by the reactor, cleared by a read that finds nothing more.
    readable: bool,
    /// Whether this turn still tries a read regardless of the reactor.
    tries: bool,
}

impl<S> From<Async<S>> for Stream<S> {
    fn from(socket: Async<S>) -> Self {
        // A server's first bytes are often there on accept, a client's never are; a try costs little.
        Stream { socket, readable: true, tries: false }
    }
}

/// Connects to `address`.
///
/// # Errors
/// The system's error.
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    Async::<std::net::TcpStream>::connect(address).await.map(Stream::from)
}

/// Applies `options` to a connected socket.
///
/// # Errors
/// The system rejects an option.
pub fn apply(stream: &TcpStream, options: &TcpOptions) -> io::Result<()> {
    options.apply(&SockRef::from(stream.socket.get_ref()))
}

impl<S> Io for Stream<S>
where
    for<'a> &'a S: Write,
    for<'a> SockRef<'a>: From<&'a S>,
{
    fn begin_turn(&mut self) {
        self.tries = true;
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tries = std::mem::take(&mut self.tries);
        if !self.readable {
            // Also polled when a read is tried anyway: an event left here would cause a useless read later.
            let readable = self.socket.poll_readable(cx)?;
            if readable.is_pending() && !tries {
                return Poll::Pending;
            }
            self.readable = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut Limit<&mut BytesMut>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_readable(cx))?;
            let room = buf.remaining_mut();
            match read(&SockRef::from(self.socket.get_ref()), buf) {
                Err(error) if is_for_later(&error) => self.readable = error.kind() == ErrorKind::Interrupted,
                Err(error) => return Poll::Ready(Err(error)),
                Ok(n) => {
                    // A read that did not fill the buffer emptied the socket. The end of the stream stays
                    // readable.
                    self.readable = n == room || n == 0;
                    return Poll::Ready(Ok(n));
                }
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            let mut socket = self.socket.get_ref();
            let result = match pieces {
                [one] => socket.write(one), // cheaper than a vectored write of one slice
                many => socket.write_vectored(many),
            };
            match result {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_for_later(&error) => ready!(self.socket.poll_writable(cx))?,
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(self.socket.get_ref()).shutdown(Shutdown::Write))
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        SockRef::from(self.socket.get_ref()).local_addr().ok()?.as_socket()
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        SockRef::from(self.socket.get_ref()).peer_addr().ok()?.as_socket()
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Reads once, directly into the unused capacity: zeroing it first cost 4 % at 1 KiB.
#[allow(unsafe_code, reason = "`BytesMut` has no safe way to add bytes that the system wrote")]
fn read(socket: &SockRef<'_>, buf: &mut Limit<&mut BytesMut>) -> io::Result<usize> {
    let allowed = buf.remaining_mut();
    let room = buf.get_mut().spare_capacity_mut();
    let len = room.len().min(allowed);
    let n = socket.recv(&mut room[..len])?;
    // SAFETY: `recv` has initialised the first `n` bytes of the spare capacity it was given.
    unsafe { buf.advance_mut(n) };
    Ok(n)
}
