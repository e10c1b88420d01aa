//! [`Runtime`], [`Spawn`] and [`Accept`]: what endpoints need from a runtime.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

use crate::{Io, Timer};

/// A runtime, as a type without values: its clock, timers and sockets.
pub trait Runtime: Send + Sync + Sized + 'static {
    /// A timer of the runtime.
    type Timer: Timer;
    /// A connected TCP socket.
    type TcpStream: Io;
    /// A listening TCP socket.
    type TcpListener: Accept<Stream = Self::TcpStream>;
    /// What spawns tasks, if nothing else is chosen.
    type Spawner: Default + Clone;

    /// The time, by the clock that the timers use.
    fn now() -> Instant;

    /// A timer that fires at `at`.
    fn timer(at: Instant) -> Self::Timer;

    /// The addresses behind `address`, which is `HOST:PORT`, without blocking the thread.
    fn resolve(address: &str) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

    /// Makes a listening socket, as [`TcpOptions::listen`] does, the runtime's own.
    ///
    /// # Errors
    /// The runtime does not take it.
    fn tcp_listener(listener: TcpListener) -> io::Result<Self::TcpListener>;

    /// Connects to `address`; the options are not applied yet.
    fn tcp_connect(address: SocketAddr) -> impl Future<Output = io::Result<Self::TcpStream>> + Send;

    /// Applies `options` to a connected socket.
    ///
    /// # Errors
    /// The system does not take an option.
    fn apply(stream: &Self::TcpStream, options: &TcpOptions) -> io::Result<()>;
}

/// Runs futures of type `F` as tasks. Implemented for what a runtime's futures may be: a spawner for several
/// threads asks for `F: Send`, one for a single thread does not.
pub trait Spawn<F> {
    /// Runs `future` to its end in a task of its own.
    fn spawn(&self, future: F);
}

/// A listening socket.
pub trait Accept: Unpin {
    /// What is accepted.
    type Stream;

    /// Takes the next connection.
    ///
    /// # Errors
    /// Nothing could be accepted; the listener is still there.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Stream>>;

    /// The address it listens on, with the real port.
    ///
    /// # Errors
    /// The system does not tell.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// Options of TCP sockets.
#[derive(Debug, Clone)]
pub struct TcpOptions {
    nodelay: bool,
    keepalive: Option<Duration>,
    receive_buffer: Option<usize>,
    send_buffer: Option<usize>,
    backlog: i32,
}

impl Default for TcpOptions {
    fn default() -> Self {
        TcpOptions { nodelay: true, keepalive: None, receive_buffer: None, send_buffer: None, backlog: 1024 }
    }
}

impl TcpOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// `TCP_NODELAY`: small writes are sent at once. On by default: sessions already gather what belongs
    /// together, and Nagle's algorithm would only delay it.
    #[must_use]
    pub fn nodelay(mut self, on: bool) -> Self {
        self.nodelay = on;
        self
    }

    /// After how long without traffic the system probes whether the peer is still there (`SO_KEEPALIVE`,
    /// whole seconds, rounded up). Off by default: idle detection and heartbeats are the session's.
    #[must_use]
    pub fn keepalive(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.keepalive = after.into();
        self
    }

    /// Size of the system's receive buffer in bytes (`SO_RCVBUF`). By default the system chooses.
    #[must_use]
    pub fn receive_buffer(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.receive_buffer = bytes.into();
        self
    }

    /// Size of the system's send buffer in bytes (`SO_SNDBUF`). By default the system chooses.
    #[must_use]
    pub fn send_buffer(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.send_buffer = bytes.into();
        self
    }

    /// How many connections may wait to be accepted. Default 1024; the system may cut it.
    #[must_use]
    pub fn backlog(mut self, connections: i32) -> Self {
        self.backlog = connections;
        self
    }

    /// Makes a listening, non-blocking socket. Port 0 takes a free one.
    ///
    /// # Errors
    /// The address is in use, not this machine's, or not allowed.
    pub fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
        // On Windows the option means something else: that another process may take the address over.
        if cfg!(unix) {
            socket.set_reuse_address(true)?;
        }
        self.size_buffers(&SockRef::from(&socket))?;
        socket.bind(&address.into())?;
        socket.listen(self.backlog)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }

    /// Applies the options to a connected socket.
    ///
    /// # Errors
    /// The system does not take an option.
    pub fn apply(&self, socket: &SockRef<'_>) -> io::Result<()> {
        if self.nodelay {
            socket.set_tcp_nodelay(true)?;
        }
        if let Some(after) = self.keepalive {
            // The system counts whole seconds, and 0 is an error.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            let after = Duration::from_secs(seconds.max(1));
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(after))?;
        }
        self.size_buffers(socket)
    }

    fn size_buffers(&self, socket: &SockRef<'_>) -> io::Result<()> {
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        Ok(())
    }
}
