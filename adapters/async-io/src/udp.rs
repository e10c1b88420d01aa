//! UDP sockets.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use async_io::Async;
use getty_driver::core::datagram::{Outgoing, RecvBatch};
use getty_driver::{BatchSocket, PacketIo};
use socket2::SockRef;

/// A UDP socket that wastes at most one system call per turn, one that returns "would block".
/// [`Stream`](crate::Stream) explains why.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Async<std::net::UdpSocket>,
    batches: BatchSocket,
    /// Whether there may be something to receive: set by the reactor, cleared by a call that finds nothing.
    readable: bool,
    /// Whether the next call tries to receive regardless of the reactor, since the task had to wait.
    tries: bool,
}

impl UdpSocket {
    /// Registers `socket` with the reactor.
    ///
    /// # Errors
    /// The reactor does not accept the socket, or the system rejects an option that batches need.
    pub fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let batches = BatchSocket::new(&SockRef::from(&socket))?;
        Ok(UdpSocket { socket: Async::new(socket)?, batches, readable: true, tries: false })
    }
}

impl PacketIo for UdpSocket {
    fn poll_recv(&mut self, cx: &mut Context<'_>, batch: &mut RecvBatch) -> Poll<io::Result<()>> {
        loop {
            let tries = std::mem::take(&mut self.tries);
            if !self.readable {
                let readable = self.socket.poll_readable(cx)?;
                if readable.is_pending() && !tries {
                    self.tries = true;
                    return Poll::Pending;
                }
                self.readable = true;
            }
            match self.batches.recv(&SockRef::from(self.socket.get_ref()), batch) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                result => {
                    // After an error there may be more: the system reports errors before datagrams.
                    return Poll::Ready(result.map(|more| self.readable = more));
                }
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, outgoing: &Outgoing) -> Poll<io::Result<usize>> {
        loop {
            match self.batches.send(&SockRef::from(self.socket.get_ref()), outgoing) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => ready!(self.socket.poll_writable(cx))?,
                result => return Poll::Ready(result),
            }
        }
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.get_ref().local_addr().ok()
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.socket.get_ref().peer_addr().ok()
    }
}
