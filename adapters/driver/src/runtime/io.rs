//! [`Io`], [`PacketIo`] and [`Timer`]: the driver's requirements on a runtime for one session.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::BytesMut;
use bytes::buf::Limit;
use getty_core::datagram::{Outgoing, RecvBatch};

/// A bidirectional byte stream: a socket, a pipe, memory.
///
/// A method that returns [`Poll::Pending`] has arranged for the task to be woken. All methods of one stream
/// are called from one task, so one waker serves both directions.
pub trait Io: Unpin {
    /// Begins a turn: the task is polled again. A stream that remembers that it had nothing to read must
    /// now try again: it may have missed the event while the task was busy.
    fn begin_turn(&mut self) {}

    /// Waits until reading is worth an attempt, where that is known without a system call.
    ///
    /// # Errors
    /// The stream has failed.
    fn poll_readable(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Appends received bytes to `buf`, whose spare room need not be zeroed first. 0 means the end of the
    /// stream.
    ///
    /// # Errors
    /// The stream has failed.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut Limit<&mut BytesMut>) -> Poll<io::Result<usize>>;

    /// Writes from the start of `pieces` and returns the number of bytes taken. There is always something
    /// to write.
    ///
    /// # Errors
    /// The stream has failed; 0 bytes taken counts as a failure too.
    fn poll_write(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// Passes on written bytes that the stream may hold back. Sockets hold back none.
    ///
    /// # Errors
    /// The stream has failed.
    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends the sending side: the peer sees the end of the stream and can go on sending.
    ///
    /// # Errors
    /// The stream has failed.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// The local address, if there is one.
    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// The peer's address, if there is one.
    fn peer_addr(&self) -> Option<SocketAddr> {
        None
    }
}

/// A datagram socket.
///
/// As for [`Io`], every method that gives [`Poll::Pending`] has arranged for the task to be woken.
pub trait PacketIo: Unpin {
    /// Receives as many datagrams as one call returns, at least one, into the slots of `batch`, which is
    /// empty.
    ///
    /// # Errors
    /// The system's. Errors that may concern one datagram, such as
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused), end nothing: they are reported as a dropped
    /// datagram. If the same error recurs at the next call, receiving rests, at first for 10 ms, and after
    /// 9 rests (5 s) the session ends with it. Of the system's errors, `EBADF`, `ENOTSOCK`, `EFAULT`,
    /// `ENOSYS` and `EINVAL` end the session at once.
    fn poll_recv(&mut self, cx: &mut Context<'_>, batch: &mut RecvBatch) -> Poll<io::Result<()>>;

    /// Sends from the first datagram on, as many as the socket takes, and returns their number, at least
    /// one. There is always something to send.
    ///
    /// # Errors
    /// The first datagram cannot be sent; nothing was. It is dropped and reported. If the socket is
    /// connected and the error may concern a datagram sent earlier, the first one is tried once more.
    /// `EBADF`, `ENOTSOCK`, `EFAULT` and `ENOSYS` end the session.
    fn poll_send(&mut self, cx: &mut Context<'_>, outgoing: &Outgoing) -> Poll<io::Result<usize>>;

    /// The local address, if there is one.
    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// The peer's address, if the socket is connected.
    fn peer_addr(&self) -> Option<SocketAddr> {
        None
    }
}

/// One timer of a runtime.
pub trait Timer: Unpin {
    /// Sets the time at which the timer fires; replaces an earlier setting.
    fn reset(&mut self, at: Instant);

    /// Waits until the timer fires. Stays ready until it is reset.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}
