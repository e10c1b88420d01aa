//! [`MemPackets`]: a datagram socket in memory. [`PacketWire`] is the test's end of it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use getty_core::datagram::{Outgoing, Path, RecvBatch};
use getty_driver::PacketIo;

use super::fake;

/// A datagram with its path, which is `None` on a connected socket.
pub type Datagram = (Option<Path>, Vec<u8>);

/// The datagrams of one receive.
type Received = Vec<(Path, Vec<u8>)>;

/// A socket that is controlled by its [`PacketWire`].
#[derive(Debug)]
pub struct MemPackets {
    shared: Arc<Mutex<Shared>>,
    local: Option<SocketAddr>,
    peer: Option<SocketAddr>,
}

/// The test's end of a [`MemPackets`].
#[derive(Debug, Clone)]
pub struct PacketWire(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    receives: VecDeque<io::Result<Received>>,
    recv_waker: Option<Waker>,
    sent: Vec<Datagram>,
    send_errors: VecDeque<io::Error>,
    /// Number of datagrams that the socket takes before it is full. `None` means any number.
    room: Option<usize>,
    send_waker: Option<Waker>,
    /// Receives find nothing, whatever is there, until the runtime has looked more often than this.
    blind: Option<usize>,
    recv_calls: usize,
    send_calls: usize,
    closed: bool,
    /// The error of every receive that finds no datagram.
    broken: Option<i32>,
}

/// A socket and the test's end of it.
pub fn packets(local: Option<SocketAddr>, peer: Option<SocketAddr>) -> (MemPackets, PacketWire) {
    let shared = Arc::<Mutex<Shared>>::default();
    (MemPackets { shared: shared.clone(), local, peer }, PacketWire(shared))
}

impl PacketWire {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap()
    }

    /// Lets one receive return these datagrams, at most 32.
    pub fn receives(&self, datagrams: impl IntoIterator<Item = (Path, Vec<u8>)>) {
        self.push(Ok(datagrams.into_iter().collect()));
    }

    /// Lets one receive fail.
    pub fn recv_fails(&self, error: impl Into<io::Error>) {
        self.push(Err(error.into()));
    }

    /// Lets every receive fail with this system error once all datagrams are received, until it is set to
    /// `None`.
    pub fn recv_breaks(&self, errno: impl Into<Option<i32>>) {
        let mut shared = self.lock();
        shared.broken = errno.into();
        shared.recv_waker.take().into_iter().for_each(Waker::wake);
    }

    fn push(&self, result: io::Result<Received>) {
        let mut shared = self.lock();
        shared.receives.push_back(result);
        shared.recv_waker.take().into_iter().for_each(Waker::wake);
    }

    /// Lets receives find nothing until the runtime looks, as if it did not know yet what is there.
    pub fn recv_is_blind(&self) {
        self.lock().blind = Some(fake::looks());
    }

    /// Lets the next send fail.
    pub fn send_fails(&self, error: impl Into<io::Error>) {
        self.lock().send_errors.push_back(error.into());
    }

    /// Lets the socket take `datagrams` more before it is full. `None` means any number.
    pub fn set_room(&self, datagrams: impl Into<Option<usize>>) {
        let mut shared = self.lock();
        shared.room = datagrams.into();
        if shared.room != Some(0) {
            shared.send_waker.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Returns the datagrams sent since the last call.
    pub fn take_sent(&self) -> Vec<Datagram> {
        std::mem::take(&mut self.lock().sent)
    }

    /// Number of receives attempted.
    pub fn recv_calls(&self) -> usize {
        self.lock().recv_calls
    }

    /// Number of sends attempted.
    pub fn send_calls(&self) -> usize {
        self.lock().send_calls
    }

    /// Whether the socket was dropped.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }
}

impl PacketIo for MemPackets {
    fn poll_recv(&mut self, cx: &mut Context<'_>, batch: &mut RecvBatch) -> Poll<io::Result<()>> {
        let mut shared = self.shared.lock().unwrap();
        shared.recv_calls += 1;
        if shared.blind == Some(fake::looks()) {
            fake::wake_at_look(cx);
            return Poll::Pending;
        }
        let broken = shared.broken;
        let result =
            shared.receives.pop_front().or(broken.map(|errno| Err(io::Error::from_raw_os_error(errno))));
        let Some(result) = result else {
            shared.recv_waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        Poll::Ready(result.map(|datagrams| {
            for (path, bytes) in datagrams {
                assert!(batch.copy_from(path, &bytes), "a batch holds at most 32 datagrams");
            }
        }))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, outgoing: &Outgoing) -> Poll<io::Result<usize>> {
        assert!(!outgoing.is_empty(), "nothing to send");
        let mut shared = self.shared.lock().unwrap();
        shared.send_calls += 1;
        if let Some(error) = shared.send_errors.pop_front() {
            return Poll::Ready(Err(error));
        }
        let n = outgoing.len().min(shared.room.unwrap_or(usize::MAX));
        if n == 0 {
            shared.send_waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(room) = &mut shared.room {
            *room -= n;
        }
        let datagrams = outgoing
            .transmits()
            .flat_map(|transmit| transmit.datagrams().map(move |bytes| (transmit.path, bytes.to_vec())));
        shared.sent.extend(datagrams.take(n));
        Poll::Ready(Ok(n))
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.local
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer
    }
}

impl Drop for MemPackets {
    fn drop(&mut self) {
        self.shared.lock().unwrap().closed = true;
    }
}
