//! [`UdpSocket`]: UDP sockets of tokio as getty wants them.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use getty_driver::core::datagram::{Outgoing, RecvBatch};
use getty_driver::{BatchSocket, PacketIo};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net;

/// A UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    socket: net::UdpSocket,
    batches: BatchSocket,
}

impl UdpSocket {
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let batches = BatchSocket::new(&SockRef::from(&socket))?;
        Ok(UdpSocket { socket: net::UdpSocket::from_std(socket)?, batches })
    }
}

impl PacketIo for UdpSocket {
    fn poll_recv(&mut self, cx: &mut Context<'_>, batch: &mut RecvBatch) -> Poll<io::Result<()>> {
        let UdpSocket { socket, batches } = self;
        loop {
            ready!(socket.poll_recv_ready(cx))?;
            let mut emptied = false;
            let result = socket.try_io(Interest::READABLE, || {
                emptied = !batches.recv(&SockRef::from(&*socket), batch)?;
                // That is how tokio learns that it has to wait before the next try.
                if emptied { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match result {
                Err(error) if error.kind() == ErrorKind::WouldBlock && !emptied => {}
                result => return Poll::Ready(if emptied { Ok(()) } else { result }),
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, outgoing: &Outgoing) -> Poll<io::Result<usize>> {
        let UdpSocket { socket, batches } = self;
        loop {
            ready!(socket.poll_send_ready(cx))?;
            let send = || batches.send(&SockRef::from(&*socket), outgoing);
            match socket.try_io(Interest::WRITABLE, send) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.socket.peer_addr().ok()
    }
}
