//! [`Runtime`], [`UnixRuntime`], [`Spawn`] and [`Accept`]: the requirements of endpoints on a runtime.

pub(crate) mod alarm;
pub(crate) mod clock;
pub(crate) mod futures;
pub(crate) mod io;
#[cfg(feature = "rpc")]
pub(crate) mod pipe;
#[cfg(feature = "websocket")]
pub(crate) mod random;
pub(crate) mod thread_memory;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::task::{Context, Poll};
use std::time::Instant;

use crate::runtime::io::{Io, PacketIo, Timer};
use crate::socket::tcp::TcpOptions;

/// A runtime, as a type without values: its clock, timers and sockets.
pub trait Runtime: Send + Sync + Sized + 'static {
    /// A timer of the runtime.
    type Timer: Timer;
    /// A connected TCP socket.
    type TcpStream: Io;
    /// A listening TCP socket.
    type TcpListener: Accept<Stream = Self::TcpStream>;
    /// A UDP socket.
    type UdpSocket: PacketIo;
    /// Default spawner of tasks.
    type Spawner: Default + Clone;

    /// The time, by the clock that the timers use.
    fn now() -> Instant;

    /// A timer that fires at `at`.
    fn timer(at: Instant) -> Self::Timer;

    /// Arranges for the waker of `cx` to be woken after everything else that is ready has been polled,
    /// including the runtime's event sources. The caller then returns `Pending`.
    ///
    /// The default wakes the task at once, which suffices where tasks alternate with the event sources.
    /// Other runtimes poll a task that wakes itself many times before they check those.
    fn yield_now(cx: &mut Context<'_>) {
        cx.waker().wake_by_ref();
    }

    /// Resolves `address`, which is `HOST:PORT`, without blocking the thread.
    fn resolve(address: &str) -> impl Future<Output = std::io::Result<Vec<SocketAddr>>> + Send;

    /// Registers a listening socket, made as by [`TcpOptions::listen`], with the runtime.
    ///
    /// # Errors
    /// The runtime does not accept the socket.
    fn tcp_listener(listener: TcpListener) -> std::io::Result<Self::TcpListener>;

    /// Connects to `address`, without applying any options.
    fn tcp_connect(address: SocketAddr) -> impl Future<Output = std::io::Result<Self::TcpStream>> + Send;

    /// Applies `options` to a connected socket.
    ///
    /// # Errors
    /// The system rejects an option.
    fn apply(stream: &Self::TcpStream, options: &TcpOptions) -> std::io::Result<()>;

    /// Registers a socket, made as by [`UdpOptions::bind`](crate::UdpOptions::bind) or
    /// [`connect`](crate::UdpOptions::connect), with the runtime.
    ///
    /// # Errors
    /// The runtime does not accept the socket.
    fn udp_socket(socket: UdpSocket) -> std::io::Result<Self::UdpSocket>;
}

/// A runtime with Unix domain sockets. Both functions receive non-blocking sockets.
#[cfg(unix)]
pub trait UnixRuntime: Runtime {
    /// A connected Unix socket.
    type UnixStream: Io;
    /// A listening Unix socket.
    type UnixListener: Accept<Stream = Self::UnixStream>;

    /// Registers a listening socket with the runtime.
    ///
    /// # Errors
    /// The runtime does not accept the socket.
    fn unix_listener(listener: std::os::unix::net::UnixListener) -> std::io::Result<Self::UnixListener>;

    /// Registers a connected socket with the runtime.
    ///
    /// # Errors
    /// The runtime does not accept the socket.
    fn unix_stream(stream: std::os::unix::net::UnixStream) -> std::io::Result<Self::UnixStream>;
}

/// Runs futures of type `F` as tasks. Implemented for the futures that a runtime supports: a multi-threaded
/// spawner requires `F: Send`, a single-threaded one does not.
pub trait Spawn<F> {
    /// Runs `future` to completion in its own task.
    fn spawn(&self, future: F);
}

/// A listening socket.
pub trait Accept: Unpin {
    /// The stream of an accepted connection.
    type Stream: Io;

    /// Takes the next connection.
    ///
    /// # Errors
    /// Nothing could be accepted; the listener can be used again.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<Self::Stream>>;
}
