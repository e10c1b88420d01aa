//! UDP sockets.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use async_io::Async;
use getty_driver::core::datagram::{Outgoing, RecvBatch};
use getty_driver::{BatchSocket, PacketIo};
use socket2::SockRef;

/// A UDP socket that makes at most one system call a turn that only says "not now". [`Stream`](crate::Stream)
/// says why it makes that one.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Async<std::net::UdpSocket>,
    batches: BatchSocket,
    /// There may be something to receive: the last try did not say otherwise, or the reactor did since.
    readable: bool,
    /// The task had to wait: the next call tries whatever the reactor says.
    tries: bool,
}

impl UdpSocket {
    /// Gives `socket` to the reactor.
    ///
    /// # Errors
    /// The reactor does not take it, or the system does not take an option that batches need.
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
                    // After an error there may be something: those are told before what was received.
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
