//! [`UdpSocket`]: UDP sockets on tokio for getty.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use getty_driver::core::datagram::{Outgoing, RecvBatch};
use getty_driver::{BatchSocket, PacketIo};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net;

/// A UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Arc<net::UdpSocket>,
    batches: BatchSocket,
    /// Watches a connected socket for errors, which waiting for readability does not report.
    errors: Option<Errors>,
    /// Set until a receive finds the socket empty. Until then receiving does not wait for readiness:
    /// otherwise a dead socket would go unnoticed until something is sent.
    untried: bool,
}

impl UdpSocket {
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let batches = BatchSocket::new(&SockRef::from(&socket))?;
        let socket = Arc::new(net::UdpSocket::from_std(socket)?);
        let errors = socket.peer_addr().is_ok().then(|| Errors::new(socket.clone()));
        Ok(UdpSocket { socket, batches, errors, untried: true })
    }
}

/// Waits for errors from the system.
struct Errors {
    /// Runs forever. Only tokio's asynchronous wait can be asked for errors. One future for the socket's
    /// lifetime saves making one for each wait.
    waiting: Pin<Box<dyn Future<Output = ()> + Send>>,
    found: Arc<AtomicBool>,
}

impl Errors {
    fn new(socket: Arc<net::UdpSocket>) -> Self {
        let found = Arc::new(AtomicBool::new(false));
        let report = found.clone();
        let waiting = Box::pin(async move {
            while socket.ready(Interest::ERROR).await.is_ok() {
                // Returning "would block" makes tokio wait for the next error.
                let _ = socket.try_io(Interest::ERROR, || Err::<(), _>(ErrorKind::WouldBlock.into()));
                report.store(true, Ordering::Relaxed);
                poll_fn(|_| if report.load(Ordering::Relaxed) { Poll::Pending } else { Poll::Ready(()) })
                    .await;
            }
            std::future::pending().await // the runtime is gone, which reading will report
        });
        Errors { waiting, found }
    }

    /// Whether an error came since the last call. If not, the next one wakes the task.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let _ = self.waiting.as_mut().poll(cx);
        self.found.swap(false, Ordering::Relaxed)
    }
}

impl fmt::Debug for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errors").field("found", &self.found).finish_non_exhaustive()
    }
}

impl PacketIo for UdpSocket {
    fn poll_recv(&mut self, cx: &mut Context<'_>, batch: &mut RecvBatch) -> Poll<io::Result<()>> {
        let UdpSocket { socket, batches, errors, untried } = self;
        if *untried {
            match batches.recv(&SockRef::from(&**socket), batch) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => *untried = false,
                result => {
                    *untried = result.is_err();
                    return Poll::Ready(result.map(drop));
                }
            }
        }
        loop {
            if socket.poll_recv_ready(cx)?.is_pending() {
                let found = errors.as_mut().is_some_and(|errors| errors.poll(cx));
                return match found.then(|| socket.take_error()).transpose()?.flatten() {
                    Some(error) => Poll::Ready(Err(error)),
                    None if found => continue,
                    None => Poll::Pending,
                };
            }
            let mut emptied = false;
            let result = socket.try_io(Interest::READABLE, || {
                emptied = !batches.recv(&SockRef::from(&**socket), batch)?;
                // This lets tokio know that it must wait before the next try.
                if emptied { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match result {
                Err(error) if error.kind() == ErrorKind::WouldBlock && !emptied => {}
                result => return Poll::Ready(if emptied { Ok(()) } else { result }),
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, outgoing: &Outgoing) -> Poll<io::Result<usize>> {
        let UdpSocket { socket, batches, .. } = self;
        loop {
            ready!(socket.poll_send_ready(cx))?;
            let send = || batches.send(&SockRef::from(&**socket), outgoing);
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
