//! [`Still`]: a runtime whose clock stands still, and transports in memory that cost next to nothing.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::buf::Limit;
use bytes::{BufMut, BytesMut};
use getty_core::datagram::{Outgoing, Path, RecvBatch};
use getty_driver::{Accept, Io, PacketIo, Runtime, TcpOptions, Timer};

/// What goes over a transport, shared with the peer. Nothing here wakes a task: it is polled by hand.
#[derive(Default)]
pub struct Wire {
    /// What the peer has sent. It is read at once, or as datagrams.
    pub input: Vec<u8>,
    /// Whether `input` has not been read.
    pub is_unread: bool,
    /// What the driver has written, if it is kept.
    pub output: Vec<u8>,
    pub keeps_output: bool,
    /// Number of bytes or datagrams written since then.
    pub written: usize,
    /// Calls to read and to write, successful or not.
    pub calls: u64,
}

impl Wire {
    /// Replaces what the peer sends.
    pub fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.input.clear();
        write(&mut self.input);
        self.is_unread = !self.input.is_empty();
        self.written = 0;
    }
}

/// A stream.
pub struct Stream(pub Rc<RefCell<Wire>>);

impl Io for Stream {
    fn poll_read(&mut self, _: &mut Context<'_>, buf: &mut Limit<&mut BytesMut>) -> Poll<io::Result<usize>> {
        let wire = &mut *self.0.borrow_mut();
        wire.calls += 1;
        if !wire.is_unread {
            return Poll::Pending;
        }
        wire.is_unread = false;
        buf.put_slice(&wire.input);
        Poll::Ready(Ok(wire.input.len()))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let wire = &mut *self.0.borrow_mut();
        wire.calls += 1;
        let taken = pieces.iter().map(|piece| piece.len()).sum();
        wire.written += taken;
        if wire.keeps_output {
            pieces.iter().for_each(|piece| wire.output.extend_from_slice(piece));
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A datagram socket. The input is cut into datagrams of `size` bytes, each from a peer of its own.
pub struct Socket {
    pub wire: Rc<RefCell<Wire>>,
    pub size: usize,
}

impl PacketIo for Socket {
    fn poll_recv(&mut self, _: &mut Context<'_>, batch: &mut RecvBatch) -> Poll<io::Result<()>> {
        let wire = &mut *self.wire.borrow_mut();
        wire.calls += 1;
        if !wire.is_unread {
            return Poll::Pending;
        }
        wire.is_unread = false;
        for (port, datagram) in (5000..).zip(wire.input.chunks_exact(self.size)) {
            batch.copy_from(Path::new(([10, 0, 0, 1], port).into()), datagram);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send(&mut self, _: &mut Context<'_>, outgoing: &Outgoing) -> Poll<io::Result<usize>> {
        let wire = &mut *self.wire.borrow_mut();
        wire.calls += 1;
        wire.written += outgoing.len();
        if wire.keeps_output {
            let datagrams = outgoing.transmits().flat_map(|transmit| transmit.datagrams());
            datagrams.for_each(|datagram| wire.output.extend_from_slice(datagram));
        }
        Poll::Ready(Ok(outgoing.len()))
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        None
    }
}

/// The runtime. Nothing is due, and no endpoint is made with it.
pub enum Still {}

thread_local! {
    static NOW: Instant = Instant::now();
}

impl Runtime for Still {
    type Timer = Never;
    type TcpStream = Stream;
    type TcpListener = Never;
    type UdpSocket = Socket;
    type Spawner = ();

    fn now() -> Instant {
        NOW.with(|now| *now)
    }

    fn timer(_: Instant) -> Never {
        Never
    }

    async fn resolve(_: &str) -> io::Result<Vec<SocketAddr>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn tcp_listener(_: TcpListener) -> io::Result<Never> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn tcp_connect(_: SocketAddr) -> io::Result<Stream> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn apply(_: &Stream, _: &TcpOptions) -> io::Result<()> {
        Ok(())
    }

    fn udp_socket(_: UdpSocket) -> io::Result<Socket> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A timer that never fires, and a listening socket that never accepts.
pub struct Never;

impl Timer for Never {
    fn reset(&mut self, _: Instant) {}

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Accept for Never {
    type Stream = Stream;

    fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        Poll::Pending
    }
}
